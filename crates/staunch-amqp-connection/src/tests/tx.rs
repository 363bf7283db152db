use staunch_amqp_codec::methods::{
    BasicAck, BasicNack, BasicRecover, ChannelCloseOk, ConfirmSelect, TxCommit, TxRollback,
    TxSelect,
};
use staunch_types::{Operation, Refusal, ReturnReason};

use super::*;
use crate::TX_SETTLES_MAX;

fn ack(delivery_tag: u64) -> BasicAck {
    BasicAck {
        delivery_tag,
        multiple: false,
    }
}

/// In a transaction, with deliveries 1 to `count` outstanding.
fn selected(count: u64) -> Bench {
    let mut bench = Bench::consuming();
    bench.method(1, TxSelect);
    bench.check("1 tx.select-ok", "SelectTx { channel: ChannelNumber(1) }");
    (0..count).for_each(|index| bench.deliver(index));
    bench.output();
    bench.requests();
    bench
}

/// What the commit settles.
fn committed(bench: &mut Bench) -> Vec<String> {
    bench.method(1, TxCommit);
    assert!(bench.connection.is_stalled(), "a commit is answered");
    let mut requests = Vec::new();
    bench.connection.take_requests(&mut requests);
    let commit = requests.iter().find_map(|request| match request {
        Request::Commit { settles, .. } => Some(settles.clone()),
        _ => None,
    });
    let settles = commit.expect("there is a commit");
    let print = |settle| print_request(&Request::Settle(settle)).trim().to_owned();
    settles.into_iter().map(print).collect()
}

#[test]
fn settlements_wait_for_the_commit() {
    let mut bench = selected(4);
    bench.method(1, ack(1));
    bench.method(1, ack(2));
    bench.method(
        1,
        BasicNack {
            delivery_tag: 4,
            multiple: true,
            requeue: true,
        },
    );
    bench.check("", "");
    assert_eq!(
        committed(&mut bench),
        ["settle 7 0..=1 Ack", "settle 7 2..=3 Requeue"]
    );
    bench.reply(Reply::Committed);
    bench.check("1 tx.commit-ok", "");
    assert!(
        committed(&mut bench).is_empty(),
        "a commit begins a new transaction"
    );
}

#[test]
fn a_rollback_makes_deliveries_outstanding_again() {
    let mut bench = selected(3);
    bench.method(1, ack(2));
    bench.method(1, TxRollback);
    bench.check(
        "1 tx.rollback-ok",
        "Rollback { channel: ChannelNumber(1) }\nDrained { size_bytes: 246 }",
    );
    bench.method(1, ack(2));
    bench.method(
        1,
        BasicAck {
            delivery_tag: 0,
            multiple: true,
        },
    );
    assert_eq!(
        committed(&mut bench),
        [
            "settle 7 1..=1 Ack",
            "settle 7 0..=0 Ack",
            "settle 7 2..=2 Ack"
        ]
    );
}

#[test]
fn a_tag_settled_in_the_transaction_is_unknown_at_once() {
    let mut bench = selected(1);
    bench.method(1, ack(1));
    bench.method(1, ack(1));
    bench.check(
        "1 channel.close 406 PRECONDITION_FAILED - unknown delivery tag 1 (60.80)",
        "CloseChannel { channel: ChannelNumber(1) }\nDrained { size_bytes: 82 }",
    );
    bench.event(Event::ChannelClosed { channel: CHANNEL });
    bench.method(1, ChannelCloseOk);
    bench.open_channel(1);
    bench.output();
    bench.method(1, TxCommit);
    let output = bench.output();
    assert!(output.contains("channel is not transactional"), "{output}");
}

#[test]
fn recover_takes_part_in_no_transaction() {
    let mut bench = selected(2);
    bench.method(1, ack(1));
    bench.method(1, BasicRecover { requeue: true });
    bench.check(
        "1 basic.recover-ok",
        "settle 7 1..=1 Requeue\nDrained { size_bytes: 164 }",
    );
    assert_eq!(committed(&mut bench), ["settle 7 0..=0 Ack"]);
}

#[test]
fn publishes_go_to_the_node_and_returns_come_before_the_answer() {
    let mut bench = selected(0);
    bench.publish("key", b"body");
    bench.check("", "publish 1 0 x/key \\x10\\x00\\x02 4");
    committed(&mut bench);
    bench.event(Event::Returned {
        channel: CHANNEL,
        reason: ReturnReason::NoRoute,
        message: Message::copied(b"x", b"key", b"\0\0", b"body"),
    });
    bench.reply(Reply::Committed);
    bench.check(
        "1 basic.return 312 NO_ROUTE\n1 header 4\n1 body 4\n1 tx.commit-ok",
        "",
    );
}

#[test]
fn a_channel_is_in_one_mode() {
    let check = |methods: &[Method<'_>], text: &str| {
        let mut bench = Bench::open();
        for method in methods {
            bench.method(1, *method);
        }
        let output = bench.output();
        let last = output.lines().last().unwrap();
        assert_eq!(
            last,
            format!("1 channel.close 406 PRECONDITION_FAILED - {text}")
        );
    };
    let confirm = Method::from(ConfirmSelect { nowait: true });
    let (select, commit, rollback) = (TxSelect.into(), TxCommit.into(), TxRollback.into());
    check(
        &[confirm, select],
        "cannot switch from confirm to tx mode (90.10)",
    );
    check(
        &[select, select, confirm],
        "cannot switch from tx to confirm mode (85.10)",
    );
    check(&[commit], "channel is not transactional (90.20)");
    check(&[rollback], "channel is not transactional (90.30)");
}

#[test]
fn a_refused_commit_closes_the_channel() {
    let mut bench = selected(1);
    bench.method(1, ack(1));
    committed(&mut bench);
    bench.event(Event::Refused {
        channel: CHANNEL,
        operation: Operation::Commit,
        refusal: Refusal::Precondition("partial tx completion".to_owned()).into(),
    });
    bench.check(
        "1 channel.close 406 PRECONDITION_FAILED - partial tx completion (90.20)",
        "CloseChannel { channel: ChannelNumber(1) }",
    );
}

#[test]
fn a_transaction_settles_so_many_and_no_more() {
    let mut bench = selected(0);
    let count = TX_SETTLES_MAX as u64 + 1;
    for index in 0..count {
        let event = Event::Delivery(delivery(index));
        bench.connection.handle_event(event, bench.now);
    }
    bench.output();
    bench.requests();
    bench.method(
        1,
        BasicAck {
            delivery_tag: count - 1,
            multiple: true,
        },
    );
    bench.check("", "");
    bench.method(1, ack(count));
    bench.check(
        "1 channel.close 406 PRECONDITION_FAILED - transaction settles more than 262144 \
         deliveries (60.80)",
        "CloseChannel { channel: ChannelNumber(1) }",
    );
}
