//! The layout of a history that is kept over a restart (`docs/format.md`, "Flow history").

use super::{BUCKETS_MAX, History, Open, PEAK_TIER, Ring, STEPS_MILLIS, TIERS, TIME_MAX_MILLIS};
use crate::flow::{Counters, FLOWS};

/// Version of the layout.
const VERSION: u8 = 1;

const OPEN_BYTES: usize = 8 * FLOWS + 2 + 2 + 2 * 8;
const BUCKET_BYTES: usize = 2 * FLOWS;
const BUSIEST_BYTES: usize = 2 * 2;

/// The length of a full history, encoded.
pub(super) const ENCODED_BYTES_MAX: usize = 1
    + 8
    + TIERS * (OPEN_BYTES + 2)
    + (BUCKETS_MAX[0] + BUCKETS_MAX[1] + BUCKETS_MAX[2] + BUCKETS_MAX[3]) * BUCKET_BYTES
    + BUCKETS_MAX[PEAK_TIER] * BUSIEST_BYTES;

/// Why bytes are not a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// The bytes end too early.
    #[error("flow history is truncated")]
    Truncated,
    /// The bytes go on after the end.
    #[error("flow history has {0} bytes too many")]
    TrailingBytes(usize),
    /// Written by another version of the program.
    #[error("flow history has version {0}, this program reads version {VERSION}")]
    UnknownVersion(u8),
    /// A value that no history has.
    #[error("flow history has an impossible {0}")]
    Impossible(&'static str),
}

impl History {
    /// Appends the encoded history, at most [`super::HISTORY_BYTES_MAX`] bytes.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.push(VERSION);
        bytes.extend(self.end_millis.to_le_bytes());
        for ring in &self.rings {
            let open = &ring.open;
            for amount in open.amounts.to_array().iter().chain(&open.busiest) {
                bytes.extend(amount.to_le_bytes());
            }
            bytes.extend(open.parts.to_le_bytes());
            bytes.extend(open.parts_unknown.to_le_bytes());
            let buckets = u16::try_from(ring.buckets.len()).unwrap_or(0);
            bytes.extend(buckets.to_le_bytes());
            for packed in ring
                .buckets
                .iter()
                .flatten()
                .chain(ring.busiest.iter().flatten())
            {
                bytes.extend(packed.to_le_bytes());
            }
        }
    }

    /// Reads what [`History::encode`] wrote.
    ///
    /// # Errors
    /// [`HistoryError`] for any other bytes. What was lost is only knowledge of the past: an empty
    /// history is a safe replacement.
    pub fn decode(bytes: &[u8]) -> Result<Self, HistoryError> {
        let mut reader = Reader(bytes);
        let [version] = reader.take()?;
        if version != VERSION {
            return Err(HistoryError::UnknownVersion(version));
        }
        let mut history = Self {
            end_millis: reader.u64()?,
            ..Self::default()
        };
        if !history.end_millis.is_multiple_of(STEPS_MILLIS[0])
            || history.end_millis > TIME_MAX_MILLIS
        {
            return Err(HistoryError::Impossible("end"));
        }
        for (tier, ring) in history.rings.iter_mut().enumerate() {
            *ring = reader.ring(tier)?;
        }
        match reader.0.len() {
            0 => Ok(history),
            more => Err(HistoryError::TrailingBytes(more)),
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], HistoryError> {
        let (head, tail) = self.0.split_first_chunk().ok_or(HistoryError::Truncated)?;
        self.0 = tail;
        Ok(*head)
    }

    fn u64(&mut self) -> Result<u64, HistoryError> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn u16(&mut self) -> Result<u16, HistoryError> {
        Ok(u16::from_le_bytes(self.take()?))
    }

    fn packed<const N: usize>(&mut self) -> Result<[u16; N], HistoryError> {
        let mut packed = [0; N];
        for value in &mut packed {
            *value = self.u16()?;
        }
        Ok(packed)
    }

    fn ring(&mut self, tier: usize) -> Result<Ring, HistoryError> {
        let mut ring = Ring {
            open: self.open(tier)?,
            ..Ring::default()
        };
        let buckets = usize::from(self.u16()?);
        if buckets > BUCKETS_MAX[tier] {
            return Err(HistoryError::Impossible("number of buckets"));
        }
        for _ in 0..buckets {
            ring.buckets.push_back(self.packed()?);
        }
        if tier == PEAK_TIER {
            for _ in 0..buckets {
                ring.busiest.push_back(self.packed()?);
            }
        }
        Ok(ring)
    }

    fn open(&mut self, tier: usize) -> Result<Open, HistoryError> {
        let mut amounts = [0; FLOWS];
        for amount in &mut amounts {
            *amount = self.u64()?;
        }
        let open = Open {
            amounts: Counters::from_array(amounts),
            busiest: [self.u64()?, self.u64()?],
            parts: self.u16()?,
            parts_unknown: self.u16()?,
        };
        let parts_max = match tier {
            0 => 1,
            _ => STEPS_MILLIS[tier] / STEPS_MILLIS[tier - 1],
        };
        if u64::from(open.parts) >= parts_max || open.parts_unknown > open.parts {
            return Err(HistoryError::Impossible("open bucket"));
        }
        Ok(open)
    }
}
