//! The simulator finds every bug planted in its own wiring, and names it rightly.

use staunch_sim::{
    check::Kind,
    planted::Planted,
    run::{Plan, run_plan},
    world::Setup,
};

/// Seeds within which a planted bug must be found.
const SEEDS_MAX: u64 = 300;

/// Runs seeds until the bug shows.
fn found(planted: Planted, kinds: &[Kind]) {
    let plan = Plan {
        start: 0,
        count: SEEDS_MAX,
        jobs: 2,
        setup: Setup {
            planted: Some(planted),
            ..Setup::default()
        },
        fail_fast: true,
    };
    let mut seen = Vec::new();
    run_plan(&plan, |outcome| {
        seen.extend(outcome.violations.iter().map(|one| one.kind));
    });
    let name = planted.name();
    assert!(
        seen.iter().any(|kind| kinds.contains(kind)),
        "{name} showed as {seen:?}"
    );
}

#[test]
fn skip_sync() {
    found(Planted::SkipSync, &[Kind::ConfirmWrong, Kind::Lost]);
}

#[test]
fn skip_directory_sync() {
    found(
        Planted::SkipDirectorySync,
        &[
            Kind::Lost,
            Kind::DefinitionWrong,
            Kind::Resurrected,
            Kind::Stuck,
        ],
    );
}

#[test]
fn drop_settle() {
    found(Planted::DropSettle, &[Kind::Resurrected, Kind::Stuck]);
}

#[test]
fn repeat_publish() {
    found(Planted::RepeatPublish, &[Kind::DoubleEnqueue]);
}

#[test]
fn corrupt_body() {
    found(Planted::CorruptBody, &[Kind::Corrupt]);
}

#[test]
fn drop_redelivered() {
    found(Planted::DropRedelivered, &[Kind::DupUnflagged]);
}

#[test]
fn swap_deliveries() {
    found(Planted::SwapDeliveries, &[Kind::Reordered]);
}

#[test]
fn drop_confirm() {
    found(Planted::DropConfirm, &[Kind::Stuck]);
}

#[test]
fn early_confirm() {
    found(Planted::EarlyConfirm, &[Kind::ConfirmWrong, Kind::Lost]);
}

#[test]
fn ghost_bind() {
    found(Planted::GhostBind, &[Kind::Lost, Kind::ConfirmWrong]);
}

#[test]
fn ghost_purge() {
    found(Planted::GhostPurge, &[Kind::Resurrected]);
}

#[test]
fn drop_return() {
    found(Planted::DropReturn, &[Kind::ConfirmWrong]);
}

#[test]
fn forget_dead_letter() {
    found(Planted::ForgetDeadLetter, &[Kind::Lost]);
}

#[test]
fn hasten_expiry() {
    found(Planted::HastenExpiry, &[Kind::DefinitionWrong]);
}

#[test]
fn forget_strategy() {
    found(Planted::ForgetStrategy, &[Kind::Lost]);
}

#[test]
fn rush_delay() {
    found(Planted::RushDelay, &[Kind::Early, Kind::Reordered]);
}

#[test]
fn stretch_delay() {
    found(Planted::StretchDelay, &[Kind::Reordered]);
}

#[test]
fn stretch_ttl() {
    found(Planted::StretchTtl, &[Kind::Overdue]);
}

#[test]
fn tear_commit() {
    found(Planted::TearCommit, &[Kind::Lost]);
}

#[test]
fn forget_rollback() {
    found(Planted::ForgetRollback, &[Kind::Phantom]);
}

#[test]
fn ghost_policy() {
    found(
        Planted::GhostPolicy,
        &[Kind::DefinitionWrong, Kind::Overdue, Kind::Lost],
    );
}

#[test]
fn stale_get() {
    found(Planted::StaleGet, &[Kind::Hidden]);
}
