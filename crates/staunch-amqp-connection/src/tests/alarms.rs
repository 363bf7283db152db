use staunch_amqp_codec::methods::BasicAck;

use super::*;

fn alarm(memory: bool, disk: bool) -> Event {
    Event::Alarm { memory, disk }
}

#[test]
fn a_publisher_is_told_and_stops_at_its_next_publish() {
    let mut bench = Bench::consuming();
    bench.publish("a", b"");
    bench.deliver(0);
    bench.output();
    bench.requests();
    bench.event(alarm(true, false));
    bench.check("0 connection.blocked low on memory", "");
    bench.event(alarm(true, true));
    bench.method(
        1,
        BasicAck {
            delivery_tag: 1,
            multiple: false,
        },
    );
    bench.check("", "settle 7 0..=0 Ack");
    assert!(!bench.connection.is_stalled());
    bench.publish("b", b"");
    assert!(bench.connection.is_stalled());
    bench.check("", "");
    bench.event(alarm(false, false));
    bench.check(
        "0 connection.unblocked",
        "publish 1 0 x/b \\x10\\x00\\x02 0",
    );
}

#[test]
fn who_never_published_is_told_at_the_first_publish() {
    let mut bench = Bench::open();
    bench.event(alarm(false, true));
    bench.check("", "");
    bench.publish("a", b"");
    bench.check("0 connection.blocked low on disk", "");
    bench.event(alarm(true, true));
    bench.event(alarm(false, false));
    bench.check(
        "0 connection.unblocked",
        "publish 1 0 x/a \\x10\\x00\\x02 0",
    );
}

#[test]
fn a_content_under_way_is_finished() {
    let mut bench = Bench::open();
    let mut bytes = Vec::new();
    put_publish(&mut bytes, 1, "a", b"body");
    let (start, rest) = bytes.split_at(40);
    bench.bytes(start);
    bench.event(alarm(true, false));
    bench.bytes(rest);
    bench.check(
        "0 connection.blocked low on memory",
        "publish 1 0 x/a \\x10\\x00\\x02 4",
    );
}

#[test]
fn who_is_slowed_is_told_why_and_waits_only_while_publishes_are_held() {
    let mut bench = Bench::open();
    bench.publish("a", b"");
    bench.output();
    bench.requests();
    let slowed = |reason: Option<&str>| Event::Slowed {
        reason: reason.map(Box::from),
    };
    bench.event(slowed(Some("queue 'q' fills")));
    bench.check("0 connection.blocked queue 'q' fills", "");
    bench.publish("b", b"");
    bench.check("", "publish 1 0 x/b \\x10\\x00\\x02 0");
    bench.event(Event::PublishesHeld { is_held: true });
    bench.publish("c", b"");
    assert!(bench.connection.is_stalled());
    bench.event(Event::PublishesHeld { is_held: false });
    bench.check("", "publish 1 0 x/c \\x10\\x00\\x02 0");
    // An alarm that comes and goes meanwhile leaves it blocked.
    bench.event(alarm(true, false));
    bench.event(alarm(false, false));
    bench.check("", "");
    bench.event(slowed(None));
    bench.check("0 connection.unblocked", "");
}

#[test]
fn a_reason_that_is_too_long_is_cut() {
    let mut bench = Bench::open();
    bench.publish("a", b"");
    bench.output();
    bench.requests();
    let reason = "ü".repeat(200);
    bench.event(Event::Slowed {
        reason: Some(reason.into_boxed_str()),
    });
    let told = format!("0 connection.blocked {}", "ü".repeat(127));
    bench.check(&told, "");
}
