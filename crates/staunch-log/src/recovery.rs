//! Opening a data directory.
//!
//! The newest checkpoint names the segments and the first young file needed. The node's state
//! comes first, then what the segments hold (from their footers), then every record of the young
//! files in log order.
//!
//! Where does the log end? Chunks are chained (`previous`), and each says what was persisted
//! before it was written. The first bad chunk therefore ends the log if, and only if, nothing
//! anywhere says that it was persisted: no chunk behind it, no later file, no checkpoint. Then it
//! belongs to the last write, of which nothing was confirmed. Otherwise bytes are damaged that
//! were promised, and recovery refuses.
//!
//! Nothing is modified before [`Recovery::finish`]. There the last write is written once more and
//! synced, because it may so far exist in the page cache only, and after a failed sync the cache
//! claims pages to be clean that never reached the disk. Then a fresh file is begun with an empty
//! chunk that names the last good one: from then on that is where the old files end, whatever
//! their tails may look like to a later recovery.

mod anew;
mod finish;
mod inventory;
mod scan;

use std::collections::VecDeque;

use bytes::Bytes;
use staunch_types::BodyRef;

use crate::background::Background;
use crate::config::Config;
use crate::disk::{Disk, DiskFile};
use crate::error::{Damage, DamageCause, Note, RecoverError};
use crate::layout::checkpoint::SegmentListed;
use crate::layout::header::FILE_HEADER_SIZE_BYTES;
use crate::layout::record::{self, RecordMeta};
use crate::layout::segment::{Footer, TRAILER_SIZE_BYTES, Trailer};
use crate::name;
use crate::place::{SegmentId, StreamId};
use crate::reader::Reader;
use crate::store::Store;
use crate::writer::Writer;
use inventory::Inventory;
use scan::Scan;

pub use anew::begin_anew;

/// What recovery does about damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDamage {
    /// It refuses.
    Refuse,
    /// It goes on without damaged segments, which hold nothing but bodies of messages: the node
    /// finds which ones are missing. Other damage is refused.
    LackSegments,
}

/// Opens a data directory; an empty one is a fresh log.
///
/// # Errors
/// [`RecoverError`]; nothing has been modified.
pub fn recover<D: Disk>(disk: D, config: Config) -> Result<Recovery<D>, RecoverError> {
    recover_with(disk, config, OnDamage::Refuse)
}

/// As [`recover`], with another way to deal with damage.
///
/// # Errors
/// [`RecoverError`]; nothing has been modified.
pub fn recover_with<D: Disk>(
    disk: D,
    config: Config,
    on_damage: OnDamage,
) -> Result<Recovery<D>, RecoverError> {
    let mut inventory = Inventory::take(&disk, on_damage)?;
    let young = std::mem::take(&mut inventory.young);
    let scan = Scan::new(disk.clone(), young, &inventory.image);
    Ok(Recovery {
        store: Store::new(config),
        state: inventory.state.take(),
        segments: inventory.image.segments.clone().into(),
        footer: None,
        scan,
        ended: false,
        inventory,
        disk,
        on_damage,
    })
}

/// A log being recovered: everything it holds, one piece after the other.
#[derive(Debug)]
pub struct Recovery<D: Disk> {
    disk: D,
    store: Store,
    inventory: Inventory,
    state: Option<Bytes>,
    segments: VecDeque<SegmentListed>,
    footer: Option<OpenFooter>,
    scan: Scan<D>,
    ended: bool,
    on_damage: OnDamage,
}

#[derive(Debug)]
struct OpenFooter {
    id: SegmentId,
    entries: Footer,
    left: u32,
    /// Where the footer is in its file.
    offset: u64,
}

/// A piece of a recovered log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// The node's state as of the last checkpoint. Comes first, if there was one.
    State(Bytes),
    /// A message. It counts as live until [`Store::release`].
    Message {
        /// Its stream.
        stream: StreamId,
        /// Its index.
        index: u64,
        /// Where it is.
        body: BodyRef,
        /// Size of its stored form.
        size_bytes: u32,
        /// What the node keeps with it.
        meta: RecordMeta,
        /// Whether the state was taken after it was appended, so that a settled one is settled
        /// in the state already.
        in_state: bool,
    },
    /// A control entry.
    Control {
        /// Its stream.
        stream: StreamId,
        /// What the node appended.
        payload: Bytes,
        /// Whether the state already reflects it.
        in_state: bool,
    },
}

/// A log ready for use.
#[derive(Debug)]
pub struct Opened<D: Disk> {
    /// For the node's thread.
    pub store: Store,
    /// For the writer's thread.
    pub writer: Writer<D>,
    /// For the background thread.
    pub background: Background<D>,
    /// For the readers' threads.
    pub reader: Reader<D>,
    /// What should be logged.
    pub notes: Vec<Note>,
}

impl<D: Disk> Recovery<D> {
    /// The next piece; `None` at the end, when [`Recovery::finish`] must be called.
    ///
    /// # Errors
    /// [`RecoverError`]; nothing has been modified.
    #[expect(
        clippy::should_implement_trait,
        reason = "it is fallible, and ends with finish()"
    )]
    pub fn next(&mut self) -> Result<Option<Recovered>, RecoverError> {
        if let Some(state) = self.state.take() {
            return Ok(Some(Recovered::State(state)));
        }
        if let Some(message) = self.next_in_segments()? {
            return Ok(Some(message));
        }
        let next = self.scan.next(&mut self.store)?;
        self.ended = next.is_none();
        Ok(next)
    }

    /// The stored form of the message that [`Recovery::next`] has just returned, if it is in a
    /// young file.
    pub fn payload(&self) -> Option<&[u8]> {
        self.scan.payload()
    }

    /// A message of this recovery is dead, as [`Store::release`].
    pub fn release(&mut self, body: BodyRef, size_bytes: u32) {
        self.store.release(body, size_bytes);
    }

    /// Bytes of young files replayed so far.
    pub fn replayed_size_bytes(&self) -> u64 {
        self.scan.replayed_size_bytes()
    }

    fn next_in_segments(&mut self) -> Result<Option<Recovered>, RecoverError> {
        loop {
            if let Some(footer) = &mut self.footer {
                if let Some(message) = footer.next()? {
                    return Ok(Some(message));
                }
                self.footer = None;
            }
            let Some(listed) = self.segments.pop_front() else {
                return Ok(None);
            };
            let opened = self.open_footer(listed);
            self.footer = (self.inventory).without_if_damaged(listed.id, opened, self.on_damage)?;
        }
    }

    fn open_footer(&mut self, listed: SegmentListed) -> Result<OpenFooter, RecoverError> {
        let name = name::segment(listed.id);
        let file = self.disk.open(&name)?;
        let trailer = inventory::check_segment(&file, &name, listed)?;
        let size = usize::try_from(trailer.footer_size_bytes).expect("it was checked");
        let mut bytes = vec![0; size];
        file.read_at(trailer.footer_offset, &mut bytes)?;
        if crc32c::crc32c(&bytes) != trailer.footer_crc {
            return Err(Damage::new(&name, trailer.footer_offset, DamageCause::Checksum).into());
        }
        let records_size = trailer.footer_offset - FILE_HEADER_SIZE_BYTES as u64;
        self.store.recover_segment(listed, records_size);
        Ok(OpenFooter {
            id: listed.id,
            entries: Footer::new(bytes),
            left: listed.record_count,
            offset: trailer.footer_offset,
        })
    }
}

impl OpenFooter {
    fn next(&mut self) -> Result<Option<Recovered>, Damage> {
        let damage = |cause| Damage::new(&name::segment(self.id), self.offset, cause);
        let Some((stream, entry)) = self.entries.next().map_err(damage)? else {
            let whole = self.left == 0;
            return if whole {
                Ok(None)
            } else {
                Err(damage(DamageCause::Size))
            };
        };
        self.left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| damage(DamageCause::Size))?;
        // What is read later is as large as is said here.
        let end = u64::from(entry.offset) + record::size_bytes(entry.size_bytes as usize) as u64;
        if (entry.offset as usize) < FILE_HEADER_SIZE_BYTES || end > self.offset {
            return Err(damage(DamageCause::Size));
        }
        Ok(Some(Recovered::Message {
            stream,
            index: entry.index,
            body: entry.body(self.id),
            size_bytes: entry.size_bytes,
            meta: entry.meta,
            in_state: true,
        }))
    }
}

/// Where a segment of this size must have its footer.
fn footer_is_possible(trailer: &Trailer, size_bytes: u64) -> bool {
    let trailer_size = TRAILER_SIZE_BYTES as u64;
    trailer.footer_offset >= FILE_HEADER_SIZE_BYTES as u64
        && trailer
            .footer_offset
            .checked_add(trailer.footer_size_bytes)
            .and_then(|end| end.checked_add(trailer_size))
            == Some(size_bytes)
}
