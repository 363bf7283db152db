//! How long the queues of a node hold out, and the node itself: which limits bind, and what
//! `staunch-horizon` says to that.
//!
//! Two steps, because the first one is done while the statistics are held and the second takes its
//! time: a [`Snapshot`] shares the histories, then anything can be asked of it.

use std::sync::Arc;

use staunch_broker::{Overflow, QueueSettings};
use staunch_horizon::{
    Cost, Disk, Horizon, Limit, Outcome, Outlook, Rates, Scale, Scope, WhatIf, WhatIfError,
};
use staunch_node::{Condition, Held};
use staunch_types::{Name, QueueId};

use crate::{
    flow::{FLOW_HISTORIES_MAX, Flow},
    statistics::{QueueStats, Statistics},
};

/// What the log adds to a message, in bytes: the header of its record, exchange, routing key and
/// properties of an ordinary message (`docs/format.md`).
pub const LOG_RECORD_SIZE_BYTES: u64 = 64;

/// Bytes of disk for a byte that is held. A backlog is copied once, when its young file is
/// retired, and that file is used again; so it lies there about once.
pub const LOG_OVERHEAD: f64 = 1.0;

/// Memory of a message in the index of its queue, in bytes: a 64th of a chunk.
pub const INDEX_SIZE_BYTES: f64 = 18.0;

/// Memory that a message takes which is in memory only, beside its body and its place in the index,
/// in bytes.
pub const TRANSIENT_SIZE_BYTES: f64 = 64.0;

/// What there was in one round, with the histories of all queues.
#[derive(Debug)]
pub struct Snapshot {
    at_millis: u64,
    condition: Condition,
    queues: Vec<QueueView>,
    node: Flow,
    /// Messages and bytes of queues that are in the log.
    logged: [u64; 2],
    /// The share of what flows that stays in memory.
    transient_share: f64,
    histories_count: usize,
}

/// A queue in a [`Snapshot`].
#[derive(Debug)]
pub struct QueueView {
    /// What it is.
    pub facts: QueueFacts,
    is_logged: bool,
    /// None: nothing has ever moved.
    flow: Option<Flow>,
}

/// A queue, and what it held in a round.
#[derive(Clone, Debug)]
pub struct QueueFacts {
    /// Its id.
    pub id: QueueId,
    /// Its virtual host.
    pub vhost: Name,
    /// Its name.
    pub name: Name,
    /// What it held.
    pub held: Held,
    /// What its arguments and policies say together.
    pub settings: Arc<QueueSettings>,
    /// Its publishers are slowed so that it holds out (`horizon-slo`).
    pub is_slowed: bool,
}

/// How long something holds out, with what that follows from.
#[derive(Clone, Debug)]
pub struct Report {
    /// Every limit that binds.
    pub limits: Vec<Limit>,
    /// What flows, averaged over a minute; over ten if there is no history.
    pub rates: Rates,
    /// How long it holds out.
    pub horizon: Horizon,
    /// It has a history; without one its times are rates of the last minutes.
    pub has_history: bool,
    /// How far that goes back, milliseconds.
    pub history_millis: u64,
}

impl Statistics {
    /// A snapshot of all queues that this node serves and in which something has happened, or is.
    #[must_use]
    pub fn snapshot(&self, condition: Condition) -> Snapshot {
        self.snapshot_of(condition, self.queues())
    }

    /// A snapshot with one queue, if it is one of those; or with none.
    #[must_use]
    pub fn snapshot_with(&self, condition: Condition, id: Option<QueueId>) -> Snapshot {
        let queue = id.and_then(|id| Some((id, self.queue(id)?)));
        self.snapshot_of(condition, queue)
    }

    fn snapshot_of<'a>(
        &'a self,
        condition: Condition,
        queues: impl IntoIterator<Item = (QueueId, &'a QueueStats)>,
    ) -> Snapshot {
        let queues = queues.into_iter().filter_map(|(id, queue)| {
            let flow = self.flows.queue(id).map(|known| &known.flow);
            let is_of_use = flow.is_some() || queue.held.message_count > 0;
            let is_wanted = queue.is_served_here && is_of_use;
            is_wanted.then(|| QueueView::new(id, queue, flow.cloned()))
        });
        let queues = queues.collect();
        Snapshot {
            at_millis: self.round().at_millis(),
            condition,
            queues,
            node: self.flows.node().clone(),
            logged: self.logged,
            transient_share: self.flows.transient_share(),
            histories_count: self.flows.histories_count(),
        }
    }
}

impl QueueView {
    fn new(id: QueueId, queue: &QueueStats, flow: Option<Flow>) -> Self {
        Self {
            facts: QueueFacts {
                id,
                vhost: queue.vhost.clone(),
                name: queue.name.clone(),
                held: queue.held,
                settings: queue.settings.clone(),
                is_slowed: queue.is_slowed,
            },
            is_logged: queue.is_logged,
            flow,
        }
    }

    /// A queue in which nothing has happened that anybody has seen.
    #[must_use]
    pub fn fresh(facts: QueueFacts, is_logged: bool) -> Self {
        Self {
            facts,
            is_logged,
            flow: None,
        }
    }

    /// The queue's own limits. Those count ready messages, and of their sizes the bodies.
    fn own_limits(&self) -> impl Iterator<Item = Limit> {
        let settings = &self.facts.settings;
        let dead_lettering = settings.dead_lettering.as_ref();
        let outcome = match (settings.overflow, dead_lettering) {
            (Overflow::RejectPublish | Overflow::RejectPublishDlx, _) => Outcome::Refuse,
            (Overflow::DropHead, None) => Outcome::DropOldest,
            (Overflow::DropHead, Some(_)) => Outcome::DeadLetter,
        };
        let held = &self.facts.held;
        let mut count = held.ready_count;
        if dead_lettering.is_some_and(|it| it.at_least_once) {
            // Dying messages count as long as nobody else has them.
            count = held.message_count.saturating_sub(held.unacked_count);
        }
        let max_length = settings.max_length;
        let max_length = max_length.map(|max| Limit::max_length(max, count, outcome));
        let body_bytes = held.ready_body_bytes;
        let max_bytes = settings.max_length_bytes;
        let max_bytes = max_bytes.map(|max| Limit::max_length_bytes(max, body_bytes, outcome));
        max_length.into_iter().chain(max_bytes)
    }
}

impl Snapshot {
    /// When it was, milliseconds of the wall clock.
    #[must_use]
    pub fn at_millis(&self) -> u64 {
        self.at_millis
    }

    /// Queues that have a history, and how many may.
    #[must_use]
    pub fn histories(&self) -> (usize, usize) {
        (self.histories_count, FLOW_HISTORIES_MAX)
    }

    /// The queues, by id.
    #[must_use]
    pub fn queues(&self) -> &[QueueView] {
        &self.queues
    }

    /// The one queue of which it was made, or else this.
    #[must_use]
    pub fn take_one(mut self, otherwise: QueueView) -> (Self, QueueView) {
        let view = self.queues.pop().unwrap_or(otherwise);
        (self, view)
    }

    /// How long a queue holds out.
    #[must_use]
    pub fn queue(&self, queue: &QueueView) -> Report {
        self.with_queue(queue, |scope, has_history| {
            Report::new(scope, Horizon::of(scope), has_history)
        })
    }

    /// What would come of something else.
    ///
    /// # Errors
    /// [`WhatIfError`] when it makes no sense.
    pub fn queue_if(&self, queue: &QueueView, what: &WhatIf) -> Result<Outlook, WhatIfError> {
        self.with_queue(queue, |scope, _| what.ask(scope))
    }

    /// How long the node holds out: until its memory or its disk is full.
    #[must_use]
    pub fn node(&self) -> Report {
        self.with_node(|scope| Report::new(scope, Horizon::of(scope), true))
    }

    /// What would come of something else, on the node.
    ///
    /// # Errors
    /// [`WhatIfError`] when it makes no sense.
    pub fn node_if(&self, what: &WhatIf) -> Result<Outlook, WhatIfError> {
        self.with_node(|scope| what.ask(scope))
    }

    fn with_queue<T>(&self, queue: &QueueView, ask: impl FnOnce(&Scope<'_>, bool) -> T) -> T {
        let mut limits: Vec<Limit> = queue.own_limits().collect();
        limits.push(self.memory(if queue.is_logged {
            self.transient_share
        } else {
            1.0
        }));
        limits.extend(queue.is_logged.then(|| self.disk()).flatten());
        let mut flow = queue.flow.clone();
        if let Some(flow) = &mut flow {
            flow.rest(self.at_millis);
        }
        let history = flow.as_ref().and_then(|flow| flow.history.clone());
        let (has_history, own) = (history.is_some(), history.unwrap_or_default());
        let scale = if has_history {
            Scale::Minute
        } else {
            Scale::TenMinutes
        };
        let rates = flow.as_ref().map(|flow| flow.rates(scale));
        let node = self.node.history.as_deref();
        let scope = Scope {
            own: &own,
            node,
            rates: rates.unwrap_or_default(),
            messages: queue.facts.held.message_count,
            limits: &limits,
        };
        ask(&scope, has_history || queue.flow.is_none())
    }

    fn with_node<T>(&self, ask: impl FnOnce(&Scope<'_>) -> T) -> T {
        let mut limits = vec![self.memory(self.transient_share)];
        limits.extend(self.disk());
        let own = self.node.history.clone().unwrap_or_default();
        let scope = Scope {
            own: &own,
            node: None,
            rates: self.node.rates(Scale::Minute),
            messages: self.logged[0],
            limits: &limits,
        };
        ask(&scope)
    }

    /// What is kept in memory of each message; of this share of them all of it.
    fn memory(&self, share: f64) -> Limit {
        let cost = Cost {
            per_message: INDEX_SIZE_BYTES + share * TRANSIENT_SIZE_BYTES,
            per_byte: share,
        };
        let (max, used) = (
            self.condition.kept_size_bytes_max,
            self.condition.kept_size_bytes,
        );
        Limit::memory(max, used, cost)
    }

    /// None before anybody has looked at the disk.
    fn disk(&self) -> Option<Limit> {
        let [messages, bytes] = self.logged;
        Some(Limit::disk(Disk {
            free_bytes: self.condition.disk_free_size_bytes?,
            reserve_bytes: self.condition.disk_free_limit_size_bytes,
            used_bytes: bytes + messages * LOG_RECORD_SIZE_BYTES,
            record_bytes: LOG_RECORD_SIZE_BYTES,
            overhead: LOG_OVERHEAD,
        }))
    }
}

impl Report {
    fn new(scope: &Scope<'_>, horizon: Horizon, has_history: bool) -> Self {
        Self {
            limits: scope.limits.to_vec(),
            rates: scope.rates,
            horizon,
            has_history,
            history_millis: scope.own.span_millis(),
        }
    }
}

#[cfg(test)]
mod tests;
