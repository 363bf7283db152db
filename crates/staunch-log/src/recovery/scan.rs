//! Replaying the young files, and finding where the log ends.

use bytes::Bytes;

use crate::disk::{Disk, DiskFile};
use crate::error::{Damage, DamageCause, Note, RecoverError};
use crate::layout::checkpoint::CheckpointImage;
use crate::layout::chunk::{CHUNK_HEADER_SIZE_BYTES, ChunkHeader, size_on_disk};
use crate::layout::record::{self, RecordKind};
use crate::layout::{SECTOR_SIZE_BYTES, narrow};
use crate::name;
use crate::place::{ChunkId, Container, FileId, Place};
use crate::recovery::Recovered;
use crate::store::{RecoveredChunk, Store};

/// Walks the chunks of all young files.
#[derive(Debug)]
pub(crate) struct Scan<D: Disk> {
    disk: D,
    files: Vec<FileId>,
    /// Which of them is being read, and what it holds.
    position: usize,
    loaded: Option<Loaded>,
    buffer: Vec<u8>,
    /// Records of the current chunk still to be handed out: offsets in the file.
    records: std::vec::IntoIter<u32>,
    /// Where the record is that was handed out last.
    handed_out: Option<u32>,
    in_state: bool,
    covered: ChunkId,
    /// Last good chunk.
    last: ChunkId,
    /// Highest chunk anything says was persisted.
    persisted: ChunkId,
    /// Highest chunk number seen, good or not.
    seen: ChunkId,
    /// Good chunks above `persisted`: they are to be written once more.
    unsure: Vec<Unsure>,
    tail: Option<Note>,
    replayed_size_bytes: u64,
}

#[derive(Debug)]
struct Loaded {
    file: FileId,
    seed: u32,
    /// Where the next chunk starts.
    offset: u32,
    /// Last chunk in this file, where a later file says so.
    end: Option<ChunkId>,
}

/// A chunk that may be in the page cache only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unsure {
    pub(crate) id: ChunkId,
    pub(crate) file: FileId,
    pub(crate) offset: u32,
    pub(crate) size_bytes: u32,
}

/// What the scan found, once it has ended.
#[derive(Debug)]
pub(crate) struct ScanEnd {
    pub(crate) last: ChunkId,
    /// Above every chunk number that may be on disk in any state.
    pub(crate) next: ChunkId,
    pub(crate) unsure: Vec<Unsure>,
    pub(crate) tail: Option<Note>,
    /// File of the last good chunk.
    pub(crate) last_file: Option<FileId>,
    /// Files behind it.
    pub(crate) unused: Vec<FileId>,
}

/// Chunk numbers skipped by a recovery: more than one write can have put on disk beyond what the
/// scan can still read.
const CHUNKS_SKIPPED: u64 = 1 << 16;

impl<D: Disk> Scan<D> {
    pub(crate) fn new(disk: D, files: Vec<FileId>, image: &CheckpointImage) -> Self {
        Self {
            disk,
            files,
            position: 0,
            loaded: None,
            buffer: Vec::new(),
            records: Vec::new().into_iter(),
            handed_out: None,
            in_state: false,
            covered: image.covered,
            last: image.follows,
            persisted: image.persisted,
            seen: image.covered.max(image.follows),
            unsure: Vec::new(),
            tail: None,
            replayed_size_bytes: 0,
        }
    }

    pub(crate) fn replayed_size_bytes(&self) -> u64 {
        self.replayed_size_bytes
    }

    /// The next record, verified.
    pub(crate) fn next(&mut self, store: &mut Store) -> Result<Option<Recovered>, RecoverError> {
        loop {
            self.handed_out = self.records.next();
            if let Some(offset) = self.handed_out {
                return Ok(Some(self.record(offset)));
            }
            if !self.next_chunk(store)? {
                return Ok(None);
            }
        }
    }

    pub(crate) fn end(self) -> ScanEnd {
        let next = self.seen.max(self.last);
        let next = if next == ChunkId(0) {
            1
        } else {
            next.0 + CHUNKS_SKIPPED
        };
        let last_file = self.unsure.last().map(|unsure| unsure.file);
        let unused = last_file.map_or_else(
            || self.files.clone(),
            |last| {
                self.files
                    .iter()
                    .copied()
                    .filter(|file| *file > last)
                    .collect()
            },
        );
        ScanEnd {
            last: self.last,
            next: ChunkId(next),
            unsure: self.unsure,
            tail: self.tail,
            last_file,
            unused,
        }
    }

    /// Payload of the record that was handed out last.
    pub(crate) fn payload(&self) -> Option<&[u8]> {
        let offset = self.handed_out?;
        let record = record::parse(&self.buffer[offset as usize..]).expect("it was verified");
        Some(record.payload)
    }

    fn record(&self, offset: u32) -> Recovered {
        let loaded = self.loaded.as_ref().expect("records are of a loaded file");
        let record = record::parse(&self.buffer[offset as usize..]).expect("it was verified");
        let (head, in_state) = (record.head, self.in_state);
        match head.kind {
            RecordKind::Message => Recovered::Message {
                stream: head.stream,
                index: head.index,
                body: Place {
                    container: Container::Young(loaded.file),
                    offset,
                }
                .pack(),
                size_bytes: narrow(record.payload.len()),
                meta: head.meta,
                in_state,
            },
            RecordKind::Control => {
                let payload = Bytes::copy_from_slice(record.payload);
                Recovered::Control {
                    stream: head.stream,
                    payload,
                    in_state,
                }
            }
        }
    }

    /// Takes the next chunk; `false` at the end of the log.
    fn next_chunk(&mut self, store: &mut Store) -> Result<bool, RecoverError> {
        loop {
            if self.loaded.is_none() && !self.load_next()? {
                self.check_nothing_is_missing()?;
                return Ok(false);
            }
            let loaded = self.loaded.as_ref().expect("it was just loaded");
            if loaded.end == Some(self.last) {
                self.next_file();
                continue;
            }
            match self.read_chunk() {
                Ok((header, records)) => {
                    self.accept(&header, records, store);
                    return Ok(true);
                }
                Err(bad) => {
                    self.end_or_damage(bad)?;
                    return Ok(false);
                }
            }
        }
    }

    fn next_file(&mut self) {
        self.loaded = None;
        self.position += 1;
    }

    fn load_next(&mut self) -> Result<bool, RecoverError> {
        let Some(&file) = self.files.get(self.position) else {
            return Ok(false);
        };
        let end = self.end_of(self.position)?;
        self.load(file)?;
        self.replayed_size_bytes += self.buffer.len() as u64;
        let seed = Container::Young(file).seed();
        self.loaded = Some(Loaded {
            file,
            seed,
            offset: narrow(SECTOR_SIZE_BYTES),
            end,
        });
        Ok(true)
    }

    fn load(&mut self, file: FileId) -> Result<(), RecoverError> {
        let handle = self.disk.open(&name::young(file))?;
        let size = usize::try_from(handle.size_bytes()?).expect("young files fit in memory");
        self.buffer.resize(size, 0);
        handle.read_at(0, &mut self.buffer)?;
        Ok(())
    }

    /// The last chunk of a file: the one the next file's first chunk follows.
    fn end_of(&self, position: usize) -> Result<Option<ChunkId>, RecoverError> {
        for file in &self.files[position + 1..] {
            let handle = self.disk.open(&name::young(*file))?;
            if handle.size_bytes()? < 2 * SECTOR_SIZE_BYTES as u64 {
                continue;
            }
            let mut bytes = [0; CHUNK_HEADER_SIZE_BYTES];
            handle.read_at(SECTOR_SIZE_BYTES as u64, &mut bytes)?;
            let seed = Container::Young(*file).seed();
            if let Ok(first) = ChunkHeader::read(&bytes, seed, narrow(SECTOR_SIZE_BYTES)) {
                return Ok(Some(first.previous));
            }
        }
        Ok(None)
    }

    /// Reads and verifies the chunk at the current offset, with the offsets of its records.
    fn read_chunk(&self) -> Result<(ChunkHeader, Vec<u32>), Bad> {
        let loaded = self.loaded.as_ref().expect("a file is loaded");
        let offset = loaded.offset;
        let no_header = |cause| Bad {
            cause,
            begun: false,
        };
        let rest = self.buffer.get(offset as usize..).unwrap_or_default();
        let header = ChunkHeader::read(rest, loaded.seed, offset).map_err(no_header)?;
        let begun = |cause| Bad { cause, begun: true };
        if header.previous != self.last || header.id <= self.last {
            return Err(begun(DamageCause::Identity));
        }
        let size = header.records_size_bytes as usize;
        let Some(records) = rest.get(CHUNK_HEADER_SIZE_BYTES..CHUNK_HEADER_SIZE_BYTES + size)
        else {
            return Err(begun(DamageCause::Size));
        };
        let mut offsets = Vec::new();
        let mut at = 0;
        while at < size {
            let record_offset = offset + narrow(CHUNK_HEADER_SIZE_BYTES + at);
            let record = record::read(&records[at..], (loaded.seed, record_offset));
            at += record.map_err(begun)?.size_bytes();
            offsets.push(record_offset);
        }
        if at != size || offsets.len() != header.record_count as usize {
            return Err(begun(DamageCause::Size));
        }
        Ok((header, offsets))
    }

    fn accept(&mut self, header: &ChunkHeader, records: Vec<u32>, store: &mut Store) {
        let loaded = self.loaded.as_mut().expect("a file is loaded");
        let offset = loaded.offset;
        let size = narrow(size_on_disk(header.records_size_bytes as usize));
        loaded.offset += size;
        self.last = header.id;
        self.seen = self.seen.max(header.id);
        self.persisted = self.persisted.max(header.persisted);
        self.in_state = header.id <= self.covered;
        // The last one is kept in any case: it says in which file the log ends.
        let persisted = self.persisted;
        self.unsure.retain(|chunk| chunk.id > persisted);
        let file = loaded.file;
        self.unsure.push(Unsure {
            id: header.id,
            file,
            offset,
            size_bytes: size,
        });
        let (mut live_count, mut live_size_bytes) = (0, 0);
        for record_offset in &records {
            let bytes = &self.buffer[*record_offset as usize..];
            let record = record::parse(bytes).expect("it was verified");
            if record.head.kind == RecordKind::Message {
                live_count += 1;
                live_size_bytes += record.size_bytes() as u64;
            }
        }
        let id = header.id;
        let data = None;
        store.recover_chunk(RecoveredChunk {
            id,
            file,
            offset,
            live_count,
            live_size_bytes,
            data,
        });
        self.records = records.into_iter();
    }

    /// The chunk at the current offset is not good: either the log ends here, or it is damaged.
    fn end_or_damage(&mut self, bad: Bad) -> Result<(), RecoverError> {
        let loaded = self.loaded.take().expect("a file is loaded");
        let here = self.later_headers(loaded.seed, loaded.offset as usize + SECTOR_SIZE_BYTES);
        let mut begun = bad.begun || here.is_some();
        let mut blamed = (loaded.file, loaded.offset, bad.cause);
        let mut persisted = self.persisted.max(here.unwrap_or_default());
        for position in self.position + 1..self.files.len() {
            let file = self.files[position];
            self.load(file)?;
            let seed = Container::Young(file).seed();
            let Some(later) = self.later_headers(seed, SECTOR_SIZE_BYTES) else {
                continue;
            };
            if !begun && later > self.last {
                // This file looks finished; it is the next that lacks its beginning.
                let next = self.files[self.position + 1];
                blamed = (next, narrow(SECTOR_SIZE_BYTES), DamageCause::Missing);
            }
            begun = true;
            persisted = persisted.max(later);
        }
        let promised = loaded.end.unwrap_or_default().max(persisted);
        let (file, offset, cause) = blamed;
        let file = name::young(file);
        if promised > self.last {
            return Err(Damage {
                file,
                offset: u64::from(offset),
                cause,
            }
            .into());
        }
        if begun {
            let (offset, kept) = (u64::from(offset), self.last);
            self.tail = Some(Note::TailCut {
                file,
                offset,
                kept,
                cause,
            });
        }
        self.position = self.files.len();
        Ok(())
    }

    /// Looks for chunk headers in the loaded bytes at any sector from `start` on. Gives the
    /// highest chunk they call persisted; `None` if there is none at all.
    fn later_headers(&mut self, seed: u32, start: usize) -> Option<ChunkId> {
        let mut found = None;
        for offset in (start..self.buffer.len()).step_by(SECTOR_SIZE_BYTES) {
            let Ok(header) = ChunkHeader::read(&self.buffer[offset..], seed, narrow(offset)) else {
                continue;
            };
            if header.id > self.last {
                self.seen = self.seen.max(header.id);
                found = found.max(Some(header.persisted));
            }
        }
        found
    }

    /// All files are read to their ends; the checkpoint may know of more.
    fn check_nothing_is_missing(&self) -> Result<(), RecoverError> {
        if self.persisted <= self.last {
            return Ok(());
        }
        let file = self.files.last().copied().unwrap_or_default();
        Err(Damage::new(&name::young(file), 0, DamageCause::Truncated).into())
    }
}

/// Why the chunk at an offset is not good, and whether there is one at all.
#[derive(Clone, Copy, Debug)]
struct Bad {
    cause: DamageCause,
    begun: bool,
}
