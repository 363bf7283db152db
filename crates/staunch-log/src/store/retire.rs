//! Moving survivors out of old files, and the checkpoints that let the files go.
//!
//! A file is given back in three steps, each durable before the next: a *tenure* copies its live
//! messages into segments; a *checkpoint* names the segments and leaves the file out; *cleaning*
//! recycles or removes it. A crash between two steps leaves something that recovery recognises:
//! segments no checkpoint names, or files none needs.

use std::mem;

use crate::job::{
    BackgroundJob, BackgroundWork, CheckpointPlan, Live, Retiring, SegmentMade, SegmentPlan,
    TenurePlan,
};
use crate::layout::checkpoint::{CheckpointImage, SegmentListed};
use crate::layout::record;
use crate::place::{ChunkId, Container, FileId, SegmentId, StreamId};
use crate::store::Store;

/// Space in young files for each byte that is carried from one to the next: at 2, what a retirement
/// has appended again is half of what it gives back.
const CARRIED_SPACE_FACTOR: u64 = 2;

#[derive(Debug, Default)]
pub(crate) struct Retirement {
    /// Sources of the tenure under way.
    tenure: Option<Vec<Container>>,
    /// Without live messages, needed until the next checkpoint.
    waiting: Vec<Container>,
    /// The checkpoint under way.
    checkpoint: Option<CheckpointUnderWay>,
    /// Number of the last checkpoint on disk; 0 is none.
    checkpoint_last: u64,
    /// Last chunk of the last file that was retired.
    follows: ChunkId,
    /// What would be appended again if its files were retired, in bytes.
    carried_size_bytes: u64,
    /// The disk had no room; asked again after `retry_after_no_space`.
    tenure_blocked: bool,
    checkpoint_blocked: bool,
}

#[derive(Debug)]
struct CheckpointUnderWay {
    number: u64,
    frees: Vec<Container>,
}

impl Retirement {
    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting.len()
            + self
                .checkpoint
                .as_ref()
                .map_or(0, |under_way| under_way.frees.len())
    }

    pub(crate) fn recovered(&mut self, checkpoint_last: u64, follows: ChunkId) {
        (self.checkpoint_last, self.follows) = (checkpoint_last, follows);
    }

    pub(crate) fn retry(&mut self) {
        (self.tenure_blocked, self.checkpoint_blocked) = (false, false);
    }

    pub(crate) fn tenure_found_no_space(&mut self) {
        assert!(self.tenure.take().is_some(), "a tenure was under way");
        self.tenure_blocked = true;
    }

    pub(crate) fn checkpoint_found_no_space(&mut self) {
        let under_way = self.checkpoint.take().expect("a checkpoint was under way");
        self.waiting.extend(under_way.frees);
        self.checkpoint_blocked = true;
    }

    /// The checkpoint is on disk; gives what it made superfluous.
    pub(crate) fn checkpointed(&mut self, number: u64) -> Vec<Container> {
        let under_way = self.checkpoint.take().expect("a checkpoint was under way");
        assert_eq!(under_way.number, number);
        self.checkpoint_last = number;
        under_way.frees
    }
}

impl Store {
    /// The oldest closed young file, when there are more than the configured number, or when it
    /// is dead. `None` while a tenure is under way. The node then collects
    /// every live message in it ([`Retiring::contains`]) and calls [`Store::tenure`].
    pub fn retire_due(&self) -> Option<Retiring> {
        if self.retirement.tenure.is_some() || self.retirement.tenure_blocked {
            return None;
        }
        let front = self
            .young
            .front()
            .filter(|front| front.id < self.cursor.file)?;
        if front.last_chunk() > self.persisted {
            return None;
        }
        let closed = self
            .young
            .files()
            .filter(|file| file.id < self.cursor.file)
            .count();
        let is_dead = front.live_count == 0;
        (closed > self.young_files_allowed() || is_dead).then(|| Retiring {
            sources: vec![Container::Young(front.id)],
        })
    }

    /// Files that may be young besides the one that is being filled.
    fn young_files_allowed(&self) -> usize {
        let file = u64::from(self.config.file_size_bytes);
        let carried = CARRIED_SPACE_FACTOR * self.retirement.carried_size_bytes / file;
        self.config.young_files_max + usize::try_from(carried).expect("of what is in memory")
    }

    /// How much lies in the young files that a retirement would not move to segments, but have
    /// appended again, in bytes. There are more young files then: retiring one must give back more
    /// space than it takes, or the log would do nothing else.
    pub fn set_carried_size_bytes(&mut self, size_bytes: u64) {
        self.retirement.carried_size_bytes = size_bytes;
    }

    /// What [`Store::set_carried_size_bytes`] said last.
    pub fn carried_size_bytes(&self) -> u64 {
        self.retirement.carried_size_bytes
    }

    /// The file in which lies what is appended now, unless in a later one.
    pub fn appends_to(&self) -> FileId {
        self.cursor.file
    }

    /// Segments of which less than a quarter lives, or many small ones: the same road as
    /// [`Store::retire_due`].
    pub fn compact_due(&self) -> Option<Retiring> {
        if self.retirement.tenure.is_some() || self.retirement.tenure_blocked {
            return None;
        }
        let config = &self.config;
        let small = (config.own_segment_size_bytes_min, config.small_segments_max);
        let sources = self
            .segments
            .compactable(u64::from(config.segment_size_bytes_max), small);
        (!sources.is_empty()).then_some(Retiring { sources })
    }

    /// Starts moving the live messages of `retiring`: for each stream, in index order, all that
    /// are not released.
    ///
    /// A stream with many of them gets segments of its own; the rest share, because there may be
    /// a hundred thousand queues.
    ///
    /// # Panics
    /// If `live` is not exactly what lives there: a message left out would be lost.
    pub fn tenure(
        &mut self,
        retiring: Retiring,
        mut live: Vec<(StreamId, Vec<Live>)>,
    ) -> BackgroundJob {
        assert!(self.retirement.tenure.is_none(), "one tenure at a time");
        let given: u64 = live.iter().map(|(_, entries)| entries.len() as u64).sum();
        let expected: u64 = retiring
            .sources
            .iter()
            .map(|source| self.live_count(*source))
            .sum();
        assert_eq!(
            given, expected,
            "every live message of a retiring file is moved"
        );
        for (_, entries) in &live {
            assert!(
                entries.is_sorted_by(|a, b| a.index < b.index),
                "in index order"
            );
            assert!(entries.iter().all(|entry| retiring.contains(entry.body)));
        }
        live.sort_by_key(|(stream, _)| *stream);
        let segments = self.plan_segments(live);
        self.retirement.tenure = Some(retiring.sources);
        BackgroundJob(BackgroundWork::Tenure(TenurePlan { segments }))
    }

    fn live_count(&self, source: Container) -> u64 {
        match source {
            Container::Young(id) => self
                .young
                .front()
                .filter(|front| front.id == id)
                .map_or(0, |file| file.live_count),
            Container::Segment(id) => self
                .segments
                .get(id)
                .map_or(0, |segment| segment.live_count),
        }
    }

    fn plan_segments(&mut self, live: Vec<(StreamId, Vec<Live>)>) -> Vec<SegmentPlan> {
        let mut plans = Vec::new();
        let mut shared = Vec::new();
        for (stream, entries) in live {
            if entries.is_empty() {
                continue;
            }
            let size: u64 = entries.iter().map(size_in_segment).sum();
            if size >= self.config.own_segment_size_bytes_min {
                self.split(vec![(stream, entries)], &mut plans);
            } else {
                shared.push((stream, entries));
            }
        }
        self.split(shared, &mut plans);
        plans
    }

    /// Cuts groups into segments of at most the configured size.
    fn split(&mut self, groups: Vec<(StreamId, Vec<Live>)>, plans: &mut Vec<SegmentPlan>) {
        let limit = u64::from(self.config.segment_size_bytes_max);
        let mut current: Vec<(StreamId, Vec<Live>)> = Vec::new();
        let mut size = 0;
        for (stream, entries) in groups {
            for entry in entries {
                let entry_size = size_in_segment(&entry);
                if size + entry_size > limit && size > 0 {
                    let groups = mem::take(&mut current);
                    plans.push(SegmentPlan {
                        id: self.segments.next_id(),
                        groups,
                    });
                    size = 0;
                }
                size += entry_size;
                match current.last_mut() {
                    Some((last, entries)) if *last == stream => entries.push(entry),
                    _ => current.push((stream, vec![entry])),
                }
            }
        }
        if !current.is_empty() {
            plans.push(SegmentPlan {
                id: self.segments.next_id(),
                groups: current,
            });
        }
    }

    /// Whether a checkpoint would give back enough files to be worth it.
    pub fn needs_checkpoint(&self) -> bool {
        let retirement = &self.retirement;
        if retirement.checkpoint.is_some() || retirement.checkpoint_blocked {
            return false;
        }
        let waiting = retirement.waiting.len();
        waiting >= self.config.retired_files_max || (waiting > 0 && self.is_short_of_files())
    }

    /// Files and segments the next checkpoint would give back. A node without work takes one when
    /// this is above 0, and one before it stops.
    pub fn reclaimable_files(&self) -> usize {
        self.retirement.waiting.len()
    }

    /// Whether a checkpoint is under way; the next must wait.
    pub fn is_checkpoint_under_way(&self) -> bool {
        self.retirement.checkpoint.is_some()
    }

    /// Starts a checkpoint with the node's state, which must reflect everything appended so far,
    /// every [`crate::Relocated`] handed out, and nothing else. The open chunk is sealed.
    ///
    /// # Panics
    /// If one is under way.
    pub fn checkpoint(&mut self, state: Vec<u8>) -> BackgroundJob {
        assert!(
            self.retirement.checkpoint.is_none(),
            "one checkpoint at a time"
        );
        self.seal_open();
        let image = CheckpointImage {
            covered: self.last_chunk,
            persisted: self.persisted,
            file_first: self
                .young
                .front()
                .map_or(self.cursor.file, |front| front.id),
            follows: self.retirement.follows,
            file_next: crate::place::FileId(self.housekeeping.prepared_last().0 + 1),
            segment_next: self.segments.peek_next_id(),
            segments: self.segments.listed(),
        };
        let last = self.retirement.checkpoint_last;
        let number = last + 1;
        let frees = mem::take(&mut self.retirement.waiting);
        self.retirement.checkpoint = Some(CheckpointUnderWay { number, frees });
        let previous = (last > 0).then_some(last);
        BackgroundJob(BackgroundWork::Checkpoint(CheckpointPlan {
            number,
            previous,
            image,
            state,
        }))
    }

    /// The copies are durable: the sources wait for the next checkpoint.
    pub(crate) fn handle_tenured(&mut self, segments: Vec<SegmentMade>) {
        let sources = self
            .retirement
            .tenure
            .take()
            .expect("a tenure was under way");
        for made in segments {
            let listed = SegmentListed {
                id: made.id,
                size_bytes: u64::from(made.size_bytes),
                record_count: made.records,
                footer_crc: made.footer_crc,
            };
            self.segments.add(listed, made.records_size_bytes);
        }
        for source in sources {
            match source {
                Container::Young(id) => {
                    let file = self
                        .young
                        .pop_front()
                        .expect("the oldest file was being retired");
                    assert_eq!(file.id, id);
                    self.retirement.follows = file.last_chunk();
                }
                Container::Segment(id) => self.segments.remove(id),
            }
            self.retirement.waiting.push(source);
        }
    }

    pub(crate) fn release_in_segment(&mut self, id: SegmentId, record_size: u64) {
        let Some(segment) = self.segments.get_mut(id) else {
            return;
        };
        assert!(
            segment.live_count > 0,
            "a message of segment {id} was released twice"
        );
        segment.live_count -= 1;
        segment.live_size_bytes -= record_size;
        let source = Container::Segment(id);
        let moving = self
            .retirement
            .tenure
            .as_ref()
            .is_some_and(|t| t.contains(&source));
        if segment.live_count == 0 && !moving {
            self.segments.remove(id);
            self.retirement.waiting.push(source);
        }
    }

    /// A segment the checkpoint names.
    pub(crate) fn recover_segment(&mut self, listed: SegmentListed, records_size_bytes: u64) {
        self.segments.skip_to(SegmentId(listed.id.0 + 1));
        self.segments.add(listed, records_size_bytes);
    }
}

fn size_in_segment(entry: &Live) -> u64 {
    record::size_bytes(entry.size_bytes as usize) as u64
}
