//! Copies of what is published and delivered, and the broker's own events.

use staunch_broker::{CatalogCommand, HashAlgorithm, VhostCommand, VhostMetadata};
use staunch_types::{Event, Message, Reply, properties::Properties};

use crate::{
    login::{apply, user},
    script::{Script, name},
    world::roomy,
};

fn trace(script: &mut Script, tracing: bool) {
    let metadata = VhostMetadata {
        tracing,
        ..VhostMetadata::default()
    };
    let vhost = name("/");
    let command = VhostCommand::SetMetadata { vhost, metadata };
    apply(script, vec![CatalogCommand::Vhost(command)]);
}

/// Takes all that is in a queue.
fn taken(script: &mut Script, queue: &str) -> Vec<Message> {
    let mut taken = Vec::new();
    loop {
        script.heard.clear();
        script.line(&format!("o/1 get {queue} no-ack"));
        let got = script.heard.iter().find_map(|(_, event)| match event {
            Event::Reply {
                reply: Reply::Got { delivery, .. },
                ..
            } => Some(delivery.message.clone()),
            _ => None,
        });
        match got {
            Some(message) => taken.push(message),
            None => return taken,
        }
    }
}

fn key(message: &Message) -> String {
    String::from_utf8_lossy(message.routing_key()).into_owned()
}

fn headers(message: &Message) -> String {
    let properties = Properties::parse(message.properties()).unwrap();
    format!("{:?}", properties.headers().unwrap())
}

/// An observer `o` with a queue bound to an exchange of the broker.
fn observed(exchange: &str) -> Script {
    let mut script = Script::new(roomy());
    script.check(&format!(
        "o connect
         o open 1
         o/1 queue seen
         > o/1 queue: 0 ready, 0 consumers
         o/1 bind {exchange} seen #
         > o/1 bound"
    ));
    script
}

#[test]
fn a_traced_virtual_host_copies_publishes_and_deliveries() {
    let mut script = observed("amq.rabbitmq.trace");
    script.check(
        "a connect
         a open 1
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m0",
    );
    assert!(taken(&mut script, "seen").is_empty());
    trace(&mut script, true);
    script.check(
        "a/1 publish q m1 CC=r
         a/1 consume q as c no-ack
         > a/1 c consumes
         > a/1 c gets m0
         > a/1 c gets m1
         a/1 get q
         > a/1 got nothing",
    );
    let copies = taken(&mut script, "seen");
    let keys: Vec<_> = copies.iter().map(key).collect();
    assert_eq!(keys, ["publish.", "deliver.q", "deliver.q"]);
    assert_eq!(copies[0].body(), b"m1");
    let published = headers(&copies[0]);
    for part in [
        r#""exchange_name": """#,
        r#""routing_keys": ["q", "r"]"#,
        r#""node": "staunch@test""#,
        r#""vhost": "/""#,
        r#""user": "guest""#,
        r#""routed_queues": ["q"]"#,
    ] {
        assert!(published.contains(part), "{part} in {published}");
    }
    let delivered = headers(&copies[1]);
    assert!(delivered.contains(r#""redelivered": 0"#), "{delivered}");
    trace(&mut script, false);
    script.check(
        "a/1 publish q m2
         > a/1 c gets m2",
    );
    assert!(taken(&mut script, "seen").is_empty());
}

#[test]
fn a_consumer_of_copies_is_not_copied_itself() {
    let mut script = observed("amq.rabbitmq.trace");
    trace(&mut script, true);
    script.check(
        "o/1 consume seen as s no-ack
         > o/1 s consumes
         o/1 publish seen m1
         > o/1 s gets m1
         > o/1 s gets m1
         > o/1 s gets m1",
    );
}

#[test]
fn events_are_published_while_somebody_listens() {
    let mut script = observed("amq.rabbitmq.event");
    assert_eq!(
        taken(&mut script, "seen")
            .iter()
            .map(key)
            .collect::<Vec<_>>(),
        ["binding.created"]
    );
    script.check(
        "a connect
         a open 1
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 exchange x fanout
         > a/1 exchange declared
         a/1 bind x q
         > a/1 bound
         a/1 delete-queue q
         > a/1 queue deleted with 0
         a/1 close
         > a/1 closed
         a close
         > a closed",
    );
    apply(&mut script, vec![user("u", "p", HashAlgorithm::Sha256)]);
    let events = taken(&mut script, "seen");
    let keys: Vec<_> = events.iter().map(key).collect();
    assert_eq!(
        keys,
        [
            "connection.created",
            "channel.created",
            "queue.created",
            "exchange.created",
            "binding.created",
            "queue.deleted",
            "channel.closed",
            "connection.closed",
            "user.created",
        ]
    );
    let created = headers(&events[2]);
    assert!(
        created.contains(r#""name": "q""#) && created.contains("timestamp_in_ms"),
        "{created}"
    );
    let properties = Properties::parse(events[2].properties()).unwrap();
    assert_eq!(properties.delivery_mode(), Some(2));
    script.check(
        "o/1 unbind amq.rabbitmq.event seen #
         > o/1 unbound
         a connect",
    );
    assert!(taken(&mut script, "seen").is_empty());
}
