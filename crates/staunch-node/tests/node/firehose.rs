//! Copies of what is published and delivered, and the broker's own events.

use staunch_broker::{
    ApplyTo, CatalogCommand, HashAlgorithm, ParameterCommand, ParameterValue, Policy,
    PolicyCommand, PolicyScope, UserCommand, VhostCommand, VhostLimits, VhostMetadata,
};
use staunch_types::{
    Event, Message, Reply,
    field_table::{TableBuilder, Value},
    properties::Properties,
};

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

/// The keys of the events about commands that an operator gives, and the headers of the last.
fn events_of(commands: Vec<CatalogCommand>) -> (String, String) {
    let mut script = observed("amq.rabbitmq.event");
    taken(&mut script, "seen");
    apply(&mut script, commands);
    let events = taken(&mut script, "seen");
    let keys: Vec<_> = events.iter().map(key).collect();
    (keys.join(" "), headers(events.last().unwrap()))
}

#[test]
fn what_operators_change_is_told_as_rabbitmq_tells_it() {
    let internal = r#""user_who_performed_action": "rmq-internal""#;
    let check = |commands: Vec<CatalogCommand>, keys: &str, parts: &[&str]| {
        let (seen, headers) = events_of(commands);
        assert_eq!(seen, keys);
        for part in parts.iter().chain(&[internal]) {
            assert!(headers.contains(part), "{part} in {headers}");
        }
    };
    let (vhost, p) = (name("/"), name("p"));
    let set = PolicyCommand::Set {
        scope: PolicyScope::User,
        vhost: vhost.clone(),
        name: p.clone(),
        policy: Policy {
            pattern: "^a".to_owned(),
            apply_to: ApplyTo::Queues,
            priority: 3,
            definition: TableBuilder::new().long("max-length", 5).build(),
        },
    };
    let delete = PolicyCommand::Delete {
        scope: PolicyScope::User,
        vhost: vhost.clone(),
        name: p.clone(),
    };
    let policy = [
        r#""apply-to": "queues""#,
        r#""definition": {"max-length": 5i64}"#,
        r#""pattern": "^a""#,
    ];
    check(
        vec![CatalogCommand::Policy(set.clone())],
        "policy.set",
        &policy,
    );
    let both = vec![CatalogCommand::Policy(set), CatalogCommand::Policy(delete)];
    check(both, "policy.set policy.cleared", &[r#""name": "p""#]);
    let limits = VhostLimits {
        queues_max: Some(5),
        ..VhostLimits::default()
    };
    let limited = VhostCommand::SetLimits { vhost, limits };
    let limited = vec![CatalogCommand::Vhost(limited)];
    check(limited, "vhost.limits.set", &[r#""max-queues": 5i64"#]);
    let parameter = ParameterCommand::SetGlobal {
        name: p,
        value: ParameterValue::new(Value::I64(7)),
    };
    let parts = [r#""value": 7i64"#, r#""component": "global""#];
    check(
        vec![CatalogCommand::Parameter(parameter)],
        "parameter.set",
        &parts,
    );
    let user = CatalogCommand::User(UserCommand::Put {
        name: name("u"),
        password: None,
        tags: vec![name("monitoring")],
    });
    let tags = [r#""tags": ["monitoring"]"#];
    check(vec![user], "user.created user.tags.set", &tags);
}

/// The life of a connection.
const EVENTFUL: &str = "a connect
         a open 1
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 exchange x fanout
         > a/1 exchange declared
         a/1 bind x q
         > a/1 bound
         a/1 consume q as c prefetch=4
         > a/1 c consumes
         a/1 cancel c
         > a/1 c cancelled
         a/1 delete-queue q
         > a/1 queue deleted with 0
         a/1 close
         > a/1 closed
         a close
         > a closed";

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
    script.check(EVENTFUL);
    apply(&mut script, vec![user("u", "p", HashAlgorithm::Sha256)]);
    let events = taken(&mut script, "seen");
    let keys: Vec<_> = events.iter().map(key).collect();
    assert_eq!(
        keys,
        [
            "user.authentication.success",
            "connection.created",
            "channel.created",
            "queue.created",
            "exchange.created",
            "binding.created",
            "consumer.created",
            "consumer.deleted",
            "queue.deleted",
            "channel.closed",
            "connection.closed",
            "user.created",
        ]
    );
    let expect = |event: usize, parts: &[&str]| {
        let headers = headers(&events[event]);
        for part in parts.iter().chain(&["timestamp_in_ms"]) {
            assert!(headers.contains(part), "{part} in {headers}");
        }
    };
    let by_guest = r#""user_who_performed_action": "guest""#;
    let durable = r#""durable": false"#;
    expect(
        3,
        &[
            by_guest,
            r#""name": "q""#,
            durable,
            "x-queue-type\\\">>,longstr,<<",
        ],
    );
    expect(4, &[by_guest, r#""type": "fanout""#]);
    let consumer = [by_guest, r#""consumer_tag": "c""#, r#""queue": "q""#];
    expect(6, &consumer);
    expect(6, &[r#""prefetch_count": 4i64"#, r#""ack_required": true"#]);
    expect(7, &consumer);
    let properties = Properties::parse(events[3].properties()).unwrap();
    assert_eq!(properties.delivery_mode(), Some(2));
    let login = [
        r#""name": "guest""#,
        r#""protocol": "{0,9,1}""#,
        r#""ssl": false"#,
    ];
    expect(0, &login);
    script.check(
        "o/1 unbind amq.rabbitmq.event seen #
         > o/1 unbound
         a connect",
    );
    assert!(taken(&mut script, "seen").is_empty());
}

#[test]
fn a_failed_login_is_an_event() {
    let mut script = observed("amq.rabbitmq.event");
    taken(&mut script, "seen");
    script.check(
        "b arrive
         b login guest wrong loopback
         > b login refused",
    );
    let events = taken(&mut script, "seen");
    assert_eq!(key(&events[0]), "user.authentication.failure");
    let headers = headers(&events[0]);
    let error = "- invalid credentials";
    assert!(headers.contains(error), "{headers}");
}
