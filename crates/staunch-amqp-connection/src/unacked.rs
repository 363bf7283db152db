//! Deliveries of one channel that the client has not settled, by delivery tag.
//!
//! Tags count up from 1 and are mostly settled in order, so a ring indexed by `tag - base` finds
//! one at once. Settling out of order leaves holes. A consumer that holds one delivery for hours
//! and settles millions after it would make the ring endless, so once holes outweigh what is
//! outstanding, the oldest deliveries move to a map (`stragglers`): memory follows the number of
//! outstanding deliveries, whatever their tags.

use std::collections::{BTreeMap, VecDeque};

use staunch_types::{ConsumerKey, MessageIndex, QueueId};

/// Deliveries a channel may have outstanding: from here on `basic.get` is refused and the node
/// is not told of drained bytes, so it stops delivering. A prefetch of 0 sets no lower limit.
pub const UNACKED_PER_CHANNEL_MAX: usize = 1 << 20;

/// Holes the ring may always have, so that small channels never use the map.
const HOLES_MIN: usize = 1_024;

/// A delivery as the node knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unacked {
    pub(crate) consumer: ConsumerKey,
    pub(crate) queue: QueueId,
    pub(crate) index: MessageIndex,
}

/// Which deliveries a method settles (AMQP 0-9-1, basic.ack).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SettleScope {
    /// One tag.
    One(u64),
    /// The tag, which must be outstanding, and all outstanding before it.
    UpTo(u64),
    /// Everything outstanding.
    All,
}

impl SettleScope {
    /// Tags start at 1: 0 with `multiple` means all (AMQP 0-9-1, basic.ack).
    pub(crate) fn new(tag: u64, multiple: bool) -> Self {
        match (tag, multiple) {
            (0, true) => Self::All,
            (_, true) => Self::UpTo(tag),
            (_, false) => Self::One(tag),
        }
    }
}

/// No outstanding delivery has this tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnknownTag(pub(crate) u64);

/// Outstanding deliveries of a channel.
#[derive(Debug)]
pub(crate) struct UnackedDeliveries {
    /// Tag of the front of `ring`.
    base: u64,
    /// The front, if any, is outstanding; `None` is a hole.
    ring: VecDeque<Option<Unacked>>,
    /// Outstanding with tags below `base`.
    stragglers: BTreeMap<u64, Unacked>,
    count: usize,
}

impl UnackedDeliveries {
    pub(crate) fn new() -> Self {
        Self {
            base: 1,
            ring: VecDeque::new(),
            stragglers: BTreeMap::new(),
            count: 0,
        }
    }

    /// Outstanding deliveries.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The tag of a delivery that must be settled.
    #[inline]
    pub(crate) fn push(&mut self, delivery: Unacked) -> u64 {
        let tag = self.next_tag();
        self.ring.push_back(Some(delivery));
        self.count += 1;
        tag
    }

    /// The tag of a delivery that is settled already.
    #[inline]
    pub(crate) fn push_settled(&mut self) -> u64 {
        let tag = self.next_tag();
        if self.ring.is_empty() {
            self.base += 1;
        } else {
            self.ring.push_back(None);
            self.move_stragglers();
        }
        tag
    }

    /// Takes out what `scope` names, calling `settled` with each tag and delivery in order of
    /// tags.
    ///
    /// # Errors
    /// [`UnknownTag`] if the tag is not outstanding; nothing is settled then.
    #[inline]
    pub(crate) fn settle(
        &mut self,
        scope: SettleScope,
        mut settled: impl FnMut(u64, Unacked),
    ) -> Result<(), UnknownTag> {
        match scope {
            SettleScope::One(tag) => settled(tag, self.take(tag).ok_or(UnknownTag(tag))?),
            SettleScope::UpTo(tag) => {
                if !self.is_outstanding(tag) {
                    return Err(UnknownTag(tag));
                }
                self.take_up_to(tag, settled);
            }
            SettleScope::All => self.take_up_to(u64::MAX, settled),
        }
        self.drop_holes();
        self.move_stragglers();
        Ok(())
    }

    /// Makes outstanding again what was settled under `tag`.
    ///
    /// # Panics
    /// If the tag was never given out or is outstanding.
    pub(crate) fn put_back(&mut self, tag: u64, delivery: Unacked) {
        let replaced = match self.place(tag) {
            Some(place) => self.ring[place].replace(delivery),
            None => self.stragglers.insert(tag, delivery),
        };
        assert!(replaced.is_none(), "only what was settled is put back");
        self.count += 1;
    }

    /// The oldest outstanding delivery and its tag.
    pub(crate) fn oldest(&self) -> Option<(u64, Unacked)> {
        if let Some((&tag, &delivery)) = self.stragglers.first_key_value() {
            return Some((tag, delivery));
        }
        let front = self.ring.front().copied().flatten();
        front.map(|delivery| (self.base, delivery))
    }

    /// The tag of the next delivery: all before it have been given out.
    pub(crate) fn next_tag(&self) -> u64 {
        self.base + self.ring.len() as u64
    }

    pub(crate) fn check_invariants(&self) {
        let in_ring = self.ring.iter().flatten().count();
        assert_eq!(
            self.count,
            in_ring + self.stragglers.len(),
            "count is what is outstanding"
        );
        assert!(
            !matches!(self.ring.front(), Some(None)),
            "the ring begins with no hole"
        );
        assert!(
            self.stragglers
                .last_key_value()
                .is_none_or(|(&tag, _)| tag < self.base),
            "stragglers are older than the ring"
        );
        assert!(
            self.ring.len() <= 2 * in_ring + HOLES_MIN,
            "holes are bounded"
        );
    }

    /// Place of a tag in the ring.
    #[inline]
    fn place(&self, tag: u64) -> Option<usize> {
        usize::try_from(tag.checked_sub(self.base)?).ok()
    }

    fn is_outstanding(&self, tag: u64) -> bool {
        match self.place(tag) {
            Some(place) => matches!(self.ring.get(place), Some(Some(_))),
            None => self.stragglers.contains_key(&tag),
        }
    }

    #[inline]
    fn take(&mut self, tag: u64) -> Option<Unacked> {
        let taken = match self.place(tag) {
            Some(place) => self.ring.get_mut(place)?.take(),
            None => self.stragglers.remove(&tag),
        };
        self.count -= usize::from(taken.is_some());
        taken
    }

    fn take_up_to(&mut self, tag: u64, mut settled: impl FnMut(u64, Unacked)) {
        while let Some(oldest) = self.stragglers.first_entry()
            && *oldest.key() <= tag
        {
            let (tag, delivery) = oldest.remove_entry();
            settled(tag, delivery);
            self.count -= 1;
        }
        while self.base <= tag
            && let Some(front) = self.ring.pop_front()
        {
            if let Some(delivery) = front {
                settled(self.base, delivery);
                self.count -= 1;
            }
            self.base += 1;
        }
    }

    /// Makes the ring begin with something outstanding.
    #[inline]
    fn drop_holes(&mut self) {
        while let Some(None) = self.ring.front() {
            self.ring.pop_front();
            self.base += 1;
        }
    }

    /// Moves the oldest to the map while the ring is mostly holes.
    #[inline]
    fn move_stragglers(&mut self) {
        while self.ring.len() > HOLES_MIN + 2 * (self.count - self.stragglers.len()) {
            if let Some(Some(delivery)) = self.ring.pop_front() {
                self.stragglers.insert(self.base, delivery);
            }
            self.base += 1;
            self.drop_holes();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn delivery(index: u64) -> Unacked {
        Unacked {
            consumer: ConsumerKey(1),
            queue: QueueId(1),
            index: MessageIndex(index),
        }
    }

    #[test]
    fn one_old_delivery_does_not_pin_those_settled_after_it() {
        let mut unacked = UnackedDeliveries::new();
        let oldest = unacked.push(delivery(0));
        for index in 1..100_000 {
            let tag = unacked.push(delivery(index));
            unacked.settle(SettleScope::One(tag), |_, _| {}).unwrap();
            unacked.push_settled();
            assert!(unacked.ring.len() <= 2 + HOLES_MIN);
        }
        unacked.check_invariants();
        let mut settled = Vec::new();
        unacked
            .settle(SettleScope::One(oldest), |_, d| settled.push(d))
            .unwrap();
        assert_eq!(settled, [delivery(0)]);
        assert_eq!(unacked.count(), 0);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push,
        PushSettled,
        PushMany(usize),
        Settle(SettleScope),
        /// Of all that `Settle` took.
        PutBack,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let tag = prop_oneof![0..40_u64, 0..3_000_u64];
        let settle = prop_oneof![
            6 => tag.clone().prop_map(SettleScope::One),
            1 => tag.prop_map(SettleScope::UpTo),
            1 => Just(SettleScope::All),
        ];
        let step = prop_oneof![
            4 => Just(Step::Push),
            2 => Just(Step::PushSettled),
            1 => (0..800_usize).prop_map(Step::PushMany),
            6 => settle.prop_map(Step::Settle),
            1 => Just(Step::PutBack),
        ];
        prop::collection::vec(step, 0..120)
    }

    proptest! {
        #[test]
        fn behaves_as_a_sorted_map(steps in steps()) {
            let mut unacked = UnackedDeliveries::new();
            let mut model = BTreeMap::new();
            let mut taken = Vec::new();
            let mut next = 1_u64;
            for step in steps {
                match step {
                    Step::Push => {
                        prop_assert_eq!(unacked.push(delivery(next)), next);
                        model.insert(next, delivery(next));
                        next += 1;
                    }
                    Step::PushSettled => {
                        prop_assert_eq!(unacked.push_settled(), next);
                        next += 1;
                    }
                    Step::PushMany(count) => for _ in 0..count {
                        let tag = unacked.push(delivery(next));
                        prop_assert_eq!(tag, next);
                        unacked.settle(SettleScope::One(tag), |_, _| {}).unwrap();
                        next += 1;
                    },
                    Step::Settle(scope) => {
                        let expected: Result<Vec<u64>, UnknownTag> = match scope {
                            SettleScope::One(tag) => {
                                model.contains_key(&tag).then(|| vec![tag]).ok_or(UnknownTag(tag))
                            }
                            SettleScope::UpTo(tag) => model
                                .contains_key(&tag)
                                .then(|| model.range(..=tag).map(|(t, _)| *t).collect())
                                .ok_or(UnknownTag(tag)),
                            SettleScope::All => Ok(model.keys().copied().collect()),
                        };
                        let mut settled = Vec::new();
                        let result = unacked.settle(scope, |tag, d| {
                            assert_eq!(d, delivery(tag));
                            settled.push(tag);
                        });
                        prop_assert_eq!(result.map(|()| settled), expected.clone());
                        expected.iter().flatten().for_each(|tag| { model.remove(tag); });
                        taken.extend(expected.into_iter().flatten());
                    }
                    Step::PutBack => for tag in taken.drain(..) {
                        unacked.put_back(tag, delivery(tag));
                        model.insert(tag, delivery(tag));
                    },
                }
                unacked.check_invariants();
                prop_assert_eq!(unacked.count(), model.len());
                let oldest = model.first_key_value().map(|(tag, delivery)| (*tag, *delivery));
                prop_assert_eq!(unacked.oldest(), oldest);
                prop_assert_eq!(unacked.next_tag(), next);
            }
        }
    }
}
