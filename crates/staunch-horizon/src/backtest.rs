//! Chooses how a rate goes on by trying every model on the past, and learns from that how far off
//! it will be.
//!
//! *Rolling origin*: at points of the past each model foretells the average rate of the time that
//! follows, as long as the one we have to foretell, knowing only what came before. The model whose
//! errors were smallest wins; a simpler one unless another is clearly better. What the winner was
//! off by, at this and all shorter times, are the quantiles of the interval (as in split conformal
//! prediction). Errors of averages, not of single steps: the time to a limit depends on the sum of
//! what flows, in which noise cancels and a wrong level does not.
//!
//! Where the past is short, tests overlap and are few. Then quantiles are too narrow; they are
//! blended with those of Student's distribution for as many tests as do not overlap.
//!
//! Rejected: `augurs-ets` and `augurs-mstl` (`docs/decisions/2026-11-23-horizon-own-models.md`).

use crate::model::{Model, Past};
use crate::number::real_len;
use crate::spread::{Off, Spread};

/// Points of the past at which models are tried.
const ORIGINS_MAX: usize = 48;

/// Steps before the first of them.
const STEPS_BEFORE: usize = 6;

/// The longest so many lengths decide which model is best; each is half of the next. The longest
/// alone would not notice what began lately.
const LENGTHS_JUDGED: usize = 3;

/// The power of an origin's place in the past by which its errors count.
const RECENCY: i32 = 2;

/// Windows that are tried, in steps; the whole past is another one.
const WINDOWS: [usize; 4] = [3, 6, 16, 48];

/// Windows for how today differs from the usual, in steps.
const SEASON_WINDOWS: [usize; 2] = [3, 12];

/// How many steps ahead errors are measured at most.
pub(crate) const STEPS_AHEAD_MAX: usize = 256;

/// A model that can do more must err less than this times the best simpler one.
const CLEARLY: f64 = 0.9;

/// Standard deviations between which 80 % of a normal distribution lie.
pub(crate) const NORMAL_80: f64 = 1.2816;

/// So many tests count as much as the assumption that errors are normal.
const TESTS_TRUSTED: f64 = 12.0;

/// What the past says about the future.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) model: Model,
    pub(crate) spread: Spread,
}

/// What is known about a series.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    /// Length of a step, seconds.
    pub(crate) step_seconds: f64,
    /// How many steps ahead are asked for.
    pub(crate) steps_ahead: usize,
    /// Whether the rate can be negative.
    pub(crate) signed: bool,
}

/// What one model was off by: for each length of time, over all origins, oldest first.
struct Trial {
    model: Model,
    errors: Vec<Vec<f64>>,
    /// Average size of the errors at the longest time, recent ones counting more.
    loss: f64,
}

/// Chooses a model for `points`, oldest first; there must be at least one.
pub(crate) fn choose(points: &[f64], task: Task) -> Verdict {
    let past = Past::new(points, task.signed);
    let count = past.len();
    let ahead = task
        .steps_ahead
        .clamp(1, STEPS_AHEAD_MAX)
        .min((count / 3).max(1));
    let lengths: Vec<usize> = lengths(ahead);
    let origins = origins(count);
    let mut best: Option<Trial> = None;
    for model in candidates(count, task) {
        if let Some(trial) = try_model(&past, model, &origins, &lengths) {
            let bar = best.as_ref().map_or(f64::INFINITY, |best| {
                best.loss * if simple(model) { 1.0 } else { CLEARLY }
            });
            if trial.loss < bar {
                best = Some(trial);
            }
        }
    }
    match best {
        Some(trial) => Verdict {
            model: trial.model,
            spread: spread(&trial, &lengths, count, task),
        },
        None => untested(&past, task),
    }
}

/// Powers of two up to `ahead`, and `ahead` itself.
fn lengths(ahead: usize) -> Vec<usize> {
    let mut lengths: Vec<usize> = std::iter::successors(Some(1), |length| Some(length * 2))
        .take_while(|&length| length < ahead)
        .collect();
    lengths.push(ahead);
    lengths
}

fn origins(count: usize) -> Vec<usize> {
    let (first, last) = (STEPS_BEFORE, count.saturating_sub(1));
    if last < first {
        return Vec::new();
    }
    let stride = (last - first) / ORIGINS_MAX + 1;
    let mut origins: Vec<usize> = (first..=last).rev().step_by(stride).collect();
    origins.reverse();
    origins
}

fn simple(model: Model) -> bool {
    matches!(model, Model::Level { .. })
}

/// From the steadiest to the most agile.
fn candidates(count: usize, task: Task) -> Vec<Model> {
    let windows: Vec<usize> = std::iter::once(count)
        .chain(WINDOWS.into_iter().rev().filter(|&window| window < count))
        .collect();
    let mut models: Vec<Model> = Vec::new();
    models.extend(windows.iter().map(|&window| Model::Level { window }));
    models.extend(windows.iter().map(|&window| Model::Trend { window }));
    for period_seconds in [86_400.0, 7.0 * 86_400.0] {
        let period = crate::number::index((period_seconds / task.step_seconds).round());
        for window in SEASON_WINDOWS {
            if period + period / 2 + window < count {
                models.push(Model::Season { period, window });
                if !task.signed {
                    models.push(Model::Swing { period, window });
                }
            }
        }
    }
    models
}

/// At an origin the "whole past" is what was before it.
fn as_of(model: Model, count: usize, origin: usize) -> Model {
    match model {
        Model::Level { window } if window == count => Model::Level { window: origin },
        Model::Trend { window } if window == count => Model::Trend { window: origin },
        Model::Level { .. } | Model::Trend { .. } | Model::Season { .. } | Model::Swing { .. } => {
            model
        }
    }
}

fn try_model(past: &Past<'_>, model: Model, origins: &[usize], lengths: &[usize]) -> Option<Trial> {
    let ahead = *lengths.last()?;
    let mut rates = vec![0.0; ahead];
    let mut errors: Vec<Vec<f64>> = vec![Vec::with_capacity(origins.len()); lengths.len()];
    let mut losses = vec![(0.0, 0.0); lengths.len()];
    let mut tried = 0;
    for &origin in origins {
        let model = as_of(model, past.len(), origin);
        if !model.knows_enough(origin) {
            continue;
        }
        tried += 1;
        past.project(model, origin, &mut rates);
        let weight = (real_len(origin) / real_len(past.len())).powi(RECENCY);
        let (mut foretold, mut steps) = (0.0, 0);
        for (index, &length) in lengths.iter().enumerate() {
            if origin + length > past.len() {
                break;
            }
            foretold += rates[steps..length].iter().sum::<f64>();
            steps = length;
            let error = past.mean(origin, origin + length) - foretold / real_len(length);
            errors[index].push(error);
            losses[index].0 += weight * error * error;
            losses[index].1 += weight;
        }
    }
    // A model that could be tried at few points only has proved little.
    let enough = tried * 3 >= origins.len() && losses.iter().all(|&(_, weights)| weights > 0.0);
    let from = lengths.len().saturating_sub(LENGTHS_JUDGED);
    enough.then(|| Trial {
        model,
        errors,
        loss: losses[from..]
            .iter()
            .map(|(loss, weights)| loss / weights)
            .sum::<f64>()
            .sqrt(),
    })
}

fn spread(trial: &Trial, lengths: &[usize], count: usize, task: Task) -> Spread {
    let mut tests: Vec<(f64, Off)> = Vec::with_capacity(lengths.len());
    for (&length, errors) in lengths.iter().zip(&trial.errors) {
        let apart = real_len(count.saturating_sub(STEPS_BEFORE)) / real_len(length);
        let seconds = real_len(length) * task.step_seconds;
        tests.push((seconds, quantiles(errors, apart)));
    }
    Spread::from_tests(&tests, growth(trial, lengths))
}

/// The 10 % and 90 % quantiles of errors of which so many do not overlap.
fn quantiles(errors: &[f64], apart: f64) -> Off {
    let mut sorted = errors.to_vec();
    sorted.sort_by(f64::total_cmp);
    let tests = real_len(sorted.len());
    let free = apart.min(tests).max(1.0);
    let squares: f64 = sorted.iter().map(|error| error * error).sum();
    let student = student_80(free) * (squares / tests.max(1.0)).sqrt();
    let trust = free / (free + TESTS_TRUSTED);
    // As in conformal prediction: the quantile among the tests and the one to come.
    let place = ((free + 1.0) * 0.9 / free).min(1.0);
    let high = at_place(&sorted, place);
    let low = at_place(&sorted, 1.0 - place);
    [
        (low * trust - student * (1.0 - trust)).min(0.0),
        (high * trust + student * (1.0 - trust)).max(0.0),
    ]
}

fn at_place(sorted: &[f64], place: f64) -> f64 {
    let last = real_len(sorted.len().saturating_sub(1));
    let place = place * last;
    let below = crate::number::index(place);
    let (Some(low), Some(high)) = (
        sorted.get(below),
        sorted.get((below + 1).min(sorted.len().saturating_sub(1))),
    ) else {
        return 0.0;
    };
    low + (high - low) * (place - place.floor())
}

/// The 90 % quantile of Student's distribution with so many degrees of freedom, at least one.
fn student_80(free: f64) -> f64 {
    NORMAL_80 * (1.0 + 0.66 / free + 0.45 / (free * free))
}

/// By which power of time errors go on beyond the longest that could be tested.
fn growth(trial: &Trial, lengths: &[usize]) -> f64 {
    let squares = |errors: &[f64]| {
        let sum: f64 = errors.iter().map(|error| error * error).sum();
        (sum / real_len(errors.len().max(1))).sqrt()
    };
    let slow = matches!(trial.model, Model::Trend { .. });
    let assumed = if slow { 0.5 } else { -0.1 };
    let [.., a, _, b] = trial.errors.as_slice() else {
        return assumed;
    };
    let [.., from, _, to] = lengths else {
        return assumed;
    };
    let (a, b) = (squares(a), squares(b));
    if a <= 0.0 || b <= 0.0 {
        return assumed;
    }
    f64::midpoint(
        (b / a).log2() / (real_len(*to) / real_len(*from)).log2(),
        assumed,
    )
}

/// Share of the rate that is taken for uncertain when there is nothing to test on.
const UNTESTED_SHARE: f64 = 0.15;

/// What to say when the past is too short for tests: the average, and a wide interval.
fn untested(past: &Past<'_>, task: Task) -> Verdict {
    let count = past.len();
    let level = past.mean(0, count);
    let squares: f64 = (0..count)
        .map(|index| (past.mean(index, index + 1) - level).powi(2))
        .sum();
    let noise = (squares / real_len(count.saturating_sub(1).max(1))).sqrt();
    let level_noise = noise / real_len(count).sqrt();
    let off = student_80(real_len(count).max(1.0)) * noise.hypot(level_noise);
    let spread = Spread::from_tests(&[(task.step_seconds, [-off, off])], -0.25)
        .at_least(|_| level.abs() * UNTESTED_SHARE);
    Verdict {
        model: Model::Level { window: count },
        spread,
    }
}
