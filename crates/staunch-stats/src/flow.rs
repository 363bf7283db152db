//! What flows through each queue of a node, and through the node: the meters and histories from
//! which a horizon is foretold (`docs/horizon.md`).
//!
//! What came in is what a queue counts anyway; what went out is that, with what was there at
//! first, less what is held now. So the road of a message has no part in this.

use std::{collections::BTreeMap, sync::Arc};

use staunch_horizon::{Counters, History, Meter, Rates, Scale, history::STEPS_MILLIS};
use staunch_node::QueueSample;
use staunch_types::{Name, QueueId};

use crate::series::Round;

/// Queues whose flow is remembered for two weeks, 8 KiB each when they have been busy for so long.
/// Those that moved first have it; of others the averages of the last hour are known.
pub const FLOW_HISTORIES_MAX: usize = 4_096;

/// Flow of all queues that are kept by a node: those that it serves, and replicas, which take its
/// disk as well.
#[derive(Debug, Default)]
pub(crate) struct Flows {
    /// Queues that have moved, or hold something.
    queues: BTreeMap<QueueId, QueueFlow>,
    histories_count: usize,
    node: Flow,
    /// What has flowed through all of them since counting began.
    total: Counters,
    /// What has flowed through those that are in memory only.
    transient: Flow,
    transient_total: Counters,
    /// Of an earlier life of the process, until the queues are seen for the first time.
    kept: BTreeMap<QueueId, KeptHistory>,
}

/// What flows through a queue or a node.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    pub(crate) meter: Meter,
    /// None: there was no room for it. Shared with whoever computes a horizon meanwhile.
    pub(crate) history: Option<Arc<History>>,
    /// The history begins, or goes on, with the first bucket that is counted whole: half of one
    /// would look like a load that grows.
    from_millis: u64,
}

/// Flow of a queue.
#[derive(Debug)]
pub(crate) struct QueueFlow {
    pub(crate) flow: Flow,
    /// Where counting began.
    start: Standing,
    last: Standing,
}

/// The history of a queue, as it is kept over a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptHistory {
    /// Virtual host of the queue.
    pub vhost: Name,
    /// Its name.
    pub name: Name,
    /// What flowed through it.
    pub history: Arc<History>,
}

/// All histories, as they are kept over a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptHistories {
    /// Of the node.
    pub node: Arc<History>,
    /// Of queues.
    pub queues: BTreeMap<QueueId, KeptHistory>,
}

/// How a queue's counts stand.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    messages_in: u64,
    bytes_in: u64,
    messages_held: u64,
    bytes_held: u64,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            meter: Meter::new(0, Counters::default()),
            history: Some(Arc::default()),
            from_millis: 0,
        }
    }
}

impl Flow {
    /// A flow that is counted from this moment on.
    fn new(since_millis: u64, counters: Counters, history: Option<Arc<History>>) -> Self {
        Self {
            meter: Meter::new(since_millis, counters),
            history,
            from_millis: since_millis.next_multiple_of(STEPS_MILLIS[0]),
        }
    }

    /// Takes counters of this moment; returns what has flowed since the last ones. What was not
    /// sampled in the round before stood still until then.
    fn feed(&mut self, round: &Round, counters: Counters) -> Counters {
        self.rest(round.before_millis);
        let Some((since, flowed)) = self.meter.sample(round.at_millis, counters) else {
            return Counters::default();
        };
        self.record(since, round.at_millis, flowed);
        flowed
    }

    /// Nothing has flowed until then, if that is later than the last sample.
    pub(crate) fn rest(&mut self, until_millis: u64) {
        let since = self.meter.at_millis();
        if since < until_millis {
            self.meter.rest(until_millis);
            self.record(since, until_millis, Counters::default());
        }
    }

    /// Averages at the time of the last sample, or of the rest since then.
    pub(crate) fn rates(&self, scale: Scale) -> Rates {
        // At that very moment counters are not looked at.
        let meter = &self.meter;
        meter.rates(scale, meter.at_millis(), Counters::default())
    }

    fn record(&mut self, from_millis: u64, to_millis: u64, flowed: Counters) {
        let begun_millis = from_millis.max(self.from_millis);
        let Some(history) = self.history.as_mut().filter(|_| begun_millis < to_millis) else {
            return;
        };
        let (part, whole) = (to_millis - begun_millis, to_millis - from_millis);
        let share = |count: u64| {
            let share = u128::from(count) * u128::from(part) / u128::from(whole);
            u64::try_from(share).unwrap_or(u64::MAX)
        };
        let flowed = Counters::from_array(flowed.to_array().map(share));
        Arc::make_mut(history).record(begun_millis, to_millis, flowed);
    }
}

impl Standing {
    fn of(sample: &QueueSample) -> Self {
        let (counts, held) = (&sample.counts, &sample.held);
        Self {
            messages_in: counts.publish,
            bytes_in: counts.publish_body_bytes,
            messages_held: held.message_count,
            bytes_held: held.ready_body_bytes + held.unacked_body_bytes,
        }
    }

    /// What has flowed since `start`; none if the two do not belong together: the queue was taken
    /// over from another node, or emptied behind the counters' back.
    fn since(&self, start: &Self) -> Option<Counters> {
        let messages_in = self.messages_in.checked_sub(start.messages_in)?;
        let bytes_in = self.bytes_in.checked_sub(start.bytes_in)?;
        Some(Counters {
            messages_in,
            messages_out: (messages_in + start.messages_held).checked_sub(self.messages_held)?,
            bytes_in,
            bytes_out: (bytes_in + start.bytes_held).checked_sub(self.bytes_held)?,
        })
    }

    fn is_nothing(&self) -> bool {
        self.messages_in == 0 && self.messages_held == 0
    }
}

impl Flows {
    /// Takes what is known of a queue in this round.
    pub(crate) fn take(&mut self, sample: &QueueSample, round: &Round) {
        let standing = Standing::of(sample);
        if !self.queues.contains_key(&sample.id) && !self.begin(sample, standing, round) {
            return;
        }
        let Some(queue) = self.queues.get_mut(&sample.id) else {
            return;
        };
        queue.last = standing;
        let Some(counters) = standing.since(&queue.start) else {
            // Counting starts anew: the averages and the past stay.
            queue.start = standing;
            queue.flow.feed(round, Counters::default());
            return;
        };
        let flowed = queue.flow.feed(round, counters);
        self.total = self.total + flowed;
        if !sample.is_logged {
            self.transient_total = self.transient_total + flowed;
        }
    }

    /// A queue is seen for the first time. False if there is nothing to remember of it.
    fn begin(&mut self, sample: &QueueSample, standing: Standing, round: &Round) -> bool {
        let kept = self.kept.remove(&sample.id);
        let kept = kept.filter(|kept| kept.vhost == sample.vhost && kept.name == sample.name);
        if kept.is_none() && standing.is_nothing() {
            return false;
        }
        // What was there before anybody looked has not flowed.
        let (start, since_millis) = if round.is_first() {
            (standing, round.at_millis)
        } else {
            (Standing::default(), round.before_millis)
        };
        let has_room = self.histories_count < FLOW_HISTORIES_MAX;
        self.histories_count += usize::from(has_room);
        let history = kept.map(|kept| kept.history).unwrap_or_default();
        let history = has_room.then_some(history);
        let flow = Flow::new(since_millis, Counters::default(), history);
        let queue = QueueFlow {
            flow,
            start,
            last: standing,
        };
        self.queues.insert(sample.id, queue);
        true
    }

    /// The queue is gone, and what it held with it.
    pub(crate) fn forget(&mut self, id: QueueId) {
        let Some(gone) = self.queues.remove(&id) else {
            return;
        };
        self.histories_count -= usize::from(gone.flow.history.is_some());
        self.total.messages_out += gone.last.messages_held;
        self.total.bytes_out += gone.last.bytes_held;
    }

    /// Forgets queues that are not there any more.
    pub(crate) fn retain(&mut self, is_there: impl Fn(QueueId) -> bool) {
        let ids = self.queues.keys().copied();
        let gone: Vec<_> = ids.filter(|id| !is_there(*id)).collect();
        for id in gone {
            self.forget(id);
        }
    }

    /// Ends a round: all queues have been taken.
    pub(crate) fn end(&mut self, round: &Round) {
        // What nobody has asked for in a whole round is of queues that are gone.
        self.kept.clear();
        if round.is_first() {
            let history = self.node.history.take();
            self.node = Flow::new(round.at_millis, self.total, history);
            self.transient = Flow::new(round.at_millis, self.transient_total, None);
        }
        self.node.feed(round, self.total);
        self.transient.feed(round, self.transient_total);
    }

    /// The share of the bytes that come in lately which stay in memory.
    pub(crate) fn transient_share(&self) -> f64 {
        let [all, transient] =
            [&self.node, &self.transient].map(|flow| flow.rates(Scale::TenMinutes).bytes_in);
        if all > 0.0 {
            (transient / all).min(1.0)
        } else {
            0.0
        }
    }

    pub(crate) fn queue(&self, id: QueueId) -> Option<&QueueFlow> {
        self.queues.get(&id)
    }

    pub(crate) fn node(&self) -> &Flow {
        &self.node
    }

    pub(crate) fn histories_count(&self) -> usize {
        self.histories_count
    }

    /// Histories of an earlier life of the process; to be given before the first round.
    pub(crate) fn restore(&mut self, kept: KeptHistories) {
        self.node.history = Some(kept.node);
        self.kept = kept.queues;
    }

    /// Histories to be kept, of queues whose names `name_of` knows.
    pub(crate) fn to_keep(
        &self,
        name_of: impl Fn(QueueId) -> Option<(Name, Name)>,
    ) -> KeptHistories {
        let queues = self.queues.iter().filter_map(|(id, queue)| {
            let (vhost, name) = name_of(*id)?;
            let history = queue.flow.history.clone()?;
            let kept = KeptHistory {
                vhost,
                name,
                history,
            };
            Some((*id, kept))
        });
        KeptHistories {
            node: self.node.history.clone().unwrap_or_default(),
            queues: queues.collect(),
        }
    }
}
