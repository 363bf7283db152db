//! The messages of a queue: a few bytes each, found by index.
//!
//! Messages are kept in chunks of 64 with consecutive indexes ([`Chunk`]): a header of masks, and a
//! boxed arrays of 1 KiB that go when the chunk's last message does. The headers form a deque
//! sorted by chunk number. A chunk whose messages are gone leaves the deque at its ends at once
//! and in its middle when half of the deque is such leftovers, so that one message stuck under
//! a hundred million settled ones costs one chunk. A chunk is found by its distance from either
//! end of the deque, which is exact unless gaps lie on that side, else by binary search.
//!
//! A map from index to entry was rejected: three times the memory, and no cheap way to walk runs
//! of live messages for a snapshot. One struct per message instead of three arrays was rejected
//! too: it pads 16 bytes to 24.

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroUsize;

use staunch_types::{BodyRef, ConsumerKey, MessageIndex, UnixMillis};

use super::chunk::{
    CHUNK_LEN, Chunk, Holder, Sizes, Slots, Taken, Totals, bits, mask, part, split,
};
use super::{Arrival, Released};

/// Deques shorter than this are not swept for leftovers.
const SWEEP_LEN_MIN: usize = 32;

/// Where a message was found; good until the entries change. An option of it fits in two
/// registers: it is on the way of every message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    /// One more than the place of the chunk.
    behind_chunk: NonZeroUsize,
    pub(super) index: MessageIndex,
}

impl Position {
    #[inline]
    fn new(chunk: usize, index: MessageIndex) -> Self {
        Self {
            behind_chunk: NonZeroUsize::MIN.saturating_add(chunk),
            index,
        }
    }

    #[inline]
    fn chunk(self) -> usize {
        self.behind_chunk.get() - 1
    }

    #[inline]
    pub(super) fn bit(self) -> u32 {
        split(self.index.0).1
    }
}

/// All messages of a queue.
#[derive(Debug, Default)]
pub(super) struct Entries {
    pub(super) chunks: VecDeque<Chunk>,
    /// Chunks in the middle of the deque that have nothing live.
    leftover_count: usize,
    next_index: u64,
    /// Slots of the last chunk that emptied, for the next one: a queue that is consumed as fast
    /// as it is filled allocates next to nothing.
    spare: Option<Box<Slots>>,
    /// For each chunk of which a ready message expires its number, under a time that is not
    /// after the first expiry ([`expiry`](super::expiry)).
    pub(super) expiries: BTreeSet<(UnixMillis, u64)>,
}

impl Entries {
    /// The index that the next message gets.
    #[inline]
    pub(super) fn next_index(&self) -> u64 {
        self.next_index
    }

    /// Indexes below `index` are used, whether their messages are here or not.
    pub(super) fn advance_next_index(&mut self, index: u64) {
        self.next_index = self.next_index.max(index);
    }

    /// Adds a ready message at the end.
    #[inline]
    pub(super) fn push(&mut self, arrival: &Arrival, level: u8) -> MessageIndex {
        let index = self.next_index;
        let (number, bit) = split(index);
        self.next_index += 1;
        let chunk = match self.chunks.back_mut() {
            Some(chunk) if chunk.number == number => chunk,
            Some(_) | None => self.push_chunk(number),
        };
        chunk.put(bit, arrival);
        if arrival.has_rare(level) {
            self.push_rare(bit, arrival, level);
        }
        MessageIndex(index)
    }

    #[cold]
    fn push_chunk(&mut self, number: u64) -> &mut Chunk {
        let mut chunk = Chunk::new(number);
        chunk.lend(self.spare.take());
        self.chunks.push_back(chunk);
        self.chunks.back_mut().expect("a chunk was just pushed")
    }

    /// What is rare of the message that was just pushed.
    #[cold]
    fn push_rare(&mut self, bit: u32, arrival: &Arrival, level: u8) {
        let last = self.chunks.len() - 1;
        self.chunks[last].put_rare(bit, arrival, level);
        if let Some(at) = arrival.expires_at {
            self.index_expiry(last, at);
        }
    }

    /// The first ready message of level 0 at or after `from`.
    #[inline]
    pub(super) fn next_ready(&self, from: u64) -> Option<Position> {
        let (number, bit) = split(from);
        let start = self.lower_bound(number);
        for at in start..self.chunks.len() {
            let chunk = &self.chunks[at];
            let ready = if chunk.number == number {
                chunk.ready_plain() & mask(bit, 64 - bit)
            } else {
                chunk.ready_plain()
            };
            if ready != 0 {
                let bit = ready.trailing_zeros();
                return Some(Position::new(at, chunk.index_of(bit)));
            }
        }
        None
    }

    #[inline]
    pub(super) fn at(&self, position: Position) -> Released {
        self.chunks[position.chunk()].released(position.bit())
    }

    /// Where the live message at `index` is.
    pub(super) fn position(&self, index: u64) -> Option<Position> {
        let (number, bit) = split(index);
        let chunk = self.find(number)?;
        let is_live = self.chunks[chunk].live >> bit & 1 == 1;
        is_live.then(|| Position::new(chunk, MessageIndex(index)))
    }

    #[inline]
    pub(super) fn chunk(&self, position: Position) -> &Chunk {
        &self.chunks[position.chunk()]
    }

    pub(super) fn chunk_mut(&mut self, position: Position) -> &mut Chunk {
        &mut self.chunks[position.chunk()]
    }

    /// Takes a ready message.
    #[inline]
    pub(super) fn take(&mut self, position: Position, holder: Holder) -> Taken {
        let chunk = &mut self.chunks[position.chunk()];
        let taken = chunk.take(position.bit(), holder);
        if chunk.live == 0 {
            self.chunk_emptied(position.chunk());
        }
        taken
    }

    /// A ready or held message is dying from now on.
    pub(super) fn kill(&mut self, position: Position) -> (Released, Sizes) {
        let chunk = &mut self.chunks[position.chunk()];
        chunk.set_dying(position.bit());
        (chunk.released(position.bit()), chunk.sizes(position.bit()))
    }

    /// Removes a dying message; none if there is none at `index`.
    pub(super) fn bury(&mut self, index: u64) -> Option<(Released, Sizes)> {
        let position = self.position(index)?;
        let chunk = &mut self.chunks[position.chunk()];
        if chunk.dying() >> position.bit() & 1 == 0 {
            return None;
        }
        let message = chunk.released(position.bit());
        let sizes = chunk.sizes(position.bit());
        chunk.clear(1 << position.bit());
        if chunk.live == 0 {
            self.chunk_emptied(position.chunk());
        }
        Some((message, sizes))
    }

    #[inline]
    pub(super) fn is_held_by(&self, index: u64, key: ConsumerKey) -> bool {
        let (number, bit) = split(index);
        self.find(number).is_some_and(|at| {
            let chunk = &self.chunks[at];
            chunk.held() >> bit & 1 == 1 && chunk.holders().get(bit as usize) == Some(&key)
        })
    }

    /// Whether `key` holds all of `first..end`; place of the first chunk if so.
    ///
    /// # Errors
    /// The first index it does not hold.
    #[inline]
    pub(super) fn check_held(
        &self,
        first: u64,
        end: u64,
        key: ConsumerKey,
    ) -> Result<usize, MessageIndex> {
        let start = self.lower_bound(first / CHUNK_LEN);
        let (mut index, mut at) = (first, start);
        while index < end {
            let (number, bit, len) = part(index, end);
            let chunk = self.chunks.get(at).filter(|chunk| chunk.number == number);
            let chunk = chunk.ok_or(MessageIndex(index))?;
            let missing = mask(bit, len) & !chunk.held();
            if missing != 0 {
                return Err(chunk.index_of(missing.trailing_zeros()));
            }
            let holders = &chunk.holders()[bit as usize..][..len as usize];
            if let Some(other) = (0..len).find(|&at| holders[at as usize] != key) {
                return Err(chunk.index_of(bit + other));
            }
            index += u64::from(len);
            at += 1;
        }
        Ok(start)
    }

    /// Removes the live messages in `first..end` and reports those that have slots: in recovery
    /// that a message has a slot does not mean that its body is known, which the last argument
    /// tells.
    pub(super) fn remove(
        &mut self,
        first: u64,
        end: u64,
        report: impl FnMut(Released, Sizes, bool),
    ) {
        self.remove_from(self.lower_bound(first / CHUNK_LEN), first, end, report);
    }

    /// As [`Entries::remove`] where the place of the first chunk, or one before it, is known.
    #[inline]
    pub(super) fn remove_from(
        &mut self,
        mut at: usize,
        first: u64,
        end: u64,
        mut report: impl FnMut(Released, Sizes, bool),
    ) {
        while let Some(chunk) = self.chunks.get_mut(at) {
            let start = chunk.number * CHUNK_LEN;
            if start >= end {
                return;
            }
            let (_, bit, len) = part(first.max(start), end.min(start + CHUNK_LEN));
            let gone = chunk.live & mask(bit, len);
            if gone != 0 {
                chunk.report(gone, &mut report);
                chunk.clear(gone);
                if chunk.live == 0 {
                    let number = chunk.number;
                    self.chunk_emptied(at);
                    if end <= start + CHUNK_LEN {
                        return;
                    }
                    at = self.lower_bound(number + 1);
                    continue;
                }
            }
            at += 1;
        }
    }

    /// Makes a held message ready again; its sizes.
    pub(super) fn give_back(&mut self, index: u64) -> Sizes {
        let (number, bit) = split(index);
        let at = self
            .find(number)
            .expect("the caller checked that the message is held");
        let chunk = &mut self.chunks[at];
        assert!(
            chunk.held() >> bit & 1 == 1,
            "only a held message goes back"
        );
        chunk.ready |= 1 << bit;
        chunk.redelivered |= 1 << bit;
        let sizes = chunk.sizes(bit);
        if let Some(expires_at) = chunk.expiry(bit) {
            self.index_expiry(at, expires_at);
        }
        sizes
    }

    /// Indexes of the ready messages, in order.
    pub(super) fn ready_indexes(&self) -> Vec<u64> {
        let of = |chunk: &Chunk| {
            let first = chunk.index_of(0).0;
            bits(chunk.ready).map(move |bit| first + u64::from(bit))
        };
        self.chunks.iter().flat_map(of).collect()
    }

    /// Removes every ready message; reports them in order.
    pub(super) fn remove_ready(&mut self, mut report: impl FnMut(Released)) {
        for chunk in &mut self.chunks {
            bits(chunk.ready).for_each(|bit| report(chunk.released(bit)));
            chunk.clear(chunk.ready);
        }
        self.sweep();
    }

    /// Points a live message to another copy of its body.
    pub(super) fn relocate(&mut self, index: u64, from: BodyRef, to: BodyRef) -> bool {
        let (number, bit) = split(index);
        let Some(at) = self.find(number) else {
            return false;
        };
        let chunk = &mut self.chunks[at];
        if chunk.live >> bit & 1 == 0 {
            return false;
        }
        let Some(body) = chunk.body_mut(bit) else {
            return false;
        };
        if *body != from {
            return false;
        }
        *body = to;
        true
    }

    /// Live messages from `first` on, in order. In recovery: those whose body is known.
    pub(super) fn live_from(&self, first: u64, recovery: bool) -> impl Iterator<Item = Released> {
        let start = self.lower_bound(first / CHUNK_LEN);
        self.chunks
            .range(start..)
            .flat_map(move |chunk| {
                let mask = if recovery { chunk.ready } else { chunk.live };
                bits(mask).map(move |bit| chunk.released(bit))
            })
            .skip_while(move |message| message.0.0 < first)
    }

    /// Calls `each` with `(start, end)` of every maximal run of live messages.
    pub(super) fn live_runs(&self, each: impl FnMut(u64, u64)) {
        self.runs(|chunk| chunk.live, each);
    }

    /// As [`Entries::live_runs`], of live messages that are not ready: in recovery, the ones
    /// whose body is not known.
    pub(super) fn unready_runs(&self, each: impl FnMut(u64, u64)) {
        self.runs(Chunk::held, each);
    }

    fn runs(&self, of: impl Fn(&Chunk) -> u64, mut each: impl FnMut(u64, u64)) {
        let mut open = (0, 0);
        for chunk in &self.chunks {
            let mut rest = of(chunk);
            while rest != 0 {
                let bit = rest.trailing_zeros();
                let len = (rest >> bit).trailing_ones();
                let start = chunk.index_of(bit).0;
                if open.1 != start {
                    if open.1 > open.0 {
                        each(open.0, open.1);
                    }
                    open = (start, start);
                }
                open.1 += u64::from(len);
                rest &= !mask(bit, len);
            }
        }
        if open.1 > open.0 {
            each(open.0, open.1);
        }
    }

    /// Whether a message is live, and whether it is ready.
    pub(super) fn state(&self, index: u64) -> (bool, bool) {
        let (number, bit) = split(index);
        self.find(number).map_or((false, false), |at| {
            let chunk = &self.chunks[at];
            (chunk.live >> bit & 1 == 1, chunk.ready >> bit & 1 == 1)
        })
    }

    /// Marks `start..end`, all above what is there, as live without bodies.
    pub(super) fn expect_run(&mut self, start: u64, end: u64) {
        let mut index = start;
        while index < end {
            let (number, bit, len) = part(index, end);
            if self
                .chunks
                .back()
                .is_none_or(|chunk| chunk.number != number)
            {
                self.chunks.push_back(Chunk::new(number));
            }
            let chunk = self.chunks.back_mut().expect("a chunk was just pushed");
            chunk.live |= mask(bit, len);
            index += u64::from(len);
        }
        self.advance_next_index(end);
    }

    /// Puts a message where it belongs, in any order.
    pub(super) fn restore(&mut self, index: u64, arrival: &Arrival, level: u8) {
        let (number, bit) = split(index);
        let at = self.lower_bound(number);
        if self
            .chunks
            .get(at)
            .is_none_or(|chunk| chunk.number != number)
        {
            self.chunks.insert(at, Chunk::new(number));
        }
        let chunk = &mut self.chunks[at];
        if chunk.live == 0 {
            // It may have been a leftover; those are counted anew when recovery ends.
            chunk.redelivered = 0;
        }
        chunk.put(bit, arrival);
        if arrival.has_rare(level) {
            chunk.put_rare(bit, arrival, level);
        }
        self.advance_next_index(index + 1);
    }

    /// In recovery: the body of the live message at `index` is not known any more; which it was.
    pub(super) fn forget_body(&mut self, index: u64) -> Option<Released> {
        let (live, has_body) = self.state(index);
        if !live || !has_body {
            return None;
        }
        let (number, bit) = split(index);
        let at = self.find(number)?;
        let chunk = &mut self.chunks[at];
        let released = chunk.released(bit);
        chunk.clear(1 << bit);
        chunk.live |= 1 << bit;
        Some(released)
    }

    /// Ends recovery: what has no body goes, what lies below `watermark` may have been handed
    /// out. Returns what is ready now, and how many had no body.
    pub(super) fn finish_recovery(&mut self, watermark: u64) -> (Totals, u64) {
        let (mut ready, mut missing) = (Totals::default(), 0);
        for at in 0..self.chunks.len() {
            let chunk = &mut self.chunks[at];
            missing += u64::from(chunk.held().count_ones());
            chunk.clear(chunk.held());
            let below = watermark
                .saturating_sub(chunk.number * CHUNK_LEN)
                .min(CHUNK_LEN);
            let below = u32::try_from(below).expect("at most 64");
            chunk.redelivered = chunk.came_redelivered();
            if below > 0 {
                chunk.redelivered |= chunk.live & mask(0, below);
            }
            bits(chunk.live).for_each(|bit| ready.add(chunk.sizes(bit)));
            if let Some(expires_at) = chunk.earliest_expiry() {
                self.index_expiry(at, expires_at);
            }
        }
        self.sweep();
        (ready, missing)
    }

    /// Index of the first live message.
    pub(super) fn first_live(&self) -> Option<u64> {
        let chunk = self.chunks.iter().find(|chunk| chunk.live != 0)?;
        Some(chunk.index_of(chunk.live.trailing_zeros()).0)
    }

    /// Drops every chunk without messages, the one being filled included.
    pub(super) fn sweep(&mut self) {
        let expiries = &mut self.expiries;
        self.chunks.retain(|chunk| {
            if chunk.live == 0
                && let Some(at) = chunk.indexed_at()
            {
                expiries.remove(&(at, chunk.number));
            }
            chunk.live != 0
        });
        self.leftover_count = 0;
    }

    /// As [`Entries::sweep`], and gives spare capacity back.
    pub(super) fn trim(&mut self) {
        self.sweep();
        self.spare = None;
        self.chunks.shrink_to_fit();
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let boxed: usize = self.chunks.iter().map(Chunk::boxed_size_bytes).sum();
        let expiries = self.expiries.len() * size_of::<(UnixMillis, u64)>();
        let spare = self.spare.as_ref().map_or(0, |_| size_of::<Slots>());
        self.chunks.capacity() * size_of::<Chunk>() + boxed + spare + expiries
    }

    /// Ready messages of level 0 from `first` on, in order.
    pub(super) fn ready_from(&self, first: u64) -> impl Iterator<Item = Released> {
        let (number, bit) = split(first);
        self.chunks
            .range(self.lower_bound(number)..)
            .flat_map(move |chunk| {
                let is_first = chunk.number == number;
                let from = if is_first {
                    mask(bit, 64 - bit)
                } else {
                    u64::MAX
                };
                bits(chunk.ready_plain() & from).map(move |bit| chunk.released(bit))
            })
    }

    /// Ready, held and dying messages.
    pub(super) fn count_all(&self) -> (Totals, Totals, Totals) {
        let (mut ready, mut held, mut dying) =
            (Totals::default(), Totals::default(), Totals::default());
        for chunk in &self.chunks {
            bits(chunk.ready).for_each(|bit| ready.add(chunk.sizes(bit)));
            bits(chunk.held()).for_each(|bit| held.add(chunk.sizes(bit)));
            bits(chunk.dying()).for_each(|bit| dying.add(chunk.sizes(bit)));
        }
        (ready, held, dying)
    }

    pub(super) fn check_invariants(&self, recovery: bool) {
        let mut previous = None;
        for chunk in &self.chunks {
            assert!(previous < Some(chunk.number), "chunks are sorted");
            previous = Some(chunk.number);
            chunk.check_invariants(recovery);
            let end = chunk.number * CHUNK_LEN + u64::from(64 - chunk.live.leading_zeros());
            assert!(
                chunk.live == 0 || end <= self.next_index,
                "live below the next index"
            );
        }
        self.check_expiries(recovery);
        if !recovery {
            let last = self.next_index / CHUNK_LEN;
            let leftovers = self
                .chunks
                .iter()
                .filter(|c| c.live == 0 && c.number != last);
            assert_eq!(leftovers.count(), self.leftover_count);
            assert!(
                self.leftover_count <= SWEEP_LEN_MIN.max(self.chunks.len() / 2),
                "leftovers are swept"
            );
        }
    }

    /// A chunk lost its last message. The one being filled stays, to be filled on.
    fn chunk_emptied(&mut self, at: usize) {
        if self.chunks[at].number == self.next_index / CHUNK_LEN {
            return;
        }
        self.drop_expiry(at);
        if let Some(slots) = self.chunks[at].free() {
            self.spare = Some(slots);
        }
        // Exact except in recovery, where the next index jumps; its end sweeps and counts anew.
        self.leftover_count += 1;
        while self
            .chunks
            .front()
            .is_some_and(|chunk| self.is_leftover(chunk))
        {
            self.chunks.pop_front();
            self.leftover_count = self.leftover_count.saturating_sub(1);
        }
        while self
            .chunks
            .back()
            .is_some_and(|chunk| self.is_leftover(chunk))
        {
            self.chunks.pop_back();
            self.leftover_count = self.leftover_count.saturating_sub(1);
        }
        if self.leftover_count > SWEEP_LEN_MIN.max(self.chunks.len() / 2) {
            let last = self.next_index / CHUNK_LEN;
            self.chunks
                .retain(|chunk| chunk.live != 0 || chunk.number == last);
            self.leftover_count = 0;
        }
    }

    #[inline]
    fn is_leftover(&self, chunk: &Chunk) -> bool {
        chunk.live == 0 && chunk.number != self.next_index / CHUNK_LEN
    }

    #[inline]
    pub(super) fn find(&self, number: u64) -> Option<usize> {
        let at = self.lower_bound(number);
        self.chunks
            .get(at)
            .is_some_and(|chunk| chunk.number == number)
            .then_some(at)
    }

    /// Place of the chunk of a live message.
    pub(super) fn place_of(&self, index: u64) -> usize {
        self.lower_bound(index / CHUNK_LEN)
    }

    /// Place of the first chunk with this number or a higher one.
    #[inline]
    fn lower_bound(&self, number: u64) -> usize {
        let Some(front) = self.chunks.front() else {
            return 0;
        };
        if number <= front.number {
            return 0;
        }
        self.lower_bound_behind(number, front)
    }

    fn lower_bound_behind(&self, number: u64, front: &Chunk) -> usize {
        let back = self.chunks.back().expect("there is a front");
        if number > back.number {
            return self.chunks.len();
        }
        // Exact if no gap lies between the front and the chunk, or between it and the back.
        let from_front = usize::try_from(number - front.number).unwrap_or(usize::MAX);
        if self
            .chunks
            .get(from_front)
            .is_some_and(|chunk| chunk.number == number)
        {
            return from_front;
        }
        let distance = usize::try_from(back.number - number).unwrap_or(usize::MAX);
        if let Some(from_back) = (self.chunks.len() - 1).checked_sub(distance)
            && self.chunks[from_back].number == number
        {
            return from_back;
        }
        self.chunks.partition_point(|chunk| chunk.number < number)
    }
}
