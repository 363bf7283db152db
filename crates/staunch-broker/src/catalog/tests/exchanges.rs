//! Exchanges: what they are asked to be, and where they send messages.

use std::collections::BTreeMap;

use staunch_types::properties::PropertyList;

use super::*;
use crate::exchange::properties_after_delay;

#[test]
fn publishing_needs_an_exchange_that_is_not_internal() {
    let mut catalog = catalog(&[]);
    let publish = |exchange: &str| {
        let envelope = envelope(exchange, "k");
        let refused = catalog.route(b"/", &envelope, &mut Route::new(1));
        refused.unwrap_err().to_string()
    };
    assert_eq!(publish("no"), "no exchange 'no' in vhost '/'");
    let check = |exchange: &[u8]| catalog.check_publishable(b"/", exchange);
    assert!(check(b"").is_ok() && check(b"amq.topic").is_ok());
    assert!(check(b"no").is_err() && check(b"amq.rabbitmq.trace").is_err());
    assert_eq!(
        publish("amq.rabbitmq.trace"),
        "cannot publish to internal exchange 'amq.rabbitmq.trace' in vhost '/'"
    );
    let trace = envelope("amq.rabbitmq.trace", "k");
    let onward = catalog.route_onward(b"/", &trace, &mut Route::new(1));
    assert_eq!(onward, Ok(()));
    catalog
        .apply(&CatalogCommand::DeleteVhost { vhost: vhost() })
        .unwrap();
    assert!(catalog.check_vhost(b"/").is_err());
}

#[test]
fn unroutable_messages_go_to_the_alternate_exchange() {
    let arguments = TableBuilder::new()
        .longstr("alternate-exchange", "alt")
        .build();
    let options = ExchangeOptions {
        arguments,
        ..exchange_options("direct")
    };
    let catalog = catalog(&[
        declare_exchange_as("x", options),
        declare_exchange("alt", "fanout"),
        declare_queue("q"),
        declare_queue("rest"),
        bind(binding("x", to_queue("q"), "k")),
        bind(binding("alt", to_queue("rest"), "")),
    ]);
    assert_eq!(routed(&catalog, "x", "k"), ["q"]);
    assert_eq!(routed(&catalog, "x", "other"), ["rest"]);
    assert_eq!(routed(&catalog, "", "q"), ["q"]);
    assert_eq!(routed(&catalog, "", "no"), [""; 0]);
}

#[test]
fn bindings_are_checked_by_the_exchange() {
    let quorum = TableBuilder::new()
        .longstr("x-queue-type", "quorum")
        .build();
    let before = [
        declare_queue("q"),
        declare_queue_as("quorum", queue_options(quorum)),
        declare_exchange("hash", "x-consistent-hash"),
        declare_exchange("local", "x-local-random"),
    ];
    let check = |binding: Binding, expected: &str| {
        assert_eq!(refused(&before, &bind(binding)), expected);
    };
    let headers = |value: Value<'_>| Binding {
        arguments: TableBuilder::new().value("x-match", value).build(),
        ..binding("amq.headers", to_queue("q"), "")
    };
    check(
        headers(Value::LongStr(b"some")),
        "Invalid x-match field value <<\"some\">>; expected all, any, all-with-x, or any-with-x",
    );
    check(
        headers(Value::I32(1)),
        "Invalid x-match field type signedint (value 1); expected longstr",
    );
    for (key, expected) in [
        ("heavy", "The binding key must be an integer: <<\"heavy\">>"),
        ("", "The binding key must be an integer: <<>>"),
        ("0", "The binding key must be greater than 0"),
        ("-3", "The binding key must be greater than 0"),
    ] {
        check(binding("hash", to_queue("q"), key), expected);
    }
    let to_exchange = Destination::Exchange(name("amq.fanout"));
    for (to, key, expected) in [
        (
            to_queue("q"),
            "k",
            "Non empty binding 'k' key not permitted",
        ),
        (
            to_queue("quorum"),
            "",
            "Queue type rabbit_quorum_queue not valid for this exchange type",
        ),
        (to_exchange, "", "Destination not found"),
    ] {
        check(binding("local", to, key), expected);
    }
}

/// Declares an exchange with one text argument.
fn declare_with(exchange: &str, kind: &str, (argument, value): (&str, &str)) -> CatalogCommand {
    let arguments = TableBuilder::new().longstr(argument, value).build();
    let options = ExchangeOptions {
        arguments,
        ..exchange_options(kind)
    };
    declare_exchange_as(exchange, options)
}

fn delayed(exchange: &str, kind: &str) -> CatalogCommand {
    declare_with(exchange, "x-delayed-message", ("x-delayed-type", kind))
}

#[test]
fn arguments_of_exchanges_are_checked() {
    let check = |command: CatalogCommand, expected: &str| {
        assert_eq!(refused(&[], &command), expected);
    };
    let hash = |argument| declare_with("x", "x-consistent-hash", argument);
    check(
        hash(("hash-property", "app_id")),
        "Unsupported property: app_id",
    );
    let both = TableBuilder::new()
        .longstr("hash-header", "h")
        .longstr("hash-property", "timestamp")
        .build();
    let options = ExchangeOptions {
        arguments: both,
        ..exchange_options("x-consistent-hash")
    };
    check(
        declare_exchange_as("x", options),
        "hash-header and hash-property are mutually exclusive",
    );
    let missing = "Invalid argument, 'x-delayed-type' must be an existing exchange type";
    check(declare_exchange("x", "x-delayed-message"), missing);
    check(
        delayed("x", "x-delayed-message"),
        "Invalid argument, 'x-delayed-message' can't be used for 'x-delayed-type'",
    );
    check(delayed("x", "slow"), "unknown exchange type 'slow'");
    let options = ExchangeOptions {
        arguments: TableBuilder::new().int("alternate-exchange", 1).build(),
        ..exchange_options("direct")
    };
    check(
        declare_exchange_as("x", options),
        "invalid type 'signedint' for arg 'alternate-exchange' in exchange 'x' in vhost '/'",
    );
    check(
        declare_exchange("x", "x-recent-history"),
        "unknown exchange type 'x-recent-history'",
    );
}

/// How many of `count` messages with different keys each queue gets.
fn spread(catalog: &Catalog, exchange: &str, count: usize) -> BTreeMap<String, usize> {
    let mut route = Route::new(7);
    let mut spread = BTreeMap::new();
    for n in 0..count {
        let key = format!("key-{n}");
        catalog
            .route(b"/", &envelope(exchange, &key), &mut route)
            .unwrap();
        let [queue] = route.queues[..] else {
            panic!("one queue, not {:?}", route.queues)
        };
        let name = catalog.queue_by_id(queue).unwrap().name.to_string();
        *spread.entry(name).or_default() += 1;
    }
    spread
}

/// The queue that each of 2,000 keys finds.
fn choices(catalog: &Catalog, exchange: &str) -> Vec<String> {
    let keys = (0..2_000).map(|n| routed(catalog, exchange, &format!("key-{n}")));
    keys.map(|mut queues| queues.pop().unwrap()).collect()
}

#[test]
fn consistent_hashing_follows_weights_and_moves_little() {
    let mut catalog = catalog(&[
        declare_exchange("x", "x-consistent-hash"),
        declare_queue("one"),
        declare_queue("two"),
        declare_queue("three"),
        bind(binding("x", to_queue("one"), "1")),
        bind(binding("x", to_queue("two"), "2")),
    ]);
    let share = spread(&catalog, "x", 9_000);
    assert!(share["one"].abs_diff(3_000) < 300, "{share:?}");
    assert!(share["two"].abs_diff(6_000) < 300, "{share:?}");
    let before = choices(&catalog, "x");
    let third = bind(binding("x", to_queue("three"), "3"));
    catalog.apply(&third).unwrap();
    let during = choices(&catalog, "x");
    let moved = before.iter().zip(&during).filter(|(old, new)| old != new);
    let moved: Vec<_> = moved.map(|(_, new)| new.as_str()).collect();
    assert!(
        moved.iter().all(|new| *new == "three"),
        "only to the new one"
    );
    assert!(
        moved.len().abs_diff(1_000) < 150,
        "{} of 2,000",
        moved.len()
    );
    // Deleted and made again, with another id: nothing has moved.
    catalog.apply(&delete_queue("three")).unwrap();
    assert_eq!(choices(&catalog, "x"), before);
    catalog.apply(&declare_queue("three")).unwrap();
    catalog.apply(&third).unwrap();
    assert_eq!(choices(&catalog, "x"), during);
}

#[test]
fn consistent_hashing_takes_what_the_arguments_name() {
    let catalog = catalog(&[
        declare_with("by-header", "x-consistent-hash", ("hash-header", "user")),
        declare_with(
            "by-id",
            "x-consistent-hash",
            ("hash-property", "message_id"),
        ),
        declare_queue("one"),
        declare_queue("two"),
        bind(binding("by-header", to_queue("one"), "1")),
        bind(binding("by-header", to_queue("two"), "1")),
        bind(binding("by-id", to_queue("one"), "1")),
        bind(binding("by-id", to_queue("two"), "1")),
    ]);
    for exchange in ["by-header", "by-id"] {
        let found = |user: &str, key: &str| {
            let headers = TableBuilder::new().longstr("user", user).build();
            let builder = PropertiesBuilder::new().headers(headers.as_table_ref());
            let properties = builder.message_id(user).build().unwrap();
            let envelope = Envelope {
                properties: properties.as_bytes(),
                ..envelope(exchange, key)
            };
            let mut route = Route::new(1);
            catalog.route(b"/", &envelope, &mut route).unwrap();
            assert!(!route.is_cacheable);
            route.queues
        };
        let users: Vec<_> = (0..20).map(|n| format!("user-{n}")).collect();
        let all: BTreeSet<_> = users.iter().map(|user| found(user, "k")).collect();
        assert_eq!(all.len(), 2, "users are spread");
        assert!(
            users
                .iter()
                .all(|user| found(user, "k") == found(user, "other"))
        );
        // Those without it all go to the same queue.
        assert_eq!(spread(&catalog, exchange, 10).len(), 1);
    }
}

#[test]
fn random_exchanges_spread_and_hashing_ones_repeat() {
    let mut commands = vec![declare_queue("one"), declare_queue("two")];
    let kinds = ["x-random", "x-local-random", "x-modulus-hash"];
    for kind in kinds {
        commands.push(declare_exchange(kind, kind));
        commands.push(bind(binding(kind, to_queue("one"), "")));
        commands.push(bind(binding(kind, to_queue("two"), "")));
    }
    let catalog = catalog(&commands);
    for kind in kinds {
        let share = spread(&catalog, kind, 1_000);
        assert!(share["one"].abs_diff(500) < 100, "{kind}: {share:?}");
    }
    let mut route = Route::new(3);
    let same_key = |kind: &str, route: &mut Route| -> BTreeSet<Vec<QueueId>> {
        let envelope = envelope(kind, "k");
        let one = |_| {
            catalog.route(b"/", &envelope, route).unwrap();
            assert_eq!(route.is_cacheable, kind == "x-modulus-hash");
            route.queues.clone()
        };
        (0..40).map(one).collect()
    };
    assert_eq!(same_key("x-modulus-hash", &mut route).len(), 1);
    assert_eq!(same_key("x-random", &mut route).len(), 2);
    assert_eq!(same_key("x-local-random", &mut route).len(), 2);
}

#[test]
fn further_keys_count_as_the_first_does() {
    let catalog = catalog(&[
        declare_queue("a"),
        declare_queue("b"),
        declare_queue("c"),
        bind(binding("amq.direct", to_queue("a"), "ka")),
        bind(binding("amq.direct", to_queue("b"), "kb")),
        bind(binding("amq.topic", to_queue("a"), "ka.#")),
        bind(binding("amq.topic", to_queue("c"), "*.c")),
    ]);
    let check = |exchange: &str, keys: &[&str], expected: &[&str]| {
        let more: Vec<&[u8]> = keys[1..].iter().map(|key| key.as_bytes()).collect();
        let envelope = Envelope {
            more_keys: &more,
            ..envelope(exchange, keys[0])
        };
        let mut route = Route::new(1);
        catalog.route(b"/", &envelope, &mut route).unwrap();
        let ids = route.queues.iter();
        let names: Vec<String> = ids
            .map(|id| catalog.queue_by_id(*id).unwrap().name.to_string())
            .collect();
        assert_eq!(names, expected, "{exchange} {keys:?}");
    };
    check("", &["b", "no", "a", "b"], &["a", "b"]);
    check("amq.direct", &["kb", "ka", "ka"], &["a", "b"]);
    check("amq.topic", &["no", "x.c", "ka.c"], &["a", "c"]);
}

#[test]
fn alternate_exchanges_chain_and_cycles_end() {
    let alternate =
        |exchange: &str, to: &str| declare_with(exchange, "direct", ("alternate-exchange", to));
    let catalog = catalog(&[
        alternate("a", "b"),
        alternate("b", "c"),
        alternate("c", "a"),
        alternate("to-missing", "no"),
        alternate("to-default", ""),
        declare_queue("q"),
        bind(binding("c", to_queue("q"), "k")),
    ]);
    assert_eq!(routed(&catalog, "a", "k"), ["q"]);
    assert_eq!(routed(&catalog, "a", "nobody"), [""; 0]);
    assert_eq!(routed(&catalog, "to-missing", "k"), [""; 0]);
    assert_eq!(
        routed(&catalog, "to-default", "q"),
        [""; 0],
        "as in RabbitMQ"
    );
}

fn with_delay(millis: i32) -> PropertyList {
    let headers = TableBuilder::new().int("x-delay", millis).build();
    let builder = PropertiesBuilder::new().headers(headers.as_table_ref());
    builder.build().unwrap()
}

#[test]
fn delayed_messages_wait_in_a_queue_that_nobody_can_name() {
    let mut catalog = catalog(&[
        delayed("later", "topic"),
        declare_exchange("front", "fanout"),
        declare_queue("q"),
        bind(binding("later", to_queue("q"), "a.*")),
        bind(binding("front", Destination::Exchange(name("later")), "")),
    ]);
    assert_eq!(routed(&catalog, "later", "a.b"), ["q"], "no delay, no wait");
    let properties = with_delay(5_000);
    let at = |exchange| Envelope {
        properties: properties.as_bytes(),
        ..envelope(exchange, "a.b")
    };
    let mut route = Route::new(1);
    catalog.route(b"/", &at("later"), &mut route).unwrap();
    let [(holder, 5_000)] = route.delayed[..] else {
        panic!("it waits, not {route:?}")
    };
    assert!(route.queues.is_empty() && !route.is_nowhere() && !route.is_cacheable);
    catalog.route(b"/", &at("front"), &mut route).unwrap();
    assert_eq!(route.delayed, [(holder, 5_000)], "also through others");
    let entry = catalog.queue_by_id(holder).unwrap();
    assert!(entry.holds_delayed && entry.is_durable());
    assert_eq!(catalog.queue_count(), 1);
    assert!(catalog.queues().all(|queue| queue.id != holder));
    assert!(catalog.check_queue(b"/", b"later", ME).is_err());
    assert_eq!(routed(&catalog, "", "later"), [""; 0]);
    let after = properties_after_delay(properties.as_bytes()).unwrap();
    let due = Envelope {
        properties: after.as_bytes(),
        ..envelope("front", "a.b")
    };
    catalog.route_delayed(holder, &due, &mut route).unwrap();
    let q = catalog.queue(b"/", b"q").unwrap().id;
    assert_eq!((&route.queues[..], route.delayed.len()), (&[q][..], 0));
    let applied = catalog.apply(&delete_exchange("later", false)).unwrap();
    assert_eq!(applied.queues_deleted.len(), 1);
    assert_eq!(applied.queues_deleted[0].id, holder);
    assert!(catalog.route_delayed(holder, &due, &mut route).is_err());
    catalog.check_invariants();
}

#[test]
fn the_queue_of_a_delaying_exchange_survives_as_its_exchange_does() {
    let transient = ExchangeOptions {
        durable: false,
        arguments: TableBuilder::new()
            .longstr("x-delayed-type", "direct")
            .build(),
        ..exchange_options("x-delayed-message")
    };
    let commands = [
        declare_queue("before"),
        delayed("kept", "direct"),
        declare_exchange_as("lost", transient),
        declare_queue("between"),
    ];
    let before = catalog(&commands);
    let holders = |catalog: &Catalog| -> Vec<(QueueId, String)> {
        let all = catalog.queues_and_holders();
        let holders = all.filter(|queue| queue.holds_delayed);
        holders
            .map(|queue| (queue.id, queue.name.to_string()))
            .collect()
    };
    let [(kept, _), _] = &holders(&before)[..] else {
        panic!("two exchanges, two queues")
    };
    let mut bytes = Vec::new();
    before.encode_snapshot(&mut bytes);
    let mut after = Catalog::decode_snapshot(&bytes, 5).unwrap();
    after.check_invariants();
    assert_eq!(holders(&after), [(*kept, "kept".to_owned())]);
    // What a snapshot has already may come again from the log.
    let declare = CatalogCommand::DeclareExchange {
        vhost: vhost(),
        name: name("kept"),
        options: match &commands[1] {
            CatalogCommand::DeclareExchange { options, .. } => options.clone(),
            other => panic!("{other:?}"),
        },
        delay_queue: *kept,
        placement: Placement::HERE,
    };
    let applied = after.replay(&declare).unwrap();
    assert_eq!(
        (applied.change, applied.queue),
        (Change::Unchanged, Some(*kept))
    );
    let gone = after.replay(&delete_exchange("kept", false)).unwrap();
    assert_eq!(gone.queues_deleted.len(), 1);
    let applied = after.replay(&declare).unwrap();
    assert_eq!(
        (applied.change, applied.queue),
        (Change::Created, Some(*kept))
    );
    after.check_invariants();
    let applied = after.apply(&CatalogCommand::DeleteVhost { vhost: vhost() });
    assert_eq!(
        applied.unwrap().queues_deleted.len(),
        3,
        "two queues and a holder"
    );
    after.check_invariants();
}

#[test]
fn header_values_compare_without_regard_to_their_encoding() {
    let check = |wanted: Value<'_>, there: Value<'_>, expected: bool| {
        let binding = Binding {
            arguments: TableBuilder::new().value("h", wanted).build(),
            ..binding("amq.headers", to_queue("q"), "")
        };
        let catalog = catalog(&[declare_queue("q"), bind(binding)]);
        let headers = TableBuilder::new().value("h", there).build();
        let builder = PropertiesBuilder::new().headers(headers.as_table_ref());
        let properties = builder.build().unwrap();
        let envelope = Envelope {
            properties: properties.as_bytes(),
            ..envelope("amq.headers", "")
        };
        let mut route = Route::new(1);
        catalog.route(b"/", &envelope, &mut route).unwrap();
        assert_eq!(!route.is_nowhere(), expected, "{wanted:?} and {there:?}");
    };
    check(Value::I32(5), Value::U8(5), true);
    check(Value::I64(5), Value::Timestamp(5), true);
    check(Value::I32(5), Value::F64(5.0), false);
    check(Value::F32(0.5), Value::F64(0.5), true);
    check(Value::LongStr(b"5"), Value::I32(5), false);
    check(Value::LongStr(b"a"), Value::Binary(b"a"), true);
    check(Value::Bool(true), Value::LongStr(b"true"), false);
    check(Value::Void, Value::Bool(false), true);
    check(Value::Bool(false), Value::Void, false);
}
