//! Reading and writing the primitives that the layouts of this crate are made of.

use bytes::Bytes;
use staunch_types::field_table::TableError;
use staunch_types::{FieldTable, Name};

/// Why bytes are not a command or snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("bytes end inside a field")]
    Truncated,
    /// Bytes follow after the end.
    #[error("{size_bytes} bytes are left over")]
    LeftOver {
        /// How many.
        size_bytes: usize,
    },
    /// Written by a version that this one does not read.
    #[error("layout version {version} is not known")]
    UnknownVersion {
        /// The version found.
        version: u8,
    },
    /// No such kind of command or value.
    #[error("kind {kind} is not known")]
    UnknownKind {
        /// The kind found.
        kind: u8,
    },
    /// A number has a value that its field cannot have.
    #[error("a number is out of range")]
    OutOfRange,
    /// Arguments are not a field table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A command in a snapshot was refused.
    #[error("the snapshot contradicts itself")]
    Contradiction,
    /// A password hash is none.
    #[error("a password hash has a wrong size or form")]
    PasswordHash,
}

/// Appends primitives to a buffer.
pub(crate) trait Writer {
    fn put_u8(&mut self, value: u8);
    fn put_bool(&mut self, value: bool) {
        self.put_u8(u8::from(value));
    }
    fn put_u32(&mut self, value: u32);
    fn put_u64(&mut self, value: u64);
    /// LEB128: seven bits a byte, lowest first.
    fn put_varint(&mut self, value: u64);
    fn put_name(&mut self, name: &Name);
    fn put_table(&mut self, table: &FieldTable);
    /// Size (u32) and UTF-8.
    fn put_text(&mut self, text: &str);
    /// Count (u32) and names.
    fn put_names(&mut self, names: &[Name]);
    /// Whether there is a value (u8), and the value or 0.
    fn put_optional_u64(&mut self, value: Option<u64>) {
        self.put_bool(value.is_some());
        self.put_u64(value.unwrap_or(0));
    }
}

impl Writer for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }

    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.push(value.to_le_bytes()[0]);
    }

    fn put_name(&mut self, name: &Name) {
        self.push(u8::try_from(name.len()).expect("a name is at most 255 bytes"));
        self.extend_from_slice(name);
    }

    fn put_table(&mut self, table: &FieldTable) {
        let bytes = table.as_bytes();
        self.put_u32(u32::try_from(bytes.len()).expect("arguments came in one frame"));
        self.extend_from_slice(bytes);
    }

    fn put_text(&mut self, text: &str) {
        self.put_u32(u32::try_from(text.len()).expect("texts are far below 4 GiB"));
        self.extend_from_slice(text.as_bytes());
    }

    fn put_names(&mut self, names: &[Name]) {
        self.put_u32(u32::try_from(names.len()).expect("lists of names are short"));
        for name in names {
            self.put_name(name);
        }
    }
}

/// Takes primitives from a slice.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn bytes(&mut self, size: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(size)
            .ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const SIZE: usize>(&mut self) -> Result<[u8; SIZE], DecodeError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(crate) fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::OutOfRange),
        }
    }

    pub(crate) fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(DecodeError::OutOfRange);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::OutOfRange)
    }

    pub(crate) fn version(&mut self, known: u8) -> Result<(), DecodeError> {
        let version = self.u8()?;
        if version == known {
            Ok(())
        } else {
            Err(DecodeError::UnknownVersion { version })
        }
    }

    pub(crate) fn name(&mut self) -> Result<Name, DecodeError> {
        let size = usize::from(self.u8()?);
        Ok(Name::new(self.bytes(size)?).expect("a length of one byte is at most 255"))
    }

    pub(crate) fn table(&mut self) -> Result<FieldTable, DecodeError> {
        let size = usize::try_from(self.u32()?).map_err(|_| DecodeError::OutOfRange)?;
        let bytes = self.bytes(size)?;
        Ok(FieldTable::parse(Bytes::copy_from_slice(bytes))?)
    }

    pub(crate) fn text(&mut self) -> Result<String, DecodeError> {
        let size = usize::try_from(self.u32()?).map_err(|_| DecodeError::OutOfRange)?;
        let text = std::str::from_utf8(self.bytes(size)?).map_err(|_| DecodeError::OutOfRange)?;
        Ok(text.to_owned())
    }

    pub(crate) fn names(&mut self) -> Result<Vec<Name>, DecodeError> {
        let count = self.u32()?;
        (0..count).map(|_| self.name()).collect()
    }

    pub(crate) fn optional_u64(&mut self) -> Result<Option<u64>, DecodeError> {
        let is_some = self.bool()?;
        let value = self.u64()?;
        Ok(is_some.then_some(value))
    }

    /// Bytes not taken yet.
    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::LeftOver {
                size_bytes: self.rest.len(),
            })
        }
    }
}
