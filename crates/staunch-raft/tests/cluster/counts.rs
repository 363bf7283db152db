//! What a run says of itself.

/// What happened how often.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) applied: u64,
    pub(crate) leaders: u64,
    pub(crate) hand_overs: u64,
    pub(crate) crashes: u64,
    pub(crate) installs: u64,
    pub(crate) truncations: u64,
    pub(crate) fetches: u64,
    pub(crate) joint_changes: u64,
    pub(crate) naps: u64,
    pub(crate) relearned: u64,
    pub(crate) returned: u64,
}

impl Counts {
    fn each(&self) -> [u64; 11] {
        [
            self.applied,
            self.leaders,
            self.hand_overs,
            self.crashes,
            self.installs,
            self.truncations,
            self.fetches,
            self.joint_changes,
            self.naps,
            self.relearned,
            self.returned,
        ]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.applied += other.applied;
        self.leaders += other.leaders;
        self.hand_overs += other.hand_overs;
        self.crashes += other.crashes;
        self.installs += other.installs;
        self.truncations += other.truncations;
        self.fetches += other.fetches;
        self.joint_changes += other.joint_changes;
        self.naps += other.naps;
        self.relearned += other.relearned;
        self.returned += other.returned;
    }

    /// A run in which something never happens says nothing about it.
    pub(crate) fn check_all_happened(&self) {
        assert!(self.each().iter().all(|count| *count > 0), "{self:?}");
    }
}
