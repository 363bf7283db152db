//! Which policy applies, what it may say, and what comes of it together with arguments.

use super::*;
use crate::settings::{DeadLettering, Overflow};

fn set(scope: PolicyScope, policy: &str, priority: i64, definition: FieldTable) -> CatalogCommand {
    set_for(ApplyTo::All, scope, (policy, ".*"), priority, definition)
}

fn set_for(
    apply_to: ApplyTo,
    scope: PolicyScope,
    (policy, pattern): (&str, &str),
    priority: i64,
    definition: FieldTable,
) -> CatalogCommand {
    CatalogCommand::Policy(PolicyCommand::Set {
        scope,
        vhost: vhost(),
        name: name(policy),
        policy: Policy {
            pattern: pattern.to_owned(),
            apply_to,
            priority,
            definition,
        },
    })
}

fn delete(scope: PolicyScope, policy: &str) -> CatalogCommand {
    let (vhost, name) = (vhost(), name(policy));
    CatalogCommand::Policy(PolicyCommand::Delete { scope, vhost, name })
}

fn long(key: &str, value: i64) -> FieldTable {
    TableBuilder::new().long(key, value).build()
}

fn text(key: &str, value: &str) -> FieldTable {
    TableBuilder::new().longstr(key, value).build()
}

fn quorum(argument: &str, value: Value<'_>) -> FieldTable {
    TableBuilder::new()
        .longstr("x-queue-type", "quorum")
        .value(argument, value)
        .build()
}

fn settings(arguments: FieldTable, policies: &[CatalogCommand]) -> QueueSettings {
    let mut commands = policies.to_vec();
    commands.push(declare_queue_as("q", queue_options(arguments)));
    let catalog = catalog(&commands);
    catalog.check_invariants();
    catalog.queue(b"/", b"q").unwrap().settings.as_ref().clone()
}

use PolicyScope::{Operator, User};

#[test]
fn the_highest_priority_applies_and_then_the_first_name() {
    let mut catalog = catalog(&[
        declare_queue("q"),
        set(User, "b", 1, long("max-length", 1)),
        set(User, "a", 1, long("max-length", 2)),
        set(User, "high-elsewhere", 9, long("max-length", 3)),
    ]);
    let elsewhere = set_for(
        ApplyTo::All,
        User,
        ("high-elsewhere", "^other"),
        9,
        long("max-length", 3),
    );
    let of = |catalog: &Catalog| {
        let queue = catalog.queue(b"/", b"q").unwrap();
        let policy = catalog.policy_of_queue(queue, User).unwrap().to_string();
        (policy, queue.settings.max_length)
    };
    assert_eq!(of(&catalog), ("high-elsewhere".to_owned(), Some(3)));
    let applied = catalog.apply(&elsewhere).unwrap();
    assert_eq!(applied.change, Change::Updated);
    assert_eq!(applied.queues_changed, [QueueId(1)]);
    assert_eq!(of(&catalog), ("a".to_owned(), Some(2)));
    let applied = catalog.apply(&delete(User, "b")).unwrap();
    assert_eq!(
        (applied.change, applied.queues_changed),
        (Change::Deleted, vec![])
    );
    let applied = catalog.apply(&delete(User, "a")).unwrap();
    assert_eq!(applied.queues_changed, [QueueId(1)]);
    let queue = catalog.queue(b"/", b"q").unwrap();
    assert_eq!(catalog.policy_of_queue(queue, User), None);
    assert_eq!(*queue.settings, QueueSettings::default());
    catalog.check_invariants();
}

#[test]
fn a_policy_applies_to_what_it_is_for() {
    let applies = |apply_to, arguments: FieldTable, definition: FieldTable| {
        let policy = set_for(apply_to, User, ("p", ""), 0, definition);
        let catalog = catalog(&[policy, declare_queue_as("q", queue_options(arguments))]);
        let queue = catalog.queue(b"/", b"q").unwrap();
        catalog.policy_of_queue(queue, User).is_some()
    };
    let classic = FieldTable::default;
    let quorum = || text("x-queue-type", "quorum");
    let length = || long("max-length", 1);
    assert!(applies(ApplyTo::All, classic(), length()));
    assert!(applies(ApplyTo::Queues, quorum(), length()));
    assert!(applies(ApplyTo::ClassicQueues, classic(), length()));
    assert!(!applies(ApplyTo::ClassicQueues, quorum(), length()));
    assert!(applies(ApplyTo::QuorumQueues, quorum(), length()));
    assert!(!applies(ApplyTo::QuorumQueues, classic(), length()));
    assert!(!applies(ApplyTo::Exchanges, classic(), length()));
    assert!(!applies(ApplyTo::Streams, classic(), length()));
    // A policy with a key that the queue's kind does not know does not apply at all.
    let two = TableBuilder::new()
        .long("max-length", 1)
        .long("delivery-limit", 1)
        .build();
    assert!(applies(ApplyTo::All, quorum(), two.clone()));
    assert!(!applies(ApplyTo::All, classic(), two));
}

#[test]
fn of_numbers_the_smallest_counts() {
    let policies = [
        set(User, "p", 0, long("max-length", 20)),
        set(Operator, "o", 0, long("max-length", 10)),
    ];
    let length = |argument| settings(long("x-max-length", argument), &policies).max_length;
    assert_eq!(length(30), Some(10));
    assert_eq!(length(5), Some(5));
    let catalog = catalog(&[policies.as_slice(), &[declare_queue("q")]].concat());
    let queue = catalog.queue(b"/", b"q").unwrap();
    assert_eq!(
        catalog.effective_policy_of_queue(queue),
        long("max-length", 10)
    );
    assert_eq!(queue.settings.max_length, Some(10));
    let both = [
        set(User, "p", 0, long("expires", 5)),
        set(Operator, "o", 0, long("message-ttl", 7)),
    ];
    let settings = settings(long("x-expires", 9), &both);
    assert_eq!(settings.expires_millis, Some(5));
    assert_eq!(settings.message_ttl_millis, Some(7));
}

#[test]
fn an_unlimited_delivery_limit_yields() {
    let limit = |argument: Option<i64>, user: Option<i64>, operator: Option<i64>| {
        let mut policies = Vec::new();
        policies.extend(user.map(|limit| set(User, "p", 0, long("delivery-limit", limit))));
        policies.extend(operator.map(|limit| set(Operator, "o", 0, long("delivery-limit", limit))));
        let arguments = match argument {
            Some(limit) => quorum("x-delivery-limit", Value::I64(limit)),
            None => text("x-queue-type", "quorum"),
        };
        settings(arguments, &policies).delivery_limit
    };
    assert_eq!(limit(None, None, None), Some(20));
    assert_eq!(limit(Some(-1), None, None), None);
    assert_eq!(limit(Some(-1), Some(5), None), Some(5));
    assert_eq!(limit(Some(7), Some(-1), None), Some(7));
    assert_eq!(limit(Some(7), Some(5), None), Some(5));
    assert_eq!(limit(None, Some(-1), Some(3)), Some(3));
    assert_eq!(limit(None, Some(4), Some(-1)), Some(4));
    assert_eq!(limit(None, Some(-1), Some(-1)), None);
}

#[test]
fn of_other_values_arguments_or_policies_win_by_key() {
    let dead_letters = |exchange: &str| {
        Some(DeadLettering {
            exchange: name(exchange),
            routing_key: None,
            at_least_once: false,
        })
    };
    let policy = set(User, "p", 0, text("dead-letter-exchange", "by-policy"));
    let policies = std::slice::from_ref(&policy);
    let by_argument = settings(text("x-dead-letter-exchange", "by-argument"), policies);
    assert_eq!(by_argument.dead_lettering, dead_letters("by-argument"));
    let by_policy = settings(FieldTable::default(), policies);
    assert_eq!(by_policy.dead_lettering, dead_letters("by-policy"));

    let reject = [set(User, "p", 0, text("overflow", "reject-publish"))];
    let drop = || text("x-overflow", "drop-head");
    assert_eq!(settings(drop(), &reject).overflow, Overflow::DropHead);
    let quorum = quorum("x-overflow", Value::LongStr(b"drop-head"));
    let quorum = settings(quorum, &reject);
    assert_eq!(quorum.overflow, Overflow::RejectPublish);
    let operator = [
        set(User, "p", 0, text("overflow", "reject-publish")),
        set(Operator, "o", 0, text("overflow", "reject-publish-dlx")),
    ];
    let none = FieldTable::default();
    assert_eq!(
        settings(none, &operator).overflow,
        Overflow::RejectPublishDlx
    );
    let quorum = text("x-queue-type", "quorum");
    assert_eq!(settings(quorum, &operator).overflow, Overflow::DropHead);
}

#[test]
fn at_least_once_may_come_from_several_places() {
    let definition = TableBuilder::new()
        .longstr("dead-letter-strategy", "at-least-once")
        .longstr("overflow", "reject-publish")
        .build();
    let policy = [set(User, "p", 0, definition)];
    let arguments = quorum("x-dead-letter-exchange", Value::LongStr(b"dlx"));
    let dead_lettering = settings(arguments, &policy).dead_lettering.unwrap();
    assert!(dead_lettering.at_least_once);
    let bare = settings(text("x-queue-type", "quorum"), &policy);
    assert_eq!(bare.dead_lettering, None);
}

#[test]
fn a_policy_names_an_alternate_exchange_unless_the_argument_does() {
    let definition = text("alternate-exchange", "amq.fanout");
    let mut catalog = catalog(&[
        declare_exchange("x", "direct"),
        declare_queue("q"),
        set_for(ApplyTo::Exchanges, User, ("p", "^[xyz]$"), 0, definition),
        bind(binding("amq.fanout", to_queue("q"), "")),
    ]);
    assert_eq!(routed(&catalog, "x", "k"), ["q"]);
    // Declared under the policy.
    catalog.apply(&declare_exchange("y", "direct")).unwrap();
    assert_eq!(routed(&catalog, "y", "k"), ["q"]);
    let own = ExchangeOptions {
        arguments: text("alternate-exchange", "amq.direct"),
        ..exchange_options("direct")
    };
    catalog.apply(&declare_exchange_as("z", own)).unwrap();
    assert!(routed(&catalog, "z", "k").is_empty());
    let policy = catalog.policy_of_exchange(b"/", b"x", User).cloned();
    assert_eq!(policy, Some(name("p")));
    catalog.apply(&delete(User, "p")).unwrap();
    assert!(routed(&catalog, "x", "k").is_empty());
}

#[test]
fn definitions_are_checked_in_rabbitmqs_words() {
    let check = |scope, definition: FieldTable, expected: &str| {
        let text = refused(&[], &set(scope, "p", 0, definition));
        assert_eq!(text, format!("Validation failed\n\n{expected}\n"));
    };
    check(User, FieldTable::default(), "no policy provided");
    check(
        User,
        long("message-ttl", -1),
        "-1 is not a valid message TTL",
    );
    check(
        User,
        text("max-length", "5"),
        "<<\"5\">> is not a valid maximum length",
    );
    check(
        User,
        text("overflow", "no"),
        "<<\"no\">> is not a valid overflow value",
    );
    check(
        User,
        text("max-age", "7"),
        "<<\"7\">> is not a valid max age",
    );
    check(
        User,
        long("foo", 1),
        "[{<<\"foo\">>,1}] are not recognised policy settings",
    );
    // Operators may not say where dead letters go.
    check(
        Operator,
        text("dead-letter-exchange", "x"),
        "[{<<\"dead-letter-exchange\">>,<<\"x\">>}] are not recognised policy settings",
    );
    let pattern = set_for(ApplyTo::All, User, ("p", "("), 0, long("max-length", 1));
    assert!(refused(&[], &pattern).contains("should be regular expression but is invalid"));
    // Without effect here, and accepted all the same.
    for definition in [
        text("queue-mode", "lazy"),
        text("ha-mode", "all"),
        text("federation-upstream-set", "all"),
        text("max-age", "7D"),
    ] {
        catalog(&[set(User, "p", 0, definition)]);
    }
}

/// Only what a change may concern is looked at again, and nothing that it does concern is missed.
#[test]
fn what_comes_and_goes_leaves_every_queue_as_its_policies_say() {
    let queues = ["a", "b", "ab", "abc", "c"];
    let mut catalog = catalog(&[]);
    for queue in queues {
        let declare = declare_queue_as(queue, queue_options(FieldTable::default()));
        catalog.apply(&declare).unwrap();
    }
    let patterns = ["a", "^b", "c$", "^ab?$", ".*", "x"];
    let mut random = 1_u64;
    let mut next = |count: usize| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(random >> 40).unwrap() % count
    };
    for step in 0..2_000 {
        let scope = [User, Operator][next(2)];
        let policy = ["p", "q", "r"][next(3)];
        let pattern = patterns[next(patterns.len())];
        let command = if next(4) == 0 {
            delete(scope, policy)
        } else {
            let (priority, length) = (next(3), next(9));
            let definition = long("max-length", i64::try_from(length).unwrap());
            let priority = i64::try_from(priority).unwrap();
            set_for(ApplyTo::All, scope, (policy, pattern), priority, definition)
        };
        let before: Vec<_> = catalog
            .queues()
            .map(|it| (it.id, it.settings.clone()))
            .collect();
        let changed = catalog.apply(&command).unwrap().queues_changed;
        for (id, settings) in before {
            let queue = catalog.queue_by_id(id).unwrap();
            assert_eq!(*queue.settings, catalog.settings_of(queue), "step {step}");
            let is_told = changed.contains(&id);
            assert_eq!(is_told, queue.settings != settings, "step {step}");
        }
    }
}
