//! A client may talk to any node: it publishes to queues that others serve, and consumes from them.

use std::time::Duration;

use staunch_node::{AdminAnswer, AdminRequest};
use staunch_types::{
    ConsumerKey, Delivery, Event, FieldTable, GroupId, MessageIndex, Outcome, QueueOptions,
    Refusal, Reply, Request,
    field_table::TableBuilder,
    request::{Consume, Settle},
};

use crate::{
    client::{
        CHANNEL, Client, bind, declare_queue, delete_queue, look_for_queue, name, publish, queue,
    },
    definitions::{assert_agreed, assert_declared},
    world::World,
};

pub(crate) fn arguments(build: impl FnOnce(TableBuilder) -> TableBuilder) -> FieldTable {
    build(TableBuilder::new()).build()
}

pub(crate) fn quorum() -> QueueOptions {
    quorum_with(|table| table)
}

pub(crate) fn quorum_with(more: impl FnOnce(TableBuilder) -> TableBuilder) -> QueueOptions {
    QueueOptions {
        arguments: arguments(|table| more(table.longstr("x-queue-type", "quorum"))),
        ..queue(&["durable"])
    }
}

pub(crate) fn classic(words: &[&str]) -> QueueOptions {
    QueueOptions {
        arguments: arguments(|table| table.longstr("x-queue-type", "classic")),
        ..queue(words)
    }
}

pub(crate) fn consume(queue: &str, prefetch: u16) -> Request {
    Request::Consume(Consume {
        channel: CHANNEL,
        queue: name(queue),
        tag: name("tag"),
        no_ack: false,
        exclusive: false,
        prefetch,
        arguments: FieldTable::default(),
    })
}

pub(crate) fn get(queue: &str) -> Request {
    Request::Get {
        channel: CHANNEL,
        queue: name(queue),
        no_ack: true,
    }
}

pub(crate) fn settle(delivery: &Delivery, outcome: Outcome) -> Request {
    Request::Settle(Settle {
        channel: CHANNEL,
        consumer: delivery.consumer,
        queue: delivery.queue,
        first: delivery.index,
        count: 1,
        outcome,
    })
}

#[track_caller]
pub(crate) fn declare(world: &mut World, client: Client, queue: &str, options: QueueOptions) {
    assert_declared(&client.ask(world, declare_queue(queue, options)));
    assert_agreed(world);
}

/// The node that serves a queue.
#[track_caller]
pub(crate) fn server(world: &mut World, queue: &str) -> usize {
    let mut found = None;
    world.run_until("somebody serves the queue", |world| {
        for node in world.running() {
            let request = AdminRequest::QueueReplicas {
                vhost: name("/"),
                name: name(queue),
            };
            let AdminAnswer::Replicas(Some(replicas)) = world.ask(node, request) else {
                continue;
            };
            let numbers = world.running();
            let is = |number: &usize| replicas.leader == Some(name(&format!("n{number}")));
            if let Some(number) = numbers.into_iter().find(is) {
                found = Some(number);
            }
        }
        found.is_some()
    });
    found.unwrap()
}

/// Publishes `bodies` with numbers from `first` on.
#[track_caller]
pub(crate) fn publish_all(world: &mut World, client: Client, queue: &str, first: u64, count: u64) {
    for number in first..first + count {
        let body = format!("m{number}");
        client.send(world, publish("", queue, &body, Some(number)));
    }
}

/// Waits until publishes up to `last` are answered; those that were refused.
#[track_caller]
pub(crate) fn wait_for_answers(world: &mut World, client: Client, count: u64) -> Vec<u64> {
    let (mut answered, mut refused) = (0, Vec::new());
    while answered < count {
        match client.wait_for(world, |event| {
            matches!(event, Event::Confirmed { .. } | Event::Nacked { .. })
        }) {
            Event::Confirmed { first, last, .. } => answered += last.0 + 1 - first.0,
            Event::Nacked { first, last, .. } => {
                answered += last.0 + 1 - first.0;
                refused.extend(first.0..=last.0);
            }
            event => panic!("{event:?}"),
        }
    }
    refused
}

#[track_caller]
pub(crate) fn begin_to_consume(
    world: &mut World,
    client: Client,
    queue: &str,
    prefetch: u16,
) -> ConsumerKey {
    match client.ask(world, consume(queue, prefetch)) {
        Event::Reply {
            reply: Reply::Consuming { consumer, .. },
            ..
        } => consumer,
        event => panic!("{event:?}"),
    }
}

#[track_caller]
pub(crate) fn next_delivery(world: &mut World, client: Client) -> Delivery {
    match client.wait_for(world, |event| matches!(event, Event::Delivery(_))) {
        Event::Delivery(delivery) => delivery,
        event => panic!("{event:?}"),
    }
}

pub(crate) fn body(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message.body().to_vec()).unwrap()
}

#[track_caller]
pub(crate) fn got(world: &mut World, client: Client, queue: &str) -> Option<(String, u64)> {
    match client.ask(world, get(queue)) {
        Event::Reply { reply, .. } => match reply {
            Reply::Got {
                delivery,
                ready_count,
            } => Some((body(&delivery), ready_count)),
            Reply::GotNothing => None,
            reply => panic!("{reply:?}"),
        },
        event => panic!("{event:?}"),
    }
}

#[track_caller]
pub(crate) fn counts(world: &mut World, client: Client, queue: &str) -> (u64, u32) {
    match client.ask(world, look_for_queue(queue)) {
        Event::Reply {
            reply:
                Reply::QueueDeclared {
                    ready_count,
                    consumer_count,
                },
            ..
        } => (ready_count, consumer_count),
        event => panic!("{event:?}"),
    }
}

#[track_caller]
fn refusal(event: &Event) -> Refusal {
    match event {
        Event::Refused { refusal, .. } => (**refusal).clone(),
        event => panic!("{event:?}"),
    }
}

pub(crate) fn no_deliveries(world: &mut World, client: Client) {
    world.run(Duration::from_secs(2));
    let heard = client.heard(world);
    let delivered = heard.iter().any(|it| matches!(it, Event::Delivery(_)));
    assert!(!delivered, "{heard:?}");
}

#[test]
fn every_node_takes_publishes_for_every_queue() {
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 1);
    declare(&mut world, a, "lasting", quorum());
    declare(&mut world, a, "durable", classic(&["durable"]));
    declare(&mut world, a, "passing", classic(&[]));
    for queue in ["lasting", "durable", "passing"] {
        for node in 1..=3 {
            let client = Client::connect(&mut world, node);
            publish_all(&mut world, client, queue, 1, 10);
            assert_eq!(wait_for_answers(&mut world, client, 10), [0_u64; 0]);
        }
        for node in 1..=3 {
            let client = Client::connect(&mut world, node);
            assert_eq!(counts(&mut world, client, queue), (30, 0), "{queue}");
        }
        for node in 1..=3 {
            let client = Client::connect(&mut world, node);
            for number in 1..=10 {
                let left = (3 - node as u64) * 10 + 10 - number;
                let expected = Some((format!("m{number}"), left));
                assert_eq!(got(&mut world, client, queue), expected, "{queue}");
            }
        }
        let client = Client::connect(&mut world, 2);
        assert_eq!(got(&mut world, client, queue), None);
    }
    world.check_invariants();
}

#[test]
fn a_publish_to_several_queues_is_confirmed_once_by_all() {
    let mut world = World::new(3);
    let (a, b) = (
        Client::connect(&mut world, 1),
        Client::connect(&mut world, 2),
    );
    declare(&mut world, a, "one", quorum());
    declare(&mut world, a, "two", classic(&["durable"]));
    declare(&mut world, b, "three", classic(&["durable"]));
    declare(&mut world, b, "four", classic(&[]));
    for queue in ["one", "two", "three", "four"] {
        drop(a.ask(&mut world, bind("amq.fanout", queue, "")));
    }
    assert_agreed(&mut world);
    for node in 1..=3 {
        let client = Client::connect(&mut world, node);
        for number in 1..=5 {
            client.send(&mut world, publish("amq.fanout", "", "x", Some(number)));
        }
        assert_eq!(wait_for_answers(&mut world, client, 5), [0_u64; 0]);
        world.run(Duration::from_millis(100));
        let heard = client.heard(&mut world);
        assert!(heard.is_empty(), "each is answered once: {heard:?}");
    }
    for queue in ["one", "two", "three", "four"] {
        assert_eq!(counts(&mut world, a, queue).0, 15, "{queue}");
    }
}

#[test]
fn a_full_queue_refuses_what_comes_from_other_nodes() {
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 1);
    let limits = |table: TableBuilder| {
        table
            .long("x-max-length", 3)
            .longstr("x-overflow", "reject-publish")
    };
    declare(&mut world, a, "full", quorum_with(limits));
    let mut here = classic(&["durable"]);
    here.arguments = arguments(|table| limits(table.longstr("x-queue-type", "classic")));
    declare(&mut world, a, "alone", here);
    for queue in ["full", "alone"] {
        let client = Client::connect(&mut world, 3);
        for number in 1..=5 {
            client.send(&mut world, publish("", queue, "x", Some(number)));
            world.run(Duration::from_millis(30));
        }
        let refused = wait_for_answers(&mut world, client, 5);
        assert_eq!(refused, [4, 5], "{queue}");
        assert_eq!(counts(&mut world, a, queue).0, 3);
    }
}

#[test]
fn a_queue_whose_only_node_is_down_cannot_be_used() {
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 1);
    declare(&mut world, a, "q", classic(&["durable"]));
    let b = Client::connect(&mut world, 2);
    publish_all(&mut world, b, "q", 1, 3);
    assert_eq!(wait_for_answers(&mut world, b, 3), [0_u64; 0]);
    world.kill(1);
    world.run(Duration::from_secs(3));
    let event = b.ask(&mut world, get("q"));
    assert_eq!(
        refusal(&event).to_string(),
        "home node 'n1' of durable queue 'q' in vhost '/' is down or inaccessible"
    );
    let c = Client::connect(&mut world, 3);
    publish_all(&mut world, c, "q", 1, 1);
    world.start(1);
    assert_eq!(wait_for_answers(&mut world, c, 1), [0_u64; 0], "it waited");
    let d = Client::connect(&mut world, 2);
    assert_eq!(counts(&mut world, d, "q"), (4, 0));
}

#[test]
fn consumers_on_every_node_share_a_queue() {
    for options in [quorum(), classic(&["durable"]), classic(&[])] {
        let mut world = World::new(3);
        let a = Client::connect(&mut world, 1);
        declare(&mut world, a, "q", options);
        let consumers: Vec<_> = (1..=3)
            .map(|node| Client::connect(&mut world, node))
            .collect();
        for client in &consumers {
            begin_to_consume(&mut world, *client, "q", 2);
        }
        assert_eq!(counts(&mut world, a, "q"), (0, 3));
        publish_all(&mut world, a, "q", 1, 6);
        assert_eq!(wait_for_answers(&mut world, a, 6), [0_u64; 0]);
        let mut held = Vec::new();
        for client in &consumers {
            held.push((*client, next_delivery(&mut world, *client)));
            held.push((*client, next_delivery(&mut world, *client)));
        }
        let mut bodies: Vec<_> = held.iter().map(|(_, delivery)| body(delivery)).collect();
        bodies.sort_unstable();
        assert_eq!(bodies, ["m1", "m2", "m3", "m4", "m5", "m6"]);
        publish_all(&mut world, a, "q", 7, 3);
        assert_eq!(wait_for_answers(&mut world, a, 3), [0_u64; 0]);
        for client in &consumers {
            no_deliveries(&mut world, *client);
        }
        for (client, delivery) in &held {
            client.send(&mut world, settle(delivery, Outcome::Ack));
        }
        world.run(Duration::from_secs(1));
        assert_eq!(counts(&mut world, a, "q"), (0, 3));
        for client in &consumers {
            let event = client.ask(&mut world, Request::CloseChannel { channel: CHANNEL });
            let is_closed = |event: &Event| matches!(event, Event::ChannelClosed { .. });
            if !is_closed(&event) {
                client.wait_for(&mut world, is_closed);
            }
        }
        world.run(Duration::from_secs(1));
        assert_eq!(counts(&mut world, a, "q"), (3, 0), "they are given back");
        world.check_invariants();
    }
}

#[test]
fn what_a_client_held_is_given_to_others_when_its_node_dies() {
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 1);
    declare(&mut world, a, "q", quorum());
    let leader = server(&mut world, "q");
    let (doomed, other) = (1 + leader % 3, 1 + (leader + 1) % 3);
    let (lost, kept) = (
        Client::connect(&mut world, doomed),
        Client::connect(&mut world, other),
    );
    begin_to_consume(&mut world, lost, "q", 5);
    publish_all(&mut world, kept, "q", 1, 5);
    assert_eq!(wait_for_answers(&mut world, kept, 5), [0_u64; 0]);
    for number in 1..=5 {
        let delivery = next_delivery(&mut world, lost);
        assert_eq!(body(&delivery), format!("m{number}"));
    }
    begin_to_consume(&mut world, kept, "q", 10);
    world.kill(doomed);
    for number in 1..=5 {
        let delivery = next_delivery(&mut world, kept);
        assert_eq!(body(&delivery), format!("m{number}"));
        assert!(delivery.redelivered);
    }
}

#[test]
fn a_cancelled_consumer_keeps_what_it_holds() {
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 1);
    declare(&mut world, a, "q", quorum());
    for node in 1..=3 {
        let client = Client::connect(&mut world, node);
        let consumer = begin_to_consume(&mut world, client, "q", 1);
        publish_all(&mut world, client, "q", 1, 2);
        let delivery = next_delivery(&mut world, client);
        let channel = CHANNEL;
        client.send(&mut world, Request::Cancel { channel, consumer });
        let is_cancelled = |event: &Event| {
            matches!(event, Event::Reply { reply: Reply::Cancelled { consumer: it }, .. }
                if *it == consumer)
        };
        client.wait_for(&mut world, is_cancelled);
        client.send(&mut world, settle(&delivery, Outcome::Ack));
        no_deliveries(&mut world, client);
        let second = Client::connect(&mut world, node);
        assert_eq!(got(&mut world, second, "q"), Some(("m2".to_owned(), 0)));
    }
    world.check_invariants();
}

#[test]
fn a_client_that_does_not_read_is_sent_no_more_than_its_window() {
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 1);
    declare(&mut world, a, "q", classic(&["durable"]));
    let b = Client::connect(&mut world, 2);
    let large = "x".repeat(100_000);
    for number in 1..=30 {
        b.send(&mut world, publish("", "q", &large, Some(number)));
    }
    assert_eq!(wait_for_answers(&mut world, b, 30), [0_u64; 0]);
    begin_to_consume(&mut world, b, "q", 0);
    world.run(Duration::from_secs(1));
    let mut sizes = Vec::new();
    let heard = |world: &mut World, sizes: &mut Vec<u64>| {
        for event in b.heard(world) {
            if let Event::Delivery(delivery) = event {
                sizes.push(delivery.outbound_size_bytes());
            }
        }
    };
    heard(&mut world, &mut sizes);
    assert_eq!(sizes.len(), 11, "a mebibyte, and the one that was too much");
    let size_bytes = sizes.iter().sum();
    b.send(&mut world, Request::Drained { size_bytes });
    world.run(Duration::from_secs(1));
    heard(&mut world, &mut sizes);
    assert_eq!(sizes.len(), 22);
}

#[test]
fn purging_and_deleting_work_from_every_node() {
    let mut world = World::new(3);
    let clients: Vec<_> = (1..=3)
        .map(|node| Client::connect(&mut world, node))
        .collect();
    for (at, client) in clients.iter().enumerate() {
        declare(&mut world, *client, "q", quorum());
        declare(&mut world, *client, "here", classic(&["durable"]));
        for queue in ["q", "here"] {
            let other = clients[(at + 1) % 3];
            publish_all(&mut world, other, queue, 1, 4);
            assert_eq!(wait_for_answers(&mut world, other, 4), [0_u64; 0]);
            let (channel, queue) = (CHANNEL, name(queue));
            let event = other.ask(&mut world, Request::PurgeQueue { channel, queue });
            let reply = Reply::QueuePurged { count: 4 };
            assert_eq!(
                format!("{event:?}"),
                format!("{:?}", Event::Reply { channel, reply })
            );
        }
        let other = clients[(at + 2) % 3];
        publish_all(&mut world, other, "here", 1, 1);
        assert_eq!(wait_for_answers(&mut world, other, 1), [0_u64; 0]);
        let refused = Client::connect(&mut world, other.node);
        let event = refused.ask(
            &mut world,
            Request::DeleteQueue {
                channel: CHANNEL,
                queue: name("here"),
                if_unused: false,
                if_empty: true,
            },
        );
        assert_eq!(
            refusal(&event).to_string(),
            "queue 'here' in vhost '/' not empty"
        );
        for (queue, count) in [("q", 0), ("here", 1)] {
            let event = other.ask(&mut world, delete_queue(queue));
            let (channel, reply) = (CHANNEL, Reply::QueueDeleted { count });
            assert_eq!(
                format!("{event:?}"),
                format!("{:?}", Event::Reply { channel, reply })
            );
        }
        assert_agreed(&mut world);
    }
}

#[test]
fn nobody_waits_for_what_was_proposed_to_a_queue_that_is_gone() {
    let mut world = World::new(5);
    let a = Client::connect(&mut world, 1);
    declare(&mut world, a, "q", quorum());
    let served = server(&mut world, "q");
    let client = Client::connect(&mut world, served);
    let is_member = |world: &World, number| {
        let groups = world.node(number).group_facts();
        groups.iter().any(|facts| facts.group != GroupId::CATALOG)
    };
    for number in (1..=5).filter(|number| *number != served) {
        if is_member(&world, number) {
            world.cut(served, number);
        }
    }
    publish_all(&mut world, client, "q", 1, 3);
    world.run(Duration::from_millis(5));
    client.send(&mut world, delete_queue("q"));
    assert_eq!(wait_for_answers(&mut world, client, 3), [0_u64; 0]);
    client.wait_for(&mut world, |event| matches!(event, Event::Reply { .. }));
    assert!(!is_member(&world, served), "the queue is gone");
    world.mend();
    declare(&mut world, client, "other", classic(&["durable"]));
}

#[test]
fn a_consumer_hears_that_its_queue_is_deleted() {
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 1);
    for options in [quorum(), classic(&["durable"])] {
        declare(&mut world, a, "q", options);
        let b = Client::connect(&mut world, 2);
        let consumer = begin_to_consume(&mut world, b, "q", 1);
        drop(a.ask(&mut world, delete_queue("q")));
        let event = b.wait_for(&mut world, |_| true);
        assert!(
            matches!(event, Event::ConsumerCancelled { consumer: it, .. } if it == consumer),
            "{event:?}"
        );
        assert_agreed(&mut world);
    }
}

#[test]
fn dead_letters_reach_queues_of_other_nodes_before_they_are_buried() {
    let mut world = World::new(3);
    let (a, b) = (
        Client::connect(&mut world, 1),
        Client::connect(&mut world, 2),
    );
    declare(&mut world, b, "grave", quorum());
    let mut options = classic(&["durable"]);
    options.arguments = arguments(|table| {
        table
            .longstr("x-queue-type", "classic")
            .longstr("x-dead-letter-exchange", "")
            .longstr("x-dead-letter-routing-key", "grave")
    });
    declare(&mut world, a, "q", options);
    let c = Client::connect(&mut world, 3);
    begin_to_consume(&mut world, c, "q", 0);
    publish_all(&mut world, c, "q", 1, 3);
    for _ in 0..3 {
        let delivery = next_delivery(&mut world, c);
        c.send(&mut world, settle(&delivery, Outcome::Discard));
    }
    world.run(Duration::from_secs(1));
    assert_eq!(counts(&mut world, a, "grave").0, 3);
    assert_eq!(got(&mut world, b, "grave"), Some(("m1".to_owned(), 2)));
    world.check_invariants();
}

#[test]
fn publishes_wait_for_a_majority_and_are_refused_in_the_end() {
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 1);
    declare(&mut world, a, "q", quorum());
    world.isolate(1);
    world.run(Duration::from_secs(3));
    publish_all(&mut world, a, "q", 1, 2);
    let began = world.now;
    let event = a.ask(&mut world, get("q"));
    assert!(refusal(&event).to_string().starts_with("no majority"));
    let waited = world.now.since(began);
    assert!((4..7).contains(&waited.as_secs()), "{waited:?}");
    assert_eq!(wait_for_answers(&mut world, a, 2), [1, 2]);
    assert!(world.now.since(began) >= Duration::from_secs(29));
    let again = Client::connect(&mut world, 1);
    publish_all(&mut world, again, "q", 3, 1);
    world.mend();
    assert_eq!(wait_for_answers(&mut world, again, 1), [0_u64; 0]);
    let b = Client::connect(&mut world, 2);
    assert_eq!(got(&mut world, b, "q"), Some(("m3".to_owned(), 0)));
}

#[test]
fn a_channel_hears_nothing_of_what_another_of_its_number_has_published() {
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 1);
    declare(&mut world, a, "q", quorum());
    world.isolate(1);
    for number in 1..=3 {
        a.send(&mut world, publish("", "q", "old", Some(number)));
    }
    world.run(Duration::from_millis(20));
    a.send(&mut world, Request::CloseChannel { channel: CHANNEL });
    a.wait_for(&mut world, |event| {
        matches!(event, Event::ChannelClosed { .. })
    });
    a.send(&mut world, Request::OpenChannel { channel: CHANNEL });
    a.wait_for(&mut world, |event| {
        matches!(event, Event::ChannelOpened { .. })
    });
    a.send(&mut world, publish("", "q", "new", Some(1)));
    world.mend();
    assert_eq!(wait_for_answers(&mut world, a, 1), [0_u64; 0]);
    world.run(Duration::from_secs(2));
    let heard = a.heard(&mut world);
    assert!(heard.is_empty(), "one message was its own: {heard:?}");
}

#[test]
fn publishes_survive_their_leader_once_and_in_order() {
    for seed in 0..6_u64 {
        let mut world = World::new(3);
        let a = Client::connect(&mut world, 1);
        declare(&mut world, a, "q", quorum());
        let leader = server(&mut world, "q");
        let client = Client::connect(&mut world, 1 + leader % 3);
        for number in 1..=60 {
            client.send(
                &mut world,
                publish("", "q", &format!("m{number}"), Some(number)),
            );
            world.run(Duration::from_millis(1));
            if number == 30 + seed {
                world.kill(leader);
            }
        }
        assert_eq!(wait_for_answers(&mut world, client, 60), [0_u64; 0]);
        let reader = Client::connect(&mut world, 1 + (leader + 1) % 3);
        for number in 1..=60 {
            let expected = Some((format!("m{number}"), 60 - number));
            assert_eq!(got(&mut world, reader, "q"), expected, "seed {seed}");
        }
    }
}

#[test]
fn a_consumer_moves_to_the_new_leader_with_what_it_holds() {
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 1);
    declare(&mut world, a, "q", quorum());
    let leader = server(&mut world, "q");
    let (first, second) = (
        Client::connect(&mut world, 1 + leader % 3),
        Client::connect(&mut world, 1 + (leader + 1) % 3),
    );
    for client in [first, second] {
        begin_to_consume(&mut world, client, "q", 3);
    }
    publish_all(&mut world, first, "q", 1, 8);
    assert_eq!(wait_for_answers(&mut world, first, 8), [0_u64; 0]);
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push((first, next_delivery(&mut world, first)));
        held.push((second, next_delivery(&mut world, second)));
    }
    world.kill(leader);
    server(&mut world, "q");
    no_deliveries(&mut world, first);
    no_deliveries(&mut world, second);
    for (client, delivery) in held {
        client.send(&mut world, settle(&delivery, Outcome::Ack));
    }
    // What they did not hold comes, and for the first time.
    world.run(Duration::from_secs(1));
    let mut came = Vec::new();
    for client in [first, second] {
        for event in client.heard(&mut world) {
            if let Event::Delivery(delivery) = event {
                client.send(&mut world, settle(&delivery, Outcome::Ack));
                came.push((body(&delivery), delivery.index));
            }
        }
    }
    came.sort_unstable();
    let expected = [("m7", 6), ("m8", 7)];
    let expected = expected.map(|(body, index)| (body.to_owned(), MessageIndex(index)));
    assert_eq!(came, expected);
    no_deliveries(&mut world, first);
    no_deliveries(&mut world, second);
    assert_eq!(counts(&mut world, second, "q"), (0, 2));
    world.check_invariants();
}

#[test]
fn a_settlement_on_its_way_when_the_leader_dies_holds() {
    for millis in 0..8 {
        let mut world = World::new(3);
        let a = Client::connect(&mut world, 1);
        declare(&mut world, a, "q", quorum());
        let leader = server(&mut world, "q");
        let client = Client::connect(&mut world, 1 + leader % 3);
        begin_to_consume(&mut world, client, "q", 10);
        publish_all(&mut world, client, "q", 1, 4);
        for _ in 0..4 {
            let delivery = next_delivery(&mut world, client);
            client.send(&mut world, settle(&delivery, Outcome::Ack));
        }
        world.run(Duration::from_millis(millis));
        client.send(&mut world, Request::CloseChannel { channel: CHANNEL });
        world.kill(leader);
        client.wait_for(&mut world, |event| {
            matches!(event, Event::ChannelClosed { .. })
        });
        let reader = Client::connect(&mut world, 1 + (leader + 1) % 3);
        assert_eq!(got(&mut world, reader, "q"), None, "after {millis} ms");
    }
}

#[test]
fn clients_of_a_leader_that_is_cut_off_go_on_when_it_is_back() {
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 1);
    declare(&mut world, a, "q", quorum());
    let leader = server(&mut world, "q");
    let own = Client::connect(&mut world, leader);
    let other = Client::connect(&mut world, 1 + leader % 3);
    begin_to_consume(&mut world, own, "q", 2);
    publish_all(&mut world, other, "q", 1, 3);
    assert_eq!(wait_for_answers(&mut world, other, 3), [0_u64; 0]);
    let held: Vec<_> = (0..2).map(|_| next_delivery(&mut world, own)).collect();
    world.isolate(leader);
    world.run(Duration::from_secs(4));
    // The others cannot know what it holds, and go on.
    let heard = got(&mut world, other, "q");
    assert_eq!(heard, Some(("m1".to_owned(), 2)));
    world.mend();
    world.run(Duration::from_secs(3));
    for delivery in &held {
        own.send(&mut world, settle(delivery, Outcome::Ack));
    }
    let delivery = next_delivery(&mut world, own);
    assert_eq!(body(&delivery), "m3");
    own.send(&mut world, settle(&delivery, Outcome::Ack));
    world.run(Duration::from_secs(1));
    assert_eq!(counts(&mut world, other, "q"), (0, 1));
    world.check_invariants();
}

#[test]
fn one_active_consumer_and_exclusive_ones_are_the_clusters() {
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 1);
    let options = quorum_with(|table| table.bool("x-single-active-consumer", true));
    declare(&mut world, a, "single", options);
    declare(&mut world, a, "classic", classic(&["durable"]));
    let (b, c) = (
        Client::connect(&mut world, 2),
        Client::connect(&mut world, 3),
    );
    begin_to_consume(&mut world, b, "single", 0);
    begin_to_consume(&mut world, c, "single", 0);
    publish_all(&mut world, a, "single", 1, 2);
    assert_eq!(body(&next_delivery(&mut world, b)), "m1");
    assert_eq!(body(&next_delivery(&mut world, b)), "m2");
    no_deliveries(&mut world, c);
    b.send(&mut world, Request::CloseConnection);
    assert_eq!(body(&next_delivery(&mut world, c)), "m1");
    let mut exclusive = consume("classic", 0);
    if let Request::Consume(consume) = &mut exclusive {
        consume.exclusive = true;
    }
    let event = c.ask(&mut world, exclusive);
    if !matches!(
        event,
        Event::Reply {
            reply: Reply::Consuming { .. },
            ..
        }
    ) {
        c.wait_for(&mut world, |event| {
            matches!(
                event,
                Event::Reply {
                    reply: Reply::Consuming { .. },
                    ..
                }
            )
        });
    }
    let event = a.ask(&mut world, consume("classic", 0));
    let event = match event {
        Event::Confirmed { .. } => a.wait_for(&mut world, |it| matches!(it, Event::Refused { .. })),
        event => event,
    };
    assert_eq!(
        refusal(&event).to_string(),
        "queue 'classic' in vhost '/' in exclusive use"
    );
}
