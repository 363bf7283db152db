//! Bugs planted on purpose, to prove that the simulator finds their like.
//!
//! None lives in a shipping crate: each sits in the simulator's own wiring, where the server's
//! runtime would have it.

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// `fdatasync` returns at once and does nothing.
    SkipSync,
    /// So does the sync of the directory.
    SkipDirectorySync,
    /// Some settlements never reach the node.
    DropSettle,
    /// Some publishes reach the node twice.
    RepeatPublish,
    /// A byte of some bodies changes on the way out.
    CorruptBody,
    /// Some redeliveries lose their flag.
    DropRedelivered,
    /// Some neighbouring deliveries change places.
    SwapDeliveries,
    /// Some confirms are forgotten.
    DropConfirm,
    /// Some publishes are confirmed as they come in.
    EarlyConfirm,
    /// Some bindings are answered and not made.
    GhostBind,
    /// Some purges are answered and not done.
    GhostPurge,
    /// Some mandatory messages are not returned.
    DropReturn,
    /// Some rejected messages leave their queue without a dead letter.
    ForgetDeadLetter,
    /// Queues that expire do so ten times as soon.
    HastenExpiry,
    /// Dead letters that must arrive are published once, as others are.
    ForgetStrategy,
    /// Some delays are half as long.
    RushDelay,
    /// Some delays are twice as long.
    StretchDelay,
    /// Messages live ten times as long in queues that say how long they may.
    StretchTtl,
    /// Some publishes are missing from their transactions.
    TearCommit,
    /// Some rollbacks are answered and not done.
    ForgetRollback,
    /// Some policies are answered and not set.
    GhostPolicy,
    /// In a cluster, a machine that loses power comes back with an empty disk, as the same node, and
    /// votes.
    ForgetDisk,
    /// In a cluster, what a member acknowledges that only learns counts as if a voter had.
    LearnerCounts,
    /// In a cluster, some messages change on their way to a member that gets a whole queue.
    CorruptRepair,
    /// In a cluster, some frames that must arrive do not, and nobody hears of it.
    DropFrame,
    /// In a cluster, `fdatasync` does nothing on one of the machines.
    SkipSyncOfOne,
    /// In a cluster, a member of a group gives its vote twice.
    ForgetVote,
    /// In a cluster, a leader takes for committed what it has just sent to a member.
    CommitEarly,
    /// Some gets are answered as by a node that does not know of the queue's messages.
    StaleGet,
    /// In a cluster, a node says at once that what was asked of it is committed.
    PassEarly,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 30] = [
        Self::SkipSync,
        Self::SkipDirectorySync,
        Self::DropSettle,
        Self::RepeatPublish,
        Self::CorruptBody,
        Self::DropRedelivered,
        Self::SwapDeliveries,
        Self::DropConfirm,
        Self::EarlyConfirm,
        Self::GhostBind,
        Self::GhostPurge,
        Self::DropReturn,
        Self::ForgetDeadLetter,
        Self::HastenExpiry,
        Self::ForgetStrategy,
        Self::RushDelay,
        Self::StretchDelay,
        Self::StretchTtl,
        Self::TearCommit,
        Self::ForgetRollback,
        Self::GhostPolicy,
        Self::ForgetDisk,
        Self::LearnerCounts,
        Self::CorruptRepair,
        Self::DropFrame,
        Self::SkipSyncOfOne,
        Self::ForgetVote,
        Self::CommitEarly,
        Self::StaleGet,
        Self::PassEarly,
    ];

    /// What of it is on the machine of that number.
    pub fn on_machine(self, number: usize) -> Option<Self> {
        match self {
            Self::SkipSyncOfOne => (number == 0).then_some(Self::SkipSync),
            other => Some(other),
        }
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::SkipSync => "skip-sync",
            Self::SkipDirectorySync => "skip-directory-sync",
            Self::DropSettle => "drop-settle",
            Self::RepeatPublish => "repeat-publish",
            Self::CorruptBody => "corrupt-body",
            Self::DropRedelivered => "drop-redelivered",
            Self::SwapDeliveries => "swap-deliveries",
            Self::DropConfirm => "drop-confirm",
            Self::EarlyConfirm => "early-confirm",
            Self::GhostBind => "ghost-bind",
            Self::GhostPurge => "ghost-purge",
            Self::DropReturn => "drop-return",
            Self::ForgetDeadLetter => "forget-dead-letter",
            Self::HastenExpiry => "hasten-expiry",
            Self::ForgetStrategy => "forget-strategy",
            Self::RushDelay => "rush-delay",
            Self::StretchDelay => "stretch-delay",
            Self::StretchTtl => "stretch-ttl",
            Self::TearCommit => "tear-commit",
            Self::ForgetRollback => "forget-rollback",
            Self::GhostPolicy => "ghost-policy",
            Self::ForgetDisk => "forget-disk",
            Self::LearnerCounts => "learner-counts",
            Self::CorruptRepair => "corrupt-repair",
            Self::DropFrame => "drop-frame",
            Self::SkipSyncOfOne => "skip-sync-of-one",
            Self::ForgetVote => "forget-vote",
            Self::CommitEarly => "commit-early",
            Self::StaleGet => "stale-get",
            Self::PassEarly => "pass-early",
        }
    }

    /// The bug of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|planted| planted.name() == name)
    }
}
