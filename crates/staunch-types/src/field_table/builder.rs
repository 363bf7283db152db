//! Building tables and arrays, for what the program itself says.

use bytes::Bytes;

use super::{ArrayRef, FieldTable, TableError, TableRef, Value};

/// Builds a [`FieldTable`].
///
/// The limits on size, depth and number of fields bound what peers may send; they are not
/// applied here, so that adding `x-death` to a table with 1,024 headers cannot fail.
///
/// Keys are short and come from the program; for keys from outside use
/// [`TableBuilder::try_value`].
#[derive(Clone, Debug, Default)]
pub struct TableBuilder {
    out: Vec<u8>,
}

impl TableBuilder {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends any value.
    ///
    /// # Panics
    /// If `key` is longer than [`super::TABLE_KEY_BYTES_MAX`], as in every method below with a key.
    #[must_use]
    pub fn value(mut self, key: &str, value: Value<'_>) -> Self {
        self.try_value(key.as_bytes(), value)
            .expect("keys of the program are short");
        self
    }

    /// Appends any value under a key from outside.
    ///
    /// # Errors
    /// [`TableError::KeyTooLong`].
    pub fn try_value(&mut self, key: &[u8], value: Value<'_>) -> Result<(), TableError> {
        let key_size = u8::try_from(key.len()).map_err(|_| TableError::KeyTooLong)?;
        self.out.push(key_size);
        self.out.extend_from_slice(key);
        value.encode(&mut self.out);
        Ok(())
    }

    /// Appends every field of `table` whose key is not among `keys`, byte for byte.
    #[must_use]
    pub fn copy_except(mut self, table: TableRef<'_>, keys: &[&str]) -> Self {
        let mut fields = table.iter();
        loop {
            let before = fields.rest;
            let Some((key, _)) = fields.next() else {
                return self;
            };
            if !keys.iter().any(|k| k.as_bytes() == key) {
                self.out
                    .extend_from_slice(&before[..before.len() - fields.rest.len()]);
            }
        }
    }

    /// Appends a string (`S`).
    #[must_use]
    pub fn longstr(self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.value(key, Value::LongStr(value.as_ref()))
    }

    /// Appends a truth value (`t`).
    #[must_use]
    pub fn bool(self, key: &str, value: bool) -> Self {
        self.value(key, Value::Bool(value))
    }

    /// Appends a 32-bit integer (`I`).
    #[must_use]
    pub fn int(self, key: &str, value: i32) -> Self {
        self.value(key, Value::I32(value))
    }

    /// Appends a 64-bit integer (`l`).
    #[must_use]
    pub fn long(self, key: &str, value: i64) -> Self {
        self.value(key, Value::I64(value))
    }

    /// Appends a time in seconds since 1970 (`T`).
    #[must_use]
    pub fn timestamp(self, key: &str, seconds: u64) -> Self {
        self.value(key, Value::Timestamp(seconds))
    }

    /// Appends a nested table (`F`).
    #[must_use]
    pub fn table(self, key: &str, value: &FieldTable) -> Self {
        self.value(key, Value::Table(value.as_table_ref()))
    }

    /// Appends an array (`A`).
    #[must_use]
    pub fn array(self, key: &str, value: &ArrayBuilder) -> Self {
        self.value(key, Value::Array(value.as_array_ref()))
    }

    /// The table.
    #[must_use]
    pub fn build(self) -> FieldTable {
        FieldTable(Bytes::from(self.out))
    }
}

/// Builds an array for [`TableBuilder::array`].
#[derive(Clone, Debug, Default)]
pub struct ArrayBuilder {
    out: Vec<u8>,
}

impl ArrayBuilder {
    /// An empty array.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends any value.
    #[must_use]
    pub fn value(mut self, value: Value<'_>) -> Self {
        value.encode(&mut self.out);
        self
    }

    /// Appends a string (`S`).
    #[must_use]
    pub fn longstr(self, value: impl AsRef<[u8]>) -> Self {
        self.value(Value::LongStr(value.as_ref()))
    }

    /// Appends a 64-bit integer (`l`).
    #[must_use]
    pub fn long(self, value: i64) -> Self {
        self.value(Value::I64(value))
    }

    /// Appends a table (`F`).
    #[must_use]
    pub fn table(self, value: &FieldTable) -> Self {
        self.value(Value::Table(value.as_table_ref()))
    }

    /// The array so far, borrowed.
    #[must_use]
    pub fn as_array_ref(&self) -> ArrayRef<'_> {
        ArrayRef(&self.out)
    }
}
