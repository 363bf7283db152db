//! Who leads, and what becomes of a member that was away for long.

use std::time::Duration;

use staunch_broker::{CatalogCommand, NodeCommand};
use staunch_node::{AdminAnswer, AdminRequest, LivenessConfig, OnRefusal, QueueReplicas};
use staunch_types::NodeId;

use crate::{
    client::{Client, name, publish},
    edges::{counts, declare, got, publish_all, quorum, server, wait_for_answers},
    machine::node_name,
    world::World,
};

pub(crate) fn replicas(world: &mut World, node: usize, queue: &str) -> QueueReplicas {
    let request = AdminRequest::QueueReplicas {
        vhost: name("/"),
        name: name(queue),
    };
    match world.ask(node, request) {
        AdminAnswer::Replicas(Some(replicas)) => replicas,
        answer => panic!("{answer:?}"),
    }
}

/// Waits until all members have everything that the leader has.
#[track_caller]
pub(crate) fn wait_until_level(world: &mut World, queue: &str) {
    world.run_until("all members have everything", |world| {
        let leader = server(world, queue);
        let members = replicas(world, leader, queue).replicas;
        let is_level = |it: &staunch_node::ReplicaStatus| {
            it.is_up && !it.needs_snapshot && it.behind == Some(0)
        };
        members.iter().all(is_level)
    });
}

pub(crate) fn set_drained(world: &mut World, node: usize, is_drained: bool) {
    let node = NodeId(node as u64);
    let command = CatalogCommand::Node(NodeCommand::Drain { node, is_drained });
    let request = AdminRequest::Apply {
        commands: vec![command],
        on_refusal: OnRefusal::Stop,
    };
    let answer = world.ask(1, request);
    assert!(
        matches!(&answer, AdminAnswer::Applied(results) if results.iter().all(Result::is_ok)),
        "{answer:?}"
    );
}

#[test]
fn a_member_that_was_away_for_long_gets_the_whole_queue() {
    const COUNT: u64 = 600;
    const SIZE_BYTES: usize = 4096;
    let mut world = World::new(3);
    let client = Client::connect(&mut world, 1);
    declare(&mut world, client, "q", quorum());
    let leader = server(&mut world, "q");
    let away = world.numbers().find(|node| *node != leader).unwrap();
    let other = world
        .numbers()
        .find(|node| ![leader, away].contains(node))
        .unwrap();
    let client = Client::connect(&mut world, leader);
    wait_until_level(&mut world, "q");
    world.kill(away);
    // More than a leader keeps in memory for those who lag.
    for number in 1..=COUNT {
        let body = format!("{number:0SIZE_BYTES$}");
        client.send(&mut world, publish("", "q", &body, Some(number)));
        if number % 50 == 0 {
            assert_eq!(wait_for_answers(&mut world, client, 50), [0_u64; 0]);
        }
    }
    // Some of it is gone again, in the middle of what is to be sent.
    for _ in 0..100 {
        assert!(got(&mut world, client, "q").is_some());
    }
    world.start(away);
    world.run_until("the member needs all of it", |world| {
        let members = replicas(world, leader, "q").replicas;
        let away = node_name(away);
        members
            .iter()
            .any(|it| it.node == away && it.needs_snapshot)
    });
    // It goes on all the while.
    publish_all(&mut world, client, "q", COUNT + 1, 20);
    assert_eq!(wait_for_answers(&mut world, client, 20), [0_u64; 0]);
    wait_until_level(&mut world, "q");
    world.check_invariants();
    // What it was given is all there, also after a restart, without those it had it from.
    world.crash(away, 7);
    world.start(away);
    wait_until_level(&mut world, "q");
    world.kill(leader);
    let client = Client::connect(&mut world, away);
    assert_eq!(counts(&mut world, client, "q").0, COUNT - 100 + 20);
    for number in 101..=COUNT {
        let (body, _) = got(&mut world, client, "q").unwrap();
        assert_eq!(body.trim_start_matches('0'), number.to_string());
    }
    let _ = other;
    world.check_invariants();
}

#[test]
fn a_drained_node_leads_nothing_until_it_is_revived() {
    let mut world = World::new(3);
    let client = Client::connect(&mut world, 1);
    for queue in ["a", "b", "c"] {
        declare(&mut world, client, queue, quorum());
    }
    let leads = |world: &mut World, node: usize| {
        let queues = ["a", "b", "c"];
        let servers = queues.map(|queue| server(world, queue));
        servers.iter().filter(|server| **server == node).count()
    };
    world.run(Duration::from_secs(10));
    for node in 1..=3 {
        assert_eq!(leads(&mut world, node), 1, "leaders are spread");
    }
    set_drained(&mut world, 2, true);
    world.run_until("it leads nothing", |world| leads(world, 2) == 0);
    // Neither does it get what is new.
    for queue in ["d", "e", "f"] {
        declare(&mut world, client, queue, quorum());
        assert_ne!(server(&mut world, queue), 2);
    }
    world.run(Duration::from_secs(10));
    assert_eq!(leads(&mut world, 2), 0);
    set_drained(&mut world, 2, false);
    world.run_until("it leads again", |world| leads(world, 2) == 1);
}

#[test]
fn the_primary_leads_everything_and_gets_it_back() {
    let mut world = World::with(3, |config| {
        config.cluster.as_mut().unwrap().primary = Some(node_name(2));
    });
    let client = Client::connect(&mut world, 1);
    for queue in ["a", "b", "c"] {
        declare(&mut world, client, queue, quorum());
        assert_eq!(server(&mut world, queue), 2);
    }
    world.kill(2);
    publish_all(&mut world, client, "a", 1, 10);
    assert_eq!(wait_for_answers(&mut world, client, 10), [0_u64; 0]);
    for queue in ["a", "b", "c"] {
        assert_ne!(server(&mut world, queue), 2);
    }
    world.start(2);
    world.run_until("it has everything back", |world| {
        ["a", "b", "c"]
            .iter()
            .all(|queue| server(world, queue) == 2)
    });
    assert_eq!(counts(&mut world, client, "a").0, 10);
}

#[test]
fn a_cluster_that_has_nothing_to_do_sends_heartbeats_only() {
    let mut world = World::new(3);
    let client = Client::connect(&mut world, 1);
    let names: Vec<_> = (0..40).map(|number| format!("q{number}")).collect();
    for name in &names {
        declare(&mut world, client, name, quorum());
    }
    for (seq, name) in (1..).zip(&names) {
        client.send(&mut world, publish("", name, "body", Some(seq)));
    }
    wait_for_answers(&mut world, client, 40);
    // A killed node's groups go on, and are asleep as well once it is given up.
    world.kill(3);
    for (seq, name) in (41..).zip(&names) {
        client.send(&mut world, publish("", name, "body", Some(seq)));
    }
    wait_for_answers(&mut world, client, 40);
    world.run(Duration::from_secs(10));
    world.take_frame_counts();
    world.run(Duration::from_secs(10));
    let (heartbeats, others) = world.take_frame_counts();
    assert_eq!(others, 0, "groups of queues that nobody uses are silent");
    let period = LivenessConfig::default().heartbeat;
    // Two nodes, and each heartbeat is answered.
    let most = 4 * (10_000 / usize::try_from(period.as_millis()).unwrap() + 1);
    assert!(
        (1..=most).contains(&heartbeats),
        "{heartbeats} of at most {most}"
    );
}
