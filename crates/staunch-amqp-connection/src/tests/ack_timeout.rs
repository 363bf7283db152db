use std::time::Duration;

use staunch_amqp_codec::methods::{BasicAck, BasicGet};

use super::*;

const MINUTE: u64 = 60;

fn timed_out(millis: u64) -> String {
    format!(
        "1 channel.close 406 PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed \
         out. Timeout value used: {millis} ms. This timeout value can be configured, see consumers \
         doc guide to learn more (0.0)"
    )
}

fn ack(delivery_tag: u64) -> BasicAck {
    BasicAck {
        delivery_tag,
        multiple: false,
    }
}

/// Lets time pass as a runtime does: from one timer to the next. Returns what was written.
fn pass_by_timers(bench: &mut Bench, seconds: u64) -> String {
    let end = Timestamp(bench.now.0 + seconds * SECOND);
    while let Some(due) = bench.connection.poll_timeout()
        && due <= end
    {
        assert!(due > bench.now, "a timer is set for later");
        bench.now = due;
        bench.connection.handle_timeout(due);
        bench.connection.check_invariants();
    }
    bench.now = end;
    bench.output()
}

#[test]
fn a_delivery_that_is_never_settled_closes_its_channel() {
    let mut bench = Bench::consuming();
    assert_eq!(
        bench.connection.poll_timeout(),
        None,
        "an idle consumer costs no timer"
    );
    bench.deliver(0);
    bench.output();
    assert_eq!(pass_by_timers(&mut bench, 30 * MINUTE - 1), "");
    assert_eq!(
        pass_by_timers(&mut bench, 2 * MINUTE),
        trimmed(&timed_out(1_800_000))
    );
    assert!(bench.requests().contains("CloseChannel"));
    assert_eq!(bench.connection.poll_timeout(), None);
}

#[test]
fn what_is_settled_in_time_is_forgotten() {
    let mut bench = Bench::consuming();
    // Always a hundred are outstanding, each for 20 minutes.
    for index in 0..500 {
        bench.deliver(index);
        if index >= 100 {
            bench.method(1, ack(index - 99));
        }
        let output = pass_by_timers(&mut bench, 12);
        assert!(!output.contains("close"), "{output}");
    }
    bench.method(1, ack(401));
    for index in 402..=500 {
        bench.method(1, ack(index));
    }
    pass_by_timers(&mut bench, 2 * MINUTE);
    assert_eq!(
        bench.connection.poll_timeout(),
        None,
        "the timer stops when nothing is outstanding"
    );
}

#[test]
fn settling_newer_deliveries_does_not_help_the_oldest() {
    let mut bench = Bench::consuming();
    bench.deliver(0);
    let mut output = String::new();
    let mut minutes = 0;
    while !output.contains("close") {
        bench.deliver(minutes + 1);
        bench.method(1, ack(minutes + 2));
        output = pass_by_timers(&mut bench, MINUTE);
        minutes += 1;
    }
    assert!((30..=32).contains(&minutes), "closed after {minutes} min");
}

#[test]
fn a_queue_may_say_otherwise() {
    for (timeout, seconds) in [(10, 10), (7_200, 7_200)] {
        let mut bench = Bench::open();
        bench.method(1, consume("tag"));
        bench.reply(Reply::Consuming {
            consumer: ConsumerKey(7),
            consumer_timeout: Some(Duration::from_secs(timeout)),
        });
        bench.output();
        bench.deliver(0);
        bench.output();
        assert_eq!(pass_by_timers(&mut bench, seconds - 1), "");
        assert_eq!(
            pass_by_timers(&mut bench, 2 * MINUTE),
            trimmed(&timed_out(timeout * 1_000))
        );
    }
}

#[test]
fn a_message_that_was_got_counts_too() {
    let mut bench = Bench::open();
    bench.method(
        1,
        BasicGet {
            ticket: 0,
            queue: text("q"),
            no_ack: false,
        },
    );
    bench.reply(Reply::Got {
        delivery: delivery(0).into(),
        ready_count: 0,
    });
    bench.output();
    let output = pass_by_timers(&mut bench, 32 * MINUTE);
    assert_eq!(output, trimmed(&timed_out(1_800_000)));
}

#[test]
fn it_can_be_turned_off() {
    let config = Config {
        consumer_timeout: None,
        ..small_config()
    };
    let mut bench = Bench::open_with(config);
    bench.open_channel(1);
    bench.method(1, consume("tag"));
    bench.reply(Reply::Consuming {
        consumer: ConsumerKey(7),
        consumer_timeout: None,
    });
    bench.deliver(0);
    assert_eq!(bench.connection.poll_timeout(), None);
}

#[test]
fn other_channels_go_on() {
    let mut bench = Bench::consuming();
    bench.open_channel(2);
    bench.deliver(0);
    bench.output();
    bench.requests();
    let output = pass_by_timers(&mut bench, 40 * MINUTE);
    assert_eq!(output, trimmed(&timed_out(1_800_000)));
    assert_eq!(
        bench.requests(),
        "CloseChannel { channel: ChannelNumber(1) }\n"
    );
    bench.event(Event::ChannelClosed { channel: CHANNEL });
    bench.method(2, declare("q"));
    assert!(bench.requests().starts_with("DeclareQueue"));
}
