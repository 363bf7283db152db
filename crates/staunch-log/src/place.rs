//! Where a record is: chunks, files, segments, and the packing of a [`BodyRef`].
//!
//! ```text
//! 63     62 .......... 24 23 ........... 0
//! ┌──────┬───────────────┬────────────────┐
//! │ kind │ container     │ offset / 8     │   kind 0: young file, 1: segment
//! └──────┴───────────────┴────────────────┘
//! ```
//!
//! A young record is named by file and offset, not by chunk, because files are few: at 10 GB/s
//! their numbers last for a thousand years, while chunk numbers in 39 bits would run out in one.

use std::fmt;

use staunch_types::BodyRef;

/// A stream of records: one queue, or 0 for the catalog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

impl StreamId {
    /// The catalog's stream.
    pub const CATALOG: Self = Self(0);
    /// Largest stream id; a record keeps 56 bits of it.
    pub const MAX: Self = Self((1 << 56) - 1);
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Sequence number of a chunk in the log: rises for ever, never repeats, may skip. 0 is before
/// the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId(pub u64);

impl ChunkId {
    /// Largest number of a chunk that is believed when it is read: there is room for all that
    /// come after it.
    pub(crate) const FOUND_MAX: Self = Self(u64::MAX >> 1);
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of a young file in log order. A recycled file gets a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u64);

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of a segment; never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u64);

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A file that holds records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Container {
    /// A young file.
    Young(FileId),
    /// A segment.
    Segment(SegmentId),
}

const KIND_BIT: u64 = 1 << 63;
const OFFSET_BITS: u32 = 24;
const NUMBER_MAX: u64 = (1 << (63 - OFFSET_BITS)) - 1;
/// Largest number of a young file or segment that is believed when it is read: there is room for
/// all that come after it.
pub(crate) const NUMBER_FOUND_MAX: u64 = NUMBER_MAX >> 1;

impl Container {
    /// Its identity as one number: kind bit and number.
    pub(crate) fn identity(self) -> u64 {
        match self {
            Self::Young(file) => file.0,
            Self::Segment(segment) => KIND_BIT | segment.0,
        }
    }

    /// What the checksums of everything inside are seeded with.
    pub(crate) fn seed(self) -> u32 {
        crc32c::crc32c(&self.identity().to_le_bytes())
    }

    /// Its file's name.
    pub(crate) fn file_name(self) -> String {
        match self {
            Self::Young(file) => crate::name::young(file),
            Self::Segment(segment) => crate::name::segment(segment),
        }
    }
}

/// Container and byte offset of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) container: Container,
    pub(crate) offset: u32,
}

impl Place {
    /// # Panics
    /// If the offset is no multiple of 8, or offset or number is too large to pack.
    pub(crate) fn pack(self) -> BodyRef {
        assert!(self.offset.is_multiple_of(8) && self.offset >> 3 < 1 << OFFSET_BITS);
        let identity = self.container.identity();
        assert!(
            identity & !KIND_BIT <= NUMBER_MAX,
            "container numbers fit 39 bits"
        );
        let number = (identity & !KIND_BIT) << OFFSET_BITS;
        BodyRef((identity & KIND_BIT) | number | u64::from(self.offset >> 3))
    }

    pub(crate) fn unpack(body: BodyRef) -> Self {
        let number = (body.0 & !KIND_BIT) >> OFFSET_BITS;
        let container = if body.0 & KIND_BIT == 0 {
            Container::Young(FileId(number))
        } else {
            Container::Segment(SegmentId(number))
        };
        let offset = u32::try_from(body.0 & ((1 << OFFSET_BITS) - 1)).expect("24 bits fit") << 3;
        Self { container, offset }
    }
}

/// Whether `body` lies in a segment, not in a young file.
pub fn is_in_segment(body: BodyRef) -> bool {
    matches!(Place::unpack(body).container, Container::Segment(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_gives_back_its_place() {
        for container in [
            Container::Young(FileId(7)),
            Container::Segment(SegmentId(NUMBER_MAX)),
        ] {
            for offset in [0, 8, 576, (128 << 20) - 8] {
                let place = Place { container, offset };
                assert_eq!(Place::unpack(place.pack()), place);
            }
        }
    }
}
