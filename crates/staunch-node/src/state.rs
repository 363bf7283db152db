//! What a checkpoint says of the node: the catalog and every durable queue.
//!
//! Version 1, big-endian:
//!
//! ```text
//! 0            2            10         10+c        14+c
//! ┌────────────┬────────────┬──────────┬───────────┬─────────────────────────────────────────┐
//! │ version u16│ c u64      │ catalog  │ count u32 │ count × { id u64, size u32, queue }     │
//! └────────────┴────────────┴──────────┴───────────┴─────────────────────────────────────────┘
//! ```

use bytes::{Buf, BufMut, Bytes};
use staunch_broker::{Catalog, DecodeError, Queue};
use staunch_types::QueueId;

use crate::queues::{Queues, settings_of};

const STATE_VERSION: u16 = 1;

/// What is wrong with a checkpoint's state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Written by another version.
    #[error("state version {0} is not known to this version, which reads {STATE_VERSION}")]
    Version(u16),
    /// It ends too early.
    #[error("state is cut short")]
    Short,
    /// Catalog or queue cannot be read.
    #[error("state cannot be read: {0}")]
    Decode(#[from] DecodeError),
}

/// The state as it is now.
pub(crate) fn encode(catalog: &Catalog, queues: &Queues) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u16(STATE_VERSION);
    out.put_u64(0);
    catalog.encode_snapshot(&mut out);
    let catalog_size = (out.len() - 10) as u64;
    out[2..10].copy_from_slice(&catalog_size.to_be_bytes());
    let durable = queues.iter().filter(|slot| slot.is_durable);
    let count_at = out.len();
    out.put_u32(0);
    let mut count = 0_u32;
    for slot in durable {
        out.put_u64(slot.id.0);
        let size_at = out.len();
        out.put_u32(0);
        slot.queue.encode_snapshot(&mut out);
        let size = u32::try_from(out.len() - size_at - 4).expect("a queue's runs fit in 4 GiB");
        out[size_at..size_at + 4].copy_from_slice(&size.to_be_bytes());
        count += 1;
    }
    out[count_at..count_at + 4].copy_from_slice(&count.to_be_bytes());
    out
}

/// Catalog and queues as they were.
pub(crate) fn decode(
    mut bytes: Bytes,
    seed: u64,
) -> Result<(Catalog, Vec<(QueueId, Queue)>), StateError> {
    let version = bytes.try_get_u16().map_err(|_| StateError::Short)?;
    if version != STATE_VERSION {
        return Err(StateError::Version(version));
    }
    let size = bytes.try_get_u64().map_err(|_| StateError::Short)?;
    let catalog = Catalog::decode_snapshot(&take(&mut bytes, size)?, seed)?;
    let count = bytes.try_get_u32().map_err(|_| StateError::Short)?;
    let mut queues = Vec::new();
    for _ in 0..count {
        let id = bytes.try_get_u64().map_err(|_| StateError::Short)?;
        let size = bytes.try_get_u32().map_err(|_| StateError::Short)?;
        let snapshot = take(&mut bytes, u64::from(size))?;
        let entry = catalog.queue_by_id(QueueId(id));
        let settings = entry.map(settings_of).unwrap_or_default();
        queues.push((QueueId(id), Queue::decode_snapshot(&snapshot, &settings)?));
    }
    Ok((catalog, queues))
}

fn take(bytes: &mut Bytes, size: u64) -> Result<Bytes, StateError> {
    let size = usize::try_from(size).map_err(|_| StateError::Short)?;
    if bytes.len() < size {
        return Err(StateError::Short);
    }
    Ok(bytes.split_to(size))
}
