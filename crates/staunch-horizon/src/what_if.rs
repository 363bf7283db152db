//! "What if": publishers twice as fast, consumers gone for an hour, a node lost, another limit.

use crate::capacity::{Limit, Resource};
use crate::estimate::{Estimate, TimeLeft};
use crate::forecast::Forecast;
use crate::horizon::{Bound, Scope, relevant};
use crate::number::{real, seconds, whole};
use crate::view::View;

/// The greatest factor that may be asked for.
pub const RATE_FACTOR_MAX: f64 = 1_000_000.0;

/// The longest absence that may be asked for, milliseconds: a year.
pub const GONE_MILLIS_MAX: u64 = 365 * 86_400_000;

/// What is different. Nothing is in the default.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WhatIf {
    /// Publishers of this queue (virtual host, node) send so many times what they would.
    pub rate_factor: f64,
    /// All its consumers are gone from now on for so many milliseconds, then come back.
    pub consumers_gone_millis: Option<u64>,
    /// What its consumers take together when there is enough, messages per second. `None`: as much
    /// as they have been seen to take in one minute of the last three hours.
    pub consumers_per_second: Option<f64>,
    /// One of so many nodes is gone for good; what it held and got goes to the others evenly.
    pub one_fewer_of_nodes: Option<u32>,
    /// A limit has another capacity.
    pub capacity: Option<(Resource, u64)>,
}

impl Default for WhatIf {
    fn default() -> Self {
        Self {
            rate_factor: 1.0,
            consumers_gone_millis: None,
            consumers_per_second: None,
            one_fewer_of_nodes: None,
            capacity: None,
        }
    }
}

/// What would come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// Until the first limit is reached.
    pub full: Bound,
    /// Messages held when the consumers come back: as foreseen, and one time in ten fewer, one
    /// time in ten more. As if there were no limit. `None` if they are not gone.
    pub messages_at_return: Option<[u64; 3]>,
    /// From now until nothing is left of the backlog.
    pub to_empty: Estimate,
}

/// A question without an answer.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum WhatIfError {
    /// Not a number between 0 and [`RATE_FACTOR_MAX`].
    #[error("a rate cannot be multiplied by {0}, only by 0 to {RATE_FACTOR_MAX}")]
    RateFactor(f64),
    /// Longer than [`GONE_MILLIS_MAX`].
    #[error("consumers can be gone for {GONE_MILLIS_MAX} ms at most, not {0} ms")]
    GoneTooLong(u64),
    /// A rate that is negative or not a number.
    #[error("consumers cannot take {0} messages per second")]
    ConsumerRate(f64),
    /// There would be no node left.
    #[error("with {0} nodes there is nobody left when one is gone")]
    NoNodeLeft(u32),
    /// Nothing has this limit.
    #[error("there is no limit of this kind: {0:?}")]
    NoSuchLimit(Resource),
}

impl WhatIf {
    /// Answers the question.
    ///
    /// # Errors
    /// [`WhatIfError`] when it makes no sense.
    pub fn ask(&self, scope: &Scope<'_>) -> Result<Outlook, WhatIfError> {
        let extra = self.check(scope)?;
        let limits: Vec<Limit> = scope
            .limits
            .iter()
            .map(|limit| self.changed(limit, extra))
            .collect();
        let scope = Scope {
            limits: &limits,
            ..*scope
        };
        let view = View::new(&scope);
        let mut full = Bound::NEVER;
        for limit in relevant(&scope) {
            let (held, left) = (real(limit.used), real(limit.left()));
            let net = self.net(&view, &limit, held, extra);
            full = full.earlier(Bound::new(net.time_to_grow(held, left), &limit));
        }
        let messages = Limit::max_length(u64::MAX, scope.messages, crate::Outcome::Refuse);
        let held = real(scope.messages);
        let net = self.net(&view, &messages, held, 1.0);
        let at_return = |gone_millis| {
            [0.0, -1.0, 1.0].map(|side| whole(held + net.grown(held, seconds(gone_millis), side)))
        };
        Ok(Outlook {
            full,
            messages_at_return: self.consumers_gone_millis.map(at_return),
            to_empty: self.drained(&net, held),
        })
    }

    /// How many times its share each remaining node gets.
    fn check(&self, scope: &Scope<'_>) -> Result<f64, WhatIfError> {
        if !(0.0..=RATE_FACTOR_MAX).contains(&self.rate_factor) {
            return Err(WhatIfError::RateFactor(self.rate_factor));
        }
        if let Some(millis) = self
            .consumers_gone_millis
            .filter(|&gone| gone > GONE_MILLIS_MAX)
        {
            return Err(WhatIfError::GoneTooLong(millis));
        }
        if let Some(rate) = self.consumers_per_second
            && !(rate.is_finite() && rate >= 0.0)
        {
            return Err(WhatIfError::ConsumerRate(rate));
        }
        if let Some((resource, _)) = self.capacity
            && scope.limits.iter().all(|limit| limit.resource != resource)
        {
            return Err(WhatIfError::NoSuchLimit(resource));
        }
        match self.one_fewer_of_nodes {
            None => Ok(1.0),
            Some(nodes @ 0..=1) => Err(WhatIfError::NoNodeLeft(nodes)),
            Some(nodes) => Ok(f64::from(nodes) / f64::from(nodes - 1)),
        }
    }

    fn changed(&self, limit: &Limit, extra: f64) -> Limit {
        let mut changed = *limit;
        if let Some((resource, capacity)) = self.capacity
            && resource == limit.resource
        {
            changed.capacity = capacity;
        }
        if limit.resource.is_shared() {
            changed.used = whole(real(limit.used) * extra);
        }
        changed
    }

    /// What fills a limit then. A shared one by `extra` times what the node gets of it.
    fn net(&self, view: &View, limit: &Limit, held: f64, extra: f64) -> Forecast {
        let parts = view.parts(limit);
        let inflow = parts.inflow.times(self.rate_factor);
        let able = match self.consumers_per_second {
            Some(rate) => Forecast::exactly(rate * parts.cost_of_message),
            // Who lags takes all he can. Who comes back, or has kept up, can take what he took.
            None if self.consumers_gone_millis.is_none() && parts.lagging && held > 0.0 => {
                parts.outflow
            }
            None => parts.outflow.at_least(parts.outflow_seen),
        };
        let served = inflow.minus(&able);
        let own = match self.consumers_gone_millis {
            Some(millis) => inflow.then(seconds(millis), &served),
            None => served,
        };
        match parts.others {
            Some(others) => own.plus(&others).times(extra),
            None => own,
        }
    }

    fn drained(&self, net: &Forecast, held: f64) -> Estimate {
        let gone_seconds = seconds(self.consumers_gone_millis.unwrap_or(0));
        let [at, low, high] = [0.0, -1.0, 1.0].map(|side| {
            let backlog = held + net.grown(held, gone_seconds, side);
            let drained = net.after(gone_seconds).times(-1.0);
            match drained.reaches(f64::MAX, backlog, -side) {
                Some(passed) => TimeLeft::from_seconds(Some(gone_seconds + passed)),
                None => TimeLeft::Never,
            }
        });
        if held <= 0.0 && self.consumers_gone_millis.is_none() {
            return Estimate::NOW;
        }
        Estimate::new(at, low, high)
    }
}
