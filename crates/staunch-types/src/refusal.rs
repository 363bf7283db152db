//! Why the node refused: causes, not codes. The protocol crate maps each to its reply.

use std::fmt;

use crate::Name;

/// The kinds of thing a refusal may speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A queue.
    Queue,
    /// An exchange.
    Exchange,
}

impl Resource {
    /// The word used in reply texts.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Exchange => "exchange",
        }
    }
}

/// What was asked when the node refused; the protocol crate knows each one's method id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `connection.start-ok`.
    Login,
    /// `connection.open`.
    OpenVhost,
    /// `channel.open`.
    OpenChannel,
    /// `tx.commit`.
    Commit,
    /// `exchange.declare`.
    DeclareExchange,
    /// `exchange.delete`.
    DeleteExchange,
    /// `exchange.bind`.
    BindExchange,
    /// `exchange.unbind`.
    UnbindExchange,
    /// `queue.declare`.
    DeclareQueue,
    /// `queue.bind`.
    BindQueue,
    /// `queue.unbind`.
    UnbindQueue,
    /// `queue.purge`.
    PurgeQueue,
    /// `queue.delete`.
    DeleteQueue,
    /// `basic.consume`.
    Consume,
    /// `basic.cancel`.
    Cancel,
    /// `basic.get`.
    Get,
    /// `basic.publish`.
    Publish,
    /// `basic.ack` and its kin.
    Settle,
    /// `basic.qos`.
    LimitChannel,
}

/// A side of an inequivalent argument, as it is printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArgumentSide {
    /// The argument is absent.
    None,
    /// A property or a value of the same type on both sides: printed `'value'`.
    Plain(String),
    /// Present on this side only: printed `the value 'value' of type 'type'`.
    Typed {
        /// The value, printed.
        value: String,
        /// Its AMQP type by RabbitMQ's name, such as `longstr`.
        type_name: &'static str,
    },
}

impl fmt::Display for ArgumentSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Plain(value) => write!(f, "'{value}'"),
            Self::Typed { value, type_name } => {
                write!(f, "the value '{value}' of type '{type_name}'")
            }
        }
    }
}

/// Why a request was refused. `resource` and `name` say of what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 404.
    #[error("no {} '{name}' in vhost '{vhost}'", resource.noun())]
    NotFound {
        /// Queue or exchange.
        resource: Resource,
        /// Its name.
        name: Name,
        /// Its virtual host.
        vhost: Name,
    },
    /// 404: it is there, and the node that keeps it cannot be reached.
    #[error("{0}")]
    Unavailable(String),
    /// 530, closes the connection.
    #[error("vhost {vhost} not found")]
    VhostNotFound {
        /// Its name.
        vhost: Name,
    },
    /// 406: declared with other properties.
    #[error(
        "inequivalent arg '{argument}' for {} '{name}' in vhost '{vhost}': received {received} \
         but current is {current}",
        resource.noun()
    )]
    Inequivalent {
        /// Property or argument that differs.
        argument: String,
        /// Queue or exchange.
        resource: Resource,
        /// Its name.
        name: Name,
        /// Its virtual host.
        vhost: Name,
        /// What this declaration says.
        received: ArgumentSide,
        /// What is there.
        current: ArgumentSide,
    },
    /// 406: an argument makes no sense.
    #[error("invalid arg '{argument}' for {} '{name}' in vhost '{vhost}': {reason}", resource.noun())]
    InvalidArgument {
        /// The argument.
        argument: String,
        /// Queue or exchange.
        resource: Resource,
        /// Its name.
        name: Name,
        /// Its virtual host.
        vhost: Name,
        /// Why, in RabbitMQ's words.
        reason: String,
    },
    /// 406.
    #[error("unknown exchange type '{kind}'")]
    UnknownExchangeType {
        /// What was asked for.
        kind: Name,
    },
    /// 405: an exclusive queue of another connection, or exclusiveness differs.
    #[error(
        "cannot obtain exclusive access to locked queue '{queue}' in vhost '{vhost}'. It could be \
         originally declared on another connection or the exclusive property value does not match \
         that of the original declaration."
    )]
    QueueLocked {
        /// Its name.
        queue: Name,
        /// Its virtual host.
        vhost: Name,
    },
    /// 403: someone consumes exclusively, or exclusive consumption was asked of a queue in use.
    #[error("queue '{queue}' in vhost '{vhost}' in exclusive use")]
    QueueInExclusiveUse {
        /// Its name.
        queue: Name,
        /// Its virtual host.
        vhost: Name,
    },
    /// 406: `if-unused` and it is used.
    #[error("{} '{name}' in vhost '{vhost}' in use", resource.noun())]
    InUse {
        /// Queue or exchange.
        resource: Resource,
        /// Its name.
        name: Name,
        /// Its virtual host.
        vhost: Name,
    },
    /// 406: `if-empty` and it is not.
    #[error("queue '{queue}' in vhost '{vhost}' not empty")]
    NotEmpty {
        /// Its name.
        queue: Name,
        /// Its virtual host.
        vhost: Name,
    },
    /// 403: names that begin with `amq.` are the broker's.
    #[error("{} name '{name}' contains reserved prefix 'amq.*'", resource.noun())]
    ReservedName {
        /// Queue or exchange.
        resource: Resource,
        /// The name.
        name: Name,
    },
    /// 406: names of declared things are UTF-8 without control characters.
    #[error("{} name '{name}' is not UTF-8 or has control characters", resource.noun())]
    InvalidName {
        /// Queue or exchange.
        resource: Resource,
        /// The name.
        name: Name,
    },
    /// 403.
    #[error("operation not permitted on the default exchange")]
    DefaultExchange,
    /// 403.
    #[error("deletion of system {} '{name}' in vhost '{vhost}' not allowed", resource.noun())]
    SystemResource {
        /// Queue or exchange.
        resource: Resource,
        /// Its name.
        name: Name,
        /// Its virtual host.
        vhost: Name,
    },
    /// 403.
    #[error("cannot publish to internal exchange '{exchange}' in vhost '{vhost}'")]
    InternalExchange {
        /// Its name.
        exchange: Name,
        /// Its virtual host.
        vhost: Name,
    },
    /// 406: anything else that RabbitMQ has a text of its own for.
    #[error("{0}")]
    Precondition(String),
    /// 403, closes the channel: the user may not, with RabbitMQ's text.
    #[error("{0}")]
    AccessRefused(String),
    /// 405, closes the channel.
    #[error("{0}")]
    ResourceLocked(String),
    /// 530, closes the connection: a limit of user, virtual host or node, or no access to it.
    #[error("{0}")]
    NotAllowed(String),
    /// 540, closes the connection: RabbitMQ does not do this for this kind of queue.
    #[error("{0}")]
    NotImplemented(String),
    /// 506, closes the connection: a limit that a client must not reach in good faith.
    #[error("{0}")]
    ResourceError(String),
    /// 406: a limit of the node or virtual host would be passed.
    #[error("{0}")]
    LimitReached(String),
}
