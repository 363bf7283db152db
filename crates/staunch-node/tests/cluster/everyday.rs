//! What programs do that were made for one broker, or for one of RabbitMQ's classic queues: it works
//! on every node of a cluster, where queues are quorum queues by default.

use staunch_broker::{CatalogCommand, Placement};
use staunch_node::{AdminAnswer, AdminRequest, OnRefusal};
use staunch_types::{
    Event, Message, PublishSeq, QueueId, QueueOptions, Refusal, Reply, Request,
    properties::PropertiesBuilder,
    request::{DeclareQueue, Publish},
};

use crate::{
    client::{CHANNEL, Client, declare_queue, delete_queue, look_for_queue, name, publish, queue},
    edges::{arguments, begin_to_consume, declare, got, server, wait_for_answers},
    world::World,
};

fn replica_count(world: &mut World, queue: &str) -> usize {
    let request = AdminRequest::QueueReplicas {
        vhost: name("/"),
        name: name(queue),
    };
    match world.ask(1, request) {
        AdminAnswer::Replicas(Some(replicas)) => replicas.replicas.len(),
        answer => panic!("{answer:?}"),
    }
}

fn publish_with_priority(queue: &str, priority: u8, seq: u64) -> Request {
    let properties = PropertiesBuilder::new().priority(priority).build().unwrap();
    let body = format!("p{priority}");
    Request::Publish(Publish {
        channel: CHANNEL,
        seq: Some(PublishSeq(seq)),
        mandatory: false,
        message: Message::copied(
            b"",
            queue.as_bytes(),
            properties.as_bytes(),
            body.as_bytes(),
        ),
    })
}

fn is_missing(event: &Event) -> bool {
    match event {
        Event::Refused { refusal, .. } => matches!(**refusal, Refusal::NotFound { .. }),
        _ => false,
    }
}

#[track_caller]
fn refused(event: &Event) -> String {
    match event {
        Event::Refused { refusal, .. } => refusal.to_string(),
        event => panic!("{event:?}"),
    }
}

#[test]
fn who_publishes_and_gets_finds_it() {
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 1);
    declare(&mut world, a, "q", queue(&["durable"]));
    for node in 1..=3 {
        let client = Client::connect(&mut world, node);
        for number in 0..5 {
            let body = format!("{node}.{number}");
            client.send(&mut world, publish("", "q", &body, None));
            assert_eq!(got(&mut world, client, "q"), Some((body, 0)));
            assert_eq!(got(&mut world, client, "q"), None);
        }
    }
}

#[test]
fn nobody_is_told_that_a_queue_is_locked_whose_owner_has_gone() {
    let mut world = World::new(3);
    for node in 1..=3 {
        let asks = [
            declare_queue("own", queue(&["exclusive"])),
            delete_queue("own"),
            look_for_queue("own"),
        ];
        for ask in asks {
            let owner = Client::connect(&mut world, node);
            declare(&mut world, owner, "own", queue(&["exclusive"]));
            let next = Client::connect(&mut world, node);
            owner.send(&mut world, Request::CloseConnection);
            let event = next.ask(&mut world, ask);
            let is_well = is_missing(&event)
                || match &event {
                    Event::Reply { reply, .. } => matches!(
                        reply,
                        Reply::QueueDeclared { .. } | Reply::QueueDeleted { count: 0 }
                    ),
                    _ => false,
                };
            assert!(is_well, "{event:?}");
            next.send(&mut world, Request::CloseConnection);
            next.wait_for(&mut world, |event| matches!(event, Event::ConnectionClosed));
        }
    }
}

#[test]
fn a_queue_that_goes_with_its_last_consumer_is_gone_for_who_asks_next() {
    let mut world = World::new(3);
    for node in 1..=3 {
        let a = Client::connect(&mut world, node);
        let b = Client::connect(&mut world, node);
        declare(&mut world, a, "passing", queue(&["auto-delete"]));
        begin_to_consume(&mut world, a, "passing", 1);
        a.send(&mut world, Request::CloseChannel { channel: CHANNEL });
        let event = b.ask(&mut world, look_for_queue("passing"));
        assert!(is_missing(&event), "{event:?}");
    }
}

#[test]
fn what_cannot_be_a_quorum_queue_is_replicated_all_the_same() {
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 2);
    let urgent = QueueOptions {
        arguments: arguments(|table| table.long("x-max-priority", 9)),
        ..queue(&["durable"])
    };
    declare(&mut world, a, "urgent", urgent);
    let lazy = QueueOptions {
        arguments: arguments(|table| table.longstr("x-queue-mode", "lazy")),
        ..queue(&["durable"])
    };
    declare(&mut world, a, "lazy", lazy);
    let given = Request::DeclareQueue(DeclareQueue {
        channel: CHANNEL,
        queue: name("amq.gen-1"),
        server_named: true,
        passive: false,
        options: queue(&["durable"]),
    });
    let event = a.ask(&mut world, given);
    assert!(matches!(event, Event::Reply { .. }), "{event:?}");
    // The same by an operator.
    let command = CatalogCommand::DeclareQueue {
        vhost: name("/"),
        name: name("graded"),
        id: QueueId(0),
        server_named: false,
        options: QueueOptions {
            arguments: arguments(|table| table.long("x-max-priority", 9)),
            ..queue(&["durable"])
        },
        owner: None,
        placement: Placement::HERE,
        partitions: Vec::new(),
    };
    let ask = AdminRequest::Apply {
        commands: vec![command],
        on_refusal: OnRefusal::Stop,
    };
    let answer = world.ask(1, ask);
    assert!(
        matches!(&answer, AdminAnswer::Applied(results) if results[0].is_ok()),
        "{answer:?}"
    );
    for queue in ["urgent", "lazy", "amq.gen-1", "graded"] {
        assert_eq!(replica_count(&mut world, queue), 3, "{queue}");
    }
    let leader = server(&mut world, "urgent");
    let other = (1..=3).find(|node| *node != leader).unwrap();
    let client = Client::connect(&mut world, other);
    for (seq, priority) in (1..).zip([1, 9, 5, 0, 9]) {
        client.send(&mut world, publish_with_priority("urgent", priority, seq));
    }
    assert_eq!(wait_for_answers(&mut world, client, 5), [0_u64; 0]);
    world.kill(leader);
    for expected in ["p9", "p9", "p5", "p1", "p0"] {
        let (body, _) = got(&mut world, client, "urgent").unwrap();
        assert_eq!(body, expected);
    }
    assert_eq!(got(&mut world, client, "urgent"), None);
    world.check_invariants();
}

#[test]
fn a_quorum_queue_knows_conditions_of_its_end() {
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 1);
    declare(&mut world, a, "q", queue(&["durable"]));
    for node in 1..=3 {
        let delete = |if_unused, if_empty| Request::DeleteQueue {
            channel: CHANNEL,
            queue: name("q"),
            if_unused,
            if_empty,
        };
        let consumer = Client::connect(&mut world, node);
        begin_to_consume(&mut world, consumer, "q", 1);
        let client = Client::connect(&mut world, node);
        let event = client.ask(&mut world, delete(true, false));
        assert_eq!(refused(&event), "queue 'q' in vhost '/' in use");
        consumer.send(&mut world, Request::CloseConnection);
        consumer.wait_for(&mut world, |event| matches!(event, Event::ConnectionClosed));
        let client = Client::connect(&mut world, node);
        client.send(&mut world, publish("", "q", "m", None));
        let event = client.ask(&mut world, delete(false, true));
        assert_eq!(refused(&event), "queue 'q' in vhost '/' not empty");
        let client = Client::connect(&mut world, node);
        assert!(got(&mut world, client, "q").is_some());
        let event = client.ask(&mut world, delete(true, true));
        assert!(matches!(event, Event::Reply { .. }), "{event:?}");
        declare(&mut world, client, "q", queue(&["durable"]));
    }
}
