//! Virtual time and what happens next.

use std::{cmp::Reverse, collections::BinaryHeap};

use staunch_types::Timestamp;

/// Nanoseconds in a microsecond.
pub const MICROS: u64 = 1_000;
/// Nanoseconds in a millisecond.
pub const MILLIS: u64 = 1_000_000;
/// Nanoseconds in a second.
pub const SECONDS: u64 = 1_000_000_000;

/// Events by time, and at equal times in the order they were added: that makes a run repeatable.
#[derive(Debug)]
pub struct Schedule<E> {
    now: u64,
    seq: u64,
    heap: BinaryHeap<Reverse<Entry<E>>>,
}

#[derive(Debug)]
struct Entry<E> {
    at: u64,
    seq: u64,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.seq) == (other.at, other.seq)
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.seq).cmp(&(other.at, other.seq))
    }
}

impl<E> Schedule<E> {
    /// Time begins at one second, so that "before now" is a time too.
    pub fn new() -> Self {
        Self {
            now: SECONDS,
            seq: 0,
            heap: BinaryHeap::new(),
        }
    }

    /// The time of the event that is being handled.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.now)
    }

    /// As [`Self::now`], in nanoseconds.
    pub fn now_nanos(&self) -> u64 {
        self.now
    }

    /// Plans `event` for `delay` nanoseconds from now.
    pub fn after(&mut self, delay: u64, event: E) {
        self.at(self.now + delay, event);
    }

    /// Plans `event` for a time; one in the past happens now.
    pub fn at(&mut self, at: u64, event: E) {
        self.seq += 1;
        self.heap.push(Reverse(Entry {
            at: at.max(self.now),
            seq: self.seq,
            event,
        }));
    }

    /// Jumps to the next event.
    pub fn advance(&mut self) -> Option<E> {
        let Reverse(entry) = self.heap.pop()?;
        self.now = entry.at;
        Some(entry.event)
    }
}

impl<E> Default for Schedule<E> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_first_then_order_of_planning() {
        let mut schedule = Schedule::new();
        schedule.after(5, 'c');
        schedule.after(1, 'a');
        schedule.after(1, 'b');
        schedule.at(0, 'z');
        let order: String = std::iter::from_fn(|| schedule.advance()).collect();
        assert_eq!(order, "zabc");
        assert_eq!(schedule.now_nanos(), SECONDS + 5);
    }
}
