//! What policies may say: their keys, the values these take, and how two policies merge.
//! Texts are those of RabbitMQ's `rabbit_policies`.

use staunch_types::FieldTable;
use staunch_types::field_table::Value;

use super::QueueKind;
use super::arguments::print_term;
use super::policies::{PolicyScope, PolicySubject};

/// What values a key takes.
#[derive(Clone, Copy)]
enum Domain {
    Text,
    /// An integer that is at least this.
    AtLeast(i64),
    /// An integer in this range.
    Between(i64, i64),
    Integer,
    OneOf(&'static [&'static str]),
    /// Yes or no.
    Flag,
    /// A number and one of the units `YMDhms`.
    Age,
    /// Known to RabbitMQ 3 and without effect since.
    Anything,
}

/// Which queues a key is for: a policy with a key that is not for a queue does not apply to it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Queues {
    All,
    Classic,
    Quorum,
    ClassicAndQuorum,
    Stream,
}

/// How the values of a policy and an operator policy merge.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Merge {
    /// The smaller number.
    Smaller,
    /// The smaller number; a negative one means unlimited and yields.
    SmallerNonNegative,
    /// The operator's value.
    Operator,
}

struct Key {
    name: &'static str,
    /// What RabbitMQ calls a wrong value: not a valid …
    noun: &'static str,
    domain: Domain,
    queues: Queues,
    merge: Merge,
    /// Operator policies may have it too.
    is_operators: bool,
}

impl Key {
    const fn new(name: &'static str, noun: &'static str, domain: Domain, queues: Queues) -> Self {
        Self {
            name,
            noun,
            domain,
            queues,
            merge: Merge::Operator,
            is_operators: false,
        }
    }

    const fn operators(self, merge: Merge) -> Self {
        Self {
            merge,
            is_operators: true,
            ..self
        }
    }
}

/// Key of a policy that has queues replicated that would not be.
pub(super) const REPLICATE: &str = "replicate";

const COUNT: Domain = Domain::AtLeast(0);
const LOCATORS: Domain = Domain::OneOf(&["client-local", "balanced", "random", "least-leaders"]);
const OVERFLOW: Domain = Domain::OneOf(&["drop-head", "reject-publish", "reject-publish-dlx"]);
const RETRY_TYPES: Domain = Domain::OneOf(&["disabled", "all", "failed", "returned"]);
const STRATEGIES: Domain = Domain::OneOf(&["at-most-once", "at-least-once"]);
const MEMORY: &str = "maximum memory in bytes";

const KEYS: [Key; 37] = {
    use Domain::{Age, Anything, AtLeast, Between, Flag, Integer, OneOf, Text};
    use Merge::{Operator, Smaller, SmallerNonNegative};
    use Queues::{All, Classic, ClassicAndQuorum, Quorum, Stream};
    [
        Key::new("alternate-exchange", "alternate exchange name", Text, All),
        Key::new("consumer-disconnected-timeout", "timeout", COUNT, Quorum),
        Key::new("consumer-timeout", "consumer timeout", COUNT, All),
        Key::new(
            "dead-letter-exchange",
            "dead letter exchange name",
            Text,
            ClassicAndQuorum,
        ),
        Key::new(
            "dead-letter-routing-key",
            "dead letter routing key",
            Text,
            ClassicAndQuorum,
        ),
        Key::new(
            "dead-letter-strategy",
            "dead letter strategy",
            STRATEGIES,
            Quorum,
        ),
        Key::new("delayed-retry-max", "delayed retry time", COUNT, Quorum).operators(Smaller),
        Key::new("delayed-retry-min", "delayed retry time", COUNT, Quorum).operators(Smaller),
        Key::new(
            "delayed-retry-type",
            "delayed retry type",
            RETRY_TYPES,
            Quorum,
        )
        .operators(Operator),
        Key::new("delivery-limit", "delivery limit", Integer, Quorum).operators(SmallerNonNegative),
        Key::new("expires", "queue expiry", AtLeast(1), ClassicAndQuorum).operators(Smaller),
        Key::new("federation-upstream", "federation upstream", Text, All),
        Key::new(
            "federation-upstream-pattern",
            "federation upstream pattern",
            Text,
            All,
        ),
        Key::new(
            "federation-upstream-set",
            "federation upstream set",
            Anything,
            All,
        ),
        Key::new("ha-mode", "ha-mode", Anything, Classic),
        Key::new("ha-params", "ha-params", Anything, Classic),
        Key::new("ha-promote-on-failure", "ha-mode", Anything, Classic),
        Key::new("ha-promote-on-shutdown", "ha-mode", Anything, Classic),
        Key::new("ha-sync-batch-size", "ha-mode", Anything, Classic),
        Key::new("ha-sync-mode", "ha-mode", Anything, Classic),
        // Not RabbitMQ's: how long the queue is to hold out without its consumers.
        Key::new(
            "horizon-slo",
            "horizon objective, such as 90s or 30m",
            Age,
            ClassicAndQuorum,
        )
        .operators(Operator),
        Key::new("initial-cluster-size", "cluster size", COUNT, Stream),
        Key::new("max-age", "max age", Age, Stream),
        Key::new("max-in-memory-bytes", MEMORY, COUNT, ClassicAndQuorum).operators(Smaller),
        Key::new("max-in-memory-length", MEMORY, COUNT, ClassicAndQuorum).operators(Smaller),
        Key::new("max-length", "maximum length", COUNT, ClassicAndQuorum).operators(Smaller),
        Key::new("max-length-bytes", "maximum length in bytes", COUNT, All).operators(Smaller),
        Key::new("message-ttl", "message TTL", COUNT, ClassicAndQuorum).operators(Smaller),
        Key::new("overflow", "overflow value", OVERFLOW, ClassicAndQuorum).operators(Operator),
        Key::new(
            "queue-leader-locator",
            "queue leader locator value",
            LOCATORS,
            All,
        ),
        Key::new("queue-master-locator", "master locator", Text, Classic).operators(Operator),
        Key::new(
            "queue-mode",
            "queue-mode value",
            OneOf(&["default", "lazy"]),
            Classic,
        ),
        // Not RabbitMQ's: a classic queue is kept by several nodes.
        Key::new(REPLICATE, "replicate value", Flag, ClassicAndQuorum).operators(Operator),
        Key::new("queue-version", "queue version", Between(1, 2), Classic).operators(Operator),
        Key::new(
            "stream-filter-size-bytes",
            "filter size",
            Between(16, 255),
            Stream,
        ),
        Key::new(
            "stream-max-segment-size-bytes",
            "segment size",
            COUNT,
            Stream,
        ),
        Key::new("target-group-size", "target group size", COUNT, Quorum).operators(Smaller),
    ]
};

fn find(name: &[u8]) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name.as_bytes() == name)
}

/// Checks a definition.
///
/// # Errors
/// What is wrong, in RabbitMQ's words.
pub(super) fn check(scope: PolicyScope, definition: &FieldTable) -> Result<(), String> {
    if definition.is_empty() {
        return Err("no policy provided".to_owned());
    }
    let mut unknown = Vec::new();
    for (name, value) in definition {
        let key = find(name).filter(|key| scope == PolicyScope::User || key.is_operators);
        match key {
            Some(key) if !key.domain.contains(value) => {
                let value = print_term(value);
                return Err(format!("{value} is not a valid {}", key.noun));
            }
            Some(_) => {}
            None => {
                let (name, value) = (print_term(Value::LongStr(name)), print_term(value));
                unknown.push(format!("{{{name},{value}}}"));
            }
        }
    }
    if unknown.is_empty() {
        return Ok(());
    }
    let unknown = unknown.join(",");
    Err(format!("[{unknown}] are not recognised policy settings"))
}

/// Whether every key is for what the policy would apply to.
pub(super) fn are_applicable(definition: &FieldTable, subject: PolicySubject) -> bool {
    let PolicySubject::Queue(kind) = subject else {
        return true;
    };
    definition.iter().all(|(name, _)| {
        let queues = find(name).map_or(Queues::All, |key| key.queues);
        match kind {
            QueueKind::Classic => {
                matches!(
                    queues,
                    Queues::All | Queues::Classic | Queues::ClassicAndQuorum
                )
            }
            QueueKind::Quorum => {
                matches!(
                    queues,
                    Queues::All | Queues::Quorum | Queues::ClassicAndQuorum
                )
            }
        }
    })
}

pub(super) fn merge_of(name: &[u8]) -> Merge {
    find(name).map_or(Merge::Operator, |key| key.merge)
}

impl Domain {
    fn contains(self, value: Value<'_>) -> bool {
        match self {
            Self::Text => value.as_str().is_some(),
            Self::AtLeast(min) => value.as_i64().is_some_and(|number| number >= min),
            Self::Between(min, max) => value
                .as_i64()
                .is_some_and(|number| (min..=max).contains(&number)),
            Self::Integer => value.as_i64().is_some(),
            Self::OneOf(texts) => value.as_str().is_some_and(|text| texts.contains(&text)),
            Self::Flag => matches!(value, Value::Bool(_)),
            Self::Age => value.as_str().is_some_and(super::arguments::is_age),
            Self::Anything => true,
        }
    }
}
