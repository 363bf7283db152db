//! Numbers over time: the last ones, how fast they move, and a bounded past.

use std::collections::VecDeque;

/// Points that a series remembers: ten minutes of rounds of five seconds, and one to start from.
pub const POINTS_MAX: usize = 121;

/// Numbers of one thing, that change together.
#[derive(Clone, Debug)]
pub struct Series<const N: usize> {
    /// The last ones.
    now: [u64; N],
    /// How much they changed in the round in which they changed last.
    change: [i64; N],
    /// That round.
    round: u64,
    /// Points in time, milliseconds, at which they came to be what they then were; oldest first.
    /// None: there was no room to remember them.
    past: Option<VecDeque<(u64, [u64; N])>>,
}

/// A round: the samples of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    pub(crate) number: u64,
    /// When, milliseconds of the wall clock.
    pub(crate) at_millis: u64,
    /// When the one before it was.
    pub(crate) before_millis: u64,
}

/// A span of the past and the steps in which it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// How far back, milliseconds.
    pub age_millis: u64,
    /// The step, milliseconds; not 0.
    pub step_millis: u64,
}

/// A number at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The number.
    pub sample: u64,
    /// When, milliseconds of the wall clock.
    pub timestamp: u64,
}

/// A number's past within a window.
#[derive(Clone, Debug, PartialEq)]
pub struct Points {
    /// Newest first.
    pub samples: Vec<Point>,
    /// Their average.
    pub average: f64,
    /// How much the number grew in a second, on average.
    pub average_rate: f64,
}

impl Round {
    /// When, milliseconds of the wall clock.
    #[must_use]
    pub fn at_millis(&self) -> u64 {
        self.at_millis
    }

    /// Nobody has looked before.
    pub(crate) fn is_first(&self) -> bool {
        self.number <= 1
    }
}

impl<const N: usize> Default for Series<N> {
    fn default() -> Self {
        Self {
            now: [0; N],
            change: [0; N],
            round: 0,
            past: None,
        }
    }
}

impl<const N: usize> Series<N> {
    /// The last numbers.
    #[must_use]
    pub fn now(&self) -> &[u64; N] {
        &self.now
    }

    /// Whether any of them was ever something else than 0.
    #[must_use]
    pub fn has_moved(&self) -> bool {
        self.now.iter().any(|number| *number != 0)
    }

    /// How much a number changed in a second in this round: negative for what shrinks.
    ///
    /// # Panics
    /// If there are not that many.
    #[must_use]
    pub fn rate(&self, place: usize, round: &Round) -> f64 {
        let span_millis = round.at_millis.saturating_sub(round.before_millis);
        if self.round != round.number || span_millis == 0 {
            return 0.0;
        }
        let change = self.change[place];
        let rate = real(change.unsigned_abs()) / (real(span_millis) / 1000.0);
        if change < 0 { -rate } else { rate }
    }

    /// The numbers of this round. What is seen for the first time has no rate yet, unless it
    /// began to be since the round before.
    pub(crate) fn put(&mut self, numbers: [u64; N], round: &Round) {
        let change = |place: usize| {
            let (now, before) = (numbers[place], self.now[place]);
            let size = i64::try_from(now.abs_diff(before)).unwrap_or(i64::MAX);
            if now >= before { size } else { -size }
        };
        let changes = std::array::from_fn(change);
        if self.round == round.number {
            // Another part of the same round.
            self.change =
                std::array::from_fn(|place| self.change[place].saturating_add(changes[place]));
        } else {
            self.change = changes;
        }
        (self.now, self.round) = (numbers, round.number);
        let Some(past) = &mut self.past else { return };
        match past.back_mut() {
            Some(last) if last.0 == round.at_millis => last.1 = numbers,
            Some(last) if last.1 == numbers => {}
            Some(_) | None => past.push_back((round.at_millis, numbers)),
        }
        if past.len() > POINTS_MAX {
            past.pop_front();
        }
    }

    /// The numbers began to be what they are before anybody looked: they have not changed now.
    pub(crate) fn start(&mut self, numbers: [u64; N], round: &Round) {
        self.put(numbers, round);
        self.change = [0; N];
    }

    /// From now on the past is remembered.
    pub(crate) fn remember(&mut self) {
        self.past.get_or_insert_default();
    }

    pub(crate) fn is_remembered(&self) -> bool {
        self.past.is_some()
    }

    /// A number's past, as far as it is remembered; none if it is not.
    ///
    /// # Panics
    /// If there are not that many numbers.
    #[must_use]
    pub fn points(&self, place: usize, window: Window, round: &Round) -> Option<Points> {
        let past = self.past.as_ref()?;
        let step = window.step_millis.max(1);
        let last = round.at_millis - round.at_millis % step;
        let first = last.saturating_sub(window.age_millis);
        let at = |time: u64| {
            let known = past.partition_point(|(at, _)| *at <= time);
            known.checked_sub(1).map(|index| past[index].1[place])
        };
        let times = (0..).map(|number: u64| last.saturating_sub(number.saturating_mul(step)));
        let times = times.take_while(|time| *time >= first).take(POINTS_MAX);
        let samples: Vec<_> = times
            .map_while(|timestamp| {
                let sample = at(timestamp)?;
                Some(Point { sample, timestamp })
            })
            .collect();
        let sum: f64 = samples.iter().map(|point| real(point.sample)).sum();
        let average_rate = match (samples.first(), samples.last()) {
            (Some(new), Some(old)) if new.timestamp > old.timestamp => {
                let grown = real(new.sample) - real(old.sample);
                grown / (real(new.timestamp - old.timestamp) / 1000.0)
            }
            (Some(_) | None, Some(_) | None) => 0.0,
        };
        Some(Points {
            average: sum / real(samples.len().max(1) as u64),
            average_rate,
            samples,
        })
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "beyond 2^53 the last digits of a count do not matter"
)]
pub(crate) fn real(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round(number: u64) -> Round {
        Round {
            number,
            at_millis: number * 5_000,
            before_millis: number.saturating_sub(1) * 5_000,
        }
    }

    const MINUTE: Window = Window {
        age_millis: 20_000,
        step_millis: 5_000,
    };

    #[test]
    fn a_rate_is_that_of_the_last_round_and_ends_with_it() {
        let mut series = Series::<2>::default();
        series.put([100, 7], &round(1));
        series.put([200, 2], &round(2));
        assert!((series.rate(0, &round(2)) - 20.0).abs() < 1e-9);
        assert!((series.rate(1, &round(2)) + 1.0).abs() < 1e-9);
        assert!(series.rate(0, &round(3)).abs() < 1e-9);
    }

    #[test]
    fn the_parts_of_a_round_add_up() {
        let mut series = Series::<1>::default();
        series.put([100], &round(1));
        series.put([150], &round(2));
        series.put([200], &round(2));
        assert!((series.rate(0, &round(2)) - 20.0).abs() < 1e-9);
    }

    #[test]
    fn the_past_stays_what_it_was_until_it_changes() {
        let mut series = Series::<1>::default();
        series.remember();
        series.put([10], &round(1));
        series.put([30], &round(3));
        let points = series
            .points(0, MINUTE, &round(4))
            .expect("it is remembered");
        let samples: Vec<_> = points
            .samples
            .iter()
            .map(|it| (it.timestamp, it.sample))
            .collect();
        assert_eq!(
            samples,
            [(20_000, 30), (15_000, 30), (10_000, 10), (5_000, 10)]
        );
        assert!((points.average - 20.0).abs() < 1e-9);
        assert!((points.average_rate - 20.0 / 15.0).abs() < 1e-9);
        assert_eq!(Series::<1>::default().points(0, MINUTE, &round(4)), None);
    }

    proptest! {
        /// Whatever comes in, the past is bounded and every number is one.
        #[test]
        fn the_past_is_bounded(numbers in prop::collection::vec(any::<u64>(), 1..400), age: u64, step: u64) {
            let mut series = Series::<1>::default();
            series.remember();
            let mut number = 0;
            for value in numbers {
                number += 1;
                series.put([value], &round(number));
                prop_assert!(series.rate(0, &round(number)).is_finite());
            }
            let window = Window { age_millis: age, step_millis: step };
            let points = series.points(0, window, &round(number)).expect("it is remembered");
            prop_assert!(points.samples.len() <= POINTS_MAX);
            prop_assert!(points.average.is_finite() && points.average_rate.is_finite());
        }
    }
}
