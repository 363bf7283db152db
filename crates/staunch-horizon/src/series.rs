//! Rates on a regular grid, newest last, out of histories that keep the past in uneven pieces.

use crate::flow::FLOWS;
use crate::history::{History, Piece, STEPS_MILLIS};
use crate::number::{finite, seconds};

/// From this step on older pieces may be coarser than the grid, so that the daily course is known
/// for two weeks. On finer grids that would pass off averages as steadiness.
const MIXED_STEP_MILLIS: u64 = 600_000;

/// How much of each flow counts, in the order of `Flow`.
pub(crate) type Weights = [f64; FLOWS];

/// A history, opened for reading.
#[derive(Clone, Debug)]
pub(crate) struct Timeline {
    pieces: Vec<Piece>,
}

impl Timeline {
    pub(crate) fn of(history: &History) -> Self {
        Self {
            pieces: history.pieces(),
        }
    }

    /// Weighted rates per second of up to `points_max` steps before the end, newest first; `None`
    /// where less than half of a step was counted.
    fn newest_first(
        &self,
        step_millis: u64,
        points_max: usize,
        weights: Weights,
    ) -> Vec<Option<f64>> {
        let piece_max = if step_millis >= MIXED_STEP_MILLIS {
            STEPS_MILLIS[STEPS_MILLIS.len() - 1]
        } else {
            step_millis
        };
        let mut points = Vec::new();
        let Some(end_millis) = self.pieces.last().map(|piece| piece.end_millis) else {
            return points;
        };
        let (mut amount, mut known) = (0.0, 0.0);
        let mut cell_end = end_millis;
        for piece in self.pieces.iter().rev() {
            let length = piece.end_millis - piece.start_millis;
            if length > piece_max {
                break;
            }
            let mut upper = piece.end_millis;
            while upper > piece.start_millis {
                let cell_start = cell_end.saturating_sub(step_millis);
                let lower = piece.start_millis.max(cell_start);
                if let Some(amounts) = piece.amounts {
                    let inside = seconds(upper - lower);
                    known += inside;
                    amount += dot(amounts, weights) * inside / seconds(length);
                }
                upper = lower;
                if lower == cell_start {
                    let counted = known * 2.0 >= seconds(step_millis);
                    points.push(counted.then(|| finite(amount / known)));
                    if points.len() == points_max || cell_start == 0 {
                        return points;
                    }
                    (amount, known, cell_end) = (0.0, 0.0, cell_start);
                }
            }
        }
        points
    }
}

fn dot(amounts: [f64; FLOWS], weights: Weights) -> f64 {
    amounts.iter().zip(weights).map(|(a, w)| a * w).sum()
}

/// A weighted sum of flows of several histories that end at the same time.
#[derive(Clone, Debug)]
pub(crate) struct Signal<'a> {
    terms: Vec<(&'a Timeline, Weights)>,
}

impl<'a> Signal<'a> {
    pub(crate) fn new(timeline: &'a Timeline, weights: Weights) -> Self {
        Self {
            terms: vec![(timeline, weights)],
        }
    }

    pub(crate) fn plus(mut self, timeline: &'a Timeline, weights: Weights) -> Self {
        self.terms.push((timeline, weights));
        self
    }

    /// Rates per second, oldest first, of at most `points_max` steps before the end.
    ///
    /// What one history does not reach back to counts as nothing in it. What nobody counted is
    /// drawn straight from its neighbours; at the old end it is left out.
    pub(crate) fn series(&self, step_millis: u64, points_max: usize) -> Vec<f64> {
        let mut sum: Vec<Option<f64>> = Vec::new();
        for &(timeline, weights) in &self.terms {
            let points = timeline.newest_first(step_millis, points_max, weights);
            let both = sum.len().min(points.len());
            for (total, point) in sum.iter_mut().zip(&points) {
                *total = total.zip(*point).map(|(a, b)| a + b);
            }
            sum.extend(points.into_iter().skip(both));
        }
        while sum.last().is_some_and(Option::is_none) {
            sum.pop();
        }
        sum.reverse();
        bridged(&sum)
    }
}

/// Fills gaps by straight lines; one at the newest end keeps the last value.
fn bridged(points: &[Option<f64>]) -> Vec<f64> {
    let mut filled: Vec<f64> = Vec::with_capacity(points.len());
    for (index, point) in points.iter().enumerate() {
        let value = point.unwrap_or_else(|| {
            let before = filled.last().copied().unwrap_or(0.0);
            let mut ahead = 1.0;
            for next in points.iter().skip(index + 1) {
                ahead += 1.0;
                if let Some(after) = next {
                    return before + (after - before) / ahead;
                }
            }
            before
        });
        filled.push(value);
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Counters;

    const START: u64 = 24 * 3_600_000;
    const MESSAGES_IN: Weights = [1.0, 0.0, 0.0, 0.0];

    fn record(history: &mut History, from: u64, seconds: u64, per_second: u64) {
        for at in (from..from + seconds * 1_000).step_by(10_000) {
            let flowed = Counters {
                messages_in: per_second * 10,
                messages_out: per_second,
                ..Counters::default()
            };
            history.record(at, at + 10_000, flowed);
        }
    }

    fn check(points: &[f64], expected: &[f64]) {
        assert_eq!(points.len(), expected.len(), "{points:?}");
        for (point, expected) in points.iter().zip(expected) {
            assert!(
                (point - expected).abs() < 0.01 * expected.abs() + 1e-9,
                "{points:?}"
            );
        }
    }

    #[test]
    fn a_grid_ends_with_the_history() {
        let mut history = History::new();
        record(&mut history, START, 60, 100);
        record(&mut history, START + 60_000, 30, 400);
        let timeline = Timeline::of(&history);
        let signal = Signal::new(&timeline, MESSAGES_IN);
        check(&signal.series(30_000, 10), &[100.0, 100.0, 400.0]);
        check(&signal.series(60_000, 10), &[250.0]);
        check(&signal.series(10_000, 2), &[400.0, 400.0]);
    }

    #[test]
    fn terms_are_added_and_a_younger_history_counts_as_nothing() {
        let (mut old, mut young) = (History::new(), History::new());
        record(&mut old, START, 180, 100);
        record(&mut young, START + 120_000, 60, 50);
        let (old, young) = (Timeline::of(&old), Timeline::of(&young));
        let signal = Signal::new(&old, MESSAGES_IN).plus(&young, [-1.0, 1.0, 0.0, 0.0]);
        check(&signal.series(60_000, 10), &[100.0, 100.0, 55.0]);
    }

    #[test]
    fn gaps_are_bridged() {
        let mut history = History::new();
        record(&mut history, START, 60, 100);
        record(&mut history, START + 180_000, 60, 400);
        let timeline = Timeline::of(&history);
        let signal = Signal::new(&timeline, MESSAGES_IN);
        check(&signal.series(60_000, 10), &[100.0, 200.0, 300.0, 400.0]);
    }

    #[test]
    fn fine_grids_do_not_reach_into_coarse_pieces() {
        let mut history = History::new();
        record(&mut history, START, 8 * 3_600, 100);
        let timeline = Timeline::of(&history);
        let signal = Signal::new(&timeline, MESSAGES_IN);
        assert!(signal.series(10_000, 1_000).len() <= 60);
        assert!(signal.series(60_000, 1_000).len() <= 180);
        assert_eq!(signal.series(600_000, 1_000).len(), 48);
        assert!(
            Signal::new(&Timeline::of(&History::new()), MESSAGES_IN)
                .series(10_000, 5)
                .is_empty()
        );
    }
}
