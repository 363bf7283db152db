//! Copying survivors into segments.
//!
//! Every record is verified where it was and gets a new checksum where it goes. A young file of
//! which much survives is read whole, because its streams are interleaved and the copy goes
//! stream by stream; a sparse one is read record by record; a segment in windows, because there
//! the streams already lie together.

use std::io::IoSlice;

use crate::background::{Background, COPY_SIZE_BYTES};
use crate::disk::{Disk, DiskError, DiskFile};
use crate::error::{BackgroundError, Damage, DamageCause, FetchError};
use crate::job::{
    BackgroundResult, DamagedRecord, Live, Relocated, SegmentMade, SegmentPlan, TenurePlan,
};
use crate::layout::header::{self, FileKind};
use crate::layout::narrow;
use crate::layout::record::{self, Record, RecordHead, RecordKind};
use crate::layout::segment::{Entry, Trailer, put_group};
use crate::name;
use crate::place::{Container, Place, StreamId};
use crate::reader::read_or_missing;

/// A young file is read whole when at least one part in this many survives.
const DENSE_PART: u64 = 8;

impl<D: Disk> Background<D> {
    pub(super) fn run_tenure(
        &mut self,
        plan: &TenurePlan,
    ) -> Result<BackgroundResult, BackgroundError> {
        let mut moved = Moved::default();
        let mut segments = Vec::new();
        let mut source = Source::new(self.disk.clone(), plan);
        for segment in &plan.segments {
            let temp = name::temp(&name::segment(segment.id));
            let made = self.write_segment(&temp, segment, &mut source, &mut moved);
            if made.is_err() {
                self.drop_segments(&temp, &segments);
            }
            segments.push(made?);
        }
        if !segments.is_empty() {
            self.disk.sync_directory()?;
        }
        Ok(BackgroundResult::Tenured {
            segments,
            relocated: moved.relocated,
            damaged: moved.damaged,
        })
    }

    fn write_segment(
        &mut self,
        temp: &str,
        plan: &SegmentPlan,
        source: &mut Source<D>,
        moved: &mut Moved,
    ) -> Result<SegmentMade, BackgroundError> {
        let mut copy = Copy::<D>::begin(self.disk.create(temp, 0)?, plan);
        for (stream, entries) in &plan.groups {
            let mut group = Vec::with_capacity(entries.len());
            for live in entries {
                let record = match source.read(*stream, live) {
                    Ok(record) => record,
                    Err(FetchError::Disk(error)) => return Err(error.into()),
                    Err(FetchError::Damage(damage)) => {
                        moved.leave(*stream, live, damage);
                        continue;
                    }
                };
                let entry = copy.put(*stream, live, &record)?;
                moved.relocated.push(Relocated {
                    stream: *stream,
                    index: live.index,
                    from: live.body,
                    to: entry.body(plan.id),
                    size_bytes: live.size_bytes,
                });
                group.push(entry);
            }
            if !group.is_empty() {
                copy.end_group(*stream, &group);
            }
        }
        let made = copy.finish()?;
        self.disk.rename(temp, &name::segment(plan.id))?;
        Ok(made)
    }

    /// Gives back the space of a tenure that failed. Whether it works matters less than the
    /// failure itself: recovery removes orphans too.
    fn drop_segments(&mut self, temp: &str, made: &[SegmentMade]) {
        drop(self.disk.remove(temp));
        for segment in made {
            drop(self.disk.remove(&name::segment(segment.id)));
        }
    }
}

/// What became of the survivors.
#[derive(Default)]
struct Moved {
    relocated: Vec<Relocated>,
    damaged: Vec<DamagedRecord>,
}

impl Moved {
    fn leave(&mut self, stream: StreamId, live: &Live, damage: Damage) {
        self.damaged.push(DamagedRecord {
            stream,
            index: live.index,
            body: live.body,
            damage,
        });
    }
}

/// A segment being written.
struct Copy<'a, D: Disk> {
    file: D::File,
    plan: &'a SegmentPlan,
    seed: u32,
    buffer: Vec<u8>,
    /// Where `buffer` goes in the file.
    buffer_offset: usize,
    footer: Vec<u8>,
    record_count: u32,
    group_count: u32,
}

impl<'a, D: Disk> Copy<'a, D> {
    fn begin(file: D::File, plan: &'a SegmentPlan) -> Self {
        Self {
            file,
            plan,
            seed: Container::Segment(plan.id).seed(),
            buffer: header::encode(FileKind::Segment, plan.id.0, 0).to_vec(),
            buffer_offset: 0,
            footer: Vec::new(),
            record_count: 0,
            group_count: 0,
        }
    }

    fn put(
        &mut self,
        stream: StreamId,
        live: &Live,
        record: &Record<'_>,
    ) -> Result<Entry, DiskError> {
        let offset = narrow(self.buffer_offset + self.buffer.len());
        let head = RecordHead {
            kind: RecordKind::Message,
            stream,
            index: live.index,
            meta: live.meta,
        };
        let payload = record.payload;
        record::put(
            &mut self.buffer,
            (self.seed, offset),
            &head,
            payload.len(),
            |out| {
                out.extend_from_slice(payload);
            },
        );
        self.record_count += 1;
        if self.buffer.len() >= COPY_SIZE_BYTES {
            self.flush()?;
        }
        Ok(Entry {
            index: live.index,
            offset,
            size_bytes: live.size_bytes,
            meta: live.meta,
        })
    }

    fn end_group(&mut self, stream: StreamId, entries: &[Entry]) {
        put_group(&mut self.footer, stream, entries);
        self.group_count += 1;
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        self.file
            .write_at(self.buffer_offset as u64, &[IoSlice::new(&self.buffer)])?;
        // Written out as it goes, so that the writer's sync never waits behind all of it.
        self.file.sync_data()?;
        self.buffer_offset += self.buffer.len();
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<SegmentMade, DiskError> {
        let footer_offset = self.buffer_offset + self.buffer.len();
        let footer_crc = crc32c::crc32c(&self.footer);
        let trailer = Trailer {
            id: self.plan.id,
            footer_offset: footer_offset as u64,
            footer_size_bytes: self.footer.len() as u64,
            record_count: self.record_count,
            group_count: self.group_count,
            footer_crc,
        };
        self.buffer.append(&mut self.footer);
        self.buffer.extend_from_slice(&trailer.encode());
        self.flush()?;
        Ok(SegmentMade {
            id: self.plan.id,
            size_bytes: narrow(self.buffer_offset),
            records: self.record_count,
            footer_crc,
            records_size_bytes: (footer_offset - header::FILE_HEADER_SIZE_BYTES) as u64,
        })
    }
}

/// Reads live records from the files being given up.
struct Source<D: Disk> {
    disk: D,
    live_size_bytes: u64,
    open: Option<Open<D::File>>,
}

struct Open<F> {
    container: Container,
    file: F,
    size_bytes: u64,
    /// How much to read at once, at least.
    window_size_bytes: usize,
    window: Vec<u8>,
    window_offset: u64,
}

impl<D: Disk> Source<D> {
    fn new(disk: D, plan: &TenurePlan) -> Self {
        let live = plan.segments.iter().flat_map(|segment| &segment.groups);
        let live = live.flat_map(|(_, entries)| entries);
        let live_size_bytes = live.map(|entry| u64::from(entry.size_bytes)).sum();
        Self {
            disk,
            live_size_bytes,
            open: None,
        }
    }

    fn open(&self, container: Container) -> Result<Open<D::File>, DiskError> {
        let file = self.disk.open(&container.file_name())?;
        let size_bytes = file.size_bytes()?;
        let window_size_bytes = match container {
            Container::Young(_) if self.live_size_bytes >= size_bytes / DENSE_PART => usize::MAX,
            Container::Young(_) => 0,
            Container::Segment(_) => COPY_SIZE_BYTES,
        };
        let (window, window_offset) = (Vec::new(), 0);
        Ok(Open {
            container,
            file,
            size_bytes,
            window_size_bytes,
            window,
            window_offset,
        })
    }

    fn read(&mut self, stream: StreamId, live: &Live) -> Result<Record<'_>, FetchError> {
        let Place { container, offset } = Place::unpack(live.body);
        if self
            .open
            .as_ref()
            .is_none_or(|open| open.container != container)
        {
            self.open = Some(self.open(container)?);
        }
        let open = self.open.as_mut().expect("it was just opened");
        let size = record::HEADER_SIZE_BYTES + live.size_bytes as usize;
        open.load(offset, size)?;
        let start = usize::try_from(u64::from(offset) - open.window_offset).expect("in memory");
        let damage = |cause| Damage::new(&container.file_name(), u64::from(offset), cause);
        let bytes = &open.window[start..start + size];
        let record = record::read(bytes, (container.seed(), offset)).map_err(damage)?;
        let head = record.head;
        let same = head.kind == RecordKind::Message
            && (head.stream, head.index) == (stream, live.index)
            && record.payload.len() == live.size_bytes as usize;
        if same {
            Ok(record)
        } else {
            Err(damage(DamageCause::Identity).into())
        }
    }
}

impl<F: DiskFile> Open<F> {
    /// Makes sure that `size` bytes at `offset` are in the window.
    fn load(&mut self, offset: u32, size: usize) -> Result<(), FetchError> {
        let (start, end) = (u64::from(offset), u64::from(offset) + size as u64);
        let window_end = self.window_offset + self.window.len() as u64;
        if start >= self.window_offset && end <= window_end {
            return Ok(());
        }
        let whole = self.window_size_bytes == usize::MAX;
        let from = if whole { 0 } else { start };
        let wanted = from.saturating_add(self.window_size_bytes.max(size) as u64);
        let to = wanted.min(self.size_bytes).max(end);
        self.window
            .resize(usize::try_from(to - from).expect("files fit in memory"), 0);
        self.window_offset = from;
        let from = narrow_offset(from);
        let read = read_or_missing(&self.file, self.container, from, &mut self.window);
        if read.is_err() {
            self.window.clear();
        }
        read
    }
}

fn narrow_offset(offset: u64) -> u32 {
    u32::try_from(offset).expect("files are below 4 GiB")
}
