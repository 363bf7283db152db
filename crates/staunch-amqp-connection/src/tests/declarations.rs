//! Declarations of queues that a client sends without waiting for answers.

use staunch_amqp_codec::methods::{BasicGet, ChannelCloseOk};
use staunch_types::{Operation, Refusal, Resource};

use super::*;

const EMPTY: Reply = Reply::QueueDeclared {
    ready_count: 0,
    consumer_count: 0,
};

fn get(queue: &str) -> BasicGet<'_> {
    BasicGet {
        ticket: 0,
        queue: text(queue),
        no_ack: true,
    }
}

fn refused() -> Event {
    Event::Refused {
        channel: CHANNEL,
        operation: Operation::DeclareQueue,
        refusal: Refusal::NotFound {
            resource: Resource::Queue,
            name: Name::from_static("b"),
            vhost: Name::from_static("/"),
        }
        .into(),
    }
}

/// With requests for `a` and `b` under way.
fn declaring_two() -> Bench {
    let mut bench = Bench::open();
    bench.method(1, declare("a"));
    bench.method(1, declare("b"));
    let requests = bench.requests();
    assert_eq!(requests.lines().count(), 2, "{requests}");
    bench
}

#[test]
fn they_are_read_ahead_and_answered_in_order() {
    let mut bench = declaring_two();
    bench.method(1, get(""));
    bench.reply(EMPTY);
    bench.check("1 queue.declare-ok a 0 0", "");
    bench.reply(EMPTY);
    let requests = bench.requests();
    assert!(
        requests.contains("Get") && requests.contains('b'),
        "{requests}"
    );
    bench.check("1 queue.declare-ok b 0 0", "");
}

#[test]
fn those_behind_a_refusal_are_forgotten() {
    let mut bench = declaring_two();
    bench.method(1, declare("c"));
    bench.requests();
    bench.reply(EMPTY);
    bench.event(refused());
    bench.check(
        "1 queue.declare-ok a 0 0
         1 channel.close 404 NOT_FOUND - no queue 'b' in vhost '/' (50.10)",
        "CloseChannel { channel: ChannelNumber(1) }",
    );
    bench.event(Event::ChannelClosed { channel: CHANNEL });
    bench.method(1, ChannelCloseOk);
    bench.open_channel(1);
    bench.check(
        "1 channel.open-ok",
        "OpenChannel { channel: ChannelNumber(1) }",
    );
}

#[test]
fn another_channel_waits() {
    let mut bench = declaring_two();
    bench.method(2, OPEN);
    assert_eq!(
        bench.requests(),
        "",
        "only what is declared on the channel is read"
    );
    bench.reply(EMPTY);
    bench.reply(EMPTY);
    assert!(bench.requests().contains("OpenChannel"));
}

#[test]
fn there_is_an_end_to_them() {
    let mut bench = Bench::open();
    let most = crate::pending::DECLARATIONS_MAX;
    for number in 0..most + 10 {
        bench.method(1, declare(&format!("q{number}")));
    }
    assert_eq!(bench.requests().lines().count(), most);
    bench.reply(EMPTY);
    assert_eq!(bench.requests().lines().count(), 1);
}
