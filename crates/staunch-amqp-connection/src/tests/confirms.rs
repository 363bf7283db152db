use staunch_amqp_codec::methods::ConfirmSelect;
use staunch_types::{PublishSeq, ReturnReason};

use super::*;
use crate::UNCONFIRMED_PER_CHANNEL_MAX;

fn confirming() -> Bench {
    let mut bench = Bench::open();
    bench.method(1, ConfirmSelect { nowait: false });
    bench.check("1 confirm.select-ok", "");
    bench
}

fn confirmed(first: u64, last: u64) -> Event {
    Event::Confirmed {
        channel: CHANNEL,
        first: PublishSeq(first),
        last: PublishSeq(last),
    }
}

#[test]
fn publishes_are_numbered_and_acks_gathered() {
    let mut bench = confirming();
    for key in ["a", "b", "c", "d"] {
        bench.publish(key, b"");
    }
    bench.check(
        "",
        "publish 1 1 x/a \\x10\\x00\\x02 0
         publish 1 2 x/b \\x10\\x00\\x02 0
         publish 1 3 x/c \\x10\\x00\\x02 0
         publish 1 4 x/d \\x10\\x00\\x02 0",
    );
    bench.event(confirmed(1, 1));
    bench.event(confirmed(2, 2));
    assert!(bench.connection.has_output());
    bench.check("1 basic.ack 2 multiple=true", "");
    bench.event(confirmed(4, 4));
    bench.check("1 basic.ack 4 multiple=false", "");
    bench.event(Event::Nacked {
        channel: CHANNEL,
        first: PublishSeq(3),
        last: PublishSeq(3),
    });
    bench.check("1 basic.nack 3 multiple=false requeue=true", "");
    assert!(!bench.connection.has_output());
}

#[test]
fn a_return_stands_before_its_ack() {
    let mut bench = confirming();
    bench.publish("a", b"");
    bench.requests();
    let (channel, reason) = (CHANNEL, ReturnReason::NoRoute);
    let message = Message::copied(b"x", b"a", b"\0\0", b"");
    bench.event(Event::Returned {
        channel,
        reason,
        message,
    });
    bench.event(confirmed(1, 1));
    bench.check(
        "1 basic.return 312 NO_ROUTE\n1 header 0\n1 basic.ack 1 multiple=false",
        "",
    );
}

#[test]
fn acks_are_written_before_the_channel_closes() {
    let mut bench = confirming();
    bench.publish("a", b"");
    bench.event(confirmed(1, 1));
    bench.method(1, consume(""));
    bench.reply(Reply::Consuming {
        consumer: ConsumerKey(1),
        consumer_timeout: None,
    });
    bench.method(
        1,
        staunch_amqp_codec::methods::BasicAck {
            delivery_tag: 9,
            multiple: false,
        },
    );
    let output = bench.output();
    let acked = output.find("basic.ack 1 multiple=false").unwrap();
    assert!(
        acked < output.find("channel.close 406").unwrap(),
        "{output}"
    );
}

#[test]
fn too_many_unconfirmed_publishes_stop_reading() {
    let mut bench = confirming();
    let mut bytes = Vec::new();
    for _ in 0..UNCONFIRMED_PER_CHANNEL_MAX + 2 {
        put_publish(&mut bytes, 1, "a", b"");
    }
    bench.bytes(&bytes);
    assert!(bench.connection.is_stalled());
    assert_eq!(
        bench.requests().lines().count() as u64,
        UNCONFIRMED_PER_CHANNEL_MAX
    );
    bench.event(confirmed(5, 5));
    assert_eq!(bench.requests().lines().count(), 1);
    assert!(bench.connection.is_stalled());
    bench.event(confirmed(1, 1));
    assert_eq!(bench.requests().lines().count(), 1);
    assert!(!bench.connection.is_stalled());
}
