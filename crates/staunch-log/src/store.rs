//! The pure middle of the log.
//!
//! Records go into the *open chunk*, a growing buffer whose place in a young file is already
//! decided, so that a reference can be handed out at once. `seal` ends it: the buffer becomes
//! shared bytes, queued for writing and kept as the body cache. While one write is under way the
//! next gathers; `poll_write` then hands out everything that waits for the same file. One write
//! never spans two files, so each header can say exactly which chunk was persisted before it.
//!
//! Rejected: naming records by (chunk, offset) and letting the writer choose the file. It needs
//! a table from chunk to place even for cold messages, and chunk numbers do not fit.

mod fetch;
mod housekeeping;
mod retire;
mod segments;
#[cfg(test)]
mod tests;
mod young;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use staunch_types::{BodyRef, Message};

use crate::config::Config;
use crate::job::{WriteChunk, WriteDone, WriteJob};
use crate::layout::chunk::{CHUNK_HEADER_SIZE_BYTES, ChunkHeader, size_on_disk};
use crate::layout::record::{self, RecordHead, RecordKind, RecordMeta};
use crate::layout::{SECTOR_SIZE_BYTES, narrow};
use crate::place::{ChunkId, Container, FileId, Place, StreamId};
use housekeeping::Housekeeping;
use retire::Retirement;
use segments::Segments;
use young::{ChunkKey, NewChunk, Young};

/// Smallest buffer an open chunk starts with.
const OPEN_CAPACITY_BYTES_MIN: usize = 4 * 1024;

/// The log's bookkeeping: what is appended, written, alive, in memory, retired.
#[derive(Debug)]
pub struct Store {
    config: Config,
    open: Option<OpenChunk>,
    /// Where the next chunk starts.
    cursor: Cursor,
    /// Id of the next chunk to be opened.
    next_chunk: ChunkId,
    /// Last chunk that was sealed (or recovered).
    last_chunk: ChunkId,
    /// Size of the last chunk's records: the best guess for the next.
    size_expected: usize,
    /// Last chunk sealed since `seal` last answered.
    unreported: Option<ChunkId>,
    /// Last chunk on disk and synced, with all before it.
    persisted: ChunkId,
    unwritten: VecDeque<Unwritten>,
    writing: Option<Writing>,
    unwritten_size_bytes: usize,
    young: Young,
    cache_size_bytes_max: u64,
    segments: Segments,
    retirement: Retirement,
    housekeeping: Housekeeping,
    /// Fetches under way, by file they read.
    pins: BTreeMap<Container, u32>,
}

#[derive(Clone, Copy, Debug)]
struct Cursor {
    file: FileId,
    offset: u32,
}

#[derive(Debug)]
struct OpenChunk {
    id: ChunkId,
    place: Cursor,
    seed: u32,
    records: Vec<u8>,
    record_count: u32,
    live_count: u32,
    live_size_bytes: u64,
}

#[derive(Debug)]
struct Unwritten {
    header: ChunkHeader,
    place: Cursor,
    key: ChunkKey,
    data: Bytes,
}

#[derive(Debug)]
struct Writing {
    last: ChunkId,
    keys: Vec<ChunkKey>,
    size_bytes: usize,
}

/// Where a recovered log goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    /// Fresh young file to write to.
    pub(crate) file: FileId,
    /// Last chunk that was found.
    pub(crate) last_chunk: ChunkId,
    /// Id of the next one.
    pub(crate) next_chunk: ChunkId,
}

/// Figures for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Young files that are not retired, the current one included.
    pub young_files: usize,
    /// Messages alive in them, and the space they take.
    pub young_live_count: u64,
    /// Space live messages take in young files.
    pub young_live_size_bytes: u64,
    /// Segments.
    pub segments: usize,
    /// Their size.
    pub segments_size_bytes: u64,
    /// Messages alive in them.
    pub segments_live_count: u64,
    /// Space live messages take in segments.
    pub segments_live_size_bytes: u64,
    /// Bytes appended and not yet persisted.
    pub unwritten_size_bytes: usize,
    /// Bytes of message bodies in memory.
    pub cached_size_bytes: u64,
    /// Files ready ahead of the current one.
    pub prepared_files: u64,
    /// Files that wait for a checkpoint or a reader before they are given back.
    pub retired_files: usize,
    /// Fetches under way, counted once for each file.
    pub fetches: u32,
}

impl Store {
    pub(crate) fn new(config: Config) -> Self {
        config.assert_valid();
        Self {
            open: None,
            cursor: Cursor {
                file: FileId(0),
                offset: narrow(SECTOR_SIZE_BYTES),
            },
            next_chunk: ChunkId(1),
            last_chunk: ChunkId(0),
            unreported: None,
            size_expected: 0,
            persisted: ChunkId(0),
            unwritten: VecDeque::new(),
            writing: None,
            unwritten_size_bytes: 0,
            young: Young::default(),
            cache_size_bytes_max: config.cache_size_bytes,
            segments: Segments::default(),
            retirement: Retirement::default(),
            housekeeping: Housekeeping::default(),
            pins: BTreeMap::new(),
            config,
        }
    }

    /// The configuration it was opened with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Appends a message to its stream and says where it is: the one copy of its body.
    ///
    /// It counts as live until [`Store::release`].
    ///
    /// # Panics
    /// If its stored form exceeds [`Config::payload_size_bytes_max`].
    pub fn append_message(
        &mut self,
        stream: StreamId,
        index: u64,
        meta: RecordMeta,
        message: &Message,
    ) -> BodyRef {
        let size = message.stored_size_bytes();
        self.append_message_with(stream, index, meta, (size, |out| message.put_stored(out)))
    }

    /// As [`Store::append_message`] of a message that is already in its stored form.
    ///
    /// # Panics
    /// If it exceeds [`Config::payload_size_bytes_max`].
    pub fn append_stored(
        &mut self,
        stream: StreamId,
        index: u64,
        meta: RecordMeta,
        stored: &[u8],
    ) -> BodyRef {
        let put = |out: &mut Vec<u8>| out.extend_from_slice(stored);
        self.append_message_with(stream, index, meta, (stored.len(), put))
    }

    #[inline]
    fn append_message_with(
        &mut self,
        stream: StreamId,
        index: u64,
        meta: RecordMeta,
        (size, put): (usize, impl FnOnce(&mut Vec<u8>)),
    ) -> BodyRef {
        let head = RecordHead {
            kind: RecordKind::Message,
            stream,
            index,
            meta,
        };
        let body = self.append(&head, size, put);
        let open = self.open.as_mut().expect("append opened it");
        open.live_count += 1;
        open.live_size_bytes += record::size_bytes(size) as u64;
        body
    }

    /// Appends a control entry (a settlement, a change of the catalog) to a stream.
    ///
    /// # Panics
    /// If it exceeds [`Config::payload_size_bytes_max`].
    pub fn append_control(&mut self, stream: StreamId, payload: &[u8]) {
        let meta = RecordMeta::default();
        let head = RecordHead {
            kind: RecordKind::Control,
            stream,
            index: 0,
            meta,
        };
        self.append(&head, payload.len(), |out| out.extend_from_slice(payload));
    }

    fn append(
        &mut self,
        head: &RecordHead,
        payload_size: usize,
        put: impl FnOnce(&mut Vec<u8>),
    ) -> BodyRef {
        assert!(
            payload_size <= self.config.payload_size_bytes_max(),
            "record exceeds a file"
        );
        let open = self.open_with_room_for(record::size_bytes(payload_size));
        let offset = open.place.offset + narrow(CHUNK_HEADER_SIZE_BYTES + open.records.len());
        record::put(
            &mut open.records,
            (open.seed, offset),
            head,
            payload_size,
            put,
        );
        open.record_count += 1;
        Place {
            container: Container::Young(open.place.file),
            offset,
        }
        .pack()
    }

    /// The open chunk, after sealing the last one if a record of this size does not go into it.
    fn open_with_room_for(&mut self, record_size: usize) -> &mut OpenChunk {
        let fits = self.open.as_ref().is_none_or(|open| {
            let size = open.records.len() + record_size;
            let end = open.place.offset as usize + size_on_disk(size);
            size <= self.config.chunk_size_bytes_max as usize
                && end <= self.config.file_size_bytes as usize
        });
        if !fits {
            self.seal_open();
        }
        if self.open.is_none() {
            if !self.has_room_at_cursor(record_size) {
                let file = FileId(self.cursor.file.0 + 1);
                self.cursor = Cursor {
                    file,
                    offset: narrow(SECTOR_SIZE_BYTES),
                };
            }
            self.open = Some(OpenChunk::new(
                self.next_chunk,
                self.cursor,
                self.size_expected,
            ));
            self.next_chunk = ChunkId(self.next_chunk.0 + 1);
        }
        self.open.as_mut().expect("it was just opened")
    }

    fn has_room_at_cursor(&self, record_size: usize) -> bool {
        let end = self.cursor.offset as usize + size_on_disk(record_size);
        end <= self.config.file_size_bytes as usize
    }

    /// Bytes in the open chunk.
    pub fn open_size_bytes(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.records.len())
    }

    /// Ends the open chunk: it is now queued for writing. Gives the last chunk that holds
    /// anything appended since the previous call: when [`Store::persisted`] reaches it, all of
    /// that may be confirmed.
    pub fn seal(&mut self) -> Option<ChunkId> {
        self.seal_open();
        self.unreported.take()
    }

    fn seal_open(&mut self) {
        let Some(open) = self.open.take() else { return };
        let header = ChunkHeader {
            id: open.id,
            previous: self.last_chunk,
            persisted: ChunkId(0),
            records_size_bytes: narrow(open.records.len()),
            record_count: open.record_count,
        };
        let size = size_on_disk(open.records.len());
        let mut records = open.records;
        self.size_expected = size;
        records.resize(size - CHUNK_HEADER_SIZE_BYTES, 0);
        // A buffer far larger than its chunk would hold memory the cache does not count.
        if records.capacity() - records.len() > records.len() / 4 {
            records.shrink_to_fit();
        }
        let data = Bytes::from(records);
        let key = self.young.add(NewChunk {
            id: open.id,
            file: open.place.file,
            offset: open.place.offset,
            live_count: open.live_count,
            live_size_bytes: open.live_size_bytes,
            data: Some(data.clone()),
        });
        self.cursor.offset = open.place.offset + narrow(size);
        self.unwritten_size_bytes += size;
        self.unwritten.push_back(Unwritten {
            header,
            place: open.place,
            key,
            data,
        });
        self.last_chunk = open.id;
        self.unreported = Some(open.id);
        self.young.evict(self.cache_size_bytes_max, self.persisted);
    }

    /// The next write: all sealed chunks for one file, up to a limit. `None` while one is under
    /// way, when there is nothing to write, and when the file for it is not ready yet.
    ///
    /// # Panics
    /// If the chunks do not lie back to back.
    pub fn poll_write(&mut self) -> Option<WriteJob> {
        if self.writing.is_some() {
            return None;
        }
        let place = self.unwritten.front()?.place;
        if !self.housekeeping.is_prepared(place.file) {
            return None;
        }
        let seed = Container::Young(place.file).seed();
        let mut writing = Writing {
            last: ChunkId(0),
            keys: Vec::new(),
            size_bytes: 0,
        };
        let mut chunks = Vec::new();
        let limit = self.config.write_size_bytes_max as usize;
        while let Some(next) = self.unwritten.pop_front_if(|next| {
            let size = writing.size_bytes + CHUNK_HEADER_SIZE_BYTES + next.data.len();
            next.place.file == place.file && (size <= limit || writing.size_bytes == 0)
        }) {
            assert_eq!(
                next.place.offset as usize,
                place.offset as usize + writing.size_bytes
            );
            let header = ChunkHeader {
                persisted: self.persisted,
                ..next.header
            };
            let header = header.encode(seed, next.place.offset);
            let size = CHUNK_HEADER_SIZE_BYTES + next.data.len();
            chunks.push(WriteChunk {
                header,
                data: next.data,
            });
            writing.last = next.header.id;
            writing.keys.push(next.key);
            writing.size_bytes += size;
        }
        let (last, size_bytes) = (writing.last, writing.size_bytes);
        self.writing = Some(writing);
        Some(WriteJob {
            file: place.file,
            offset: place.offset,
            chunks,
            last,
            size_bytes,
        })
    }

    /// A write is on disk: [`Store::persisted`] advances.
    ///
    /// # Panics
    /// If it is not the write last handed out.
    pub fn handle_written(&mut self, done: &WriteDone) {
        let writing = self.writing.take().expect("a write was under way");
        assert_eq!(
            writing.last, done.last,
            "writes end in the order they were handed out"
        );
        assert!(self.persisted < done.last);
        self.persisted = done.last;
        self.unwritten_size_bytes -= writing.size_bytes;
        for key in writing.keys {
            self.young.written(key);
        }
        self.young.evict(self.cache_size_bytes_max, self.persisted);
    }

    /// Last chunk that is on disk and synced, with all before it.
    pub fn persisted(&self) -> ChunkId {
        self.persisted
    }

    /// Bytes appended and not yet persisted, for backpressure.
    pub fn unwritten_size_bytes(&self) -> usize {
        self.unwritten_size_bytes + self.open_size_bytes()
    }

    /// A message's stored form, if its chunk is in memory. From a chunk that is still open it is
    /// a copy; call [`Store::seal`] first.
    ///
    /// # Panics
    /// If `body` and `size_bytes` are not those of a record in memory.
    pub fn body(&self, body: BodyRef, size_bytes: u32) -> Option<Bytes> {
        let Place {
            container: Container::Young(file),
            offset,
        } = Place::unpack(body)
        else {
            return None;
        };
        if let Some(open) = self.open_at(file, offset) {
            let start = (offset - open.place.offset) as usize - CHUNK_HEADER_SIZE_BYTES
                + record::HEADER_SIZE_BYTES;
            let stored = &open.records[start..start + size_bytes as usize];
            return Some(Bytes::copy_from_slice(stored));
        }
        self.young.body(file, offset, size_bytes)
    }

    /// A message is dead: settled, expired, or its queue deleted. A chunk with no live message
    /// gives its memory back at once; a segment with none is deleted after the next checkpoint.
    ///
    /// Everything recovered counts as live until released, also what the node's state says is
    /// settled.
    ///
    /// # Panics
    /// If a chunk or segment has fewer live messages than were released.
    pub fn release(&mut self, body: BodyRef, size_bytes: u32) {
        let record_size = record::size_bytes(size_bytes as usize) as u64;
        let Place { container, offset } = Place::unpack(body);
        match container {
            Container::Segment(segment) => self.release_in_segment(segment, record_size),
            Container::Young(file) if self.open_at(file, offset).is_some() => {
                let open = self.open.as_mut().expect("the reference is in it");
                assert!(
                    open.live_count > 0,
                    "a message of the open chunk was released twice"
                );
                open.live_count -= 1;
                open.live_size_bytes -= record_size;
            }
            Container::Young(file) => {
                self.young
                    .release((file, offset), record_size, self.persisted);
            }
        }
    }

    fn open_at(&self, file: FileId, offset: u32) -> Option<&OpenChunk> {
        let open = self.open.as_ref()?;
        (open.place.file == file && offset >= open.place.offset).then_some(open)
    }

    /// Sets the limit for bodies in memory; the oldest written chunks above it leave at once.
    pub fn set_cache_size_bytes(&mut self, limit: u64) {
        self.cache_size_bytes_max = limit;
        self.young.evict(limit, self.persisted);
    }

    /// Bytes of sealed chunks in memory, those not yet written included.
    pub fn cached_size_bytes(&self) -> u64 {
        self.young.cached_size_bytes()
    }

    /// Figures for metrics.
    pub fn facts(&self) -> Facts {
        let mut facts = Facts {
            young_files: self.young.files().count(),
            young_live_count: self.young.files().map(|file| file.live_count).sum(),
            young_live_size_bytes: self.young.files().map(|file| file.live_size_bytes).sum(),
            unwritten_size_bytes: self.unwritten_size_bytes(),
            cached_size_bytes: self.cached_size_bytes(),
            prepared_files: self.housekeeping.prepared_ahead_of(self.cursor.file),
            retired_files: self.retirement.waiting_count() + self.housekeeping.to_clean_count(),
            fetches: self.pins.values().sum(),
            ..Facts::default()
        };
        self.segments.add_facts(&mut facts);
        facts
    }

    /// Checks the counts against each other.
    ///
    /// # Panics
    /// If one does not hold.
    pub fn check_invariants(&self) {
        self.young.check_invariants();
        self.segments.check_invariants();
        assert!(self.persisted <= self.last_chunk && self.last_chunk < self.next_chunk);
        let queued = self
            .unwritten
            .iter()
            .map(|c| CHUNK_HEADER_SIZE_BYTES + c.data.len());
        let writing = self
            .writing
            .as_ref()
            .map_or(0, |writing| writing.size_bytes);
        assert_eq!(queued.sum::<usize>() + writing, self.unwritten_size_bytes);
        assert!(self.cursor.offset <= self.config.file_size_bytes);
        assert!((self.cursor.offset as usize).is_multiple_of(SECTOR_SIZE_BYTES));
        assert!(self.pins.values().all(|count| *count > 0));
    }

    /// A chunk that recovery found in a young file, all its messages taken as live.
    pub(crate) fn recover_chunk(&mut self, chunk: NewChunk) {
        assert!(chunk.data.is_none());
        (self.last_chunk, self.persisted) = (chunk.id, chunk.id);
        self.young.add(chunk);
    }

    /// Begins the fresh file a recovered log writes to, with an empty chunk as a marker: whatever
    /// follows `start.last_chunk` in older files is cut off for good once it is persisted.
    pub(crate) fn start(&mut self, start: Start) {
        assert!(self.young.files().all(|file| file.id < start.file));
        assert!(start.last_chunk < start.next_chunk);
        (self.last_chunk, self.persisted) = (start.last_chunk, start.last_chunk);
        self.next_chunk = ChunkId(start.next_chunk.0 + 1);
        self.cursor = Cursor {
            file: start.file,
            offset: narrow(SECTOR_SIZE_BYTES),
        };
        self.housekeeping.prepared_up_to(start.file);
        self.open = Some(OpenChunk::new(start.next_chunk, self.cursor, 0));
        self.seal_open();
        self.unreported = None;
    }
}

pub(crate) use housekeeping::FoundUpkeep;
pub(crate) use young::NewChunk as RecoveredChunk;

impl OpenChunk {
    fn new(id: ChunkId, place: Cursor, size_expected: usize) -> Self {
        let capacity = size_expected.max(OPEN_CAPACITY_BYTES_MIN);
        Self {
            id,
            place,
            seed: Container::Young(place.file).seed(),
            records: Vec::with_capacity(capacity),
            record_count: 0,
            live_count: 0,
            live_size_bytes: 0,
        }
    }
}
