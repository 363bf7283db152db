//! The file in which histories of flow are kept over a restart (`docs/format.md`, "Histories").

use std::{collections::BTreeMap, sync::Arc};

use staunch_horizon::{History, history::HISTORY_BYTES_MAX};
use staunch_types::{Name, QueueId, name::NAME_SIZE_BYTES_MAX};

use crate::flow::{FLOW_HISTORIES_MAX, KeptHistories, KeptHistory};

/// What the file begins with.
const MAGIC: [u8; 8] = *b"STNCHFLW";

/// Version of the layout.
const VERSION: u32 = 1;

/// Magic, version, number of queues, and the checksum at the end.
const FRAME_SIZE_BYTES: usize = 8 + 4 + 4 + 4;

/// The longest file there can be, in bytes.
pub const HISTORIES_SIZE_BYTES_MAX: usize = FRAME_SIZE_BYTES
    + (4 + HISTORY_BYTES_MAX)
    + FLOW_HISTORIES_MAX * (8 + 2 * (2 + NAME_SIZE_BYTES_MAX) + 4 + HISTORY_BYTES_MAX);

/// Why bytes are not the histories of a node. What is lost with them is knowledge of the past.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoriesError {
    /// Something else, or nothing.
    #[error("it is no file of histories")]
    Foreign,
    /// Written by another version of the program.
    #[error("it has version {0}, this program reads version {VERSION}")]
    UnknownVersion(u32),
    /// Not as it was written.
    #[error("its checksum does not fit: it is damaged")]
    Damaged,
    /// As it was written, and makes no sense.
    #[error("it has an impossible {0}")]
    Impossible(&'static str),
}

impl KeptHistories {
    /// The bytes of a file, at most [`HISTORIES_SIZE_BYTES_MAX`] of them.
    ///
    /// # Panics
    /// On a bug in this module only.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        put_history(&mut bytes, &self.node);
        let queues = self.queues.iter().take(FLOW_HISTORIES_MAX);
        let count = u32::try_from(queues.len()).expect("fewer than the most there may be");
        bytes.extend(count.to_le_bytes());
        for (id, kept) in queues {
            bytes.extend(id.0.to_le_bytes());
            for name in [&kept.vhost, &kept.name] {
                let size = u16::try_from(name.len()).expect("names are short");
                bytes.extend(size.to_le_bytes());
                bytes.extend(name.as_bytes());
            }
            put_history(&mut bytes, &kept.history);
        }
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// Reads what [`KeptHistories::encode`] wrote.
    ///
    /// # Errors
    /// [`HistoriesError`] for any other bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, HistoriesError> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or(HistoriesError::Foreign)?;
        let mut reader = Reader(rest);
        let version = u32::from_le_bytes(reader.array()?);
        if version != VERSION {
            return Err(HistoriesError::UnknownVersion(version));
        }
        let (written, crc) = bytes.split_last_chunk().ok_or(HistoriesError::Damaged)?;
        if crc32c::crc32c(written) != u32::from_le_bytes(*crc) {
            return Err(HistoriesError::Damaged);
        }
        let node = reader.history()?;
        let count = u32::from_le_bytes(reader.array()?);
        if count as usize > FLOW_HISTORIES_MAX {
            return Err(HistoriesError::Impossible("number of queues"));
        }
        let mut queues = BTreeMap::new();
        for _ in 0..count {
            let id = QueueId(u64::from_le_bytes(reader.array()?));
            let kept = KeptHistory {
                vhost: reader.name()?,
                name: reader.name()?,
                history: reader.history()?,
            };
            queues.insert(id, kept);
        }
        match reader.0.len() {
            4 => Ok(Self { node, queues }),
            _ => Err(HistoriesError::Impossible("end")),
        }
    }
}

fn put_history(bytes: &mut Vec<u8>, history: &History) {
    let start = bytes.len();
    bytes.extend([0; 4]);
    history.encode(bytes);
    let size = u32::try_from(bytes.len() - start - 4).expect("histories are short");
    bytes[start..start + 4].copy_from_slice(&size.to_le_bytes());
}

/// What has not been read yet, the checksum with it.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, size: usize) -> Result<&'a [u8], HistoriesError> {
        let taken = self.0.split_at_checked(size);
        let (head, tail) = taken.ok_or(HistoriesError::Impossible("length"))?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], HistoriesError> {
        let taken = self.0.split_first_chunk();
        let (head, tail) = taken.ok_or(HistoriesError::Impossible("length"))?;
        self.0 = tail;
        Ok(*head)
    }

    fn name(&mut self) -> Result<Name, HistoriesError> {
        let size = usize::from(u16::from_le_bytes(self.array()?));
        Name::new(self.take(size)?).map_err(|_| HistoriesError::Impossible("name"))
    }

    fn history(&mut self) -> Result<Arc<History>, HistoriesError> {
        let size = u32::from_le_bytes(self.array()?) as usize;
        let history = History::decode(self.take(size)?);
        let history = history.map_err(|_| HistoriesError::Impossible("history"))?;
        Ok(Arc::new(history))
    }
}

#[cfg(test)]
mod tests {
    use staunch_horizon::Counters;

    use super::*;

    fn kept() -> KeptHistories {
        let mut history = History::new();
        for minute in 0..200 {
            let flowed = Counters {
                messages_in: minute * 7,
                ..Counters::default()
            };
            history.record(minute * 60_000 + 60_000, minute * 60_000 + 120_000, flowed);
        }
        let queue = |name| KeptHistory {
            vhost: Name::from_static("/"),
            name: Name::from_static(name),
            history: Arc::new(history.clone()),
        };
        KeptHistories {
            node: Arc::new(history.clone()),
            queues: BTreeMap::from([(QueueId(1), queue("one")), (QueueId(7), queue("seven"))]),
        }
    }

    #[test]
    fn what_was_kept_comes_back() {
        for kept in [kept(), KeptHistories::default()] {
            let bytes = kept.encode();
            assert_eq!(KeptHistories::decode(&bytes), Ok(kept));
        }
    }

    #[test]
    fn anything_else_is_refused_and_says_why() {
        let good = kept().encode();
        assert_eq!(KeptHistories::decode(b""), Err(HistoriesError::Foreign));
        for size in 0..good.len() {
            assert!(KeptHistories::decode(&good[..size]).is_err(), "{size}");
        }
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 0x10;
            assert!(KeptHistories::decode(&bad).is_err(), "{place}");
        }
        let mut newer = good;
        newer[8] = 2;
        let error = KeptHistories::decode(&newer).expect_err("another version");
        assert_eq!(error, HistoriesError::UnknownVersion(2));
    }

    #[test]
    fn a_sum_that_fits_does_not_make_sense_of_nonsense() {
        let mut bytes = kept().encode();
        bytes.truncate(bytes.len() - 4);
        bytes.extend([0; 3]);
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        let error = KeptHistories::decode(&bytes);
        assert_eq!(error, Err(HistoriesError::Impossible("end")));
    }
}
