//! What a declaration says about itself: arguments checked when a thing is made, and compared
//! when it is declared again. Reasons are RabbitMQ's, down to their Erlang terms: clients and
//! test suites match on them.

use staunch_types::field_table::Value;
use staunch_types::refusal::ArgumentSide;
use staunch_types::{ExchangeOptions, FieldTable, Name, QueueOptions, Refusal, Resource};

use super::QueueKind;
use super::exchange::ALTERNATE_EXCHANGE;
use super::partitions::{PARTITIONS, PARTITIONS_MAX, PARTITIONS_MIN};

/// Longest time that anything may live, in milliseconds: ten years (RabbitMQ, `rabbit_misc`,
/// `MAX_EXPIRY_TIMER`).
pub const LIFE_MILLIS_MAX: u64 = 315_360_000_000;

/// The only version of classic queues that there is (RabbitMQ 4.0).
const QUEUE_VERSION: i64 = 2;

/// Argument that names the kind of a queue.
const QUEUE_TYPE: &str = "x-queue-type";

/// Argument that names where dead letters go.
const DEAD_LETTER_EXCHANGE: &str = "x-dead-letter-exchange";

/// Argument that names the routing key of dead letters.
const DEAD_LETTER_ROUTING_KEY: &str = "x-dead-letter-routing-key";

/// Highest value of `x-max-priority`.
const PRIORITY_MAX: i64 = 255;

/// What values an argument takes.
#[derive(Clone, Copy)]
enum Domain {
    /// An integer in this range.
    Integer {
        min: i64,
        max: i64,
    },
    /// A time to live in milliseconds, at least this.
    Life {
        min: i64,
    },
    /// [`QUEUE_VERSION`].
    Version,
    Text,
    Truth,
    /// One of these texts; else this reason, in which `{value}` is the text that was given.
    OneOf(&'static [&'static str], &'static str),
}

/// Which queue kinds know an argument.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KnownTo {
    All,
    Classic,
    Quorum,
    /// Only streams, which do not exist yet.
    Stream,
}

const COUNT: Domain = Domain::Integer {
    min: 0,
    max: i64::MAX,
};
const POSITIVE: Domain = Domain::Integer {
    min: 1,
    max: i64::MAX,
};
const OVERFLOW: Domain = Domain::OneOf(
    &["drop-head", "reject-publish", "reject-publish-dlx"],
    "invalid_overflow",
);

const LEADER_LOCATOR: Domain = Domain::OneOf(
    &["client-local", "balanced", "random", "least-leaders"],
    "invalid_queue_locator_arg",
);

/// Every argument that some queue kind knows.
const QUEUE_ARGUMENTS: [(&str, Domain, KnownTo); 30] = [
    (QUEUE_TYPE, Domain::Text, KnownTo::All),
    ("x-expires", Domain::Life { min: 1 }, KnownTo::All),
    ("x-message-ttl", Domain::Life { min: 0 }, KnownTo::All),
    (DEAD_LETTER_EXCHANGE, Domain::Text, KnownTo::All),
    (DEAD_LETTER_ROUTING_KEY, Domain::Text, KnownTo::All),
    (
        "x-dead-letter-strategy",
        Domain::OneOf(&["at-most-once", "at-least-once"], "invalid_dlx_strategy"),
        KnownTo::Quorum,
    ),
    ("x-max-length", COUNT, KnownTo::All),
    ("x-max-length-bytes", COUNT, KnownTo::All),
    ("x-max-in-memory-length", COUNT, KnownTo::Quorum),
    ("x-max-in-memory-bytes", COUNT, KnownTo::Quorum),
    (
        "x-max-priority",
        Domain::Integer {
            min: 0,
            max: PRIORITY_MAX,
        },
        KnownTo::Classic,
    ),
    ("x-overflow", OVERFLOW, KnownTo::All),
    (
        "x-queue-mode",
        Domain::OneOf(&["default", "lazy"], "\"unsupported queue mode '{value}'\""),
        KnownTo::Classic,
    ),
    ("x-queue-version", Domain::Version, KnownTo::Classic),
    ("x-single-active-consumer", Domain::Truth, KnownTo::All),
    ("x-queue-leader-locator", LEADER_LOCATOR, KnownTo::All),
    ("x-queue-master-locator", Domain::Text, KnownTo::Classic),
    ("x-quorum-initial-group-size", POSITIVE, KnownTo::Quorum),
    ("x-quorum-target-group-size", POSITIVE, KnownTo::Quorum),
    (
        "x-delivery-limit",
        Domain::Integer {
            min: i64::MIN,
            max: i64::MAX,
        },
        KnownTo::Quorum,
    ),
    ("x-consumer-timeout", COUNT, KnownTo::All),
    ("x-consumer-disconnected-timeout", COUNT, KnownTo::Quorum),
    ("x-delayed-retry-type", Domain::Text, KnownTo::Quorum),
    ("x-delayed-retry-min", COUNT, KnownTo::Quorum),
    ("x-delayed-retry-max", COUNT, KnownTo::Quorum),
    (
        PARTITIONS,
        Domain::Integer {
            min: PARTITIONS_MIN as i64,
            max: PARTITIONS_MAX as i64,
        },
        KnownTo::Quorum,
    ),
    ("x-max-age", Domain::Text, KnownTo::Stream),
    ("x-stream-max-segment-size-bytes", COUNT, KnownTo::Stream),
    ("x-stream-filter-size-bytes", COUNT, KnownTo::Stream),
    ("x-initial-cluster-size", POSITIVE, KnownTo::Stream),
];

/// Arguments of classic queues in the order in which RabbitMQ compares them.
const CLASSIC_COMPARED: [&str; 15] = [
    "x-expires",
    "x-message-ttl",
    DEAD_LETTER_EXCHANGE,
    DEAD_LETTER_ROUTING_KEY,
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-overflow",
    "x-queue-mode",
    "x-queue-version",
    "x-single-active-consumer",
    QUEUE_TYPE,
    "x-queue-master-locator",
    "x-queue-leader-locator",
    "x-consumer-timeout",
];

/// The same for quorum queues.
const QUORUM_COMPARED: [&str; 22] = [
    DEAD_LETTER_EXCHANGE,
    DEAD_LETTER_ROUTING_KEY,
    "x-dead-letter-strategy",
    "x-expires",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-overflow",
    "x-single-active-consumer",
    QUEUE_TYPE,
    "x-quorum-initial-group-size",
    "x-quorum-target-group-size",
    "x-delivery-limit",
    "x-message-ttl",
    "x-queue-leader-locator",
    "x-consumer-timeout",
    "x-consumer-disconnected-timeout",
    "x-delayed-retry-type",
    "x-delayed-retry-min",
    "x-delayed-retry-max",
    PARTITIONS,
];

/// A named thing in its virtual host, to say in a refusal.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) resource: Resource,
    pub(super) vhost: &'a Name,
    pub(super) name: &'a Name,
}

impl Subject<'_> {
    pub(super) fn not_found(self) -> Refusal {
        let Self {
            resource,
            vhost,
            name,
        } = self;
        Refusal::NotFound {
            resource,
            name: name.clone(),
            vhost: vhost.clone(),
        }
    }

    pub(super) fn invalid(self, argument: &str, reason: impl Into<String>) -> Refusal {
        Refusal::InvalidArgument {
            argument: argument.to_owned(),
            resource: self.resource,
            name: self.name.clone(),
            vhost: self.vhost.clone(),
            reason: reason.into(),
        }
    }

    fn inequivalent(self, argument: &str, received: Side, current: Side) -> Refusal {
        Refusal::Inequivalent {
            argument: argument.to_owned(),
            resource: self.resource,
            name: self.name.clone(),
            vhost: self.vhost.clone(),
            received,
            current,
        }
    }

    fn same(self, property: &str, received: bool, current: bool) -> Result<(), Refusal> {
        self.same_text(property, &received.to_string(), &current.to_string())
    }

    fn same_text(self, property: &str, received: &str, current: &str) -> Result<(), Refusal> {
        if received == current {
            return Ok(());
        }
        let side = |text: &str| Side::Plain(text.to_owned());
        Err(self.inequivalent(property, side(received), side(current)))
    }

    fn same_argument(
        self,
        argument: &str,
        received: Option<Value<'_>>,
        current: Option<Value<'_>>,
    ) -> Result<(), Refusal> {
        let typed = |value: Value<'_>| Side::Typed {
            value: print(value),
            type_name: value.amqp_type_name(),
        };
        // RabbitMQ does not tell a void from nothing where both are given.
        let plain = |value: Value<'_>| match value {
            Value::Void => Side::None,
            value => Side::Plain(print(value)),
        };
        let (received, current) = match (received, current) {
            (None, None) => return Ok(()),
            (Some(received), Some(current)) if received == current => return Ok(()),
            (Some(received), Some(current)) => (plain(received), plain(current)),
            (Some(received), None) => (typed(received), Side::None),
            (None, Some(current)) => (Side::None, typed(current)),
        };
        Err(self.inequivalent(argument, received, current))
    }
}

type Side = ArgumentSide;

/// Names of declared things are UTF-8 without control characters.
pub(super) fn is_valid_name(name: &[u8]) -> bool {
    std::str::from_utf8(name).is_ok_and(|name| !name.chars().any(char::is_control))
}

/// The kind that a queue's arguments ask for; none if there is no such kind.
pub(super) fn queue_kind(arguments: &FieldTable) -> Option<QueueKind> {
    match arguments.get(QUEUE_TYPE) {
        None => Some(QueueKind::Classic),
        Some(value) => match value.as_str() {
            Some("classic") => Some(QueueKind::Classic),
            Some("quorum") => Some(QueueKind::Quorum),
            Some(_) | None => None,
        },
    }
}

/// Checks what a new queue is asked to be.
pub(super) fn check_queue(
    subject: Subject<'_>,
    options: &QueueOptions,
    server_named: bool,
) -> Result<(), Refusal> {
    let arguments = &options.arguments;
    if server_named && queue_kind(arguments) == Some(QueueKind::Quorum) {
        let text = "Cannot declare a server-named queue for type rabbit_quorum_queue";
        return Err(Refusal::Precondition(text.to_owned()));
    }
    check_exchange_name(subject, DEAD_LETTER_EXCHANGE, arguments)?;
    let kind = check_queue_type(subject, arguments)?;
    for (argument, domain, known_to) in QUEUE_ARGUMENTS {
        let Some(value) = arguments.get(argument).filter(|_| knows(kind, known_to)) else {
            continue;
        };
        check_domain(domain, value).map_err(|reason| subject.invalid(argument, reason))?;
        if argument == DEAD_LETTER_ROUTING_KEY && arguments.get(DEAD_LETTER_EXCHANGE).is_none() {
            return Err(subject.invalid(argument, "routing_key_but_no_dlx_defined"));
        }
    }
    // The first of them as the declaration lists them.
    let mut keys = arguments.iter().map(|(key, _)| key);
    if let Some(argument) = keys.find(|key| is_foreign(key, kind)) {
        let argument = String::from_utf8_lossy(argument);
        let module = match kind {
            QueueKind::Classic => "rabbit_classic_queue",
            QueueKind::Quorum => "rabbit_quorum_queue",
        };
        let Subject { vhost, name, .. } = subject;
        return Err(Refusal::Precondition(format!(
            "invalid arg '{argument}' for queue '{name}' in vhost '{vhost}' of queue type {module}"
        )));
    }
    Ok(())
}

/// Whether an argument belongs to queues of another kind, and to none of this one.
fn is_foreign(key: &[u8], kind: QueueKind) -> bool {
    let mut known = QUEUE_ARGUMENTS.iter();
    known.any(|(argument, _, known_to)| argument.as_bytes() == key && !knows(kind, *known_to))
}

/// Whether a queue with these arguments may be of this kind.
pub(super) fn may_be(arguments: &FieldTable, kind: QueueKind) -> bool {
    !arguments.iter().any(|(key, _)| is_foreign(key, kind))
}

/// Checks what kind of queue is asked for.
fn check_queue_type(subject: Subject<'_>, arguments: &FieldTable) -> Result<QueueKind, Refusal> {
    let Some(value) = arguments.get(QUEUE_TYPE) else {
        return Ok(QueueKind::Classic);
    };
    check_domain(Domain::Text, value).map_err(|reason| subject.invalid(QUEUE_TYPE, reason))?;
    queue_kind(arguments).ok_or_else(|| {
        let reason = format!("\"unsupported queue type '{}'\"", print(value));
        subject.invalid(QUEUE_TYPE, reason)
    })
}

/// Checks that a new queue can be of its kind, after limits were checked.
pub(super) fn check_queue_kind(
    subject: Subject<'_>,
    options: &QueueOptions,
) -> Result<(), Refusal> {
    if queue_kind(&options.arguments) != Some(QueueKind::Quorum) {
        return Ok(());
    }
    let Subject { vhost, name, .. } = subject;
    let invalid = |property: &str| {
        let text = format!("invalid property '{property}' for queue '{name}' in vhost '{vhost}'");
        Err(Refusal::Precondition(text))
    };
    if options.auto_delete {
        return invalid("auto-delete");
    }
    if options.exclusive {
        return invalid("exclusive-owner");
    }
    if !options.durable {
        return invalid("non-durable");
    }
    Ok(())
}

/// Checks an argument that names an exchange (RabbitMQ, `rabbit_misc:r_arg`).
pub(super) fn check_exchange_name(
    subject: Subject<'_>,
    argument: &str,
    arguments: &FieldTable,
) -> Result<(), Refusal> {
    match arguments.get(argument) {
        Some(value) if !matches!(value, Value::LongStr(_)) => {
            let Subject {
                resource,
                vhost,
                name,
            } = subject;
            Err(Refusal::Precondition(format!(
                "invalid type '{}' for arg '{argument}' in {} '{name}' in vhost '{vhost}'",
                value.amqp_type_name(),
                resource.noun(),
            )))
        }
        Some(_) | None => Ok(()),
    }
}

/// Refuses to declare a queue again as something else. The owner is compared before.
pub(super) fn check_same_queue(
    subject: Subject<'_>,
    received: &QueueOptions,
    current: &QueueOptions,
) -> Result<(), Refusal> {
    // An exclusive queue is never durable, whatever was asked for.
    let is_durable = |options: &QueueOptions| options.durable && !options.exclusive;
    subject.same("durable", is_durable(received), is_durable(current))?;
    subject.same("auto_delete", received.auto_delete, current.auto_delete)?;
    let kind = queue_kind(&current.arguments).expect("an existing queue has a kind");
    let compared: &[&str] = match kind {
        QueueKind::Classic => &CLASSIC_COMPARED,
        QueueKind::Quorum => &QUORUM_COMPARED,
    };
    for argument in compared {
        let (new, old) = (
            received.arguments.get(argument),
            current.arguments.get(argument),
        );
        let default_kind =
            |value: Option<Value<'_>>| value.is_none_or(|value| value.as_str() == Some("classic"));
        if *argument == QUEUE_TYPE && default_kind(new) && default_kind(old) {
            continue;
        }
        subject.same_argument(argument, new, old)?;
    }
    Ok(())
}

/// Refuses to declare an exchange again as something else.
pub(super) fn check_same_exchange(
    subject: Subject<'_>,
    received: &ExchangeOptions,
    current: &ExchangeOptions,
) -> Result<(), Refusal> {
    subject.same_text(
        "type",
        &print_kind(&received.kind),
        &print_kind(&current.kind),
    )?;
    subject.same("durable", received.durable, current.durable)?;
    subject.same("auto_delete", received.auto_delete, current.auto_delete)?;
    subject.same("internal", received.internal, current.internal)?;
    subject.same_argument(
        ALTERNATE_EXCHANGE,
        received.arguments.get(ALTERNATE_EXCHANGE),
        current.arguments.get(ALTERNATE_EXCHANGE),
    )
}

/// A kind of exchange as RabbitMQ shows it: an Erlang atom, which needs quotes if it has a hyphen.
fn print_kind(kind: &Name) -> String {
    let kind = kind.to_string();
    if kind.contains('-') {
        format!("'{kind}'")
    } else {
        kind
    }
}

fn knows(kind: QueueKind, known_to: KnownTo) -> bool {
    match known_to {
        KnownTo::All => true,
        KnownTo::Classic => kind == QueueKind::Classic,
        KnownTo::Quorum => kind == QueueKind::Quorum,
        KnownTo::Stream => false,
    }
}

fn check_domain(domain: Domain, value: Value<'_>) -> Result<(), String> {
    let wrong_type = || format!("{{unacceptable_type,{}}}", value.amqp_type_name());
    let at_least = |min: i64| {
        let not_integer = || format!("\"expected integer, got {}\"", value.amqp_type_name());
        match value.as_i64().ok_or_else(not_integer)? {
            number if number >= min => Ok(number),
            0 => Err("{value_zero,0}".to_owned()),
            number => Err(format!("{{value_negative,{number}}}")),
        }
    };
    match domain {
        Domain::Integer { min, max } => match at_least(min)? {
            number if number > max => Err(format!("{{max_value_exceeded,{number}}}")),
            _ => Ok(()),
        },
        Domain::Life { min } => match at_least(min)? {
            number if number.unsigned_abs() > LIFE_MILLIS_MAX => {
                Err(format!("{{value_too_large,{number}}}"))
            }
            _ => Ok(()),
        },
        Domain::Version => match at_least(0)? {
            QUEUE_VERSION => Ok(()),
            number => Err(format!("\"unsupported queue version '{number}'\"")),
        },
        Domain::Text => value.as_str().map(drop).ok_or_else(wrong_type),
        Domain::Truth => value.as_bool().map(drop).ok_or_else(wrong_type),
        Domain::OneOf(texts, reason) => {
            let text = value.as_str().ok_or_else(wrong_type)?;
            if texts.contains(&text) {
                Ok(())
            } else {
                Err(reason.replace("{value}", text))
            }
        }
    }
}

/// A value as reply texts show it.
pub(super) fn print(value: Value<'_>) -> String {
    match value {
        Value::LongStr(bytes) | Value::Binary(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Bool(truth) => truth.to_string(),
        Value::F32(number) => number.to_string(),
        Value::F64(number) => number.to_string(),
        Value::Timestamp(seconds) => seconds.to_string(),
        Value::Void => "undefined".to_owned(),
        Value::I8(_)
        | Value::U8(_)
        | Value::I16(_)
        | Value::U16(_)
        | Value::I32(_)
        | Value::U32(_)
        | Value::I64(_) => value
            .as_i64()
            .map_or(String::new(), |number| number.to_string()),
        Value::Decimal { .. } | Value::Array(_) | Value::Table(_) => format!("{value:?}"),
    }
}

/// A value as an Erlang term, as policy validation shows it.
pub(super) fn print_term(value: Value<'_>) -> String {
    match value {
        Value::LongStr([]) | Value::Binary([]) => "<<>>".to_owned(),
        Value::LongStr(bytes) | Value::Binary(bytes) => {
            format!("<<\"{}\">>", String::from_utf8_lossy(bytes))
        }
        Value::Void => "null".to_owned(),
        Value::Array(values) => {
            let terms: Vec<String> = values.iter().map(print_term).collect();
            format!("[{}]", terms.join(","))
        }
        Value::Table(fields) => {
            let term = |(key, value)| {
                let key = print_term(Value::LongStr(key));
                format!("{{{key},{}}}", print_term(value))
            };
            let terms: Vec<String> = fields.iter().map(term).collect();
            format!("[{}]", terms.join(","))
        }
        Value::Bool(_)
        | Value::I8(_)
        | Value::U8(_)
        | Value::I16(_)
        | Value::U16(_)
        | Value::I32(_)
        | Value::U32(_)
        | Value::I64(_)
        | Value::F32(_)
        | Value::F64(_)
        | Value::Decimal { .. }
        | Value::Timestamp(_) => print(value),
    }
}

/// Whether this is an age such as `7D` (`x-max-age`).
pub(super) fn is_age(text: &str) -> bool {
    text.strip_suffix(['Y', 'M', 'D', 'h', 'm', 's'])
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}
