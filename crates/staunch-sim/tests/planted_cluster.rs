//! The simulator finds every bug planted in a cluster, and names it rightly.

use staunch_sim::{
    check::Kind,
    planted::Planted,
    run::{Plan, run_plan},
    world::Setup,
};

/// Seeds within which a planted bug must be found; most show in the first ten.
const SEEDS_MAX: u64 = 100;
/// Seeds that are run at once.
const SEEDS_AT_ONCE: usize = 4;

/// Runs seeds until the bug shows as one of these kinds: a bug that breaks much may show as
/// something else first.
fn found(planted: Planted, kinds: &[Kind]) {
    let mut seen = Vec::new();
    for start in (0..SEEDS_MAX).step_by(SEEDS_AT_ONCE) {
        let plan = Plan {
            start,
            count: SEEDS_AT_ONCE as u64,
            jobs: 2,
            setup: Setup {
                planted: Some(planted),
                ..Setup::CLUSTER
            },
            fail_fast: false,
        };
        run_plan(&plan, |outcome| {
            seen.extend(outcome.violations.iter().map(|one| one.kind));
        });
        if seen.iter().any(|kind| kinds.contains(kind)) {
            return;
        }
    }
    let name = planted.name();
    panic!("{name} showed as {seen:?}");
}

#[test]
fn skip_sync() {
    found(
        Planted::SkipSync,
        &[Kind::ConfirmWrong, Kind::Lost, Kind::Consensus],
    );
}

#[test]
fn skip_sync_of_one() {
    found(
        Planted::SkipSyncOfOne,
        &[Kind::ConfirmWrong, Kind::Lost, Kind::Consensus],
    );
}

#[test]
fn early_confirm() {
    found(Planted::EarlyConfirm, &[Kind::ConfirmWrong, Kind::Lost]);
}

#[test]
fn repeat_publish() {
    found(
        Planted::RepeatPublish,
        &[Kind::DoubleEnqueue, Kind::DupUnflagged],
    );
}

#[test]
fn forget_disk() {
    found(Planted::ForgetDisk, &[Kind::Consensus]);
}

#[test]
fn drop_frame() {
    found(
        Planted::DropFrame,
        &[Kind::Stuck, Kind::Lost, Kind::Resurrected],
    );
}

#[test]
fn forget_vote() {
    found(Planted::ForgetVote, &[Kind::Consensus]);
}

#[test]
fn commit_early() {
    found(Planted::CommitEarly, &[Kind::Consensus]);
}

#[test]
fn pass_early() {
    found(Planted::PassEarly, &[Kind::Resurrected, Kind::DupUnflagged]);
}

#[test]
fn stale_get() {
    found(Planted::StaleGet, &[Kind::Hidden]);
}

#[test]
fn learner_counts() {
    found(Planted::LearnerCounts, &[Kind::Consensus, Kind::Lost]);
}

#[test]
fn corrupt_repair() {
    // Some changed bytes are the message's mark.
    found(
        Planted::CorruptRepair,
        &[Kind::Corrupt, Kind::ProtocolBroken],
    );
}
