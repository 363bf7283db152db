//! What a message costs in this crate: `cargo run --release --example codec_cost`.
//!
//! Prints nanoseconds per message, the best of many rounds, for the way in (three frames of a
//! publish, decoded and checked) and the way out (deliver, header and body, encoded).

#![expect(clippy::disallowed_methods, reason = "a measurement needs the clock")]
#![expect(clippy::print_stdout, reason = "the result")]

use std::hint::black_box;
use std::time::Instant;

use staunch_amqp_codec::content::{ContentHeader, encode_content, encode_deliver, encode_publish};
use staunch_amqp_codec::frame::{FrameKind, decode_frame};
use staunch_amqp_codec::methods::{BasicAck, BasicDeliver, BasicPublish, Method};
use staunch_amqp_codec::wire::ShortStr;
use staunch_types::field_table::TableBuilder;
use staunch_types::properties::{Properties, PropertiesBuilder, PropertyList};

const MESSAGES: usize = 1_000;
const ROUNDS: usize = 500;
const FRAME_MAX: u32 = 131_072;
const BODY: [u8; 64] = [b'x'; 64];

fn main() {
    let plain = PropertiesBuilder::new()
        .delivery_mode(2)
        .build()
        .expect("short");
    let headers = TableBuilder::new()
        .longstr("region", "eu")
        .int("attempt", 3)
        .build();
    let rich = PropertiesBuilder::new()
        .content_type("application/json")
        .message_id("2f1c9f1e-0000-4000-8000-000000000000")
        .headers(headers.as_table_ref())
        .delivery_mode(2)
        .build()
        .expect("short");
    for (name, list) in [("delivery_mode only", &plain), ("with 2 headers", &rich)] {
        let stream = publishes(list);
        println!("{name}: {} bytes a message", stream.len() / MESSAGES);
        println!("  decode publish  {:6.1} ns", best(|| decode_all(&stream)));
        println!(
            "  amq-protocol    {:6.1} ns",
            best(|| decode_all_by_amq_protocol(&stream))
        );
        println!("  parse properties{:6.1} ns", best(|| parse_all(list)));
        let mut out = Vec::with_capacity(2 * stream.len());
        println!(
            "  encode deliver  {:6.1} ns",
            best(|| encode_all(list, &mut out))
        );
    }
    let mut out = Vec::new();
    println!(
        "encode ack        {:6.1} ns",
        best(|| encode_acks(&mut out))
    );
    println!("decode ack        {:6.1} ns", best(|| decode_all(&out)));
}

/// Nanoseconds per message in the best round.
fn best(mut round: impl FnMut() -> usize) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let done = black_box(round());
        let nanos = start.elapsed().as_secs_f64() * 1e9;
        assert_eq!(done, MESSAGES, "each round does the same work");
        best = best.min(nanos / 1_000.0);
    }
    best
}

fn publishes(list: &PropertyList) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..MESSAGES {
        let publish = BasicPublish {
            exchange: ShortStr::from_static("orders"),
            routing_key: ShortStr::from_static("orders.eu.created"),
            ..BasicPublish::default()
        };
        encode_publish(&mut out, 1, &publish);
        encode_content(&mut out, 1, list.as_bytes(), &BODY, FRAME_MAX);
    }
    out
}

/// Decodes every frame and checks all that a broker must check; counts methods.
fn decode_all(mut input: &[u8]) -> usize {
    let mut methods = 0;
    while let Some((frame, consumed)) = decode_frame(input, FRAME_MAX).expect("well-formed") {
        match frame.kind {
            FrameKind::Method => {
                black_box(Method::decode(frame.payload).expect("well-formed"));
                methods += 1;
            }
            FrameKind::Header => {
                let header = ContentHeader::decode(frame.payload).expect("well-formed");
                let properties = Properties::parse(header.properties_raw).expect("well-formed");
                black_box((header.body_size_bytes, properties.delivery_mode()));
            }
            FrameKind::Body => {
                black_box(frame.payload);
            }
            FrameKind::Heartbeat => {}
        }
        input = &input[consumed..];
    }
    methods
}

fn parse_all(list: &PropertyList) -> usize {
    (0..MESSAGES)
        .filter(|_| Properties::parse(black_box(list.as_bytes())).is_ok())
        .count()
}

fn decode_all_by_amq_protocol(mut input: &[u8]) -> usize {
    let mut frames = 0;
    while !input.is_empty() {
        let (rest, frame) = amq_protocol::frame::parse_frame(input).expect("well-formed");
        black_box(frame);
        frames += 1;
        input = rest;
    }
    frames / 3
}

fn encode_all(list: &PropertyList, out: &mut Vec<u8>) -> usize {
    out.clear();
    for delivery_tag in 0..MESSAGES as u64 {
        let deliver = BasicDeliver {
            consumer_tag: ShortStr::from_static("amq.ctag-0123456789abcdefghij"),
            delivery_tag,
            redelivered: false,
            exchange: ShortStr::from_static("orders"),
            routing_key: ShortStr::from_static("orders.eu.created"),
        };
        encode_deliver(out, 1, black_box(&deliver));
        encode_content(out, 1, black_box(list.as_bytes()), &BODY, FRAME_MAX);
    }
    MESSAGES
}

fn encode_acks(out: &mut Vec<u8>) -> usize {
    out.clear();
    for delivery_tag in 0..MESSAGES as u64 {
        black_box(BasicAck {
            delivery_tag,
            multiple: false,
        })
        .encode_frame(1, out);
    }
    MESSAGES
}
