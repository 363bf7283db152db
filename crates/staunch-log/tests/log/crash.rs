//! Random work with crashes at random points: what was persisted is there, bit for bit.

use proptest::prelude::*;
use staunch_log::Config;
use staunch_log::disk::Operation;
use staunch_log::disk::memory::{Fault, FaultKind, Lasting};

use crate::node::{Node, Stopped};

#[derive(Clone, Debug)]
enum Step {
    Append {
        stream: u64,
        size: usize,
        count: usize,
    },
    Settle {
        position: usize,
        count: usize,
    },
    Seal,
    Write,
    /// A write reaches the disk, but the node never hears of it.
    WriteUnheard,
    Upkeep,
    Retire,
    Compact,
    Checkpoint,
    CheckBodies,
    CacheLimit(u64),
    SettleDown,
    FailLater {
        operation: Operation,
        after: u64,
    },
    Crash(u64),
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    let operation = prop_oneof![
        Just(Operation::Write),
        Just(Operation::Sync),
        Just(Operation::Rename),
        Just(Operation::SyncDirectory),
        Just(Operation::Create),
        Just(Operation::Remove),
    ];
    prop_oneof![
        8 => (0..4_u64, 0..3000_usize, 1..20_usize)
            .prop_map(|(stream, size, count)| Step::Append { stream, size, count }),
        1 => (0..4_u64, 0..60_000_usize)
            .prop_map(|(stream, size)| Step::Append { stream, size, count: 1 }),
        6 => (0..1000_usize, 1..30_usize).prop_map(|(position, count)| {
            Step::Settle { position, count }
        }),
        5 => Just(Step::Seal),
        6 => Just(Step::Write),
        1 => Just(Step::WriteUnheard),
        6 => Just(Step::Upkeep),
        3 => Just(Step::Retire),
        2 => Just(Step::Compact),
        3 => Just(Step::Checkpoint),
        1 => Just(Step::CheckBodies),
        1 => (0..100_000_u64).prop_map(Step::CacheLimit),
        2 => Just(Step::SettleDown),
        1 => (operation, 0..20_u64)
            .prop_map(|(operation, after)| Step::FailLater { operation, after }),
        2 => any::<u64>().prop_map(Step::Crash),
        1 => Just(Step::Kill),
    ]
}

fn run(node: &mut Node, step: &Step) -> Result<(), Stopped> {
    match *step {
        Step::Append {
            stream,
            size,
            count,
        } => {
            for n in 0..count {
                node.append(stream + n as u64 % 2, size);
            }
        }
        Step::Settle { position, count } => {
            for _ in 0..count.min(node.live_count()) {
                let key = node.live_at(position).expect("there is one");
                node.settle(key);
            }
        }
        Step::Seal => node.seal(),
        Step::Write => {
            node.write()?;
        }
        Step::WriteUnheard => {
            if let Some(job) = node.log.store.poll_write() {
                node.log.writer.run(job).map_err(|_| Stopped)?;
                return Err(Stopped);
            }
        }
        Step::Upkeep => {
            node.upkeep()?;
        }
        Step::Retire => {
            node.retire()?;
        }
        Step::Compact => {
            node.compact()?;
        }
        Step::Checkpoint => {
            node.checkpoint()?;
        }
        Step::CheckBodies => node.check_bodies(),
        Step::CacheLimit(limit) => node.log.store.set_cache_size_bytes(limit),
        Step::SettleDown => node.settle_down()?,
        Step::FailLater { operation, after } => node.disk.inject(Fault {
            operation,
            file_prefix: String::new(),
            after,
            kind: FaultKind::Io,
            lasting: Lasting::Forever,
        }),
        Step::Crash(seed) => node.crash(seed),
        Step::Kill => {
            node.disk.clear_faults();
            node.restart();
        }
    }
    Ok(())
}

fn check(steps: &[Step], seed: u64) {
    let mut node = Node::new(Config::tiny());
    for (n, step) in steps.iter().enumerate() {
        if run(&mut node, step).is_err() {
            node.crash(seed.wrapping_add(n as u64));
        }
        node.log.store.check_invariants();
    }
    node.crash(seed);
    node.settle_down().expect("faults were cleared");
    node.check_bodies();
    node.crash(!seed);
}

proptest! {
    #[test]
    fn what_was_persisted_survives_any_crash(
        steps in prop::collection::vec(step(), 1..120),
        seed: u64,
    ) {
        check(&steps, seed);
    }
}
