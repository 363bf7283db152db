//! Deliveries that outlive their leader.
//!
//! Who holds what is known to the node that leads a queue, and is gone with it. The clients still
//! have their deliveries, though, and their nodes know which. So before a new leader hands out
//! anything that may be with a client, the nodes *claim* for their consumers what these hold: it
//! becomes held again, without being delivered, and can be settled as if nothing had happened.
//!
//! A claim may come too late: the message is with somebody else, or gone. It is *astray* then: it
//! counts against the consumer's prefetch, for its client has it, and what the client says of it
//! counts: an ack is an ack, wherever the message is by now.

use staunch_types::{ConsumerKey, MessageIndex, Outcome, UnixMillis};

use super::chunk::{Holder, bits};
use super::entries::Position;
use super::indexes::runs;
use super::{ConsumerSpec, Departed, Queue};

/// Who holds a message for the moment in which it is settled by somebody who does not hold it. No
/// consumer has this key.
const SETTLER: ConsumerKey = ConsumerKey(u32::MAX);

/// Someone who consumes, or holds deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Who.
    pub key: ConsumerKey,
    /// None if it only holds.
    pub spec: Option<ConsumerSpec>,
    /// What its client has of it: first index and count of each run, ascending.
    pub held: Vec<(MessageIndex, u32)>,
}

/// What a settlement has found whose deliveries may be astray.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SettledClaim {
    /// How many of [`Queue::unsettled_count`] it was about.
    pub count: u32,
    /// Not all of them were held.
    pub some_astray: bool,
}

impl Queue {
    /// Has `consumer` hold those of `count` messages from `first` on that are ready and may have
    /// been handed out, which means that they lie below the reserved watermark. The others are
    /// astray, and so is what it holds already: its client has that twice. Who is no consumer becomes a holder, as with [`Queue::get`]. Returns how many it
    /// holds by that.
    pub fn claim(&mut self, consumer: ConsumerKey, first: MessageIndex, count: u32) -> u32 {
        let end = first.0.saturating_add(u64::from(count));
        let end = end.min(self.entries.next_index());
        let mut claimed = 0;
        for index in first.0..end {
            if self.claim_ready(consumer, index) {
                claimed += 1;
            } else {
                self.consumers_mut().claim_astray(consumer, index);
            }
        }
        claimed
    }

    fn claim_ready(&mut self, consumer: ConsumerKey, index: u64) -> bool {
        let is_ready = self.entries.state(index) == (true, true);
        if !is_ready || !self.watermark.permits(index) {
            return false;
        }
        let Some(position) = self.entries.position(index) else {
            return false;
        };
        self.claim_at(position, consumer);
        true
    }

    /// Deliveries to `consumer` that its client has not settled, astray ones among them.
    pub fn unsettled_count(&self, consumer: ConsumerKey) -> u32 {
        let consumers = self.consumers.as_ref();
        let found = consumers.and_then(|it| Some(it.get(it.find(consumer)?)));
        found.map_or(0, super::consumers::Consumer::unsettled_count)
    }

    /// As [`Queue::settle`], where some of the deliveries may be astray: what is acked or refused
    /// leaves the queue even if somebody else holds it, what is given back is given back already.
    pub fn settle_claimed(
        &mut self,
        consumer: ConsumerKey,
        (first, count): (MessageIndex, u32),
        outcome: Outcome,
        now: UnixMillis,
        departed: &mut Departed,
    ) -> SettledClaim {
        if let Ok(count) = self.settle(consumer, (first, count), outcome, now, departed) {
            let some_astray = false;
            return SettledClaim { count, some_astray };
        }
        let end = first.0.saturating_add(u64::from(count));
        let mut settled = 0;
        for index in first.0..end.min(self.entries.next_index()) {
            let index = MessageIndex(index);
            let is_held = self.settle(consumer, (index, 1), outcome, now, departed);
            if is_held.is_ok() {
                settled += 1;
                continue;
            }
            if let Some(consumers) = &mut self.consumers {
                settled += u32::from(consumers.forget_astray(consumer, index.0));
                self.drop_consumers_if_empty();
            }
            self.settle_for(index, outcome, now, departed);
        }
        SettledClaim {
            count: settled,
            some_astray: true,
        }
    }

    /// Settles a message on behalf of somebody who is not known here any more. What is given back
    /// is given back already.
    ///
    /// # Panics
    /// On a bug in this module only.
    pub fn settle_for(
        &mut self,
        index: MessageIndex,
        outcome: Outcome,
        now: UnixMillis,
        departed: &mut Departed,
    ) {
        let is_return = outcome == Outcome::Requeue;
        if is_return || !self.claim_ready(SETTLER, index.0) && !self.take_over(SETTLER, index) {
            return;
        }
        let settled = self.settle(SETTLER, (index, 1), outcome, now, departed);
        assert_eq!(settled, Ok(1), "what was claimed is held");
    }

    fn claim_at(&mut self, position: Position, consumer: ConsumerKey) {
        let index = position.index.0;
        let level = self.entries.chunk(position).level(position.bit());
        if level == 0 {
            self.count_as_returned(index);
        }
        self.withdraw(position);
        if let Some(levels) = &mut self.levels
            && level > 0
        {
            levels.was_handed_out(index);
        }
        let taken = self.entries.take(position, Holder::Consumer(consumer));
        self.unacked_count += 1;
        self.unacked_body_bytes += u64::from(taken.sizes.body);
        self.ready.subtract(taken.sizes);
        self.consumers_mut().claim(consumer, index);
    }

    /// Has `consumer` hold a message that somebody else holds, for whom it is astray then. Who is no
    /// consumer becomes a holder. False if nobody else holds it.
    pub(super) fn take_over(&mut self, consumer: ConsumerKey, index: MessageIndex) -> bool {
        let Some(position) = self.entries.position(index.0) else {
            return false;
        };
        let (chunk, bit) = (self.entries.chunk(position), position.bit());
        if chunk.held() >> bit & 1 == 0 {
            return false;
        }
        let holder = chunk.holders()[bit as usize];
        if holder == consumer {
            return false;
        }
        self.entries.chunk_mut(position).set_holder(bit, consumer);
        let entries = &self.entries;
        let consumers = self.consumers.as_mut().expect("somebody holds something");
        let slot = consumers.find(holder).expect("a holder is known");
        let is_held = |index: &u64| entries.is_held_by(*index, holder);
        consumers.get_mut(slot).unacked.settled(1, is_held);
        consumers.claim(consumer, index.0);
        consumers.claim_astray(holder, index.0);
        true
    }

    /// A message is about to be claimed: it and all before it may have been handed out, so those
    /// that are ready stand where returned ones do.
    fn count_as_returned(&mut self, upto: u64) {
        while self.fresh <= upto {
            let next = self.entries.next_ready(self.fresh);
            let Some(next) = next.filter(|next| next.index.0 <= upto) else {
                break;
            };
            if self.returned_count == 0 {
                self.returned_from = next.index.0;
            }
            self.returned_count += 1;
            self.fresh = next.index.0 + 1;
        }
        self.fresh = self.fresh.max(upto + 1);
    }

    /// Everybody who consumes or holds something, by key.
    pub fn holdings(&self) -> Vec<Holding> {
        let all = self.consumers.iter().flat_map(|consumers| consumers.iter());
        let mut holdings: Vec<_> = all
            .map(|consumer| {
                let key = consumer.key;
                let is_held = |index: &u64| self.entries.is_held_by(*index, key);
                let mut indexes = consumer.unacked.indexes(is_held);
                indexes.extend(consumer.astray.iter());
                indexes.sort_unstable();
                Holding {
                    key,
                    spec: consumer.spec(),
                    held: runs(indexes),
                }
            })
            .collect();
        holdings.sort_unstable_by_key(|holding| holding.key);
        holdings
    }

    /// Messages that are neither ready nor held: they are dying or, where several nodes keep the
    /// queue, leave it when that is committed. First index and count of each run, ascending.
    pub fn leaving(&self) -> Vec<(MessageIndex, u32)> {
        let of = |chunk: &super::chunk::Chunk| {
            let first = chunk.index_of(0).0;
            bits(chunk.dying()).map(move |bit| first + u64::from(bit))
        };
        runs(self.entries.chunks.iter().flat_map(of))
    }
}
