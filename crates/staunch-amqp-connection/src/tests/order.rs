//! Nothing overtakes the refusal of a publish before it on its channel.

use staunch_amqp_codec::methods::{
    BasicAck, BasicCancel, BasicQos, BasicRecover, ChannelClose, ChannelCloseOk, ChannelFlow,
    ConfirmSelect, TxSelect,
};
use staunch_types::{Operation, Refusal, Resource, ReturnReason};

use super::*;

const SYNC: &str = "Sync { channel: ChannelNumber(1) }";
const PUBLISHED: &str = "publish 1 0 x/key \\x10\\x00\\x02 4
                         Sync { channel: ChannelNumber(1) }";
const CLOSED: &str = "CloseChannel { channel: ChannelNumber(1) }";
const NO_EXCHANGE: &str = "1 channel.close 404 NOT_FOUND - no exchange 'x' in vhost '/' (60.40)";

const QOS: BasicQos = BasicQos {
    prefetch_size: 0,
    prefetch_count: 9,
    global: false,
};

fn close() -> ChannelClose<'static> {
    ChannelClose {
        reply_code: 200,
        reply_text: text("bye"),
        class_id: 0,
        method_id: 0,
    }
}

/// The publish to exchange `x` failed.
fn refused() -> Event {
    Event::Refused {
        channel: CHANNEL,
        operation: Operation::Publish,
        refusal: Refusal::NotFound {
            resource: Resource::Exchange,
            name: Name::from_static("x"),
            vhost: Name::from_static("/"),
        }
        .into(),
    }
}

#[track_caller]
fn check_waits<'a>(method: impl Into<Method<'a>>, answer: &str) {
    let method = method.into();
    let mut bench = Bench::open();
    bench.publish("key", b"body");
    bench.method(1, method);
    bench.check("", PUBLISHED);
    bench.reply(Reply::Synced);
    bench.check(answer, "");
    bench.method(1, QOS);
    bench.check("1 basic.qos-ok", "");

    let mut bench = Bench::open();
    bench.publish("key", b"body");
    bench.method(1, method);
    bench.check("", PUBLISHED);
    bench.event(refused());
    bench.check(NO_EXCHANGE, CLOSED);
}

#[test]
fn what_the_node_has_no_part_in_waits_for_publishes_before_it() {
    check_waits(QOS, "1 basic.qos-ok");
    check_waits(ChannelFlow { active: true }, "1 channel.flow-ok");
    check_waits(ConfirmSelect { nowait: false }, "1 confirm.select-ok");
    check_waits(BasicRecover { requeue: true }, "1 basic.recover-ok");
    let cancel = BasicCancel {
        consumer_tag: text("unknown"),
        nowait: false,
    };
    check_waits(cancel, "1 basic.cancel-ok unknown");
}

#[test]
fn so_does_the_start_of_a_transaction() {
    let mut bench = Bench::open();
    bench.publish("key", b"body");
    bench.method(1, TxSelect);
    let requests = format!(
        "publish 1 0 x/key \\x10\\x00\\x02 4
         SelectTx {{ channel: ChannelNumber(1) }}
         {SYNC}"
    );
    bench.check("", &requests);
    bench.reply(Reply::Synced);
    bench.check("1 tx.select-ok", "");
}

#[test]
fn so_does_a_publish_of_many_frames() {
    let mut bench = Bench::open();
    bench.publish("key", &[0; 9_000]);
    bench.requests();
    bench.method(1, QOS);
    bench.check("", SYNC);
}

#[test]
fn another_channel_does_not_wait() {
    let mut bench = Bench::open();
    bench.open_channel(2);
    bench.output();
    bench.requests();
    bench.publish("key", b"body");
    bench.method(2, QOS);
    bench.check("2 basic.qos-ok", "publish 1 0 x/key \\x10\\x00\\x02 4");
}

#[test]
fn a_mistake_comes_behind_the_refusal_before_it() {
    let ack = BasicAck {
        delivery_tag: 1,
        multiple: false,
    };
    let mut bench = Bench::open();
    bench.publish("key", b"body");
    bench.method(1, ack);
    bench.check("", PUBLISHED);
    bench.event(refused());
    bench.check(NO_EXCHANGE, CLOSED);

    let mut bench = Bench::open();
    bench.publish("key", b"body");
    bench.method(1, ack);
    bench.event(Event::Returned {
        channel: CHANNEL,
        reason: ReturnReason::NoRoute,
        message: Message::copied(b"x", b"key", b"\0\0", b"body"),
    });
    bench.reply(Reply::Synced);
    bench.check(
        "1 basic.return 312 NO_ROUTE
         1 header 4
         1 body 4
         1 channel.close 406 PRECONDITION_FAILED - unknown delivery tag 1 (60.80)",
        &format!("{PUBLISHED}\n{CLOSED}"),
    );
}

#[test]
fn a_client_that_closes_its_channel_hears_what_was_wrong_on_it() {
    let mut bench = Bench::open();
    bench.publish("key", b"body");
    bench.method(1, close());
    bench.check("", PUBLISHED);
    bench.event(refused());
    bench.check(&format!("{NO_EXCHANGE}\n1 channel.close-ok"), CLOSED);
    bench.event(Event::ChannelClosed { channel: CHANNEL });
    bench.method(1, ChannelCloseOk);
    bench.method(1, OPEN);
    bench.check("", "OpenChannel { channel: ChannelNumber(1) }");

    let mut bench = Bench::open();
    bench.publish("key", b"body");
    bench.method(1, close());
    bench.reply(Reply::Synced);
    bench.check("", &format!("{PUBLISHED}\n{CLOSED}"));
    bench.event(Event::ChannelClosed { channel: CHANNEL });
    bench.check("1 channel.close-ok", "");
}
