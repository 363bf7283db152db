//! Reading back messages that left memory: neighbours are read together, and a file that is
//! being read is pinned, so that it is neither recycled nor deleted under the reader.

use staunch_types::BodyRef;

use crate::error::FetchFailed;
use crate::job::{FetchDone, FetchItem, FetchJob, FetchRead, FetchRecord};
use crate::layout::{narrow, record};
use crate::place::{Container, Place};
use crate::store::Store;

/// Largest read, unless one record is larger.
const READ_SIZE_BYTES_MAX: u32 = 1024 * 1024;
/// Other streams' bytes that are read along rather than starting another read: what a disk
/// passes over in the time a request takes.
const READ_GAP_SIZE_BYTES_MAX: u32 = 16 * 1024;

impl Store {
    /// A job that brings these messages (index, place, size of the stored form), in this order.
    /// Those in memory are taken from there.
    pub fn fetch(&mut self, wanted: &[(u64, BodyRef, u32)]) -> FetchJob {
        let mut job = FetchJob {
            items: Vec::new(),
            pins: Vec::new(),
        };
        for &(index, body, size_bytes) in wanted {
            if let Some(stored) = self.body(body, size_bytes) {
                job.items.push(FetchItem::Ready {
                    index,
                    body,
                    stored,
                });
                continue;
            }
            let record = FetchRecord {
                index,
                body,
                size_bytes,
            };
            let Place { container, offset } = Place::unpack(body);
            if let Some(FetchItem::Read(read)) = job.items.last_mut()
                && read.takes(container, offset, &record)
            {
                continue;
            }
            if !job.pins.contains(&container) {
                job.pins.push(container);
                *self.pins.entry(container).or_insert(0) += 1;
            }
            let size_bytes = record.size_on_disk();
            let records = vec![record];
            job.items.push(FetchItem::Read(FetchRead {
                container,
                offset,
                size_bytes,
                records,
            }));
        }
        job
    }

    /// A fetch has ended; its files may go.
    ///
    /// # Panics
    /// If it was handled before.
    pub fn handle_fetched(&mut self, done: &FetchDone) {
        self.unpin(&done.pins);
    }

    /// A fetch has failed; its files may go.
    ///
    /// # Panics
    /// If it was handled before.
    pub fn handle_fetch_failed(&mut self, failed: &FetchFailed) {
        self.unpin(&failed.pins);
    }

    fn unpin(&mut self, pins: &[Container]) {
        for container in pins {
            let count = self.pins.get_mut(container).expect("the fetch pinned it");
            *count -= 1;
            if *count == 0 {
                self.pins.remove(container);
            }
        }
    }
}

impl FetchRecord {
    fn size_on_disk(&self) -> u32 {
        narrow(record::size_bytes(self.size_bytes as usize))
    }
}

impl FetchRead {
    /// Takes the record along if it lies shortly behind.
    fn takes(&mut self, container: Container, offset: u32, record: &FetchRecord) -> bool {
        let end = self.offset + self.size_bytes;
        if container != self.container || offset < end || offset - end > READ_GAP_SIZE_BYTES_MAX {
            return false;
        }
        let size_bytes = offset + record.size_on_disk() - self.offset;
        if size_bytes > READ_SIZE_BYTES_MAX {
            return false;
        }
        self.size_bytes = size_bytes;
        self.records.push(*record);
        true
    }
}
