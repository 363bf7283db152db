use staunch_amqp_codec::methods::{BasicAck, BasicCancel, QueueBind, QueueUnbind};

use super::*;

const REPLY_TO: &str = "amq.rabbitmq.reply-to";

fn consume_replies(tag: &str) -> BasicConsume<'_> {
    BasicConsume {
        queue: text(REPLY_TO),
        no_ack: true,
        ..consume(tag)
    }
}

/// With a reply consumer under key 7.
fn awaiting_replies() -> Bench {
    let mut bench = Bench::open();
    bench.method(1, consume_replies("tag"));
    bench.check("", "ConsumeReplies { channel: ChannelNumber(1) }");
    bench.reply(Reply::Consuming {
        consumer: ConsumerKey(7),
        consumer_timeout: None,
    });
    bench.check("1 basic.consume-ok tag", "");
    bench
}

#[test]
fn a_reply_is_a_settled_delivery() {
    let mut bench = awaiting_replies();
    bench.event(Event::Delivery(Delivery {
        settled: true,
        ..delivery(0)
    }));
    bench.check("1 basic.deliver tag 1\n1 header 4\n1 body 4", "");
    assert_eq!(bench.connection.poll_timeout(), None, "nothing is awaited");
    bench.method(
        1,
        BasicAck {
            delivery_tag: 1,
            multiple: false,
        },
    );
    let output = bench.output();
    assert!(output.contains("unknown delivery tag 1"), "{output}");
}

#[track_caller]
fn check_refused(mut bench: Bench, consume: BasicConsume<'_>, text: &str) {
    bench.method(1, consume);
    bench.check(
        &format!("1 channel.close 406 PRECONDITION_FAILED - {text} (60.20)"),
        "CloseChannel { channel: ChannelNumber(1) }",
    );
}

#[test]
fn one_reply_consumer_that_acknowledges_nothing() {
    let acknowledging = BasicConsume {
        no_ack: false,
        ..consume_replies("a")
    };
    let text = "reply consumer cannot acknowledge";
    check_refused(Bench::open(), acknowledging, text);
    let second = consume_replies("another");
    check_refused(awaiting_replies(), second, "reply consumer already set");
}

#[test]
fn it_may_be_cancelled_and_set_again() {
    let mut bench = awaiting_replies();
    bench.method(
        1,
        BasicCancel {
            consumer_tag: text("tag"),
            nowait: false,
        },
    );
    bench.check(
        "",
        "Cancel { channel: ChannelNumber(1), consumer: ConsumerKey(7) }",
    );
    bench.reply(Reply::Cancelled {
        consumer: ConsumerKey(7),
    });
    bench.check("1 basic.cancel-ok tag", "");
    bench.method(1, consume_replies("tag"));
    bench.check("", "ConsumeReplies { channel: ChannelNumber(1) }");
}

#[test]
fn asking_for_it_is_the_nodes_matter_and_binding_it_nobodys() {
    let mut bench = Bench::open();
    bench.method(
        1,
        QueueDeclare {
            passive: true,
            ..declare(REPLY_TO)
        },
    );
    let requests = bench.requests();
    assert!(
        requests.contains("queue: \"amq.rabbitmq.reply-to\"") && requests.contains("passive: true")
    );
    let bind = QueueBind {
        ticket: 0,
        queue: text("amq.rabbitmq.reply-to.g2dk"),
        exchange: text("x"),
        routing_key: text("k"),
        nowait: false,
        arguments: TableRef::default(),
    };
    let unbind = QueueUnbind {
        ticket: 0,
        queue: text(REPLY_TO),
        exchange: text("x"),
        routing_key: text("k"),
        arguments: TableRef::default(),
    };
    for (method, ids) in [(Method::from(bind), "50.20"), (unbind.into(), "50.50")] {
        let mut bench = Bench::open();
        bench.method(1, method);
        let text = "cannot bind or unbind to a volatile (direct reply-to) queue";
        bench.check(
            &format!("1 channel.close 403 ACCESS_REFUSED - {text} ({ids})"),
            "CloseChannel { channel: ChannelNumber(1) }",
        );
    }
    let mut bench = Bench::open();
    let unrelated = QueueBind {
        queue: text("amq.rabbitmq.reply-to-others"),
        ..bind
    };
    bench.method(1, unrelated);
    assert!(bench.requests().starts_with("Bind("));
}
