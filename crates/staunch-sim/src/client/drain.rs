//! The client that empties every queue when the faults are over.

use staunch_amqp_codec::methods::BasicQos;

use crate::{
    client::{
        Client, Phase, Session,
        actions::{DELAY_MILLIS_MAX, Draft, publish, start_consumer},
        channel::{Asked, Channel},
        churn::probe,
        setup::{CONTROL_CHANNEL, delete_queue},
    },
    history::{Fact, QueueRef},
    schedule::{MILLIS, SECONDS},
    topology::{DEFAULT_EXCHANGE, QueueKind, Topology},
    witness::Witness,
};

/// Its channel for consuming.
const CONSUME_CHANNEL: u16 = CONTROL_CHANNEL + 1;
/// Its channel for publishing.
const PUBLISH_CHANNEL: u16 = CONTROL_CHANNEL + 2;
/// Channels it has.
const CHANNEL_COUNT: usize = 3;
/// Probes in a row that must see every queue empty.
const EMPTY_PROBES: u32 = 2;
/// As many where dead letters may wait to be tried again, which no probe sees: longer than that
/// takes, at a probe every 50 ms.
const EMPTY_PROBES_RETRIED: u32 = 30;
/// How long the last delayed message can take after its publisher has gone, in nanoseconds.
const DELAYED_NANOS_MAX: u64 = DELAY_MILLIS_MAX as u64 * MILLIS + SECONDS;

/// How far it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Connecting and starting consumers.
    #[default]
    Starting,
    /// Taking what is there.
    Draining,
    /// Taking what it has published itself.
    Publishing,
    /// Closing.
    Closing,
    /// Everything worked.
    Done,
}

/// Its progress.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// The stage.
    pub stage: Stage,
    empty_probes: u32,
    deliveries_seen: u64,
    is_probing: bool,
    /// Since when every other client has been gone, in virtual nanoseconds.
    alone_since: Option<u64>,
}

impl Progress {
    /// One step; `alone` once every other client has gone.
    pub fn step(&mut self, drainer: &mut Client, alone: bool, witness: &mut Witness) {
        drainer.advance_setup(witness);
        if self.stage == Stage::Closing && drainer.session.is_none() {
            self.stage = Stage::Done;
        }
        let Client {
            session: Some(session),
            random,
            ..
        } = drainer
        else {
            // Its node has gone, and all that it had begun with it.
            if self.stage < Stage::Closing {
                *self = Self::default();
            }
            return;
        };
        if session.phase != Phase::Ready {
            return;
        }
        let topology = witness.definitions.topology().clone();
        // A deletion that was still under way took a queue or a channel: all over again.
        let whole = session.channels.len() == CHANNEL_COUNT
            && session
                .channels
                .get(&CONSUME_CHANNEL)
                .is_some_and(|channel| channel.tags_used == channel.consumers.len() as u64);
        if !whole && self.stage < Stage::Closing {
            session.close(witness);
            *self = Self::default();
            return;
        }
        if self.stage == Stage::Starting {
            let prefetch = *random.pick(&[20, 100, 0]);
            start_consumers(session, &topology, prefetch, witness);
            self.stage = Stage::Draining;
            return;
        }
        session.ack_all(witness);
        if !alone {
            self.empty_probes = 0;
            self.alone_since = None;
            return;
        }
        let now = witness.history.now_nanos;
        let since = *self.alone_since.get_or_insert(now);
        let slack = witness.history.clock_slack_nanos;
        let is_delayed = self.stage == Stage::Draining
            && topology.delays()
            && now < since + DELAYED_NANOS_MAX + slack;
        if is_delayed || !self.is_empty(session, &topology, witness) {
            return;
        }
        self.empty_probes = 0;
        match self.stage {
            Stage::Draining => {
                publish_everywhere(session, &topology, witness);
                self.stage = Stage::Publishing;
            }
            Stage::Publishing => {
                for queue in drained_queues(&topology) {
                    witness.history.push(Fact::Drained { queue });
                }
                session.close(witness);
                self.stage = Stage::Closing;
            }
            Stage::Starting | Stage::Closing | Stage::Done => {}
        }
    }

    /// Whether enough probes in a row saw nothing, and nothing came or is held meanwhile.
    fn is_empty(
        &mut self,
        session: &mut Session,
        topology: &Topology,
        witness: &mut Witness,
    ) -> bool {
        let seen = witness.coverage.count("delivered");
        let quiet = session.is_quiet();
        let (channels, mut wire) = session.split(witness);
        let holds = channels.values().any(|channel| !channel.unacked.is_empty());
        let Some(control) = channels.get_mut(&CONTROL_CHANNEL) else {
            return false;
        };
        if !quiet {
            return false;
        }
        if self.is_probing {
            let empty = control.probed.values().all(|ready| *ready == 0);
            let still = !holds && seen == self.deliveries_seen;
            self.empty_probes = if empty && still {
                self.empty_probes + 1
            } else {
                0
            };
        }
        self.is_probing = true;
        self.deliveries_seen = seen;
        control.probed.clear();
        for queue in drained_queues(topology) {
            probe(control, topology, queue, &mut wire);
        }
        let retries = topology
            .queues
            .iter()
            .any(|queue| queue.gets_dead_letters && queue.refuses);
        let wanted = if retries {
            EMPTY_PROBES_RETRIED
        } else {
            EMPTY_PROBES
        };
        self.empty_probes >= wanted
    }
}

fn start_consumers(
    session: &mut Session,
    topology: &Topology,
    prefetch: u16,
    witness: &mut Witness,
) {
    let (channels, mut wire) = session.split(witness);
    let Some(channel) = channels.get_mut(&CONSUME_CHANNEL) else {
        return;
    };
    // Nobody drains these, and what they hold may be what an alarm is about.
    for (index, queue) in topology.queues.iter().enumerate() {
        if queue.kind == QueueKind::AutoDelete {
            delete_queue(
                channel,
                topology,
                QueueRef(index),
                (false, false),
                &mut wire,
            );
        }
    }
    let qos = BasicQos {
        prefetch_size: 0,
        prefetch_count: prefetch,
        global: false,
    };
    channel.ask(qos, Asked::Qos, &mut wire);
    for queue in drained_queues(topology) {
        start_consumer(channel, topology, queue, (prefetch, false), &mut wire);
    }
}

fn publish_everywhere(session: &mut Session, topology: &Topology, witness: &mut Witness) {
    let (channels, mut wire) = session.split(witness);
    let Some(channel): Option<&mut Channel> = channels.get_mut(&PUBLISH_CHANNEL) else {
        return;
    };
    for queue in drained_queues(topology) {
        let draft = Draft {
            exchange: DEFAULT_EXCHANGE.to_owned(),
            key: topology.queues[queue.0].name.clone(),
            persistent: true,
            mandatory: true,
            body_size: 100,
            delay_millis: None,
        };
        publish(channel, draft, &mut wire);
    }
}

fn drained_queues(topology: &Topology) -> impl Iterator<Item = QueueRef> + '_ {
    (0..topology.queues.len())
        .filter(|index| topology.queues[*index].certain())
        .map(QueueRef)
}
