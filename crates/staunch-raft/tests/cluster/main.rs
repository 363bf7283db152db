//! Clusters of three and five in a world that drops, repeats, delays and reorders messages, cuts
//! links in one or both directions, crashes nodes so that they lose what was not synced, pauses
//! them, accuses them wrongly, changes members, hands leadership over and compacts logs.
//!
//! `STAUNCH_RAFT_SEEDS=FIRST..END` runs those seeds in place of the few below.

mod checks;
mod counts;
mod disk;
mod random;
mod witness;
mod world;

use std::ops::Range;

use staunch_raft::{Change, ChangeStep, Group, MemberProgress};
use staunch_types::NodeId;

use counts::Counts;
use random::Random;
use world::{CALM, Plant, Weather, World};

const SEEDS: Range<u64> = 0..240;

/// Virtual milliseconds of trouble, and of peace within which everything must be well again.
const TROUBLE_MILLIS: u64 = 12_000;
const PEACE_MILLIS: u64 = 20_000;

/// Nodes that may ever be members: each new one has a new id.
const NODES_MAX: u64 = 9;

fn seeds() -> Range<u64> {
    let Ok(range) = std::env::var("STAUNCH_RAFT_SEEDS") else {
        return SEEDS;
    };
    let parsed = range
        .split_once("..")
        .and_then(|(first, end)| Some(first.parse().ok()?..end.parse().ok()?));
    parsed.expect("STAUNCH_RAFT_SEEDS=FIRST..END")
}

/// One seed from beginning to end: what happened, and the state it made. Panics with what was
/// violated.
fn run(seed: u64, plant: Plant) -> (Counts, u64) {
    let mut plan = Random::new(seed ^ 0xabcd);
    let size = match plan.below(20) {
        0 => 1,
        1..14 => 3,
        _ => 5,
    };
    let mut world = World::new(seed, size, plant);
    world.run(plan.below(2_000));
    let mut weather = Weather {
        drop: plan.below(12),
        repeat: plan.below(12),
        delay_millis: plan.between(1, 60),
        sync_millis: plan.between(1, 40),
    };
    let end = world.now + TROUBLE_MILLIS;
    while world.now < end {
        if plan.percent(5) {
            weather.delay_millis = plan.between(1, 200);
        }
        world.weather = weather;
        trouble(&mut world, &mut plan);
        let until = world.now + plan.between(1, 120);
        world.run(until);
    }
    peace(&mut world);
    let leader = world.leaders()[0];
    (world.counts, world.nodes[&leader].state.hash)
}

fn trouble(world: &mut World, plan: &mut Random) {
    let nodes: Vec<_> = world.nodes.keys().copied().collect();
    let Some(node) = plan.pick(&nodes) else {
        return;
    };
    let running = (world.nodes.values())
        .filter(|node| node.group.is_some())
        .count();
    match plan.below(100) {
        0..40 => {
            for leader in world.leaders() {
                for _ in 0..plan.between(1, 6) {
                    world.propose(leader);
                }
            }
        }
        40..48 if running > 1 => world.crash(node),
        48..62 => world.start(node),
        62..66 => cut(world, plan, &nodes),
        66..70 => world.blocked.clear(),
        70..73 => {
            let pause = plan.between(50, 3_000);
            world.node(node).paused_until = world.now + pause;
            world.accuse(node, 300);
        }
        73..77 => world.accuse(node, 100),
        77..81 => world.with(node, Group::campaign),
        81..83 => world.with(node, Group::step_down),
        83..87 => world.with(node, |group| {
            if let Some(to) = group.successor(|_| true) {
                group.transfer_to(to).expect("a voter, and this leads");
            }
        }),
        87..96 => change_members(world, plan),
        96..98 => world.lose_disk(node),
        _ => {}
    }
}

/// Cuts the nodes in two, or some links in one direction.
fn cut(world: &mut World, plan: &mut Random, nodes: &[NodeId]) {
    let one_way = plan.percent(40);
    let side: Vec<_> = nodes.iter().copied().filter(|_| plan.percent(50)).collect();
    for &from in nodes {
        for &to in nodes {
            let crosses = side.contains(&from) != side.contains(&to);
            if crosses && (!one_way || side.contains(&from)) {
                world.blocked.insert((from, to));
            }
        }
    }
}

fn change_members(world: &mut World, plan: &mut Random) {
    let next = NodeId(world.nodes.keys().map(|node| node.0).max().unwrap_or(0) + 1);
    let Some(leader) = plan.pick(&world.leaders()) else {
        return;
    };
    let Some(group) = world.group(leader) else {
        return;
    };
    let members = group.members();
    let is_near = |member: &MemberProgress| member.matched.0 + 20 > group.last_index().0;
    let near: Vec<_> = (group.progress().into_iter())
        .filter(|member| is_near(member) && members.learners.contains(&member.node))
        .map(|member| member.node)
        .collect();
    let others: Vec<_> = (members.voters.iter().copied())
        .filter(|node| *node != leader)
        .collect();
    let nodes = world.nodes.keys().copied();
    let gone: Vec<_> = nodes.filter(|node| !members.contains(*node)).collect();
    let (learner, voter) = (plan.pick(&near), plan.pick(&others));
    let gone = plan.pick(&gone);
    if let Some(gone) = gone
        && plan.percent(50)
    {
        return world.ask_to_leave(gone, leader);
    }
    let change = match (plan.below(10), learner, voter) {
        (0..3, _, _) if gone.is_some() => {
            world.counts.returned += 1;
            vec![ChangeStep::AddLearner(gone.expect("one"))]
        }
        (0..3, _, _) if next.0 <= NODES_MAX => vec![ChangeStep::AddLearner(next)],
        (3..5, Some(learner), _) => vec![ChangeStep::Promote(learner)],
        (5..8, Some(learner), Some(voter)) => {
            let goes = [ChangeStep::Remove(voter), ChangeStep::Demote(voter)];
            let goes = plan.pick(&goes).expect("two");
            vec![ChangeStep::Promote(learner), goes]
        }
        (8, _, Some(voter)) if members.voters.len() > 3 => vec![ChangeStep::Demote(voter)],
        (9, _, Some(voter)) if members.voters.len() > 3 => vec![ChangeStep::Remove(voter)],
        _ => return,
    };
    world.with(leader, |group| {
        // Another change may be under way.
        let _refused = group.propose_change(&Change::of(change));
    });
}

/// No faults any more: everybody agrees in time, and falls asleep.
fn peace(world: &mut World) {
    world.blocked.clear();
    world.weather = CALM;
    let nodes: Vec<_> = world.nodes.keys().copied().collect();
    for node in nodes {
        world.node(node).paused_until = 0;
        world.start(node);
    }
    let end = world.now + PEACE_MILLIS;
    let mut proposed = false;
    while world.now < end {
        let until = world.now + 100;
        world.run(until);
        if !proposed && let [leader] = world.leaders()[..] {
            proposed = world.propose(leader);
        } else if proposed && is_well(world) {
            return;
        }
    }
    panic!("not well again: {}", describe(world));
}

fn is_well(world: &World) -> bool {
    let [leader] = world.leaders()[..] else {
        return false;
    };
    let Some(group) = world.group(leader) else {
        return false;
    };
    let members = group.members();
    let last = group.last_index();
    let is_same = |node: &NodeId| {
        let other = world.nodes.get(node);
        other.is_some_and(|other| {
            let keeps_data = world.witness != Some(*node);
            other.state.applied == last
                && (!keeps_data || other.state == world.nodes[&leader].state)
                && other.group.as_ref().is_some_and(Group::is_asleep)
        })
    };
    !members.is_joint() && members.voters.iter().chain(&members.learners).all(is_same)
}

fn describe(world: &World) -> String {
    let one = |(id, node): (&NodeId, &world::Node)| {
        let group = node.group.as_ref()?;
        Some(format!(
            "\n{id}: {:?} last {} persisted {} committed {} applied {} compacted {} asleep {} {:?} {:?}",
            group.role_now(),
            group.last_index(),
            group.persisted_index(),
            group.committed_index(),
            group.applied_index(),
            group.compacted(),
            group.is_asleep(),
            group.members(),
            group.progress(),
        ))
    };
    world.nodes.iter().filter_map(one).collect()
}

#[test]
fn what_is_committed_stays_and_everybody_agrees() {
    let mut total = Counts::default();
    for seed in seeds() {
        let result = std::panic::catch_unwind(|| run(seed, Plant::None));
        total.add(&result.unwrap_or_else(|_| panic!("seed {seed}")).0);
    }
    println!("{total:?}");
    total.check_all_happened();
}

#[test]
fn the_same_seed_is_the_same_history() {
    for seed in 0..5 {
        assert_eq!(
            run(seed, Plant::None),
            run(seed, Plant::None),
            "seed {seed}"
        );
    }
}

/// Virtual milliseconds from the first suspicion, the others following within 30, to a leader
/// that serves. Disks take up to 4 ms, messages up to 4.
const FAILOVER_MILLIS_MAX: u64 = 500;

#[test]
fn a_sleeping_group_has_a_new_leader_soon_after_a_suspicion() {
    let mut slowest = 0;
    for seed in 0..200 {
        let mut world = World::new(seed, if seed % 2 == 0 { 3 } else { 5 }, Plant::None);
        world.run(6_000);
        let dead = world.leaders()[0];
        for _ in 0..seed % 4 {
            world.propose(dead);
        }
        // With some of it still under way.
        world.run(6_000 + seed % 10);
        world.kill(dead);
        // Nobody is suspected while something of it still arrives.
        let begin = world.now + 10;
        let mut left: Vec<_> = (world.nodes.keys().copied())
            .filter(|node| *node != dead)
            .map(|node| (begin + world.random.below(30), node))
            .collect();
        left.sort_unstable();
        for (time, node) in left {
            world.run(time);
            world.with(node, |group| group.suspect(dead));
        }
        while world.leaders().is_empty() {
            assert!(world.now < begin + FAILOVER_MILLIS_MAX, "seed {seed}");
            let until = world.now + 1;
            world.run(until);
        }
        slowest = slowest.max(world.now - begin);
    }
    println!("at most {slowest} ms");
}

/// A planted mistake is found within so many seeds.
fn must_be_found(plant: Plant, within: u64) {
    let found = (0..within).any(|seed| std::panic::catch_unwind(|| run(seed, plant)).is_err());
    assert!(found, "{plant:?} was not found in {within} seeds");
}

#[test]
fn planted_mistakes_are_found() {
    must_be_found(Plant::PersistedEarly, 40);
    must_be_found(Plant::VoteForgotten, 400);
    must_be_found(Plant::CheckpointAhead, 40);
    must_be_found(Plant::LossIgnored, 400);
    must_be_found(Plant::VotesAtOnce, 1000);
    must_be_found(Plant::ReturnsAsNew, 6000);
}
