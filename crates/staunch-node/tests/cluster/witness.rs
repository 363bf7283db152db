//! Two nodes that keep messages and a witness: nodes 1 and 2, and 3.

use std::time::Duration;

use staunch_log::Disk;
use staunch_node::{AdminAnswer, NodeConfig, StartError};
use staunch_types::{Event, NodeId};

use crate::{
    client::{Client, publish},
    definitions::assert_agreed,
    edges::{
        classic, counts, declare, got, publish_all, quorum, quorum_with, server, wait_for_answers,
    },
    leaders::{replicas, wait_until_level},
    machine::node_name,
    members::{
        assert_done, assert_holds, queue_of, remove, status, try_to_place, voters,
        wait_until_joined, wait_until_kept_by,
    },
    world::World,
};

const WITNESS: usize = 3;

/// Nodes 1 and 2 keep messages, 1 is the primary; 3 is a witness.
fn standby() -> World {
    World::with(3, be_standby)
}

fn be_standby(config: &mut NodeConfig) {
    let cluster = config.cluster.as_mut().unwrap();
    cluster.primary = Some(node_name(1));
    cluster.is_witness = cluster.me == node_name(WITNESS);
}

/// A cluster with a queue `q`, and a client of node 2.
fn with_queue() -> (World, Client) {
    let mut world = standby();
    let client = Client::connect(&mut world, 2);
    declare(&mut world, client, "q", quorum());
    wait_until_kept_by(&mut world, "q", &[1, 2, WITNESS]);
    (world, client)
}

/// Ids of the nodes that are to keep a queue, in order.
#[track_caller]
fn placement(world: &mut World, queue: &str) -> Vec<u64> {
    let (_, placement) = queue_of(world, 1, queue);
    let members = placement.members.iter().map(|node| node.0);
    let mut members: Vec<u64> = members.collect();
    members.sort_unstable();
    members
}

fn single_copies(world: &mut World, node: usize) -> usize {
    status(world, node).single_copy_count
}

/// Whether a node's disk has `text` anywhere.
fn holds(world: &World, node: usize, text: &str) -> bool {
    let disk = world.disk(node);
    let names = disk.list().unwrap();
    names.iter().any(|name| {
        let content = disk.file(name);
        let mut parts = content.windows(text.len());
        parts.any(|part| part == text.as_bytes())
    })
}

/// Publishes `count` messages with numbers from `first` on, whose bodies are found on disks.
#[track_caller]
fn publish_marked(world: &mut World, client: Client, first: u64, count: u64) {
    for number in first..first + count {
        let body = format!("marked body {number}");
        client.send(world, publish("", "q", &body, Some(number)));
    }
    assert_eq!(wait_for_answers(world, client, count), [0_u64; 0]);
    wait_until_level(world, "q");
}

#[test]
fn queues_are_placed_beside_a_witness_which_keeps_nothing_of_them() {
    let (mut world, client) = with_queue();
    let two = quorum_with(|table| table.int("x-quorum-initial-group-size", 2));
    declare(&mut world, client, "two", two);
    declare(&mut world, client, "alone", classic(&["durable"]));
    let many = quorum_with(|table| table.int("x-partitions", 4));
    declare(&mut world, client, "many", many);
    assert_eq!(placement(&mut world, "two"), [1, 2]);
    assert_eq!(placement(&mut world, "alone"), [2]);
    for part in 0..4 {
        assert_eq!(placement(&mut world, &format!("many#{part}")), [1, 2, 3]);
    }
    publish_marked(&mut world, client, 1, 100);
    assert_eq!(server(&mut world, "q"), 1);
    let holders = (1..=3).filter(|node| holds(&world, *node, "marked body 57"));
    assert_eq!(holders.collect::<Vec<_>>(), [1, 2]);
    assert_eq!(single_copies(&mut world, 1), 0);
    let members = replicas(&mut world, 1, "q").replicas;
    let witnesses = members.iter().filter(|it| it.is_witness);
    assert_eq!(
        witnesses.map(|it| &it.node).collect::<Vec<_>>(),
        [&node_name(WITNESS)]
    );
    world.check_invariants();
    assert_agreed(&mut world);
}

#[test]
fn a_witness_turns_clients_away() {
    let (mut world, _) = with_queue();
    let client = Client::begin_to_connect(&mut world, WITNESS);
    let told = client.wait_for(&mut world, |_| true);
    let Event::Forced { reason } = told else {
        panic!("{told:?}");
    };
    assert!(reason.contains("witness"), "{reason}");
}

#[test]
fn the_primary_is_killed_under_load_and_the_other_takes_over_with_everything() {
    for seed in 0..20 {
        let (mut world, client) = with_queue();
        world.run_until("the primary leads", |world| server(world, "q") == 1);
        for number in 1..=200 {
            client.send(
                &mut world,
                publish("", "q", &format!("m{number}"), Some(number)),
            );
            if number % 5 == 0 {
                world.run(Duration::from_millis(1));
            }
            if number == 100 + seed {
                world.crash(1, seed);
            }
        }
        assert_eq!(wait_for_answers(&mut world, client, 200), [0_u64; 0]);
        assert_eq!(server(&mut world, "q"), 2);
        assert_eq!(single_copies(&mut world, 2), 1);
        world.start(1);
        world.run_until("it has its queue back", |world| server(world, "q") == 1);
        wait_until_level(&mut world, "q");
        assert_eq!(single_copies(&mut world, 1), 0);
        assert_holds(&mut world, client, "q", 1, 200);
        world.check_invariants();
    }
}

#[test]
fn what_only_one_node_has_is_not_given_up_by_electing_the_other() {
    let (mut world, client) = with_queue();
    publish_all(&mut world, client, "q", 1, 10);
    assert_eq!(wait_for_answers(&mut world, client, 10), [0_u64; 0]);
    wait_until_level(&mut world, "q");
    // Confirmed by 1 and the witness: the messages are on one disk.
    world.kill(2);
    let client = Client::connect(&mut world, 1);
    publish_all(&mut world, client, "q", 11, 10);
    assert_eq!(wait_for_answers(&mut world, client, 10), [0_u64; 0]);
    assert_eq!(single_copies(&mut world, 1), 1);
    // 2 and the witness are a majority, and 2 lacks something.
    world.kill(1);
    world.start(2);
    world.run(Duration::from_secs(30));
    assert_eq!(replicas(&mut world, 2, "q").leader, None);
    assert_eq!(status(&mut world, 2).leaderless_count, 1);
    // Other queues go on, and can be declared.
    let client = Client::connect(&mut world, 2);
    declare(&mut world, client, "other", quorum());
    publish_all(&mut world, client, "other", 1, 5);
    assert_eq!(wait_for_answers(&mut world, client, 5), [0_u64; 0]);
    world.start(1);
    wait_until_level(&mut world, "q");
    assert_eq!(counts(&mut world, client, "q").0, 20);
    // Now that it has everything, it is elected.
    world.kill(1);
    assert_eq!(server(&mut world, "q"), 2);
    assert_holds(&mut world, client, "q", 1, 20);
    world.check_invariants();
}

#[test]
fn of_two_nodes_that_do_not_hear_each_other_the_one_that_leads_goes_on() {
    let (mut world, _) = with_queue();
    wait_until_level(&mut world, "q");
    assert_eq!(server(&mut world, "q"), 1);
    world.cut(1, 2);
    let client = Client::connect(&mut world, 1);
    publish_all(&mut world, client, "q", 1, 10);
    assert_eq!(wait_for_answers(&mut world, client, 10), [0_u64; 0]);
    assert_eq!(single_copies(&mut world, 1), 1);
    world.run(Duration::from_secs(10));
    assert_eq!(
        replicas(&mut world, WITNESS, "q").leader,
        Some(node_name(1))
    );
    world.mend();
    wait_until_level(&mut world, "q");
    assert_eq!(single_copies(&mut world, 1), 0);
    assert_holds(&mut world, client, "q", 1, 10);
}

#[test]
fn a_witness_without_its_disk_is_another_and_votes_when_it_has_caught_up() {
    let (mut world, client) = with_queue();
    publish_all(&mut world, client, "q", 1, 10);
    assert_eq!(wait_for_answers(&mut world, client, 10), [0_u64; 0]);
    world.kill(WITNESS);
    world.replace_disk(WITNESS);
    publish_all(&mut world, client, "q", 11, 10);
    assert_eq!(wait_for_answers(&mut world, client, 10), [0_u64; 0]);
    world.start(WITNESS);
    assert_eq!(wait_until_joined(&mut world, 1, WITNESS), NodeId(4));
    wait_until_kept_by(&mut world, "q", &[1, 2, WITNESS]);
    assert!(
        replicas(&mut world, 1, "q")
            .replicas
            .iter()
            .any(|it| it.is_witness)
    );
    world.kill(1);
    assert_eq!(server(&mut world, "q"), 2);
    assert_holds(&mut world, client, "q", 1, 20);
    world.check_invariants();
}

#[test]
fn a_witness_that_was_away_for_long_gets_no_messages() {
    const COUNT: u64 = 600;
    let (mut world, client) = with_queue();
    wait_until_level(&mut world, "q");
    world.kill(WITNESS);
    for number in 1..=COUNT {
        // More than a leader keeps in memory for those who lag.
        let body = format!("{number:04096}");
        client.send(&mut world, publish("", "q", &body, Some(number)));
        if number % 50 == 0 {
            assert_eq!(wait_for_answers(&mut world, client, 50), [0_u64; 0]);
        }
    }
    world.start(WITNESS);
    world.run_until("the witness needs the state", |world| {
        let members = replicas(world, 1, "q").replicas;
        members.iter().any(|it| it.is_witness && it.needs_snapshot)
    });
    wait_until_level(&mut world, "q");
    assert!(!holds(&world, WITNESS, "000000"));
    // It knows how far it is also after a restart, and lets the one lead that has everything.
    world.crash(WITNESS, 9);
    world.start(WITNESS);
    world.kill(1);
    assert_eq!(server(&mut world, "q"), 2);
    assert_eq!(counts(&mut world, client, "q").0, COUNT);
    let (body, _) = got(&mut world, client, "q").unwrap();
    assert_eq!(body.trim_start_matches('0'), "1");
    world.check_invariants();
}

#[test]
fn a_third_node_takes_the_place_of_the_witness_and_gives_it_back() {
    let (mut world, client) = with_queue();
    publish_all(&mut world, client, "q", 1, 20);
    assert_eq!(wait_for_answers(&mut world, client, 20), [0_u64; 0]);
    let new = world.add();
    world.start(new);
    wait_until_joined(&mut world, 1, new);
    wait_until_kept_by(&mut world, "q", &[1, 2, new]);
    assert!(holds(&world, new, "m20"));
    assert_done(&remove(&mut world, 1, new, false));
    wait_until_kept_by(&mut world, "q", &[1, 2, WITNESS]);
    // With one node that keeps it there is nothing to vote about.
    world.run_until("who left knows it", |world| world.node(new).is_removed());
    world.run_until(
        "who is left of the catalog's members can do without it",
        |world| {
            let answer = remove(world, 1, 2, false);
            matches!(&answer, AdminAnswer::Applied(results) if results.iter().all(Result::is_ok))
        },
    );
    wait_until_kept_by(&mut world, "q", &[1]);
    let client = Client::connect(&mut world, 1);
    assert_holds(&mut world, client, "q", 1, 20);
    world.check_invariants();
}

#[test]
fn a_witness_leaves() {
    let (mut world, client) = with_queue();
    assert_done(&remove(&mut world, 1, WITNESS, false));
    world.run_until("it has left", |world| world.node(WITNESS).is_removed());
    wait_until_kept_by(&mut world, "q", &[1, 2]);
    publish_all(&mut world, client, "q", 1, 20);
    assert_eq!(wait_for_answers(&mut world, client, 20), [0_u64; 0]);
    world.check_invariants();
}

#[test]
fn an_operator_cannot_put_messages_onto_a_witness() {
    let (mut world, client) = with_queue();
    declare(
        &mut world,
        client,
        "two",
        quorum_with(|table| table.int("x-quorum-initial-group-size", 2)),
    );
    let (one, two, witness) = (NodeId(1), NodeId(2), NodeId(3));
    for members in [&[one, witness][..], &[witness], &[witness, one, two]] {
        let answer = format!("{:?}", try_to_place(&mut world, 1, "two", members));
        assert!(answer.contains("node 3 is a witness"), "{answer}");
    }
    world.check_invariants();
}

#[test]
fn a_node_is_a_witness_for_good() {
    let mut world = standby();
    let client = Client::connect(&mut world, 1);
    declare(&mut world, client, "q", quorum());
    world.kill(WITNESS);
    world.change(WITNESS, |config| {
        config.cluster.as_mut().unwrap().is_witness = false;
    });
    let refusal = world.refusal(WITNESS);
    assert!(
        matches!(refusal, StartError::OtherKind { was_witness: true }),
        "{refusal}"
    );
    // With an empty disk it is another node, and takes the place of nobody.
    world.replace_disk(WITNESS);
    world.start(WITNESS);
    wait_until_joined(&mut world, 1, WITNESS);
    wait_until_kept_by(&mut world, "q", &[1, 2, WITNESS]);
    assert!(voters(&mut world, "q").contains(&WITNESS));
    assert!(
        !replicas(&mut world, 1, "q")
            .replicas
            .iter()
            .any(|it| it.is_witness)
    );
}
