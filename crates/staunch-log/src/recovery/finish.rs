//! The end of a recovery: the only part of it that modifies anything.

use std::io::IoSlice;

use crate::background::Background;
use crate::disk::{Disk, DiskError, DiskFile};
use crate::error::{Note, RecoverError};
use crate::name;
use crate::place::FileId;
use crate::reader::Reader;
use crate::recovery::scan::Unsure;
use crate::recovery::{Opened, Recovery};
use crate::store::{FoundUpkeep, Start};
use crate::writer::Writer;

impl<D: Disk> Recovery<D> {
    /// Makes sure of the tail, clears away what nothing refers to, and begins a fresh file.
    ///
    /// # Errors
    /// [`RecoverError::Disk`]: the node must not start.
    ///
    /// # Panics
    /// If [`Recovery::next`] has not come to its end.
    pub fn finish(self) -> Result<Opened<D>, RecoverError> {
        assert!(
            self.ended,
            "a recovery is read to its end before it is finished"
        );
        let Self {
            disk,
            mut store,
            inventory,
            scan,
            ..
        } = self;
        let end = scan.end();
        rewrite(&disk, &end.unsure)?;
        let mut notes = inventory.notes;
        notes.extend(end.tail);
        let mut damaged = inventory.damaged;
        for lost in inventory.lost {
            let lost = name::segment(lost);
            if set_damaged_aside(&disk, &lost)? {
                damaged.push(name::damaged(&lost));
            }
        }
        for orphan in inventory.orphans {
            disk.remove(&orphan)?;
            notes.push(Note::OrphanRemoved { file: orphan });
        }
        let spares_max = store.config().prepared_files + 1;
        let mut spares = inventory.spares;
        let left_over = end.unused.into_iter().chain(inventory.retired).rev();
        set_aside(&disk, left_over, &mut spares, spares_max)?;
        let mut background = Background::new(disk.clone());
        let mut has_ballast = inventory.has_ballast;
        let size_bytes = store.config().file_size_bytes;
        let file = inventory.file_next;
        let files = (file, end.last_file.unwrap_or_default());
        let mut made = background.prepare(files, spares.last().copied(), size_bytes);
        if matches!(&made, Err(error) if error.is_no_space()) && has_ballast {
            disk.remove(name::BALLAST)?;
            disk.sync_directory()?;
            has_ballast = false;
            made = background.prepare(files, None, size_bytes);
        }
        made?;
        spares.pop();
        store.recover_upkeep(FoundUpkeep {
            spares,
            has_ballast,
            segment_next: inventory.segment_next,
            checkpoint_last: inventory.checkpoint,
            follows: inventory.image.follows,
            damaged,
        });
        store.start(Start {
            file,
            last_chunk: end.last,
            next_chunk: end.next,
        });
        let mut writer = Writer::new(disk.clone());
        let marker = store.poll_write().expect("the marker waits to be written");
        let written = writer
            .run(marker)
            .map_err(|fatal| RecoverError::Disk(fatal.0))?;
        store.handle_written(&written);
        Ok(Opened {
            store,
            writer,
            background,
            reader: Reader::new(disk),
            notes,
        })
    }
}

/// Writes chunks again, byte for byte, and syncs them. They may have been read from a page cache
/// that calls them clean though no sync of them ever succeeded.
fn rewrite(disk: &impl Disk, unsure: &[Unsure]) -> Result<(), DiskError> {
    for same_file in unsure.chunk_by(|a, b| a.file == b.file) {
        let file: FileId = same_file[0].file;
        let handle = disk.open(&name::young(file))?;
        for chunk in same_file {
            let mut bytes = vec![0; chunk.size_bytes as usize];
            handle.read_at(u64::from(chunk.offset), &mut bytes)?;
            handle.write_at(u64::from(chunk.offset), &[IoSlice::new(&bytes)])?;
        }
        handle.sync_data()?;
    }
    Ok(())
}

/// Keeps a damaged file for whoever wants to look at it. Whether it is there.
pub(super) fn set_damaged_aside(disk: &impl Disk, file: &str) -> Result<bool, DiskError> {
    match disk.rename(file, &name::damaged(file)) {
        Ok(()) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Keeps files as spares, and removes what is too much. Each step is durable before the next, and
/// the newest file goes first: a crash in between must not look like a file gone missing.
fn set_aside(
    disk: &impl Disk,
    files: impl Iterator<Item = FileId>,
    spares: &mut Vec<FileId>,
    spares_max: usize,
) -> Result<(), DiskError> {
    for file in files {
        if spares.len() < spares_max {
            disk.rename(&name::young(file), &name::spare(file))?;
            spares.push(file);
        } else {
            disk.remove(&name::young(file))?;
        }
        disk.sync_directory()?;
    }
    disk.sync_directory()
}
