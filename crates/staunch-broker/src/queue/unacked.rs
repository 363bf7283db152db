//! What one consumer has been handed and not settled.
//!
//! The entries know who holds a message, so settling needs no list; only giving back everything
//! a consumer holds does. The list is therefore lazy: a settled index stays until half of the
//! list is such, then it is compacted. A linked list through the entries was rejected: eight
//! more bytes for every message, held or not.

use std::collections::BTreeSet;

/// Lists shorter than this are not compacted.
const COMPACT_LEN_MIN: usize = 64;

/// Indexes handed to one consumer.
#[derive(Debug, Default)]
pub(super) struct Unacked {
    /// Every index it holds in the order in which it was handed out, and some it does not hold any
    /// more; of an index that repeats the last place counts.
    indexes: Vec<u64>,
    /// How many it holds.
    count: u32,
}

impl Unacked {
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn push(&mut self, index: u64) {
        self.indexes.push(index);
        self.count += 1;
    }

    /// `count` messages are not held any more; `is_held` tells which still are.
    pub(super) fn settled(&mut self, count: u32, is_held: impl FnMut(&u64) -> bool) {
        self.count = self
            .count
            .checked_sub(count)
            .expect("only held messages are settled");
        if self.count == 0 {
            self.indexes.clear();
            self.indexes.shrink_to(COMPACT_LEN_MIN);
        } else if self.indexes.len() > COMPACT_LEN_MIN + 2 * self.count as usize {
            self.compact(is_held);
        }
    }

    /// Takes everything: each index it holds once, in the order of delivery.
    pub(super) fn take_all(&mut self, is_held: impl FnMut(&u64) -> bool) -> Vec<u64> {
        self.compact(is_held);
        self.count = 0;
        std::mem::take(&mut self.indexes)
    }

    /// Each index it holds once, sorted.
    pub(super) fn indexes(&self, is_held: impl FnMut(&u64) -> bool) -> Vec<u64> {
        let mut copy = Self {
            indexes: self.indexes.clone(),
            count: self.count,
        };
        copy.compact(is_held);
        copy.indexes
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.indexes.capacity() * size_of::<u64>()
    }

    pub(super) fn check_invariants(&self, is_held: impl FnMut(&u64) -> bool) {
        let mut copy = Self {
            indexes: self.indexes.clone(),
            count: self.count,
        };
        copy.compact(is_held);
        assert_eq!(
            copy.indexes.len(),
            self.count as usize,
            "held messages are counted"
        );
    }

    /// Only what was given back before is handed out of order, or again.
    #[cold]
    fn keep_last_places(&mut self) {
        let mut seen = BTreeSet::new();
        self.indexes.reverse();
        self.indexes.retain(|index| seen.insert(*index));
        self.indexes.reverse();
    }

    fn compact(&mut self, is_held: impl FnMut(&u64) -> bool) {
        self.indexes.retain(is_held);
        if !self.indexes.is_sorted_by(|one, next| one < next) {
            self.keep_last_places();
        }
        let room = COMPACT_LEN_MIN + 4 * self.indexes.len();
        if self.indexes.capacity() > 2 * room {
            self.indexes.shrink_to(room);
        }
    }
}
