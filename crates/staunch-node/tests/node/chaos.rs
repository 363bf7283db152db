//! Random clients, disks and crashes: nothing panics, and every promise is kept.

use proptest::{collection::vec, prelude::*};

use crate::{journal::Journal, world::tiny};

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn promises_are_kept(
        steps in vec(any::<(u8, u8, u8, u8)>(), 1..400),
        padding in 0_usize..900,
        seed in any::<u64>(),
    ) {
        let mut journal = Journal::new(tiny());
        journal.script.padding = padding;
        declare(&mut journal);
        for step in steps {
            journal.step(step);
        }
        journal.check_after_crash(seed);
    }
}

/// Every queue, so that most publishes are routed.
fn declare(journal: &mut Journal) {
    for queue in 0..4 {
        journal.step((19, 0, queue, 0));
    }
}
