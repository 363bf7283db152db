//! Members that have forgotten what they promised.
//!
//! A member whose disk is damaged does not know any more which entries it acknowledged, for whom
//! it voted and in which term. It *forgets*: it is out of service, as if its node were down, until
//! it has got the whole state from a leader. That is safe if the state contains a *barrier*: an
//! entry of the leader's own term, proposed after it had heard of the loss, and committed by the
//! others. `docs/replication.md` has the argument.

use bytes::Bytes;
use staunch_types::{LogIndex, NodeId};

use crate::{
    entry::LogPosition,
    message::{Body, Message},
    state::{Restored, SnapshotMeta},
};

use super::{Group, ProposeError, StepError};

/// A member that has forgotten, as its leader knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forgetful {
    node: NodeId,
    /// What it adopts must contain this.
    barrier: LogIndex,
}

impl Group {
    /// Forgets everything: members, entries, term and vote. From now on the member answers nothing
    /// and wants nothing, until [`Group::relearn`]. The driver drops what it has not done yet of
    /// what was handed out.
    ///
    /// # Panics
    /// If this member leads and is in service: it hands over first.
    pub fn forget(&mut self) {
        assert!(
            !self.is_leader() || self.is_quarantined,
            "a leader does not forget"
        );
        self.begin_anew();
        self.is_quarantined = true;
    }

    /// The member is to adopt the snapshot of this message, whose whole state it has got, and which
    /// contains the barrier of the leader that sent it: it is a member again.
    ///
    /// # Errors
    /// [`StepError`]; it stays out of service then.
    ///
    /// # Panics
    /// If it has not forgotten anything, or the message offers no snapshot.
    pub fn relearn(&mut self, offer: Message) -> Result<(), StepError> {
        assert!(self.is_quarantined, "it has forgotten");
        assert!(matches!(offer.body, Body::Snapshot(_)), "an offer");
        self.begin_anew();
        let taken = self.step(offer);
        self.is_quarantined |= taken.is_err();
        taken
    }

    fn begin_anew(&mut self) {
        let suspected = std::mem::take(&mut self.suspected);
        let witnesses = self.witnesses.take();
        *self = Self::new(self.config, Restored::joining()).expect("nothing is sound");
        self.suspected = suspected;
        self.witnesses = witnesses;
    }

    /// A member has forgotten what it had acknowledged: it counts for nothing until it has adopted
    /// a snapshot that contains the barrier which is proposed here. Gives its position: when that
    /// is applied, and the term is still the same, the state is sent and
    /// [offered](Group::offer_snapshot).
    ///
    /// # Errors
    /// [`ProposeError`]: there is no barrier. To be tried again, as after a change of the term.
    pub fn member_forgot(&mut self, node: NodeId) -> Result<LogPosition, ProposeError> {
        self.wake();
        if self.node.raft.lead_transferee == Some(node.0) {
            self.node.raft.abort_leader_transfer();
        }
        self.propose(Bytes::new())?;
        let barrier = self.last_index();
        self.node.mut_store().withdraw_offer(node);
        self.forgetful.retain(|known| known.node != node);
        self.forgetful.push(Forgetful { node, barrier });
        self.reset_progress(node);
        self.do_not_wait_for(node);
        Ok(LogPosition {
            index: barrier,
            term: self.role_now().term,
        })
    }

    /// Whether the member has forgotten, and is not known to have adopted a snapshot since. Known
    /// to the leader alone.
    #[must_use]
    pub fn is_forgetful(&self, node: NodeId) -> bool {
        self.is_leader() && self.forgetful.iter().any(|known| known.node == node)
    }

    /// Whether a snapshot may be offered to the member.
    pub(super) fn has_barrier(&self, to: NodeId, meta: &SnapshotMeta) -> bool {
        let mut of_member = self.forgetful.iter().filter(|known| known.node == to);
        of_member.all(|known| meta.last.index >= known.barrier)
    }

    /// Sends a forgetful member what it is offered. The library would not: it takes it for dead,
    /// because it is silent.
    pub(super) fn send_offer(&mut self, to: NodeId) {
        self.reset_progress(to);
        let mut was_active = false;
        if let Some(progress) = self.node.raft.mut_prs().get_mut(to.0) {
            was_active = std::mem::replace(&mut progress.recent_active, true);
        }
        self.node.raft.send_append(to.0);
        if let Some(progress) = self.node.raft.mut_prs().get_mut(to.0) {
            progress.recent_active = was_active;
        }
    }

    /// Nothing is known of the member's log: it needs a snapshot.
    fn reset_progress(&mut self, node: NodeId) {
        if let Some(progress) = self.node.raft.mut_prs().get_mut(node.0) {
            progress.matched = 0;
            progress.committed_index = 0;
            progress.pending_snapshot = 0;
            progress.become_probe();
        }
    }

    /// Forgets about members that have adopted a snapshot, or about all if this one does not lead.
    pub(super) fn review_forgetful(&mut self) {
        if self.forgetful.is_empty() {
            return;
        }
        let leads = self.is_leader();
        let progress = self.node.raft.prs();
        self.forgetful.retain(|known| {
            let of_member = progress.get(known.node.0);
            leads && of_member.is_some_and(|progress| progress.matched < known.barrier.0)
        });
    }
}
