//! What a data directory holds, sorted by what the newest checkpoint says about it.

use bytes::Bytes;

use crate::disk::{Disk, DiskError, DiskFile};
use crate::error::{Damage, DamageCause, Note, RecoverError};
use crate::layout::checkpoint::{CheckpointImage, SegmentListed};
use crate::layout::header::{self, FILE_HEADER_SIZE_BYTES, FileKind};
use crate::layout::segment::{TRAILER_SIZE_BYTES, Trailer};
use crate::name::{self, FileName};
use crate::place::{FileId, SegmentId};
use crate::recovery::{OnDamage, footer_is_possible};

/// The files of a data directory.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    /// Number of the newest checkpoint; 0 is none.
    pub(crate) checkpoint: u64,
    pub(crate) image: CheckpointImage,
    pub(crate) state: Option<Bytes>,
    /// Young files to replay, oldest first.
    pub(crate) young: Vec<FileId>,
    /// Young files the checkpoint no longer needs.
    pub(crate) retired: Vec<FileId>,
    pub(crate) spares: Vec<FileId>,
    /// To be removed.
    pub(crate) orphans: Vec<String>,
    pub(crate) has_ballast: bool,
    /// Above every young file and segment number in use.
    pub(crate) file_next: FileId,
    pub(crate) segment_next: SegmentId,
    pub(crate) notes: Vec<Note>,
    /// Segments without which recovery goes on.
    pub(crate) lost: Vec<SegmentId>,
    /// Files that were set aside before.
    pub(crate) damaged: Vec<String>,
}

impl Inventory {
    /// Lists the directory, reads the newest checkpoint, and checks the header of every file the
    /// log consists of.
    pub(crate) fn take(disk: &impl Disk, damaged: OnDamage) -> Result<Self, RecoverError> {
        let names = disk.list()?;
        let mut inventory = Self::default();
        let checkpoints = names.iter().filter_map(|name| match FileName::parse(name) {
            FileName::Checkpoint(number) => Some(number),
            _ => None,
        });
        if let Some(number) = checkpoints.max() {
            inventory.checkpoint = number;
            inventory.read_checkpoint(disk)?;
        }
        inventory.file_next = inventory.image.file_next.max(FileId(1));
        inventory.segment_next = inventory.image.segment_next.max(SegmentId(1));
        for name in &names {
            inventory.sort_in(name);
        }
        inventory.check_beginning()?;
        for listed in inventory.image.segments.clone() {
            let name = name::segment(listed.id);
            let file = open_or_missing(disk, &name);
            let checked = file.and_then(|file| check_segment(&file, &name, listed));
            inventory.without_if_damaged(listed.id, checked, damaged)?;
        }
        for file in &inventory.young {
            let name = name::young(*file);
            let predecessor = read_header(&disk.open(&name)?, FileKind::Young, file.0, &name)?;
            inventory.check_predecessor(FileId(predecessor))?;
        }
        Ok(inventory)
    }

    /// What is found in a segment; none if recovery goes on without it.
    pub(crate) fn without_if_damaged<T>(
        &mut self,
        id: SegmentId,
        found: Result<T, RecoverError>,
        damaged: OnDamage,
    ) -> Result<Option<T>, RecoverError> {
        match (found, damaged) {
            (Err(RecoverError::Damage(damage)), OnDamage::LackSegments) => {
                self.image.segments.retain(|listed| listed.id != id);
                self.lost.push(id);
                self.notes.push(Note::SegmentLost(damage));
                Ok(None)
            }
            (found, _) => found.map(Some),
        }
    }

    /// Without a checkpoint a log begins with its first file: one that had a checkpoint and has lost
    /// it must not pass for a new one.
    fn check_beginning(&self) -> Result<(), Damage> {
        let first = self.young.iter().min();
        if self.checkpoint > 0 || first.is_none_or(|first| *first <= FileId(1)) {
            return Ok(());
        }
        Err(Damage::new(&name::checkpoint(1), 0, DamageCause::Missing))
    }

    /// A young file's predecessor is there, or was given up by a checkpoint.
    fn check_predecessor(&self, predecessor: FileId) -> Result<(), Damage> {
        let given_up = predecessor < self.image.file_first.max(FileId(1));
        if given_up || self.young.binary_search(&predecessor).is_ok() {
            return Ok(());
        }
        Err(Damage::new(
            &name::young(predecessor),
            0,
            DamageCause::Missing,
        ))
    }

    fn read_checkpoint(&mut self, disk: &impl Disk) -> Result<(), RecoverError> {
        let name = name::checkpoint(self.checkpoint);
        let file = disk.open(&name)?;
        read_header(&file, FileKind::Checkpoint, self.checkpoint, &name)?;
        let size = usize::try_from(file.size_bytes()?).expect("a checkpoint fits in memory");
        let mut bytes = vec![0; size.saturating_sub(CheckpointImage::OFFSET)];
        file.read_at(CheckpointImage::OFFSET as u64, &mut bytes)?;
        let (image, state) = CheckpointImage::read(&bytes)
            .map_err(|cause| Damage::new(&name, CheckpointImage::OFFSET as u64, cause))?;
        self.image = image;
        self.state = Some(Bytes::from(bytes).slice(state));
        Ok(())
    }

    fn sort_in(&mut self, name: &str) {
        match FileName::parse(name) {
            FileName::Young(file) => {
                self.file_next = self.file_next.max(FileId(file.0 + 1));
                if file >= self.image.file_first {
                    self.young.push(file);
                } else {
                    self.retired.push(file);
                }
            }
            FileName::Segment(segment) => {
                self.segment_next = self.segment_next.max(SegmentId(segment.0 + 1));
                if !self
                    .image
                    .segments
                    .iter()
                    .any(|listed| listed.id == segment)
                {
                    self.orphans.push(name.to_owned());
                }
            }
            FileName::Checkpoint(number) if number < self.checkpoint => {
                self.orphans.push(name.to_owned());
            }
            FileName::Checkpoint(_) | FileName::Lock | FileName::OfServer => {}
            FileName::Temp => self.orphans.push(name.to_owned()),
            FileName::Damaged => self.damaged.push(name.to_owned()),
            FileName::Spare(file) => {
                // Its records were made under this number: the number must not come again.
                self.file_next = self.file_next.max(FileId(file.0 + 1));
                self.spares.push(file);
            }
            FileName::Ballast => self.has_ballast = true,
            FileName::Foreign => self.notes.push(Note::ForeignFile {
                file: name.to_owned(),
            }),
        }
    }
}

/// A file the checkpoint needs.
fn open_or_missing<D: Disk>(disk: &D, name: &str) -> Result<D::File, RecoverError> {
    disk.open(name).map_err(|error: DiskError| {
        if error.is_not_found() {
            Damage::new(name, 0, DamageCause::Missing).into()
        } else {
            error.into()
        }
    })
}

/// Checks header and trailer of a segment against what the checkpoint says.
pub(crate) fn check_segment(
    file: &impl DiskFile,
    name: &str,
    listed: SegmentListed,
) -> Result<Trailer, RecoverError> {
    read_header(file, FileKind::Segment, listed.id.0, name)?;
    let size = file.size_bytes()?;
    let trailer_offset = size.saturating_sub(TRAILER_SIZE_BYTES as u64);
    let damage = |cause| Damage::new(name, trailer_offset, cause);
    if size != listed.size_bytes || trailer_offset < FILE_HEADER_SIZE_BYTES as u64 {
        return Err(damage(DamageCause::Size).into());
    }
    let mut bytes = [0; TRAILER_SIZE_BYTES];
    file.read_at(trailer_offset, &mut bytes)?;
    let trailer = Trailer::read(&bytes).map_err(damage)?;
    let same = trailer.id == listed.id
        && trailer.record_count == listed.record_count
        && trailer.footer_crc == listed.footer_crc
        && footer_is_possible(&trailer, size);
    if same {
        Ok(trailer)
    } else {
        Err(damage(DamageCause::Identity).into())
    }
}

fn read_header(
    file: &impl DiskFile,
    kind: FileKind,
    number: u64,
    name: &str,
) -> Result<u64, RecoverError> {
    if file.size_bytes()? < FILE_HEADER_SIZE_BYTES as u64 {
        return Err(Damage::new(name, 0, DamageCause::Missing).into());
    }
    let mut bytes = [0; FILE_HEADER_SIZE_BYTES];
    file.read_at(0, &mut bytes)?;
    header::check(&bytes, kind, number, name)
}
