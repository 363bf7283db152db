//! Three replicas of one queue on disks that lose power, over a network that loses, repeats and
//! reorders: whatever a member has applied stays, and in the end all are the same.

mod world;

use world::World;

/// Runs in `cargo test`; more with `REPLICA_SEEDS`.
const SEEDS: u64 = 150;

#[test]
fn what_was_committed_stays_and_replicas_agree() {
    run(World::new);
}

#[test]
fn with_a_witness_what_was_committed_stays_and_the_others_agree() {
    run(World::with_witness);
}

fn run(world: fn(u64) -> World) {
    let seeds = std::env::var("REPLICA_SEEDS").map_or(SEEDS, |text| {
        text.parse().expect("REPLICA_SEEDS is a number")
    });
    let (mut confirmed, mut crashes, mut checkpoints, mut transfers) = (0, 0, 0, 0);
    for seed in 0..seeds {
        let ran = std::panic::catch_unwind(|| {
            let mut world = world(seed);
            world.run();
            world.heal_and_check();
            world
        });
        let world = ran.unwrap_or_else(|_| panic!("seed {seed}"));
        confirmed += world.confirmed_count();
        crashes += world.crash_count;
        checkpoints += world.checkpoint_count;
        transfers += world.transfer_count;
    }
    assert!(confirmed > seeds * 10, "much was confirmed: {confirmed}");
    assert!(
        crashes > seeds && checkpoints > seeds,
        "{crashes} {checkpoints}"
    );
    assert!(
        transfers > seeds / 4,
        "members needed the whole queue: {transfers}"
    );
}
