//! Which message comes next when it is not simply the oldest.
//!
//! Every message has a level. Those of level 0 stand in the order of their indexes and are found
//! by the chunks' bits, as in a plain queue. Of the others the ready ones are kept here, by level
//! and chunk, as masks: a run of neighbours costs one entry.
//!
//! With [`Priorities::Strict`] the level is the priority, and the highest goes first. With
//! [`Priorities::TwoToOne`] there are three: normal, high, and, before both, what was given back
//! (as in RabbitMQ's quorum queues, where returned messages are served first, in the order of
//! their return).

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use super::chunk::{bits, split};
use super::entries::Position;
use super::{Queue, Released};
use crate::settings::Priorities;

/// Level of messages with a high priority ([`Priorities::TwoToOne`]).
const LEVEL_HIGH: u8 = 1;

/// Level of messages that were given back ([`Priorities::TwoToOne`]).
const LEVEL_RETURNED: u8 = 2;

/// Lowest priority that is high ([`Priorities::TwoToOne`]).
const PRIORITY_HIGH_MIN: u8 = 5;

/// High messages for one normal one while there are both ([`Priorities::TwoToOne`]).
const WEIGHT: u8 = 2;

/// The levels above 0 of a queue with priorities.
#[derive(Debug)]
pub(super) struct Levels {
    /// The highest level; none with [`Priorities::TwoToOne`].
    level_max: Option<u8>,
    /// Ready messages: highest level first, then by chunk.
    ready: BTreeMap<(Reverse<u8>, u64), u64>,
    /// Those that were given back, in the order of their return ([`Priorities::TwoToOne`]). One
    /// that has left otherwise is still here; the first has not.
    returned: VecDeque<u64>,
    count: u64,
    /// Messages handed out since the last one for which a normal message was due.
    turn: u8,
    /// Every message of a level above 0 that was handed out lies below this index.
    handed_out_below: u64,
}

impl Levels {
    /// A message of a level above 0 has been handed out.
    pub(super) fn was_handed_out(&mut self, index: u64) {
        self.handed_out_below = self.handed_out_below.max(index + 1);
    }

    /// None for a queue without priorities.
    pub(super) fn new(priorities: Priorities) -> Option<Box<Self>> {
        let level_max = match priorities {
            Priorities::None => return None,
            Priorities::Strict(max) => Some(max),
            Priorities::TwoToOne => None,
        };
        Some(Box::new(Self {
            level_max,
            ready: BTreeMap::new(),
            returned: VecDeque::new(),
            count: 0,
            turn: 0,
            handed_out_below: 0,
        }))
    }

    /// Whether they are those of a quorum queue ([`Priorities::TwoToOne`]).
    pub(super) fn are_of_quorum(&self) -> bool {
        self.level_max.is_none()
    }

    /// Level of a message that comes with this priority.
    pub(super) fn level_of(&self, priority: u8) -> u8 {
        match self.level_max {
            Some(max) => priority.min(max),
            None => u8::from(priority >= PRIORITY_HIGH_MIN) * LEVEL_HIGH,
        }
    }

    /// Level of a message that is given back.
    fn level_given_back(&self, level: u8) -> u8 {
        match self.level_max {
            Some(_) => level,
            None => LEVEL_RETURNED,
        }
    }

    /// Messages here.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn handed_out_below(&self) -> u64 {
        self.handed_out_below
    }

    pub(super) fn insert(&mut self, level: u8, index: u64) {
        let (number, bit) = split(index);
        let mask = self.ready.entry((Reverse(level), number)).or_default();
        debug_assert!(*mask >> bit & 1 == 0, "a message is here once");
        *mask |= 1 << bit;
        self.count += 1;
        if self.is_returned(level) {
            self.returned.push_back(index);
        }
    }

    fn remove(&mut self, level: u8, index: u64) {
        let (number, bit) = split(index);
        let key = (Reverse(level), number);
        let mask = self.ready.get_mut(&key).expect("a ready message is here");
        assert!(*mask >> bit & 1 == 1, "a ready message is here");
        *mask &= !(1 << bit);
        if *mask == 0 {
            self.ready.remove(&key);
        }
        self.count -= 1;
        // Nearly always the first; it must not stay, as it may be given back once more.
        if self.is_returned(level)
            && let Some(at) = self.returned.iter().position(|other| *other == index)
        {
            self.returned.remove(at);
        }
    }

    fn contains(&self, level: u8, index: u64) -> bool {
        let (number, bit) = split(index);
        let mask = self.ready.get(&(Reverse(level), number));
        mask.is_some_and(|mask| mask >> bit & 1 == 1)
    }

    /// Whether messages of this level were given back and stand in the order of that.
    fn is_returned(&self, level: u8) -> bool {
        self.are_of_quorum() && level == LEVEL_RETURNED
    }

    pub(super) fn clear(&mut self) {
        self.ready.clear();
        self.returned.clear();
        self.count = 0;
    }

    /// Level and index of all, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u8, u64)> {
        let returned = self.returned.iter().copied();
        let returned = returned.filter(|index| self.contains(LEVEL_RETURNED, *index));
        let others = self.ready.iter();
        let others = others.filter(|((Reverse(level), _), _)| !self.is_returned(*level));
        returned
            .map(|index| (LEVEL_RETURNED, index))
            .chain(others.flat_map(|(&(Reverse(level), number), &mask)| {
                bits(mask).map(move |bit| (level, number * u64::from(u64::BITS) + u64::from(bit)))
            }))
    }

    /// Whether the first message of level 0, at `plain`, goes before this one of a higher level
    /// in this turn. When a normal one is due the older of both goes.
    fn yields(&self, (level, index): (u8, u64), turn: u8, plain: u64) -> bool {
        self.level_max.is_none() && level == LEVEL_HIGH && turn == WEIGHT && plain < index
    }

    /// The turn after one in which a message of this level went.
    fn turn_after(&self, turn: u8, level: u8) -> u8 {
        match self.level_max {
            None if level < LEVEL_RETURNED => (turn + 1) % (WEIGHT + 1),
            None | Some(_) => turn,
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.ready.len() * size_of::<((Reverse<u8>, u64), u64)>()
            + self.returned.capacity() * size_of::<u64>()
    }

    pub(super) fn check_invariants(&self, level_of: impl Fn(u64) -> Option<u8>) {
        assert!(self.turn <= WEIGHT, "turns go round");
        assert!(self.ready.values().all(|mask| *mask != 0), "no empty masks");
        let mut count = 0;
        for (level, index) in self.iter() {
            assert_eq!(
                level_of(index),
                Some(level),
                "it is ready, and in its level"
            );
            count += 1;
        }
        assert_eq!(count, self.count, "raised messages are counted");
        let first = self.returned.front();
        let is_there = first.is_none_or(|first| self.contains(LEVEL_RETURNED, *first));
        assert!(is_there, "the first that was given back is ready");
    }
}

impl Queue {
    /// The next message in order.
    #[inline]
    pub(super) fn next_ready(&self) -> Option<Position> {
        if self.ready.count == 0 {
            return None;
        }
        let next = match &self.levels {
            None => self.next_plain(),
            Some(levels) => self.next_by_level(levels),
        };
        debug_assert!(next.is_some(), "a ready message is found");
        next
    }

    #[cold]
    fn next_by_level(&self, levels: &Levels) -> Option<Position> {
        let Some(raised) = levels.iter().next() else {
            return self.next_plain();
        };
        // Asked only when the answer can matter: the walk to it may be long.
        if levels.yields(raised, levels.turn, 0)
            && self.ready.count > levels.count
            && let Some(plain) = self.next_plain()
            && levels.yields(raised, levels.turn, plain.index.0)
        {
            return Some(plain);
        }
        self.entries.position(raised.1)
    }

    #[inline]
    fn next_plain(&self) -> Option<Position> {
        self.entries.next_ready(self.plain_from())
    }

    /// No ready message of level 0 lies below this index.
    #[inline]
    fn plain_from(&self) -> u64 {
        if self.returned_count > 0 {
            self.returned_from
        } else {
            self.fresh
        }
    }

    /// Ready messages in the order in which they would be handed out.
    pub fn upcoming(&self) -> impl Iterator<Item = Released> {
        let levels = self.levels.as_deref();
        let mut turn = levels.map_or(0, |levels| levels.turn);
        let mut raised = levels.into_iter().flat_map(Levels::iter).peekable();
        let mut plain = self.entries.ready_from(self.plain_from()).peekable();
        std::iter::from_fn(move || {
            let Some(levels) = levels else {
                return plain.next();
            };
            let first = raised.peek().copied().filter(|first| {
                let plain = plain.peek();
                plain.is_none_or(|plain| !levels.yields(*first, turn, plain.0.0))
            });
            let Some((level, index)) = first else {
                turn = levels.turn_after(turn, 0);
                return plain.next();
            };
            turn = levels.turn_after(turn, level);
            raised.next();
            let position = self.entries.position(index)?;
            Some(self.entries.at(position))
        })
    }

    /// The message that is next leaves the order, by its turn.
    #[inline]
    pub(super) fn pass(&mut self, position: Position) {
        let index = position.index.0;
        if self.levels.is_some() && self.pass_raised(position) {
            return;
        }
        if index < self.fresh {
            self.returned_count -= 1;
            self.returned_from = index + 1;
        } else {
            self.fresh = index + 1;
        }
    }

    /// As [`Queue::pass`] in a queue with priorities; false if the message's level is 0, and
    /// there is more to do.
    #[cold]
    fn pass_raised(&mut self, position: Position) -> bool {
        let level = self.entries.chunk(position).level(position.bit());
        let Some(levels) = &mut self.levels else {
            return false;
        };
        levels.turn = levels.turn_after(levels.turn, level);
        if level > 0 {
            let index = position.index.0;
            levels.remove(level, index);
            levels.was_handed_out(index);
        }
        level > 0
    }

    /// A ready message leaves the order, wherever it stands.
    pub(super) fn withdraw(&mut self, position: Position) {
        if let Some(levels) = &mut self.levels {
            let level = self.entries.chunk(position).level(position.bit());
            if level > 0 {
                return levels.remove(level, position.index.0);
            }
        }
        if position.index.0 < self.fresh {
            self.returned_count -= 1;
        }
    }

    /// After messages at the front were withdrawn: later searches begin behind them.
    pub(super) fn skip_departed(&mut self) {
        let raised_count = self.levels.as_ref().map_or(0, |levels| levels.count);
        let has_fresh = self.ready.count > raised_count + self.returned_count;
        let next = has_fresh
            .then(|| self.entries.next_ready(self.fresh))
            .flatten();
        self.fresh = next.map_or(self.entries.next_index(), |next| next.index.0);
    }

    /// A message that was given back takes its place again.
    pub(super) fn stand_again(&mut self, index: u64) {
        if let Some(levels) = &mut self.levels {
            let position = self.entries.position(index).expect("it was given back");
            let chunk = self.entries.chunk_mut(position);
            let level = levels.level_given_back(chunk.level(position.bit()));
            if level > 0 {
                chunk.set_level(position.bit(), level);
                return levels.insert(level, index);
            }
        }
        self.returned_from = if self.returned_count == 0 {
            index
        } else {
            self.returned_from.min(index)
        };
        self.returned_count += 1;
    }
}
