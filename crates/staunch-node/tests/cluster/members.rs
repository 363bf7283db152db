//! Nodes that join, leave, and come back without their data; queues that move.

use std::time::Duration;

use staunch_broker::{CatalogCommand, NodeCommand, NodeState, Placement};
use staunch_node::{
    AdminAnswer, AdminRequest, CatalogRead, ClusterStatus, MembershipNews, OnRefusal, StartError,
};
use staunch_types::{NodeId, QueueId};

use crate::{
    client::{Client, name},
    definitions::assert_agreed,
    edges::{counts, declare, got, publish_all, quorum, server, wait_for_answers},
    leaders::{replicas, wait_until_level},
    machine::node_name,
    world::World,
};

pub(crate) fn status(world: &mut World, node: usize) -> ClusterStatus {
    match world.ask(node, AdminRequest::ClusterStatus) {
        AdminAnswer::Cluster(Some(status)) => *status,
        answer => panic!("{answer:?}"),
    }
}

/// Ids of the cluster's nodes by their numbers, as a node's catalog has them; none if they have not
/// joined.
pub(crate) fn id_of(world: &mut World, asked: usize, node: usize) -> Option<NodeId> {
    let nodes = status(world, asked).nodes;
    let named = nodes.into_iter().find(|it| it.name == node_name(node));
    named
        .filter(|it| it.state != NodeState::Invited)
        .map(|it| it.id)
}

/// Waits until a node is one of the cluster's, with an id that the others know.
#[track_caller]
pub(crate) fn wait_until_joined(world: &mut World, asked: usize, node: usize) -> NodeId {
    let mut found = None;
    world.run_until("it has joined", |world| {
        found = id_of(world, asked, node);
        found.is_some() && world.node(node).is_ready()
    });
    found.unwrap()
}

/// Nodes that vote for a queue, by numbers, as its leader has it.
#[track_caller]
pub(crate) fn voters(world: &mut World, queue: &str) -> Vec<usize> {
    let leader = server(world, queue);
    let members = replicas(world, leader, queue).replicas;
    let voters = members.iter().filter(|it| it.is_voter);
    let mut voters: Vec<usize> = voters
        .filter_map(|it| world.numbers().find(|number| node_name(*number) == it.node))
        .collect();
    voters.sort_unstable();
    voters
}

#[track_caller]
pub(crate) fn wait_until_kept_by(world: &mut World, queue: &str, expected: &[usize]) {
    world.run_until("the queue is kept by those who should", |world| {
        voters(world, queue) == expected
    });
    wait_until_level(world, queue);
}

/// Has a queue kept by the nodes with these ids.
#[track_caller]
fn place(world: &mut World, asked: usize, queue: &str, members: &[NodeId]) {
    assert_done(&try_to_place(world, asked, queue, members));
}

/// As [`place`], with the answer.
#[track_caller]
pub(crate) fn try_to_place(
    world: &mut World,
    asked: usize,
    queue: &str,
    members: &[NodeId],
) -> AdminAnswer {
    let (id, placement) = queue_of(world, asked, queue);
    let command = NodeCommand::Place {
        queue: id,
        changes: placement.changes,
        members: members.to_vec(),
    };
    let request = AdminRequest::Apply {
        commands: vec![CatalogCommand::Node(command)],
        on_refusal: OnRefusal::Stop,
    };
    world.ask(asked, request)
}

/// A queue's id, and who is to keep it, as a node's catalog has it.
#[track_caller]
pub(crate) fn queue_of(world: &mut World, asked: usize, queue: &str) -> (QueueId, Placement) {
    let queue = name(queue);
    let read = CatalogRead::new(move |catalog| {
        let entry = catalog.queue(b"/", &queue).unwrap();
        (entry.id, entry.placement.clone())
    });
    let AdminAnswer::Read(found) = world.ask(asked, AdminRequest::Read(read)) else {
        panic!("another answer");
    };
    *found.downcast().unwrap()
}

#[track_caller]
pub(crate) fn assert_done(answer: &AdminAnswer) {
    let AdminAnswer::Applied(results) = answer else {
        panic!("{answer:?}");
    };
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

#[track_caller]
pub(crate) fn remove(world: &mut World, asked: usize, node: usize, is_dead: bool) -> AdminAnswer {
    let node = node_name(node);
    world.ask(asked, AdminRequest::RemoveNode { node, is_dead })
}

fn has_heard(world: &World, node: usize, news: &MembershipNews) -> bool {
    let machine = world.machine(node);
    machine.is_some_and(|machine| machine.news.contains(news))
}

/// All messages from `first` to `last` are in the queue, in order, and nothing else.
#[track_caller]
pub(crate) fn assert_holds(world: &mut World, client: Client, queue: &str, first: u64, last: u64) {
    assert_eq!(counts(world, client, queue).0, last + 1 - first);
    for number in first..=last {
        let (body, _) = got(world, client, queue).unwrap();
        assert_eq!(body, format!("m{number}"));
    }
}

#[test]
fn a_cluster_is_founded_when_all_of_it_are_there_and_once() {
    let mut world = World::new(3);
    world.isolate(3);
    world.run(Duration::from_secs(5));
    for node in 1..=3 {
        assert!(!world.node(node).is_ready());
        assert!(!has_heard(&world, node, &MembershipNews::Founded));
    }
    world.mend();
    for node in 1..=3 {
        assert_eq!(wait_until_joined(&mut world, 1, node), NodeId(node as u64));
    }
    assert!(has_heard(&world, 1, &MembershipNews::Founded));
    // From now on a majority is enough.
    for node in 1..=3 {
        world.kill(node);
    }
    world.start(2);
    world.start(3);
    let client = Client::connect(&mut world, 2);
    declare(&mut world, client, "q", quorum());
    assert!(!has_heard(&world, 2, &MembershipNews::Founded));
}

#[test]
fn a_node_joins_while_messages_come_and_takes_over_a_replica() {
    let mut world = World::new(3);
    let client = Client::connect(&mut world, 1);
    declare(&mut world, client, "q", quorum());
    publish_all(&mut world, client, "q", 1, 50);
    let new = world.add();
    world.start(new);
    publish_all(&mut world, client, "q", 51, 50);
    let id = wait_until_joined(&mut world, 1, new);
    assert_eq!(id, NodeId(4));
    place(&mut world, 1, "q", &[id, NodeId(2), NodeId(3)]);
    publish_all(&mut world, client, "q", 101, 50);
    wait_until_kept_by(&mut world, "q", &[2, 3, 4]);
    assert_eq!(wait_for_answers(&mut world, client, 150), [0_u64; 0]);
    // It votes, and has what was there before it came.
    world.kill(3);
    let client = Client::connect(&mut world, new);
    assert_holds(&mut world, client, "q", 1, 150);
    world.check_invariants();
    assert_agreed(&mut world);
}

#[test]
fn a_node_without_its_data_is_another_and_learns_before_it_votes() {
    let mut world = World::new(3);
    let client = Client::connect(&mut world, 1);
    declare(&mut world, client, "q", quorum());
    world.run_until("n2 has joined the queue", |world| {
        voters(world, "q") == [1, 2, 3]
    });
    // Confirmed by 1 and 2 only: 3 has never heard of these.
    world.kill(3);
    publish_all(&mut world, client, "q", 1, 20);
    assert_eq!(wait_for_answers(&mut world, client, 20), [0_u64; 0]);
    // 2 loses its disk, and 1 cannot be asked: whoever let 2 vote as before would elect 3.
    world.kill(2);
    world.kill(1);
    world.replace_disk(2);
    world.start(2);
    world.start(3);
    world.run(Duration::from_secs(20));
    assert!(
        !world.node(2).is_ready(),
        "nobody but a majority may let it join"
    );
    assert!(!world.node(3).is_ready());
    world.start(1);
    let id = wait_until_joined(&mut world, 1, 2);
    assert_eq!(id, NodeId(4), "an id is not used again");
    wait_until_kept_by(&mut world, "q", &[1, 2, 3]);
    let client = Client::connect(&mut world, 2);
    assert_holds(&mut world, client, "q", 1, 20);
    world.check_invariants();
    assert_agreed(&mut world);
}

#[test]
fn the_first_node_loses_its_disk_and_comes_back() {
    let mut world = World::new(3);
    let client = Client::connect(&mut world, 2);
    declare(&mut world, client, "q", quorum());
    publish_all(&mut world, client, "q", 1, 20);
    assert_eq!(wait_for_answers(&mut world, client, 20), [0_u64; 0]);
    world.kill(1);
    world.replace_disk(1);
    publish_all(&mut world, client, "q", 21, 20);
    world.start(1);
    assert_eq!(wait_until_joined(&mut world, 2, 1), NodeId(4));
    assert!(!has_heard(&world, 1, &MembershipNews::Founded));
    wait_until_kept_by(&mut world, "q", &[1, 2, 3]);
    assert_eq!(wait_for_answers(&mut world, client, 20), [0_u64; 0]);
    world.kill(3);
    let client = Client::connect(&mut world, 1);
    assert_holds(&mut world, client, "q", 1, 40);
    world.check_invariants();
}

#[test]
fn members_are_replaced_one_after_the_other_while_messages_come() {
    let mut world = World::new(3);
    let client = Client::connect(&mut world, 1);
    declare(&mut world, client, "q", quorum());
    let mut ids = vec![NodeId(1), NodeId(2), NodeId(3)];
    let mut count = 0;
    for _ in 0..3 {
        let new = world.add();
        world.start(new);
        ids.push(wait_until_joined(&mut world, 1, new));
    }
    for step in 1..=3 {
        // Each time before the last change is done.
        place(&mut world, 1, "q", &ids[step..step + 3]);
        publish_all(&mut world, client, "q", count + 1, 40);
        count += 40;
    }
    wait_until_kept_by(&mut world, "q", &[4, 5, 6]);
    assert_eq!(wait_for_answers(&mut world, client, count), [0_u64; 0]);
    world.run_until("who was let go has dropped what it had", |world| {
        let here = |node: usize| world.node(node).message_count();
        (1..=3).all(|node| here(node) == 0)
    });
    world.check_invariants();
    // The old members' logs do not bring anything back.
    for node in 1..=3 {
        world.crash(node, node as u64);
        world.start(node);
    }
    world.run(Duration::from_secs(3));
    assert_eq!(
        (1..=3)
            .map(|node| world.node(node).message_count())
            .sum::<u64>(),
        0
    );
    // Neither do they when they are members again.
    place(&mut world, 4, "q", &ids[..3]);
    wait_until_kept_by(&mut world, "q", &[1, 2, 3]);
    let client = Client::connect(&mut world, 5);
    assert_holds(&mut world, client, "q", 1, count);
    world.check_invariants();
    assert_agreed(&mut world);
}

#[test]
fn a_leader_that_dies_in_the_middle_of_a_change_does_not_end_it() {
    for delay_millis in [1, 5, 10, 20, 40, 60, 80, 120, 200, 400] {
        let mut world = World::new(4);
        let client = Client::connect(&mut world, 4);
        declare(&mut world, client, "q", quorum());
        publish_all(&mut world, client, "q", 1, 30);
        assert_eq!(wait_for_answers(&mut world, client, 30), [0_u64; 0]);
        let mut members = voters(&mut world, "q");
        let leader = server(&mut world, "q");
        let outside = (1..=4).find(|node| !members.contains(node)).unwrap();
        let goes = *members.iter().find(|node| **node != leader).unwrap();
        members.retain(|node| *node != goes);
        members.push(outside);
        let ids: Vec<NodeId> = members.iter().map(|node| NodeId(*node as u64)).collect();
        place(&mut world, 4, "q", &ids);
        world.run(Duration::from_millis(delay_millis));
        world.kill(leader);
        world.run(Duration::from_secs(2));
        world.start(leader);
        members.sort_unstable();
        wait_until_kept_by(&mut world, "q", &members);
        let asked = Client::connect(&mut world, outside);
        assert_holds(&mut world, asked, "q", 1, 30);
        world.check_invariants();
    }
}

#[test]
fn a_node_leaves_when_its_replicas_have_moved_and_cannot_come_back() {
    let mut world = World::new(3);
    let client = Client::connect(&mut world, 1);
    for queue in ["a", "b", "c"] {
        declare(&mut world, client, queue, quorum());
        publish_all(&mut world, client, queue, 1, 10);
        assert_eq!(wait_for_answers(&mut world, client, 10), [0_u64; 0]);
    }
    let new = world.add();
    world.start(new);
    wait_until_joined(&mut world, 1, new);
    assert_done(&remove(&mut world, 1, 3, false));
    world.run_until("it has left", |world| world.node(3).is_removed());
    for queue in ["a", "b", "c"] {
        wait_until_kept_by(&mut world, queue, &[1, 2, 4]);
    }
    assert!(has_heard(&world, 3, &MembershipNews::Removed));
    assert_eq!(id_of(&mut world, 1, 3), None);
    // The others do without it.
    world.kill(2);
    let client = Client::connect(&mut world, 1);
    for queue in ["a", "b", "c"] {
        assert_holds(&mut world, client, queue, 1, 10);
    }
    // That it was removed is on its disk soon.
    world.run(Duration::from_millis(50));
    world.kill(3);
    assert!(matches!(world.refusal(3), StartError::Removed));
    world.replace_disk(3);
    world.start(2);
    world.start(3);
    assert_eq!(wait_until_joined(&mut world, 1, 3), NodeId(5));
    world.check_invariants();
}

#[test]
fn nobody_needs_the_vote_of_a_node_that_has_left() {
    let mut world = World::new(3);
    let new = world.add();
    world.start(new);
    wait_until_joined(&mut world, 1, new);
    world.run(Duration::from_secs(1));
    assert_done(&remove(&mut world, 1, 3, false));
    world.run_until("it has left", |world| world.node(3).is_removed());
    // Of those who are left two can decide, as soon as it has gone.
    let others = [1, 2, new];
    let leader = usize::try_from(world.node(new).catalog_leader().unwrap().0).unwrap();
    assert!(others.contains(&leader));
    world.kill(leader);
    world.kill(3);
    let left = others.into_iter().find(|node| *node != leader).unwrap();
    let client = Client::connect(&mut world, left);
    declare(&mut world, client, "q", quorum());
    publish_all(&mut world, client, "q", 1, 3);
    assert_eq!(wait_for_answers(&mut world, client, 3), [0_u64; 0]);
    world.check_invariants();
}

#[test]
fn a_node_that_is_gone_is_given_up_and_does_not_serve_when_it_comes_back() {
    let mut world = World::new(3);
    let client = Client::connect(&mut world, 1);
    declare(&mut world, client, "q", quorum());
    publish_all(&mut world, client, "q", 1, 10);
    assert_eq!(wait_for_answers(&mut world, client, 10), [0_u64; 0]);
    let refused = remove(&mut world, 1, 3, true);
    let AdminAnswer::Applied(results) = &refused else {
        panic!("{refused:?}");
    };
    assert!(results[0].is_err(), "it lives");
    world.kill(3);
    world.run_until("it is missed", |world| {
        status(world, 1).nodes.iter().any(|it| it.is_suspected)
    });
    assert_done(&remove(&mut world, 1, 3, true));
    wait_until_kept_by(&mut world, "q", &[1, 2]);
    // It has not heard of it, and is told.
    world.start(3);
    world.run_until("it knows", |world| world.node(3).is_removed());
    assert!(!world.node(3).is_ready());
    // Two voters are left: both are needed, and both are asked.
    let client = Client::connect(&mut world, 2);
    assert_holds(&mut world, client, "q", 1, 10);
    assert_agreed_among(&mut world, &[1, 2]);
}

#[track_caller]
fn assert_agreed_among(world: &mut World, nodes: &[usize]) {
    for node in 1..=world.numbers().count() {
        if !nodes.contains(&node) && world.machine(node).is_some() {
            world.kill(node);
        }
    }
    assert_agreed(world);
}

#[test]
fn replicas_of_a_node_that_is_away_for_long_are_made_anew() {
    let mut world = World::with(4, |config| {
        let cluster = config.cluster.as_mut().unwrap();
        cluster.replica_repair_after = Some(Duration::from_secs(20));
    });
    let client = Client::connect(&mut world, 1);
    declare(&mut world, client, "q", quorum());
    publish_all(&mut world, client, "q", 1, 10);
    assert_eq!(wait_for_answers(&mut world, client, 10), [0_u64; 0]);
    let members = voters(&mut world, "q");
    let outside = (1..=4).find(|node| !members.contains(node)).unwrap();
    let away = *members.last().unwrap();
    world.kill(away);
    world.run(Duration::from_secs(15));
    assert_eq!(voters(&mut world, "q"), members, "not yet");
    let mut expected: Vec<usize> = members.iter().copied().filter(|it| *it != away).collect();
    expected.push(outside);
    expected.sort_unstable();
    wait_until_kept_by(&mut world, "q", &expected);
    // It is back, and drops what it had.
    world.start(away);
    world.run_until("it has dropped what it had", |world| {
        world.node(away).is_ready() && world.node(away).message_count() == 0
    });
    let client = Client::connect(&mut world, away);
    assert_holds(&mut world, client, "q", 1, 10);
    world.check_invariants();
}

#[test]
fn what_would_stand_still_without_a_node_is_named() {
    let mut world = World::new(3);
    let client = Client::connect(&mut world, 1);
    declare(&mut world, client, "q", quorum());
    wait_until_level(&mut world, "q");
    let check = |world: &mut World, node: usize| {
        let node = node_name(node);
        match world.ask(1, AdminRequest::StopsWith { node }) {
            AdminAnswer::StopsWith(Some(check)) => check,
            answer => panic!("{answer:?}"),
        }
    };
    assert!(check(&mut world, 2).is_safe());
    world.kill(3);
    world.run_until("it is missed", |world| !check(world, 2).is_safe());
    let found = check(&mut world, 2);
    assert!(found.catalog);
    assert_eq!(found.queues, [(name("/"), name("q"))]);
    world.start(3);
    world.run_until("it is safe again", |world| check(world, 2).is_safe());
}

#[test]
fn replicas_are_spread_when_an_operator_asks() {
    let mut world = World::new(3);
    let client = Client::connect(&mut world, 1);
    for number in 0..8 {
        declare(&mut world, client, &format!("q{number}"), quorum());
    }
    let new = world.add();
    world.start(new);
    wait_until_joined(&mut world, 1, new);
    let kept = |world: &mut World| {
        let nodes = status(world, 1).nodes;
        nodes.iter().map(|it| it.kept_count).collect::<Vec<_>>()
    };
    assert_eq!(kept(&mut world), [8, 8, 8, 0]);
    let answer = world.ask(1, AdminRequest::Rebalance);
    assert_done(&answer);
    assert_eq!(kept(&mut world), [6; 4]);
    let answer = world.ask(1, AdminRequest::Rebalance);
    assert!(
        matches!(&answer, AdminAnswer::Applied(results) if results.is_empty()),
        "{answer:?}"
    );
    world.check_invariants();
}

#[test]
fn a_node_that_loses_power_while_it_joins_has_promised_nothing_that_it_forgets() {
    let mut world = World::new(3);
    let client = Client::connect(&mut world, 1);
    for queue in ["a", "b"] {
        declare(&mut world, client, queue, quorum());
        publish_all(&mut world, client, queue, 1, 10);
        assert_eq!(wait_for_answers(&mut world, client, 10), [0_u64; 0]);
    }
    world.kill(3);
    for delay_millis in (1..=240).step_by(6) {
        world.replace_disk(3);
        world.start(3);
        world.run(Duration::from_millis(delay_millis));
        world.crash(3, delay_millis);
        // What its disk has is enough to go on, whatever that is.
        world.start(3);
        wait_until_joined(&mut world, 1, 3);
        for queue in ["a", "b"] {
            wait_until_kept_by(&mut world, queue, &[1, 2, 3]);
        }
        world.check_invariants();
        world.kill(3);
    }
    assert_holds(&mut world, client, "a", 1, 10);
}
