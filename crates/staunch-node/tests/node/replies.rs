//! Direct reply-to.

use staunch_types::Request;

use crate::{
    script::{Script, check, publish},
    world::roomy,
};

/// A client that asks, and a server that consumes its requests.
const BEGIN: &str = "c connect
    c open 1
    c/1 queue rpc
    > c/1 queue: 0 ready, 0 consumers
    c/1 replies as r
    > c/1 r consumes
    s connect
    s open 1
    s/1 consume rpc as s no-ack
    > s/1 s consumes";

fn begun() -> Script {
    let mut script = Script::new(roomy());
    script.check(BEGIN);
    script
}

#[test]
fn a_reply_comes_straight_to_the_channel_that_asked() {
    begun().check(
        "c/1 publish rpc m1 asks
         > s/1 s gets m1
         s/1 answer m1 r1 #1
         > c/1 r gets r1
         > s/1 confirmed 1..1
         s/1 answer m1 r2 mandatory
         > c/1 r gets r2",
    );
}

#[test]
fn a_reply_to_whoever_is_gone_is_dropped_or_returned() {
    begun().check(
        "c/1 publish rpc m1 asks
         > s/1 s gets m1
         c/1 cancel r
         > c/1 r cancelled
         s/1 answer m1 r1 #1
         > s/1 confirmed 1..1
         c/1 replies as r
         > c/1 r consumes
         s/1 answer m1 r2 mandatory
         > s/1 returned r2
         c/1 publish rpc m2 asks
         > s/1 s gets m2
         c/1 close
         > c/1 closed
         s/1 answer m2 r3 mandatory
         > s/1 returned r3
         c close
         > c closed
         s/1 answer m2 r4 mandatory
         > s/1 returned r4",
    );
}

#[test]
fn a_request_needs_a_reply_consumer_and_a_channel_has_one() {
    check(
        "c connect
         c open 1
         c open 2
         c/1 publish nowhere m1 asks
         > c/1 Publish refused: fast reply consumer does not exist
         c/2 replies as r
         > c/2 r consumes
         c/2 replies as t
         > c/2 Consume refused: reply consumer already set",
    );
}

#[test]
fn reply_names_are_declared_passively_and_never_bound() {
    begun().check(
        "s open 2
         s/1 queue amq.rabbitmq.reply-to passive
         > s/1 queue: 0 ready, 1 consumers
         s/1 queue amq.rabbitmq.reply-to.0123 passive
         > s/1 DeclareQueue refused: no queue 'amq.rabbitmq.reply-to.0123' in vhost '/'
         s/2 bind amq.fanout amq.rabbitmq.reply-to
         > s/2 BindQueue refused: cannot bind or unbind to a volatile (direct reply-to) queue",
    );
}

#[test]
fn a_living_reply_name_can_be_asked_for() {
    let mut script = begun();
    script.check(
        "c/1 publish rpc m1 asks
         > s/1 s gets m1",
    );
    let name = script.reply_name("s", "m1");
    script.check(&format!(
        "s/1 queue {name} passive
         > s/1 queue: 0 ready, 1 consumers
         c/1 cancel r
         > c/1 r cancelled
         s/1 queue {name} passive
         > s/1 DeclareQueue refused: no queue '{name}' in vhost '/'"
    ));
}

#[test]
fn replies_to_a_client_that_does_not_read_are_dropped_at_a_limit() {
    let mut script = begun();
    script.check(
        "c stuck
         c/1 publish rpc m1 asks
         > s/1 s gets m1",
    );
    let name = script.reply_name("s", "m1");
    let body = "r".repeat(3 * 1024 * 1024);
    for _ in 0..8 {
        let request = publish(staunch_types::ChannelNumber(1), "", &name, &body);
        let server = script.id_of("s");
        script.world.requests(server, vec![request]);
    }
    let told = script.line("");
    let got = told.iter().filter(|line| line.starts_with("c/1 r gets"));
    // Five are below the limit and the sixth passes it.
    assert_eq!(got.count(), 6);
    script.line("c unstuck");
    script.check(
        "s/1 answer m1 r1
         > c/1 r gets r1",
    );
}

#[test]
fn a_reply_in_a_transaction_waits_for_its_commit() {
    begun().check(
        "c/1 publish rpc m1 asks
         > s/1 s gets m1
         s/1 tx
         s/1 answer m1 r1
         s/1 commit
         > c/1 r gets r1
         > s/1 committed",
    );
}

#[test]
fn a_request_keeps_its_other_properties() {
    let mut script = begun();
    let id = script.id_of("c");
    let request = publish(staunch_types::ChannelNumber(1), "", "rpc", "m1");
    let Request::Publish(mut request) = request else {
        panic!("it publishes");
    };
    let properties = staunch_types::properties::PropertiesBuilder::new()
        .reply_to("amq.rabbitmq.reply-to")
        .correlation_id("7")
        .build()
        .unwrap();
    request.message = staunch_types::Message::copied(b"", b"rpc", properties.as_bytes(), b"m1");
    script.world.requests(id, vec![Request::Publish(request)]);
    assert_eq!(script.line(""), ["s/1 s gets m1"]);
    let delivered = script
        .heard
        .iter()
        .rev()
        .find_map(|(_, event)| match event {
            staunch_types::Event::Delivery(delivery) => Some(delivery.message.clone()),
            _ => None,
        });
    let delivered = delivered.unwrap();
    let properties = staunch_types::properties::Properties::parse(delivered.properties()).unwrap();
    assert_eq!(properties.correlation_id(), Some(&b"7"[..]));
    assert!(properties.reply_to().unwrap().len() > 60);
}

#[test]
fn a_reply_by_a_further_key_waits_for_its_commit_too() {
    let mut script = begun();
    script.check(
        "c/1 publish rpc m1 asks
         > s/1 s gets m1",
    );
    let name = script.reply_name("s", "m1");
    script.check(&format!(
        "s open 2
         s/2 queue q
         > s/2 queue: 0 ready, 0 consumers
         s/2 tx
         s/2 publish q r1 CC={name}
         s/2 publish nowhere r2 BCC={name} mandatory
         s/2 rollback
         s/2 publish q r3 CC={name}
         s/2 publish nowhere r4 BCC={name} mandatory
         s/2 publish nowhere r5 CC=nobody mandatory
         s/2 commit
         > c/1 r gets r3
         > c/1 r gets r4
         > s/2 returned r5
         > s/2 committed
         s/2 get q no-ack
         > s/2 got r3, 0 more"
    ));
}
