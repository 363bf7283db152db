//! All that is known of a node's counts, kept up to date by samples.

use std::{collections::BTreeMap, sync::Arc};

use staunch_broker::{QueueKind, QueueSettings};
use staunch_node::{ChannelCounts, ConnectionSample, Held, QueueCounts, QueueSample, Sample};
use staunch_types::{ChannelNumber, ConnectionId, Name, QueueId};

use crate::{
    flow::{Flows, KeptHistories},
    kinds::{
        CHURN_NAMES, DEPTH_NAMES, EXCHANGE_NAMES, MESSAGE_NAMES, Messages, TRAFFIC_NAMES, depth,
        of_channel, of_churn, of_exchange, of_queue, of_traffic,
    },
    series::{Round, Series},
    traffic::Traffic,
};

/// Queues whose past is remembered, about 20 KiB each when it is full. Those that moved first have
/// it; rates are known of all.
pub const HISTORIES_MAX: usize = 2_000;

/// What a node counts, with rates.
#[derive(Debug)]
pub struct Statistics {
    round: Round,
    /// Counts samples that began anew: what a whole one does not name is gone.
    generation: u64,
    is_anew: bool,
    queues: BTreeMap<QueueId, QueueStats>,
    connections: BTreeMap<ConnectionId, ConnectionStats>,
    exchanges: BTreeMap<(Name, Name), Series<{ EXCHANGE_NAMES.len() }>>,
    vhosts: BTreeMap<Name, VhostStats>,
    totals: Totals,
    closed_channels: ChannelCounts,
    histories_count: usize,
    pub(crate) flows: Flows,
    /// Messages in the log and bytes of their bodies.
    pub(crate) logged: [u64; 2],
}

/// A queue.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "four facts")]
pub struct QueueStats {
    /// Its virtual host.
    pub vhost: Name,
    /// Its name.
    pub name: Name,
    /// Its type.
    pub kind: QueueKind,
    /// Whether this node hands out its messages.
    pub is_served_here: bool,
    /// It is a partition of another queue.
    pub is_partition: bool,
    /// Its messages are in the log; those of others are in memory.
    pub is_logged: bool,
    /// Its publishers are slowed (`horizon-slo`).
    pub is_slowed: bool,
    /// What its arguments and policies say together.
    pub settings: Arc<QueueSettings>,
    /// What happened.
    pub counts: QueueCounts,
    /// What it held when it was last looked at.
    pub held: Held,
    /// What happened, by [`MESSAGE_NAMES`].
    pub messages: Series<{ MESSAGE_NAMES.len() }>,
    /// What it holds, by [`DEPTH_NAMES`].
    pub depth: Series<{ DEPTH_NAMES.len() }>,
    generation: u64,
}

/// A connection of a client of this node.
#[derive(Debug, Default)]
pub struct ConnectionStats {
    /// What went over its socket.
    pub traffic: Traffic,
    /// Rates of that, by [`TRAFFIC_NAMES`].
    pub bytes: Series<{ TRAFFIC_NAMES.len() }>,
    /// Its channels: which of those that had the number, and what it did, by [`MESSAGE_NAMES`].
    pub channels: BTreeMap<ChannelNumber, (u64, Series<{ MESSAGE_NAMES.len() }>)>,
    counts: ChannelCounts,
    generation: u64,
}

/// A virtual host: its queues, and publishes to its exchanges.
#[derive(Debug, Default)]
pub struct VhostStats {
    /// What happened, by [`MESSAGE_NAMES`].
    pub messages: Series<{ MESSAGE_NAMES.len() }>,
    /// What its queues hold, by [`DEPTH_NAMES`].
    pub depth: Series<{ DEPTH_NAMES.len() }>,
    happened: Messages,
    held: [u64; DEPTH_NAMES.len()],
}

/// Queues of one type. These numbers never go down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindTotals {
    /// What happened in all of them, those that are gone among them.
    pub counts: QueueCounts,
}

/// All of the node. What is counted never goes down.
#[derive(Debug, Default)]
pub struct Totals {
    /// What happened, by [`MESSAGE_NAMES`].
    pub messages: Series<{ MESSAGE_NAMES.len() }>,
    /// What queues hold, by [`DEPTH_NAMES`].
    pub depth: Series<{ DEPTH_NAMES.len() }>,
    /// What came and went, by [`CHURN_NAMES`].
    pub churn: Series<{ CHURN_NAMES.len() }>,
    /// What all channels did, closed ones among them.
    pub channels: ChannelCounts,
    /// Channels that are open and have published.
    pub publishers: u64,
    /// Of classic queues.
    pub classic: KindTotals,
    /// Of quorum queues.
    pub quorum: KindTotals,
}

impl Default for Statistics {
    fn default() -> Self {
        let mut totals = Totals::default();
        totals.messages.remember();
        totals.depth.remember();
        totals.churn.remember();
        Self {
            round: Round::default(),
            generation: 0,
            is_anew: false,
            queues: BTreeMap::new(),
            connections: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            vhosts: BTreeMap::new(),
            totals,
            closed_channels: ChannelCounts::default(),
            histories_count: 0,
            flows: Flows::default(),
            logged: [0; 2],
        }
    }
}

impl Statistics {
    /// Begins a round at this time, milliseconds of the wall clock.
    pub fn begin(&mut self, at_millis: u64) {
        self.round = Round {
            number: self.round.number + 1,
            at_millis: at_millis.max(self.round.at_millis),
            before_millis: self.round.at_millis,
        };
    }

    /// Takes a part of the round's sample.
    pub fn take(&mut self, sample: Sample) {
        if sample.is_anew {
            self.generation += 1;
            self.is_anew = true;
        }
        for queue in sample.queues {
            self.take_queue(queue);
        }
        for (id, kind, last) in sample.queues_gone {
            self.forget_queue(id, kind, &last);
        }
        for connection in sample.connections {
            self.take_connection(&connection);
        }
        for id in sample.connections_gone {
            self.connections.remove(&id);
        }
        for ((vhost, exchange), counts) in sample.exchanges {
            let numbers = of_exchange(counts);
            self.vhosts.entry(vhost.clone()).or_default().happened[0] += numbers[0];
            let series = self.exchanges.entry((vhost, exchange)).or_default();
            let before = *series.now();
            series.put(
                [before[0] + numbers[0], before[1] + numbers[1]],
                &self.round,
            );
        }
        self.closed_channels = sample.closed_channels;
        self.totals.churn.put(of_churn(&sample.churn), &self.round);
        if !sample.has_more && std::mem::take(&mut self.is_anew) {
            let generation = self.generation;
            self.queues
                .retain(|_, queue| queue.generation == generation);
            self.flows.retain(|id| self.queues.contains_key(&id));
            self.connections
                .retain(|_, connection| connection.generation == generation);
        }
    }

    /// What went over the sockets of connections.
    pub fn take_traffic(&mut self, traffic: impl IntoIterator<Item = (ConnectionId, Traffic)>) {
        for (id, traffic) in traffic {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.traffic = traffic;
                connection.bytes.put(of_traffic(traffic), &self.round);
            }
        }
    }

    /// Forgets exchanges and virtual hosts that are gone. `exists` says whether there is still such
    /// a virtual host or, with a second name, such an exchange.
    pub fn forget(&mut self, exists: impl Fn(&Name, Option<&Name>) -> bool) {
        self.exchanges
            .retain(|(vhost, exchange), _| exists(vhost, Some(exchange)));
        self.vhosts.retain(|vhost, _| exists(vhost, None));
    }

    /// Histories of an earlier life of the process; to be given before the first round.
    pub fn restore(&mut self, kept: KeptHistories) {
        self.flows.restore(kept);
    }

    /// Histories of all queues and of the node, to be kept over a restart. What they share with
    /// those in use is copied only when it changes.
    #[must_use]
    pub fn histories(&self) -> KeptHistories {
        self.flows.to_keep(|id| {
            let queue = self.queues.get(&id)?;
            Some((queue.vhost.clone(), queue.name.clone()))
        })
    }

    /// Ends the round: what is made of sums is made now.
    pub fn end(&mut self) {
        self.flows.end(&self.round);
        let mut channels = self.closed_channels;
        let mut publishers = 0;
        for connection in self.connections.values() {
            channels.add(&connection.counts);
            let publishing = connection.channels.values();
            publishers += publishing.filter(|(_, it)| it.now()[0] > 0).count() as u64;
        }
        self.totals.publishers = publishers;
        self.totals.channels = channels;
        self.totals.messages.put(of_channel(&channels), &self.round);
        for vhost in self.vhosts.values_mut() {
            vhost.held = Default::default();
        }
        let logged = self.queues.values().filter(|queue| queue.is_logged);
        self.logged = logged.fold([0; 2], |[messages, bytes], queue| {
            let held = &queue.held;
            let body_bytes = held.ready_body_bytes + held.unacked_body_bytes;
            [messages + held.message_count, bytes + body_bytes]
        });
        let mut all = [0; DEPTH_NAMES.len()];
        for queue in self.queues.values().filter(|queue| queue.is_served_here) {
            let held = depth(&queue.held);
            let vhost = self.vhosts.entry(queue.vhost.clone()).or_default();
            for (place, number) in held.into_iter().enumerate() {
                vhost.held[place] += number;
                all[place] += number;
            }
        }
        self.totals.depth.put(all, &self.round);
        for vhost in self.vhosts.values_mut() {
            vhost.messages.put(vhost.happened, &self.round);
            vhost.depth.put(vhost.held, &self.round);
        }
    }

    /// The last round.
    #[must_use]
    pub fn round(&self) -> &Round {
        &self.round
    }

    /// A queue, if it was there in the last round.
    #[must_use]
    pub fn queue(&self, id: QueueId) -> Option<&QueueStats> {
        self.queues.get(&id)
    }

    /// All queues that were there in the last round, by id.
    pub fn queues(&self) -> impl Iterator<Item = (QueueId, &QueueStats)> {
        self.queues.iter().map(|(id, queue)| (*id, queue))
    }

    /// A connection, if it was there in the last round.
    #[must_use]
    pub fn connection(&self, id: ConnectionId) -> Option<&ConnectionStats> {
        self.connections.get(&id)
    }

    /// All connections that were there in the last round, by id.
    pub fn connections(&self) -> impl Iterator<Item = (ConnectionId, &ConnectionStats)> {
        self.connections.iter().map(|(id, it)| (*id, it))
    }

    /// An exchange that something was published to.
    #[must_use]
    pub fn exchange(&self, key: &(Name, Name)) -> Option<&Series<{ EXCHANGE_NAMES.len() }>> {
        self.exchanges.get(key)
    }

    /// Exchanges that something was published to.
    pub fn exchanges(
        &self,
    ) -> impl Iterator<Item = (&(Name, Name), &Series<{ EXCHANGE_NAMES.len() }>)> {
        self.exchanges.iter()
    }

    /// A virtual host in which something happened.
    #[must_use]
    pub fn vhost(&self, vhost: &Name) -> Option<&VhostStats> {
        self.vhosts.get(vhost)
    }

    /// Virtual hosts in which something happened.
    pub fn vhosts(&self) -> impl Iterator<Item = (&Name, &VhostStats)> {
        self.vhosts.iter()
    }

    /// All of the node.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    fn take_queue(&mut self, sample: QueueSample) {
        let round = self.round;
        self.flows.take(&sample, &round);
        let is_new = !self.queues.contains_key(&sample.id);
        let queue = self.queues.entry(sample.id).or_insert_with(|| QueueStats {
            vhost: sample.vhost.clone(),
            name: sample.name.clone(),
            kind: sample.kind,
            is_served_here: sample.is_served_here,
            is_partition: sample.is_partition,
            is_logged: sample.is_logged,
            is_slowed: sample.is_slowed,
            settings: sample.settings.clone(),
            counts: QueueCounts::default(),
            held: Held::default(),
            messages: Series::default(),
            depth: Series::default(),
            generation: 0,
        });
        let happened = of_queue(&sample.counts);
        let before = std::mem::replace(&mut queue.counts, sample.counts);
        (queue.held, queue.generation) = (sample.held, self.generation);
        (queue.kind, queue.is_served_here) = (sample.kind, sample.is_served_here);
        (queue.is_logged, queue.is_slowed) = (sample.is_logged, sample.is_slowed);
        queue.settings = sample.settings;
        if !queue.messages.is_remembered()
            && (queue.depth.has_moved() || happened.iter().any(|it| *it > 0))
            && self.histories_count < HISTORIES_MAX
        {
            self.histories_count += 1;
            queue.messages.remember();
            queue.depth.remember();
        }
        let held = depth(&sample.held);
        if is_new && round.number <= 1 {
            // All of that was before anybody looked.
            queue.messages.start(happened, &round);
            queue.depth.start(held, &round);
        } else {
            queue.messages.put(happened, &round);
            queue.depth.put(held, &round);
        }
        if sample.is_served_here {
            let vhost = sample.vhost;
            self.add_up(&vhost, sample.kind, &before, &sample.counts);
        }
    }

    fn forget_queue(&mut self, id: QueueId, kind: QueueKind, last: &QueueCounts) {
        let known = self.queues.remove(&id);
        self.flows.forget(id);
        if let Some(known) = known {
            self.histories_count -= usize::from(known.messages.is_remembered());
            if known.is_served_here {
                self.add_up(&known.vhost, kind, &known.counts, last);
            }
        } else {
            // It came and went between two samples.
            let totals = self.totals.of_mut(kind);
            totals.counts.grow(&QueueCounts::default(), last);
        }
    }

    fn add_up(&mut self, vhost: &Name, kind: QueueKind, before: &QueueCounts, now: &QueueCounts) {
        self.totals.of_mut(kind).counts.grow(before, now);
        let vhost = self.vhosts.entry(vhost.clone()).or_default();
        let (before, now) = (of_queue(before), of_queue(now));
        // What is published is counted by exchanges: a message may go into several queues.
        for place in 1..MESSAGE_NAMES.len() {
            vhost.happened[place] += now[place].saturating_sub(before[place]);
        }
    }

    fn take_connection(&mut self, sample: &ConnectionSample) {
        let round = self.round;
        let known = self.connections.entry(sample.id).or_default();
        known.generation = self.generation;
        known.counts = ChannelCounts::default();
        let mut channels = BTreeMap::new();
        for (number, opening, counts) in &sample.channels {
            known.counts.add(counts);
            let before = known.channels.remove(number);
            let before = before.filter(|(known, _)| known == opening);
            let mut channel = before.unwrap_or_else(|| (*opening, Series::default()));
            channel.1.put(of_channel(counts), &round);
            channels.insert(*number, channel);
        }
        known.channels = channels;
    }
}

impl Totals {
    /// Of one type of queues.
    #[must_use]
    pub fn of(&self, kind: QueueKind) -> &KindTotals {
        match kind {
            QueueKind::Classic => &self.classic,
            QueueKind::Quorum => &self.quorum,
        }
    }

    fn of_mut(&mut self, kind: QueueKind) -> &mut KindTotals {
        match kind {
            QueueKind::Classic => &mut self.classic,
            QueueKind::Quorum => &mut self.quorum,
        }
    }
}

#[cfg(test)]
mod tests;
