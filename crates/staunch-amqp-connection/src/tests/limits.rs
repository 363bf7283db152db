//! Every named maximum, reached.

use staunch_amqp_codec::methods::{BasicAck, BasicGet, BasicQos};

use super::*;
use crate::{CONSUMERS_PER_CHANNEL_MAX, REPLIES_SIZE_BYTES_MAX, UNACKED_PER_CHANNEL_MAX};

#[test]
fn a_client_that_settles_nothing_gets_no_more_credit() {
    let mut bench = Bench::consuming();
    let drained = |bench: &mut Bench| {
        bench.output();
        bench.requests().contains("Drained")
    };
    for index in 0..UNACKED_PER_CHANNEL_MAX as u64 - 1 {
        bench
            .connection
            .handle_event(Event::Delivery(delivery(index)), bench.now);
        if index % 100_000 == 0 {
            bench.connection.take_output(&mut Vec::new());
            bench.connection.handle_written();
        }
    }
    bench.output();
    assert!(drained(&mut bench));
    bench.deliver(UNACKED_PER_CHANNEL_MAX as u64 - 1);
    assert!(!drained(&mut bench));
    bench.method(
        1,
        BasicGet {
            ticket: 0,
            queue: text("q"),
            no_ack: true,
        },
    );
    assert!(
        bench.requests().starts_with("Get"),
        "what needs no ack is given"
    );
    bench.reply(Reply::GotNothing);
    bench.method(
        1,
        BasicAck {
            delivery_tag: 1,
            multiple: false,
        },
    );
    assert!(drained(&mut bench), "credit withheld is given back");
    bench.deliver(UNACKED_PER_CHANNEL_MAX as u64);
    bench.output();
    bench.method(
        1,
        BasicGet {
            ticket: 0,
            queue: text("q"),
            no_ack: false,
        },
    );
    bench.check(
        "1 channel.close 406 PRECONDITION_FAILED - 1048576 deliveries on the channel wait for \
         their acknowledgement (60.70)",
        "CloseChannel { channel: ChannelNumber(1) }\nDrained { size_bytes: 82 }",
    );
}

#[test]
fn a_client_that_reads_nothing_is_not_read() {
    let mut bench = Bench::open();
    let mut bytes = Vec::new();
    let qos = BasicQos {
        prefetch_size: 0,
        prefetch_count: 1,
        global: false,
    };
    let qos_ok_size = 12;
    let count = REPLIES_SIZE_BYTES_MAX / qos_ok_size + 10;
    for _ in 0..count {
        Method::from(qos).encode_frame(1, &mut bytes);
    }
    bench.bytes(&bytes);
    assert!(bench.connection.is_stalled());
    let mut out = Vec::new();
    bench.connection.take_output(&mut out);
    assert!(out.len() <= REPLIES_SIZE_BYTES_MAX + qos_ok_size);
    assert!(bench.connection.is_stalled(), "taken is not written");
    bench.connection.handle_written();
    bench.read();
    assert!(!bench.connection.is_stalled() && bench.unread.is_empty());
}

#[test]
fn consumers_of_a_channel_are_counted() {
    let mut bench = Bench::open();
    for key in 0..u32::try_from(CONSUMERS_PER_CHANNEL_MAX).unwrap() {
        bench.connection.take_requests(&mut Vec::new());
        let mut bytes = Vec::new();
        Method::from(consume(&key.to_string())).encode_frame(1, &mut bytes);
        bench.connection.handle_input(&bytes.into(), bench.now);
        let reply = Reply::Consuming {
            consumer: ConsumerKey(key),
            consumer_timeout: None,
        };
        bench.connection.handle_event(
            Event::Reply {
                channel: CHANNEL,
                reply,
            },
            bench.now,
        );
    }
    bench.output();
    bench.requests();
    bench.method(1, consume("one more"));
    bench.check(
        "0 connection.close 530 NOT_ALLOWED - reached maximum (10000) of consumers per channel \
         (60.20)",
        "CloseConnection",
    );
}

#[test]
fn an_operator_may_allow_fewer_consumers() {
    let config = Config {
        consumers_per_channel_max: 1,
        ..small_config()
    };
    let mut bench = Bench::open_with(config);
    bench.open_channel(1);
    bench.method(1, consume("one"));
    bench.output();
    bench.requests();
    bench.reply(Reply::Consuming {
        consumer: ConsumerKey(1),
        consumer_timeout: None,
    });
    bench.output();
    bench.method(1, consume("two"));
    bench.check(
        "0 connection.close 530 NOT_ALLOWED - reached maximum (1) of consumers per channel (60.20)",
        "CloseConnection",
    );
}

#[test]
fn an_idle_connection_is_small() {
    assert!(
        size_of::<Connection>() <= 1024,
        "{}",
        size_of::<Connection>()
    );
    assert!(size_of::<crate::channel::Channel>() <= 384);
    assert!(size_of::<Request>() <= 144, "{}", size_of::<Request>());
}
