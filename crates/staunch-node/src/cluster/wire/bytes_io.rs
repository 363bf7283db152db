//! The primitives that the frames are made of.

use bytes::{BufMut, Bytes, BytesMut};
use staunch_types::{
    FieldTable, Message, MessageIndex, Name, field_table::TableError, message::StoredMessageError,
};

/// Bytes up to which a message is copied into a frame: a segment of its own costs more.
const COPY_SIZE_BYTES_MAX: usize = 512;

/// Why bytes are no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// Written by another version.
    #[error("queue frame of version {version}")]
    Version { version: u8 },
    /// Shorter than it says.
    #[error("truncated queue frame")]
    Truncated,
    /// Longer than it says.
    #[error("{size_bytes} bytes too many in a queue frame")]
    Trailing { size_bytes: usize },
    /// Unknown kind of something, or a flag that is neither 0 nor 1.
    #[error("unknown kind or flag {value} in a queue frame")]
    Unknown { value: u8 },
    /// A number has a value that its field cannot have.
    #[error("a number in a queue frame is out of range")]
    OutOfRange,
    /// A text is not UTF-8.
    #[error("a text in a queue frame is not UTF-8")]
    Text,
    /// Arguments are not a field table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A message is not in its stored form.
    #[error(transparent)]
    Message(#[from] StoredMessageError),
}

/// Bytes that are written, in pieces.
#[derive(Debug, Default)]
pub(super) struct Segments {
    done: Vec<Bytes>,
    open: BytesMut,
}

impl Segments {
    pub(super) fn u8(&mut self, value: u8) {
        self.open.put_u8(value);
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.open.put_u8(u8::from(value));
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.open.put_u16(value);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.open.put_u32(value);
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.open.put_i32(value);
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.open.put_u64(value);
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.open.put_slice(bytes);
    }

    pub(super) fn name(&mut self, name: &Name) {
        self.u8(u8::try_from(name.len()).expect("a name is at most 255 bytes"));
        self.raw(name);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.size(text.len());
        self.raw(text.as_bytes());
    }

    pub(super) fn table(&mut self, table: &FieldTable) {
        self.size(table.as_bytes().len());
        self.raw(table.as_bytes());
    }

    /// Size and bytes, which are not copied if they are many.
    pub(super) fn body(&mut self, bytes: &Bytes) {
        self.size(bytes.len());
        if bytes.len() <= COPY_SIZE_BYTES_MAX {
            return self.raw(bytes);
        }
        self.done.push(self.open.split().freeze());
        self.done.push(bytes.clone());
    }

    /// A message in its stored form.
    pub(super) fn message(&mut self, message: &Message) {
        self.size(message.stored_size_bytes());
        message.put_stored(&mut self.open);
    }

    pub(super) fn list<T>(&mut self, items: &[T], mut put: impl FnMut(&mut Self, &T)) {
        self.size(items.len());
        for item in items {
            put(self, item);
        }
    }

    pub(super) fn finish(mut self) -> Vec<Bytes> {
        if !self.open.is_empty() {
            self.done.push(self.open.freeze());
        }
        self.done
    }

    fn size(&mut self, size: usize) {
        self.u32(u32::try_from(size).expect("a frame is below 4 GiB"));
    }
}

/// Bytes that are read.
pub(super) struct Taker {
    rest: Bytes,
}

impl Taker {
    pub(super) fn new(rest: Bytes) -> Self {
        Self { rest }
    }

    pub(super) fn array<const SIZE: usize>(&mut self) -> Result<[u8; SIZE], WireError> {
        let Some(taken) = self.rest.first_chunk().copied() else {
            return Err(WireError::Truncated);
        };
        let _taken = self.rest.split_to(SIZE);
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, WireError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(super) fn bool(&mut self) -> Result<bool, WireError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(WireError::Unknown { value }),
        }
    }

    pub(super) fn u16(&mut self) -> Result<u16, WireError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(super) fn i32(&mut self) -> Result<i32, WireError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(super) fn name(&mut self) -> Result<Name, WireError> {
        let size = usize::from(self.u8()?);
        let bytes = self.split(size)?;
        Name::new(&bytes).map_err(|_| WireError::OutOfRange)
    }

    pub(super) fn text(&mut self) -> Result<String, WireError> {
        let bytes = self.body()?;
        let text = std::str::from_utf8(&bytes).map_err(|_| WireError::Text)?;
        Ok(text.to_owned())
    }

    pub(super) fn table(&mut self) -> Result<FieldTable, WireError> {
        Ok(FieldTable::parse(self.body()?)?)
    }

    pub(super) fn body(&mut self) -> Result<Bytes, WireError> {
        let size = self.u32()? as usize;
        self.split(size)
    }

    pub(super) fn message(&mut self) -> Result<Message, WireError> {
        Ok(Message::from_stored(self.body()?)?)
    }

    /// Consecutive indexes, at least one.
    pub(super) fn run(&mut self) -> Result<(MessageIndex, u32), WireError> {
        let (first, count) = (self.u64()?, self.u32()?);
        if count == 0 || first.checked_add(u64::from(count)).is_none() {
            return Err(WireError::OutOfRange);
        }
        Ok((MessageIndex(first), count))
    }

    /// Every item takes a byte at least, so a list is never longer than its frame.
    pub(super) fn list<T>(
        &mut self,
        mut take: impl FnMut(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let count = self.u32()?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(take(self)?);
        }
        Ok(items)
    }

    pub(super) fn finish(self) -> Result<(), WireError> {
        let size_bytes = self.rest.len();
        if size_bytes > 0 {
            return Err(WireError::Trailing { size_bytes });
        }
        Ok(())
    }

    fn split(&mut self, size: usize) -> Result<Bytes, WireError> {
        if size > self.rest.len() {
            return Err(WireError::Truncated);
        }
        Ok(self.rest.split_to(size))
    }
}
