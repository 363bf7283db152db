//! How good a set of foretold times was.

use staunch_horizon::TimeLeft;

use super::Run;

/// What came of a set of runs.
#[derive(Clone, Copy, Debug)]
pub struct Score {
    pub runs: usize,
    /// Median of |foretold - measured| / measured: of the model, of the straight lines through one
    /// hour and 15 minutes.
    pub errors: [f64; 3],
    /// Share of runs whose measured time was in the interval, before it, after it.
    pub inside: f64,
    pub before: f64,
    pub after: f64,
    /// Median of the interval's width over the measured time.
    pub width: f64,
}

fn seconds(time: TimeLeft) -> f64 {
    time.millis()
        .map_or(f64::INFINITY, |millis| millis as f64 / 1_000.0)
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The error of one foretold time.
pub fn error(foretold: Option<f64>, measured: f64) -> f64 {
    foretold.map_or(f64::INFINITY, |foretold| {
        (foretold - measured).abs() / measured
    })
}

impl Score {
    /// Of the runs that ended.
    pub fn of<'a>(runs: impl Iterator<Item = &'a Run>) -> Self {
        let mut errors: [Vec<f64>; 3] = Default::default();
        let (mut below, mut above, mut widths) = (0.0, 0.0, Vec::new());
        for run in runs {
            let Some(measured) = run.measured else {
                continue;
            };
            let at = seconds(run.foretold.at);
            errors[0].push(error(Some(at), measured));
            errors[1].push(error(run.lines[0], measured));
            errors[2].push(error(run.lines[1], measured));
            let (low, high) = (seconds(run.foretold.low), seconds(run.foretold.high));
            below += f64::from(measured < low);
            above += f64::from(measured > high);
            widths.push((high - low) / measured);
        }
        let runs = errors[0].len();
        let share = |count: f64| count / runs.max(1) as f64;
        Self {
            runs,
            errors: errors.map(median),
            inside: 1.0 - share(below + above),
            before: share(below),
            after: share(above),
            width: median(widths),
        }
    }
}
