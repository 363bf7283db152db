//! How often messages were given back, where that is counted.
//!
//! Only messages that were given back have an entry. What is logged is the count in all, so that
//! a replay may meet a count twice, or an older one after a newer: the highest is right.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::{Durability, MessageIndex, Queue};
use crate::settings::QueueSettings;

/// Counts of returns of the messages of one queue.
#[derive(Debug)]
pub(super) struct Returns {
    /// A message that is given back once more than this dies.
    limit: Option<u32>,
    durability: Durability,
    /// Of live messages; none is 0.
    counts: BTreeMap<u64, u32>,
    /// Whose count was raised and not yet taken to be logged; all of them have a count.
    raised: BTreeSet<u64>,
}

impl Returns {
    /// None for a queue that neither counts nor limits.
    pub(super) fn new(durability: Durability, settings: &QueueSettings) -> Option<Box<Self>> {
        let wanted = settings.counts_deliveries || settings.delivery_limit.is_some();
        wanted.then(|| {
            Box::new(Self {
                limit: settings.delivery_limit,
                durability,
                counts: BTreeMap::new(),
                raised: BTreeSet::new(),
            })
        })
    }

    pub(super) fn set_limit(&mut self, limit: Option<u32>) {
        self.limit = limit;
    }

    pub(super) fn count(&self, index: u64) -> u32 {
        self.counts.get(&index).copied().unwrap_or(0)
    }

    /// The count of a message that is handed out, for good if `is_settled`.
    #[cold]
    pub(super) fn handed_out(&mut self, index: u64, is_settled: bool) -> u32 {
        let count = self.count(index);
        if is_settled {
            self.forget(index..index + 1);
        }
        count
    }

    /// Counts one more return. False if that is one too many: the count stays as it is then.
    pub(super) fn raise(&mut self, index: u64) -> bool {
        let count = self.count(index).saturating_add(1);
        if self.limit.is_some_and(|limit| count > limit) {
            return false;
        }
        self.counts.insert(index, count);
        if self.durability == Durability::Durable {
            self.raised.insert(index);
        }
        true
    }

    /// These messages left the queue.
    pub(super) fn forget(&mut self, indexes: Range<u64>) {
        while let Some((&index, _)) = self.counts.range(indexes.clone()).next() {
            self.counts.remove(&index);
            self.raised.remove(&index);
        }
    }

    /// Messages left the queue: those that `is_live` does not know.
    pub(super) fn retain(&mut self, is_live: impl Fn(u64) -> bool) {
        self.counts.retain(|index, _| is_live(*index));
        self.raised.retain(|index| is_live(*index));
    }

    /// All counts, by index.
    pub(super) fn all(&self) -> impl Iterator<Item = (MessageIndex, u32)> {
        self.counts
            .iter()
            .map(|(&index, &count)| (MessageIndex(index), count))
    }

    pub(super) fn restore(&mut self, counts: BTreeMap<u64, u32>) {
        self.counts = counts;
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.counts.len() * size_of::<(u64, u32)>()
            + self.raised.len() * size_of::<u64>()
    }

    pub(super) fn check_invariants(&self, is_live: impl Fn(u64) -> bool) {
        for (index, count) in &self.counts {
            assert!(is_live(*index) && *count > 0, "only the live are counted");
        }
        let known = |index| self.counts.contains_key(index);
        assert!(self.raised.iter().all(known), "what was raised has a count");
    }
}

impl Queue {
    /// Counts of returns that were raised since this was last asked, in order, to be logged as
    /// [`QueueCommand::Returned`](super::QueueCommand::Returned). Only of durable queues that
    /// count returns.
    pub fn take_returned(&mut self) -> Vec<(MessageIndex, u32)> {
        let Some(returns) = &mut self.returns else {
            return Vec::new();
        };
        let raised = std::mem::take(&mut returns.raised);
        raised
            .into_iter()
            .map(|index| (MessageIndex(index), returns.count(index)))
            .collect()
    }
}
