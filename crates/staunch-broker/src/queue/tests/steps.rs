//! What can happen to a queue, for the model.

use proptest::prelude::*;
use staunch_types::{Name, Outcome};

use super::*;
use crate::settings::{DeadLettering, Overflow, Priorities};

#[derive(Clone, Debug)]
pub(super) enum Step {
    Enqueue {
        count: u8,
        priority: u8,
        ttl: Option<u64>,
    },
    AddConsumer {
        key: u32,
        prefetch: u16,
        no_ack: bool,
        priority: i32,
    },
    RemoveConsumer(u32),
    Block(u32, bool),
    SetPrefetch(u32, u16),
    Assign(u8),
    Get {
        key: u32,
        no_ack: bool,
    },
    Claim {
        key: u32,
        skip: usize,
        count: u32,
    },
    SettleClaimed {
        key: u32,
        skip: usize,
    },
    Settle {
        key: u32,
        skip: usize,
        count: u32,
        outcome: Outcome,
    },
    RequeueAll(u32),
    Purge,
    Reserve,
    /// Time passes, in milliseconds; then so many messages at most may expire.
    Expire(u64, usize),
    DropHead,
    Bury(usize),
    TakeReturned,
    Relocate(usize),
    Configure(Limited),
    Snapshot,
    Trim,
    Crash {
        snapshot: usize,
        start: usize,
        commands_at: usize,
        is_reversed: bool,
    },
    CleanStop,
}

/// What a policy can change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limited {
    max_length: Option<u64>,
    max_length_bytes: Option<u64>,
    overflow: Overflow,
    has_dead_lettering: bool,
    delivery_limit: Option<u32>,
}

fn limited() -> impl Strategy<Value = Limited> {
    let overflow = prop_oneof![Just(Overflow::DropHead), Just(Overflow::RejectPublish)];
    (
        prop::option::of(0..150u64),
        prop::option::of(0..2_000u64),
        overflow,
        any::<bool>(),
        prop::option::of(0..3u32),
    )
        .prop_map(|fields| {
            let (max_length, max_length_bytes, overflow, has_dead_lettering, delivery_limit) =
                fields;
            Limited {
                max_length,
                max_length_bytes,
                overflow,
                has_dead_lettering,
                delivery_limit,
            }
        })
}

impl Limited {
    pub(super) fn apply(self, settings: &mut QueueSettings) {
        settings.max_length = self.max_length;
        settings.max_length_bytes = self.max_length_bytes;
        settings.overflow = self.overflow;
        settings.delivery_limit = self.delivery_limit;
        settings.dead_lettering = self.has_dead_lettering.then(|| DeadLettering {
            exchange: Name::from_static("dead"),
            routing_key: None,
            at_least_once: false,
        });
    }
}

pub(super) fn settings() -> impl Strategy<Value = (Durability, QueueSettings)> {
    let priorities = prop_oneof![
        2 => Just(Priorities::None),
        1 => Just(Priorities::Strict(3)),
        1 => Just(Priorities::TwoToOne),
    ];
    let durability = prop_oneof![1 => Just(Durability::Transient), 3 => Just(Durability::Durable)];
    let single = prop::bool::weighted(0.3);
    (durability, limited(), priorities, single, any::<bool>()).prop_map(
        |(durability, limited, priorities, single_active_consumer, counts_deliveries)| {
            let mut settings = QueueSettings {
                priorities,
                single_active_consumer,
                counts_deliveries,
                ..QueueSettings::default()
            };
            limited.apply(&mut settings);
            (durability, settings)
        },
    )
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => deliveries(),
        2 => departures(),
        1 => housekeeping(),
    ]
}

fn deliveries() -> impl Strategy<Value = Step> {
    let key = 0..4u32;
    prop_oneof![
        8 => (1..100u8, 0..8u8, prop::option::weighted(0.3, 1..300u64))
            .prop_map(|(count, priority, ttl)| Step::Enqueue { count, priority, ttl }),
        3 => (key.clone(), 0..5u16, any::<bool>(), 0..3i32).prop_map(
            |(key, prefetch, no_ack, priority)| Step::AddConsumer { key, prefetch, no_ack, priority }
        ),
        1 => key.clone().prop_map(Step::RemoveConsumer),
        1 => (key.clone(), any::<bool>()).prop_map(|(key, blocked)| Step::Block(key, blocked)),
        1 => (key, 0..5u16).prop_map(|(key, prefetch)| Step::SetPrefetch(key, prefetch)),
        8 => (1..100u8).prop_map(Step::Assign),
        3 => (10..12u32, any::<bool>()).prop_map(|(key, no_ack)| Step::Get { key, no_ack }),
        4 => Just(Step::Reserve),
        1 => (prop_oneof![0..4u32, 10..12u32], 0..40usize, 1..10u32)
            .prop_map(|(key, skip, count)| Step::Claim { key, skip, count }),
        1 => (prop_oneof![0..4u32, 10..12u32], 0..40usize)
            .prop_map(|(key, skip)| Step::SettleClaimed { key, skip }),
    ]
}

fn departures() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![
        Just(Outcome::Ack),
        Just(Outcome::Discard),
        Just(Outcome::Requeue)
    ];
    prop_oneof![
        8 => (prop_oneof![0..4u32, 10..12u32], 0..40usize, 1..70u32, outcome).prop_map(
            |(key, skip, count, outcome)| Step::Settle { key, skip, count, outcome }
        ),
        2 => (0..4u32).prop_map(Step::RequeueAll),
        1 => Just(Step::Purge),
        4 => (0..120u64, prop_oneof![3 => Just(usize::MAX), 1 => 1..30usize])
            .prop_map(|(millis, limit)| Step::Expire(millis, limit)),
        2 => Just(Step::DropHead),
        3 => any::<usize>().prop_map(Step::Bury),
    ]
}

fn housekeeping() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::TakeReturned),
        1 => any::<usize>().prop_map(Step::Relocate),
        1 => limited().prop_map(Step::Configure),
        2 => Just(Step::Snapshot),
        1 => Just(Step::Trim),
        2 => (any::<usize>(), any::<usize>(), any::<usize>(), any::<bool>()).prop_map(
            |(snapshot, start, commands_at, is_reversed)| Step::Crash {
                snapshot,
                start,
                commands_at,
                is_reversed,
            }
        ),
        1 => Just(Step::CleanStop),
    ]
}
