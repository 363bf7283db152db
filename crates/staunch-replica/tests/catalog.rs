//! The catalog's group on three nodes with disks that lose power, over a network that loses and
//! reorders: what was applied stays, nothing is applied twice, a restart knows at least what the
//! log speaks of, and in the end all are the same.

mod definitions;

use definitions::World;

/// Runs in `cargo test`; more with `CATALOG_SEEDS`.
const SEEDS: u64 = 100;

#[test]
fn what_was_agreed_on_stays_and_nodes_agree() {
    let seeds = std::env::var("CATALOG_SEEDS").map_or(SEEDS, |text| {
        text.parse().expect("CATALOG_SEEDS is a number")
    });
    let (mut made, mut crashes, mut transfers, mut changes) = (0, 0, 0, 0);
    for seed in 0..seeds {
        println!("seed {seed}");
        let mut world = World::new(seed);
        world.run();
        world.heal_and_check();
        made += world.made.len() as u64;
        crashes += world.crash_count;
        transfers += world.transfer_count;
        changes += world.change_count;
    }
    assert!(made > seeds * 10, "much was made: {made}");
    assert!(crashes > seeds, "{crashes}");
    assert!(transfers > seeds / 8, "{transfers}");
    assert!(changes > seeds / 8, "{changes}");
}
