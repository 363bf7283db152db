//! The young files: which chunks they hold, what lives in them, and which bytes are in memory.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::layout::chunk::CHUNK_HEADER_SIZE_BYTES;
use crate::layout::record;
use crate::place::{ChunkId, FileId};

/// All young files that are not retired, oldest first. The last is the one being filled.
#[derive(Debug, Default)]
pub(crate) struct Young {
    files: VecDeque<YoungFile>,
    /// Chunks in memory, oldest first; may name chunks that have left it since.
    cached: VecDeque<ChunkKey>,
    cached_size_bytes: u64,
}

/// A chunk's place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkKey {
    pub(crate) file: FileId,
    pub(crate) position: usize,
}

#[derive(Debug)]
pub(crate) struct YoungFile {
    pub(crate) id: FileId,
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) live_count: u64,
    pub(crate) live_size_bytes: u64,
}

#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) id: ChunkId,
    pub(crate) offset: u32,
    pub(crate) live_count: u32,
    /// Its records, without the header.
    data: Option<Bytes>,
}

/// A chunk that was sealed or recovered.
#[derive(Debug)]
pub(crate) struct NewChunk {
    pub(crate) id: ChunkId,
    pub(crate) file: FileId,
    pub(crate) offset: u32,
    pub(crate) live_count: u32,
    pub(crate) live_size_bytes: u64,
    pub(crate) data: Option<Bytes>,
}

impl Young {
    pub(crate) fn add(&mut self, new: NewChunk) -> ChunkKey {
        if self.files.back().is_none_or(|file| file.id < new.file) {
            self.files.push_back(YoungFile {
                id: new.file,
                chunks: Vec::new(),
                live_count: 0,
                live_size_bytes: 0,
            });
        }
        let file = self.files.back_mut().expect("one was just added");
        assert_eq!(file.id, new.file, "chunks are added in log order");
        let key = ChunkKey {
            file: new.file,
            position: file.chunks.len(),
        };
        file.live_count += u64::from(new.live_count);
        file.live_size_bytes += new.live_size_bytes;
        if let Some(data) = &new.data {
            self.cached_size_bytes += data.len() as u64;
            self.cached.push_back(key);
        }
        file.chunks.push(Chunk {
            id: new.id,
            offset: new.offset,
            live_count: new.live_count,
            data: new.data,
        });
        key
    }

    /// Stored form of the record at `offset`, if its chunk is in memory.
    pub(crate) fn body(&self, file: FileId, offset: u32, size_bytes: u32) -> Option<Bytes> {
        let file = &self.files[self.position(file)?];
        let chunk = &file.chunks[chunk_position(&file.chunks, offset)?];
        let start = (offset - chunk.offset) as usize - CHUNK_HEADER_SIZE_BYTES;
        let start = start + record::HEADER_SIZE_BYTES;
        chunk
            .data
            .as_ref()
            .map(|data| data.slice(start..start + size_bytes as usize))
    }

    /// One message of the chunk at `offset` is dead. A chunk without any that is written gives
    /// its memory back.
    pub(crate) fn release(
        &mut self,
        (file, offset): (FileId, u32),
        record_size: u64,
        persisted: ChunkId,
    ) {
        let Some(position) = self.position(file) else {
            return;
        };
        let file = &mut self.files[position];
        let position = chunk_position(&file.chunks, offset).expect("references name a chunk");
        let chunk = &mut file.chunks[position];
        assert!(
            chunk.live_count > 0,
            "a message of chunk {} was released twice",
            chunk.id
        );
        chunk.live_count -= 1;
        file.live_count -= 1;
        file.live_size_bytes -= record_size;
        if chunk.live_count == 0 && chunk.id <= persisted {
            self.cached_size_bytes -= take_data(chunk);
        }
    }

    /// The chunk is on disk now; without live messages it is needed in memory no more.
    pub(crate) fn written(&mut self, key: ChunkKey) {
        let Some(position) = self.position(key.file) else {
            return;
        };
        let chunk = &mut self.files[position].chunks[key.position];
        if chunk.live_count == 0 {
            self.cached_size_bytes -= take_data(chunk);
        }
    }

    /// Drops the oldest written chunks from memory until it holds at most `limit`.
    pub(crate) fn evict(&mut self, limit: u64, persisted: ChunkId) {
        while let Some(&key) = self.cached.front() {
            if let Some(position) = self.position(key.file) {
                let chunk = &mut self.files[position].chunks[key.position];
                let within_limit = self.cached_size_bytes <= limit;
                if chunk.data.is_some() && (within_limit || chunk.id > persisted) {
                    return;
                }
                self.cached_size_bytes -= take_data(chunk);
            }
            self.cached.pop_front();
        }
    }

    /// Takes the oldest file out of the table.
    pub(crate) fn pop_front(&mut self) -> Option<YoungFile> {
        let mut file = self.files.pop_front()?;
        self.cached_size_bytes -= file.chunks.iter_mut().map(take_data).sum::<u64>();
        Some(file)
    }

    pub(crate) fn front(&self) -> Option<&YoungFile> {
        self.files.front()
    }

    pub(crate) fn files(&self) -> impl DoubleEndedIterator<Item = &YoungFile> {
        self.files.iter()
    }

    pub(crate) fn cached_size_bytes(&self) -> u64 {
        self.cached_size_bytes
    }

    fn position(&self, file: FileId) -> Option<usize> {
        let first = self.files.front()?.id;
        // Numbers rise by one except across a recovery, so the first guess is nearly always it.
        let guess = usize::try_from(file.0.checked_sub(first.0)?).ok()?;
        if self.files.get(guess).is_some_and(|found| found.id == file) {
            return Some(guess);
        }
        self.files.binary_search_by_key(&file, |file| file.id).ok()
    }

    pub(crate) fn check_invariants(&self) {
        let chunks = || self.files.iter().flat_map(|file| &file.chunks);
        assert!(chunks().is_sorted_by(|a, b| a.id < b.id), "chunk ids rise");
        assert!(
            self.files.iter().is_sorted_by(|a, b| a.id < b.id),
            "file ids rise"
        );
        let cached: u64 = chunks()
            .filter_map(|c| c.data.as_ref())
            .map(|d| d.len() as u64)
            .sum();
        assert_eq!(
            cached, self.cached_size_bytes,
            "cached bytes are those of the chunks"
        );
        for file in &self.files {
            assert!(
                file.chunks.is_sorted_by(|a, b| a.offset < b.offset),
                "offsets rise"
            );
            let live: u64 = file
                .chunks
                .iter()
                .map(|chunk| u64::from(chunk.live_count))
                .sum();
            assert_eq!(live, file.live_count, "live messages of file {}", file.id);
            assert!(
                file.live_count > 0 || file.live_size_bytes == 0,
                "dead files hold no bytes"
            );
        }
    }
}

impl YoungFile {
    pub(crate) fn last_chunk(&self) -> ChunkId {
        self.chunks.last().map_or(ChunkId(0), |chunk| chunk.id)
    }
}

fn take_data(chunk: &mut Chunk) -> u64 {
    chunk.data.take().map_or(0, |data| data.len() as u64)
}

fn chunk_position(chunks: &[Chunk], offset: u32) -> Option<usize> {
    chunks
        .partition_point(|chunk| chunk.offset <= offset)
        .checked_sub(1)
}
