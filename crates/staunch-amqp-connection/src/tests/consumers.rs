use staunch_amqp_codec::methods::{
    BasicAck, BasicCancel, BasicCancelOk, BasicGet, BasicNack, BasicQos, BasicRecover, BasicReject,
    QueueDelete,
};

use super::*;

fn cancel(tag: &str) -> BasicCancel<'_> {
    BasicCancel {
        consumer_tag: text(tag),
        nowait: false,
    }
}

#[test]
fn consume_deliver_settle() {
    let mut bench = Bench::open();
    bench.method(
        1,
        BasicQos {
            prefetch_size: 0,
            prefetch_count: 10,
            global: false,
        },
    );
    bench.method(1, consume(""));
    let requests = bench.requests();
    assert!(
        requests.contains("prefetch: 10") && requests.starts_with("Consume("),
        "{requests}"
    );
    bench.reply(Reply::Consuming {
        consumer: ConsumerKey(7),
        consumer_timeout: None,
    });
    let output = bench.output();
    assert!(
        output.starts_with("1 basic.qos-ok\n1 basic.consume-ok amq.ctag-"),
        "{output}"
    );
}

fn qos(prefetch_count: u16) -> BasicQos {
    BasicQos {
        prefetch_size: 0,
        prefetch_count,
        global: false,
    }
}

#[test]
fn a_limit_is_for_consumers_to_come() {
    let mut bench = Bench::consuming();
    bench.method(1, qos(9));
    bench.check("1 basic.qos-ok", "");
    bench.method(1, consume("next"));
    assert!(bench.requests().contains("prefetch: 9"));
}

#[test]
fn celery_changes_the_limit_of_consumers_that_run() {
    let properties = TableBuilder::new().longstr("product", "py-amqp").build();
    let mut bench = Bench::open_as(small_config(), &properties);
    bench.open_channel(1);
    bench.method(1, qos(4));
    bench.output();
    assert!(!bench.requests().contains("Limit"), "nobody consumes yet");
    bench.method(1, consume("tag"));
    assert!(bench.requests().contains("prefetch: 4"));
    bench.reply(Reply::Consuming {
        consumer: ConsumerKey(7),
        consumer_timeout: None,
    });
    bench.output();
    bench.method(1, qos(5));
    bench.check(
        "1 basic.qos-ok",
        "LimitConsumers { channel: ChannelNumber(1), prefetch: 5 }",
    );
}

#[test]
fn every_way_to_settle() {
    let mut bench = Bench::consuming();
    for index in 0..6 {
        bench.deliver(index);
    }
    let mut deliveries = String::new();
    for tag in 1..=6 {
        writeln!(
            deliveries,
            "1 basic.deliver tag {tag}\n1 header 4\n1 body 4"
        )
        .unwrap();
    }
    assert_eq!(bench.output(), deliveries);
    bench.requests();
    bench.method(
        1,
        BasicAck {
            delivery_tag: 1,
            multiple: false,
        },
    );
    bench.method(
        1,
        BasicAck {
            delivery_tag: 2,
            multiple: false,
        },
    );
    bench.method(
        1,
        BasicReject {
            delivery_tag: 4,
            requeue: false,
        },
    );
    bench.method(
        1,
        BasicNack {
            delivery_tag: 5,
            multiple: true,
            requeue: true,
        },
    );
    bench.method(
        1,
        BasicAck {
            delivery_tag: 0,
            multiple: true,
        },
    );
    bench.method(
        1,
        BasicAck {
            delivery_tag: 0,
            multiple: true,
        },
    );
    bench.check(
        "",
        "settle 7 0..=1 Ack
         settle 7 3..=3 Discard
         settle 7 2..=2 Requeue
         settle 7 4..=4 Requeue
         settle 7 5..=5 Ack
         Drained { size_bytes: 492 }",
    );
}

#[test]
fn recover_requeues_everything() {
    let mut bench = Bench::consuming();
    (0..3).for_each(|index| bench.deliver(index));
    bench.output();
    bench.requests();
    bench.method(1, BasicRecover { requeue: true });
    bench.check(
        "1 basic.recover-ok",
        "settle 7 0..=2 Requeue\nDrained { size_bytes: 246 }",
    );
}

#[test]
fn a_settled_delivery_needs_no_ack() {
    let mut bench = Bench::consuming();
    bench.event(Event::Delivery(Delivery {
        settled: true,
        ..delivery(0)
    }));
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

#[test]
fn get_counts_in_the_same_tags() {
    let mut bench = Bench::consuming();
    bench.deliver(0);
    bench.output();
    bench.requests();
    bench.method(
        1,
        BasicGet {
            ticket: 0,
            queue: text("q"),
            no_ack: false,
        },
    );
    bench.requests();
    let got = Delivery {
        consumer: ConsumerKey(9),
        ..delivery(4)
    };
    bench.reply(Reply::Got {
        delivery: got.into(),
        ready_count: 5,
    });
    bench.check("1 basic.get-ok 2 5\n1 header 4\n1 body 4", "");
    bench.method(
        1,
        BasicAck {
            delivery_tag: 2,
            multiple: true,
        },
    );
    bench.check(
        "",
        "settle 7 0..=0 Ack\nsettle 9 4..=4 Ack\nDrained { size_bytes: 82 }",
    );
}

#[test]
fn consumer_tags_are_unique_on_a_channel() {
    let mut bench = Bench::consuming();
    let no_queue = BasicConsume {
        queue: text(""),
        ..consume("tag")
    };
    bench.method(1, no_queue);
    bench.check(
        "1 channel.close 404 NOT_FOUND - no previously declared queue (60.20)",
        "CloseChannel { channel: ChannelNumber(1) }",
    );
    let mut bench = Bench::consuming();
    bench.method(1, consume("tag"));
    bench.check(
        "0 connection.close 530 NOT_ALLOWED - attempt to reuse consumer tag 'tag' (60.20)",
        "CloseConnection",
    );
}

#[test]
fn cancel_from_either_side() {
    let mut bench = Bench::consuming();
    bench.method(1, cancel("unknown"));
    bench.check("1 basic.cancel-ok unknown", "");
    bench.method(1, cancel("tag"));
    bench.deliver(0);
    bench.reply(Reply::Cancelled {
        consumer: ConsumerKey(7),
    });
    bench.output();
    bench.requests();
    bench.method(
        1,
        BasicAck {
            delivery_tag: 1,
            multiple: false,
        },
    );
    bench.check("", "settle 7 0..=0 Ack");

    let mut bench = Bench::consuming();
    bench.event(Event::ConsumerCancelled {
        channel: CHANNEL,
        consumer: ConsumerKey(7),
    });
    bench.method(
        1,
        BasicCancelOk {
            consumer_tag: text("tag"),
        },
    );
    bench.check("1 basic.cancel tag nowait=true", "");
    bench.method(1, consume("tag"));
    assert!(bench.connection.is_stalled(), "the tag is free again");
}

#[test]
fn consumers_of_a_queue_hear_of_its_end_after_the_answer_to_who_deleted_it() {
    let mut bench = Bench::consuming();
    let delete = QueueDelete {
        ticket: 0,
        queue: text("q"),
        if_unused: false,
        if_empty: false,
        nowait: false,
    };
    bench.method(1, delete);
    bench.requests();
    bench.event(Event::ConsumerCancelled {
        channel: CHANNEL,
        consumer: ConsumerKey(7),
    });
    bench.check("", "");
    bench.reply(Reply::QueueDeleted { count: 3 });
    bench.check("1 queue.delete-ok 3\n1 basic.cancel tag nowait=true", "");
    bench.method(1, cancel("tag"));
    bench.check("1 basic.cancel-ok tag", "");
}

#[test]
fn a_large_body_goes_out_in_frames() {
    let mut bench = Bench::consuming();
    let message = Message::copied(b"x", b"k", b"\0\0", &[0; 10_000]);
    bench.event(Event::Delivery(Delivery {
        message,
        ..delivery(0)
    }));
    let output = bench.output();
    assert_eq!(
        output,
        "1 basic.deliver tag 1\n1 header 10000\n1 body 8184\n1 body 1816\n"
    );
}

#[test]
fn drained_deliveries_are_reported_with_the_next_request() {
    let mut bench = Bench::consuming();
    bench.deliver(0);
    bench.check("1 basic.deliver tag 1\n1 header 4\n1 body 4", "");
    bench.event(Event::Delivery(Delivery {
        channel: ChannelNumber(4),
        ..delivery(0)
    }));
    bench.check("", "");
    bench.method(1, BasicRecover { requeue: true });
    bench.check(
        "1 basic.recover-ok",
        "settle 7 0..=0 Requeue\nDrained { size_bytes: 164 }",
    );
}

/// A consumer of a queue with partitions has a key for each; the client knows one consumer.
#[test]
fn a_consumer_of_several_partitions_is_one_to_the_client() {
    let keys = [4, 7, 9].map(ConsumerKey);
    let split = || {
        let mut bench = Bench::open();
        bench.method(1, consume("tag"));
        bench.reply(Reply::ConsumingSplit {
            consumers: keys.into(),
            consumer_timeout: None,
        });
        assert_eq!(bench.output(), "1 basic.consume-ok tag\n");
        bench.requests();
        bench
    };
    let mut bench = split();
    bench.deliver(5);
    let output = bench.output();
    assert!(output.starts_with("1 basic.deliver tag"), "{output}");
    bench.requests();
    let ack = BasicAck {
        delivery_tag: 1,
        multiple: false,
    };
    bench.method(1, ack);
    bench.check("", "settle 7 5..=5 Ack\nDrained { size_bytes: 82 }");
    bench.method(1, cancel("tag"));
    assert!(bench.requests().contains("ConsumerKey(4)"));
    bench.deliver(6);
    bench.reply(Reply::Cancelled {
        consumer: ConsumerKey(4),
    });
    assert!(bench.output().ends_with("1 basic.cancel-ok tag\n"));
    // The tag is free again, and what was delivered before can still be settled.
    bench.method(1, consume("tag"));
    assert!(bench.requests().starts_with("Consume("));
    bench.reply(Reply::Consuming {
        consumer: ConsumerKey(9),
        consumer_timeout: None,
    });
    bench.output();
    bench.requests();
    let ack = BasicAck {
        delivery_tag: 2,
        multiple: false,
    };
    bench.method(1, ack);
    bench.check("", "settle 7 6..=6 Ack");

    // The client hears once that the queue is gone.
    let mut bench = split();
    for consumer in keys {
        let channel = CHANNEL;
        bench.event(Event::ConsumerCancelled { channel, consumer });
    }
    let output = bench.output();
    assert!(output.matches("basic.cancel").count() <= 1, "{output}");
}
