//! Damage to what rests on the disk: bits that flip, pages of zeros, files that end too early or
//! are gone.
//!
//! The last write is left alone. When it is damaged it looks like one that was torn before it was
//! synced, of which nobody was told: no log can tell the one from the other (contract C20).

use std::collections::BTreeSet;

use super::state::State;
use crate::random::Random;

/// Where chunks of a young file begin, and on what they are aligned (`docs/format.md`).
const CHUNKS_AT: usize = 512;
/// Size of a chunk's header.
const CHUNK_HEADER_SIZE: usize = 64;
/// Size of the header of a file.
const FILE_HEADER_SIZE: usize = 64;
/// Size of a page.
const PAGE_SIZE: usize = 4_096;

/// What befell a file.
#[derive(Clone, Debug)]
pub struct Harm {
    /// The file.
    pub file: String,
    /// What.
    pub what: &'static str,
}

/// The first file of a log. As long as it is there, the log does without a checkpoint and cannot
/// tell that there was one.
const FIRST_FILE: &str = "young-0000000000000001";

/// Kinds of files that may be damaged.
const KINDS: [&str; 3] = ["young-", "segment-", "checkpoint-"];

impl State {
    /// Damages a file of a machine that is off; none if there is nothing to damage.
    pub fn harm(&mut self, random: &mut Random) -> Option<Harm> {
        let kind = *random.pick(&KINDS);
        let files = self.files_of(kind);
        let at = random.index(files.len().max(1));
        let file = files.get(at)?.clone();
        let mut end = self.file(&file)?.len();
        let mut may_shrink = true;
        if kind == "young-" {
            let (last, begins) = self.last_write(&files)?;
            if at > last {
                // A file for later holds nothing.
                return None;
            }
            if at == last {
                // What is cut off the end of the log nobody would miss.
                (end, may_shrink) = (begins, false);
            }
        }
        if end < FILE_HEADER_SIZE {
            return None;
        }
        let is_first = kind == "checkpoint-" && self.inode_of(FIRST_FILE).is_some();
        let kinds = match (may_shrink, is_first) {
            (false, _) => 3,
            (true, true) => 4,
            (true, false) => 5,
        };
        let what = match random.below(kinds) {
            0 => self.flip(&file, random.index(FILE_HEADER_SIZE), random),
            1 => self.flip(&file, random.index(end), random),
            2 => self.zero_page(&file, random.index(end), end),
            3 => self.cut(&file, random.index(end)),
            _ => self.take_away(&file),
        };
        Some(Harm { file, what })
    }

    /// In which young file the last write is, and where it begins there: up to that damage is
    /// noticed. The chunks of one write name the same chunk as the last one that was synced before.
    fn last_write(&self, files: &[String]) -> Option<(usize, usize)> {
        let mut last = None;
        let mut before = None;
        for (at, file) in files.iter().enumerate() {
            if let Some(begins) = walk(self.file(file)?, &mut before) {
                last = Some((at, begins));
            }
        }
        last
    }

    /// Flips a bit of a segment of a machine that runs; none if it has no segment.
    pub fn rot(&mut self, random: &mut Random) -> Option<Harm> {
        let files = self.files_of("segment-");
        let file = files.get(random.index(files.len().max(1)))?.clone();
        let size = self.file(&file)?.len();
        let what = self.flip(&file, random.index(size), random);
        Some(Harm { file, what })
    }

    /// Whether there are damaged bytes in a file that the log has not put aside.
    pub fn is_rotten(&self) -> bool {
        let harmed = &self.harmed;
        KINDS.iter().any(|kind| {
            let mut files = self.files_of(kind).into_iter();
            files.any(|name| self.inode_of(&name).is_some_and(|it| harmed.contains(&it)))
        })
    }

    fn flip(&mut self, file: &str, at: usize, random: &mut Random) -> &'static str {
        let bit = random.below(8);
        self.change_file(file, |data| data[at] ^= 1 << bit);
        "a bit flips"
    }

    fn zero_page(&mut self, file: &str, at: usize, end: usize) -> &'static str {
        let from = at / PAGE_SIZE * PAGE_SIZE;
        self.change_file(file, |data| data[from..end.min(from + PAGE_SIZE)].fill(0));
        "a page is zeroed"
    }

    fn cut(&mut self, file: &str, size: usize) -> &'static str {
        self.change_file(file, |data| data.truncate(size));
        "it is cut"
    }

    fn take_away(&mut self, file: &str) -> &'static str {
        self.unlink(file);
        "it is gone"
    }

    /// Files of a kind that are in use, oldest first.
    fn files_of(&self, kind: &str) -> Vec<String> {
        let is_one = |name: &&String| {
            let number = name.strip_prefix(kind);
            number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        };
        self.names().filter(is_one).cloned().collect()
    }
}

/// Numbers of inodes that were damaged.
pub(super) type Harmed = BTreeSet<u64>;

/// Where the last write begins that has a chunk in a young file, if there is one. `before` is the
/// chunk before it, and which one that names as the last that was synced.
fn walk(data: &[u8], before: &mut Option<(u64, u64)>) -> Option<usize> {
    let number = |at: usize| {
        let bytes = data.get(at..at + 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    };
    let (mut at, mut begins) = (CHUNKS_AT, None);
    while data.get(at..at + 4) == Some(b"SCHK") {
        let (id, previous, persisted) = (number(at + 8)?, number(at + 16)?, number(at + 24)?);
        let follows = before.is_none_or(|(last, _)| last == previous && id > last);
        if !follows {
            break;
        }
        if begins.is_none() || before.is_none_or(|(_, same)| same != persisted) {
            begins = Some(at);
        }
        *before = Some((id, persisted));
        let size = u32::from_le_bytes(data.get(at + 32..at + 36)?.try_into().ok()?);
        let size = usize::try_from(size).ok()?;
        at = (at + CHUNK_HEADER_SIZE + size).next_multiple_of(CHUNKS_AT);
    }
    begins
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chunk without records.
    fn chunk(id: u64, previous: u64, persisted: u64) -> Vec<u8> {
        let mut chunk = b"SCHK\0\0\0\0".to_vec();
        for number in [id, previous, persisted] {
            chunk.extend_from_slice(&number.to_le_bytes());
        }
        chunk.resize(CHUNKS_AT, 0);
        chunk
    }

    #[test]
    fn all_chunks_of_the_last_write_are_left_alone() {
        let mut data = vec![0; CHUNKS_AT];
        data.extend(chunk(7, 6, 6));
        data.extend(chunk(8, 7, 7));
        data.extend(chunk(9, 8, 7));
        // What a former life of the file has left does not follow.
        data.extend(chunk(5, 4, 4));
        let mut before = None;
        assert_eq!(walk(&data, &mut before), Some(2 * CHUNKS_AT));
        // Nor does it in a file that holds nothing else.
        let mut data = vec![0; CHUNKS_AT];
        data.extend(chunk(3, 2, 2));
        assert_eq!(walk(&data, &mut before), None);
        assert_eq!(before, Some((9, 7)));
    }
}
