//! How a queue behaves: what its arguments, its policy and its operator policy say together.
//!
//! Where arguments and policies both say something about a key, the smaller number counts. A dead
//! letter exchange is the arguments' to name; `overflow` is the arguments' for classic queues and
//! the policy's for quorum queues (RabbitMQ 4.2, `rabbit_queue_type_util:args_policy_lookup`).

use staunch_types::field_table::Value;
use staunch_types::{FieldTable, Name};

use crate::catalog::QueueKind;

/// Returns after which a quorum queue's message dies unless `x-delivery-limit` says otherwise
/// (RabbitMQ 4.0).
pub const DELIVERY_LIMIT_DEFAULT: u32 = 20;

/// What happens when a queue is full (`x-overflow`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The oldest ready messages go, dead-lettered with reason `maxlen`.
    #[default]
    DropHead,
    /// New messages are refused: a publisher with confirms gets a nack.
    RejectPublish,
    /// As `RejectPublish`, and the refused message is dead-lettered with reason `maxlen`.
    RejectPublishDlx,
}

/// Where dead letters go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLettering {
    /// Exchange they are published to; it need not exist.
    pub exchange: Name,
    /// Replaces their routing keys (`x-dead-letter-routing-key`).
    pub routing_key: Option<Name>,
    /// A dead letter leaves the queue only when every queue it was routed to has it
    /// (`x-dead-letter-strategy`, with `x-overflow=reject-publish`, quorum queues).
    pub at_least_once: bool,
}

/// Which message goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priorities {
    /// The oldest.
    #[default]
    None,
    /// The one with the highest priority, up to this one (`x-max-priority`); then the oldest.
    Strict(u8),
    /// Two levels, normal (0 to 4) and high (5 and above), two high ones for one normal one while
    /// there are both (quorum queues, RabbitMQ 4.0 to 4.2).
    TwoToOne,
}

/// Effective settings of a queue. Times are milliseconds, sizes bytes; none is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueSettings {
    /// Longest time that a message stays ready (`x-message-ttl`).
    pub message_ttl_millis: Option<u64>,
    /// The queue goes after this long without consumers, gets and declarations (`x-expires`).
    pub expires_millis: Option<u64>,
    /// Most ready messages (`x-max-length`).
    pub max_length: Option<u64>,
    /// Most bytes of bodies of ready messages (`x-max-length-bytes`).
    pub max_length_bytes: Option<u64>,
    /// What happens at either.
    pub overflow: Overflow,
    /// None: what dies is gone.
    pub dead_lettering: Option<DeadLettering>,
    /// Which message goes first.
    pub priorities: Priorities,
    /// Only one consumer at a time gets messages (`x-single-active-consumer`).
    pub single_active_consumer: bool,
    /// A message that was given back more often than this dies with reason `delivery_limit`.
    pub delivery_limit: Option<u32>,
    /// How long a delivery may stay unsettled (`x-consumer-timeout`); none: the node's own limit.
    pub consumer_timeout_millis: Option<u64>,
    /// Returns to the queue are counted, persisted and told to consumers (`x-delivery-count`).
    pub counts_deliveries: bool,
    /// How long the queue is to hold out if its consumers stop (`horizon-slo`, of policies only);
    /// none: as long as it does.
    pub horizon_slo_millis: Option<u64>,
    /// It is a partition: its consumers are spread over it and its siblings.
    pub partition: Option<PartitionPlace>,
}

/// Which of a queue's partitions one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionPlace {
    /// Its number, from 0.
    pub number: u8,
    /// How many there are.
    pub count: u8,
}

impl QueueSettings {
    /// What the arguments of a declaration say, without any policy. They have been checked when
    /// the queue was declared: what makes no sense here is left out.
    pub fn from_arguments(kind: QueueKind, arguments: &FieldTable) -> Self {
        Self::effective(kind, arguments, None)
    }

    /// What a queue's arguments and its policies (already merged) say together.
    pub fn effective(kind: QueueKind, arguments: &FieldTable, policy: Option<&FieldTable>) -> Self {
        let sources = Sources { arguments, policy };
        let overflow = sources.overflow(kind);
        let dead_lettering = sources.dead_lettering(kind, overflow);
        let truth = |argument| arguments.get(argument).and_then(Value::as_bool);
        Self {
            message_ttl_millis: sources.smaller("x-message-ttl"),
            expires_millis: sources.smaller("x-expires"),
            max_length: sources.smaller("x-max-length"),
            max_length_bytes: sources.smaller("x-max-length-bytes"),
            overflow,
            dead_lettering,
            priorities: priorities(kind, arguments),
            single_active_consumer: truth("x-single-active-consumer").unwrap_or(false),
            delivery_limit: sources.delivery_limit(kind),
            consumer_timeout_millis: sources.smaller("x-consumer-timeout"),
            counts_deliveries: kind == QueueKind::Quorum,
            horizon_slo_millis: sources.horizon_slo(),
            partition: None,
        }
    }

    /// The same for a queue with partitions, or one of them: it does not expire, since it could
    /// not do so as a whole, and a partition serves one consumer at a time, for the sake of order.
    #[must_use]
    pub(crate) fn of_partition(self, partition: Option<PartitionPlace>) -> Self {
        Self {
            expires_millis: None,
            single_active_consumer: true,
            partition,
            ..self
        }
    }
}

fn priorities(kind: QueueKind, arguments: &FieldTable) -> Priorities {
    let max = arguments.get("x-max-priority").and_then(Value::as_i64);
    match (kind, max.map(u8::try_from)) {
        (QueueKind::Quorum, _) => Priorities::TwoToOne,
        (QueueKind::Classic, Some(Ok(max))) if max > 0 => Priorities::Strict(max),
        (QueueKind::Classic, _) => Priorities::None,
    }
}

/// Where settings come from. Keys are given as arguments are called: a policy calls `x-expires`
/// `expires`.
struct Sources<'a> {
    arguments: &'a FieldTable,
    policy: Option<&'a FieldTable>,
}

impl<'a> Sources<'a> {
    fn argument(&self, key: &str) -> Option<Value<'a>> {
        self.arguments.get(key)
    }

    fn policy(&self, key: &str) -> Option<Value<'a>> {
        self.policy?.get(key.strip_prefix("x-")?)
    }

    /// The smaller of two numbers; a negative one says nothing.
    fn smaller(&self, key: &str) -> Option<u64> {
        let both = [self.argument(key), self.policy(key)];
        let numbers = both.into_iter().flatten().filter_map(Value::as_i64);
        numbers
            .filter_map(|number| u64::try_from(number).ok())
            .min()
    }

    fn text(value: Option<Value<'a>>) -> Option<&'a str> {
        value.and_then(Value::as_str)
    }

    /// Nothing at all is no objective.
    fn horizon_slo(&self) -> Option<u64> {
        let text = Self::text(self.policy("x-horizon-slo"))?;
        duration_millis(text).filter(|millis| *millis > 0)
    }

    fn overflow(&self, kind: QueueKind) -> Overflow {
        let argument = Self::text(self.argument("x-overflow"));
        let policy = Self::text(self.policy("x-overflow"));
        let text = match kind {
            QueueKind::Classic => argument.or(policy),
            QueueKind::Quorum => policy.or(argument),
        };
        match (text, kind) {
            (Some("reject-publish"), _) => Overflow::RejectPublish,
            (Some("reject-publish-dlx"), QueueKind::Classic) => Overflow::RejectPublishDlx,
            // Quorum queues do not know reject-publish-dlx; a policy may say it all the same.
            _ => Overflow::DropHead,
        }
    }

    fn dead_lettering(&self, kind: QueueKind, overflow: Overflow) -> Option<DeadLettering> {
        let name = |key| {
            let text = Self::text(self.argument(key).or_else(|| self.policy(key)))?;
            Name::new(text.as_bytes()).ok()
        };
        let strategy = "x-dead-letter-strategy";
        let strategy = Self::text(self.argument(strategy).or_else(|| self.policy(strategy)));
        Some(DeadLettering {
            exchange: name("x-dead-letter-exchange")?,
            routing_key: name("x-dead-letter-routing-key"),
            at_least_once: kind == QueueKind::Quorum
                && strategy == Some("at-least-once")
                && overflow == Overflow::RejectPublish,
        })
    }

    /// Of two limits the smaller; a negative one is none and yields to the other.
    fn delivery_limit(&self, kind: QueueKind) -> Option<u32> {
        if kind != QueueKind::Quorum {
            return None;
        }
        let number = |value: Option<Value<'_>>| value.and_then(Value::as_i64);
        let argument = number(self.argument("x-delivery-limit"));
        let policy = number(self.policy("x-delivery-limit"));
        let limit = match (argument, policy) {
            (None, None) => return Some(DELIVERY_LIMIT_DEFAULT),
            (Some(one), None) | (None, Some(one)) => one,
            (Some(one), Some(other)) if one < 0 || other < 0 => one.max(other),
            (Some(one), Some(other)) => one.min(other),
        };
        let is_limit = limit >= 0;
        is_limit.then(|| u32::try_from(limit).unwrap_or(u32::MAX))
    }
}

/// A number and one of the units `YMDhms`, as policies have it; what is too long is as long as can
/// be. A year has 365 days and a month 30.
pub fn duration_millis(text: &str) -> Option<u64> {
    const SECOND_MILLIS: u64 = 1_000;
    const DAY_MILLIS: u64 = 86_400 * SECOND_MILLIS;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit_millis = match unit {
        "Y" => 365 * DAY_MILLIS,
        "M" => 30 * DAY_MILLIS,
        "D" => DAY_MILLIS,
        "h" => 3_600 * SECOND_MILLIS,
        "m" => 60 * SECOND_MILLIS,
        "s" => SECOND_MILLIS,
        _ => return None,
    };
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = number.parse().unwrap_or(u64::MAX);
    Some(number.saturating_mul(unit_millis))
}

#[cfg(test)]
mod tests {
    use staunch_types::field_table::TableBuilder;

    use super::*;

    #[test]
    fn a_plain_classic_queue_has_no_limits() {
        let settings = QueueSettings::from_arguments(QueueKind::Classic, &FieldTable::default());
        assert_eq!(settings, QueueSettings::default());
    }

    #[test]
    fn a_quorum_queue_counts_deliveries() {
        let of = |limit: Option<i32>| {
            let table = limit.map_or_else(TableBuilder::new, |limit| {
                TableBuilder::new().int("x-delivery-limit", limit)
            });
            QueueSettings::from_arguments(QueueKind::Quorum, &table.build())
        };
        assert!(of(None).counts_deliveries);
        assert_eq!(of(None).priorities, Priorities::TwoToOne);
        assert_eq!(of(None).delivery_limit, Some(DELIVERY_LIMIT_DEFAULT));
        assert_eq!(of(Some(-1)).delivery_limit, None);
        assert_eq!(of(Some(3)).delivery_limit, Some(3));
    }

    #[test]
    fn at_least_once_needs_a_quorum_queue_that_rejects_publishes() {
        let at_least_once = |kind, overflow: &str| {
            let arguments = TableBuilder::new()
                .longstr("x-dead-letter-exchange", "")
                .longstr("x-dead-letter-routing-key", "dead")
                .longstr("x-dead-letter-strategy", "at-least-once")
                .longstr("x-overflow", overflow)
                .build();
            let settings = QueueSettings::from_arguments(kind, &arguments);
            let dead_lettering = settings.dead_lettering.unwrap();
            assert_eq!(dead_lettering.routing_key, Some(Name::from_static("dead")));
            dead_lettering.at_least_once
        };
        assert!(at_least_once(QueueKind::Quorum, "reject-publish"));
        assert!(!at_least_once(QueueKind::Quorum, "drop-head"));
        assert!(!at_least_once(QueueKind::Classic, "reject-publish"));
    }

    #[test]
    fn numbers_are_read_in_any_width() {
        let arguments = TableBuilder::new()
            .int("x-message-ttl", 0)
            .long("x-expires", 1000)
            .int("x-max-length", 5)
            .long("x-max-length-bytes", 6)
            .longstr("x-overflow", "reject-publish-dlx")
            .int("x-max-priority", 10)
            .bool("x-single-active-consumer", true)
            .build();
        let settings = QueueSettings::from_arguments(QueueKind::Classic, &arguments);
        assert_eq!(settings.message_ttl_millis, Some(0));
        assert_eq!(settings.expires_millis, Some(1000));
        assert_eq!(settings.max_length, Some(5));
        assert_eq!(settings.max_length_bytes, Some(6));
        assert_eq!(settings.overflow, Overflow::RejectPublishDlx);
        assert_eq!(settings.priorities, Priorities::Strict(10));
        assert!(settings.single_active_consumer);
        assert_eq!(settings.delivery_limit, None);
    }

    #[test]
    fn only_a_policy_says_how_long_a_queue_is_to_hold_out() {
        let of = |slo: &str| {
            let policy = TableBuilder::new().longstr("horizon-slo", slo).build();
            let none = FieldTable::default();
            QueueSettings::effective(QueueKind::Quorum, &none, Some(&policy)).horizon_slo_millis
        };
        assert_eq!(of("60s"), Some(60_000));
        assert_eq!(of("30m"), Some(1_800_000));
        assert_eq!(of("2h"), Some(7_200_000));
        assert_eq!(of("1D"), Some(86_400_000));
        assert_eq!(of("99999999999999999999Y"), Some(u64::MAX));
        for nothing in ["0s", "60", "s", "", "1.5h", "-1s", "6ü"] {
            assert_eq!(of(nothing), None, "{nothing}");
        }
        let arguments = TableBuilder::new().longstr("x-horizon-slo", "60s").build();
        let settings = QueueSettings::from_arguments(QueueKind::Classic, &arguments);
        assert_eq!(settings.horizon_slo_millis, None);
    }
}
