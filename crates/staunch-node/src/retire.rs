//! Giving space back: old files are emptied, checkpointed away, and used again.
//!
//! The log says when a file is due and does the copying; the node says which messages live there
//! and writes down the state that makes replaying the file unnecessary. A checkpoint goes to disk
//! only after every chunk it speaks of: its job is held back like a confirm.

use std::collections::BTreeMap;

use staunch_broker::Released;
use staunch_log::{BackgroundDone, Live, RecordMeta, Retiring, StreamId};
use staunch_types::{BodyRef, MessageIndex, QueueId};

use crate::{
    input::Output,
    node::Node,
    pending::Pending,
    queues::QueueSlot,
    state::{self, Owner},
};

/// Ticks between two tries of a job for which the disk had no room: 2 s.
const NO_SPACE_RETRY_TICKS: u32 = 10;

/// Ticks between two looks for segments that are mostly dead: 1 s.
const COMPACT_TICKS: u32 = 5;
/// Ticks without a checkpoint after which one is taken just to give files back: 2 s.
const RECLAIM_TICKS: u32 = 10;

/// What is under way besides the traffic.
#[derive(Debug, Default)]
pub(crate) struct Housekeeping {
    /// Ticks until jobs are tried again that found no room; 0 is none such.
    until_retry: u32,
    /// Ticks since segments were looked at.
    since_compaction: u32,
    /// Ticks for which dead files have waited for a checkpoint.
    dead_for: u32,
}

impl Node {
    /// Starts whatever upkeep is due.
    pub(crate) fn advance_housekeeping(&mut self) {
        if self.store.retire_due().is_some() {
            self.note_carried();
        }
        if let Some(retiring) = self.store.retire_due() {
            self.vacate_groups(&retiring);
            let live = self.live_in_young(&retiring);
            let job = self.store.tenure(retiring, live);
            self.outputs.push_back(Output::Background(job));
        }
        let is_wanted = self.groups_want_checkpoint() && !self.store.is_checkpoint_under_way();
        if self.store.needs_checkpoint() || is_wanted {
            self.start_checkpoint();
        }
        while let Some(job) = self.store.poll_background() {
            self.outputs.push_back(Output::Background(job));
        }
    }

    /// Writes down the state as it is now, once everything it speaks of is on disk.
    pub(crate) fn start_checkpoint(&mut self) {
        self.checkpoint_groups();
        self.seal();
        let owner = match (&self.cluster, self.own_identity()) {
            (None, _) => Owner::Alone,
            (Some(cluster), None) if cluster.is_lost() => Owner::Lost,
            (Some(_), None) => Owner::Nobody,
            (Some(cluster), Some(identity)) if cluster.catalog.replica.has_forgotten() => {
                Owner::Forgotten(identity)
            }
            (Some(cluster), Some(identity)) => {
                Owner::Member(Box::new((identity, cluster.catalog.state(&self.catalog))))
            }
        };
        let nothing = BTreeMap::new();
        let left = self.cluster.as_ref().map(|cluster| &cluster.groups.left);
        let left = left.unwrap_or(&nothing);
        let state = state::encode(&self.catalog, &owner, &self.queues, left);
        let job = self.store.checkpoint(state);
        self.pending.push(Pending::Checkpoint(Box::new(job)));
        self.pending.tie(self.last_sealed);
        self.release_persisted();
    }

    pub(crate) fn handle_background(&mut self, done: BackgroundDone) {
        if done.is_no_space() {
            self.housekeeping.until_retry = NO_SPACE_RETRY_TICKS;
        }
        if done.is_checkpoint() {
            self.groups_checkpointed();
        }
        for left in done.damaged().to_vec() {
            self.record_is_damaged(&left);
        }
        for moved in self.store.handle_background(done) {
            let index = MessageIndex(moved.index);
            let slot = self.queues.get_mut(QueueId(moved.stream.0));
            let lives = slot.is_some_and(|slot| {
                slot.tenured_below = slot.tenured_below.max(index.next());
                slot.relocate(index, moved.from, moved.to)
            });
            if !lives {
                self.store.release(moved.to, moved.size_bytes);
            }
        }
    }

    /// Tells the store what retiring files would have appended again.
    fn note_carried(&mut self) {
        let carried = self.unapplied_size_bytes();
        self.store.set_carried_size_bytes(carried);
    }

    pub(crate) fn tick_housekeeping(&mut self) {
        if self.store.carried_size_bytes() > 0 {
            self.note_carried();
        }
        self.tick_compaction();
        self.tick_reclaim();
        let ticks = &mut self.housekeeping.until_retry;
        if *ticks > 0 {
            *ticks -= 1;
            if *ticks == 0 {
                self.store.retry_after_no_space();
            }
        }
    }

    /// Moves what is left out of segments that are mostly dead. Looking costs a walk over all
    /// segments, so it is not done in every drain.
    fn tick_compaction(&mut self) {
        let ticks = &mut self.housekeeping.since_compaction;
        *ticks += 1;
        if *ticks < COMPACT_TICKS {
            return;
        }
        *ticks = 0;
        if let Some(retiring) = self.store.compact_due() {
            self.vacate_groups(&retiring);
            let live = self.live_in_segments(&retiring);
            let job = self.store.tenure(retiring, live);
            self.outputs.push_back(Output::Background(job));
        }
    }

    /// Gives dead files back even when there are too few of them to ask for a checkpoint.
    fn tick_reclaim(&mut self) {
        let has_dead = self.store.reclaimable_files() > 0;
        let ticks = &mut self.housekeeping.dead_for;
        *ticks = if has_dead { *ticks + 1 } else { 0 };
        if *ticks >= RECLAIM_TICKS && !self.store.is_checkpoint_under_way() {
            *ticks = 0;
            self.start_checkpoint();
        }
    }

    /// Live messages of the oldest young file. Of each queue they are the first that have not
    /// been tenured yet, so the walk stops at the first message of a younger file.
    fn live_in_young(&self, retiring: &Retiring) -> Vec<(StreamId, Vec<Live>)> {
        self.live_in(retiring, |slot| {
            if slot.is_replicated() {
                return all_live_in(slot, retiring);
            }
            slot.queue
                .live_from(slot.tenured_below)
                .take_while(|(_, body, _)| retiring.contains(*body))
                .map(|message| live(slot, message))
                .collect()
        })
    }

    fn live_in_segments(&self, retiring: &Retiring) -> Vec<(StreamId, Vec<Live>)> {
        self.live_in(retiring, |slot| {
            if slot.is_replicated() {
                return all_live_in(slot, retiring);
            }
            slot.queue
                .live_from(MessageIndex(0))
                .take_while(|(index, _, _)| *index < slot.tenured_below)
                .filter(|(_, body, _)| retiring.contains(*body))
                .map(|message| live(slot, message))
                .collect()
        })
    }

    fn live_in(
        &self,
        retiring: &Retiring,
        of: impl Fn(&QueueSlot) -> Vec<Live>,
    ) -> Vec<(StreamId, Vec<Live>)> {
        let durable = self.queues.iter().filter(|slot| slot.is_durable);
        durable
            .map(|slot| (StreamId(slot.id.0), of(slot)))
            .chain(self.staged_in(retiring))
            .filter(|(_, live)| !live.is_empty())
            .collect()
    }
}

impl Node {
    /// Messages of queues that are on their way to this node.
    fn staged_in(&self, retiring: &Retiring) -> impl Iterator<Item = (StreamId, Vec<Live>)> {
        let members = self.queues.iter().filter_map(|slot| {
            let member = slot.member()?;
            Some((StreamId(slot.id.0), member.replica.staged_in(retiring)))
        });
        members.filter(|(_, staged)| !staged.is_empty())
    }
}

impl QueueSlot {
    /// A body was moved. Whether anything refers to it still.
    fn relocate(&mut self, index: MessageIndex, from: BodyRef, to: BodyRef) -> bool {
        if self.queue.relocate(index, from, to) {
            return true;
        }
        let member = self.member_mut();
        member.is_some_and(|member| member.replica.relocate_staged(index, from, to))
    }
}

/// Bodies of a replicated queue do not lie in the order of their indexes: some may have come from
/// another member.
fn all_live_in(slot: &QueueSlot, retiring: &Retiring) -> Vec<Live> {
    let all = slot.queue.live_from(MessageIndex(0));
    all.filter(|(_, body, _)| retiring.contains(*body))
        .map(|message| live(slot, message))
        .collect()
}

fn live(slot: &QueueSlot, (index, body, size_bytes): Released) -> Live {
    Live {
        index: index.0,
        body,
        size_bytes,
        meta: RecordMeta(slot.queue.meta_of(index)),
    }
}
