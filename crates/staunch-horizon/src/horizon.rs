//! T = C / R: how long a queue, a virtual host or a node can hold out.
//!
//! Four times, each with what ends it:
//!
//! * *now*: (C − N) / (`R_in` − `R_out`), if all goes on as foreseen;
//! * *stress*: (C − N) / `R_in`, if every consumer stopped this moment. Of an empty queue that is
//!   C / R;
//! * *peak*: stress at the rate that one minute in a hundred exceeds;
//! * *to empty*: N / (`R_out` − `R_in`).
//!
//! R is a forecast, not a number: the time is when what flows adds up to C − N. Where several
//! limits bind, the one that is reached first counts, whatever its size.
//!
//! A disk is shared. A queue's *stress* there means that its own consumers stop while all other
//! queues go on as now; a node's, that all consumers stop.

use crate::capacity::{Limit, Outcome, Resource};
use crate::estimate::{Estimate, TimeLeft};
use crate::flow::Rates;
use crate::history::{History, Peak};
use crate::model::Model;
use crate::number::real;
use crate::view::View;

/// A limit whose time by current rates is this many times that of another is not looked into.
const APART: f64 = 30.0;

/// A history shorter than this, milliseconds, is too short to forecast from.
pub(crate) const YOUNG_MILLIS: u64 = 30_000;

/// Over how long rates are averaged for that comparison, milliseconds.
const LATELY_MILLIS: u64 = 600_000;

/// At most so many limits of one thing are looked into; four resources, each once or twice.
pub const LIMITS_MAX: usize = 8;

/// What a horizon is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// Flow of the queue, the virtual host or the node itself.
    pub own: &'a History,
    /// Flow of the node, of which `own` is a part; `None` when `own` is all there is. Both must
    /// have been recorded up to the same moment.
    pub node: Option<&'a History>,
    /// What flows lately, from a `Meter`: used as long as `own` knows less than 30 seconds.
    pub rates: Rates,
    /// Messages held now.
    pub messages: u64,
    /// What binds; what is beyond [`LIMITS_MAX`] is ignored.
    pub limits: &'a [Limit],
}

/// A time and the limit that ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// How long it is.
    pub estimate: Estimate,
    /// What is reached first and what happens then; `None` when nothing is ever reached.
    pub limit: Option<(Resource, Outcome)>,
}

/// How long a queue, a virtual host or a node holds out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Horizon {
    /// Until the first limit, if all goes on.
    pub now: Bound,
    /// Until the first limit, if its consumers stopped this moment.
    pub stress: Bound,
    /// *stress*, at the peak rate of the last day if that is more than what is foreseen.
    pub peak: Bound,
    /// Until nothing is left in it, if all goes on.
    pub to_empty: Estimate,
    /// The model that *stress* was foretold by; `None` when nothing flows or nothing binds.
    pub model: Option<Model>,
}

impl Bound {
    /// Nothing binds.
    pub const NEVER: Self = Self {
        estimate: Estimate::NEVER,
        limit: None,
    };

    /// When the first of two things happens, and which it is.
    #[must_use]
    pub fn earlier(self, other: Self) -> Self {
        let time = |bound: &Self| (bound.estimate.at, bound.estimate.low);
        let first = if time(&other) < time(&self) {
            other
        } else {
            self
        };
        Self {
            estimate: self.estimate.earlier(other.estimate),
            limit: first.limit,
        }
    }

    pub(crate) fn new(estimate: Estimate, limit: &Limit) -> Self {
        let reached = estimate.low != TimeLeft::Never;
        Self {
            estimate,
            limit: reached.then_some((limit.resource, limit.outcome)),
        }
    }
}

impl Horizon {
    /// Of what nothing flows through and nothing binds.
    pub const NEVER: Self = Self {
        now: Bound::NEVER,
        stress: Bound::NEVER,
        peak: Bound::NEVER,
        to_empty: Estimate::NEVER,
        model: None,
    };

    /// Computes it. Work is bounded: some milliseconds at most, mostly well below one; keep the
    /// answer for a few seconds.
    #[must_use]
    pub fn of(scope: &Scope<'_>) -> Self {
        let view = View::new(scope);
        let mut horizon = Self {
            to_empty: view.to_empty(scope.messages),
            ..Self::NEVER
        };
        let peaks = scope.own.peak();
        for limit in relevant(scope) {
            let (held, left) = (real(limit.used), real(limit.left()));
            let now = view.forecast(&view.now(&limit), &limit);
            let now = Bound::new(now.time_to_grow(held, left), &limit);
            let forecast = view.forecast(&view.stress(&limit), &limit);
            let stress = Bound::new(forecast.time_to_grow(held, left), &limit);
            if stress.estimate.at < horizon.stress.estimate.at {
                horizon.model = Some(forecast.model());
            }
            horizon.now = horizon.now.earlier(now);
            horizon.stress = horizon.stress.earlier(stress);
            if let Some(peaks) = &peaks {
                let peak = Bound::new(at_peak(scope, &limit, peaks), &limit);
                horizon.peak = horizon.peak.earlier(peak);
            }
        }
        horizon.peak = horizon.peak.earlier(horizon.stress);
        horizon
    }

    /// Of several queues (virtual hosts, nodes): the one that gives way first in each respect.
    /// `to_empty` is when the last of them is empty.
    #[must_use]
    pub fn earlier(self, other: Self) -> Self {
        let later = |a: TimeLeft, b: TimeLeft| a.max(b);
        let first = if other.stress.estimate.at < self.stress.estimate.at {
            other
        } else {
            self
        };
        Self {
            now: self.now.earlier(other.now),
            stress: self.stress.earlier(other.stress),
            peak: self.peak.earlier(other.peak),
            to_empty: Estimate {
                at: later(self.to_empty.at, other.to_empty.at),
                low: later(self.to_empty.low, other.to_empty.low),
                high: later(self.to_empty.high, other.to_empty.high),
            },
            model: first.model,
        }
    }
}

/// The limits that may be reached first.
pub(crate) fn relevant(scope: &Scope<'_>) -> Vec<Limit> {
    let young = scope.own.span_millis() < YOUNG_MILLIS;
    let own = if young {
        scope.rates
    } else {
        scope.own.recent(LATELY_MILLIS)
    };
    let node = scope.node.map_or(own, |node| node.recent(LATELY_MILLIS));
    let soon = |limit: &Limit| {
        let rates = if limit.resource.is_shared() {
            node
        } else {
            own
        };
        let [per_message, per_byte] = limit.costs();
        let rate = per_message * rates.messages_in + per_byte * rates.bytes_in;
        real(limit.left()) / rate.max(f64::MIN_POSITIVE)
    };
    let limits = scope.limits.iter().take(LIMITS_MAX);
    let first = limits.clone().map(soon).fold(f64::INFINITY, f64::min);
    limits
        .filter(|limit| soon(limit) <= first.max(1.0) * APART)
        .copied()
        .collect()
}

fn at_peak(scope: &Scope<'_>, limit: &Limit, [messages, bytes]: &[Peak; 2]) -> Estimate {
    let [per_message, per_byte] = limit.costs();
    let others = scope
        .node
        .filter(|_| limit.resource.is_shared())
        .map_or(0.0, |node| {
            let (node, own) = (node.recent(LATELY_MILLIS), scope.own.recent(LATELY_MILLIS));
            let messages =
                node.messages_in - node.messages_out - own.messages_in + own.messages_out;
            let bytes = node.bytes_in - node.bytes_out - own.bytes_in + own.bytes_out;
            (per_message * messages + per_byte * bytes).max(0.0)
        });
    let time = |messages: f64, bytes: f64| {
        let rate = per_message * messages + per_byte * bytes + others;
        let left = real(limit.left());
        if left <= 0.0 {
            return TimeLeft::NONE;
        }
        TimeLeft::from_seconds((rate > 0.0).then(|| left / rate))
    };
    Estimate::new(
        time(messages.at, bytes.at),
        time(messages.high, bytes.high),
        time(messages.low, bytes.low),
    )
}
