//! Prints what a 16-byte message costs this crate: nanoseconds for each publish read, with and
//! without confirms, for each delivery written and for each ack read.
//!
//! `cargo run --release -p staunch-amqp-connection --example publish_rate`

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement"
)]

use std::{hint::black_box, time::Instant};

use bytes::Bytes;
use staunch_amqp_codec::{
    content::{encode_content, encode_publish},
    methods::{
        BasicAck, BasicConsume, BasicPublish, ChannelOpen, ConfirmSelect, ConnectionOpen,
        ConnectionStartOk, ConnectionTuneOk, Method,
    },
    wire::ShortStr,
};
use staunch_amqp_connection::{Config, Connection, Transport};
use staunch_types::{
    ChannelNumber, ConsumerKey, Delivery, Event, Message, MessageIndex, Name, PublishSeq, QueueId,
    Reply, Request, Timestamp, field_table::TableRef,
};

const BATCH_SIZE_BYTES: usize = 256 << 10;
const ROUNDS: u32 = 400;
const DELIVERIES: u32 = 2_000;
const NOW: Timestamp = Timestamp(0);
const CHANNEL: ChannelNumber = ChannelNumber(1);
const CONSUMER: ConsumerKey = ConsumerKey(1);

fn send<'a>(connection: &mut Connection, channel: u16, method: impl Into<Method<'a>>) {
    let mut bytes = Vec::new();
    method.into().encode_frame(channel, &mut bytes);
    let taken = connection.handle_input(&Bytes::from(bytes), NOW);
    assert!(taken > 0);
}

fn open() -> Connection {
    let mut connection = Connection::new(Config::default(), Transport::loopback(), 1, NOW);
    connection.handle_input(&Bytes::from_static(b"AMQP\0\0\x09\x01"), NOW);
    let start_ok = ConnectionStartOk {
        client_properties: TableRef::default(),
        mechanism: ShortStr::from_static("PLAIN"),
        response: b"\0guest\0guest",
        locale: ShortStr::from_static("en_US"),
    };
    send(&mut connection, 0, start_ok);
    connection.handle_event(
        Event::LoginAccepted {
            user: Name::from_static("guest"),
        },
        NOW,
    );
    send(
        &mut connection,
        0,
        ConnectionTuneOk {
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat: 0,
        },
    );
    let virtual_host = ShortStr::from_static("/");
    send(
        &mut connection,
        0,
        ConnectionOpen {
            virtual_host,
            capabilities: ShortStr::EMPTY,
            insist: false,
        },
    );
    connection.handle_event(Event::VhostOpened, NOW);
    send(
        &mut connection,
        1,
        ChannelOpen {
            out_of_band: ShortStr::EMPTY,
        },
    );
    connection.handle_event(Event::ChannelOpened { channel: CHANNEL }, NOW);
    connection
}

fn publishes() -> (Bytes, u32) {
    let publish = BasicPublish {
        ticket: 0,
        exchange: ShortStr::EMPTY,
        routing_key: ShortStr::from_static("a-queue"),
        mandatory: false,
        immediate: false,
    };
    let (mut batch, mut count) = (Vec::new(), 0);
    while batch.len() < BATCH_SIZE_BYTES {
        encode_publish(&mut batch, 1, &publish);
        encode_content(&mut batch, 1, b"\x10\0\x02", b"0123456789abcdef", 131_072);
        count += 1;
    }
    (batch.into(), count)
}

fn measure(what: &str, per_round: u32, mut round: impl FnMut(u32)) {
    (0..ROUNDS / 4).for_each(&mut round);
    let start = Instant::now();
    (ROUNDS / 4..ROUNDS / 4 + ROUNDS).for_each(round);
    let nanos = start.elapsed().as_secs_f64() * 1e9 / f64::from(per_round * ROUNDS);
    println!("{what:<28} {nanos:>7.1} ns  {:>6.2} million/s", 1e3 / nanos);
}

fn main() {
    publishes_in();
    publishes_confirmed();
    deliveries_out();
    acks_in();
}

fn publishes_in() {
    let (batch, count) = publishes();
    let mut requests = Vec::new();
    let mut connection = open();
    measure("publish", count, |_| {
        assert_eq!(connection.handle_input(&batch, NOW), batch.len());
        connection.take_requests(&mut requests);
        black_box(&requests);
        requests.clear();
    });
}

fn publishes_confirmed() {
    let (batch, count) = publishes();
    let (mut requests, mut out) = (Vec::new(), Vec::new());
    let mut connection = open();
    send(&mut connection, 1, ConfirmSelect { nowait: true });
    let mut last = 0;
    measure("publish, confirmed", count, |_| {
        assert_eq!(connection.handle_input(&batch, NOW), batch.len());
        connection.take_requests(&mut requests);
        requests.clear();
        let (first, end) = (PublishSeq(last + 1), PublishSeq(last + u64::from(count)));
        connection.handle_event(
            Event::Confirmed {
                channel: CHANNEL,
                first,
                last: end,
            },
            NOW,
        );
        last = end.0;
        out.clear();
        connection.take_output(&mut out);
        connection.handle_written();
    });
}

fn consuming() -> Connection {
    let mut connection = open();
    let consume = BasicConsume {
        ticket: 0,
        queue: ShortStr::from_static("a-queue"),
        consumer_tag: ShortStr::EMPTY,
        no_local: false,
        no_ack: false,
        exclusive: false,
        nowait: false,
        arguments: TableRef::default(),
    };
    send(&mut connection, 1, consume);
    let reply = Reply::Consuming {
        consumer: CONSUMER,
        consumer_timeout: None,
    };
    connection.handle_event(
        Event::Reply {
            channel: CHANNEL,
            reply,
        },
        NOW,
    );
    connection
}

fn delivery(message: &Message, index: u64) -> Event {
    Event::Delivery(Delivery {
        channel: CHANNEL,
        consumer: CONSUMER,
        queue: QueueId(1),
        index: MessageIndex(index),
        redelivered: false,
        settled: false,
        message: message.clone(),
    })
}

fn deliveries_out() {
    let (mut requests, mut out) = (Vec::new(), Vec::new());
    let message = Message::copied(b"", b"a-queue", b"\x10\0\x02", b"0123456789abcdef");
    let mut connection = consuming();
    let mut index = 0;
    measure("delivery", DELIVERIES, |_| {
        for _ in 0..DELIVERIES {
            connection.handle_event(delivery(&message, index), NOW);
            index += 1;
        }
        out.clear();
        connection.take_output(&mut out);
        black_box(&out);
        connection.handle_written();
        send(
            &mut connection,
            1,
            BasicAck {
                delivery_tag: index,
                multiple: true,
            },
        );
        requests.clear();
        connection.take_requests(&mut requests);
    });
}

/// Acks one by one; the deliveries before them are not counted.
fn acks_in() {
    let (mut requests, mut out) = (Vec::new(), Vec::new());
    let message = Message::copied(b"", b"a-queue", b"\x10\0\x02", b"0123456789abcdef");
    let mut connection = consuming();
    let (mut tag, mut nanos) = (0, 0.0);
    for _ in 0..ROUNDS {
        let mut acks = Vec::new();
        for _ in 0..DELIVERIES {
            connection.handle_event(delivery(&message, tag), NOW);
            tag += 1;
            let ack = BasicAck {
                delivery_tag: tag,
                multiple: false,
            };
            Method::from(ack).encode_frame(1, &mut acks);
        }
        out.clear();
        connection.take_output(&mut out);
        connection.handle_written();
        requests.clear();
        connection.take_requests(&mut requests);
        let acks = Bytes::from(acks);
        requests.clear();
        let start = Instant::now();
        connection.handle_input(&acks, NOW);
        connection.take_requests(&mut requests);
        nanos += start.elapsed().as_secs_f64() * 1e9;
        assert!(matches!(requests[0], Request::Settle(settle) if settle.count == DELIVERIES));
    }
    let nanos = nanos / f64::from(DELIVERIES * ROUNDS);
    println!(
        "{:<28} {nanos:>7.1} ns  {:>6.2} million/s",
        "ack, one by one",
        1e3 / nanos
    );
    connection.check_invariants();
}
