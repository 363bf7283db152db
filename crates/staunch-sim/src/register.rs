//! A fact of the topology that clients write and read concurrently: "this binding exists".
//!
//! Writes overlap reads, and some are never answered, so the value during an interval is often
//! not one but a set of possible ones. A write could be the one a read sees if it began before
//! the read ended and no other write certainly came between them: one that succeeded, began
//! after this one ended and ended before the read began. Linearizability of a register asks for
//! no more than that when every check is about one read.

use crate::history::Stamp;

/// One definition operation; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Operation(pub u64);

/// What is known about a write's effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// It is or was under way; whether it took effect is unknown.
    Unknown,
    /// It took effect.
    Certain,
    /// It was refused.
    Void,
}

#[derive(Clone, Copy, Debug)]
struct Write {
    operation: Option<Operation>,
    value: bool,
    started: Stamp,
    ended: Option<Stamp>,
    effect: Effect,
}

/// What a read of an interval may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Possible {
    /// It may see presence.
    pub present: bool,
    /// It may see absence.
    pub absent: bool,
}

/// The register; absent at first.
#[derive(Clone, Debug, Default)]
pub struct Register {
    writes: Vec<Write>,
}

impl Register {
    /// A write begins.
    pub fn begin(&mut self, operation: Operation, value: bool, started: Stamp) {
        let operation = Some(operation);
        self.writes.push(Write {
            operation,
            value,
            started,
            ended: None,
            effect: Effect::Unknown,
        });
    }

    /// A write was answered.
    pub fn finish(&mut self, operation: Operation, success: bool, ended: Stamp) {
        let effect = if success {
            Effect::Certain
        } else {
            Effect::Void
        };
        self.end(operation, effect, ended);
    }

    /// A write can have no effect any more, and nobody knows whether it had one.
    pub fn abandon(&mut self, operation: Operation, ended: Stamp) {
        self.end(operation, Effect::Unknown, ended);
    }

    /// It is absent from here on, whoever wrote what before.
    pub fn clear(&mut self, at: Stamp) {
        self.writes.push(Write {
            operation: None,
            value: false,
            started: at,
            ended: Some(at),
            effect: Effect::Certain,
        });
    }

    /// It may be absent from here on until it is written again, whoever wrote what before.
    pub fn doubt(&mut self, at: Stamp) {
        self.writes.push(Write {
            operation: None,
            value: false,
            started: at,
            ended: None,
            effect: Effect::Unknown,
        });
    }

    /// What a read may see that began at `from` and ended before `to` (or has not ended).
    pub fn read(&self, from: Stamp, to: Option<Stamp>) -> Possible {
        // What ended before this began was overwritten when the read began.
        let settled_from = self.last_certain(from);
        let is_overwritten =
            |ended: Stamp| settled_from.is_some_and(|settled_from| settled_from > ended);
        let mut possible = Possible {
            present: false,
            absent: settled_from.is_none(),
        };
        for write in &self.writes {
            let seen = write.effect != Effect::Void
                && to.is_none_or(|to| write.started < to)
                && !write.ended.is_some_and(is_overwritten);
            possible.present |= seen && write.value;
            possible.absent |= seen && !write.value;
        }
        possible
    }

    /// When the last write began that certainly took effect before `from`.
    fn last_certain(&self, from: Stamp) -> Option<Stamp> {
        let certain = self.writes.iter().filter(|write| {
            write.effect == Effect::Certain && write.ended.is_some_and(|ended| ended < from)
        });
        certain.map(|write| write.started).max()
    }

    fn end(&mut self, operation: Operation, effect: Effect, ended: Stamp) {
        for write in &mut self.writes {
            if write.operation == Some(operation) {
                write.effect = effect;
                write.ended = Some(ended);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Possible = Possible {
        present: true,
        absent: true,
    };
    const PRESENT: Possible = Possible {
        present: true,
        absent: false,
    };
    const ABSENT: Possible = Possible {
        present: false,
        absent: true,
    };

    fn read(register: &Register, from: usize, to: usize) -> Possible {
        register.read(Stamp(from), Some(Stamp(to)))
    }

    #[test]
    fn certain_writes_decide_and_overlapping_ones_do_not() {
        let mut register = Register::default();
        assert_eq!(read(&register, 1, 2), ABSENT);
        register.begin(Operation(1), true, Stamp(10));
        assert_eq!(read(&register, 11, 12), BOTH);
        register.finish(Operation(1), true, Stamp(20));
        assert_eq!(read(&register, 1, 9), ABSENT);
        assert_eq!(read(&register, 15, 16), BOTH);
        assert_eq!(read(&register, 21, 22), PRESENT);
        register.begin(Operation(2), false, Stamp(30));
        register.finish(Operation(2), false, Stamp(32));
        assert_eq!(read(&register, 33, 34), PRESENT);
        register.clear(Stamp(40));
        assert_eq!(read(&register, 41, 42), ABSENT);
    }

    #[test]
    fn an_abandoned_write_stays_possible_until_the_next_certain_one() {
        let mut register = Register::default();
        register.begin(Operation(1), true, Stamp(10));
        register.abandon(Operation(1), Stamp(12));
        assert_eq!(read(&register, 100, 101), BOTH);
        register.begin(Operation(2), true, Stamp(110));
        register.finish(Operation(2), true, Stamp(111));
        assert_eq!(read(&register, 112, 113), PRESENT);
    }
}
