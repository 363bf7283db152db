//! Measures routing and declaring: nanoseconds per message and per queue on one core.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a measurement, not the model"
)]

use std::hint::black_box;
use std::time::Instant;

use staunch_broker::{Binding, Catalog, CatalogCommand, Envelope, Route};
use staunch_types::request::Destination;
use staunch_types::{ConnectionId, FieldTable, Message, Name, QueueOptions};

const QUEUE_COUNT: u64 = 100_000;
const ROUTE_COUNT: u64 = 5_000_000;

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("short")
}

fn declare(catalog: &mut Catalog) {
    let arguments = FieldTable::default();
    let options = QueueOptions {
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments,
    };
    for n in 0..QUEUE_COUNT {
        let command = CatalogCommand::DeclareQueue {
            vhost: name("/"),
            name: name(&format!("queue-{n:06}")),
            id: catalog.next_queue_id(),
            server_named: false,
            options: options.clone(),
            owner: None::<ConnectionId>,
            placement: staunch_broker::Placement::HERE,
            partitions: Vec::new(),
        };
        catalog.apply(&command).expect("a new queue");
    }
}

fn route(label: &str, catalog: &Catalog, exchange: &str, keys: &[String]) {
    let messages: Vec<Message> = keys
        .iter()
        .map(|key| Message::copied(exchange.as_bytes(), key.as_bytes(), b"\0\0", b""))
        .collect();
    let mut out = Route::new(1);
    let start = Instant::now();
    for message in messages
        .iter()
        .cycle()
        .take(usize::try_from(ROUTE_COUNT).expect("small"))
    {
        catalog
            .route(b"/", &Envelope::of(message), &mut out)
            .expect("the exchange is there");
        black_box(&out);
    }
    report(label, start, ROUTE_COUNT);
}

fn report(label: &str, start: Instant, count: u64) {
    println!(
        "{label:>44} {:>8.1} ns",
        start.elapsed().as_nanos() as f64 / count as f64
    );
}

fn main() {
    let mut catalog = Catalog::new(1);
    let start = Instant::now();
    declare(&mut catalog);
    report("declare, of 100,000 queues", start, QUEUE_COUNT);
    let bytes = catalog.queue_memory_bytes() as f64 / QUEUE_COUNT as f64;
    println!("{:>44} {bytes:>8.1} B + name", "a queue in the catalog");
    let mut snapshot = Vec::new();
    catalog.encode_snapshot(&mut snapshot);
    let start = Instant::now();
    Catalog::decode_snapshot(&snapshot, 2).expect("just encoded");
    report("restore, of 100,000 queues", start, QUEUE_COUNT);
    for n in 0..1_000 {
        for (source, key) in [
            ("amq.direct", format!("key-{n}")),
            ("amq.topic", format!("area.{n}.*.#")),
        ] {
            let destination = Destination::Queue(name(&format!("queue-{n:06}")));
            let (source, routing_key) = (name(source), name(&key));
            let arguments = FieldTable::default();
            let binding = Binding {
                source,
                destination,
                routing_key,
                arguments,
            };
            let command = CatalogCommand::Bind {
                vhost: name("/"),
                binding,
            };
            catalog.apply(&command).expect("both ends are there");
        }
    }
    route(
        "default exchange, one queue",
        &catalog,
        "",
        &["queue-000077".to_owned()],
    );
    // Scattered: in the order of declaration the processor fetches ahead and hides the misses.
    let scattered = (0..QUEUE_COUNT).map(|n| n * 61_861 % QUEUE_COUNT);
    let all: Vec<String> = scattered.map(|n| format!("queue-{n:06}")).collect();
    route(
        "default exchange, 100,000 queues scattered",
        &catalog,
        "",
        &all,
    );
    let keys: Vec<String> = (0..1_000).map(|n| format!("key-{n}")).collect();
    route("direct, 1,000 keys in turn", &catalog, "amq.direct", &keys);
    let keys: Vec<String> = (0..1_000).map(|n| format!("area.{n}.x.y.z")).collect();
    route(
        "topic, 1,000 patterns, five words",
        &catalog,
        "amq.topic",
        &keys,
    );
}
