//! Limits and timing of a group.
//!
//! Time is counted in ticks; whoever drives the groups calls [`Group::tick`](crate::Group::tick)
//! every [`TICK`] for those that are awake.

use std::time::Duration;

use staunch_types::{GroupId, NodeId};

/// How long a tick is meant to be. The other figures are chosen for it: with it a leader that
/// cannot hear a majority steps down within `2 * ELECTION_TICKS * TICK` = 1.4 s even when no
/// failure detector helps (contract C15 allows 1.5 s).
pub const TICK: Duration = Duration::from_millis(50);

/// Ticks between a leader's heartbeats while its group is awake. They are how what was lost is sent
/// again; whether nodes live is not for them to say.
pub const HEARTBEAT_TICKS: usize = 4;

/// Ticks without a word from the leader after which its lease is over. The wait before a
/// candidacy is between this and twice this.
pub const ELECTION_TICKS: usize = 14;

/// Ticks for which nothing may happen in a group before its leader sends it to sleep.
pub const SLEEP_AFTER_TICKS: u16 = 4;

/// Ticks between the candidacies of two members after their leader is suspected, in order of rank.
pub const RANK_TICKS: u16 = 2;

/// Ticks after which a member asks again when its candidacy after a suspicion had no result.
pub const CANDIDACY_RETRY_TICKS: u16 = 4;

/// Ticks for which a suspicion hurries elections; after them the ordinary timeouts rule again.
pub const HURRY_TICKS_MAX: u16 = 40;

/// Ticks within which a member with data must have got what its leader had at their beginning;
/// else witnesses stop waiting for it.
pub const KEEPING_UP_TICKS: u16 = 20;

/// The same for a new leader, who does not know its members yet.
pub const FIRST_KEEPING_UP_TICKS: u16 = 6;

/// Ticks within which a member must have got it for witnesses to wait for it again.
pub const CAUGHT_UP_TICKS: u16 = 2;

/// Append messages that are held back from witnesses; more are dropped, and repeated in time.
pub const HELD_BACK_MESSAGES_MAX: usize = 2 * INFLIGHT_MESSAGES_MAX;

/// Ticks after which a leader repeats the offer of a snapshot that was not answered.
pub const SNAPSHOT_OFFER_TICKS: u16 = 10;

/// Append messages to one member that may be under way.
pub const INFLIGHT_MESSAGES_MAX: usize = 128;

/// Bytes of entries in one append message. An entry that is larger travels alone.
pub const APPEND_SIZE_BYTES_MAX: u64 = 1 << 20;

/// Bytes of entries that were proposed and are not committed. One entry is always allowed.
pub const UNCOMMITTED_SIZE_BYTES_MAX: u64 = 64 << 20;

/// Bytes of committed entries handed out in one [`Ready`](crate::Ready). One entry is always
/// handed out.
pub const COMMITTED_SIZE_BYTES_MAX: u64 = 8 << 20;

/// Bytes of one entry; its proposal is refused above it. Holds the largest message that a node
/// can be configured to accept (63 MiB) and its commands, and fits into one payload of a link.
pub const ENTRY_SIZE_BYTES_MAX: usize = (63 << 20) + (512 << 10);

/// Bytes of applied entries that a group keeps in memory for members that lag a little.
pub const ENTRY_CACHE_BYTES_MAX: u64 = 1 << 20;

/// Bytes of cold entries that are read from the log at once for a member that lags a lot.
pub const FETCH_SIZE_BYTES_MAX: u64 = 4 * APPEND_SIZE_BYTES_MAX;

const _: () = assert!(UNCOMMITTED_SIZE_BYTES_MAX >= APPEND_SIZE_BYTES_MAX);
const _: () = assert!(ELECTION_TICKS > HEARTBEAT_TICKS);
// A group falls asleep on a tick without heartbeats.
const _: () = assert!(HEARTBEAT_TICKS > 1);

/// What a group is and on which node.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The group.
    pub group: GroupId,
    /// This node.
    pub me: NodeId,
    /// Decides the election timeouts, with group, node and term.
    pub seed: u64,
    /// Bytes of applied entries kept in memory; see [`ENTRY_CACHE_BYTES_MAX`].
    pub entry_cache_bytes_max: u64,
    /// This member is a witness: it votes and keeps no data, and never leads.
    pub is_witness: bool,
}

impl Config {
    /// The defaults for `group` on the node `me`.
    #[must_use]
    pub fn new(group: GroupId, me: NodeId, seed: u64) -> Self {
        Self {
            group,
            me,
            seed,
            entry_cache_bytes_max: ENTRY_CACHE_BYTES_MAX,
            is_witness: false,
        }
    }

    pub(crate) fn library(&self, applied: u64) -> raft::Config {
        raft::Config {
            id: self.me.0,
            election_tick: ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            applied,
            max_size_per_msg: APPEND_SIZE_BYTES_MAX,
            max_inflight_msgs: INFLIGHT_MESSAGES_MAX,
            check_quorum: true,
            pre_vote: true,
            batch_append: true,
            max_uncommitted_size: UNCOMMITTED_SIZE_BYTES_MAX,
            max_committed_size_per_ready: COMMITTED_SIZE_BYTES_MAX,
            ..raft::Config::default()
        }
    }
}
