//! How far the average rate over the next t seconds may be off, for each t: the 10 % and 90 %
//! quantiles of what it was off by.

use crate::number::{finite, real_len};

/// Shortest time that has an entry of its own, seconds.
const KNOT_FIRST_SECONDS: f64 = 10.0;

/// Entries, each for twice the time of the one before: 10 s to 121 days.
pub(crate) const KNOTS: usize = 21;

/// Between how fast errors may shrink and grow with time beyond what could be tested: as the
/// average of pure noise, and as a line whose slope is wrong.
const GROWTH_RANGE: [f64; 2] = [-0.5, 1.0];

/// What is off, per second: `[low, high]`, low not above and high not below zero.
pub(crate) type Off = [f64; 2];

/// Errors of average rates by how long the average is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    knots: [Off; KNOTS],
}

impl Spread {
    /// Nothing is off.
    pub(crate) const NONE: Self = Self {
        knots: [[0.0; 2]; KNOTS],
    };

    /// From what was off at some times, shortest first. Between them it goes evenly with the
    /// logarithm of time; before the first it shrinks with time as noise does; beyond the last it
    /// goes on as `growth` (a power of time) says.
    pub(crate) fn from_tests(tests: &[(f64, Off)], growth: f64) -> Self {
        let growth = growth.clamp(GROWTH_RANGE[0], GROWTH_RANGE[1]);
        let (Some(first), Some(last)) = (tests.first(), tests.last()) else {
            return Self::NONE;
        };
        let mut spread = Self::NONE;
        for (index, knot) in spread.knots.iter_mut().enumerate() {
            let at = knot_seconds(index);
            let off = if at <= first.0 {
                first.1.map(|off| off * (first.0 / at).sqrt())
            } else if at >= last.0 {
                last.1.map(|off| off * (at / last.0).powf(growth))
            } else {
                between(tests, at)
            };
            *knot = [finite(off[0]).min(0.0), finite(off[1]).max(0.0)];
        }
        spread
    }

    /// What the average over `seconds` may be off by.
    pub(crate) fn at(&self, seconds: f64) -> Off {
        let place = (seconds.max(KNOT_FIRST_SECONDS) / KNOT_FIRST_SECONDS).log2();
        let index = crate::number::index(place).min(KNOTS - 2);
        let share = (place - real_len(index)).clamp(0.0, 1.0);
        let (before, after) = (self.knots[index], self.knots[index + 1]);
        [0, 1].map(|side| before[side] + (after[side] - before[side]) * share)
    }

    /// Both are off, independently of each other; `other` counts against `self`.
    pub(crate) fn minus(&self, other: &Self) -> Self {
        self.each(|index, [low, high]| {
            let [other_low, other_high] = other.knots[index];
            [-low.hypot(other_high), high.hypot(other_low)]
        })
    }

    /// As if rates were so many times what they are.
    pub(crate) fn times(&self, factor: f64) -> Self {
        let scaled = self.each(|_, off| off.map(|off| off * factor));
        if factor < 0.0 {
            scaled.each(|_, [low, high]| [high, low])
        } else {
            scaled
        }
    }

    /// At least so much is off, at each time.
    pub(crate) fn at_least(&self, least: impl Fn(f64) -> f64) -> Self {
        self.each(|index, [low, high]| {
            let least = finite(least(knot_seconds(index))).max(0.0);
            [low.min(-least), high.max(least)]
        })
    }

    /// The wider of the two at each time.
    pub(crate) fn wider(&self, other: &Self) -> Self {
        self.each(|index, [low, high]| {
            let [other_low, other_high] = other.knots[index];
            [low.min(other_low), high.max(other_high)]
        })
    }

    fn each(&self, change: impl Fn(usize, Off) -> Off) -> Self {
        let mut spread = *self;
        for (index, knot) in spread.knots.iter_mut().enumerate() {
            *knot = change(index, *knot);
        }
        spread
    }
}

fn knot_seconds(index: usize) -> f64 {
    KNOT_FIRST_SECONDS * 2.0_f64.powf(real_len(index))
}

fn between(tests: &[(f64, Off)], at: f64) -> Off {
    for pair in tests.windows(2) {
        let ((from, before), (to, after)) = (pair[0], pair[1]);
        if at <= to {
            let share = (at / from).log2() / (to / from).log2();
            return [0, 1].map(|side| before[side] + (after[side] - before[side]) * share);
        }
    }
    [0.0; 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_joined_and_continued() {
        let tests = [(20.0, [-2.0, 4.0]), (80.0, [-1.0, 2.0])];
        let spread = Spread::from_tests(&tests, -0.5);
        let check = |seconds: f64, expected: Off| {
            let off = spread.at(seconds);
            for (off, expected) in off.iter().zip(expected) {
                assert!((off - expected).abs() < 1e-9, "{off} at {seconds} s");
            }
        };
        check(20.0, [-2.0, 4.0]);
        check(40.0, [-1.5, 3.0]);
        check(80.0, [-1.0, 2.0]);
        check(320.0, [-0.5, 1.0]);
    }

    #[test]
    fn two_that_are_off_make_one_that_is_more_off() {
        let a = Spread::from_tests(&[(10.0, [-3.0, 1.0])], 0.0);
        let b = Spread::from_tests(&[(10.0, [-2.0, 4.0])], 0.0);
        let [low, high] = a.minus(&b).at(1_000.0);
        assert!((low + 5.0).abs() < 1e-9 && (high - 5.0_f64.sqrt()).abs() < 1e-9);
    }

    #[test]
    fn odd_tests_give_no_odd_spread() {
        for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let spread = Spread::from_tests(&[(10.0, [odd, odd]), (20.0, [1.0, -1.0])], odd);
            for seconds in [0.0, 10.0, 15.0, 1e12, f64::INFINITY, f64::NAN] {
                let [low, high] = spread.at(seconds);
                assert!(low <= 0.0 && high >= 0.0, "{low} {high}");
            }
        }
    }
}
