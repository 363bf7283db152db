//! Measures enqueue, assign and settle: nanoseconds per message on one core.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a measurement, not the model"
)]

use std::time::Instant;

use staunch_broker::{
    Arrival, ConsumerSpec, Departed, Durability, Queue, QueueCommand, QueueSettings,
};
use staunch_types::request::Outcome;
use staunch_types::{BodyRef, ConsumerKey, MessageIndex, UnixMillis};

/// Messages of each measurement, unless the first argument says otherwise.
const MESSAGE_COUNT: u64 = 20_000_000;

fn message_count() -> u64 {
    let argument = std::env::args().nth(1);
    argument.map_or(MESSAGE_COUNT, |count| {
        count.parse().expect("a number of messages")
    })
}

fn arrival(n: u64) -> Arrival {
    Arrival {
        body: BodyRef(n),
        size_bytes: 1_024,
        body_size_bytes: 1_000,
        expires_at: None,
        priority: 0,
        redelivered: false,
    }
}

/// Keeps `depth` messages in the queue and settles in runs of `batch`.
fn steady(label: &str, depth: u64, batch: u32, consumer_count: u32) {
    let mut queue = Queue::new(Durability::Durable, &QueueSettings::default());
    for key in 0..consumer_count {
        let key = ConsumerKey(key);
        let spec = ConsumerSpec {
            key,
            no_ack: false,
            exclusive: false,
            prefetch: 0,
            priority: 0,
            identity: 0,
        };
        queue
            .add_consumer(spec)
            .expect("nobody consumes exclusively");
    }
    for n in 0..depth {
        queue.enqueue(arrival(n));
    }
    let mut departed = Departed::default();
    let start = Instant::now();
    let (message_count, mut done) = (message_count(), 0);
    while done < message_count {
        for n in 0..u64::from(batch) {
            queue.enqueue(arrival(done + n));
        }
        if let Some(upto) = queue.needs_reservation() {
            queue.reserve(upto);
        }
        for _ in 0..batch {
            let Some(got) = queue.assign_next() else {
                break;
            };
            if consumer_count > 1 {
                settle(&mut queue, got.consumer, got.index, 1, &mut departed);
            }
        }
        if consumer_count == 1 {
            settle(
                &mut queue,
                ConsumerKey(0),
                MessageIndex(done),
                batch,
                &mut departed,
            );
        }
        departed.released.clear();
        done += u64::from(batch);
    }
    report(label, start, message_count);
}

fn settle(
    queue: &mut Queue,
    key: ConsumerKey,
    first: MessageIndex,
    count: u32,
    departed: &mut Departed,
) {
    queue
        .settle(key, (first, count), Outcome::Ack, UnixMillis(0), departed)
        .expect("it was just handed out");
}

fn backlog(count: u64) {
    let mut queue = Queue::new(Durability::Durable, &QueueSettings::default());
    let start = Instant::now();
    for n in 0..count {
        queue.enqueue(arrival(n));
    }
    report("enqueue only", start, count);
    println!(
        "{:>44} {:>8.1} B/message",
        "memory",
        queue.memory_bytes() as f64 / count as f64
    );
    let start = Instant::now();
    let mut bytes = Vec::new();
    queue.encode_snapshot(&mut bytes);
    println!(
        "{:>44} {:>8} B in {:?}",
        "snapshot",
        bytes.len(),
        start.elapsed()
    );
    let start = Instant::now();
    let mut restored =
        Queue::decode_snapshot(&bytes, &QueueSettings::default()).expect("it was just encoded");
    for n in 0..count {
        restored.restore_message(MessageIndex(n), arrival(n));
    }
    restored.apply_recovered(
        &QueueCommand::Reserved {
            upto: MessageIndex(9),
        },
        &mut Vec::new(),
    );
    assert_eq!(restored.finish_recovery(), 0);
    report("restore", start, count);
}

fn report(label: &str, start: Instant, count: u64) {
    let nanos = start.elapsed().as_nanos() as f64 / count as f64;
    println!(
        "{label:>44} {nanos:>8.1} ns/message {:>8.2} M/s",
        1_000.0 / nanos
    );
}

fn main() {
    println!(
        "{:>44} {:>8} B",
        "an idle queue",
        Queue::new(Durability::Durable, &QueueSettings::default()).memory_bytes()
    );
    steady("enqueue+assign+settle, runs of 64", 0, 64, 1);
    steady("the same, one by one", 0, 1, 1);
    steady("runs of 64 under a backlog", message_count() / 20, 64, 1);
    steady("8 consumers, settled one by one", 0, 64, 8);
    backlog(message_count() / 4);
}
