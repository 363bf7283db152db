//! How a flow goes on, and when what it fills is full.

use crate::backtest::{self, STEPS_AHEAD_MAX, Task};
use crate::change::{self, Change};
use crate::estimate::{Estimate, NEVER_AFTER_MILLIS, TimeLeft};
use crate::model::{Model, Past};
use crate::number::{index, real_len, seconds};
use crate::series::Signal;
use crate::spread::Spread;

mod segments;

use segments::{Segment, cut, merged};

/// Grids on which a flow is looked at: step and number of steps. The coarser ones see days.
const GRIDS: [Grid; 4] = [
    Grid::new(10_000, 60),
    Grid::new(60_000, 180),
    Grid::new(600_000, 1_008),
    Grid::new(3_600_000, 336),
];

/// The grid that is searched for sudden changes, if it has [`POINTS_ENOUGH`].
const CHANGE_GRID: usize = 1;

/// Steps of the finest grid in one of [`CHANGE_GRID`].
const FINE_IN_MINUTE: usize = 6;

/// A time to foretell should have this many steps, or the grid is too coarse.
const STEPS_WANTED: f64 = 6.0;

/// With fewer points than this a grid is not used if there is a finer one.
const POINTS_ENOUGH: usize = 24;

/// How far ahead to look when no limit is in sight: a few hours, in which the season counts.
const HORIZON_DEFAULT_SECONDS: f64 = 4.0 * 3_600.0;

/// How often the grid is chosen anew because the time turned out to be another.
const PASSES_MAX: usize = 3;

/// Beyond its last segment a forecast is followed in steps that grow by this factor.
const TAIL_STRIDE: f64 = 1.05;

/// Share of the rate that is taken for uncertain when only a few seconds are known.
const YOUNG_SHARE: f64 = 0.5;

/// What a rate that has just changed is scaled by at most to guess its noise.
const CHANGE_SCALE_MAX: f64 = 5.0;

#[derive(Clone, Copy, Debug)]
struct Grid {
    step_millis: u64,
    points_max: usize,
}

impl Grid {
    const fn new(step_millis: u64, points_max: usize) -> Self {
        Self {
            step_millis,
            points_max,
        }
    }

    fn series(self, signal: &Signal<'_>) -> Vec<f64> {
        signal.series(self.step_millis, self.points_max)
    }
}

/// Rates to come, and how far their averages may be off.
#[derive(Clone, Debug)]
pub(crate) struct Forecast {
    segments: Vec<Segment>,
    /// The rate after the last segment.
    tail: f64,
    spread: Spread,
    model: Model,
}

/// A flow that is to be foretold.
#[derive(Clone, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) inflow: Signal<'a>,
    /// `None` for what only grows.
    pub(crate) outflow: Option<Signal<'a>>,
    /// What others add; `None` if there is nobody else.
    pub(crate) others: Option<Signal<'a>>,
    /// All of it: what comes in less what goes out, and what others add.
    pub(crate) net: Signal<'a>,
}

/// A stretch of the past in which nothing has changed suddenly.
struct Regime {
    step_millis: u64,
    points: Vec<f64>,
    /// What was before the change.
    before: Vec<f64>,
    /// Whether nothing flows since the change.
    ceased: bool,
}

impl Regime {
    /// On a grid of that tier.
    fn since(tier: usize, points: &[f64], change: Option<Change>) -> Self {
        let at = change.map_or(0, Change::at);
        Self {
            step_millis: GRIDS[tier].step_millis,
            points: points[at..].to_vec(),
            before: points[..at].to_vec(),
            ceased: matches!(change, Some(Change::Ceased(_))),
        }
    }
}

impl Forecast {
    /// Foretells `subject` so that the time until it has grown by `gap` is known as well as can be.
    /// `held` is what is there now: less than nothing there cannot be.
    pub(crate) fn until(subject: &Subject<'_>, held: f64, gap: f64) -> Self {
        let lately = mean(&GRIDS[0].series(&subject.net));
        let mut horizon = match gap / lately {
            guess if guess > 0.0 && guess < seconds(NEVER_AFTER_MILLIS) => guess,
            _ => HORIZON_DEFAULT_SECONDS,
        };
        let mut forecast = Self::of(subject, horizon);
        for _ in 1..PASSES_MAX {
            let reached = forecast
                .reaches(held, gap, 0.0)
                .unwrap_or(HORIZON_DEFAULT_SECONDS);
            if grid_for(reached) == grid_for(horizon) && reached <= horizon * 2.0 {
                break;
            }
            horizon = reached;
            forecast = Self::of(subject, horizon);
        }
        forecast
    }

    fn of(subject: &Subject<'_>, horizon: f64) -> Self {
        let Some(outflow) = &subject.outflow else {
            return Self::of_signal(&subject.net, horizon, regime(&subject.net), false);
        };
        let (inside, outside) = (regime(&subject.inflow), regime(outflow));
        // One side has changed or ended (a burst began, consumers died): what is known of the other
        // still holds. Otherwise the difference is steadier than its parts, which move together.
        let ended = [&inside, &outside]
            .iter()
            .any(|regime| regime.as_ref().is_some_and(|regime| regime.ceased));
        if !ended && inside.is_some() == outside.is_some() {
            return Self::of_signal(&subject.net, horizon, regime(&subject.net), true);
        }
        let inflow = Self::of_signal(&subject.inflow, horizon, inside, false);
        let outflow = Self::of_signal(outflow, horizon, outside, false);
        let own = inflow.minus(&outflow);
        subject.others.as_ref().map_or_else(
            || own.clone(),
            |others| {
                let others = Self::of_signal(others, horizon, regime(others), true);
                own.plus(&others)
            },
        )
    }

    fn of_signal(signal: &Signal<'_>, horizon: f64, regime: Option<Regime>, signed: bool) -> Self {
        let Regime {
            step_millis,
            points,
            before,
            ..
        } = regime.unwrap_or_else(|| steady(signal, horizon));
        if points.is_empty() {
            return Self::still();
        }
        let step_seconds = seconds(step_millis);
        let task = Task {
            step_seconds,
            steps_ahead: index((horizon / step_seconds).ceil()),
            signed,
        };
        let verdict = backtest::choose(&points, task);
        let mut spread = verdict.spread;
        if !before.is_empty() {
            let (now, then) = (mean(&points), mean(&before));
            let scale = if signed {
                1.0
            } else {
                (now / then.max(f64::EPSILON)).clamp(0.0, CHANGE_SCALE_MAX)
            };
            spread = spread.wider(&backtest::choose(&before, task).spread.times(scale));
        }
        Self::project(&Past::new(&points, signed), verdict.model, &spread, task)
    }

    fn project(past: &Past<'_>, model: Model, spread: &Spread, task: Task) -> Self {
        let ahead = task.steps_ahead.clamp(1, STEPS_AHEAD_MAX);
        let steps = match model {
            Model::Level { .. } => 1,
            Model::Trend { window } => (2 * window + 1).min(2 * ahead),
            Model::Season { period, .. } | Model::Swing { period, .. } => {
                ahead.max(period) + period
            }
        };
        let mut rates = vec![0.0; steps];
        past.project(model, past.len(), &mut rates);
        let tail = match model {
            Model::Level { .. } | Model::Trend { .. } => rates.last().copied().unwrap_or(0.0),
            Model::Season { period, .. } | Model::Swing { period, .. } => {
                mean(&rates[steps - period..])
            }
        };
        let segment = |rate| Segment {
            seconds: task.step_seconds,
            rate,
        };
        Self {
            segments: rates.into_iter().map(segment).collect(),
            tail,
            spread: *spread,
            model,
        }
    }

    /// Foretells one flow for the next few hours.
    pub(crate) fn of_flow(signal: &Signal<'_>, signed: bool) -> Self {
        Self::of_signal(signal, HORIZON_DEFAULT_SECONDS, regime(signal), signed)
    }

    /// Nothing flows.
    fn still() -> Self {
        Self {
            segments: Vec::new(),
            tail: 0.0,
            spread: Spread::NONE,
            model: Model::Level { window: 1 },
        }
    }

    /// The same rate for ever, as far as it is known after a few seconds.
    pub(crate) fn young(rate: f64) -> Self {
        Self {
            tail: rate,
            spread: Spread::NONE.at_least(|_| rate.abs() * YOUNG_SHARE),
            ..Self::still()
        }
    }

    /// Which model was chosen; of two flows, that of what comes in.
    pub(crate) fn model(&self) -> Model {
        self.model
    }

    /// What comes in by this forecast less what goes out by the other.
    pub(crate) fn minus(&self, other: &Self) -> Self {
        Self {
            segments: self.merged(other, |ours, theirs| ours - theirs),
            tail: self.tail - other.tail,
            spread: self.spread.minus(&other.spread),
            model: self.model,
        }
    }

    pub(crate) fn plus(&self, other: &Self) -> Self {
        self.minus(&other.times(-1.0))
    }

    /// This rate for ever.
    pub(crate) fn exactly(rate: f64) -> Self {
        Self {
            tail: rate,
            ..Self::still()
        }
    }

    /// What is foretold from a later moment on.
    pub(crate) fn after(&self, from_seconds: f64) -> Self {
        Self {
            segments: cut(&self.segments, self.tail, from_seconds, None),
            ..self.clone()
        }
    }

    /// At least this rate at all times.
    pub(crate) fn at_least(&self, least: f64) -> Self {
        let segments = self.segments.iter().map(|segment| Segment {
            rate: segment.rate.max(least),
            ..*segment
        });
        Self {
            segments: segments.collect(),
            tail: self.tail.max(least),
            ..self.clone()
        }
    }

    fn merged(&self, other: &Self, join: impl Fn(f64, f64) -> f64) -> Vec<Segment> {
        merged(
            (&self.segments, self.tail),
            (&other.segments, other.tail),
            join,
        )
    }

    /// Rates times a factor.
    pub(crate) fn times(&self, factor: f64) -> Self {
        let segments = self.segments.iter().map(|segment| Segment {
            rate: segment.rate * factor,
            ..*segment
        });
        Self {
            segments: segments.collect(),
            tail: self.tail * factor,
            spread: self.spread.times(factor),
            model: self.model,
        }
    }

    /// This forecast for `until_seconds`, then the other.
    pub(crate) fn then(&self, until_seconds: f64, other: &Self) -> Self {
        let mut segments = cut(&self.segments, self.tail, 0.0, Some(until_seconds));
        segments.extend(cut(&other.segments, other.tail, until_seconds, None));
        Self {
            segments,
            tail: other.tail,
            spread: self.spread.wider(&other.spread),
            model: self.model,
        }
    }

    /// How much more than `held` there is after so many seconds; with averages off to one side as
    /// in [`Self::reaches`]. Not less than nothing is left.
    pub(crate) fn grown(&self, held: f64, after_seconds: f64, side: f64) -> f64 {
        let mut sum = 0.0_f64;
        for segment in cut(&self.segments, self.tail, 0.0, Some(after_seconds)) {
            sum = (sum + segment.rate * segment.seconds).max(-held);
        }
        (sum + self.off(after_seconds, side) * after_seconds).max(-held)
    }

    /// When `held` has grown by `gap`, with its interval.
    pub(crate) fn time_to_grow(&self, held: f64, gap: f64) -> Estimate {
        if gap <= 0.0 {
            return Estimate::NOW;
        }
        let [at, low, high] =
            [0.0, 1.0, -1.0].map(|side| TimeLeft::from_seconds(self.reaches(held, gap, side)));
        Estimate::new(at, low, high)
    }

    /// What an average over so many seconds may be off by.
    fn off(&self, seconds: f64, side: f64) -> f64 {
        let [low, high] = self.spread.at(seconds);
        if side > 0.0 { high * side } else { -low * side }
    }

    /// Seconds until `gap` has been added: as foreseen (`side` 0), or with averages off as far as
    /// they are nine times in ten, to the high side (1) or the low one (-1).
    pub(crate) fn reaches(&self, held: f64, gap: f64, side: f64) -> Option<f64> {
        let (mut passed, mut sum, mut seen) = (0.0_f64, 0.0_f64, 0.0_f64);
        let last = seconds(NEVER_AFTER_MILLIS);
        let mut segments = self.segments.iter();
        while passed < last {
            let next = segments.next().copied().unwrap_or(Segment {
                seconds: (passed * (TAIL_STRIDE - 1.0)).max(10.0),
                rate: self.tail,
            });
            sum = (sum + next.rate * next.seconds).max(-held);
            let after = passed + next.seconds;
            let value = sum + self.off(after, side) * after;
            if value >= gap {
                let share = (gap - seen) / (value - seen).max(f64::MIN_POSITIVE);
                return Some(passed + next.seconds * share.clamp(0.0, 1.0));
            }
            seen = value;
            passed += next.seconds;
        }
        None
    }
}

fn mean(points: &[f64]) -> f64 {
    points.iter().sum::<f64>() / real_len(points.len().max(1))
}

/// The finest grid on which a time this long has not too many steps.
fn grid_for(horizon: f64) -> usize {
    let coarser = |grid: &Grid| seconds(grid.step_millis) * STEPS_WANTED <= horizon;
    GRIDS.iter().rposition(coarser).unwrap_or(0)
}

/// The past on the grid that fits, since the last change that this grid shows.
fn steady(signal: &Signal<'_>, horizon: f64) -> Regime {
    let mut tier = grid_for(horizon);
    loop {
        let points = GRIDS[tier].series(signal);
        if tier == 0 || points.len() >= POINTS_ENOUGH {
            let change = change::latest(&points).filter(|_| tier > CHANGE_GRID);
            return Regime::since(tier, &points, change);
        }
        tier -= 1;
    }
}

/// What has been since the latest sudden change, if there was one.
fn regime(signal: &Signal<'_>) -> Option<Regime> {
    let fine = GRIDS[0].series(signal);
    let minutes = GRIDS[CHANGE_GRID].series(signal);
    let exact = change::latest(&fine);
    if minutes.len() < POINTS_ENOUGH {
        return exact.map(|change| Regime::since(0, &fine, Some(change)));
    }
    let change = change::latest(&minutes)?;
    let lasted = minutes.len() - change.at();
    // The grid of minutes knows that it happened, the finer one when.
    let within = |exact: &Change| {
        (fine.len() - exact.at()).abs_diff(lasted * FINE_IN_MINUTE) <= FINE_IN_MINUTE
    };
    if let Some(exact) = exact.filter(within) {
        return Some(Regime::since(0, &fine, Some(exact)));
    }
    // The change lies within the first minute after it.
    let change = if lasted > 2 { change.later() } else { change };
    Some(Regime::since(CHANGE_GRID, &minutes, Some(change)))
}
