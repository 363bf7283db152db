//! What checkpoints and the retiring of files mean to the groups.

use super::Place;
use crate::{node::Node, queues::QueueSlot};

impl Node {
    /// A checkpoint is on disk: what it contains need not be kept in the logs of groups.
    pub(crate) fn groups_checkpointed(&mut self) {
        self.catalog_checkpointed();
        self.release_held();
        let mut members = Vec::new();
        let Some(cluster) = &self.cluster else { return };
        let suspected = &cluster.groups.suspected;
        for slot in self.queues.iter_mut() {
            let id = slot.id;
            if let Some(member) = slot.member_mut()
                && let Some(upto) = member.checkpointing.take()
            {
                let kept_from = member.replica.group().progress();
                let lagging = kept_from
                    .iter()
                    .filter(|member| !suspected.contains(&member.node) && !member.needs_snapshot)
                    .map(|member| member.matched)
                    .chain(cluster.transfers.needed_from(id))
                    .min();
                member
                    .replica
                    .compact(lagging.map_or(upto, |lagging| lagging.min(upto)));
                member.replica.checkpointed();
                members.push(id);
            }
        }
        for id in members {
            self.rouse(id);
        }
    }

    /// What a checkpoint that is about to be taken says of the replicated queues.
    pub(crate) fn checkpoint_groups(&mut self) {
        self.checkpoint_catalog();
        if let Some(cluster) = &mut self.cluster {
            cluster.groups.wants_checkpoint = false;
        }
        for slot in self.queues.iter_mut() {
            let QueueSlot { place, queue, .. } = slot;
            if let Place::Replicated(member) = place {
                let state = member.replica.checkpoint(queue);
                member.checkpointing = Some(state.meta.last.index);
            }
        }
    }

    /// Files of the log are about to go.
    pub(crate) fn vacate_groups(&mut self, retiring: &staunch_log::Retiring) {
        let store = &mut self.store;
        for slot in self.queues.iter_mut() {
            if let Some(member) = slot.member_mut() {
                member.replica.vacate(retiring, store);
            }
        }
    }

    /// What retiring files would have appended again, in bytes.
    pub(crate) fn unapplied_size_bytes(&self) -> u64 {
        let members = self.queues.iter().filter_map(QueueSlot::member);
        members
            .map(|member| member.replica.unapplied_size_bytes())
            .sum()
    }

    /// Whether a group waits for a checkpoint.
    pub(crate) fn groups_want_checkpoint(&self) -> bool {
        let cluster = self.cluster.as_ref();
        cluster.is_some_and(|cluster| cluster.groups.wants_checkpoint)
    }
}
