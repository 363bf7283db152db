//! The elementary types inside a method: reading, writing, and the short string.

use std::fmt;
use std::ops::Deref;

use staunch_types::field_table::{TableError, TableRef};

use crate::frame;

/// How long a short string may be: its length is one byte on the wire.
pub const SHORT_STR_BYTES_MAX: usize = 255;

/// A string of at most 255 bytes (AMQP 0-9-1, shortstr). It need not be UTF-8.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortStr<'a>(&'a [u8]);

impl<'a> ShortStr<'a> {
    /// The empty string.
    pub const EMPTY: Self = Self(&[]);

    /// Wraps `bytes`; `None` if they are too many.
    #[inline]
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() <= SHORT_STR_BYTES_MAX {
            Some(Self(bytes))
        } else {
            None
        }
    }

    /// Wraps as much of `text` as fits, whole characters only: for reply texts.
    #[must_use]
    pub fn truncated(text: &'a str) -> Self {
        Self(&text.as_bytes()[..text.floor_char_boundary(SHORT_STR_BYTES_MAX)])
    }

    /// Wraps a constant of the program.
    ///
    /// # Panics
    /// If it is too long; in a `const`, that stops the build.
    #[must_use]
    pub const fn from_static(text: &'a str) -> Self {
        assert!(
            text.len() <= SHORT_STR_BYTES_MAX,
            "a short string has at most 255 bytes"
        );
        Self(text.as_bytes())
    }

    /// The bytes.
    #[inline]
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The text, if it is UTF-8.
    pub fn as_str(self) -> Option<&'a str> {
        std::str::from_utf8(self.0).ok()
    }
}

impl Deref for ShortStr<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0
    }
}

impl fmt::Debug for ShortStr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl PartialEq<str> for ShortStr<'_> {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for ShortStr<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

/// What is wrong with the arguments of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    /// The payload ends inside an argument.
    #[error("truncated")]
    Truncated,
    /// Bytes follow the last argument.
    #[error("{count} bytes follow the last argument")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// A table argument is malformed.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// Reads arguments one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], ArgumentError> {
        let (bytes, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(ArgumentError::Truncated)?;
        self.rest = rest;
        Ok(*bytes)
    }

    #[inline]
    fn slice(&mut self, size: usize) -> Result<&'a [u8], ArgumentError> {
        let (bytes, rest) = self
            .rest
            .split_at_checked(size)
            .ok_or(ArgumentError::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }

    #[inline]
    pub(crate) fn octet(&mut self) -> Result<u8, ArgumentError> {
        self.array().map(u8::from_be_bytes)
    }

    #[inline]
    pub(crate) fn short(&mut self) -> Result<u16, ArgumentError> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn long(&mut self) -> Result<u32, ArgumentError> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn longlong(&mut self) -> Result<u64, ArgumentError> {
        self.array().map(u64::from_be_bytes)
    }

    #[inline]
    pub(crate) fn shortstr(&mut self) -> Result<ShortStr<'a>, ArgumentError> {
        let size = self.octet()?;
        self.slice(usize::from(size)).map(ShortStr)
    }

    pub(crate) fn longstr(&mut self) -> Result<&'a [u8], ArgumentError> {
        let size = usize::try_from(self.long()?).map_err(|_| ArgumentError::Truncated)?;
        self.slice(size)
    }

    pub(crate) fn table(&mut self) -> Result<TableRef<'a>, ArgumentError> {
        Ok(TableRef::parse(self.longstr()?)?)
    }

    #[inline]
    pub(crate) fn finish(self) -> Result<(), ArgumentError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(ArgumentError::TrailingBytes {
                count: self.rest.len(),
            })
        }
    }
}

#[inline]
pub(crate) fn put_short(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

#[inline]
pub(crate) fn put_long(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

#[inline]
pub(crate) fn put_longlong(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_be_bytes());
}

#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the type holds at most 255 bytes"
)]
pub(crate) fn put_shortstr(out: &mut Vec<u8>, value: ShortStr<'_>) {
    out.push(value.0.len() as u8);
    out.extend_from_slice(value.0);
}

pub(crate) fn put_longstr(out: &mut Vec<u8>, value: &[u8]) {
    put_long(out, size_u32(value.len()));
    out.extend_from_slice(value);
}

pub(crate) fn put_table(out: &mut Vec<u8>, value: TableRef<'_>) {
    put_longstr(out, value.as_bytes());
}

/// A size as it is written on the wire.
#[inline]
pub(crate) fn size_u32(size: usize) -> u32 {
    u32::try_from(size).expect("nothing that fits a frame reaches 4 GiB")
}

/// Starts a frame whose size is not known yet; returns where it starts.
#[inline]
pub(crate) fn begin_frame(out: &mut Vec<u8>, kind: frame::FrameKind, channel: u16) -> usize {
    let start = out.len();
    let [high, low] = channel.to_be_bytes();
    out.extend_from_slice(&[kind as u8, high, low, 0, 0, 0, 0]);
    start
}

/// Ends the frame that began at `start`.
#[inline]
pub(crate) fn end_frame(out: &mut Vec<u8>, start: usize) {
    let payload_size = size_u32(out.len() - start - frame::FRAME_HEADER_BYTES);
    out[start + 3..start + 7].copy_from_slice(&payload_size.to_be_bytes());
    out.push(frame::FRAME_END);
}
