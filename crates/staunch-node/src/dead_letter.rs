//! Dead letters: what dies in a queue is published again, to its dead-letter exchange.
//!
//! A dying message stays in its queue's log until its copies have been appended to the queues
//! they were routed to; only then is it settled, and the log keeps that order. So a crash can
//! publish a dead letter twice, and never loses one. (A queue that several nodes keep has a log on each
//! of them: there the copies are waited for.) Dying takes turns with the traffic: a drain
//! moves so many on and leaves the rest to the next, so that a million messages that expire at
//! once delay nobody for long, nor does one that goes to a thousand queues. While the disk is behind none is moved: what clients ask comes
//! first.
//!
//! At most once (RabbitMQ's default) a dead letter without a route, or refused by a full queue,
//! is dropped. At least once (`x-dead-letter-strategy`) it waits in its queue and is tried again,
//! for those targets only that do not have it yet.
//!
//! Since a dead letter can be handed out before it is on disk, a crash may take one that somebody
//! has seen. It is published again from the message it was made of, which recovery has restored;
//! so the dead letters of restored messages, and theirs, are handed out as redelivered ones
//! (contract C8).

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use staunch_broker::{
    Death, Departed, Dying, Envelope, QueueSettings,
    dead_letter::{Departure, dead_letter, is_cycle, more_keys},
};
use staunch_types::{Message, MessageIndex, Name, QueueId, Timestamp};

use crate::{
    cluster::{Fate, Purpose},
    delay::{Target, targets},
    input::Output,
    node::Node,
    publish::{Arriving, Enqueued},
    queues::{FetchFor, QueueSlot},
};

/// Dead letters published in one drain.
const PER_DRAIN_COUNT_MAX: usize = 4096;
/// Bytes of them, beyond the first.
const PER_DRAIN_SIZE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of cold dead letters that one fetch reads.
const FETCH_SIZE_BYTES_MAX: usize = 1024 * 1024;
/// Messages of it.
const FETCH_COUNT_MAX: usize = 1024;
/// Dead letters to which one publish can lead that is refused by one full queue after the other.
const PER_REFUSAL_MAX: usize = 1024;
/// Dead letters of one queue that may wait to be tried again, where they must not be lost. With
/// so many of them those behind wait as well: a queue whose dead letters have nowhere to go costs
/// that many tries at a time, however many they are (RabbitMQ: 32 of a queue are under way).
const PARKED_MAX: usize = 256;
/// How long a dead letter waits that could not be placed, where it must not be lost.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The dead of one queue.
#[derive(Debug, Default)]
pub(crate) struct Dead {
    /// In the order in which they died.
    waiting: VecDeque<Mourned>,
    /// Those that could not be placed and must not be lost.
    parked: VecDeque<Mourned>,
    /// When the parked ones are tried again.
    retry_at: Option<Timestamp>,
    /// Bodies that were read back.
    bodies: BTreeMap<MessageIndex, Bytes>,
    /// Where its dead letters went when a policy that said so was taken away: those that died
    /// before still go there.
    went_to: Option<Arc<QueueSettings>>,
    /// Copies of these are on their way to queues that other nodes serve.
    leaving: BTreeMap<MessageIndex, Leaving>,
    /// A body could not be asked for while another fetch was under way: it is next.
    pub(crate) is_starved: bool,
}

/// A dead message that has not been passed on.
#[derive(Debug)]
struct Mourned {
    dying: Dying,
    /// Queues that have its dead letter already, in order.
    placed: Vec<QueueId>,
    /// Others may have it without its being known: a node that was to take it is gone.
    is_in_doubt: bool,
}

/// A dead message whose copies are on their way.
#[derive(Debug)]
struct Leaving {
    mourned: Mourned,
    /// Some queue did not take it.
    is_missing: bool,
}

/// What is left to be passed on, and how much of it this drain may still move.
#[derive(Debug, Default)]
pub(crate) struct DeadLetters {
    queues: VecDeque<QueueId>,
    retries: BTreeSet<(Timestamp, QueueId)>,
    /// Messages that full queues have refused and pass on.
    refused: Vec<Refused>,
    count_left: usize,
    size_bytes_left: usize,
}

/// A message that a full queue has refused and passes on.
#[derive(Debug)]
struct Refused {
    queue: QueueId,
    message: Message,
    redelivered: bool,
}

/// A dead message on its way to where its dead letters go.
struct Passing<'a> {
    message: &'a Message,
    reason: Death,
    /// Its dead letter may have been handed out before.
    redelivered: bool,
}

/// What came of trying to publish a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Placed {
    /// It has left, or was dropped as it may be.
    Done,
    /// These queues have it; no more copies were to be made at once.
    Partly(Vec<QueueId>),
    /// These queues have it; others, or any at all, are still missing.
    Missing(Vec<QueueId>),
    /// Copies are on their way.
    Sent {
        to: Vec<QueueId>,
        /// These have it already.
        placed: Vec<QueueId>,
        /// Some of that is not on this node's disk yet.
        is_logged: bool,
        /// Others are missing.
        is_missing: bool,
    },
}

impl DeadLetters {
    fn has_budget(&self) -> bool {
        self.count_left > 0 && self.size_bytes_left > 0
    }

    /// A full queue has refused a message and passes it on (`reject-publish-dlx`).
    pub(crate) fn refuse(&mut self, queue: QueueId, message: &Message, redelivered: bool) {
        let message = message.clone();
        self.refused.push(Refused {
            queue,
            message,
            redelivered,
        });
    }

    /// Whether a full queue has something to pass on.
    pub(crate) fn has_refused(&self) -> bool {
        !self.refused.is_empty()
    }
}

impl Dead {
    fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.parked.is_empty() && self.leaving.is_empty()
    }

    /// Whether some are about to leave or on their way; those that nobody takes stay.
    pub(crate) fn is_moving(&self) -> bool {
        !self.waiting.is_empty() || !self.leaving.is_empty()
    }

    /// Whether the message waits to be passed on.
    pub(crate) fn has(&self, index: MessageIndex) -> bool {
        let mut others = self.waiting.iter().chain(&self.parked);
        self.leaving.contains_key(&index) || others.any(|it| it.dying.index == index)
    }

    /// A message need not be passed on any more. False if it was not to be.
    fn forget(&mut self, index: MessageIndex) -> bool {
        let has_it = self.has(index);
        if has_it {
            let is_other = |it: &Mourned| it.dying.index != index;
            self.waiting.retain(is_other);
            self.parked.retain(is_other);
            self.leaving.remove(&index);
            self.bodies.remove(&index);
        }
        has_it
    }

    /// Memory that it takes, in bytes; bodies that were read back are counted by who reads.
    pub(crate) fn memory_bytes(&self) -> usize {
        let placed = self.parked.iter().map(|mourned| mourned.placed.capacity());
        let count = self.waiting.capacity() + self.parked.capacity();
        size_of::<Self>()
            + count * size_of::<Mourned>()
            + placed.sum::<usize>() * size_of::<QueueId>()
    }
}

impl QueueSlot {
    /// Its settings change: who has died by the old ones is still to be passed on. If nothing says
    /// any more where to, that is tried once and no more, whatever was promised before (RabbitMQ,
    /// `rabbit_fifo_dlx`, deletes what waits when a queue stops to dead-letter at least once).
    pub(crate) fn keep_dead_lettering(&mut self, next: &QueueSettings) {
        let Some(dead) = &mut self.dead else { return };
        if next.dead_lettering.is_some() {
            return;
        }
        let mut went_to = (*self.settings).clone();
        let Some(dead_lettering) = &mut went_to.dead_lettering else {
            return;
        };
        dead_lettering.at_least_once = false;
        dead.went_to = Some(Arc::new(went_to));
        for mourned in dead.parked.drain(..).rev() {
            dead.waiting.push_front(mourned);
        }
    }

    fn settings_at_death(&self) -> &Arc<QueueSettings> {
        let went_to = self.dead.as_ref().and_then(|dead| dead.went_to.as_ref());
        let is_taken_away = self.settings.dead_lettering.is_none();
        went_to.filter(|_| is_taken_away).unwrap_or(&self.settings)
    }
}

impl Node {
    /// Messages have left their places in `slot`, which is at hand: some for good, some to be
    /// dead-lettered.
    pub(crate) fn depart(&mut self, slot: &mut QueueSlot, departed: Departed) {
        if !departed.released.is_empty() {
            self.release_from(slot, departed.released);
        }
        if departed.dying.is_empty() {
            return;
        }
        let dead = slot.dead.get_or_insert_default();
        dead.waiting
            .extend(departed.dying.into_iter().map(|dying| Mourned {
                dying,
                placed: Vec::new(),
                is_in_doubt: false,
            }));
        if !slot.is_mourning {
            slot.is_mourning = true;
            self.dead_letters.queues.push_back(slot.id);
        }
    }

    /// Begins a drain: how much it may move, and whose waiting is over.
    pub(crate) fn begin_dead_letters(&mut self) {
        self.dead_letters.count_left = PER_DRAIN_COUNT_MAX;
        self.dead_letters.size_bytes_left = PER_DRAIN_SIZE_BYTES_MAX;
        while let Some((at, id)) = self.dead_letters.retries.first().copied()
            && at <= self.now
        {
            self.dead_letters.retries.pop_first();
            let Some(dead) = self.queues.get_mut(id).and_then(|slot| slot.dead.as_mut()) else {
                continue;
            };
            dead.retry_at = None;
            for mourned in dead.parked.drain(..).rev() {
                dead.waiting.push_front(mourned);
            }
            self.mourn(id);
        }
    }

    /// Publishes dead letters of all queues that have some, as far as this drain goes.
    pub(crate) fn publish_dead_letters(&mut self) {
        for _ in 0..self.dead_letters.queues.len() {
            if !self.may_bury() {
                return;
            }
            let Some(id) = self.dead_letters.queues.pop_front() else {
                return;
            };
            if let Some(slot) = self.queues.get_mut(id) {
                slot.is_mourning = false;
                self.bury_dead_of(id);
            }
        }
    }

    /// Whether this drain may move one more, and the disk keeps up with them.
    fn may_bury(&self) -> bool {
        self.dead_letters.has_budget() && !self.is_half_saturated()
    }

    /// When dead letters are to be published that nothing else will remind of.
    pub(crate) fn dead_letter_timeout(&self) -> Option<Timestamp> {
        // While the disk is behind, the end of its write is what wakes the node.
        if !self.dead_letters.queues.is_empty() && !self.is_half_saturated() {
            return Some(self.now);
        }
        self.dead_letters.retries.first().map(|(at, _)| *at)
    }

    /// Has the queue's dead looked at again, if it has any.
    fn mourn(&mut self, id: QueueId) {
        if let Some(slot) = self.queues.get_mut(id)
            && !slot.is_mourning
        {
            slot.is_mourning = true;
            self.dead_letters.queues.push_back(id);
        }
    }

    /// Passes on the dead of one queue until none is left, a body must be read, or the drain has
    /// done its share.
    fn bury_dead_of(&mut self, id: QueueId) {
        loop {
            if !self.may_bury() {
                return self.mourn(id);
            }
            let Some(mut slot) = self.queues.take(id) else {
                return;
            };
            let next = self.next_dead(&mut slot);
            let grave = Grave::of(&slot);
            let redelivered = next.as_ref().is_some_and(|(mourned, _)| {
                let index = mourned.dying.index;
                mourned.is_in_doubt || slot.may_have_been_copied(index)
            });
            self.queues.put(slot);
            let Some((mourned, stored)) = next else {
                return;
            };
            self.dead_letters.count_left -= 1;
            let left = self.dead_letters.size_bytes_left;
            let mut left = left.saturating_sub(stored.len());
            let message =
                Message::from_stored(stored.clone()).expect("bodies are kept in their form");
            let Mourned {
                dying,
                placed,
                is_in_doubt,
            } = mourned;
            let passing = Passing {
                message: &message,
                reason: dying.reason,
                redelivered,
            };
            let placed = self.place(&passing, &grave, placed, &mut left);
            let mourned = |placed| Mourned {
                dying,
                placed,
                is_in_doubt,
            };
            self.dead_letters.size_bytes_left = left;
            self.publish_refused();
            match placed {
                Placed::Done => self.bury(id, dying.index),
                Placed::Partly(placed) => self.put_back(id, mourned(placed), stored),
                Placed::Missing(placed) => self.park(id, mourned(placed)),
                Placed::Sent {
                    to,
                    placed,
                    is_logged,
                    is_missing,
                } => {
                    let index = dying.index;
                    let slot = self.queues.get_mut(id);
                    if let Some(dead) = slot.and_then(|slot| slot.dead.as_mut()) {
                        let leaving = Leaving {
                            mourned: mourned(placed),
                            is_missing,
                        };
                        dead.leaving.insert(index, leaving);
                    }
                    let purpose = Purpose::Bury { queue: id, index };
                    self.await_answers_of(&to, purpose, is_logged);
                }
            }
        }
    }

    /// The next of the dead with its bytes; none if there is none, or its bytes are being read.
    fn next_dead(&mut self, slot: &mut QueueSlot) -> Option<(Mourned, Bytes)> {
        let dead = slot.dead.as_deref_mut()?;
        if std::mem::take(&mut dead.is_starved) && !slot.is_dirty {
            // Whoever stood back in the meantime may read on.
            slot.is_dirty = true;
            self.dirty.push(slot.id);
        }
        if dead.parked.len() + dead.leaving.len() >= PARKED_MAX {
            return None;
        }
        let Some(first) = dead.waiting.front() else {
            if dead.is_over() {
                self.forget_dead(slot);
            }
            return None;
        };
        let index = first.dying.index;
        let read = dead.bodies.remove(&index);
        self.fetches
            .subtract_window(read.as_ref().map_or(0, Bytes::len));
        let (_, body, size_bytes) = slot
            .queue
            .message(index)
            .expect("a dying message is live until it is buried");
        let bytes = match read {
            Some(bytes) => Some(bytes),
            None => self
                .resident(slot, index, body, size_bytes)
                .map(|resident| self.share(resident, body)),
        };
        let Some(bytes) = bytes else {
            self.fetch_dead(slot);
            return None;
        };
        let dead = slot.dead.as_deref_mut()?;
        dead.waiting.pop_front().map(|mourned| (mourned, bytes))
    }

    /// Asks for the bytes of the next of the dead, unless a fetch is under way: its end brings
    /// the queue back here.
    fn fetch_dead(&mut self, slot: &mut QueueSlot) {
        let Some(dead) = &mut slot.dead else { return };
        let cold = slot.cold.as_ref();
        dead.is_starved = cold.is_some_and(|cold| cold.fetching.is_some());
        let is_damaged = (self.cluster.as_ref()).is_some_and(|it| it.repairs.is_damaged(slot.id));
        if dead.is_starved || is_damaged {
            return;
        }
        let mut wanted = Vec::new();
        let mut size_bytes = 0;
        let under_way = dead.parked.len() + dead.leaving.len();
        let count_max = FETCH_COUNT_MAX.min(PARKED_MAX.saturating_sub(under_way));
        for mourned in dead.waiting.iter().take(count_max) {
            let index = mourned.dying.index;
            let Some((_, body, size)) = slot.queue.message(index) else {
                continue;
            };
            if size_bytes + size as usize > FETCH_SIZE_BYTES_MAX && !wanted.is_empty() {
                break;
            }
            size_bytes += size as usize;
            wanted.push((index.0, body, size));
        }
        let job = self.start_fetch(slot, FetchFor::DeadLetter, &wanted, size_bytes);
        self.outputs.push_back(Output::Fetch(slot.id, job));
    }

    /// Bodies came back that were read for the dead of `slot`.
    pub(crate) fn dead_fetched(&mut self, id: QueueId, bodies: Vec<(MessageIndex, Bytes)>) {
        let Some(slot) = self.queues.get_mut(id) else {
            return;
        };
        let Some(dead) = &mut slot.dead else { return };
        for (index, body) in bodies {
            self.fetches.add_window(body.len());
            let replaced = dead.bodies.insert(index, body);
            self.fetches
                .subtract_window(replaced.map_or(0, |body| body.len()));
        }
    }

    /// A fetch of the queue has ended: its dead may have waited for it.
    pub(crate) fn mourn_again(&mut self, id: QueueId) {
        if self.queues.get(id).is_some_and(|slot| slot.dead.is_some()) {
            self.mourn(id);
        }
    }

    /// The message has been passed on: it leaves its queue, behind its copies in the log.
    fn bury(&mut self, id: QueueId, index: MessageIndex) {
        if let Some(slot) = self.queues.get_mut(id) {
            let released = slot.queue.bury(index);
            self.let_go(id, vec![released]);
        }
    }

    /// Clients have acked messages that have died meanwhile, because they were given back when their
    /// consumer was lost sight of: those that have not been passed on are settled.
    pub(crate) fn settle_dying(&mut self, id: QueueId, indexes: Range<u64>) {
        let slot = self.queues.get_mut(id);
        let Some(dead) = slot.and_then(|slot| slot.dead.as_mut()) else {
            return;
        };
        let indexes = indexes.map(MessageIndex);
        let settled: Vec<_> = indexes.filter(|index| dead.forget(*index)).collect();
        for index in settled {
            self.bury(id, index);
        }
        self.mourn(id);
    }

    /// All queues that copies were on their way to have answered; these have them, and the others
    /// at worst what `fate` says.
    pub(crate) fn copies_answered(
        &mut self,
        id: QueueId,
        index: MessageIndex,
        mut has_it: Vec<QueueId>,
        fate: Fate,
    ) {
        let Some(slot) = self.queues.get_mut(id) else {
            return;
        };
        let dead = slot.dead.as_mut();
        // None if the queue is not served here any more: who serves it passes the message on.
        let Some(leaving) = dead.and_then(|dead| dead.leaving.remove(&index)) else {
            return;
        };
        let Leaving {
            mut mourned,
            is_missing,
        } = leaving;
        let settings = slot.settings_at_death();
        let dead_lettering = settings.dead_lettering.as_ref();
        let at_least_once = dead_lettering.is_some_and(|it| it.at_least_once);
        mourned.placed.append(&mut has_it);
        mourned.placed.sort_unstable();
        match fate {
            // A crash may double a dead letter and never takes one away.
            Fate::Unknown => {
                mourned.is_in_doubt = true;
                if let Some(dead) = &mut slot.dead {
                    dead.waiting.push_front(mourned);
                }
            }
            Fate::Safe | Fate::Refused if at_least_once && (is_missing || fate != Fate::Safe) => {
                self.park(id, mourned);
            }
            Fate::Safe | Fate::Refused => self.bury(id, index),
        }
        self.mourn(id);
    }

    /// There may be room for one that could not be placed: it is tried again. Whether more wait.
    pub(crate) fn try_parked(&mut self, id: QueueId) -> bool {
        let Some(dead) = self.queues.get_mut(id).and_then(|slot| slot.dead.as_mut()) else {
            return false;
        };
        let Some(first) = dead.parked.pop_front() else {
            return false;
        };
        dead.waiting.push_front(first);
        let more_wait = !dead.parked.is_empty();
        self.mourn(id);
        more_wait
    }

    /// The message could not be placed and must not be lost.
    fn park(&mut self, id: QueueId, mourned: Mourned) {
        let retry_at = self.now + RETRY_AFTER;
        let Some(dead) = self.queues.get_mut(id).and_then(|slot| slot.dead.as_mut()) else {
            return;
        };
        dead.parked.push_back(mourned);
        if dead.retry_at.is_none() {
            dead.retry_at = Some(retry_at);
            self.dead_letters.retries.insert((retry_at, id));
        }
    }

    /// The message is not in all of its queues yet: it is the next to go on.
    fn put_back(&mut self, id: QueueId, mourned: Mourned, stored: Bytes) {
        let Some(dead) = self.queues.get_mut(id).and_then(|slot| slot.dead.as_mut()) else {
            return;
        };
        self.fetches.add_window(stored.len());
        let replaced = dead.bodies.insert(mourned.dying.index, stored);
        self.fetches
            .subtract_window(replaced.map_or(0, |body| body.len()));
        dead.waiting.push_front(mourned);
    }

    /// Publishes what passes on to every queue it is routed to that does not have it yet, as far as
    /// the bytes `left` for copies go, and to one in any case.
    fn place(
        &mut self,
        passing: &Passing<'_>,
        grave: &Grave,
        mut placed: Vec<QueueId>,
        left: &mut usize,
    ) -> Placed {
        let Some(onward) = self.onward(passing, grave) else {
            return Placed::Done;
        };
        let Onward {
            message,
            targets,
            at_least_once,
        } = onward;
        let size_bytes = message.stored_size_bytes();
        let mut is_missing = targets.is_empty();
        let placed_before = placed.len();
        let mut arriving = Arriving::new(&message, self.wall_now());
        arriving.redelivered = passing.redelivered;
        for target in targets {
            if placed[..placed_before].binary_search(&target.0).is_ok() {
                continue;
            }
            // What is on its way to other nodes is answered as a whole.
            if *left == 0 && placed.len() > placed_before && arriving.sent.is_empty() {
                placed.sort_unstable();
                return Placed::Partly(placed);
            }
            match self.enqueue_at(target, &mut arriving) {
                Enqueued::InLog | Enqueued::InMemory => {
                    *left = left.saturating_sub(size_bytes);
                    placed.push(target.0);
                }
                Enqueued::Refused => {
                    is_missing = true;
                    if at_least_once {
                        self.rooms.turned_away(target.0, grave.id);
                    }
                }
                Enqueued::Gone | Enqueued::Sent => {}
            }
        }
        // Others may commit that the message is gone before copies here are on disk.
        let is_logged = grave.is_replicated && !placed.is_empty();
        if is_logged || !arriving.sent.is_empty() {
            placed.sort_unstable();
            return Placed::Sent {
                to: arriving.sent,
                placed,
                is_logged,
                is_missing,
            };
        }
        if is_missing && at_least_once {
            placed.sort_unstable();
            Placed::Missing(placed)
        } else {
            Placed::Done
        }
    }

    /// What passes on as it is published again, and where to; none if it goes nowhere for good.
    fn onward(&mut self, passing: &Passing<'_>, grave: &Grave) -> Option<Onward> {
        if grave.holds_delayed {
            let (message, targets) = self.let_through(grave.id, passing.message);
            return Some(Onward {
                message,
                targets,
                at_least_once: false,
            });
        }
        let dead_lettering = grave.settings.dead_lettering.as_ref()?;
        let departure = Departure {
            queue: &grave.queue,
            reason: passing.reason,
            at: self.wall_now(),
        };
        let message = dead_letter(
            passing.message,
            &departure,
            &dead_lettering.exchange,
            dead_lettering.routing_key.as_ref(),
            self.payload_size_bytes_max(),
        );
        let targets = self.targets_of(&grave.vhost, &message);
        Some(Onward {
            message,
            targets,
            at_least_once: dead_lettering.at_least_once,
        })
    }

    /// The queues a dead letter goes to: where it is routed, but not round in a circle.
    fn targets_of(&mut self, vhost: &Name, letter: &Message) -> Vec<Target> {
        assert!(
            letter.stored_size_bytes() <= self.payload_size_bytes_max(),
            "who takes a message in leaves room for its dead letters"
        );
        let route = &mut self.routes.onward;
        let envelope = Envelope {
            more_keys: &more_keys(letter),
            ..Envelope::of(letter)
        };
        let routed = self.catalog.route_onward(vhost, &envelope, route);
        if routed.is_err() {
            return Vec::new();
        }
        let mut targets = targets(route);
        targets.retain(|(id, _)| {
            let entry = self.catalog.queue_by_id(*id);
            entry.is_some_and(|entry| entry.holds_delayed || !is_cycle(letter, &entry.name))
        });
        targets
    }

    /// Publishes what full queues have refused and pass on: at once, and at most once, since it
    /// was never in a queue.
    pub(crate) fn publish_refused(&mut self) {
        let mut count = 0;
        let mut left = usize::try_from(self.fan_out_size_bytes_max()).unwrap_or(usize::MAX);
        while let Some(refused) = self.dead_letters.refused.pop() {
            count += 1;
            if count > PER_REFUSAL_MAX || left == 0 {
                // Full queues that pass on to each other have more ways than can be gone.
                return self.dead_letters.refused.clear();
            }
            let Some(slot) = self.queues.get(refused.queue) else {
                continue;
            };
            let grave = Grave::of(slot);
            let passing = Passing {
                message: &refused.message,
                reason: Death::MaxLength,
                redelivered: refused.redelivered,
            };
            self.place(&passing, &grave, Vec::new(), &mut left);
        }
    }

    /// Forgets the dead of a queue that is gone.
    pub(crate) fn forget_dead(&mut self, slot: &mut QueueSlot) {
        let Some(dead) = slot.dead.take() else { return };
        if let Some(at) = dead.retry_at {
            self.dead_letters.retries.remove(&(at, slot.id));
        }
        let read_size_bytes = dead.bodies.values().map(Bytes::len).sum();
        self.fetches.subtract_window(read_size_bytes);
    }
}

/// What is published again in place of a dead message.
struct Onward {
    message: Message,
    targets: Vec<Target>,
    /// It must be taken by all of them, and by one at least.
    at_least_once: bool,
}

/// Where a message died.
struct Grave {
    id: QueueId,
    vhost: Name,
    queue: Name,
    settings: Arc<QueueSettings>,
    holds_delayed: bool,
    is_replicated: bool,
}

impl Grave {
    fn of(slot: &QueueSlot) -> Self {
        Self {
            id: slot.id,
            vhost: slot.vhost.clone(),
            queue: slot.name.clone(),
            settings: slot.settings_at_death().clone(),
            holds_delayed: slot.holds_delayed,
            is_replicated: slot.is_replicated(),
        }
    }
}
