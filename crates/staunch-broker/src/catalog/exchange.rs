//! An exchange as the catalog knows it, and those that are always there.

use std::sync::Arc;

use staunch_types::field_table::Value;
use staunch_types::{
    ExchangeKind, ExchangeOptions, FieldTable, Name, QueueId, QueueOptions, Refusal, Resource,
};

use super::arguments::{self, Subject};
use super::parameters::check_table;
use super::{Applied, Catalog, Change, Mode, Placement, QueueEntry};
use crate::exchange::{ConsistentHash, Router, Seeded};

/// Argument that names where unroutable messages go.
pub(super) const ALTERNATE_EXCHANGE: &str = "alternate-exchange";

/// Type of the exchanges that can hold messages back before they go on.
const DELAYED_MESSAGE: &str = "x-delayed-message";

/// Argument that says how such an exchange chooses where a message goes then.
const DELAYED_TYPE: &str = "x-delayed-type";

/// Exchanges of every virtual host besides the default one: name, kind, internal.
pub(super) const PREDECLARED: [(&str, ExchangeKind, bool); 7] = [
    ("", ExchangeKind::Direct, false),
    ("amq.direct", ExchangeKind::Direct, false),
    ("amq.fanout", ExchangeKind::Fanout, false),
    ("amq.headers", ExchangeKind::Headers, false),
    ("amq.match", ExchangeKind::Headers, false),
    ("amq.rabbitmq.trace", ExchangeKind::Topic, true),
    ("amq.topic", ExchangeKind::Topic, false),
];

/// The exchange of the default virtual host that the broker publishes its events to: a topic
/// exchange, internal.
pub(super) const EVENTS: &str = "amq.rabbitmq.event";

/// An exchange.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) options: ExchangeOptions,
    /// Where messages go that no binding matches: the argument, else the policy's.
    pub(super) alternate: Option<Name>,
    /// Where messages wait that it holds back.
    pub(super) delay_queue: Option<QueueId>,
    pub(super) router: Router,
}

impl Exchange {
    /// `delay_queue` for a kind that delays.
    pub(super) fn new(
        kind: ExchangeKind,
        options: &ExchangeOptions,
        delay_queue: Option<QueueId>,
        hasher: Seeded,
    ) -> Self {
        let options = ExchangeOptions {
            arguments: options.arguments.as_table_ref().to_field_table(),
            ..options.clone()
        };
        let alternate = options.arguments.get(ALTERNATE_EXCHANGE);
        let alternate = alternate.and_then(|value| Name::new(value.as_str()?.as_bytes()).ok());
        Self {
            alternate,
            delay_queue,
            router: Router::new(kind, &options.arguments, hasher),
            options,
        }
    }

    pub(super) fn predeclared(kind: ExchangeKind, internal: bool, hasher: Seeded) -> Self {
        let options = ExchangeOptions {
            kind: Name::from_static(kind.name()),
            durable: true,
            auto_delete: false,
            internal,
            arguments: FieldTable::default(),
        };
        Self::new(kind, &options, None, hasher)
    }
}

/// What the type of a declaration asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// Route at once.
    Routes(ExchangeKind),
    /// Hold back what asks for it, and route as the arguments say.
    Delays,
}

impl Behaviour {
    /// # Errors
    /// [`Refusal::UnknownExchangeType`].
    pub(super) fn of(kind: &Name) -> Result<Self, Refusal> {
        if **kind == *DELAYED_MESSAGE.as_bytes() {
            return Ok(Self::Delays);
        }
        ExchangeKind::from_name(kind)
            .map(Self::Routes)
            .ok_or_else(|| Refusal::UnknownExchangeType { kind: kind.clone() })
    }

    /// Checks the arguments of a new exchange; how it will route.
    ///
    /// # Errors
    /// [`Refusal::UnknownExchangeType`] for the inner type, [`Refusal::Precondition`].
    pub(super) fn check(
        self,
        subject: Subject<'_>,
        options: &ExchangeOptions,
    ) -> Result<ExchangeKind, Refusal> {
        arguments::check_exchange_name(subject, ALTERNATE_EXCHANGE, &options.arguments)?;
        let kind = match self {
            Self::Routes(kind) => kind,
            Self::Delays => delayed_kind(&options.arguments)?,
        };
        if kind == ExchangeKind::ConsistentHash {
            ConsistentHash::check_arguments(&options.arguments).map_err(Refusal::Precondition)?;
        }
        Ok(kind)
    }
}

/// The type behind a delay.
fn delayed_kind(arguments: &FieldTable) -> Result<ExchangeKind, Refusal> {
    let refused = |text: &str| Refusal::Precondition(text.to_owned());
    let inner = arguments.get(DELAYED_TYPE).and_then(Value::as_str);
    let inner = inner.ok_or_else(|| {
        refused("Invalid argument, 'x-delayed-type' must be an existing exchange type")
    })?;
    if inner == DELAYED_MESSAGE {
        let text = "Invalid argument, 'x-delayed-message' can't be used for 'x-delayed-type'";
        return Err(refused(text));
    }
    ExchangeKind::from_name(inner.as_bytes()).ok_or_else(|| {
        // A name that is too long to be one is shown as far as the reply would show it.
        let kind = super::short_name(inner.as_bytes());
        Refusal::UnknownExchangeType { kind }
    })
}

impl Catalog {
    /// `name` is that of the virtual host and its own.
    pub(super) fn declare_exchange(
        &mut self,
        (vhost, name): (&Name, &Name),
        options: &ExchangeOptions,
        holder: (QueueId, &Placement),
        mode: Mode,
    ) -> Result<Applied, Refusal> {
        let inside = self.vhost(vhost)?;
        let behaviour = Behaviour::of(&options.kind)?;
        if name.is_empty() {
            return Err(Refusal::DefaultExchange);
        }
        let subject = Subject {
            resource: Resource::Exchange,
            vhost,
            name,
        };
        if let Some(there) = inside.exchanges.get(name) {
            arguments::check_same_exchange(subject, options, &there.options)?;
            return Ok(Applied {
                queue: there.delay_queue,
                ..Applied::unchanged()
            });
        }
        check_new_name(name)?;
        let kind = behaviour.check(subject, options)?;
        if mode.is_new() {
            check_table("arguments of exchange", name, &options.arguments)?;
        }
        if mode == Mode::Decide {
            self.check_exchange_limit(vhost, name)?;
        }
        let delay_queue = if behaviour == Behaviour::Delays {
            let placement = self.without_removed(holder.1)?;
            let holder = (holder.0, placement);
            Some(self.add_delay_queue((vhost, name), options.durable, holder, mode))
        } else {
            None
        };
        let exchange = Exchange::new(kind, options, delay_queue, self.hasher);
        let inside = self.vhost_mut(vhost)?;
        inside.add_exchange(name.clone(), exchange);
        inside.follow_policies(name);
        Ok(Applied {
            queue: delay_queue,
            ..Applied::new(Change::Created, options.durable)
        })
    }

    /// Makes the queue for the messages that an exchange delays.
    fn add_delay_queue(
        &mut self,
        (vhost, exchange): (&Name, &Name),
        durable: bool,
        (proposed, placement): (QueueId, Placement),
        mode: Mode,
    ) -> QueueId {
        let id = self.take_queue_id(proposed, mode);
        self.queues.insert(QueueEntry {
            id,
            vhost: self.shared_vhost_name(vhost),
            name: exchange.clone(),
            options: QueueOptions {
                durable,
                exclusive: false,
                auto_delete: false,
                arguments: FieldTable::default(),
            },
            owner: None,
            settings: Arc::default(),
            holds_delayed: true,
            partitioning: super::Partitioning::Whole,
            placement,
        });
        id
    }
}

fn check_new_name(name: &Name) -> Result<(), Refusal> {
    let (resource, name) = (Resource::Exchange, name.clone());
    if !arguments::is_valid_name(&name) {
        return Err(Refusal::InvalidName { resource, name });
    }
    if is_reserved(&name) {
        return Err(Refusal::ReservedName { resource, name });
    }
    Ok(())
}

/// Names that only the broker may make or delete.
pub(super) fn is_reserved(name: &[u8]) -> bool {
    name.starts_with(b"amq.")
}
