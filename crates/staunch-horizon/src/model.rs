//! The models a rate may follow: a level, a trend, a season. Each can be asked from any point of
//! the past, as if nothing after it were known; that is what the backtest does.
//!
//! Simple on purpose: all of them are averages and straight lines through a window, a few
//! nanoseconds each by running sums. What chooses between them, and says how far they are off, is
//! the backtest on the queue's own past (`backtest.rs`).

use crate::number::{finite, real_len};

/// A trend is continued for so many times the window it was seen in; then the rate stays.
const TREND_REACH: usize = 2;

/// How a rate goes on. Windows and periods are in steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// As the average of the window.
    Level {
        /// How many steps are averaged.
        window: usize,
    },
    /// Along the straight line through the window.
    Trend {
        /// How many steps the line is fitted to.
        window: usize,
    },
    /// As at the same time of earlier periods, plus how much more it was lately.
    Season {
        /// Steps of a day or a week.
        period: usize,
        /// How many steps tell how much more it was lately.
        window: usize,
    },
    /// As at the same time of earlier periods, times how many times that it was lately.
    Swing {
        /// Steps of a day or a week.
        period: usize,
        /// How many steps tell how many times it was lately.
        window: usize,
    },
}

impl Model {
    /// Whether the model can say anything from the first `origin` points.
    pub(crate) fn knows_enough(self, origin: usize) -> bool {
        match self {
            Self::Level { window } => window >= 1 && window <= origin,
            Self::Trend { window } => window >= 4 && window <= origin,
            Self::Season { period, window } | Self::Swing { period, window } => {
                period >= 2 && window >= 1 && period + window < origin
            }
        }
    }
}

/// A series with its running sums.
#[derive(Debug)]
pub(crate) struct Past<'a> {
    points: &'a [f64],
    /// `sums[i]`: of the points before `i`.
    sums: Vec<f64>,
    /// The same of point times index.
    moments: Vec<f64>,
    /// Whether the rate can be negative (a net flow).
    signed: bool,
}

impl<'a> Past<'a> {
    pub(crate) fn new(points: &'a [f64], signed: bool) -> Self {
        let (mut sum, mut moment) = (0.0, 0.0);
        let mut past = Self {
            points,
            sums: vec![0.0],
            moments: vec![0.0],
            signed,
        };
        for (index, point) in points.iter().enumerate() {
            sum += point;
            moment += point * real_len(index);
            past.sums.push(sum);
            past.moments.push(moment);
        }
        past
    }

    pub(crate) fn len(&self) -> usize {
        self.points.len()
    }

    /// Average of the points from `from` up to, without, `to`; both within the series.
    pub(crate) fn mean(&self, from: usize, to: usize) -> f64 {
        (self.sums[to] - self.sums[from]) / real_len((to - from).max(1))
    }

    /// Writes the rates of the steps after the first `origin` points.
    pub(crate) fn project(&self, model: Model, origin: usize, rates: &mut [f64]) {
        match model {
            Model::Level { window } => rates.fill(self.mean(origin - window, origin)),
            Model::Trend { window } => self.line(window, origin, rates),
            Model::Season { period, window } => {
                let usual = self.usual_lately(period, window, origin);
                let more = self.mean(origin - window, origin) - usual;
                self.repeat(period, origin, rates, |rate| rate + more);
            }
            Model::Swing { period, window } => {
                let usual = self.usual_lately(period, window, origin);
                let lately = self.mean(origin - window, origin);
                let times = if usual.abs() > f64::EPSILON {
                    finite(lately / usual)
                } else {
                    1.0
                };
                self.repeat(period, origin, rates, |rate| rate * times);
            }
        }
        if !self.signed {
            for rate in rates {
                *rate = rate.max(0.0);
            }
        }
    }

    fn line(&self, window: usize, origin: usize, rates: &mut [f64]) {
        let (from, count) = (origin - window, real_len(window));
        let mean = self.mean(from, origin);
        let moment = self.moments[origin]
            - self.moments[from]
            - (real_len(from) + (count - 1.0) / 2.0) * (self.sums[origin] - self.sums[from]);
        let slope = moment / (count * (count * count - 1.0) / 12.0);
        // What comes in is not trusted to become less than it has been.
        let lowest = self.points[from..origin]
            .iter()
            .copied()
            .fold(f64::INFINITY, f64::min);
        let floor = if self.signed {
            f64::NEG_INFINITY
        } else {
            lowest
        };
        for (ahead, rate) in rates.iter_mut().enumerate() {
            let ahead = ahead.min(window * TREND_REACH);
            let line = mean + slope * (f64::midpoint(count, 1.0) + real_len(ahead));
            *rate = line.max(floor);
        }
    }

    /// The average of earlier periods at the time of `index`, of points before `origin` only;
    /// each with its neighbours, which takes off some noise.
    fn usual(&self, period: usize, index: usize, origin: usize) -> Option<f64> {
        let (mut total, mut periods) = (0.0, 0.0);
        let mut at = index.checked_sub(period)?;
        loop {
            if at < origin {
                total += self.mean(at.saturating_sub(1), (at + 2).min(origin));
                periods += 1.0;
            }
            match at.checked_sub(period) {
                Some(earlier) => at = earlier,
                None => break,
            }
        }
        (periods > 0.0).then(|| total / periods)
    }

    /// What is usual for the last `window` points.
    fn usual_lately(&self, period: usize, window: usize, origin: usize) -> f64 {
        let (mut total, mut points) = (0.0, 0.0);
        for index in origin - window..origin {
            if let Some(usual) = self.usual(period, index, index) {
                total += usual;
                points += 1.0;
            }
        }
        if points > 0.0 { total / points } else { 0.0 }
    }

    fn repeat(&self, period: usize, origin: usize, rates: &mut [f64], adjust: impl Fn(f64) -> f64) {
        for (ahead, rate) in rates.iter_mut().enumerate() {
            let usual = self.usual(period, origin + ahead % period, origin);
            *rate = adjust(usual.unwrap_or(0.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(points: &[f64], model: Model, expected: &[f64]) {
        let past = Past::new(points, false);
        let mut rates = vec![0.0; expected.len()];
        past.project(model, points.len(), &mut rates);
        for (rate, expected) in rates.iter().zip(expected) {
            assert!(
                (rate - expected).abs() < 1e-6,
                "{rates:?}, not {expected:?}"
            );
        }
    }

    #[test]
    fn a_level_is_the_average_of_its_window() {
        check(
            &[9.0, 1.0, 2.0, 3.0],
            Model::Level { window: 3 },
            &[2.0, 2.0],
        );
    }

    #[test]
    fn a_trend_goes_on_and_then_stays() {
        let points: Vec<f64> = (0..4).map(|x| f64::from(x) * 2.0).collect();
        let mut expected: Vec<f64> = (4..=12).map(|x| f64::from(x) * 2.0).collect();
        expected.push(24.0);
        check(&points, Model::Trend { window: 4 }, &expected);
    }

    #[test]
    fn a_falling_trend_ends_at_the_lowest_that_was_seen() {
        check(
            &[4.0, 3.0, 2.0, 1.0],
            Model::Trend { window: 4 },
            &[1.0, 1.0],
        );
    }

    #[test]
    fn a_season_repeats_at_todays_level() {
        // Three days of 12 steps, then a morning that is twice as busy.
        let day: Vec<f64> = [4.0, 8.0].iter().flat_map(|&rate| [rate; 6]).collect();
        let mut points = day.repeat(3);
        points.extend([8.0; 5]);
        let ahead = |model| {
            let past = Past::new(&points, false);
            let mut rates = [0.0; 4];
            past.project(model, points.len(), &mut rates);
            rates[3]
        };
        let (period, window) = (12, 3);
        let swing = ahead(Model::Swing { period, window });
        assert!((swing - 16.0).abs() < 1e-9, "{swing}");
        let season = ahead(Model::Season { period, window });
        assert!((season - 12.0).abs() < 1e-9, "{season}");
    }

    #[test]
    fn what_needs_more_past_than_there_is_says_so() {
        assert!(!Model::Level { window: 21 }.knows_enough(20));
        assert!(!Model::Trend { window: 3 }.knows_enough(20));
        let season = |window| Model::Season { period: 10, window };
        assert!(season(9).knows_enough(20));
        assert!(!season(10).knows_enough(20));
    }
}
