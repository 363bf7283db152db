//! Slows publishers before the cliff: the controller behind the policy key `horizon-slo`.
//!
//! If the stress horizon of a queue is below what its owner asked for, the publishers that
//! contribute most may send only so much that it is not: with L left and an objective of S
//! seconds, L / S per second. That is the whole of the law. Slowed to it with no consumer left, a
//! queue fills as exp(−t / S): the limit is not reached, and publishers are never stopped by us.
//! With consumers, L stays, and so does the rate. Since the allowance follows from what is left,
//! which changes slowly, and not from the rate that it governs, there is no loop to oscillate.
//!
//! Around that: it falls at once and rises slowly; it lets go only when publishers have
//! not needed the restraint for a while; and small differences change nothing.
//!
//! Rejected: a PI controller on the horizon itself. The horizon is a quotient by the governed rate,
//! its gain changes by orders of magnitude as a queue fills, and the average that measures the
//! rate lags.

use crate::estimate::TimeLeft;
use crate::number::{finite, real, seconds};

/// The least share of what they sent that publishers keep: they are slowed, not stopped.
pub const SHARE_MIN: f64 = 0.01;

/// The least that is allowed whatever was sent, messages or bytes per second.
const PER_SECOND_MIN: f64 = 1.0;

/// An allowance falls at once, since what is left is what matters. It rises by two thirds of the way
/// in this time.
const RISE_SECONDS: f64 = 10.0;

/// An allowance that would change by less than this share stays.
const DEAD_BAND: f64 = 0.02;

/// Who sends less than this share of the allowance does not need it.
const UNNEEDED_SHARE: f64 = 0.9;

/// What may flow in must exceed what does by this factor before publishers are let go.
const RELEASE_FACTOR: f64 = 1.2;

/// And that for this share of the objective, at least and at most so long, milliseconds.
const RELEASE_SHARE: f64 = 0.25;
const RELEASE_MILLIS: [u64; 2] = [5_000, 60_000];

/// How long a queue is to hold out without consumers, and how long it would.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pressure {
    /// What is left of the limit that binds, in messages or bytes.
    pub left: u64,
    /// The lower bound of *stress*. It may be some seconds old.
    pub stress_low: TimeLeft,
    /// The rate that is let in now, in messages or bytes per second; of the last second, or a
    /// burst is noticed late.
    pub rate: f64,
    /// The part of it that comes from the publishers who contribute most: the ones to slow.
    pub contributed: f64,
}

/// What the publishers who contribute most may send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowance {
    /// In the unit of the limit that binds, per second.
    pub per_second: f64,
    /// As a share of what they sent when they were first slowed; above [`SHARE_MIN`].
    pub share: f64,
}

/// The state of one queue's restraint.
#[derive(Clone, Debug)]
pub struct Controller {
    objective_millis: u64,
    at_millis: u64,
    restraint: Option<Restraint>,
}

#[derive(Clone, Copy, Debug)]
struct Restraint {
    per_second: f64,
    /// What the publishers sent when it began; more if they have been seen to send more.
    demand: f64,
    /// Since when it has not been needed.
    unneeded_since: Option<u64>,
}

impl Controller {
    /// A controller that lets everything in. `objective_millis` is the policy's `horizon-slo`.
    #[must_use]
    pub fn new(objective_millis: u64, now_millis: u64) -> Self {
        Self {
            objective_millis: objective_millis.max(1),
            at_millis: now_millis,
            restraint: None,
        }
    }

    /// Whether publishers are being slowed.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.restraint.is_some()
    }

    /// Takes a look at the queue, about once a second while it is busy. Returns what the publishers
    /// may send from now on; `None`: what they like.
    pub fn update(&mut self, now_millis: u64, pressure: Pressure) -> Option<Allowance> {
        let passed = seconds(now_millis.saturating_sub(self.at_millis));
        self.at_millis = now_millis;
        let objective = seconds(self.objective_millis);
        let rate = finite(pressure.rate).max(0.0);
        let contributed = finite(pressure.contributed).clamp(0.0, rate);
        // What may flow in altogether so that the objective is met.
        let budget = real(pressure.left) / objective;
        let foreseen = pressure.stress_low < TimeLeft::Millis(self.objective_millis);
        if self.restraint.is_none() && !foreseen && rate <= budget {
            return None;
        }
        let restraint = self.restraint.get_or_insert(Restraint {
            per_second: f64::INFINITY,
            demand: contributed,
            unneeded_since: None,
        });
        restraint.demand = restraint.demand.max(contributed);
        restraint.move_towards(budget - (rate - contributed), passed);
        let ample = !foreseen && rate * RELEASE_FACTOR < budget;
        if ample && contributed < restraint.per_second * UNNEEDED_SHARE {
            let since = *restraint.unneeded_since.get_or_insert(now_millis);
            let [least, most] = RELEASE_MILLIS;
            let share = real(self.objective_millis) * RELEASE_SHARE;
            let wait = share.clamp(real(least), real(most));
            if real(now_millis.saturating_sub(since)) >= wait {
                self.restraint = None;
                return None;
            }
        } else {
            restraint.unneeded_since = None;
        }
        Some(restraint.allowance())
    }
}

impl Restraint {
    fn move_towards(&mut self, wanted: f64, passed: f64) {
        let wanted = wanted.max(self.demand * SHARE_MIN).max(PER_SECOND_MIN);
        let next = if wanted < self.per_second {
            wanted
        } else {
            self.per_second + (wanted - self.per_second) * -(-passed / RISE_SECONDS).exp_m1()
        };
        if (next - self.per_second).abs() > DEAD_BAND * self.per_second.min(next) {
            self.per_second = next;
        }
    }

    fn allowance(&self) -> Allowance {
        let share = if self.demand > 0.0 {
            self.per_second / self.demand
        } else {
            1.0
        };
        Allowance {
            per_second: self.per_second,
            share: share.clamp(SHARE_MIN, 1.0),
        }
    }
}

#[cfg(test)]
mod tests;
