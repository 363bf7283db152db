//! Sender-selected distribution: further routing keys in `CC` and `BCC`.

use staunch_types::{Event, Reply, properties::Properties};

use crate::{
    script::{Script, check},
    world::roomy,
};

#[test]
fn a_message_goes_to_all_its_keys_and_once_to_each_queue() {
    check(
        "a connect
         a open 1
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue r
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue s durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1 CC=r,q BCC=s #1
         > a/1 confirmed 1..1
         a/1 get q no-ack
         > a/1 got m1, 0 more
         a/1 get r no-ack
         > a/1 got m1, 0 more
         a/1 get s no-ack
         > a/1 got m1, 0 more
         a/1 publish q m2
         a/1 get r no-ack
         > a/1 got nothing
         a/1 publish nowhere m3 BCC=r mandatory
         a/1 publish nowhere m4 mandatory
         > a/1 returned m4
         a/1 get r no-ack
         > a/1 got m3, 0 more",
    );
}

#[test]
fn copies_go_through_a_transaction() {
    check(
        "a connect
         a open 1
         a/1 tx
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue r
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1 CC=r
         a/1 commit
         > a/1 committed
         a/1 get q no-ack
         > a/1 got m1, 0 more
         a/1 get r no-ack
         > a/1 got m1, 0 more",
    );
}

#[test]
fn a_dead_letter_goes_to_all_keys_unless_it_gets_one_of_its_own() {
    check(
        "a connect
         a open 1
         a/1 exchange dlx direct
         > a/1 exchange declared
         a/1 queue r durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 bind dlx r to-r
         > a/1 bound
         a/1 queue s
         > a/1 queue: 0 ready, 0 consumers
         a/1 bind dlx s to-s
         > a/1 bound
         a/1 queue own x-message-ttl=0 x-dead-letter-exchange=dlx
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue given x-message-ttl=0 x-dead-letter-exchange=dlx x-dead-letter-routing-key=to-r
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish own m1 CC=to-r BCC=to-s
         a/1 get r no-ack
         > a/1 got m1 died expired/own*1, 0 more
         a/1 get s no-ack
         > a/1 got m1 died expired/own*1, 0 more
         a/1 publish given m2 BCC=to-s
         a/1 get r no-ack
         > a/1 got m2 died expired/given*1, 0 more
         a/1 get s no-ack
         > a/1 got nothing",
    );
}

#[test]
fn a_delayed_message_goes_to_all_its_keys() {
    check(
        "a connect
         a open 1
         a/1 exchange x x-delayed-message x-delayed-type=direct
         > a/1 exchange declared
         a/1 queue r
         > a/1 queue: 0 ready, 0 consumers
         a/1 bind x r r
         > a/1 bound
         a/1 publish x/nobody m1 delay=50 BCC=r
         wait-ms 60
         a/1 get r no-ack
         > a/1 got m1, 0 more",
    );
}

#[test]
fn what_is_no_list_is_refused() {
    for header in ["CC", "BCC"] {
        check(&format!(
            "a connect
             a open 1
             a/1 publish nowhere m1 odd-{header}
             > a/1 Publish refused: invalid message: {{unacceptable_type_in_header,\"{header}\",longstr}}"
        ));
    }
}

#[test]
fn blind_keys_are_gone_before_anyone_sees_them() {
    let mut script = Script::new(roomy());
    script.check(
        "a connect
         a open 1
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1 CC=r BCC=s
         a/1 get q no-ack
         > a/1 got m1, 0 more",
    );
    let got = script.heard.iter().find_map(|(_, event)| match event {
        Event::Reply {
            reply: Reply::Got { delivery, .. },
            ..
        } => Some(delivery.message.clone()),
        _ => None,
    });
    let got = got.unwrap();
    let headers = Properties::parse(got.properties())
        .unwrap()
        .headers()
        .unwrap();
    assert!(headers.get("CC").is_some() && headers.get("BCC").is_none());
}
