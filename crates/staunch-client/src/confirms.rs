//! Which publishes of a channel are not confirmed yet.

use std::collections::VecDeque;

/// The publishes of a channel in confirm mode, from the oldest unconfirmed to the newest.
///
/// Confirms may come in any order and for many at once (`basic.ack` with `multiple`), so
/// this keeps one mark for each publish since the oldest that is still open.
#[derive(Clone, Debug, Default)]
pub struct Unconfirmed {
    /// Sequence number of the first mark; numbers start at 1.
    oldest: u64,
    /// Whether each has been settled.
    settled: VecDeque<bool>,
    open: usize,
}

impl Unconfirmed {
    /// Nothing published yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            oldest: 1,
            settled: VecDeque::new(),
            open: 0,
        }
    }

    /// Numbers the next publish.
    #[inline]
    pub fn publish(&mut self) -> u64 {
        let seq = self.oldest + self.settled.len() as u64;
        self.settled.push_back(false);
        self.open += 1;
        seq
    }

    /// How many are open.
    #[inline]
    pub fn len(&self) -> usize {
        self.open
    }

    /// Whether everything published has been confirmed.
    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// The open sequence numbers, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        let numbered = (self.oldest..).zip(&self.settled);
        numbered
            .filter(|(_, settled)| !**settled)
            .map(|(seq, _)| seq)
    }

    /// Settles `tag`, with `multiple` everything up to it (0: everything), and calls `each` for
    /// every number that was open. Numbers that were never published or are settled already are
    /// passed over.
    #[inline]
    pub fn settle(&mut self, tag: u64, multiple: bool, mut each: impl FnMut(u64)) {
        let newest = self.oldest + self.settled.len() as u64 - 1;
        let last = if tag == 0 && multiple { newest } else { tag };
        if last < self.oldest || last > newest {
            return;
        }
        let first = if multiple { self.oldest } else { last };
        for seq in first..=last {
            let Ok(at) = usize::try_from(seq - self.oldest) else {
                break;
            };
            if !std::mem::replace(&mut self.settled[at], true) {
                self.open -= 1;
                each(seq);
            }
        }
        while self.settled.front() == Some(&true) {
            self.settled.pop_front();
            self.oldest += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirms_in_any_order_and_repeated() {
        let mut unconfirmed = Unconfirmed::new();
        let numbers: Vec<_> = (0..6).map(|_| unconfirmed.publish()).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
        let mut check = |tag, multiple, expected: &[u64], open: &[u64]| {
            let mut settled = Vec::new();
            unconfirmed.settle(tag, multiple, |seq| settled.push(seq));
            assert_eq!(settled, expected);
            assert_eq!(unconfirmed.iter().collect::<Vec<_>>(), open);
            assert_eq!(unconfirmed.len(), open.len());
        };
        check(3, false, &[3], &[1, 2, 4, 5, 6]);
        check(3, false, &[], &[1, 2, 4, 5, 6]);
        check(4, true, &[1, 2, 4], &[5, 6]);
        check(2, true, &[], &[5, 6]);
        check(99, true, &[], &[5, 6]);
        check(0, true, &[5, 6], &[]);
        assert_eq!(unconfirmed.publish(), 7);
    }
}
