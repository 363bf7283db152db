//! The worker that brings back messages from disk.

use bytes::Bytes;

use crate::disk::{Disk, DiskError, DiskFile};
use crate::error::{Damage, DamageCause, FetchError, FetchFailed};
use crate::job::{FetchDone, FetchItem, FetchJob, FetchRead, FetchRecord, Fetched};
use crate::layout::narrow;
use crate::layout::record::{self, RecordKind};
use crate::place::{Container, Place};

/// Reads messages and verifies each checksum and identity. A clone costs a handle: any number of
/// readers may run at a time.
#[derive(Clone, Debug)]
pub struct Reader<D: Disk> {
    disk: D,
}

impl<D: Disk> Reader<D> {
    pub(crate) fn new(disk: D) -> Self {
        Self { disk }
    }

    /// Reads one job's records.
    ///
    /// # Errors
    /// [`FetchFailed`] if the disk cannot read or what it gives is not what was written.
    pub fn run(&self, job: FetchJob) -> Result<FetchDone, FetchFailed> {
        let FetchJob { items, pins } = job;
        let size_bytes = items.iter().map(FetchItem::size_bytes).sum();
        match self.read_all(items) {
            Ok(records) => Ok(FetchDone { records, pins }),
            Err(cause) => Err(FetchFailed {
                cause,
                size_bytes,
                pins,
            }),
        }
    }

    fn read_all(&self, items: Vec<FetchItem>) -> Result<Vec<Fetched>, FetchError> {
        let mut records = Vec::new();
        let mut open: Option<(Container, D::File)> = None;
        for item in items {
            match item {
                FetchItem::Ready {
                    index,
                    body,
                    stored,
                } => {
                    records.push(Fetched {
                        index,
                        body,
                        stored,
                    });
                }
                FetchItem::Read(read) => {
                    let file = match open.take() {
                        Some((container, file)) if container == read.container => file,
                        Some(_) | None => self.disk.open(&read.container.file_name())?,
                    };
                    read_neighbours(&file, &read, &mut records)?;
                    open = Some((read.container, file));
                }
            }
        }
        Ok(records)
    }
}

fn read_neighbours(
    file: &impl DiskFile,
    read: &FetchRead,
    out: &mut Vec<Fetched>,
) -> Result<(), FetchError> {
    let mut buffer = vec![0; read.size_bytes as usize];
    read_or_missing(file, read.container, read.offset, &mut buffer)?;
    let buffer = Bytes::from(buffer);
    let wanted: u64 = read
        .records
        .iter()
        .map(|record| u64::from(record.size_bytes))
        .sum();
    // Slices keep the whole read in memory; not worth it when most of it belongs to others.
    let slices = wanted * 2 >= u64::from(read.size_bytes);
    for wanted in &read.records {
        let offset = Place::unpack(wanted.body).offset;
        let start = (offset - read.offset) as usize;
        verify(read.container, offset, &buffer[start..], wanted)?;
        let start = start + record::HEADER_SIZE_BYTES;
        let range = start..start + wanted.size_bytes as usize;
        let stored = if slices {
            buffer.slice(range)
        } else {
            Bytes::copy_from_slice(&buffer[range])
        };
        out.push(Fetched {
            index: wanted.index,
            body: wanted.body,
            stored,
        });
    }
    Ok(())
}

/// A file that is too short is damage, not a failing disk.
pub(crate) fn read_or_missing(
    file: &impl DiskFile,
    container: Container,
    offset: u32,
    out: &mut [u8],
) -> Result<(), FetchError> {
    file.read_at(u64::from(offset), out)
        .map_err(|error: DiskError| {
            if error.cause.kind() == std::io::ErrorKind::UnexpectedEof {
                let name = container.file_name();
                Damage::new(&name, u64::from(offset), DamageCause::Missing).into()
            } else {
                error.into()
            }
        })
}

/// Checks that `bytes` start with the wanted message.
fn verify(
    container: Container,
    offset: u32,
    bytes: &[u8],
    wanted: &FetchRecord,
) -> Result<(), Damage> {
    let damage = |cause| Damage::new(&container.file_name(), u64::from(offset), cause);
    let size = record::HEADER_SIZE_BYTES + wanted.size_bytes as usize;
    let record = record::read(&bytes[..size], (container.seed(), offset)).map_err(damage)?;
    let same = record.head.kind == RecordKind::Message
        && record.head.index == wanted.index
        && narrow(record.payload.len()) == wanted.size_bytes;
    if same {
        Ok(())
    } else {
        Err(damage(DamageCause::Identity))
    }
}
