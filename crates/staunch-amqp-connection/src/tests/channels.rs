use staunch_amqp_codec::methods::{
    AccessRequest, BasicAck, BasicCancel, BasicGet, BasicQos, BasicRecover, ChannelClose,
    ChannelCloseOk, ChannelFlow, ConfirmSelect, ExchangeBind, ExchangeDeclare, ExchangeDelete,
    ExchangeUnbind, QueueBind, QueueDelete, QueuePurge, QueueUnbind, TxSelect,
};
use staunch_types::{Operation, Refusal, Resource};

use super::*;

fn close() -> ChannelClose<'static> {
    ChannelClose {
        reply_code: 200,
        reply_text: text("bye"),
        class_id: 0,
        method_id: 0,
    }
}

fn purge(queue: &str) -> QueuePurge<'_> {
    QueuePurge {
        ticket: 0,
        queue: text(queue),
        nowait: false,
    }
}

#[test]
fn open_close_and_open_again() {
    let mut bench = Bench::open_with(small_config());
    let (channel, open) = (
        ChannelNumber(3),
        "OpenChannel { channel: ChannelNumber(3) }",
    );
    bench.method(3, OPEN);
    bench.method(3, close());
    bench.check("", open);
    bench.event(Event::ChannelOpened { channel });
    bench.check(
        "3 channel.open-ok",
        "CloseChannel { channel: ChannelNumber(3) }",
    );
    bench.method(3, OPEN);
    bench.check("", "");
    bench.event(Event::ChannelClosed { channel });
    bench.check("3 channel.close-ok", open);
    bench.event(Event::ChannelOpened { channel });
    bench.check("3 channel.open-ok", "");
}

#[track_caller]
fn check_connection_error<'a>(channel: u16, method: impl Into<Method<'a>>, text: &str) {
    let mut bench = Bench::open();
    bench.method(channel, method);
    bench.check(&format!("0 connection.close {text}"), "CloseConnection");
}

#[test]
fn connection_errors() {
    check_connection_error(
        1,
        OPEN,
        "504 CHANNEL_ERROR - second 'channel.open' seen (20.10)",
    );
    check_connection_error(
        2,
        purge(""),
        "504 CHANNEL_ERROR - expected 'channel.open' (50.30)",
    );
    check_connection_error(
        0,
        purge(""),
        "504 CHANNEL_ERROR - unexpected method in connection state running (50.30)",
    );
    check_connection_error(
        1,
        open_vhost(),
        "503 COMMAND_INVALID - unimplemented method (10.40)",
    );
    check_connection_error(
        1,
        ChannelFlow { active: false },
        "540 NOT_IMPLEMENTED - active=false (20.20)",
    );
    check_connection_error(
        1,
        BasicQos {
            prefetch_size: 9,
            prefetch_count: 0,
            global: false,
        },
        "540 NOT_IMPLEMENTED - prefetch_size!=0 (9) (60.10)",
    );
    check_connection_error(
        1,
        BasicRecover { requeue: false },
        "540 NOT_IMPLEMENTED - requeue=false (60.110)",
    );
    let immediate = BasicPublish {
        immediate: true,
        ..publish_method("k")
    };
    check_connection_error(1, immediate, "540 NOT_IMPLEMENTED - immediate=true (60.40)");
}

#[test]
fn malformed_frames() {
    let check = |bytes: &[u8], text: &str| {
        let mut bench = Bench::open();
        bench.bytes(bytes);
        bench.check(
            &format!("0 connection.close {text} (0.0)"),
            "CloseConnection",
        );
    };
    check(
        &[1, 0, 1, 0, 0, 0, 1, 9, 0],
        "501 FRAME_ERROR - type 1, all octets = <<9>>: {invalid_frame_end_marker,0}",
    );
    check(
        &[4, 0, 1, 0, 0, 0, 2, b'h', b'i', 0xce],
        "501 FRAME_ERROR - type 4, all octets = <<\"hi\">>: unknown_frame",
    );
    check(
        &[8, 0, 1, 0, 0, 0, 0, 0xce],
        "505 UNEXPECTED_FRAME - type 8, all octets = <<>>",
    );
    check(
        &[3, 0, 0, 0, 0, 0, 1, 200, 0xce],
        "505 UNEXPECTED_FRAME - type 3, all octets = <<200>>",
    );
    check(
        &[3, 0, 1, 0, 0, 0, 0, 0xce],
        "505 UNEXPECTED_FRAME - expected method frame, got non method frame instead",
    );
    let mut bench = Bench::open();
    bench.bytes(&[1, 0, 1, 0, 0, 0, 4, 0, 77, 0, 1, 0xce]);
    bench.check(
        "0 connection.close 503 COMMAND_INVALID - unknown method 77.1 (77.1)",
        "CloseConnection",
    );
}

#[test]
fn an_error_closes_the_channel_until_both_sides_agree() {
    let mut bench = Bench::open();
    bench.method(1, purge(""));
    bench.check(
        "1 channel.close 404 NOT_FOUND - no previously declared queue (50.30)",
        "CloseChannel { channel: ChannelNumber(1) }",
    );
    bench.method(1, purge("ignored"));
    bench.publish("ignored", b"body");
    bench.deliver(0);
    bench.check("", "");
    bench.event(Event::ChannelClosed { channel: CHANNEL });
    bench.check("", "");
    assert!(
        bench.unread.is_empty(),
        "what came after the error was skipped"
    );
    // A close that crossed is answered, and still the own close waits for its answer.
    bench.method(1, close());
    bench.method(1, OPEN);
    bench.check("1 channel.close-ok", "");
    bench.method(1, ChannelCloseOk);
    bench.method(1, OPEN);
    bench.event(Event::ChannelOpened { channel: CHANNEL });
    bench.check(
        "1 channel.open-ok",
        "OpenChannel { channel: ChannelNumber(1) }\nDrained { size_bytes: 82 }",
    );
}

#[test]
fn a_refusal_closes_the_channel_and_ends_the_wait() {
    let mut bench = Bench::open();
    bench.method(1, purge("q"));
    bench.check("", "PurgeQueue { channel: ChannelNumber(1), queue: \"q\" }");
    let (name, vhost) = (Name::from_static("q"), Name::from_static("/"));
    let refusal = Refusal::NotFound {
        resource: Resource::Queue,
        name,
        vhost,
    };
    let refused = Event::Refused {
        channel: CHANNEL,
        operation: Operation::PurgeQueue,
        refusal: refusal.into(),
    };
    bench.event(refused.clone());
    bench.event(refused);
    bench.reply(Reply::QueuePurged { count: 1 });
    bench.check(
        "1 channel.close 404 NOT_FOUND - no queue 'q' in vhost '/' (50.30)",
        "CloseChannel { channel: ChannelNumber(1) }",
    );
}

#[test]
fn texts_are_cut_to_a_short_string() {
    let mut bench = Bench::open();
    let (name, vhost) = (Name::new(&[b'q'; 255]).unwrap(), Name::from_static("/"));
    let refusal = Refusal::NotFound {
        resource: Resource::Queue,
        name,
        vhost,
    };
    bench.event(Event::Refused {
        channel: CHANNEL,
        operation: Operation::Publish,
        refusal: refusal.into(),
    });
    let shown = "q".repeat(255 - "NOT_FOUND - no queue '".len());
    bench.check(
        &format!("1 channel.close 404 NOT_FOUND - no queue '{shown} (60.40)"),
        "CloseChannel { channel: ChannelNumber(1) }",
    );
}

#[track_caller]
fn check_answered<'a>(method: impl Into<Method<'a>>, request: &str, reply: Reply, output: &str) {
    let mut bench = Bench::open();
    bench.method(1, method);
    assert!(bench.connection.is_stalled());
    let requests = bench.requests();
    assert!(requests.starts_with(request), "{requests}");
    bench.reply(reply);
    bench.check(output, "");
}

#[test]
fn declaring_an_exchange() {
    let exchange = ExchangeDeclare {
        ticket: 0,
        exchange: text("x\r\n"),
        kind: text("topic"),
        passive: false,
        durable: true,
        auto_delete: false,
        internal: false,
        nowait: false,
        arguments: TableRef::default(),
    };
    let declared = "DeclareExchange(DeclareExchange { channel: ChannelNumber(1), exchange: \"x\",";
    check_answered(
        exchange,
        declared,
        Reply::ExchangeDeclared,
        "1 exchange.declare-ok",
    );
    let quiet = ExchangeDeclare {
        nowait: true,
        ..exchange
    };
    check_answered(quiet, declared, Reply::ExchangeDeclared, "");
    let delete = ExchangeDelete {
        ticket: 0,
        exchange: text("x"),
        if_unused: true,
        nowait: false,
    };
    check_answered(
        delete,
        "DeleteExchange",
        Reply::ExchangeDeleted,
        "1 exchange.delete-ok",
    );
}

#[test]
fn binding_an_exchange() {
    let bind = ExchangeBind {
        ticket: 0,
        destination: text("d"),
        source: text("s"),
        routing_key: text("k"),
        nowait: false,
        arguments: TableRef::default(),
    };
    let request = "Bind(Binding { channel: ChannelNumber(1), source: \"s\", destination: \
                   Exchange(\"d\"), routing_key: \"k\"";
    check_answered(bind, request, Reply::Bound, "1 exchange.bind-ok");
    let unbind = ExchangeUnbind {
        ticket: 0,
        destination: text("d"),
        source: text("s"),
        routing_key: text("k"),
        nowait: false,
        arguments: TableRef::default(),
    };
    check_answered(unbind, "Unbind", Reply::Unbound, "1 exchange.unbind-ok");
}

#[test]
fn what_a_queue_is_asked() {
    let bind = QueueBind {
        ticket: 0,
        queue: text("q"),
        exchange: text("s"),
        routing_key: text("k"),
        nowait: false,
        arguments: TableRef::default(),
    };
    let request = "Bind(Binding { channel: ChannelNumber(1), source: \"s\", destination: \
                   Queue(\"q\"), routing_key: \"k\"";
    check_answered(bind, request, Reply::Bound, "1 queue.bind-ok");
    let unbind = QueueUnbind {
        ticket: 0,
        queue: text("q"),
        exchange: text("s"),
        routing_key: text("k"),
        arguments: TableRef::default(),
    };
    check_answered(unbind, "Unbind", Reply::Unbound, "1 queue.unbind-ok");
    check_answered(
        purge("q"),
        "Purge",
        Reply::QueuePurged { count: 3 },
        "1 queue.purge-ok 3",
    );
    let delete = QueueDelete {
        ticket: 0,
        queue: text("q"),
        if_unused: false,
        if_empty: false,
        nowait: false,
    };
    let count = 1 << 40;
    let output = "1 queue.delete-ok 4294967295";
    check_answered(delete, "DeleteQueue", Reply::QueueDeleted { count }, output);
}

#[test]
fn an_empty_queue_name_is_the_last_declared() {
    let mut bench = Bench::open();
    bench.method(
        1,
        QueueDeclare {
            nowait: true,
            ..declare("")
        },
    );
    let requests = bench.requests();
    let name = requests.split('"').nth(1).unwrap().to_owned();
    assert!(
        name.starts_with("amq.gen-") && name.len() == 30,
        "{requests}"
    );
    assert!(requests.contains("server_named: true"));
    bench.reply(Reply::QueueDeclared {
        ready_count: 0,
        consumer_count: 0,
    });
    bench.check("", "");
    let bind = QueueBind {
        ticket: 0,
        queue: ShortStr::EMPTY,
        exchange: text("s"),
        routing_key: ShortStr::EMPTY,
        nowait: true,
        arguments: TableRef::default(),
    };
    bench.method(1, bind);
    let requests = bench.requests();
    assert!(
        requests.contains(&format!("Queue({name:?}), routing_key: {name:?}")),
        "{requests}"
    );
    bench.reply(Reply::Bound);
    bench.method(
        1,
        BasicGet {
            ticket: 0,
            queue: ShortStr::EMPTY,
            no_ack: true,
        },
    );
    bench.check(
        "",
        &format!("Get {{ channel: ChannelNumber(1), queue: {name:?}, no_ack: true }}"),
    );
    bench.reply(Reply::GotNothing);
    bench.check("1 basic.get-empty", "");
    bench.method(
        1,
        QueueDeclare {
            passive: true,
            ..declare("q")
        },
    );
    bench.reply(Reply::QueueDeclared {
        ready_count: 2,
        consumer_count: 1,
    });
    assert_eq!(bench.output(), "1 queue.declare-ok q 2 1\n");
    assert!(bench.requests().contains("passive: true"));
}

#[test]
fn one_question_at_a_time_keeps_order_across_channels() {
    let mut bench = Bench::open();
    bench.open_channel(2);
    bench.method(1, purge("a"));
    bench.method(2, purge("b"));
    assert_eq!(bench.requests().lines().count(), 2, "open and purge a");
    bench.output();
    bench.reply(Reply::QueuePurged { count: 1 });
    bench.check(
        "1 queue.purge-ok 1",
        "PurgeQueue { channel: ChannelNumber(2), queue: \"b\" }",
    );
}

#[test]
fn small_questions_are_answered_at_once() {
    let mut bench = Bench::open();
    bench.method(1, ChannelFlow { active: true });
    bench.method(
        1,
        AccessRequest {
            realm: text("/"),
            exclusive: false,
            passive: false,
            active: true,
            write: true,
            read: true,
        },
    );
    bench.method(
        1,
        BasicQos {
            prefetch_size: 0,
            prefetch_count: 9,
            global: true,
        },
    );
    bench.check(
        "1 channel.flow-ok\n1 access.request-ok\n1 basic.qos-ok",
        "LimitChannel { channel: ChannelNumber(1), prefetch: 9 }",
    );
    let of_consumers = BasicQos {
        prefetch_size: 0,
        prefetch_count: 5,
        global: false,
    };
    bench.method(1, of_consumers);
    bench.check(
        "1 basic.qos-ok",
        "LimitChannel { channel: ChannelNumber(1), prefetch: 0 }",
    );
    bench.method(1, of_consumers);
    bench.check("1 basic.qos-ok", "");
}

#[test]
fn no_answer_overtakes_the_refusal_of_a_publish() {
    let qos = BasicQos {
        prefetch_size: 0,
        prefetch_count: 9,
        global: false,
    };
    let cancel = BasicCancel {
        consumer_tag: text("unknown"),
        nowait: false,
    };
    let flow = ChannelFlow { active: true };
    let select = ConfirmSelect { nowait: false };
    let recover = BasicRecover { requeue: true };
    let questions: [(Method<'_>, &str); 6] = [
        (qos.into(), "1 basic.qos-ok"),
        (cancel.into(), "1 basic.cancel-ok unknown"),
        (flow.into(), "1 channel.flow-ok"),
        (select.into(), "1 confirm.select-ok"),
        (recover.into(), "1 basic.recover-ok"),
        (TxSelect.into(), "1 tx.select-ok"),
    ];
    for (question, answer) in questions {
        let mut bench = Bench::open();
        bench.publish("k", b"");
        bench.requests();
        bench.method(1, question);
        assert_eq!(
            bench.output(),
            "",
            "{question:?} waits for word of the publish"
        );
        let requests = bench.requests();
        assert!(
            requests.ends_with("Sync { channel: ChannelNumber(1) }\n"),
            "{requests}"
        );
        bench.reply(Reply::Synced);
        bench.check(answer, "");
        bench.method(1, flow);
        bench.check("1 channel.flow-ok", "");
    }
}

#[test]
fn a_publish_that_is_refused_closes_the_channel_in_place_of_the_next_answer() {
    let mut bench = Bench::open();
    bench.publish("k", b"");
    bench.method(1, ChannelFlow { active: true });
    bench.requests();
    bench.event(Event::Refused {
        channel: CHANNEL,
        operation: Operation::Publish,
        refusal: Refusal::AccessRefused("no".to_owned()).into(),
    });
    bench.check(
        "1 channel.close 403 ACCESS_REFUSED - no (60.40)",
        "CloseChannel { channel: ChannelNumber(1) }",
    );
}

#[test]
fn a_message_that_was_got_on_a_channel_closed_meanwhile_costs_no_credit() {
    let mut bench = Bench::open();
    bench.publish("k", b"");
    bench.method(
        1,
        BasicGet {
            ticket: 0,
            queue: text("q"),
            no_ack: false,
        },
    );
    bench.requests();
    bench.event(Event::Refused {
        channel: CHANNEL,
        operation: Operation::Publish,
        refusal: Refusal::AccessRefused("no".to_owned()).into(),
    });
    bench.output();
    bench.requests();
    bench.event(Event::Reply {
        channel: CHANNEL,
        reply: Reply::Got {
            delivery: delivery(0).into(),
            ready_count: 0,
        },
    });
    bench.method(1, ChannelCloseOk {});
    bench.event(Event::ChannelClosed { channel: CHANNEL });
    bench.method(1, ChannelOpen::default());
    bench.check(
        "",
        "OpenChannel { channel: ChannelNumber(1) }\nDrained { size_bytes: 82 }",
    );
}

#[test]
fn an_unknown_delivery_tag_closes_the_channel() {
    let mut bench = Bench::consuming();
    bench.deliver(0);
    bench.output();
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
            delivery_tag: 1,
            multiple: true,
        },
    );
    bench.check(
        "1 channel.close 406 PRECONDITION_FAILED - unknown delivery tag 1 (60.80)",
        "settle 7 0..=0 Ack
         CloseChannel { channel: ChannelNumber(1) }
         Drained { size_bytes: 82 }",
    );
}
