//! A crash after every single job of a long run.

use crate::{journal::Journal, world::tiny};

/// Jobs after which the runs are long enough.
const JOBS_MAX: usize = 300;

/// Runs the same traffic until `jobs` jobs have ended.
fn run(jobs: usize) -> Journal {
    let mut journal = Journal::new(tiny());
    journal.script.padding = 700;
    for queue in 0..4 {
        journal.step((19, 0, queue, 0));
    }
    let mut random = 1_u64;
    while journal.jobs < jobs {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let [.., a, b, c, kind] = random.to_be_bytes()[..5] else {
            unreachable!("five bytes")
        };
        // Everything but the ends of processes: those come from outside.
        if kind % 32 != 22 {
            journal.step((kind, a, b, c));
        }
    }
    journal
}

#[test]
fn a_crash_between_any_two_jobs_breaks_no_promise() {
    for jobs in 0..JOBS_MAX {
        let mut journal = run(jobs);
        journal.check_after_crash(jobs as u64);
    }
}
