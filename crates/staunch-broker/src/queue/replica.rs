//! A queue that several nodes keep.
//!
//! One of them leads: it has the consumers and proposes what happens. All of them, the leader too,
//! do to their queue what has been committed, in the same order. A *follower* is a queue in
//! recovery that does not end: [`Queue::restore_message`] and [`Queue::apply_recovered`] are how
//! it hears of messages and commands. [`Queue::lead`] ends that, as the end of a restart would,
//! and [`Queue::follow`] begins it again.
//!
//! A leader hands out and settles at once, but what has left its place is only *leaving*: live,
//! neither ready nor held (it shares that state with what is dying), until
//! [`Queue::apply_committed`] says that it is gone everywhere. So a leader that is deposed has
//! forgotten nothing: all that was not committed is back in its place. For such a queue
//! everything that is handed back as released is to be proposed, and its body kept until
//! [`Queue::apply_committed`] releases it.
//!
//! Messages enter when they are committed. Every one comes from an *origin*, a node in one of its
//! lives, with a number; the highest number of each origin is part of the state, so that one
//! which is sent to a second leader, because the first did not answer, enters once.

use std::collections::BTreeMap;

use staunch_types::MessageIndex;

use super::entries::{Entries, Position};
use super::recovery::Recovery;
use super::{Durability, Queue, QueueCommand, Released};
use crate::encoding::{DecodeError, Reader, Writer};
use crate::settings::QueueSettings;

/// A node in one of its lives: no two lives of any two nodes have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(pub u64);

/// Most origins one queue remembers; of more, those that were silent longest are forgotten.
///
/// A node makes a new one only by starting anew, and repeats itself only for as long as it waits
/// for an answer.
const ORIGINS_MAX: usize = 256;

/// The highest number that came from each origin, with the order in which they were last heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Origins {
    heard: BTreeMap<Origin, Heard>,
    /// Rises with every entry that tells of an origin.
    clock: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Heard {
    number: u64,
    at: u64,
}

impl Origins {
    fn number(&self, origin: Origin) -> u64 {
        self.heard.get(&origin).map_or(0, |heard| heard.number)
    }

    fn raise(&mut self, origin: Origin, number: u64) {
        self.clock += 1;
        let at = self.clock;
        let heard = self.heard.entry(origin).or_insert(Heard { number: 0, at });
        *heard = Heard {
            number: heard.number.max(number),
            at,
        };
        if self.heard.len() > ORIGINS_MAX {
            let oldest = self.heard.iter().min_by_key(|(_, heard)| heard.at);
            let oldest = oldest.map(|(origin, _)| *origin);
            self.heard
                .remove(&oldest.expect("there are more than the limit"));
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.clock);
        out.put_varint(self.heard.len() as u64);
        for (origin, heard) in &self.heard {
            out.put_u64(origin.0);
            out.put_varint(heard.number);
            out.put_varint(heard.at);
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let clock = reader.varint()?;
        let count = reader.varint()?;
        if count > ORIGINS_MAX as u64 {
            return Err(DecodeError::OutOfRange);
        }
        let mut heard = BTreeMap::new();
        for _ in 0..count {
            let origin = Origin(reader.u64()?);
            let (number, at) = (reader.varint()?, reader.varint()?);
            if at > clock {
                return Err(DecodeError::OutOfRange);
            }
            heard.insert(origin, Heard { number, at });
        }
        Ok(Self { heard, clock })
    }
}

impl Queue {
    /// A replicated queue that has no messages yet, as a follower.
    pub fn following(settings: &QueueSettings) -> Self {
        let mut queue = Self::new(Durability::Replicated, settings);
        queue.recovery = Some(Box::new(Recovery::following(0, BTreeMap::new())));
        queue
    }

    /// Whether several nodes keep it.
    #[inline]
    pub fn is_replicated(&self) -> bool {
        self.origins.is_some()
    }

    /// The highest committed number of messages that came from `origin`; 0 if none did.
    pub fn number_of(&self, origin: Origin) -> u64 {
        let origins = self.origins.as_ref();
        origins.map_or(0, |origins| origins.number(origin))
    }

    /// Committed: messages of `origin` up to `number` have entered or been recognised.
    pub fn heard_from(&mut self, origin: Origin, number: u64) {
        if let Some(origins) = &mut self.origins {
            origins.raise(origin, number);
        }
    }

    /// Begins to lead: everything live is ready, and redelivered if it lies below the committed
    /// watermark. Returns how many messages are lost for want of a body.
    ///
    /// # Panics
    /// If the queue is not replicated, or does not follow.
    pub fn lead(&mut self) -> u64 {
        assert!(
            self.is_replicated() && self.recovery.is_some(),
            "it follows"
        );
        self.finish_recovery()
    }

    /// Ends leading: consumers, what they hold, and everything that was not committed is
    /// forgotten; every live message is back in its place.
    ///
    /// # Panics
    /// If the queue is not replicated, or does not lead.
    pub fn follow(&mut self) {
        assert!(self.is_replicated() && self.recovery.is_none(), "it leads");
        let counts = self
            .returns
            .as_mut()
            .map_or_else(BTreeMap::new, |returns| returns.back_to_committed());
        self.consumers = None;
        let next_index = self.entries.next_index();
        let mut entries = Entries::default();
        entries.advance_next_index(next_index);
        for chunk in std::mem::take(&mut self.entries).chunks {
            for bit in super::chunk::bits(chunk.live) {
                let arrival = chunk.arrival(bit);
                let level = self.level_of(arrival.priority);
                entries.restore(chunk.index_of(bit).0, &arrival, level);
            }
        }
        self.entries = entries;
        if let Some(levels) = &mut self.levels {
            levels.clear();
        }
        (self.ready, self.fresh) = (super::Totals::default(), 0);
        (self.returned_count, self.returned_from) = (0, 0);
        (self.unacked_count, self.unacked_body_bytes) = (0, 0);
        (self.dying_count, self.dying_body_bytes) = (0, 0);
        self.watermark.forget_requested();
        self.recovery = Some(Box::new(Recovery::following(next_index, counts)));
    }

    /// Whether it leads, or stands alone.
    pub fn leads(&self) -> bool {
        self.recovery.is_none()
    }

    /// Sets the index of the next message, which leaves a gap where an entry held messages that
    /// did not enter.
    ///
    /// # Panics
    /// If that index is used.
    pub fn skip_to(&mut self, index: MessageIndex) {
        assert!(self.entries.next_index() <= index.0, "indexes rise");
        self.entries.advance_next_index(index.0);
    }

    /// A command that this leader proposed has been committed. Messages that are gone by it are
    /// appended to `released`.
    ///
    /// # Panics
    /// If this is no leader, or a message is gone that has not left its place: only what this
    /// leader proposed in its own term is committed while it leads.
    pub fn apply_committed(&mut self, command: &QueueCommand, released: &mut Vec<Released>) {
        assert!(self.is_replicated() && self.recovery.is_none(), "it leads");
        match command {
            QueueCommand::Settled { ranges } | QueueCommand::Purged { ranges } => {
                for &(first, count) in ranges {
                    let end = first.0 + u64::from(count);
                    for index in first.0..end {
                        let left = self.entries.bury(index);
                        let (message, sizes) = left.expect("what is gone has left its place");
                        self.dying_count -= 1;
                        self.dying_body_bytes -= u64::from(sizes.body);
                        released.push(message);
                    }
                    if let Some(returns) = &mut self.returns {
                        returns.forget(first.0..end);
                    }
                }
            }
            QueueCommand::Returned { counts } => {
                for &(index, count) in counts {
                    if let Some(returns) = &mut self.returns {
                        returns.committed(index.0, count);
                    }
                }
            }
            QueueCommand::Reserved { upto } => self.reserve(*upto),
        }
    }

    /// A message that was held or ready, and is neither any more, waits for the commit.
    pub(super) fn begin_to_leave(&mut self, position: Position) -> Released {
        let (message, sizes) = self.entries.kill(position);
        self.dying_count += 1;
        self.dying_body_bytes += u64::from(sizes.body);
        message
    }

    /// Messages that somebody held, all of `first..end`, wait for the commit.
    #[cold]
    pub(super) fn leave_replicated(&mut self, first: u64, end: u64, released: &mut Vec<Released>) {
        for index in first..end {
            let position = self.entries.position(index);
            let position = position.expect("the caller checked that it is held");
            let sizes = self.entries.chunk(position).sizes(position.bit());
            self.unacked_count -= 1;
            self.unacked_body_bytes -= u64::from(sizes.body);
            released.push(self.begin_to_leave(position));
        }
    }

    /// Every ready message waits for the commit.
    #[cold]
    pub(super) fn purge_replicated(&mut self, released: &mut Vec<Released>) {
        for index in self.entries.ready_indexes() {
            let position = self.entries.position(index);
            let position = position.expect("a ready message is live");
            released.push(self.begin_to_leave(position));
        }
    }
}
