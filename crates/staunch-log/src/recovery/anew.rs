//! Giving up a log that is damaged.

use crate::background::Background;
use crate::disk::{Disk, DiskError};
use crate::job::CheckpointPlan;
use crate::layout::checkpoint::CheckpointImage;
use crate::name::FileName;
use crate::place::{FileId, SegmentId};
use crate::recovery::finish::set_damaged_aside;

/// Begins a new log with this state in a directory whose log cannot be recovered. The old one's
/// files are set aside, and kept until [`crate::Store::forget_damaged`]; those of a log that was
/// given up before then are not kept as well.
///
/// It takes effect at one moment: a crash leaves the old log or the new one.
///
/// # Errors
/// [`DiskError`]: it may have happened or not.
pub fn begin_anew<D: Disk>(disk: &D, state: Vec<u8>) -> Result<(), DiskError> {
    let mut image = CheckpointImage {
        file_next: FileId(1),
        segment_next: SegmentId(1),
        ..CheckpointImage::default()
    };
    let mut number = 1;
    let mut old = Vec::new();
    let mut has_set_aside = false;
    for name in disk.list()? {
        match FileName::parse(&name) {
            FileName::Young(file) => {
                image.file_next = image.file_next.max(FileId(file.0 + 1));
                old.push(name);
            }
            FileName::Spare(file) => image.file_next = image.file_next.max(FileId(file.0 + 1)),
            FileName::Segment(segment) => {
                image.segment_next = image.segment_next.max(SegmentId(segment.0 + 1));
                old.push(name);
            }
            FileName::Checkpoint(other) => {
                number = number.max(other + 1);
                old.push(name);
            }
            FileName::Damaged => has_set_aside = true,
            FileName::Temp
            | FileName::Ballast
            | FileName::Lock
            | FileName::OfServer
            | FileName::Foreign => {}
        }
    }
    image.file_first = image.file_next;
    Background::new(disk.clone()).write_checkpoint(&CheckpointPlan {
        number,
        previous: None,
        image,
        state,
    })?;
    // What is left of the old log is removed by the next recovery, as if a checkpoint had made it
    // superfluous, which one has.
    if !has_set_aside {
        for name in old {
            set_damaged_aside(disk, &name)?;
        }
        disk.sync_directory()?;
    }
    Ok(())
}
