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
    /// What was committed of counts that have risen since; only where several nodes keep the
    /// queue.
    uncommitted: BTreeMap<u64, u32>,
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
                uncommitted: BTreeMap::new(),
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
        match self.durability {
            Durability::Transient => {}
            Durability::Durable => {
                self.raised.insert(index);
            }
            Durability::Replicated => {
                self.raised.insert(index);
                self.uncommitted.entry(index).or_insert(count - 1);
            }
        }
        true
    }

    /// These messages left the queue.
    pub(super) fn forget(&mut self, indexes: Range<u64>) {
        while let Some((&index, _)) = self.counts.range(indexes.clone()).next() {
            self.counts.remove(&index);
            self.raised.remove(&index);
            self.uncommitted.remove(&index);
        }
    }

    /// A count that was taken to be logged has been committed.
    pub(super) fn committed(&mut self, index: u64, count: u32) {
        if self.counts.get(&index) == Some(&count) {
            self.uncommitted.remove(&index);
        } else if let Some(committed) = self.uncommitted.get_mut(&index) {
            *committed = count;
        }
    }

    /// Forgets what was not committed, and gives all that was.
    pub(super) fn back_to_committed(&mut self) -> BTreeMap<u64, u32> {
        self.raised.clear();
        let mut counts = std::mem::take(&mut self.counts);
        counts.append(&mut self.uncommitted);
        counts.retain(|_, count| *count > 0);
        counts
    }

    /// Messages left the queue: those that `is_live` does not know.
    pub(super) fn retain(&mut self, is_live: impl Fn(u64) -> bool) {
        self.counts.retain(|index, _| is_live(*index));
        self.raised.retain(|index| is_live(*index));
        self.uncommitted.retain(|index, _| is_live(*index));
    }

    /// What a snapshot must say, by index: all counts; of a replicated queue what was committed.
    pub(super) fn for_snapshot(&self) -> impl Iterator<Item = (MessageIndex, u32)> {
        self.counts.iter().filter_map(|(index, count)| {
            let count = *self.uncommitted.get(index).unwrap_or(count);
            (count > 0).then_some((MessageIndex(*index), count))
        })
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
