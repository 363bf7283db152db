//! Queues of several partitions: order per key, consumers spread over partitions, and what one
//! partition without its majority does to the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use staunch_broker::partition_of;
use staunch_node::{AdminAnswer, AdminRequest, QueueReplicas};
use staunch_types::{ConsumerKey, Delivery, Event, Outcome, Reply, Request};

use crate::{
    client::{CHANNEL, Client, bind, declare_queue, delete_queue, look_for_queue, name, publish},
    definitions::assert_agreed,
    edges::{body, consume, declare, get, next_delivery, quorum_with, server, settle},
    world::World,
};

const QUEUE: &str = "orders";
const KEYS: usize = 24;

fn key(number: usize) -> String {
    format!("customer-{number}")
}

/// A queue with so many partitions, bound so that it gets every key.
fn with_queue(world: &mut World, count: u8) -> Client {
    let client = Client::connect(world, 1);
    let options = quorum_with(|table| table.int("x-partitions", i32::from(count)));
    declare(world, client, QUEUE, options);
    client.ask(world, bind("amq.topic", QUEUE, "#"));
    assert_agreed(world);
    for number in 0..count {
        server(world, &format!("{QUEUE}#{number}"));
    }
    client
}

/// Publishes `rounds` messages of each key; bodies are numbers of the round.
fn publish_rounds(world: &mut World, client: Client, seq: &mut u64, rounds: std::ops::Range<u64>) {
    for round in rounds {
        for number in 0..KEYS {
            *seq += 1;
            let request = publish("amq.topic", &key(number), &round.to_string(), Some(*seq));
            client.send(world, request);
        }
    }
}

/// Waits until `count` publishes are answered with confirms.
#[track_caller]
fn wait_for_confirms(world: &mut World, client: Client, count: u64) {
    assert_eq!(crate::edges::wait_for_answers(world, client, count), []);
}

#[track_caller]
fn begin_to_consume(world: &mut World, client: Client, prefetch: u16) -> ConsumerKey {
    match client.ask(world, consume(QUEUE, prefetch)) {
        Event::Reply {
            reply: Reply::ConsumingSplit { consumers, .. },
            ..
        } => consumers[0],
        event => panic!("{event:?}"),
    }
}

#[track_caller]
fn counts(world: &mut World, client: Client, queue: &str) -> (u64, u32) {
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

fn replicas(world: &mut World, node: usize, queue: &str) -> QueueReplicas {
    let request = AdminRequest::QueueReplicas {
        vhost: name("/"),
        name: name(queue),
    };
    match world.ask(node, request) {
        AdminAnswer::Replicas(Some(replicas)) => replicas,
        answer => panic!("{answer:?}"),
    }
}

fn deliveries(world: &mut World, client: Client) -> Vec<Delivery> {
    let heard = client.heard(world).into_iter();
    heard
        .filter_map(|event| match event {
            Event::Delivery(delivery) => Some(delivery),
            _ => None,
        })
        .collect()
}

fn ack(world: &mut World, client: Client, delivery: &Delivery) {
    client.send(world, settle(delivery, Outcome::Ack));
}

/// Takes what comes to `clients` until `count` messages have been acked: who got each key's
/// messages, in order.
#[track_caller]
fn drain(
    world: &mut World,
    clients: &[Client],
    count: usize,
) -> BTreeMap<String, Vec<(usize, u64)>> {
    let mut taken: BTreeMap<String, Vec<(usize, u64)>> = BTreeMap::new();
    let mut left = count;
    world.run_until("everything is consumed", |world| {
        for (at, client) in clients.iter().enumerate() {
            for delivery in deliveries(world, *client) {
                let key = String::from_utf8(delivery.message.routing_key().to_vec()).unwrap();
                let round = body(&delivery).parse().unwrap();
                taken.entry(key).or_default().push((at, round));
                ack(world, *client, &delivery);
                left = left.saturating_sub(1);
            }
        }
        left == 0
    });
    taken
}

/// How many partitions each of the clients is served by, and which.
fn shares(taken: &BTreeMap<String, Vec<(usize, u64)>>, count: u8) -> BTreeMap<u8, usize> {
    let mut owners = BTreeMap::new();
    for (key, messages) in taken {
        let number = partition_of(key.as_bytes(), count);
        for (at, _) in messages {
            let owner = *owners.entry(number).or_insert(*at);
            assert_eq!(owner, *at, "one consumer has all of partition {number}");
        }
    }
    assert_eq!(
        owners.len(),
        usize::from(count),
        "keys reach all partitions"
    );
    owners
}

fn per_client(owners: &BTreeMap<u8, usize>) -> BTreeMap<usize, usize> {
    let mut counts = BTreeMap::new();
    for owner in owners.values() {
        *counts.entry(*owner).or_insert(0) += 1;
    }
    counts
}

#[test]
fn a_queue_with_partitions_is_one_queue_to_its_clients() {
    let mut world = World::new(3);
    let publisher = with_queue(&mut world, 4);
    let leaders: BTreeSet<_> = (0..4)
        .map(|number| server(&mut world, &format!("{QUEUE}#{number}")))
        .collect();
    assert_eq!(leaders.len(), 3, "leaders are spread");
    let mut seq = 0;
    publish_rounds(&mut world, publisher, &mut seq, 0..2);
    wait_for_confirms(&mut world, publisher, seq);
    let other = Client::connect(&mut world, 2);
    assert_eq!(counts(&mut world, other, QUEUE), (48, 0));
    let (part, _) = counts(&mut world, other, "orders#1");
    assert!(part > 0 && part < 48, "{part}");

    // Gets take from the partitions in turn, and find all there is.
    let mut found = BTreeMap::new();
    let mut first = BTreeSet::new();
    for turn in 0..48 {
        let Event::Reply {
            reply: Reply::Got { delivery, .. },
            ..
        } = other.ask(&mut world, get(QUEUE))
        else {
            panic!("a message is missing");
        };
        if turn < 4 {
            first.insert(delivery.queue);
        }
        *found.entry(body(&delivery)).or_insert(0) += 1;
    }
    assert_eq!(first.len(), 4, "each partition has had its turn");
    assert_eq!(
        found,
        BTreeMap::from([("0".to_owned(), 24), ("1".to_owned(), 24)])
    );
    let empty = other.ask(&mut world, get(QUEUE));
    assert!(
        matches!(
            empty,
            Event::Reply {
                reply: Reply::GotNothing,
                ..
            }
        ),
        "{empty:?}"
    );

    publish_rounds(&mut world, publisher, &mut seq, 2..4);
    wait_for_confirms(&mut world, publisher, 48);
    let purge = Request::PurgeQueue {
        channel: CHANNEL,
        queue: name(QUEUE),
    };
    let purged = other.ask(&mut world, purge);
    let reply = |event: Event| match event {
        Event::Reply { reply, .. } => reply,
        event => panic!("{event:?}"),
    };
    assert!(matches!(reply(purged), Reply::QueuePurged { count: 48 }));
    publish_rounds(&mut world, publisher, &mut seq, 4..5);
    wait_for_confirms(&mut world, publisher, 24);
    let deleted = other.ask(&mut world, delete_queue(QUEUE));
    assert!(matches!(reply(deleted), Reply::QueueDeleted { count: 24 }));
    assert_agreed(&mut world);
    for node in world.numbers() {
        assert!(
            world.queue_names(node).is_empty(),
            "its partitions went with it"
        );
    }
    world.check_invariants();
}

#[test]
fn a_partition_cannot_be_deleted_and_flags_are_for_the_whole() {
    let mut world = World::new(3);
    let client = with_queue(&mut world, 2);
    let refused = client.ask(&mut world, delete_queue("orders#1"));
    let Event::Refused { refusal, .. } = refused else {
        panic!("{refused:?}");
    };
    assert!(
        refusal.to_string().contains("partition of queue 'orders'"),
        "{refusal}"
    );
    let client = Client::connect(&mut world, 2);
    client.send(&mut world, publish("", QUEUE, "m", None));
    let if_empty = Request::DeleteQueue {
        channel: CHANNEL,
        queue: name(QUEUE),
        if_unused: false,
        if_empty: true,
    };
    let refused = client.ask(&mut world, if_empty);
    let Event::Refused { refusal, .. } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(refusal.to_string(), "queue 'orders' in vhost '/' not empty");
    assert_eq!(world.queue_names(3).len(), 3);
}

#[test]
fn consumers_share_the_partitions_and_few_move_when_one_comes_or_goes() {
    const COUNT: u8 = 8;
    let mut world = World::new(3);
    let publisher = with_queue(&mut world, COUNT);
    let mut clients: Vec<_> = (1..=3)
        .map(|node| Client::connect(&mut world, node))
        .collect();
    for client in &clients {
        begin_to_consume(&mut world, *client, 10);
    }
    world.run(Duration::from_secs(1));
    let onlooker = Client::connect(&mut world, 3);
    assert_eq!(counts(&mut world, onlooker, QUEUE), (0, 3));
    let mut seq = 0;
    publish_rounds(&mut world, publisher, &mut seq, 0..3);
    let taken = drain(&mut world, &clients, 3 * KEYS);
    let of_three = shares(&taken, COUNT);
    let mut loads: Vec<_> = per_client(&of_three).into_values().collect();
    loads.sort_unstable();
    assert_eq!(loads, [2, 3, 3]);

    let fourth = Client::connect(&mut world, 2);
    begin_to_consume(&mut world, fourth, 10);
    clients.push(fourth);
    world.run(Duration::from_secs(1));
    publish_rounds(&mut world, publisher, &mut seq, 3..5);
    let taken = drain(&mut world, &clients, 2 * KEYS);
    let of_four = shares(&taken, COUNT);
    assert!(
        per_client(&of_four).values().all(|count| *count == 2),
        "{of_four:?}"
    );
    let moved = of_three
        .iter()
        .filter(|(number, at)| of_four[number] != **at);
    assert!(moved.count() <= 4, "{of_three:?} {of_four:?}");

    // One goes without a word.
    let gone = clients.swap_remove(0);
    gone.send(&mut world, Request::CloseConnection);
    gone.wait_for(&mut world, |event| matches!(event, Event::ConnectionClosed));
    world.run(Duration::from_secs(1));
    publish_rounds(&mut world, publisher, &mut seq, 5..6);
    let taken = drain(&mut world, &clients, KEYS);
    let mut loads: Vec<_> = per_client(&shares(&taken, COUNT)).into_values().collect();
    loads.sort_unstable();
    assert_eq!(loads, [2, 3, 3]);
    assert_eq!(counts(&mut world, onlooker, QUEUE), (0, 3));
    world.check_invariants();
}

#[test]
fn a_partition_moves_when_its_consumer_has_settled_what_it_holds() {
    let mut world = World::new(3);
    let publisher = with_queue(&mut world, 2);
    let first = Client::connect(&mut world, 2);
    begin_to_consume(&mut world, first, 10);
    world.run(Duration::from_secs(1));
    let mut seq = 0;
    publish_rounds(&mut world, publisher, &mut seq, 0..1);
    world.run(Duration::from_secs(1));
    let held = deliveries(&mut world, first);
    assert!(held.len() > 10, "{}", held.len());
    let second = Client::connect(&mut world, 3);
    begin_to_consume(&mut world, second, 100);
    world.run(Duration::from_secs(2));
    assert!(
        deliveries(&mut world, second).is_empty(),
        "the first holds both"
    );
    for delivery in &held {
        ack(&mut world, first, delivery);
    }
    let clients = [first, second];
    let taken = drain(&mut world, &clients, KEYS - held.len());
    let owners: BTreeSet<_> = taken.values().flatten().map(|(at, _)| *at).collect();
    assert!(owners.contains(&1), "one partition has moved");
    world.check_invariants();
}

#[test]
fn a_cancelled_consumer_is_gone_from_all_partitions() {
    let mut world = World::new(3);
    let publisher = with_queue(&mut world, 4);
    let client = Client::connect(&mut world, 2);
    let key = begin_to_consume(&mut world, client, 0);
    world.run(Duration::from_secs(1));
    assert_eq!(counts(&mut world, publisher, QUEUE), (0, 1));
    let cancel = Request::Cancel {
        channel: CHANNEL,
        consumer: key,
    };
    let event = client.ask(&mut world, cancel);
    let Event::Reply {
        reply: Reply::Cancelled { consumer },
        ..
    } = event
    else {
        panic!("{event:?}");
    };
    assert_eq!(consumer, key);
    let mut seq = 0;
    publish_rounds(&mut world, publisher, &mut seq, 0..1);
    wait_for_confirms(&mut world, publisher, seq);
    world.run(Duration::from_secs(1));
    assert!(deliveries(&mut world, client).is_empty());
    assert_eq!(counts(&mut world, publisher, QUEUE), (KEYS as u64, 0));
    // The same tag may be used again, and closing the channel ends it everywhere as well.
    begin_to_consume(&mut world, client, 5);
    next_delivery(&mut world, client);
    client.send(&mut world, Request::CloseChannel { channel: CHANNEL });
    client.wait_for(&mut world, |event| {
        matches!(event, Event::ChannelClosed { .. })
    });
    world.run(Duration::from_secs(1));
    assert_eq!(counts(&mut world, publisher, QUEUE), (KEYS as u64, 0));
    world.check_invariants();
}

#[test]
fn consumers_are_told_once_that_their_queue_is_gone() {
    let mut world = World::new(3);
    let publisher = with_queue(&mut world, 4);
    let client = Client::connect(&mut world, 2);
    let key = begin_to_consume(&mut world, client, 0);
    world.run(Duration::from_secs(1));
    publisher.ask(&mut world, delete_queue(QUEUE));
    world.run(Duration::from_secs(1));
    let heard = client.heard(&mut world).into_iter();
    let gone: Vec<_> = heard
        .filter_map(|event| match event {
            Event::ConsumerCancelled { consumer, .. } => Some(consumer),
            _ => None,
        })
        .collect();
    assert_eq!(gone.iter().filter(|it| **it == key).count(), 1);
    world.check_invariants();
}

/// Each key's messages come first in the order of their rounds, whatever dies: only repeats come
/// late.
fn assert_in_order(taken: &BTreeMap<String, Vec<(usize, u64)>>, rounds: u64) {
    for (key, messages) in taken {
        let mut next = 0;
        for (_, round) in messages {
            assert!(*round <= next, "{key}: {round} before {next}: {messages:?}");
            next = next.max(round + 1);
        }
        assert_eq!(next, rounds, "{key}");
    }
    assert_eq!(taken.len(), KEYS);
}

#[test]
fn order_per_key_outlives_the_leader_of_a_partition() {
    for victim in [1, 2] {
        let mut world = World::new(3);
        with_queue(&mut world, 4);
        let publisher = Client::connect(&mut world, 3);
        let clients = [3, 3, 3].map(|node| Client::connect(&mut world, node));
        for client in clients {
            begin_to_consume(&mut world, client, 5);
        }
        world.run(Duration::from_secs(1));
        let mut seq = 0;
        publish_rounds(&mut world, publisher, &mut seq, 0..5);
        world.run(Duration::from_millis(20));
        world.kill(victim);
        publish_rounds(&mut world, publisher, &mut seq, 5..10);
        wait_for_confirms(&mut world, publisher, seq);
        // Messages that were delivered before are acked now.
        let mut taken: BTreeMap<String, Vec<(usize, u64)>> = BTreeMap::new();
        world.run_until("every round of every key has come", |world| {
            for (at, client) in clients.iter().enumerate() {
                for delivery in deliveries(world, *client) {
                    let key = delivery.message.routing_key().to_vec();
                    let key = String::from_utf8(key).unwrap();
                    let round = body(&delivery).parse().unwrap();
                    taken.entry(key).or_default().push((at, round));
                    ack(world, *client, &delivery);
                }
            }
            let is_complete = |messages: &Vec<(usize, u64)>| messages.iter().any(|it| it.1 == 9);
            taken.len() == KEYS && taken.values().all(is_complete)
        });
        assert_in_order(&taken, 10);
        world.check_invariants();
    }
}

/// Kills two of some partition's three nodes, and not the first node: who was killed, and which
/// partitions have lost their majority.
fn kill_a_majority(world: &mut World, count: u8) -> (Vec<usize>, BTreeSet<u8>) {
    let members = |number: u8| -> Vec<usize> {
        let found = replicas(world, 1, &format!("{QUEUE}#{number}")).replicas;
        let of = |node: &usize| {
            let node = name(&format!("n{node}"));
            found.iter().any(|replica| replica.node == node)
        };
        (2..=5).filter(of).collect()
    };
    let all: Vec<Vec<usize>> = (0..count).map(members).collect();
    let chosen = all.iter().find(|members| members.len() >= 2).unwrap();
    let killed: Vec<usize> = chosen.iter().copied().take(2).collect();
    let is_lost = |number: &u8| {
        let members = &all[usize::from(*number)];
        killed.iter().all(|node| members.contains(node))
    };
    let lost: BTreeSet<u8> = (0..count).filter(is_lost).collect();
    assert!(lost.len() < usize::from(count), "some are left");
    for node in &killed {
        world.kill(*node);
    }
    world.run(Duration::from_secs(3));
    (killed, lost)
}

/// The nodes name these partitions, and no others, as those that have no leader.
fn assert_stand_still(world: &mut World, lost: &BTreeSet<u8>) {
    let mut named = BTreeSet::new();
    for node in world.running() {
        let AdminAnswer::Cluster(Some(status)) = world.ask(node, AdminRequest::ClusterStatus)
        else {
            panic!("it is a cluster");
        };
        named.extend(status.leaderless.into_iter().map(|(_, queue)| queue));
    }
    let expected = lost.iter().map(|number| name(&format!("{QUEUE}#{number}")));
    assert_eq!(named, expected.collect());
    for (part, replicas) in replicas(world, 1, QUEUE).partitions {
        assert_eq!(replicas.leader.is_none(), named.contains(&part), "{part}");
    }
}

#[test]
fn the_loss_of_one_partition_leaves_the_others_working() {
    const COUNT: u8 = 10;
    let mut world = World::new(5);
    let client = with_queue(&mut world, COUNT);
    let consumer = Client::connect(&mut world, 1);
    begin_to_consume(&mut world, consumer, 0);
    world.run(Duration::from_secs(1));
    let (killed, lost) = kill_a_majority(&mut world, COUNT);

    let mut seq = 0;
    publish_rounds(&mut world, client, &mut seq, 0..2);
    let goes_on = |number: usize| {
        let partition = partition_of(key(number).as_bytes(), COUNT);
        !lost.contains(&partition)
    };
    let living = (0..KEYS).filter(|number| goes_on(*number)).count();
    assert!(living < KEYS, "some keys wait");
    // The confirms of the others are not held up on the same channel, and consumers get them.
    wait_for_confirms(&mut world, client, 2 * living as u64);
    let taken = drain(&mut world, &[consumer], 2 * living);
    let is_living = |key: &String| !lost.contains(&partition_of(key.as_bytes(), COUNT));
    assert!(taken.keys().all(is_living), "{taken:?}");
    // Counts are those of the others, and gets pass over what stands still.
    let other = Client::connect(&mut world, 1);
    assert_eq!(counts(&mut world, other, QUEUE), (0, 1));
    let empty = other.ask(&mut world, get(QUEUE));
    assert!(
        matches!(
            empty,
            Event::Reply {
                reply: Reply::GotNothing,
                ..
            }
        ),
        "{empty:?}"
    );
    // A new consumer is registered at once, and has its share of those that live.
    begin_to_consume(&mut world, other, 0);
    let purge = Request::PurgeQueue {
        channel: CHANNEL,
        queue: name(QUEUE),
    };
    let third = Client::connect(&mut world, 1);
    let refused = third.ask(&mut world, purge);
    let Event::Refused { refusal, .. } = refused else {
        panic!("{refused:?}");
    };
    assert!(refusal.to_string().contains("has no majority"), "{refusal}");
    assert_stand_still(&mut world, &lost);

    for node in killed {
        world.start(node);
    }
    wait_for_confirms(&mut world, client, 2 * (KEYS - living) as u64);
    drain(&mut world, &[consumer, other], 2 * (KEYS - living));
    world.run(Duration::from_secs(1));
    world.check_invariants();
    let third = Client::connect(&mut world, 1);
    assert_eq!(counts(&mut world, third, QUEUE).0, 0);
}

#[test]
fn a_node_of_a_cluster_finds_its_partitions_again() {
    let mut world = World::new(3);
    let publisher = with_queue(&mut world, 4);
    let mut seq = 0;
    publish_rounds(&mut world, publisher, &mut seq, 0..2);
    wait_for_confirms(&mut world, publisher, seq);
    for node in world.numbers() {
        world.crash(node, 7);
    }
    for node in world.numbers() {
        world.start(node);
    }
    for number in 0..4 {
        server(&mut world, &format!("{QUEUE}#{number}"));
    }
    let client = Client::connect(&mut world, 2);
    begin_to_consume(&mut world, client, 0);
    let taken = drain(&mut world, &[client], 2 * KEYS);
    assert_in_order(&taken, 2);
    assert_eq!(world.queue_names(1).len(), 5);
    let again = client.ask(
        &mut world,
        declare_queue(QUEUE, quorum_with(|table| table.int("x-partitions", 4))),
    );
    assert!(matches!(again, Event::Reply { .. }), "{again:?}");
    world.check_invariants();
}
