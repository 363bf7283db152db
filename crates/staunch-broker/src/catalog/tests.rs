//! Tests of the catalog.
//!
//! Long because the naive reference router and the cases that it judges belong together.

mod access;
mod nodes;
mod partitions;
mod policies;
mod replay;

use std::collections::BTreeSet;

use proptest::prelude::*;
use staunch_types::FieldTable;
use staunch_types::field_table::{TableBuilder, Value};
use staunch_types::properties::{NO_PROPERTIES, PropertiesBuilder};
use staunch_types::refusal::ArgumentSide;

use staunch_types::NodeId;

use super::*;
use crate::exchange::Envelope;

mod exchanges;

type Side = ArgumentSide;

const ME: ConnectionId = ConnectionId(7);
const OTHER: ConnectionId = ConnectionId(8);

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn vhost() -> Name {
    name("/")
}

fn queue_options(arguments: FieldTable) -> QueueOptions {
    QueueOptions {
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments,
    }
}

fn declare_queue_as(queue: &str, options: QueueOptions) -> CatalogCommand {
    let owner = options.exclusive.then_some(ME);
    let (vhost, name, id) = (vhost(), name(queue), QueueId(0));
    CatalogCommand::DeclareQueue {
        vhost,
        name,
        id,
        server_named: false,
        options,
        owner,
        placement: Placement::HERE,
        partitions: Vec::new(),
    }
}

/// A queue with so many partitions, all kept there.
fn declare_partitioned(queue: &[u8], count: u8, placement: Placement) -> CatalogCommand {
    let arguments = TableBuilder::new()
        .longstr("x-queue-type", "quorum")
        .int(PARTITIONS, i32::from(count))
        .build();
    let mut command = declare_queue_as(
        std::str::from_utf8(queue).unwrap(),
        queue_options(arguments),
    );
    if let CatalogCommand::DeclareQueue { partitions, .. } = &mut command {
        *partitions = vec![placement; usize::from(count)];
    }
    command
}

fn declare_queue(queue: &str) -> CatalogCommand {
    declare_queue_as(queue, queue_options(FieldTable::default()))
}

fn exchange_options(kind: &str) -> ExchangeOptions {
    let arguments = FieldTable::default();
    let (durable, auto_delete, internal) = (true, false, false);
    ExchangeOptions {
        kind: name(kind),
        durable,
        auto_delete,
        internal,
        arguments,
    }
}

fn declare_exchange_as(exchange: &str, options: ExchangeOptions) -> CatalogCommand {
    CatalogCommand::DeclareExchange {
        vhost: vhost(),
        name: name(exchange),
        options,
        delay_queue: QueueId(0),
        placement: Placement::HERE,
    }
}

fn declare_exchange(exchange: &str, kind: &str) -> CatalogCommand {
    declare_exchange_as(exchange, exchange_options(kind))
}

fn delete_exchange(exchange: &str, if_unused: bool) -> CatalogCommand {
    CatalogCommand::DeleteExchange {
        vhost: vhost(),
        name: name(exchange),
        if_unused,
    }
}

fn delete_queue(queue: &str) -> CatalogCommand {
    CatalogCommand::DeleteQueue {
        vhost: vhost(),
        name: name(queue),
    }
}

fn binding(source: &str, destination: Destination, key: &str) -> Binding {
    let arguments = FieldTable::default();
    Binding {
        source: name(source),
        destination,
        routing_key: name(key),
        arguments,
    }
}

fn to_queue(queue: &str) -> Destination {
    Destination::Queue(name(queue))
}

fn bind(binding: Binding) -> CatalogCommand {
    CatalogCommand::Bind {
        vhost: vhost(),
        binding,
    }
}

fn catalog(commands: &[CatalogCommand]) -> Catalog {
    let mut catalog = Catalog::new(1);
    for command in commands {
        catalog.apply(command).unwrap();
    }
    catalog
}

fn envelope<'a>(exchange: &'a str, key: &'a str) -> Envelope<'a> {
    Envelope {
        exchange: exchange.as_bytes(),
        routing_key: key.as_bytes(),
        more_keys: &[],
        properties: NO_PROPERTIES,
    }
}

fn routed(catalog: &Catalog, exchange: &str, key: &str) -> Vec<String> {
    let mut out = Route::new(1);
    let envelope = envelope(exchange, key);
    catalog.route(b"/", &envelope, &mut out).unwrap();
    assert_eq!(out.is_nowhere(), out.queues.is_empty());
    out.queues
        .iter()
        .map(|id| catalog.queue_by_id(*id).unwrap().name.to_string())
        .collect()
}

/// Text of the refusal of `command` after `before`; nothing may have changed.
fn refused(before: &[CatalogCommand], command: &CatalogCommand) -> String {
    let mut catalog = catalog(before);
    let (version, mut old, mut new) = (catalog.version(), Vec::new(), Vec::new());
    catalog.encode_snapshot(&mut old);
    let text = catalog.apply(command).unwrap_err().to_string();
    catalog.encode_snapshot(&mut new);
    assert_eq!((version, old), (catalog.version(), new));
    catalog.check_invariants();
    text
}

#[test]
fn predeclared_exchanges_are_there_and_protected() {
    let catalog = Catalog::new(1);
    let names: Vec<String> = catalog
        .exchanges(b"/")
        .map(|(name, _)| name.to_string())
        .collect();
    let expected = [
        "",
        "amq.direct",
        "amq.fanout",
        "amq.headers",
        "amq.match",
        "amq.rabbitmq.event",
        "amq.rabbitmq.trace",
        "amq.topic",
    ];
    assert_eq!(names, expected);
    let check = |command: &CatalogCommand, expected: &str| {
        assert_eq!(refused(&[declare_queue("q")], command), expected);
    };
    let default = "operation not permitted on the default exchange";
    check(&declare_exchange("", "direct"), default);
    check(&delete_exchange("", false), default);
    check(&bind(binding("", to_queue("q"), "k")), default);
    check(
        &bind(binding("amq.topic", Destination::Exchange(name("")), "k")),
        default,
    );
    check(
        &delete_exchange("amq.topic", false),
        "deletion of system exchange 'amq.topic' in vhost '/' not allowed",
    );
    check(
        &declare_exchange("amq.x", "direct"),
        "exchange name 'amq.x' contains reserved prefix 'amq.*'",
    );
    check(
        &declare_queue("amq.x"),
        "queue name 'amq.x' contains reserved prefix 'amq.*'",
    );
    check(&declare_exchange("x", "foo"), "unknown exchange type 'foo'");
    check(
        &declare_queue("a\nb"),
        "queue name 'a\nb' is not UTF-8 or has control characters",
    );
    check(
        &bind(binding("no", to_queue("q"), "k")),
        "no exchange 'no' in vhost '/'",
    );
    check(
        &bind(binding("amq.topic", to_queue("no"), "k")),
        "no queue 'no' in vhost '/'",
    );
    let elsewhere = CatalogCommand::DeleteQueue {
        vhost: name("v"),
        name: name("q"),
    };
    check(&elsewhere, "vhost v not found");
    assert_eq!(
        catalog.check_exchange(b"/", b"no").unwrap_err().to_string(),
        "no exchange 'no' in vhost '/'"
    );
}

#[test]
fn redeclaring_compares_what_the_kind_knows() {
    let table = |value: i64| TableBuilder::new().long("x-message-ttl", value).build();
    let check = |old: FieldTable, new: FieldTable, expected: Option<(Side, Side)>| {
        let mut catalog = catalog(&[declare_queue_as("q", queue_options(old))]);
        let sides = match catalog.apply(&declare_queue_as("q", queue_options(new))) {
            Ok(applied) => {
                assert_eq!(
                    (applied.change, applied.queue),
                    (Change::Unchanged, Some(QueueId(1)))
                );
                None
            }
            Err(Refusal::Inequivalent {
                received, current, ..
            }) => Some((received, current)),
            Err(other) => panic!("{other}"),
        };
        assert_eq!(sides, expected);
    };
    let plain = |text: &str| Side::Plain(text.to_owned());
    let none = FieldTable::default;
    check(none(), none(), None);
    check(
        table(5),
        TableBuilder::new().int("x-message-ttl", 5).build(),
        None,
    );
    check(table(5), table(6), Some((plain("6"), plain("5"))));
    let typed = Side::Typed {
        value: "5".to_owned(),
        type_name: "long",
    };
    check(none(), table(5), Some((typed.clone(), Side::None)));
    check(table(5), none(), Some((Side::None, typed)));
    check(
        none(),
        TableBuilder::new()
            .longstr("x-queue-type", "classic")
            .build(),
        None,
    );
    check(
        none(),
        TableBuilder::new().longstr("x-mine", "anything").build(),
        None,
    );
    let quorum = TableBuilder::new()
        .longstr("x-queue-type", "quorum")
        .build();
    let typed = Side::Typed {
        value: "quorum".to_owned(),
        type_name: "longstr",
    };
    check(quorum, none(), Some((Side::None, typed)));
}

#[test]
fn a_kind_of_exchange_with_a_hyphen_is_shown_in_quotes() {
    let mut catalog = catalog(&[declare_exchange("x", "x-consistent-hash")]);
    match catalog.apply(&declare_exchange("x", "direct")) {
        Err(Refusal::Inequivalent {
            received, current, ..
        }) => {
            assert_eq!(received, Side::Plain("direct".to_owned()));
            assert_eq!(current, Side::Plain("'x-consistent-hash'".to_owned()));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn properties_are_compared_in_order() {
    let different = QueueOptions {
        durable: false,
        auto_delete: true,
        ..queue_options_default()
    };
    let text = refused(&[declare_queue("q")], &declare_queue_as("q", different));
    assert_eq!(
        text,
        "inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is \
         'true'"
    );
    let text = refused(
        &[declare_exchange("x", "topic")],
        &declare_exchange("x", "direct"),
    );
    assert_eq!(
        text,
        "inequivalent arg 'type' for exchange 'x' in vhost '/': received 'direct' but current is \
         'topic'"
    );
    let internal = ExchangeOptions {
        internal: true,
        ..exchange_options("topic")
    };
    let text = refused(
        &[declare_exchange("x", "topic")],
        &declare_exchange_as("x", internal),
    );
    assert_eq!(
        text,
        "inequivalent arg 'internal' for exchange 'x' in vhost '/': received 'true' but current is \
         'false'"
    );
}

fn queue_options_default() -> QueueOptions {
    queue_options(FieldTable::default())
}

#[test]
fn arguments_are_checked() {
    let check = |argument: &str, value: Value<'_>, expected: &str| {
        let arguments = TableBuilder::new().value(argument, value).build();
        let text = refused(&[], &declare_queue_as("q", queue_options(arguments)));
        assert_eq!(
            text,
            format!("invalid arg '{argument}' for queue 'q' in vhost '/': {expected}")
        );
    };
    check(
        "x-message-ttl",
        Value::LongStr(b"5"),
        "\"expected integer, got longstr\"",
    );
    check(
        "x-single-active-consumer",
        Value::LongStr(b"true"),
        "{unacceptable_type,longstr}",
    );
    check(
        "x-queue-type",
        Value::I32(5),
        "{unacceptable_type,signedint}",
    );
    check(
        "x-queue-mode",
        Value::LongStr(b"bad"),
        "\"unsupported queue mode 'bad'\"",
    );
    check("x-message-ttl", Value::I32(-1), "{value_negative,-1}");
    check("x-expires", Value::I32(0), "{value_zero,0}");
    for argument in ["x-message-ttl", "x-expires"] {
        let ten_years = i64::try_from(LIFE_MILLIS_MAX).unwrap();
        let reason = "{value_too_large,315360000001}";
        check(argument, Value::I64(ten_years + 1), reason);
    }
    check(
        "x-queue-version",
        Value::I32(3),
        "\"unsupported queue version '3'\"",
    );
    check("x-queue-version", Value::I32(-1), "{value_negative,-1}");
    check(
        "x-max-priority",
        Value::I32(256),
        "{max_value_exceeded,256}",
    );
    check("x-overflow", Value::LongStr(b"no"), "invalid_overflow");
    check(
        "x-queue-type",
        Value::LongStr(b"stream"),
        "\"unsupported queue type 'stream'\"",
    );
    check(
        "x-queue-version",
        Value::I32(1),
        "\"unsupported queue version '1'\"",
    );
    check(
        "x-dead-letter-routing-key",
        Value::LongStr(b"k"),
        "routing_key_but_no_dlx_defined",
    );
    let foreign = TableBuilder::new().longstr("x-max-age", "7D").build();
    assert_eq!(
        refused(&[], &declare_queue_as("q", queue_options(foreign))),
        "invalid arg 'x-max-age' for queue 'q' in vhost '/' of queue type rabbit_classic_queue"
    );
}

#[test]
fn arguments_are_checked_in_rabbitmqs_order() {
    let number = Value::I32(5);
    for (arguments, expected) in [
        (
            // Where dead letters go is looked at before everything else.
            vec![("x-queue-type", number), ("x-dead-letter-exchange", number)],
            "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'",
        ),
        (
            vec![
                ("x-overflow", number),
                ("x-dead-letter-routing-key", Value::LongStr(b"k")),
            ],
            "invalid arg 'x-dead-letter-routing-key' for queue 'q' in vhost '/': \
             routing_key_but_no_dlx_defined",
        ),
        (
            // Those of other kinds in the order in which they are given.
            vec![("x-max-age", number), ("x-delivery-limit", number)],
            "invalid arg 'x-max-age' for queue 'q' in vhost '/' of queue type rabbit_classic_queue",
        ),
    ] {
        let arguments = arguments
            .into_iter()
            .fold(TableBuilder::new(), |all, (key, value)| {
                all.value(key, value)
            });
        let declare = declare_queue_as("q", queue_options(arguments.build()));
        assert_eq!(refused(&[], &declare), expected);
    }
}

#[test]
fn arguments_are_compared_in_the_order_of_the_kind() {
    let with = |kind: &str, argument: &str| {
        let arguments = TableBuilder::new()
            .longstr("x-queue-type", kind)
            .int(argument, 5)
            .build();
        declare_queue_as("q", queue_options(arguments))
    };
    let first_of = |kind: &str, old: &str, new: &str| {
        let mut catalog = catalog(&[with(kind, old)]);
        match catalog.apply(&with(kind, new)) {
            Err(Refusal::Inequivalent { argument, .. }) => argument,
            other => panic!("{other:?}"),
        }
    };
    // Time to live comes early for classic queues and late for quorum queues.
    assert_eq!(
        first_of("classic", "x-max-length", "x-message-ttl"),
        "x-message-ttl"
    );
    assert_eq!(
        first_of("quorum", "x-max-length", "x-message-ttl"),
        "x-max-length"
    );
    let other_kind = with("quorum", "x-max-length");
    let refused = catalog(&[with("classic", "x-max-length-bytes")]).apply(&other_kind);
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("'x-max-length'"), "before the kind: {text}");
}

#[test]
fn a_void_is_nothing_where_it_is_compared_with_something() {
    let with = |value: Value<'_>| {
        let arguments = TableBuilder::new().value("x-message-ttl", value).build();
        declare_queue_as("q", queue_options(arguments))
    };
    match catalog(&[with(Value::I32(5))]).apply(&with(Value::Void)) {
        Err(Refusal::Inequivalent { received, .. }) => assert_eq!(received, ArgumentSide::None),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_exclusive_queue_is_not_durable_whatever_was_asked() {
    let exclusive = |durable| QueueOptions {
        durable,
        exclusive: true,
        ..queue_options_default()
    };
    let mut catalog = catalog(&[declare_queue_as("q", exclusive(false))]);
    let again = catalog.apply(&declare_queue_as("q", exclusive(true)));
    assert_eq!(again.unwrap().change, Change::Unchanged);
}

#[test]
fn exclusive_queues_are_transient_and_locked() {
    let exclusive = QueueOptions {
        exclusive: true,
        ..queue_options_default()
    };
    let mine = declare_queue_as("q", exclusive.clone());
    let mut catalog = catalog(std::slice::from_ref(&mine));
    assert!(!catalog.queue(b"/", b"q").unwrap().is_durable());
    assert_eq!(catalog.queues_owned_by(ME), [QueueId(1)]);
    assert!(catalog.check_queue(b"/", b"q", ME).is_ok());
    let locked = "cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be \
                  originally declared on another connection or the exclusive property value does \
                  not match that of the original declaration.";
    assert_eq!(
        catalog
            .check_queue(b"/", b"q", OTHER)
            .unwrap_err()
            .to_string(),
        locked
    );
    assert_eq!(
        refused(std::slice::from_ref(&mine), &declare_queue("q")),
        locked
    );
    assert_eq!(catalog.apply(&mine).unwrap().change, Change::Unchanged);
    let applied = catalog.apply(&delete_queue("q")).unwrap();
    assert!(!applied.durable);
    assert_eq!(applied.queues_deleted.len(), 1);
    assert_eq!(catalog.queues_owned_by(ME), []);
    catalog.check_invariants();
}

#[test]
fn quorum_queues_must_be_durable() {
    let arguments = TableBuilder::new()
        .longstr("x-queue-type", "quorum")
        .build();
    let options = QueueOptions {
        durable: false,
        ..queue_options(arguments.clone())
    };
    assert!(refused(&[], &declare_queue_as("q", options)).contains("non-durable"));
    let catalog = catalog(&[declare_queue_as("q", queue_options(arguments))]);
    assert_eq!(catalog.queue(b"/", b"q").unwrap().kind(), QueueKind::Quorum);
}

#[test]
fn auto_delete_exchanges_go_with_their_last_binding_and_say_so() {
    let auto = ExchangeOptions {
        auto_delete: true,
        ..exchange_options("fanout")
    };
    let transient = QueueOptions {
        durable: false,
        ..queue_options_default()
    };
    let chain = binding("a", Destination::Exchange(name("b")), "");
    let commands = [
        declare_exchange_as("a", auto.clone()),
        declare_exchange_as("b", auto),
        declare_queue_as("q", transient),
        bind(chain),
        bind(binding("b", to_queue("q"), "")),
    ];
    let mut catalog = catalog(&commands);
    assert_eq!(routed(&catalog, "a", ""), ["q"]);
    assert!(refused(&commands, &delete_exchange("b", true)).contains("in use"));
    let applied = catalog.apply(&delete_queue("q")).unwrap();
    assert!(!applied.durable, "the queue was transient");
    assert_eq!(applied.exchanges_deleted, [name("b"), name("a")]);
    assert_eq!(
        applied.consequences,
        [delete_exchange("b", false), delete_exchange("a", false)]
    );
    assert_eq!(applied.bindings_removed, 2);
    catalog.check_invariants();
    // The same from the log: what is persisted, and only that.
    let mut restored = Catalog::new(2);
    for command in commands[..2]
        .iter()
        .chain(&commands[3..4])
        .chain(&applied.consequences)
    {
        restored.replay(command).unwrap();
    }
    let (mut live, mut replayed) = (Vec::new(), Vec::new());
    catalog.encode_snapshot(&mut live);
    restored.encode_snapshot(&mut replayed);
    assert_eq!(live[9..], replayed[9..]);
}

#[test]
fn limits_hold() {
    let limits = CatalogLimits {
        vhosts_max: 1,
        exchanges_max: 9,
        queues_max: 1,
        bindings_max: 1,
        ..CatalogLimits::default()
    };
    let mut catalog = Catalog::with_limits(1, limits);
    catalog.apply(&declare_queue("q")).unwrap();
    catalog.apply(&declare_exchange("x", "topic")).unwrap();
    catalog
        .apply(&bind(binding("x", to_queue("q"), "1")))
        .unwrap();
    for command in [
        declare_queue("r"),
        declare_exchange("y", "topic"),
        bind(binding("x", to_queue("q"), "2")),
        CatalogCommand::CreateVhost { vhost: name("v") },
    ] {
        assert!(
            matches!(catalog.apply(&command), Err(Refusal::LimitReached(_))),
            "{command:?}"
        );
    }
    // What is there already passes no limit.
    catalog.apply(&declare_queue("q")).unwrap();
    catalog
        .apply(&bind(binding("x", to_queue("q"), "1")))
        .unwrap();
    catalog.check_invariants();
}

#[test]
fn a_snapshot_holds_what_is_durable() {
    let transient = QueueOptions {
        durable: false,
        ..queue_options_default()
    };
    let mut before = catalog(&[
        CatalogCommand::CreateVhost { vhost: name("v") },
        declare_exchange("x", "topic"),
        declare_queue("kept"),
        declare_queue_as("lost", transient),
        bind(binding("x", to_queue("kept"), "a.#")),
        bind(binding("x", to_queue("lost"), "a.#")),
    ]);
    assert_eq!(routed(&before, "x", "a"), ["kept", "lost"]);
    let mut bytes = Vec::new();
    before.encode_snapshot(&mut bytes);
    let after = Catalog::decode_snapshot(&bytes, 99).unwrap();
    assert_eq!(routed(&after, "x", "a"), ["kept"]);
    assert_eq!(after.next_queue_id(), before.next_queue_id());
    assert!(after.check_vhost(b"v").is_ok());
    let mut again = Vec::new();
    after.encode_snapshot(&mut again);
    before.apply(&delete_queue("lost")).unwrap();
    assert_eq!(again, bytes);
    for size in 9..bytes.len() {
        // A cut between two commands is a shorter snapshot; the log's checksum covers that.
        drop(Catalog::decode_snapshot(&bytes[..size], 1));
    }
}

#[test]
fn layouts_are_those_of_version_5() {
    let check = |command: CatalogCommand, expected: &[u8]| {
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        assert_eq!(
            bytes.escape_ascii().to_string(),
            expected.escape_ascii().to_string()
        );
        assert_eq!(CatalogCommand::decode(&bytes), Ok(command));
        for size in 0..bytes.len() {
            assert!(CatalogCommand::decode(&bytes[..size]).is_err());
        }
    };
    check(
        CatalogCommand::CreateVhost { vhost: vhost() },
        b"\x05\x01\x01/",
    );
    check(
        CatalogCommand::DeleteVhost { vhost: vhost() },
        b"\x05\x02\x01/",
    );
    check(
        declare_exchange("x", "topic"),
        b"\x05\x03\x01/\x01x\x05topic\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    );
    check(delete_exchange("x", true), b"\x05\x04\x01/\x01x\x01");
    let to = Destination::Exchange(name("y"));
    let arguments = TableBuilder::new().bool("a", true).build();
    let binding = Binding {
        arguments,
        ..binding("x", to, "k")
    };
    let bytes = b"\x05\x05\x01/\x01x\x01\x01y\x01k\0\0\0\x04\x01at\x01";
    check(bind(binding.clone()), bytes);
    let mut bytes = *bytes;
    bytes[1] = 6;
    check(
        CatalogCommand::Unbind {
            vhost: vhost(),
            binding,
        },
        &bytes,
    );
    let exclusive = QueueOptions {
        exclusive: true,
        ..queue_options_default()
    };
    let mut declare = declare_queue_as("q", exclusive);
    let CatalogCommand::DeclareQueue { placement, .. } = &mut declare else {
        unreachable!("it declares a queue")
    };
    *placement = Placement::replicated(vec![NodeId(1), NodeId(2)]);
    check(
        declare,
        b"\x05\x07\x01/\x01q\0\0\0\0\0\0\0\0\0\x01\x01\0\0\0\0\0\x01\0\0\0\0\0\0\0\x07\x01\x02\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0",
    );
    check(delete_queue("q"), b"\x05\x08\x01/\x01q");
}

#[test]
fn a_queue_takes_less_than_400_bytes() {
    const COUNT: usize = 100_000;
    // The name: two counters, its bytes, and the allocator's share.
    const NAME_BYTES: usize = 16 + 12 + 16;
    let mut catalog = Catalog::new(1);
    for n in 0..COUNT {
        catalog
            .apply(&declare_queue(&format!("queue-{n:06}")))
            .unwrap();
    }
    let bytes = catalog.queue_memory_bytes() / COUNT + NAME_BYTES;
    assert!(bytes < 400, "{bytes} bytes a queue");
}

/// Small words, so that patterns and keys meet.
fn key(wild: bool) -> impl Strategy<Value = String> {
    let word = if wild { "a|b||\\*|#|#" } else { "a|b|" };
    prop::collection::vec(word, 0..5).prop_map(|words| words.join("."))
}

fn table() -> impl Strategy<Value = FieldTable> {
    let field = ("a|b|x-a", 0..4u8);
    let kinds = "all|any|all-with-x|any-with-x";
    (prop::collection::vec(field, 0..4), prop::option::of(kinds)).prop_map(|(fields, kind)| {
        let mut builder = TableBuilder::new();
        if let Some(kind) = kind {
            builder = builder.longstr("x-match", kind);
        }
        for (key, value) in &fields {
            builder = match value {
                0 => builder.int(key, 1),
                1 => builder.long(key, 1),
                2 => builder.longstr(key, "1"),
                _ => builder.value(key, Value::Void),
            };
        }
        builder.build()
    })
}

const KINDS: [&str; 4] = ["direct", "fanout", "topic", "headers"];

fn any_binding() -> impl Strategy<Value = Binding> {
    (0..4usize, 0..7usize, key(true), table()).prop_map(|(source, to, key, arguments)| {
        let destination = match to.checked_sub(4) {
            Some(exchange) => Destination::Exchange(name(KINDS[exchange])),
            None => to_queue(&format!("q{to}")),
        };
        Binding {
            arguments,
            ..binding(KINDS[source], destination, &key)
        }
    })
}

/// Whether a pattern matches, by its definition.
fn topic_matches(pattern: &[&str], words: &[&str]) -> bool {
    match (pattern.first(), words.first()) {
        (None, None) => true,
        (Some(&"#"), None) => topic_matches(&pattern[1..], words),
        (Some(&"#"), Some(_)) => {
            topic_matches(&pattern[1..], words) || topic_matches(pattern, &words[1..])
        }
        (Some(&"*"), Some(_)) => topic_matches(&pattern[1..], &words[1..]),
        (Some(word), Some(other)) => word == other && topic_matches(&pattern[1..], &words[1..]),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

fn split(key: &str) -> Vec<&str> {
    if key.is_empty() {
        Vec::new()
    } else {
        key.split('.').collect()
    }
}

fn headers_match(arguments: &FieldTable, headers: &FieldTable) -> bool {
    let kind = arguments
        .get("x-match")
        .and_then(Value::as_str)
        .unwrap_or("all");
    let mut results = Vec::new();
    let mut seen = BTreeSet::new();
    for (key, wanted) in arguments {
        // Of a repeated key the first counts.
        if !seen.insert(key)
            || key == b"x-match"
            || (key.starts_with(b"x-") && !kind.ends_with("-with-x"))
        {
            continue;
        }
        let there = headers.get(std::str::from_utf8(key).unwrap());
        results.push(there.is_some_and(|there| matches!(wanted, Value::Void) || there == wanted));
    }
    if kind.starts_with("any") {
        results.contains(&true)
    } else {
        !results.contains(&false)
    }
}

fn matches(binding: &Binding, kind: &str, key: &str, headers: &FieldTable) -> bool {
    let pattern = binding.routing_key.to_string();
    match kind {
        "direct" => pattern == key,
        "fanout" => true,
        "topic" => topic_matches(&split(&pattern), &split(key)),
        _ => headers_match(&binding.arguments, headers),
    }
}

/// Where a message goes, by asking every binding until nothing new is reached.
fn naive_route(
    bindings: &[Binding],
    exchange: &str,
    key: &str,
    headers: &FieldTable,
) -> BTreeSet<String> {
    let (mut queues, mut exchanges) = (BTreeSet::new(), BTreeSet::from([exchange.to_owned()]));
    loop {
        let before = queues.len() + exchanges.len();
        for binding in bindings {
            let source = binding.source.to_string();
            if exchanges.contains(&source) && matches(binding, &source, key, headers) {
                match &binding.destination {
                    Destination::Queue(name) => queues.insert(name.to_string()),
                    Destination::Exchange(name) => exchanges.insert(name.to_string()),
                };
            }
        }
        if queues.len() + exchanges.len() == before {
            return queues;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn routes_equal_the_naive_router(
        added in prop::collection::vec(any_binding(), 0..25),
        removed in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        messages in prop::collection::vec((0..4usize, key(false), table()), 1..15),
        seed in any::<u64>(),
    ) {
        let mut catalog = Catalog::new(seed);
        for kind in KINDS {
            catalog.apply(&declare_exchange(kind, kind)).unwrap();
        }
        for n in 0..4 {
            catalog.apply(&declare_queue(&format!("q{n}"))).unwrap();
        }
        let mut there: BTreeSet<Binding> = BTreeSet::new();
        for binding in &added {
            let applied = catalog.apply(&bind(binding.clone())).unwrap();
            let new = there.insert(binding.clone());
            prop_assert_eq!(applied.change == Change::Created, new);
        }
        for index in removed.iter().filter(|_| !added.is_empty()) {
            let binding = index.get(&added).clone();
            let there = there.remove(&binding);
            let applied = catalog.apply(&CatalogCommand::Unbind { vhost: vhost(), binding });
            prop_assert_eq!(applied.unwrap().change == Change::Deleted, there);
        }
        catalog.check_invariants();
        let mut snapshot = Vec::new();
        catalog.encode_snapshot(&mut snapshot);
        let restored = Catalog::decode_snapshot(&snapshot, seed ^ 1).unwrap();
        restored.check_invariants();
        let bindings: Vec<Binding> = there.into_iter().collect();
        for (exchange, key, headers) in &messages {
            let builder = PropertiesBuilder::new().headers(headers.as_table_ref());
            let properties = builder.build().unwrap();
            let (exchange, key) = (KINDS[*exchange], key.as_str());
            let envelope = Envelope {
                properties: properties.as_bytes(),
                ..envelope(exchange, key)
            };
            let expected = naive_route(&bindings, exchange, key, headers);
            for catalog in [&catalog, &restored] {
                let mut out = Route::new(seed);
                catalog.route(b"/", &envelope, &mut out).unwrap();
                prop_assert!(out.queues.is_sorted_by(|a, b| a < b), "sorted, each once");
                let names = out.queues.iter().map(|id| catalog.queue_by_id(*id).unwrap());
                let names: BTreeSet<String> = names.map(|queue| queue.name.to_string()).collect();
                prop_assert_eq!(&names, &expected);
            }
        }
        // Deleting everything leaves nothing behind.
        for n in 0..4 {
            catalog.apply(&delete_queue(&format!("q{n}"))).unwrap();
        }
        for kind in KINDS {
            catalog.apply(&delete_exchange(kind, false)).unwrap();
        }
        prop_assert_eq!(catalog.bindings(b"/").count(), 0);
        catalog.check_invariants();
    }

    #[test]
    fn decoders_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        drop(CatalogCommand::decode(&bytes));
        drop(Catalog::decode_snapshot(&bytes, 1));
    }
}
