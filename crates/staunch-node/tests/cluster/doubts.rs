//! What a client was not told, or its node was told by somebody who is not the server any more, is
//! not taken for done.

use std::time::Duration;

use staunch_log::Disk;
use staunch_node::Input;
use staunch_types::{Event, Outcome, Reply, Request, field_table::TableBuilder};

use crate::{
    client::{CHANNEL, Client, look_for_queue, name, publish},
    edges::{
        begin_to_consume, body, classic, declare, get, got, next_delivery, publish_all, quorum,
        quorum_with, server, settle, wait_for_answers,
    },
    world::World,
};

fn is_purged(event: &Event) -> bool {
    let Event::Reply { reply, .. } = event else {
        return false;
    };
    matches!(reply, Reply::QueuePurged { .. })
}

/// At most one message; others are refused.
fn one_at_most(table: TableBuilder) -> TableBuilder {
    table
        .long("x-max-length", 1)
        .longstr("x-overflow", "reject-publish")
}

#[test]
fn a_leader_that_is_cut_off_does_not_say_that_it_has_purged() {
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 1);
    declare(&mut world, a, "q", quorum());
    let leader = server(&mut world, "q");
    let own = Client::connect(&mut world, leader);
    let other = Client::connect(&mut world, 1 + leader % 3);
    publish_all(&mut world, other, "q", 1, 3);
    assert_eq!(wait_for_answers(&mut world, other, 3), [0_u64; 0]);
    world.isolate(leader);
    let queue = name("q");
    let channel = CHANNEL;
    own.send(&mut world, Request::PurgeQueue { channel, queue });
    world.run(Duration::from_secs(3));
    let heard = own.heard(&mut world);
    assert!(!heard.iter().any(is_purged), "{heard:?}");
    assert_eq!(got(&mut world, other, "q"), Some(("m1".to_owned(), 2)));
    // Who is told at last can rely on it.
    world.mend();
    own.wait_for(&mut world, is_purged);
    assert_eq!(got(&mut world, other, "q"), None);
}

#[test]
fn a_leader_that_has_stood_still_does_not_say_that_nothing_is_there() {
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 1);
    declare(&mut world, a, "q", quorum());
    let leader = server(&mut world, "q");
    let own = Client::connect(&mut world, leader);
    let second = Client::connect(&mut world, leader);
    let other = Client::connect(&mut world, 1 + leader % 3);
    world.run(Duration::from_secs(1));
    world.stop(leader);
    publish_all(&mut world, other, "q", 1, 3);
    assert_eq!(wait_for_answers(&mut world, other, 3), [0_u64; 0]);
    let late = world.go_on();
    own.send(&mut world, get("q"));
    second.send(&mut world, look_for_queue("q"));
    world.run(Duration::from_millis(10));
    for input in late {
        world.give(leader, Input::Peer(input));
    }
    second.wait_for(&mut world, |event| {
        let Event::Reply { reply, .. } = event else {
            return false;
        };
        assert!(
            matches!(reply, Reply::QueueDeclared { ready_count, .. } if *ready_count >= 2),
            "{reply:?}"
        );
        true
    });
    own.wait_for(&mut world, |event| {
        let Event::Reply { reply, .. } = event else {
            return false;
        };
        assert!(matches!(reply, Reply::Got { .. }), "{reply:?}");
        true
    });
    world.check_invariants();
}

#[test]
fn a_leader_that_nobody_hears_does_not_say_that_nothing_is_there() {
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 1);
    declare(&mut world, a, "q", quorum());
    let leader = server(&mut world, "q");
    let own = Client::connect(&mut world, leader);
    let second = Client::connect(&mut world, leader);
    let other = Client::connect(&mut world, 1 + leader % 3);
    world.run(Duration::from_secs(1));
    world.mute(leader);
    publish_all(&mut world, other, "q", 1, 3);
    assert_eq!(wait_for_answers(&mut world, other, 3), [0_u64; 0]);
    own.send(&mut world, get("q"));
    second.send(&mut world, look_for_queue("q"));
    world.run(Duration::from_millis(10));
    let is_reply = |event: &Event| matches!(event, Event::Reply { .. });
    let mut heard = own.heard(&mut world);
    heard.extend(second.heard(&mut world));
    assert!(!heard.iter().any(is_reply), "{heard:?}");
    world.unmute();
    let is_declared = |event: &Event| {
        let Event::Reply { reply, .. } = event else {
            return false;
        };
        matches!(reply, Reply::QueueDeclared { ready_count, .. } if *ready_count >= 2)
    };
    second.wait_for(&mut world, is_declared);
    own.wait_for(&mut world, |event| {
        matches!(
            event,
            Event::Reply {
                reply: Reply::Got { .. },
                ..
            }
        )
    });
    world.check_invariants();
}

#[test]
fn the_answer_to_what_was_given_up_is_not_taken_for_that_to_what_was_asked_next() {
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 1);
    declare(&mut world, a, "q", quorum());
    let leader = server(&mut world, "q");
    let own = Client::connect(&mut world, leader);
    declare(&mut world, own, "home", classic(&["durable"]));
    let other = Client::connect(&mut world, 1 + leader % 3);
    publish_all(&mut world, other, "q", 1, 3);
    assert_eq!(wait_for_answers(&mut world, other, 3), [0_u64; 0]);
    publish_all(&mut world, other, "home", 4, 4);
    assert_eq!(wait_for_answers(&mut world, other, 4), [0_u64; 0]);
    assert_eq!(got(&mut world, other, "q"), Some(("m1".to_owned(), 2)));
    world.stop(leader);
    assert_eq!(got(&mut world, other, "q"), Some(("m2".to_owned(), 1)));
    other.send(&mut world, get("home"));
    world.run(Duration::from_millis(10));
    for input in world.go_on() {
        world.give(leader, Input::Peer(input));
    }
    let is_reply = |event: &Event| matches!(event, Event::Reply { .. });
    let Event::Reply { reply, .. } = other.wait_for(&mut world, is_reply) else {
        unreachable!("it is one");
    };
    let Reply::Got { delivery, .. } = reply else {
        panic!("{reply:?}");
    };
    assert_eq!(body(&delivery), "m4");
    // What was got in vain is there again.
    assert_eq!(got(&mut world, other, "q"), Some(("m3".to_owned(), 0)));
    world.check_invariants();
}

#[test]
fn what_was_got_of_a_node_that_stays_away_can_still_be_settled() {
    let mut world = World::new(3);
    let own = Client::connect(&mut world, 2);
    declare(&mut world, own, "home", classic(&["durable"]));
    let client = Client::connect(&mut world, 1);
    publish_all(&mut world, client, "home", 1, 1);
    assert_eq!(wait_for_answers(&mut world, client, 1), [0_u64; 0]);
    client.send(&mut world, get("home"));
    let is_got = |event: &Event| matches!(event, Event::Reply { .. });
    let Event::Reply {
        reply: Reply::Got { delivery, .. },
        ..
    } = client.wait_for(&mut world, is_got)
    else {
        panic!("nothing was got");
    };
    world.kill(2);
    world.run(Duration::from_secs(8));
    // Who only gets has no consumer that could be cancelled.
    assert_eq!(client.heard(&mut world).len(), 0);
    client.send(&mut world, settle(&delivery, Outcome::Requeue));
    world.run(Duration::from_secs(1));
    world.check_invariants();
}

#[test]
fn what_a_full_queue_has_refused_stays_refused_when_the_answer_is_lost_with_its_link() {
    for millis in 0..8 {
        let mut world = World::new(5);
        let a = Client::connect(&mut world, 1);
        declare(&mut world, a, "full", quorum_with(one_at_most));
        let leader = server(&mut world, "full");
        publish_all(&mut world, a, "full", 1, 1);
        assert_eq!(wait_for_answers(&mut world, a, 1), [0_u64; 0]);
        for node in world.numbers().filter(|node| *node != leader) {
            let client = Client::connect(&mut world, node);
            client.send(&mut world, publish("", "full", "late", Some(1)));
            world.run(Duration::from_millis(millis));
            world.cut(leader, node);
            world.mend();
            let refused = wait_for_answers(&mut world, client, 1);
            assert_eq!(refused, [1], "node {node}, after {millis} ms");
        }
    }
}

#[test]
fn what_a_full_queue_has_refused_is_not_confirmed_by_its_next_leader() {
    for millis in 0..8 {
        let mut world = World::new(3);
        let a = Client::connect(&mut world, 1);
        declare(&mut world, a, "full", quorum_with(one_at_most));
        let leader = server(&mut world, "full");
        publish_all(&mut world, a, "full", 1, 1);
        assert_eq!(wait_for_answers(&mut world, a, 1), [0_u64; 0]);
        let others: Vec<_> = world.numbers().filter(|node| *node != leader).collect();
        let connect = |node: usize| Client::connect(&mut world, node);
        let clients: Vec<_> = others.into_iter().map(connect).collect();
        for client in &clients {
            client.send(&mut world, publish("", "full", "late", Some(1)));
        }
        world.run(Duration::from_millis(millis));
        world.kill(leader);
        for client in clients {
            let refused = wait_for_answers(&mut world, client, 1);
            assert_eq!(refused, [1], "after {millis} ms");
        }
    }
}

#[test]
fn a_settlement_is_not_for_a_message_that_came_after_the_queues_only_node_had_restarted() {
    for millis in 0..6 {
        let mut world = World::new(3);
        let a = Client::connect(&mut world, 1);
        declare(&mut world, a, "q", classic(&["durable"]));
        let client = Client::connect(&mut world, 2);
        begin_to_consume(&mut world, client, "q", 10);
        // The first one has the queue reserve deliveries ahead.
        publish_all(&mut world, a, "q", 1, 1);
        let first = next_delivery(&mut world, client);
        client.send(&mut world, settle(&first, Outcome::Ack));
        world.run(Duration::from_millis(100));
        a.send(&mut world, publish("", "q", "old", None));
        world.run(Duration::from_millis(millis));
        world.crash(1, 3);
        world.run(Duration::from_millis(20));
        let heard = client.heard(&mut world);
        let old = heard.into_iter().find_map(|event| match event {
            Event::Delivery(delivery) => Some(delivery),
            _ => None,
        });
        world.start(1);
        let b = Client::connect(&mut world, 3);
        publish_all(&mut world, b, "q", 1, 1);
        assert_eq!(wait_for_answers(&mut world, b, 1), [0_u64; 0]);
        if let Some(old) = old {
            client.send(&mut world, settle(&old, Outcome::Ack));
        }
        let mut came = body(&next_delivery(&mut world, client));
        if came == "old" {
            came = body(&next_delivery(&mut world, client));
        }
        assert_eq!(came, "m1", "after {millis} ms");
    }
}

#[test]
fn nothing_comes_of_a_transient_queue_whose_node_has_restarted() {
    for is_damaged in [false, true] {
        restart_home_of_transient_queue(is_damaged);
    }
}

/// Its node knows of the queue from its disk, or hears of it from the others.
fn restart_home_of_transient_queue(is_damaged: bool) {
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 1);
    declare(&mut world, a, "q", classic(&[]));
    let client = Client::connect(&mut world, 2);
    begin_to_consume(&mut world, client, "q", 2);
    let other = Client::connect(&mut world, 3);
    publish_all(&mut world, other, "q", 1, 2);
    for _ in 0..2 {
        next_delivery(&mut world, client);
    }
    world.kill(1);
    if is_damaged {
        let disk = world.disk(1);
        let names = disk.list().unwrap();
        let young = names.iter().find(|name| name.starts_with("young"));
        disk.flip_bit(young.unwrap(), 80);
    }
    other.send(&mut world, publish("", "q", "late", None));
    world.start(1);
    world.run(Duration::from_secs(3));
    let heard = client.heard(&mut world);
    let is_over = |event: &Event| matches!(event, Event::ConsumerCancelled { .. });
    assert!(heard.iter().any(is_over), "{heard:?}");
    let has_come = |event: &Event| matches!(event, Event::Delivery(_));
    assert!(!heard.iter().any(has_come), "{heard:?}");
    assert!(!world.queue_names(2).contains("q"));
    world.check_invariants();
}

#[test]
fn what_died_because_a_link_broke_and_was_acked_meanwhile_is_settled() {
    for is_claimed in [false, true] {
        ack_what_has_died(is_claimed);
    }
}

/// Before the consumer is claimed, or behind that.
fn ack_what_has_died(is_claimed: bool) {
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 1);
    declare(&mut world, a, "grave", quorum_with(one_at_most));
    publish_all(&mut world, a, "grave", 1, 1);
    assert_eq!(wait_for_answers(&mut world, a, 1), [0_u64; 0]);
    let once = |table: TableBuilder| {
        table
            .long("x-delivery-limit", 0)
            .longstr("x-dead-letter-exchange", "")
            .longstr("x-dead-letter-routing-key", "grave")
            .longstr("x-dead-letter-strategy", "at-least-once")
            .longstr("x-overflow", "reject-publish")
    };
    declare(&mut world, a, "q", quorum_with(once));
    let leader = server(&mut world, "q");
    let client = Client::connect(&mut world, 1 + leader % 3);
    publish_all(&mut world, client, "q", 1, 3);
    assert_eq!(wait_for_answers(&mut world, client, 3), [0_u64; 0]);
    begin_to_consume(&mut world, client, "q", 0);
    let held: Vec<_> = (0..3).map(|_| next_delivery(&mut world, client)).collect();
    // The leader has lost sight of the consumer for longer than a claim lasts: what that held has
    // been given back once too often, and there is no room where it goes.
    world.cut(leader, client.node);
    world.run(Duration::from_millis(100));
    if is_claimed {
        world.mend();
        world.run(Duration::from_millis(100));
    }
    for delivery in &held {
        client.send(&mut world, settle(delivery, Outcome::Ack));
    }
    world.mend();
    client.send(&mut world, Request::CloseChannel { channel: CHANNEL });
    client.wait_for(&mut world, |event| {
        matches!(event, Event::ChannelClosed { .. })
    });
    world.kill(leader);
    let client = Client::connect(&mut world, client.node);
    world.run(Duration::from_secs(2));
    assert_eq!(got(&mut world, client, "q"), None);
    world.check_invariants();
}
