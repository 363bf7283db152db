//! Histories, opened for the questions that a horizon asks of them.

use crate::capacity::Limit;
use crate::estimate::Estimate;
use crate::flow::Rates;
use crate::forecast::{Forecast, Subject};
use crate::horizon::{Scope, YOUNG_MILLIS};
use crate::number::{finite, real};
use crate::series::{Signal, Timeline, Weights};

const MINUTE_MILLIS: u64 = 60_000;

/// Minutes in which consumers show how much they can take.
const SEEN_MINUTES: usize = 180;

/// Minutes in which they show whether they keep up, and how much they must take for that.
const LAGGING_MINUTES: usize = 5;

const LAGGING_SHARE: f64 = 0.98;

/// Histories, opened once for all limits.
pub(crate) struct View {
    own: Timeline,
    node: Option<Timeline>,
    /// Rates to go by when `own` knows too little.
    young: Option<Rates>,
}

impl View {
    pub(crate) fn new(scope: &Scope<'_>) -> Self {
        Self {
            own: Timeline::of(scope.own),
            node: scope.node.map(Timeline::of),
            young: (scope.own.span_millis() < YOUNG_MILLIS).then_some(scope.rates),
        }
    }

    /// Foretells what fills a limit.
    pub(crate) fn forecast(&self, subject: &Subject<'_>, limit: &Limit) -> Forecast {
        if let Some(rates) = self.young.filter(|_| self.shared(limit).is_none()) {
            let weights = match subject.outflow {
                Some(_) => limit.net(),
                None => limit.inflow(),
            };
            return Forecast::young(weighted(rates, weights));
        }
        Forecast::until(subject, real(limit.used), real(limit.left()))
    }

    /// The node, if others fill the limit as well.
    fn shared(&self, limit: &Limit) -> Option<&Timeline> {
        self.node.as_ref().filter(|_| limit.resource.is_shared())
    }

    /// What fills a limit while everybody goes on.
    pub(crate) fn now(&self, limit: &Limit) -> Subject<'_> {
        let own = Signal::new(&self.own, limit.net());
        let shared = self.shared(limit);
        Subject {
            inflow: Signal::new(&self.own, limit.inflow()),
            outflow: Some(Signal::new(&self.own, limit.outflow())),
            others: shared.map(|node| {
                Signal::new(node, limit.net()).plus(&self.own, limit.net().map(|cost| -cost))
            }),
            net: shared.map_or(own, |node| Signal::new(node, limit.net())),
        }
    }

    /// What fills a limit while nobody consumes what `own` holds.
    pub(crate) fn stress(&self, limit: &Limit) -> Subject<'_> {
        let inflow = Signal::new(&self.own, limit.inflow());
        // The others' net flow and all that comes in here: the node's net flow without what goes
        // out here.
        let net = self.shared(limit).map_or_else(
            || inflow.clone(),
            |node| Signal::new(node, limit.net()).plus(&self.own, limit.outflow()),
        );
        Subject {
            inflow,
            outflow: None,
            others: None,
            net,
        }
    }

    /// What fills a limit, each part foretold for itself.
    pub(crate) fn parts(&self, limit: &Limit) -> Parts {
        let inflow = Signal::new(&self.own, limit.inflow());
        let outflow = Signal::new(&self.own, limit.outflow());
        let minutes = outflow.series(MINUTE_MILLIS, SEEN_MINUTES);
        let [came, went] = [&inflow, &outflow].map(|signal| {
            let lately = signal.series(MINUTE_MILLIS, LAGGING_MINUTES);
            lately.iter().sum::<f64>()
        });
        let own = Signal::new(&self.own, limit.net().map(|cost| -cost));
        Parts {
            inflow: self.flow(&inflow, limit.inflow()),
            outflow: self.flow(&outflow, limit.outflow()),
            outflow_seen: minutes.into_iter().fold(0.0, f64::max),
            lagging: went < came * LAGGING_SHARE,
            others: self.shared(limit).map(|node| {
                let others = own.plus(node, limit.net());
                Forecast::of_flow(&others, true)
            }),
            cost_of_message: self.cost_of_message(limit),
        }
    }

    fn flow(&self, signal: &Signal<'_>, weights: Weights) -> Forecast {
        self.young.map_or_else(
            || Forecast::of_flow(signal, false),
            |rates| Forecast::young(weighted(rates, weights)),
        )
    }

    /// What a message of the usual size takes of a limit.
    fn cost_of_message(&self, limit: &Limit) -> f64 {
        let [messages, bytes] = [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]].map(|weights| {
            let minutes = Signal::new(&self.own, weights).series(MINUTE_MILLIS, SEEN_MINUTES);
            minutes.iter().sum::<f64>()
        });
        let [per_message, per_byte] = limit.costs();
        per_message + per_byte * finite(bytes / messages)
    }

    pub(crate) fn to_empty(&self, messages: u64) -> Estimate {
        if messages == 0 {
            return Estimate::NOW;
        }
        let (inflow, outflow): (Weights, Weights) = ([1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]);
        // Foretold backwards: what leaves is what grows.
        let subject = Subject {
            inflow: Signal::new(&self.own, outflow),
            outflow: Some(Signal::new(&self.own, inflow)),
            others: None,
            net: Signal::new(&self.own, [-1.0, 1.0, 0.0, 0.0]),
        };
        let held = real(messages);
        if let Some(rates) = self.young {
            let rate = finite(rates.messages_out - rates.messages_in);
            return Forecast::young(rate).time_to_grow(f64::MAX, held);
        }
        Forecast::until(&subject, f64::MAX, held).time_to_grow(f64::MAX, held)
    }
}

/// What fills a limit, in its unit.
pub(crate) struct Parts {
    pub(crate) inflow: Forecast,
    pub(crate) outflow: Forecast,
    /// The most that went out in one minute lately, per second.
    pub(crate) outflow_seen: f64,
    /// Whether consumers take less than comes in: then they take what they can.
    pub(crate) lagging: bool,
    /// What others add; `None` if there is nobody else.
    pub(crate) others: Option<Forecast>,
    /// What a message of the usual size takes.
    pub(crate) cost_of_message: f64,
}

fn weighted(rates: Rates, weights: Weights) -> f64 {
    let costs = rates.to_array().into_iter().zip(weights);
    finite(costs.map(|(rate, cost)| rate * cost).sum())
}
