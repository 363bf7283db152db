//! What the client does that changes definitions and looks at them.

use staunch_amqp_codec::methods::QueuePurge;

use crate::{
    client::{
        Wire,
        channel::{Asked, Channel},
        setup::{
            bind, declare_exchange, declare_queue, delete_exchange, delete_queue, queue_declare,
            short, unbind,
        },
    },
    history::{QueueRef, RemovalKind},
    random::Random,
    topology::{BindingRef, ExchangeRef, QueueKind, Topology},
};

/// One change or look; how many operations it was.
pub fn step(channel: &mut Channel, random: &mut Random, wire: &mut Wire<'_>) -> u64 {
    let topology = wire.witness.definitions.topology().clone();
    let churned: Vec<QueueRef> = queues_of(&topology, QueueKind::Churned);
    match random.weighted(&[40, 20, 8, 8, 4, 12, 3]) {
        0 => probe_any(channel, &topology, random, wire),
        1 => bind_any(channel, &topology, random, wire),
        2 => {
            let queue = QueueRef(random.index(topology.queues.len()));
            declare_queue(channel, &topology, queue, wire);
        }
        3 if !churned.is_empty() => purge(channel, &topology, *random.pick(&churned), wire),
        4 if !churned.is_empty() => {
            let mut conditions = (random.chance(300), random.chance(300));
            let queue = *random.pick(&churned);
            if topology.queues[queue.0].is_quorum {
                conditions = (false, false);
            }
            delete_queue(channel, &topology, queue, conditions, wire);
        }
        5 => exchange_any(channel, &topology, random, wire),
        6 => inequivalent(channel, &topology, random, wire),
        _ => return 0,
    }
    1
}

/// Asks whether a queue is there and how much is ready in it.
pub fn probe(channel: &mut Channel, topology: &Topology, queue: QueueRef, wire: &mut Wire<'_>) {
    let from = wire.witness.history.next_stamp();
    let method = queue_declare(topology, queue, true);
    channel.ask(method, Asked::Probe(queue, from), wire);
}

fn probe_any(channel: &mut Channel, topology: &Topology, random: &mut Random, wire: &mut Wire<'_>) {
    let queue = QueueRef(random.index(topology.queues.len()));
    probe(channel, topology, queue, wire);
}

fn bind_any(channel: &mut Channel, topology: &Topology, random: &mut Random, wire: &mut Wire<'_>) {
    let churned: Vec<usize> = (0..topology.bindings.len())
        .filter(|index| topology.bindings[*index].churned)
        .collect();
    if churned.is_empty() {
        return;
    }
    let binding = BindingRef(*random.pick(&churned));
    if random.chance(500) {
        bind(channel, topology, binding, wire);
    } else {
        unbind(channel, topology, binding, wire);
    }
}

fn exchange_any(
    channel: &mut Channel,
    topology: &Topology,
    random: &mut Random,
    wire: &mut Wire<'_>,
) {
    let exchange = ExchangeRef(random.index(topology.exchanges.len()));
    if topology.exchanges[exchange.0].churned && random.chance(400) {
        delete_exchange(channel, topology, exchange, wire);
    } else {
        declare_exchange(channel, topology, exchange, wire);
    }
}

fn purge(channel: &mut Channel, topology: &Topology, queue: QueueRef, wire: &mut Wire<'_>) {
    let removal = wire.witness.begin_removal(queue, RemovalKind::Purge);
    let name = short(&topology.queues[queue.0].name);
    let method = QueuePurge {
        ticket: 0,
        queue: name,
        nowait: false,
    };
    channel.ask(method, Asked::Purge(removal), wire);
}

/// Declares a steady queue with the other durability: refused, and nothing changes.
fn inequivalent(
    channel: &mut Channel,
    topology: &Topology,
    random: &mut Random,
    wire: &mut Wire<'_>,
) {
    let queue = *random.pick(&queues_of(topology, QueueKind::Steady));
    let mut method = queue_declare(topology, queue, false);
    method.durable = false;
    channel.provoked = true;
    channel.ask(method, Asked::Inequivalent, wire);
}

fn queues_of(topology: &Topology, kind: QueueKind) -> Vec<QueueRef> {
    (0..topology.queues.len())
        .filter(|index| topology.queues[*index].kind == kind)
        .map(QueueRef)
        .collect()
}
