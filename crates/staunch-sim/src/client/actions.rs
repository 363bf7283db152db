//! What publishers and consumers do when it is their turn.

use staunch_amqp_codec::{
    content::encode_content,
    methods::{
        BasicAck, BasicCancel, BasicConsume, BasicGet, BasicNack, BasicPublish, BasicQos,
        BasicRecover, BasicReject,
    },
};
use staunch_types::field_table::TableRef;

use crate::{
    client::{
        Client, Habits, Phase, Role, Session, Wire,
        channel::{Asked, Channel, Consumer, Purpose},
        setup::{CONTROL_CHANNEL, declare_queue, open_for_work, short},
    },
    history::{Fact, QueueRef, Settlement},
    payload::{self, Payload},
    random::Random,
    topology::{DEFAULT_EXCHANGE, QueueKind, ROUTING_KEYS, Topology},
    witness::Witness,
};

/// Longest delay that a message is published with, in milliseconds.
pub const DELAY_MILLIS_MAX: u16 = 5_000;

/// Consumers one channel of the workload has at most.
const CONSUMERS_PER_CHANNEL_MAX: usize = 3;

impl Client {
    /// Does something; how many operations it was.
    pub fn act(&mut self, witness: &mut Witness) -> u64 {
        self.advance_setup(witness);
        let (role, habits) = (self.role, self.habits);
        let Some(session) = self
            .session
            .as_mut()
            .filter(|session| session.phase == Phase::Ready)
        else {
            return 0;
        };
        let random = &mut self.random;
        if role != Role::Drainer && random.chance(4) {
            session.close(witness);
            return 1;
        }
        let number = CONTROL_CHANNEL + to_u16(random.between(1, u64::from(habits.channels)));
        let blocked = session.blocked;
        let (channels, mut wire) = session.split(witness);
        let channel = match channels.get_mut(&number) {
            Some(channel) => channel,
            None => channels
                .entry(number)
                .or_insert(open_for_work(role, number, random, &mut wire)),
        };
        if !channel.is_usable() {
            return 0;
        }
        if role != Role::Drainer && random.chance(10) {
            channel.close(&mut wire);
            return 1;
        }
        match channel.purpose {
            Purpose::Publish if blocked => 0,
            Purpose::Publish => publish_burst(channel, habits, random, &mut wire),
            Purpose::Consume => consume_step(channel, random, &mut wire),
            Purpose::Control => crate::client::churn::step(channel, random, &mut wire),
        }
    }
}

impl Session {
    /// Settles everything held on the channels for consuming, without closing anything.
    pub fn ack_all(&mut self, witness: &mut Witness) {
        if self.phase != Phase::Ready {
            return;
        }
        let (channels, mut wire) = self.split(witness);
        for channel in channels.values_mut().filter(|channel| channel.is_usable()) {
            channel.ack_all(&mut wire);
        }
    }
}

fn publish_burst(
    channel: &mut Channel,
    habits: Habits,
    random: &mut Random,
    wire: &mut Wire<'_>,
) -> u64 {
    if channel.is_ending_tx() {
        return 0;
    }
    let count = random.between(1, habits.burst_max);
    let mut sent = 0;
    while sent < count && channel.unconfirmed.len() < habits.confirm_window {
        let topology = wire.witness.definitions.topology();
        let draft = draw_publish(topology, habits, random);
        publish(channel, draft, wire);
        sent += 1;
    }
    if channel.tx.is_some() && random.chance(400) {
        channel.end_tx(random, wire);
    }
    sent
}

/// What a client is about to publish.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Exchange.
    pub exchange: String,
    /// Routing key.
    pub key: String,
    /// Delivery mode 2.
    pub persistent: bool,
    /// With `mandatory`.
    pub mandatory: bool,
    /// Size of the body, in bytes.
    pub body_size: usize,
    /// For how long its exchange is to delay it, in milliseconds.
    pub delay_millis: Option<i32>,
}

/// Sends one publish.
pub fn publish(channel: &mut Channel, draft: Draft, wire: &mut Wire<'_>) {
    let id = wire.witness.next_message();
    let (persistent, mandatory) = (draft.persistent, draft.mandatory);
    let payload = Payload {
        id,
        exchange: draft.exchange,
        key: draft.key,
        persistent,
        body_size: draft.body_size,
        delay_millis: draft.delay_millis,
    };
    let method = BasicPublish {
        ticket: 0,
        exchange: short(&payload.exchange),
        routing_key: short(&payload.key),
        mandatory,
        immediate: false,
    };
    method.encode_frame(channel.number, wire.out);
    let (properties, body) = (payload.properties(), payload.body());
    encode_content(wire.out, channel.number, &properties, &body, wire.frame_max);
    // Confirm mode may still be on its way: the channel asked for it before it published.
    let confirming = channel.confirming
        || channel
            .asked
            .iter()
            .any(|asked| matches!(asked, Asked::ConfirmSelect));
    let seq = confirming.then(|| {
        channel.last_seq += 1;
        channel.unconfirmed.insert(channel.last_seq, id);
        channel.last_seq
    });
    let ttl_millis = payload.ttl_millis().map(u64::from);
    let delay_millis = payload
        .delay_millis
        .map(|delay| u64::from(delay.unsigned_abs()));
    if delay_millis.is_some() {
        wire.witness.coverage.hit("published with a delay");
    }
    let fact = Fact::Published {
        id,
        channel: channel.key,
        seq,
        persistent,
        mandatory,
        ttl_millis,
        delay_millis,
        in_tx: channel.tx.is_some(),
        key_hash: payload::hash_of(&payload.key),
    };
    if let Some(tx) = &mut channel.tx {
        tx.published.push(id);
    }
    wire.witness.coverage.hit("published");
    wire.witness.publish(payload, wire.connection, fact);
}

fn draw_publish(topology: &Topology, habits: Habits, random: &mut Random) -> Draft {
    let mut draft = Draft {
        exchange: DEFAULT_EXCHANGE.to_owned(),
        key: String::new(),
        persistent: random.chance(habits.persistent),
        mandatory: random.chance(150),
        body_size: draw_size(habits, random),
        delay_millis: None,
    };
    if random.chance(400) {
        draft.key.clone_from(&random.pick(&topology.queues).name);
        return draft;
    }
    let exchange = random.pick(&topology.exchanges);
    exchange.name.clone_into(&mut draft.exchange);
    (*random.pick(&ROUTING_KEYS)).clone_into(&mut draft.key);
    if exchange.delays && random.chance(800) {
        let some = to_u16(random.between(1, u64::from(DELAY_MILLIS_MAX)));
        draft.delay_millis = Some(i32::from(*random.pick(&[1, 20, 300, 2_000, some])));
    }
    draft
}

fn draw_size(habits: Habits, random: &mut Random) -> usize {
    let size = match random.weighted(&[20, 50, 20, 8, 2]) {
        0 => 0,
        1 => random.between(1, 100),
        2 => random.between(100, 2_000),
        3 => random.between(2_000, 9_000),
        _ if habits.large_bodies => random.between(9_000, 40_000),
        _ => random.between(400, 600),
    };
    usize::try_from(size).expect("a body is small")
}

fn consume_step(channel: &mut Channel, random: &mut Random, wire: &mut Wire<'_>) -> u64 {
    if channel.is_ending_tx() {
        return 0;
    }
    let has_settled =
        |channel: &Channel| channel.tx.as_ref().is_some_and(|tx| !tx.settled.is_empty());
    if has_settled(channel) && random.chance(300) {
        channel.end_tx(random, wire);
        return 1;
    }
    let held = !channel.unsettled_tags().is_empty();
    let active = channel
        .consumers
        .values()
        .filter(|consumer| !consumer.cancelling)
        .count();
    if active == 0 || (active < CONSUMERS_PER_CHANNEL_MAX && random.chance(60)) {
        return consume(channel, random, wire);
    }
    match random.weighted(&[if held { 60 } else { 0 }, 8, 3, 30]) {
        0 => settle_some(channel, random, wire),
        1 => get(channel, random, wire),
        2 => cancel(channel, random, wire),
        _ => 0,
    }
}

fn consume(channel: &mut Channel, random: &mut Random, wire: &mut Wire<'_>) -> u64 {
    let topology = wire.witness.definitions.topology().clone();
    let queue = QueueRef(random.index(topology.queues.len()));
    let kind = topology.queues[queue.0].kind;
    let is_quorum = topology.queues[queue.0].is_quorum;
    if is_quorum && channel.prefetch_global > 0 {
        return 0;
    }
    let prefetch = *random.pick(&[1, 1, 3, 10, 50, 0]);
    let qos = BasicQos {
        prefetch_size: 0,
        prefetch_count: prefetch,
        global: false,
    };
    // It ends the limit of the channel, as in RabbitMQ.
    channel.prefetch_global = 0;
    channel.ask(qos, Asked::Qos, wire);
    let fresh = channel.tags_used == 0;
    if fresh && !is_quorum && random.chance(200) {
        channel.prefetch_global = to_u16(random.between(1, 20));
        let count = channel.prefetch_global;
        let qos = BasicQos {
            prefetch_size: 0,
            prefetch_count: count,
            global: true,
        };
        channel.ask(qos, Asked::Qos, wire);
    }
    if matches!(kind, QueueKind::AutoDelete | QueueKind::Expiring) {
        declare_queue(channel, &topology, queue, wire);
    }
    let no_ack = kind == QueueKind::Leaky && random.chance(500);
    start_consumer(channel, &topology, queue, (prefetch, no_ack), wire);
    1
}

/// Sends `basic.consume`.
pub fn start_consumer(
    channel: &mut Channel,
    topology: &Topology,
    queue: QueueRef,
    (prefetch, no_ack): (u16, bool),
    wire: &mut Wire<'_>,
) {
    channel.tags_used += 1;
    let tag = format!("c{}", channel.tags_used);
    let method = BasicConsume {
        ticket: 0,
        queue: short(&topology.queues[queue.0].name),
        consumer_tag: short(&tag),
        no_local: false,
        no_ack,
        exclusive: false,
        nowait: false,
        arguments: TableRef::default(),
    };
    channel.ask(method, Asked::Consume(tag.clone()), wire);
    let consumer = Consumer {
        queue,
        // Each partition counts for itself.
        held_max: u32::from(prefetch) * u32::from(topology.queues[queue.0].partitions.max(1)),
        no_ack,
        held: 0,
        cancelling: false,
        asked: wire.witness.history.next_stamp(),
    };
    channel.consumers.insert(tag, consumer);
}

fn get(channel: &mut Channel, random: &mut Random, wire: &mut Wire<'_>) -> u64 {
    let topology = wire.witness.definitions.topology().clone();
    let queue = QueueRef(random.index(topology.queues.len()));
    let facts = &topology.queues[queue.0];
    if !facts.certain() {
        return 0;
    }
    let no_ack = facts.kind == QueueKind::Leaky && random.chance(500);
    let method = BasicGet {
        ticket: 0,
        queue: short(&facts.name),
        no_ack,
    };
    let asked = wire.witness.history.next_stamp();
    channel.ask(method, Asked::Get(queue, no_ack, asked), wire);
    1
}

fn cancel(channel: &mut Channel, random: &mut Random, wire: &mut Wire<'_>) -> u64 {
    let tags: Vec<String> = channel
        .consumers
        .iter()
        .filter(|(_, consumer)| !consumer.cancelling)
        .map(|(tag, _)| tag.clone())
        .collect();
    let tag = random.pick(&tags).clone();
    if let Some(consumer) = channel.consumers.get_mut(&tag) {
        consumer.cancelling = true;
    }
    let method = BasicCancel {
        consumer_tag: short(&tag),
        nowait: false,
    };
    channel.ask(method, Asked::Cancel(tag.clone()), wire);
    1
}

fn settle_some(channel: &mut Channel, random: &mut Random, wire: &mut Wire<'_>) -> u64 {
    let held = channel.unsettled_tags();
    let number = channel.number;
    let tag = *random.pick(&held);
    let upto: Vec<u64> = held.iter().copied().filter(|other| *other <= tag).collect();
    let (tags, settlement) = match random.weighted(&[40, 30, 8, 6, 4, 2, 1]) {
        0 => {
            BasicAck {
                delivery_tag: tag,
                multiple: false,
            }
            .encode_frame(number, wire.out);
            (vec![tag], Settlement::Ack)
        }
        1 => {
            BasicAck {
                delivery_tag: tag,
                multiple: true,
            }
            .encode_frame(number, wire.out);
            (upto, Settlement::Ack)
        }
        2 => {
            BasicNack {
                delivery_tag: tag,
                multiple: true,
                requeue: true,
            }
            .encode_frame(number, wire.out);
            (upto, Settlement::Requeue)
        }
        3 => {
            BasicReject {
                delivery_tag: tag,
                requeue: true,
            }
            .encode_frame(number, wire.out);
            (vec![tag], Settlement::Requeue)
        }
        4 => {
            BasicReject {
                delivery_tag: tag,
                requeue: false,
            }
            .encode_frame(number, wire.out);
            (vec![tag], Settlement::Discard)
        }
        5 if channel.tx.is_some() => return 0,
        5 => {
            channel.recovering = true;
            channel.ask(BasicRecover { requeue: true }, Asked::Recover, wire);
            return 1;
        }
        _ => {
            channel.provoked = true;
            BasicAck {
                delivery_tag: tag + 1_000_000,
                multiple: false,
            }
            .encode_frame(number, wire.out);
            return 1;
        }
    };
    channel.settle(&tags, settlement, wire);
    1
}

fn to_u16(number: u64) -> u16 {
    u16::try_from(number).expect("a small number")
}
