//! What a client does first on a new connection: declare all it uses, as applications do.

use staunch_amqp_codec::{
    methods::{
        ConfirmSelect, ExchangeBind, ExchangeDeclare, ExchangeDelete, ExchangeUnbind, Method,
        QueueBind, QueueDeclare, QueueDelete, QueueUnbind,
    },
    wire::ShortStr,
};
use staunch_types::{
    FieldTable,
    field_table::{TableBuilder, TableRef},
};

use crate::{
    client::{
        Client, Phase, Role, Wire,
        channel::{Asked, Channel, Purpose},
    },
    definitions::Change,
    history::{QueueRef, RemovalKind},
    random::Random,
    topology::{BindingRef, ExchangeRef, QueueKind, Target, Topology},
    witness::Witness,
};

/// Number of the channel for definitions.
pub const CONTROL_CHANNEL: u16 = 1;

impl Client {
    /// Goes on with declaring, and to work when all is declared.
    pub fn advance_setup(&mut self, witness: &mut Witness) {
        let (role, channel_count) = (self.role, self.habits.channels);
        let Some(session) = &mut self.session else {
            return;
        };
        if session.phase != Phase::Setup {
            return;
        }
        let has_begun = std::mem::replace(&mut session.has_begun_setup, true);
        let (channels, mut wire) = session.split(witness);
        match channels.get(&CONTROL_CHANNEL) {
            // Something was refused: all over again, on another connection and after a while.
            None if has_begun => session.close(witness),
            None => {
                let mut control = Channel::open(CONTROL_CHANNEL, Purpose::Control, &mut wire);
                let thorough = role == Role::Drainer;
                declare_all(&mut control, thorough, &mut self.random, &mut wire);
                channels.insert(CONTROL_CHANNEL, control);
            }
            Some(control) if control.asked.is_empty() => {
                for number in CONTROL_CHANNEL + 1..=CONTROL_CHANNEL + channel_count {
                    let channel = open_for_work(role, number, &mut self.random, &mut wire);
                    channels.insert(number, channel);
                }
                session.phase = Phase::Ready;
            }
            Some(_) => {}
        }
    }
}

/// Opens a channel for a role's work.
pub fn open_for_work(role: Role, number: u16, random: &mut Random, wire: &mut Wire<'_>) -> Channel {
    let purpose = match role {
        Role::Publisher => Purpose::Publish,
        Role::Consumer => Purpose::Consume,
        Role::Churner => Purpose::Control,
        Role::Drainer => {
            if number.is_multiple_of(2) {
                Purpose::Consume
            } else {
                Purpose::Publish
            }
        }
    };
    let mut channel = Channel::open(number, purpose, wire);
    let has_choice = role != Role::Drainer;
    if purpose != Purpose::Control && has_choice && random.chance(150) {
        channel.select_tx(wire);
    } else if purpose == Purpose::Publish && !(has_choice && random.chance(100)) {
        channel.ask(ConfirmSelect { nowait: false }, Asked::ConfirmSelect, wire);
    }
    channel
}

fn declare_all(control: &mut Channel, thorough: bool, random: &mut Random, wire: &mut Wire<'_>) {
    let topology = wire.witness.definitions.topology().clone();
    for (index, exchange) in topology.exchanges.iter().enumerate() {
        if thorough || !exchange.churned || random.chance(700) {
            declare_exchange(control, &topology, ExchangeRef(index), wire);
        }
    }
    let mut declared = Vec::new();
    for (index, queue) in topology.queues.iter().enumerate() {
        let skip = match queue.kind {
            QueueKind::AutoDelete => true,
            QueueKind::Churned => !thorough && random.chance(400),
            QueueKind::Steady
            | QueueKind::Transient
            | QueueKind::Leaky
            | QueueKind::Mortal
            | QueueKind::Grave
            | QueueKind::Expiring
            | QueueKind::Ruled => false,
        };
        if skip {
            continue;
        }
        declare_queue(control, &topology, QueueRef(index), wire);
        // It may be gone before a binding comes.
        if queue.kind != QueueKind::Expiring {
            declared.push(QueueRef(index));
        }
    }
    for (index, binding) in topology.bindings.iter().enumerate() {
        let reachable = match binding.target {
            Target::Queue(queue) => declared.contains(&queue),
            Target::Exchange(target) => !topology.exchanges[target.0].churned,
        } && !topology.exchanges[binding.source.0].churned;
        if reachable && !(binding.churned && random.chance(500)) {
            bind(control, &topology, BindingRef(index), wire);
        }
    }
}

/// Sends `exchange.declare`.
pub fn declare_exchange(
    channel: &mut Channel,
    topology: &Topology,
    exchange: ExchangeRef,
    wire: &mut Wire<'_>,
) {
    let facts = &topology.exchanges[exchange.0];
    let (kind, arguments) = if facts.delays {
        let table = TableBuilder::new().longstr("x-delayed-type", facts.kind);
        ("x-delayed-message", table.build())
    } else {
        (facts.kind, FieldTable::default())
    };
    let method = ExchangeDeclare {
        ticket: 0,
        exchange: short(facts.name),
        kind: short(kind),
        passive: false,
        durable: facts.durable,
        auto_delete: false,
        internal: false,
        nowait: false,
        arguments: arguments.as_table_ref(),
    };
    channel.ask_change(Change::DeclareExchange(exchange), None, method, wire);
}

/// Sends `exchange.delete`.
pub fn delete_exchange(
    channel: &mut Channel,
    topology: &Topology,
    exchange: ExchangeRef,
    wire: &mut Wire<'_>,
) {
    let name = short(topology.exchanges[exchange.0].name);
    let method = ExchangeDelete {
        ticket: 0,
        exchange: name,
        if_unused: false,
        nowait: false,
    };
    channel.ask_change(Change::DeleteExchange(exchange), None, method, wire);
}

/// `queue.declare` as the queue is.
pub fn queue_declare(topology: &Topology, queue: QueueRef, passive: bool) -> QueueDeclare<'_> {
    let facts = &topology.queues[queue.0];
    QueueDeclare {
        ticket: 0,
        queue: short(&facts.name),
        passive,
        durable: facts.durable(),
        exclusive: false,
        auto_delete: facts.kind == QueueKind::AutoDelete,
        nowait: false,
        arguments: facts.arguments.as_table_ref(),
    }
}

/// Sends `queue.declare`.
pub fn declare_queue(
    channel: &mut Channel,
    topology: &Topology,
    queue: QueueRef,
    wire: &mut Wire<'_>,
) {
    let method = queue_declare(topology, queue, false);
    channel.ask_change(Change::DeclareQueue(queue), None, method, wire);
}

/// Sends `queue.delete`.
pub fn delete_queue(
    channel: &mut Channel,
    topology: &Topology,
    queue: QueueRef,
    (if_unused, if_empty): (bool, bool),
    wire: &mut Wire<'_>,
) {
    let removal = wire.witness.begin_removal(queue, RemovalKind::Delete);
    let name = short(&topology.queues[queue.0].name);
    let method = QueueDelete {
        ticket: 0,
        queue: name,
        if_unused,
        if_empty,
        nowait: false,
    };
    channel.ask_change(Change::DeleteQueue(queue), Some(removal), method, wire);
}

/// Sends `queue.bind` or `exchange.bind`.
pub fn bind(channel: &mut Channel, topology: &Topology, binding: BindingRef, wire: &mut Wire<'_>) {
    let facts = &topology.bindings[binding.0];
    let source = short(topology.exchanges[facts.source.0].name);
    let (routing_key, arguments) = (short(&facts.key), TableRef::default());
    let method: Method<'_> = match facts.target {
        Target::Queue(queue) => {
            let queue = short(&topology.queues[queue.0].name);
            let exchange = source;
            QueueBind {
                ticket: 0,
                queue,
                exchange,
                routing_key,
                nowait: false,
                arguments,
            }
            .into()
        }
        Target::Exchange(target) => {
            let destination = short(topology.exchanges[target.0].name);
            ExchangeBind {
                ticket: 0,
                destination,
                source,
                routing_key,
                nowait: false,
                arguments,
            }
            .into()
        }
    };
    channel.ask_change(Change::Bind(binding), None, method, wire);
}

/// Sends `queue.unbind` or `exchange.unbind`.
pub fn unbind(
    channel: &mut Channel,
    topology: &Topology,
    binding: BindingRef,
    wire: &mut Wire<'_>,
) {
    let facts = &topology.bindings[binding.0];
    let source = short(topology.exchanges[facts.source.0].name);
    let (routing_key, arguments) = (short(&facts.key), TableRef::default());
    let method: Method<'_> = match facts.target {
        Target::Queue(queue) => {
            let queue = short(&topology.queues[queue.0].name);
            QueueUnbind {
                ticket: 0,
                queue,
                exchange: source,
                routing_key,
                arguments,
            }
            .into()
        }
        Target::Exchange(target) => {
            let destination = short(topology.exchanges[target.0].name);
            ExchangeUnbind {
                ticket: 0,
                destination,
                source,
                routing_key,
                nowait: false,
                arguments,
            }
            .into()
        }
    };
    channel.ask_change(Change::Unbind(binding), None, method, wire);
}

/// Whether `change` was sent as the method of that class and id.
pub fn is_named(change: Change, class_method: (u16, u16)) -> bool {
    match change {
        Change::DeclareQueue(_) => class_method == (50, 10),
        Change::DeleteQueue(_) => class_method == (50, 40),
        Change::DeclareExchange(_) => class_method == (40, 10),
        Change::DeleteExchange(_) => class_method == (40, 20),
        Change::Bind(_) => matches!(class_method, (50, 20) | (40, 30)),
        Change::Unbind(_) => matches!(class_method, (50, 50) | (40, 40)),
    }
}

/// Whether `method` is what `change` is answered with.
pub fn is_answer(method: &Method<'_>, change: Change) -> bool {
    matches!(
        (method, change),
        (Method::QueueDeclareOk(_), Change::DeclareQueue(_))
            | (Method::QueueDeleteOk(_), Change::DeleteQueue(_))
            | (Method::ExchangeDeclareOk(_), Change::DeclareExchange(_))
            | (Method::ExchangeDeleteOk(_), Change::DeleteExchange(_))
            | (
                Method::QueueBindOk(_) | Method::ExchangeBindOk(_),
                Change::Bind(_)
            )
            | (
                Method::QueueUnbindOk(_) | Method::ExchangeUnbindOk(_),
                Change::Unbind(_)
            )
    )
}

/// A name as a short string.
///
/// # Panics
/// If it is longer than 255 bytes.
pub fn short(name: &str) -> ShortStr<'_> {
    ShortStr::new(name.as_bytes()).expect("names of the simulator are short")
}
