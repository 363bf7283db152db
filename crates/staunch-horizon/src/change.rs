//! Finds the moment since which everything is different: consumers died, a burst began, a batch
//! ended. What was before it says little about what comes.
//!
//! A change is a step that (1) is sharp, (2) is large beside the rates themselves, and (3) is
//! larger than what the series did before, compared over windows of the same length: in a load
//! that comes in bursts one more burst is no change.

use crate::model::Past;
use crate::number::real_len;

/// How many points a change may lie back: half of the series, and not more than this.
const AFTER_MAX: usize = 60;

/// Points before a change with which what follows is compared.
const BEFORE: usize = 10;

/// Fewer points than this show no change.
const POINTS_MIN: usize = 12;

/// Points on each side of the step that must show most of it.
const SHARP_POINTS: usize = 2;

/// How much of the step those must show.
const SHARP_SHARE: f64 = 0.6;

/// A step must be this share of the larger of the rates before and after.
const LARGE_SHARE: f64 = 0.2;

/// A step must be this many times the largest one of the same length before it.
const UNUSUAL_TIMES: f64 = 1.5;

/// How many more windows would have to be seen to be sure of what is usual.
const UNSEEN: f64 = 3.0;

/// A flow below this share of what it was has stopped.
const CEASED_SHARE: f64 = 0.02;

/// A sudden change, and the index of the first point after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// To another level.
    Step(usize),
    /// To nothing.
    Ceased(usize),
}

impl Change {
    pub(crate) fn at(self) -> usize {
        match self {
            Self::Step(at) | Self::Ceased(at) => at,
        }
    }

    /// The same change, one point later.
    pub(crate) fn later(self) -> Self {
        match self {
            Self::Step(at) => Self::Step(at + 1),
            Self::Ceased(at) => Self::Ceased(at + 1),
        }
    }
}

/// The latest change, if there was one.
pub(crate) fn latest(points: &[f64]) -> Option<Change> {
    let count = points.len();
    if count < POINTS_MIN {
        return None;
    }
    let past = Past::new(points, true);
    let candidates = count - AFTER_MAX.min(count / 2)..count;
    if let Some(at) = candidates.clone().find(|&at| ceased(&past, at)) {
        return Some(Change::Ceased(at));
    }
    let mut found: Option<(f64, usize)> = None;
    for at in candidates {
        let size = step(&past, at, count - at);
        if !large(&past, at, size) || !sharp(&past, at, size) || !unusual(&past, at, size) {
            continue;
        }
        // How much of what the points vary by is explained if the step is here.
        let (before, after) = (real_len(BEFORE.min(at)), real_len(count - at));
        let explained = size * size * before * after / (before + after);
        if found.is_none_or(|(most, _)| explained > most) {
            found = Some((explained, at));
        }
    }
    found.map(|(_, at)| Change::Step(at))
}

/// The average of `length` points from `at`, less that of the points before.
fn step(past: &Past<'_>, at: usize, length: usize) -> f64 {
    past.mean(at, at + length) - past.mean(at.saturating_sub(BEFORE), at)
}

fn large(past: &Past<'_>, at: usize, size: f64) -> bool {
    let before = past.mean(at.saturating_sub(BEFORE), at).abs();
    let after = past.mean(at, past.len()).abs();
    size.abs() > LARGE_SHARE * before.max(after)
}

fn sharp(past: &Past<'_>, at: usize, size: f64) -> bool {
    let after = past.mean(at, (at + SHARP_POINTS).min(past.len()));
    let before = past.mean(at.saturating_sub(SHARP_POINTS), at);
    (after - before) / size > SHARP_SHARE
}

fn unusual(past: &Past<'_>, at: usize, size: f64) -> bool {
    let length = past.len() - at;
    let usual = (BEFORE.min(at / 2)..=at.saturating_sub(length))
        .map(|earlier| step(past, earlier, length).abs())
        .fold(0.0, f64::max);
    // Few windows of this length have been seen: what is usual may be more than those showed.
    let seen = real_len(at) / real_len(length);
    size.abs() > UNUSUAL_TIMES * (1.0 + UNSEEN / seen) * usual
}

/// Whether a flow has stopped that never stopped for so long before. Where it comes in bursts, that
/// is less of a step than some of those, and yet a change.
fn ceased(past: &Past<'_>, at: usize) -> bool {
    let length = past.len() - at;
    let nothing = CEASED_SHARE * past.mean(0, at).abs();
    if nothing <= 0.0 {
        return false;
    }
    let still = |from: usize| past.mean(from, from + length).abs() <= nothing;
    still(at) && !(0..=at.saturating_sub(length)).any(still)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Levels with how many points each lasts, and a little noise.
    fn series(levels: &[(f64, usize)]) -> Vec<f64> {
        let mut points = Vec::new();
        for &(level, count) in levels {
            for _ in 0..count {
                let noise = real_len(points.len() * 7 % 5) - 2.0;
                points.push(level + noise);
            }
        }
        points
    }

    #[test]
    fn a_step_is_found_where_it_is() {
        for lasted in [1, 2, 5, 19] {
            let points = series(&[(100.0, 41), (300.0, lasted)]);
            assert_eq!(
                latest(&points),
                Some(Change::Step(41)),
                "{lasted} points ago"
            );
            let points = series(&[(100.0, 41), (0.0, lasted)]);
            assert_eq!(
                latest(&points).map(Change::at),
                Some(41),
                "{lasted} points ago"
            );
        }
    }

    #[test]
    fn noise_and_slopes_are_no_change() {
        assert_eq!(latest(&series(&[(100.0, 60)])), None);
        let ramp: Vec<f64> = (0..60).map(|x| f64::from(x) * 10.0 + 50.0).collect();
        assert_eq!(latest(&ramp), None);
        assert_eq!(latest(&[0.0; 60]), None);
    }

    #[test]
    fn a_burst_like_those_before_is_no_change() {
        let mut levels = [(100.0, 8), (500.0, 2)].repeat(5);
        levels.extend([(100.0, 8), (500.0, 2)]);
        assert_eq!(latest(&series(&levels)), None);
        let mut ended = levels.clone();
        ended.push((0.0, 2));
        assert_eq!(latest(&series(&ended)), Some(Change::Ceased(60)));
        levels.push((2_500.0, 2));
        assert_eq!(latest(&series(&levels)), Some(Change::Step(60)));
    }

    #[test]
    fn short_and_odd_series_have_none() {
        assert_eq!(latest(&[]), None);
        assert_eq!(latest(&[1.0; 5]), None);
    }
}
