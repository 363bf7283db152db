//! Publisher confirms of one channel: numbers out, acks and nacks back, each exactly once.
//!
//! Publishes are numbered from 1. The node resolves runs of numbers, mostly in order. What is
//! resolved is kept as `lowest` (everything below it is) and, above it, disjoint ranges that came
//! early. Nothing is written at once: the runs resolved since the last write wait in
//! `unsent`, so that a batch of events costs one `basic.ack` with `multiple` for all that lies
//! below `lowest`. A bit per number was rejected: in order, which is nearly always, a range costs
//! nothing, and at worst there are as many ranges as unresolved numbers.

use std::collections::BTreeMap;

use staunch_types::PublishSeq;

/// Publishes a channel may have unresolved; at this many its connection stops reading.
pub const UNCONFIRMED_PER_CHANNEL_MAX: u64 = 65_536;

/// One frame for the publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Confirm {
    /// `basic.ack` of this number alone.
    Ack(u64),
    /// `basic.ack` with `multiple`: of everything unresolved up to this number.
    AckUpTo(u64),
    /// `basic.nack` of this number alone.
    Nack(u64),
}

/// The node's verdict on a run of publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Persisted wherever they were routed.
    Confirmed,
    /// Refused by a queue.
    Nacked,
}

/// Numbers of a channel in confirm mode.
#[derive(Debug)]
pub(crate) struct Confirms {
    next: u64,
    /// Everything below is resolved.
    lowest: u64,
    /// Resolved ranges above `lowest`: first to last, disjoint, not adjacent.
    early: BTreeMap<u64, u64>,
    /// How many numbers `early` holds.
    early_count: u64,
    /// Runs resolved since the last write, in order of arrival.
    unsent: Vec<(u64, u64, Verdict)>,
}

impl Confirms {
    pub(crate) fn new() -> Self {
        Self {
            next: 1,
            lowest: 1,
            early: BTreeMap::new(),
            early_count: 0,
            unsent: Vec::new(),
        }
    }

    /// Numbers a publish.
    #[inline]
    pub(crate) fn number(&mut self) -> PublishSeq {
        let seq = self.next;
        self.next += 1;
        PublishSeq(seq)
    }

    /// Whether no further publish may be taken.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.unresolved_count() >= UNCONFIRMED_PER_CHANNEL_MAX
    }

    fn unresolved_count(&self) -> u64 {
        self.next - self.lowest - self.early_count
    }

    /// Takes the node's verdict on `first..=last`.
    ///
    /// # Panics
    /// If a number was never given out or is resolved already: a confirm is a promise, and a
    /// node that gives it twice has lost count of what is on disk.
    pub(crate) fn resolve(&mut self, first: PublishSeq, last: PublishSeq, verdict: Verdict) {
        let (first, last) = (first.0, last.0);
        assert!(
            self.lowest <= first && first <= last && last < self.next,
            "confirm of {first}..={last} outside of the unresolved {}..{}",
            self.lowest,
            self.next
        );
        if first == self.lowest && self.early.is_empty() {
            self.lowest = last + 1;
        } else {
            self.insert_early(first, last);
            self.advance();
        }
        match self.unsent.last_mut() {
            Some((_, end, same)) if *end + 1 == first && *same == verdict => *end = last,
            _ => self.unsent.push((first, last, verdict)),
        }
    }

    /// Whether there is something to write.
    #[inline]
    pub(crate) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Hands out the frames for what was resolved since the last call.
    ///
    /// Nacks go first and one by one, since an ack with `multiple` would otherwise cover them.
    pub(crate) fn take_unsent(&mut self, mut write: impl FnMut(Confirm)) {
        let mut below = (0, 0);
        for &(first, last, verdict) in &self.unsent {
            if verdict == Verdict::Nacked {
                (first..=last).for_each(|seq| write(Confirm::Nack(seq)));
            } else if first < self.lowest {
                // A run is never split by `lowest`: it was resolved as a whole.
                below = (below.0 + last - first + 1, last.max(below.1));
            }
        }
        match below {
            (0, _) => {}
            (1, seq) => write(Confirm::Ack(seq)),
            (_, last) => write(Confirm::AckUpTo(last)),
        }
        for (first, last, verdict) in self.unsent.drain(..) {
            if verdict == Verdict::Confirmed && first >= self.lowest {
                (first..=last).for_each(|seq| write(Confirm::Ack(seq)));
            }
        }
    }

    pub(crate) fn check_invariants(&self) {
        assert!(
            self.lowest <= self.next,
            "numbers are resolved only after they are given out"
        );
        let mut end = self.lowest;
        let mut count = 0;
        for (&first, &last) in &self.early {
            assert!(
                end < first && first <= last,
                "early ranges are disjoint and above lowest"
            );
            (end, count) = (last + 1, count + last - first + 1);
        }
        assert!(end <= self.next, "early ranges are below the next number");
        assert_eq!(
            count, self.early_count,
            "early_count is the size of the early ranges"
        );
    }

    fn insert_early(&mut self, first: u64, last: u64) {
        let before = self
            .early
            .range(..=last)
            .next_back()
            .map(|(&first, &last)| (first, last));
        let (mut start, mut end) = (first, last);
        if let Some((before_first, before_last)) = before {
            assert!(
                before_last < first,
                "confirm of {first}..={last} comes twice"
            );
            if before_last + 1 == first {
                self.early.remove(&before_first);
                start = before_first;
            }
        }
        if let Some(after_last) = self.early.remove(&(last + 1)) {
            end = after_last;
        }
        self.early.insert(start, end);
        self.early_count += last - first + 1;
    }

    /// Moves `lowest` past an early range that begins there.
    fn advance(&mut self) {
        if let Some(last) = self.early.remove(&self.lowest) {
            self.early_count -= last - self.lowest + 1;
            self.lowest = last + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn resolve(confirms: &mut Confirms, runs: &[(u64, u64, Verdict)]) -> Vec<Confirm> {
        for &(first, last, verdict) in runs {
            confirms.resolve(PublishSeq(first), PublishSeq(last), verdict);
            confirms.check_invariants();
        }
        let mut sent = Vec::new();
        confirms.take_unsent(|confirm| sent.push(confirm));
        sent
    }

    fn numbered(count: u64) -> Confirms {
        let mut confirms = Confirms::new();
        for seq in 1..=count {
            assert_eq!(confirms.number(), PublishSeq(seq));
        }
        confirms
    }

    #[test]
    fn runs_in_order_become_one_ack() {
        use Verdict::Confirmed;
        let mut confirms = numbered(10);
        assert_eq!(
            resolve(&mut confirms, &[(1, 1, Confirmed)]),
            [Confirm::Ack(1)]
        );
        assert_eq!(
            resolve(&mut confirms, &[(2, 2, Confirmed), (3, 5, Confirmed)]),
            [Confirm::AckUpTo(5)]
        );
        assert_eq!(
            resolve(&mut confirms, &[(8, 9, Confirmed)]),
            [Confirm::Ack(8), Confirm::Ack(9)]
        );
        assert_eq!(
            resolve(&mut confirms, &[(7, 7, Confirmed), (6, 6, Confirmed)]),
            [Confirm::AckUpTo(7)]
        );
        assert_eq!(
            resolve(&mut confirms, &[(10, 10, Confirmed)]),
            [Confirm::Ack(10)]
        );
    }

    #[test]
    fn nacks_are_never_covered_by_an_ack() {
        use Verdict::{Confirmed, Nacked};
        let mut confirms = numbered(4);
        assert_eq!(
            resolve(
                &mut confirms,
                &[(1, 1, Confirmed), (2, 3, Nacked), (4, 4, Confirmed)]
            ),
            [Confirm::Nack(2), Confirm::Nack(3), Confirm::AckUpTo(4)]
        );
    }

    #[test]
    #[should_panic(expected = "comes twice")]
    fn a_second_confirm_is_the_nodes_bug() {
        let mut confirms = numbered(4);
        resolve(
            &mut confirms,
            &[(3, 3, Verdict::Confirmed), (2, 4, Verdict::Confirmed)],
        );
    }

    #[test]
    fn the_limit_counts_what_is_unresolved() {
        let mut confirms = numbered(UNCONFIRMED_PER_CHANNEL_MAX);
        assert!(confirms.is_full());
        resolve(&mut confirms, &[(5, 9, Verdict::Confirmed)]);
        assert!(!confirms.is_full());
    }

    proptest! {
        // What a publisher keeps: a set of outstanding numbers, of which each frame must remove
        // at least the named one.
        #[test]
        fn every_number_is_resolved_exactly_once(
            order in Just((1..=60_u64).collect::<Vec<_>>()).prop_shuffle(),
            runs in prop::collection::vec((1..5_usize, any::<bool>(), any::<bool>()), 60),
            sorted in any::<bool>(),
        ) {
            let mut order = order;
            if sorted { order.sort_unstable(); }
            let mut confirms = numbered(60);
            let mut outstanding: std::collections::BTreeSet<u64> = (1..=60).collect();
            let mut verdicts = BTreeMap::new();
            let mut left = order.as_slice();
            for (size, nacked, flush) in runs {
                let (now, later) = left.split_at(size.min(left.len()));
                left = later;
                let verdict = if nacked { Verdict::Nacked } else { Verdict::Confirmed };
                for run in now.chunk_by(|a, b| a + 1 == *b) {
                    confirms.resolve(PublishSeq(run[0]), PublishSeq(run[run.len() - 1]), verdict);
                    verdicts.extend(run.iter().map(|seq| (*seq, verdict)));
                    confirms.check_invariants();
                }
                if flush || left.is_empty() {
                    confirms.take_unsent(|confirm| {
                        let (seq, verdict) = match confirm {
                            Confirm::Ack(seq) | Confirm::AckUpTo(seq) => (seq, Verdict::Confirmed),
                            Confirm::Nack(seq) => (seq, Verdict::Nacked),
                        };
                        assert!(outstanding.remove(&seq), "{seq} was told twice");
                        assert_eq!(verdicts[&seq], verdict);
                        if let Confirm::AckUpTo(last) = confirm {
                            let rest = outstanding.split_off(&last);
                            for seq in std::mem::replace(&mut outstanding, rest) {
                                assert_eq!(verdicts.get(&seq), Some(&Verdict::Confirmed));
                            }
                        }
                    });
                }
            }
            prop_assert!(outstanding.is_empty());
        }
    }
}
