//! From a snapshot and the log back to a queue.
//!
//! A snapshot holds which messages are live, not their bodies: those come from the log as
//! [`Queue::restore_message`], settlements as [`Queue::apply_recovered`]. The log may start
//! before the snapshot and is compacted (a message may be found twice, or after its own
//! settlement), so both must be idempotent and must not care for their order. Below the
//! snapshot's next index the snapshot decides: what it does not list is gone. At or above it a
//! message is live unless a settlement names it, whichever is found first; settlements of that
//! region are remembered until recovery ends.
//!
//! Counts of returns are absolute and the highest is right, so they need no order either. What a
//! message was told by its [`Arrival`] comes with it from the log. A message that was dying is
//! ready again, for its dead letter may not have been persisted.
//!
//! In a queue that several nodes keep ([`replica`](super::replica)) everything comes in the order
//! in which it was committed, so nothing is remembered of what is gone.
//!
//! Snapshot, version 3, all numbers LEB128 varints unless said:
//!
//! ```text
//! 0         1
//! ┌─────────┬────────────┬───────────┬───────────┬────────────────────────────┐
//! │ version │ next index │ watermark │ run count │ (distance, length) of each │
//! └─────────┴────────────┴───────────┴───────────┴────────────────────────────┘
//! ┌────────────────┬────────────────────────────────────────────┐
//! │ count of counts│ (distance, returns) of each, as in commands│
//! └────────────────┴────────────────────────────────────────────┘
//! ┌───────────────┬───────┬───────┬─────────────────────────────────┐
//! │ replicated u8 │ clock │ count │ (origin u64, number, clock) each│
//! └───────────────┴───────┴───────┴─────────────────────────────────┘
//! ```

use std::collections::BTreeMap;

use staunch_types::MessageIndex;

use super::command::{put_counts, read_counts};
use super::entries::Entries;
use super::replica::Origins;
use super::watermark::Watermark;
use super::{Arrival, Durability, Queue, QueueCommand, Released};
use crate::encoding::{DecodeError, Reader, Writer};
use crate::settings::QueueSettings;

/// Version of the layout that [`Queue::encode_snapshot`] writes.
const SNAPSHOT_VERSION: u8 = 3;

/// Most messages in one queue that a snapshot may claim.
pub const MESSAGES_PER_QUEUE_MAX: u64 = 1 << 30;

/// What became of a message that [`Queue::restore_message`] was told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// It is live, and the queue now refers to this body.
    Live,
    /// It was settled or purged: the body is garbage.
    Gone,
    /// The queue already refers to another copy of it; this one is garbage.
    Duplicate,
}

/// What recovery must remember beside the messages.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// The snapshot's next index.
    base: u64,
    /// Settled indexes at or above `base`: start → end, disjoint and not touching.
    gone: BTreeMap<u64, u64>,
    /// How often messages were given back; those that are gone too, unless it follows.
    counts: BTreeMap<u64, u32>,
    /// Everything comes in order: it is a follower.
    follows: bool,
}

impl Recovery {
    /// Of a follower whose next message has this index.
    pub(super) fn following(base: u64, counts: BTreeMap<u64, u32>) -> Self {
        Self {
            base,
            gone: BTreeMap::new(),
            counts,
            follows: true,
        }
    }

    fn is_gone(&self, index: u64) -> bool {
        self.gone
            .range(..=index)
            .next_back()
            .is_some_and(|(_, end)| index < *end)
    }

    fn add_gone(&mut self, first: u64, end: u64) {
        let (mut start, mut end) = (first.max(self.base), end);
        if start >= end {
            return;
        }
        while let Some((&other, &other_end)) = self.gone.range(..=end).next_back()
            && other_end >= start
        {
            self.gone.remove(&other);
            start = start.min(other);
            end = end.max(other_end);
        }
        self.gone.insert(start, end);
    }

    fn forget_counts(&mut self, first: u64, end: u64) {
        while let Some((&index, _)) = self.counts.range(first..end).next() {
            self.counts.remove(&index);
        }
    }

    fn all_counts(&self) -> impl Iterator<Item = (MessageIndex, u32)> {
        let counts = self.counts.iter();
        counts.map(|(index, count)| (MessageIndex(*index), *count))
    }
}

impl Queue {
    /// A durable queue that has no snapshot, in recovery.
    pub fn recovering(settings: &QueueSettings) -> Self {
        let mut queue = Self::new(Durability::Durable, settings);
        queue.recovery = Some(Box::default());
        queue
    }

    /// Appends what must survive: next index, watermark, and which messages are live.
    pub fn encode_snapshot(&self, out: &mut Vec<u8>) {
        out.put_u8(SNAPSHOT_VERSION);
        out.put_varint(self.entries.next_index());
        out.put_varint(self.watermark.for_snapshot());
        let mut count = 0;
        self.entries.live_runs(|_, _| count += 1);
        out.put_varint(count);
        let mut previous_end = 0;
        self.entries.live_runs(|start, end| {
            out.put_varint(start - previous_end);
            out.put_varint(end - start);
            previous_end = end;
        });
        let counts: Vec<_> = match (&self.recovery, &self.returns) {
            (Some(recovery), _) => recovery.all_counts().collect(),
            (None, Some(returns)) => returns.for_snapshot().collect(),
            (None, None) => Vec::new(),
        };
        put_counts(&counts, out);
        out.put_bool(self.origins.is_some());
        if let Some(origins) = &self.origins {
            origins.encode(out);
        }
    }

    /// Reads a snapshot: a queue in recovery. Next come [`Queue::restore_message`] and
    /// [`Queue::apply_recovered`] in any order, then [`Queue::finish_recovery`].
    ///
    /// # Errors
    /// [`DecodeError`] when `bytes` are not exactly one snapshot.
    pub fn decode_snapshot(bytes: &[u8], settings: &QueueSettings) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.version(SNAPSHOT_VERSION)?;
        let base = reader.varint()?;
        let watermark = reader.varint()?;
        let run_count = reader.varint()?;
        let mut entries = Entries::default();
        let (mut previous_end, mut live_count) = (0u64, 0u64);
        for _ in 0..run_count {
            let start = previous_end
                .checked_add(reader.varint()?)
                .ok_or(DecodeError::OutOfRange)?;
            let len = reader.varint()?;
            let end = start.checked_add(len).ok_or(DecodeError::OutOfRange)?;
            live_count = live_count.saturating_add(len);
            if len == 0 || end > base || live_count > MESSAGES_PER_QUEUE_MAX {
                return Err(DecodeError::OutOfRange);
            }
            entries.expect_run(start, end);
            previous_end = end;
        }
        let counts = read_counts(&mut reader)?;
        let is_replicated = reader.bool()?;
        let origins = is_replicated.then(|| Origins::decode(&mut reader));
        let origins = origins.transpose()?.map(Box::new);
        reader.finish()?;
        // A counter of 64 bits does not get near its end; a number that does is damage.
        if base > u64::MAX / 2 || watermark > u64::MAX / 2 {
            return Err(DecodeError::OutOfRange);
        }
        entries.advance_next_index(base);
        let durability = match origins {
            None => Durability::Durable,
            Some(_) => Durability::Replicated,
        };
        let mut queue = Self::new(durability, settings);
        queue.entries = entries;
        queue.watermark = Watermark::new(durability, watermark);
        queue.origins = origins;
        let counts = counts.into_iter();
        queue.recovery = Some(Box::new(Recovery {
            base,
            gone: BTreeMap::new(),
            counts: counts.map(|(index, count)| (index.0, count)).collect(),
            follows: is_replicated,
        }));
        Ok(queue)
    }

    /// The log holds this message of the queue.
    ///
    /// # Panics
    /// If the queue is not in recovery.
    pub fn restore_message(&mut self, index: MessageIndex, arrival: Arrival) -> Restored {
        let recovery = self
            .recovery
            .as_deref()
            .expect("messages are restored in recovery only");
        let (live, has_body) = self.entries.state(index.0);
        if has_body {
            return Restored::Duplicate;
        }
        let expected = if index.0 < recovery.base {
            live
        } else {
            !recovery.is_gone(index.0)
        };
        if !expected {
            return Restored::Gone;
        }
        let level = self.level_of(arrival.priority);
        self.entries.restore(index.0, &arrival, level);
        Restored::Live
    }

    /// As [`Queue::restore_message`], but what is found last is right: the log of a replicated
    /// queue may hold, under the same index and before the message, one that was never committed.
    /// The body that is garbage now, if there is one.
    ///
    /// # Panics
    /// If the queue is not in recovery.
    pub fn restore_over(&mut self, index: MessageIndex, arrival: Arrival) -> Option<Released> {
        let replaced = self.entries.forget_body(index.0);
        match self.restore_message(index, arrival) {
            Restored::Live => replaced,
            Restored::Gone | Restored::Duplicate => Some((index, arrival.body, arrival.size_bytes)),
        }
    }

    /// The log holds this command of the queue. Bodies that are garbage by it go to `released`.
    ///
    /// # Panics
    /// If the queue is not in recovery.
    pub fn apply_recovered(&mut self, command: &QueueCommand, released: &mut Vec<Released>) {
        let recovery = self
            .recovery
            .as_deref_mut()
            .expect("commands are replayed in recovery only");
        match command {
            QueueCommand::Settled { ranges } | QueueCommand::Purged { ranges } => {
                for &(first, count) in ranges {
                    let end = first.0.saturating_add(u64::from(count));
                    if recovery.follows {
                        recovery.forget_counts(first.0, end);
                    } else {
                        recovery.add_gone(first.0, end);
                    }
                    self.entries.remove(first.0, end, |message, _, has_body| {
                        if has_body {
                            released.push(message);
                        }
                    });
                    self.entries.advance_next_index(end);
                }
            }
            QueueCommand::Returned { counts } => {
                for &(index, count) in counts {
                    if recovery.follows && !self.entries.state(index.0).0 {
                        continue;
                    }
                    let known = recovery.counts.entry(index.0).or_default();
                    *known = count.max(*known);
                    self.entries.advance_next_index(index.0.saturating_add(1));
                }
            }
            QueueCommand::Reserved { upto } => self.watermark.restore(upto.0),
        }
    }

    /// Live messages whose bodies have not been restored: `(first, count)` of each run.
    pub fn missing(&self) -> Vec<(MessageIndex, u64)> {
        let mut runs = Vec::new();
        if self.recovery.is_some() {
            self.entries
                .unready_runs(|start, end| runs.push((MessageIndex(start), end - start)));
        }
        runs
    }

    /// Ends recovery: every live message is ready, redelivered if it lies below the watermark.
    /// Messages still missing are dropped and counted.
    ///
    /// No index below the watermark is given to a new message of a queue that one node keeps: it may
    /// have been that of a message which was handed out and lost with a crash, and which a client of
    /// another node is still to settle.
    ///
    /// # Panics
    /// On a bug in this module only.
    pub fn finish_recovery(&mut self) -> u64 {
        let recovery = self.recovery.take().unwrap_or_default();
        if self.watermark.durability() == Durability::Durable {
            let handed_out = self.watermark.for_snapshot();
            self.entries.advance_next_index(handed_out);
        }
        let (ready, missing) = self.entries.finish_recovery(self.watermark.for_snapshot());
        self.ready = ready;
        self.fresh = self
            .entries
            .first_live()
            .unwrap_or(self.entries.next_index());
        if let Some(levels) = &mut self.levels {
            for (index, _, _) in self.entries.live_from(0, false) {
                let position = self.entries.position(index.0);
                let position = position.expect("what is listed is found");
                let level = self.entries.chunk(position).level(position.bit());
                if level > 0 {
                    levels.insert(level, index.0);
                }
            }
        }
        if let Some(returns) = &mut self.returns {
            let mut counts = recovery.counts;
            counts.retain(|index, count| *count > 0 && self.entries.position(*index).is_some());
            returns.restore(counts);
        }
        missing
    }
}
