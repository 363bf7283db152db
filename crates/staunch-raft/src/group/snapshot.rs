//! Snapshots: here only their names.
//!
//! State and bodies travel on the node's own path, at its pace. When a member has got all of it,
//! the leader offers the snapshot, a small message that is repeated until it is taken; the member
//! then adopts the state at once and goes on from there.

use raft::{ProgressState, SnapshotStatus};
use staunch_types::{NodeId, Term};

use crate::{entry::LogPosition, state::SnapshotMeta};

use super::Group;

impl Group {
    /// The name of the state as it is now, with everything applied that was reported.
    #[must_use]
    pub fn snapshot_meta(&self) -> SnapshotMeta {
        let index = self.applied_index();
        SnapshotMeta {
            last: LogPosition {
                index,
                term: self.term_at(index).unwrap_or(Term(0)),
            },
            members: self.members(),
        }
    }

    /// The member has got the state of `meta`, durably, and shall adopt it. The log must be kept
    /// from `meta` on until it has. A state that lacks the barrier of a member that has
    /// [forgotten](Group::member_forgot) is not offered.
    pub fn offer_snapshot(&mut self, to: NodeId, meta: SnapshotMeta) {
        let is_other = to != self.config.me && self.members().contains(to);
        if !self.is_leader() || !is_other || self.is_deaf() || !self.has_barrier(to, &meta) {
            return;
        }
        self.rouse();
        self.node.mut_store().offer(to, meta);
        if self.is_forgetful(to) {
            self.send_offer(to);
        } else {
            self.node.raft.send_append(to.0);
        }
        self.settle();
    }

    /// The member has not got, or has lost, the state that was offered.
    pub fn withdraw_snapshot(&mut self, to: NodeId) {
        if self.is_deaf() {
            return;
        }
        self.node.mut_store().withdraw_offer(to);
        self.node.report_snapshot(to.0, SnapshotStatus::Failure);
        self.settle();
    }

    /// Offers again what was not answered, and forgets what was taken.
    pub(super) fn repeat_offers(&mut self) {
        self.review_forgetful();
        if !self.is_leader() {
            self.node.mut_store().drop_offers();
            return;
        }
        let offers: Vec<_> = self.node.store().offers().collect();
        for (to, index) in offers {
            let progress = self.node.raft.prs().get(to.0);
            if progress.is_none_or(|progress| progress.matched >= index.0) {
                self.node.mut_store().withdraw_offer(to);
            } else if self.is_forgetful(to) {
                self.send_offer(to);
            }
        }
        // The library waits for ever for an answer to a snapshot, and does not count one that
        // brings no news. It probes again after a failure, with the next answered heartbeat.
        let mut waiting: Vec<_> = (self.node.raft.prs().iter())
            .filter(|(id, progress)| {
                progress.state == ProgressState::Snapshot && !self.is_forgetful(NodeId(**id))
            })
            .map(|(id, _)| *id)
            .collect();
        waiting.sort_unstable();
        for id in waiting {
            self.node.report_snapshot(id, SnapshotStatus::Failure);
        }
    }
}
