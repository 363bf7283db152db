//! Two members with data and a witness.

use staunch_raft::Group;

use crate::{
    FAILOVER_MILLIS_MAX, TROUBLE_MILLIS,
    counts::Counts,
    cut, peace,
    random::Random,
    seeds,
    world::{Plant, Weather, World},
};

/// As [`crate::run`], without changes of members; no member with data loses its disk.
fn run(seed: u64, plant: Plant) -> Counts {
    let mut plan = Random::new(seed ^ 0x71e5);
    let mut world = World::with_witness(seed, plant);
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
    world.counts
}

fn trouble(world: &mut World, plan: &mut Random) {
    let nodes: Vec<_> = world.nodes.keys().copied().collect();
    let node = plan.pick(&nodes).expect("three");
    match plan.below(100) {
        0..45 => {
            for leader in world.leaders() {
                for _ in 0..plan.between(1, 6) {
                    world.propose(leader);
                }
            }
        }
        45..53 => world.crash(node),
        53..68 => world.start(node),
        68..72 => cut(world, plan, &nodes),
        72..77 => world.blocked.clear(),
        77..80 => {
            let pause = plan.between(50, 3_000);
            world.node(node).paused_until = world.now + pause;
            world.accuse(node, 300);
        }
        80..84 => world.accuse(node, 100),
        84..88 => world.with(node, Group::campaign),
        88..90 => world.with(node, Group::step_down),
        90..95 => world.with(node, |group| {
            if let Some(to) = group.successor(|_| true) {
                group
                    .transfer_to(to)
                    .expect("a voter with data, and this leads");
            }
        }),
        95..98 => world.lose_disk(world.witness.expect("there is one")),
        _ => {}
    }
}

#[test]
fn with_a_witness_what_is_committed_stays_and_everybody_agrees() {
    let mut total = Counts::default();
    for seed in seeds() {
        let result = std::panic::catch_unwind(|| run(seed, Plant::None));
        total.add(&result.unwrap_or_else(|_| panic!("seed {seed}")));
    }
    println!("{total:?}");
    assert!(total.installs > 0 && total.relearned > 0 && total.hand_overs > 0);
}

/// The leader is killed under load, while the other member with data is well: milliseconds until
/// that one leads, if it ever does.
fn fail_over(seed: u64, plant: Plant) -> Option<u64> {
    let mut world = World::with_witness(seed, plant);
    world.run(6_000);
    let dead = world.leaders()[0];
    // The disks of the members with data are busy, the witness's is not: it is always first.
    world.weather.sync_millis = 1 + seed % 20;
    // Too few for a checkpoint.
    for _ in 0..3 + seed % 14 {
        world.propose(dead);
        let until = world.now + world.random.below(4);
        world.run(until);
    }
    world.kill(dead);
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
        if world.now > begin + FAILOVER_MILLIS_MAX {
            return None;
        }
        let until = world.now + 1;
        world.run(until);
    }
    assert_ne!(world.leaders()[0], dead);
    Some(world.now - begin)
}

#[test]
fn the_other_member_with_data_leads_soon_after_the_leader_is_killed_under_load() {
    let slowest = (0..300).map(|seed| {
        let millis = fail_over(seed, Plant::None);
        millis.unwrap_or_else(|| panic!("seed {seed}: nobody leads"))
    });
    println!("at most {} ms", slowest.max().expect("some"));
}

#[test]
fn a_witness_that_is_told_everything_at_once_keeps_others_from_being_elected() {
    let is_stuck = |seed| fail_over(seed, Plant::WitnessUnknown).is_none();
    assert!((0..100).any(is_stuck), "the test above shows nothing");
}
