//! The segments: how much of each still lives.

use std::collections::BTreeMap;

use crate::layout::checkpoint::SegmentListed;
use crate::place::{Container, SegmentId};
use crate::store::Facts;

/// All segments that hold live messages, and those a tenure is reading from.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    by_id: BTreeMap<SegmentId, Segment>,
    next: SegmentId,
}

#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) listed: SegmentListed,
    pub(crate) records_size_bytes: u64,
    pub(crate) live_count: u64,
    pub(crate) live_size_bytes: u64,
}

impl Segments {
    pub(crate) fn next_id(&mut self) -> SegmentId {
        self.next.0 = self.next.0.max(1);
        let id = self.next;
        self.next.0 += 1;
        id
    }

    pub(crate) fn peek_next_id(&self) -> SegmentId {
        self.next
    }

    /// Numbers below `next` have been given out before.
    pub(crate) fn skip_to(&mut self, next: SegmentId) {
        self.next = self.next.max(next);
    }

    /// A new or recovered segment; all its records count as live.
    pub(crate) fn add(&mut self, listed: SegmentListed, records_size_bytes: u64) {
        let segment = Segment {
            listed,
            records_size_bytes,
            live_count: u64::from(listed.record_count),
            live_size_bytes: records_size_bytes,
        };
        let before = self.by_id.insert(listed.id, segment);
        assert!(before.is_none(), "segment numbers are never reused");
    }

    pub(crate) fn get_mut(&mut self, id: SegmentId) -> Option<&mut Segment> {
        self.by_id.get_mut(&id)
    }

    pub(crate) fn get(&self, id: SegmentId) -> Option<&Segment> {
        self.by_id.get(&id)
    }

    pub(crate) fn remove(&mut self, id: SegmentId) {
        let removed = self.by_id.remove(&id);
        assert!(removed.is_some(), "segment {id} is known");
    }

    pub(crate) fn listed(&self) -> Vec<SegmentListed> {
        self.by_id.values().map(|segment| segment.listed).collect()
    }

    /// Segments worth copying together: those of which less than a quarter lives, as far as one
    /// new segment holds them; else all small ones, when there are many.
    pub(crate) fn compactable(
        &self,
        segment_size_max: u64,
        (small_size, small_max): (u64, usize),
    ) -> Vec<Container> {
        let mut room = segment_size_max;
        let mut sources = Vec::new();
        for (id, segment) in &self.by_id {
            let sparse = segment.live_size_bytes < segment.records_size_bytes / 4;
            if sparse && segment.live_size_bytes <= room {
                room -= segment.live_size_bytes;
                sources.push(Container::Segment(*id));
            }
        }
        if !sources.is_empty() {
            return sources;
        }
        let small = self
            .by_id
            .iter()
            .filter(|(_, s)| s.records_size_bytes < small_size);
        let small: Vec<_> = small.map(|(id, _)| Container::Segment(*id)).collect();
        if small.len() > small_max {
            small
        } else {
            Vec::new()
        }
    }

    pub(crate) fn add_facts(&self, facts: &mut Facts) {
        for segment in self.by_id.values() {
            facts.segments += 1;
            facts.segments_size_bytes += segment.listed.size_bytes;
            facts.segments_live_count += segment.live_count;
            facts.segments_live_size_bytes += segment.live_size_bytes;
        }
    }

    pub(crate) fn check_invariants(&self) {
        for (id, segment) in &self.by_id {
            assert!(
                *id < self.next,
                "segment {id} has a number that was given out"
            );
            assert!(segment.live_size_bytes <= segment.records_size_bytes);
            assert!(segment.live_count <= u64::from(segment.listed.record_count));
            assert_eq!(segment.live_count == 0, segment.live_size_bytes == 0);
        }
    }
}
