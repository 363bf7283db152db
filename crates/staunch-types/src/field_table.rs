//! AMQP field tables: the byte layout of queue arguments and message headers.
//!
//! A message carries its headers through the broker verbatim, and a queue keeps the arguments it
//! was declared with, so the encoded bytes are the representation: [`FieldTable`] owns them,
//! [`TableRef`] borrows them, and fields are decoded when somebody asks. Both are checked once,
//! when bytes from outside become one of them; after that every read is infallible. Decoding
//! into a map up front was rejected: it costs about half a microsecond a message for fields that
//! almost nobody reads.
//!
//! Layout (AMQP 0-9-1, 4.2.5.5, with the types that `RabbitMQ` understands): a table is a sequence
//! of fields without separators, a field is `key length: u8, key, type: u8, value`. The four
//! length bytes that stand before a table on the wire belong to whatever contains it.

use std::cmp::Ordering;
use std::fmt;

use bytes::Bytes;

mod builder;

pub use builder::{ArrayBuilder, TableBuilder};

/// How deep tables and arrays may be nested, the outermost table included.
///
/// Reading is recursive, so this bounds the stack.
pub const TABLE_NESTING_MAX: usize = 32;

/// How many fields one table may have; those of nested tables count there.
pub const TABLE_FIELDS_MAX: usize = 1_024;

/// How long a key may be: its length is one byte on the wire.
pub const TABLE_KEY_BYTES_MAX: usize = 255;

/// Why bytes are not a field table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The bytes end inside a field.
    #[error("field table is truncated")]
    Truncated,
    /// A value has a type octet that neither AMQP nor `RabbitMQ` defines.
    #[error("field table has a value of unknown type {0}")]
    UnknownType(u8),
    /// Tables and arrays are nested deeper than [`TABLE_NESTING_MAX`].
    #[error("field table is nested deeper than {TABLE_NESTING_MAX}")]
    TooDeep,
    /// A table has more than [`TABLE_FIELDS_MAX`] fields.
    #[error("field table has more than {TABLE_FIELDS_MAX} fields")]
    TooManyFields,
    /// A key is longer than [`TABLE_KEY_BYTES_MAX`].
    #[error("field table key is longer than {TABLE_KEY_BYTES_MAX} bytes")]
    KeyTooLong,
}

/// An owned field table: the encoded fields, without the length prefix. Cheap to clone.
///
/// Tables compare by meaning, as `RabbitMQ` compares arguments: order does not matter, integers of
/// different width are equal when their values are, and of a repeated key the first counts.
#[derive(Clone, Default)]
pub struct FieldTable(Bytes);

impl FieldTable {
    /// Checks `encoded` (without the length prefix) and wraps it; nothing is copied.
    ///
    /// # Errors
    /// [`TableError`] when the bytes are not a table or pass a limit. The total size is the
    /// caller's to bound.
    pub fn parse(encoded: Bytes) -> Result<Self, TableError> {
        TableRef::parse(&encoded)?;
        Ok(Self(encoded))
    }

    /// Wraps bytes that [`FieldTable::parse`] accepted earlier, for example before they were
    /// stored. On any other bytes reads do not panic, but end at the first malformed field.
    #[must_use]
    pub fn from_validated(encoded: Bytes) -> Self {
        Self(encoded)
    }

    /// The table, borrowed.
    #[must_use]
    pub fn as_table_ref(&self) -> TableRef<'_> {
        TableRef(&self.0)
    }

    /// The encoded fields, without the length prefix.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The fields in their order on the wire, repeated keys included.
    pub fn iter(&self) -> TableIter<'_> {
        self.as_table_ref().iter()
    }

    /// The first value under `key`.
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        self.as_table_ref().get(key)
    }

    /// Whether there is no field at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a FieldTable {
    type Item = (&'a [u8], Value<'a>);
    type IntoIter = TableIter<'a>;

    fn into_iter(self) -> TableIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for FieldTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_table_ref().fmt(f)
    }
}

impl PartialEq for FieldTable {
    fn eq(&self, other: &Self) -> bool {
        self.as_table_ref() == other.as_table_ref()
    }
}

impl Eq for FieldTable {}

impl PartialOrd for FieldTable {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for FieldTable {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_table_ref().cmp(&other.as_table_ref())
    }
}

/// A borrowed field table that has been checked. Compares as [`FieldTable`] does.
#[derive(Clone, Copy, Default)]
pub struct TableRef<'a>(&'a [u8]);

impl<'a> TableRef<'a> {
    /// Checks `encoded` (without the length prefix).
    ///
    /// # Errors
    /// As [`FieldTable::parse`].
    pub fn parse(encoded: &'a [u8]) -> Result<Self, TableError> {
        validate_table(encoded, 1)?;
        Ok(Self(encoded))
    }

    /// As [`FieldTable::from_validated`].
    #[must_use]
    pub fn from_validated(encoded: &'a [u8]) -> Self {
        Self(encoded)
    }

    /// The encoded fields, without the length prefix.
    #[must_use]
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The fields in their order on the wire, repeated keys included.
    pub fn iter(self) -> TableIter<'a> {
        TableIter { rest: self.0 }
    }

    /// The first value under `key`.
    pub fn get(self, key: &str) -> Option<Value<'a>> {
        self.iter()
            .find(|(name, _)| *name == key.as_bytes())
            .map(|(_, value)| value)
    }

    /// Whether there is no field at all.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// A copy that owns its bytes: right for what outlives the message, such as the arguments
    /// of a queue.
    #[must_use]
    pub fn to_field_table(self) -> FieldTable {
        FieldTable(Bytes::copy_from_slice(self.0))
    }

    /// The same table as a slice of `owner`, which stays in memory as long as the result does.
    /// Copies if the table is not inside `owner`.
    #[must_use]
    pub fn slice_of(self, owner: &Bytes) -> FieldTable {
        let outer = owner.as_ptr_range();
        let inner = self.0.as_ptr_range();
        if outer.start <= inner.start && inner.end <= outer.end {
            FieldTable(owner.slice_ref(self.0))
        } else {
            self.to_field_table()
        }
    }

    /// The fields by key, of a repeated key only the first.
    /// A copy in which every key stands once, with the first of its values: equal tables have the
    /// same fields then.
    ///
    /// # Panics
    /// Never: the keys were checked when the table was.
    #[must_use]
    pub fn without_repeats(self) -> FieldTable {
        let mut builder = TableBuilder::new();
        for (key, value) in self.sorted() {
            builder
                .try_value(key, value)
                .expect("a key of a table is short");
        }
        builder.build()
    }

    fn sorted(self) -> Vec<(&'a [u8], Value<'a>)> {
        let mut fields: Vec<_> = self.iter().collect();
        fields.sort_by_key(|(key, _)| *key);
        fields.dedup_by_key(|(key, _)| *key);
        fields
    }
}

impl<'a> IntoIterator for TableRef<'a> {
    type Item = (&'a [u8], Value<'a>);
    type IntoIter = TableIter<'a>;

    fn into_iter(self) -> TableIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for TableRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|(key, value)| (Text(key), value)))
            .finish()
    }
}

impl PartialEq for TableRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for TableRef<'_> {}

impl PartialOrd for TableRef<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TableRef<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.0 == other.0 {
            Ordering::Equal
        } else {
            self.sorted().cmp(&other.sorted())
        }
    }
}

/// A borrowed array that has been checked.
#[derive(Clone, Copy, Default)]
pub struct ArrayRef<'a>(&'a [u8]);

impl<'a> ArrayRef<'a> {
    /// The encoded values, without the length prefix.
    #[must_use]
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The values in their order.
    pub fn iter(self) -> ArrayIter<'a> {
        ArrayIter { rest: self.0 }
    }

    /// Whether there is no value at all.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for ArrayRef<'a> {
    type Item = Value<'a>;
    type IntoIter = ArrayIter<'a>;

    fn into_iter(self) -> ArrayIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for ArrayRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// One value of a field table, borrowed from the encoded bytes.
///
/// Values compare by meaning: all integers, and both floats (by their bits, so that a table
/// always equals itself), are one kind each.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// `t`
    Bool(bool),
    /// `b`
    I8(i8),
    /// `B`
    U8(u8),
    /// `s`
    I16(i16),
    /// `u`
    U16(u16),
    /// `I`
    I32(i32),
    /// `i`
    U32(u32),
    /// `l`; `L` is read as signed too, as `RabbitMQ` does.
    I64(i64),
    /// `f`
    F32(f32),
    /// `d`
    F64(f64),
    /// `D`: `value` divided by ten to the power of `scale`.
    Decimal {
        /// Digits after the point.
        scale: u8,
        /// All digits.
        value: u32,
    },
    /// `S`: any bytes, usually UTF-8.
    LongStr(&'a [u8]),
    /// `A`
    Array(ArrayRef<'a>),
    /// `T`: seconds since 1970.
    Timestamp(u64),
    /// `F`
    Table(TableRef<'a>),
    /// `V`
    Void,
    /// `x`
    Binary(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The string, if this is a long string in UTF-8.
    pub fn as_str(self) -> Option<&'a str> {
        if let Self::LongStr(bytes) = self {
            std::str::from_utf8(bytes).ok()
        } else {
            None
        }
    }

    /// The number, if this is an integer of any width.
    pub fn as_i64(self) -> Option<i64> {
        match self {
            Self::I8(v) => Some(i64::from(v)),
            Self::U8(v) => Some(i64::from(v)),
            Self::I16(v) => Some(i64::from(v)),
            Self::U16(v) => Some(i64::from(v)),
            Self::I32(v) => Some(i64::from(v)),
            Self::U32(v) => Some(i64::from(v)),
            Self::I64(v) => Some(v),
            Self::Bool(_)
            | Self::F32(_)
            | Self::F64(_)
            | Self::Decimal { .. }
            | Self::LongStr(_)
            | Self::Array(_)
            | Self::Timestamp(_)
            | Self::Table(_)
            | Self::Void
            | Self::Binary(_) => None,
        }
    }

    /// The truth value, if this is one.
    pub fn as_bool(self) -> Option<bool> {
        if let Self::Bool(value) = self {
            Some(value)
        } else {
            None
        }
    }

    /// The nested table, if this is one.
    pub fn as_table(self) -> Option<TableRef<'a>> {
        if let Self::Table(table) = self {
            Some(table)
        } else {
            None
        }
    }

    /// The array, if this is one.
    pub fn as_array(self) -> Option<ArrayRef<'a>> {
        if let Self::Array(array) = self {
            Some(array)
        } else {
            None
        }
    }

    /// What `RabbitMQ` calls the type in its error texts (`rabbit_binary_parser`).
    pub fn amqp_type_name(self) -> &'static str {
        match self {
            Self::Bool(_) => "bool",
            Self::I8(_) => "byte",
            Self::U8(_) => "unsignedbyte",
            Self::I16(_) => "short",
            Self::U16(_) => "unsignedshort",
            Self::I32(_) => "signedint",
            Self::U32(_) => "unsignedint",
            Self::I64(_) => "long",
            Self::F32(_) => "float",
            Self::F64(_) => "double",
            Self::Decimal { .. } => "decimal",
            Self::LongStr(_) => "longstr",
            Self::Array(_) => "array",
            Self::Timestamp(_) => "timestamp",
            Self::Table(_) => "table",
            Self::Void => "void",
            Self::Binary(_) => "binary",
        }
    }

    /// The kind in the order of comparison; equal numbers compare further by value.
    fn rank(self) -> u8 {
        match self {
            Self::Void => 0,
            Self::Bool(_) => 1,
            Self::I8(_)
            | Self::U8(_)
            | Self::I16(_)
            | Self::U16(_)
            | Self::I32(_)
            | Self::U32(_)
            | Self::I64(_) => 2,
            Self::F32(_) | Self::F64(_) => 3,
            Self::Decimal { .. } => 4,
            Self::Timestamp(_) => 5,
            Self::LongStr(_) => 6,
            Self::Binary(_) => 7,
            Self::Array(_) => 8,
            Self::Table(_) => 9,
        }
    }

    fn as_f64(self) -> Option<f64> {
        if let Self::F32(value) = self {
            return Some(f64::from(value));
        }
        if let Self::F64(value) = self {
            Some(value)
        } else {
            None
        }
    }

    fn encode(self, out: &mut Vec<u8>) {
        match self {
            Self::Bool(v) => out.extend_from_slice(&[b't', u8::from(v)]),
            Self::I8(v) => put(out, b'b', &v.to_be_bytes()),
            Self::U8(v) => put(out, b'B', &v.to_be_bytes()),
            Self::I16(v) => put(out, b's', &v.to_be_bytes()),
            Self::U16(v) => put(out, b'u', &v.to_be_bytes()),
            Self::I32(v) => put(out, b'I', &v.to_be_bytes()),
            Self::U32(v) => put(out, b'i', &v.to_be_bytes()),
            Self::I64(v) => put(out, b'l', &v.to_be_bytes()),
            Self::F32(v) => put(out, b'f', &v.to_be_bytes()),
            Self::F64(v) => put(out, b'd', &v.to_be_bytes()),
            Self::Decimal { scale, value } => {
                out.extend_from_slice(&[b'D', scale]);
                out.extend_from_slice(&value.to_be_bytes());
            }
            Self::LongStr(v) => put_long(out, b'S', v),
            Self::Array(v) => put_long(out, b'A', v.0),
            Self::Timestamp(v) => put(out, b'T', &v.to_be_bytes()),
            Self::Table(v) => put_long(out, b'F', v.0),
            Self::Void => out.push(b'V'),
            Self::Binary(v) => put_long(out, b'x', v),
        }
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(v) => v.fmt(f),
            Self::I8(v) => write!(f, "{v}i8"),
            Self::U8(v) => write!(f, "{v}u8"),
            Self::I16(v) => write!(f, "{v}i16"),
            Self::U16(v) => write!(f, "{v}u16"),
            Self::I32(v) => write!(f, "{v}i32"),
            Self::U32(v) => write!(f, "{v}u32"),
            Self::I64(v) => write!(f, "{v}i64"),
            Self::F32(v) => write!(f, "{v}f32"),
            Self::F64(v) => write!(f, "{v}f64"),
            Self::Decimal { scale, value } => write!(f, "{value}e-{scale}"),
            Self::LongStr(v) => Text(v).fmt(f),
            Self::Array(v) => v.fmt(f),
            Self::Timestamp(v) => write!(f, "@{v}"),
            Self::Table(v) => v.fmt(f),
            Self::Void => f.write_str("void"),
            Self::Binary(v) => write!(f, "x{}", Text(v)),
        }
    }
}

impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value<'_> {}

impl PartialOrd for Value<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Value<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_rank = self.rank().cmp(&other.rank());
        if by_rank.is_ne() {
            return by_rank;
        }
        if let (Some(a), Some(b)) = (self.as_i64(), other.as_i64()) {
            return a.cmp(&b);
        }
        if let (Some(a), Some(b)) = (self.as_f64(), other.as_f64()) {
            return a.total_cmp(&b);
        }
        match (*self, *other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(&b),
            (Self::Decimal { scale, value }, Self::Decimal { scale: s, value: v }) => {
                (scale, value).cmp(&(s, v))
            }
            (Self::Timestamp(a), Self::Timestamp(b)) => a.cmp(&b),
            (Self::LongStr(a), Self::LongStr(b)) | (Self::Binary(a), Self::Binary(b)) => a.cmp(b),
            (Self::Array(a), Self::Array(b)) => a.iter().cmp(b.iter()),
            (Self::Table(a), Self::Table(b)) => a.cmp(&b),
            // Only two voids are left: everything else of equal rank was compared above.
            _ => Ordering::Equal,
        }
    }
}

/// The fields of a table; see [`TableRef::iter`].
#[derive(Clone, Debug)]
pub struct TableIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for TableIter<'a> {
    type Item = (&'a [u8], Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, rest) = read_key(self.rest)?;
        let (value, rest) = read_value(rest).ok()?;
        self.rest = rest;
        Some((key, value))
    }
}

/// The values of an array; see [`ArrayRef::iter`].
#[derive(Clone, Debug)]
pub struct ArrayIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for ArrayIter<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        let (value, rest) = read_value(self.rest).ok()?;
        self.rest = rest;
        Some(value)
    }
}

/// Bytes as text, for `Debug`.
struct Text<'a>(&'a [u8]);

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

fn put(out: &mut Vec<u8>, type_octet: u8, value: &[u8]) {
    out.push(type_octet);
    out.extend_from_slice(value);
}

fn put_long(out: &mut Vec<u8>, type_octet: u8, value: &[u8]) {
    let size = u32::try_from(value.len()).expect("no message or argument reaches 4 GiB");
    put(out, type_octet, &size.to_be_bytes());
    out.extend_from_slice(value);
}

fn validate_table(mut rest: &[u8], depth: usize) -> Result<(), TableError> {
    if depth > TABLE_NESTING_MAX {
        return Err(TableError::TooDeep);
    }
    for _ in 0..TABLE_FIELDS_MAX {
        if rest.is_empty() {
            return Ok(());
        }
        let (_, after_key) = read_key(rest).ok_or(TableError::Truncated)?;
        rest = validate_value(after_key, depth)?;
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(TableError::TooManyFields)
    }
}

/// An array has no limit of its own: it is read in order, never searched.
fn validate_array(mut rest: &[u8], depth: usize) -> Result<(), TableError> {
    if depth > TABLE_NESTING_MAX {
        return Err(TableError::TooDeep);
    }
    while !rest.is_empty() {
        rest = validate_value(rest, depth)?;
    }
    Ok(())
}

fn validate_value(input: &[u8], depth: usize) -> Result<&[u8], TableError> {
    let (value, rest) = read_value(input)?;
    if let Value::Table(table) = value {
        validate_table(table.0, depth + 1)?;
    } else if let Value::Array(array) = value {
        validate_array(array.0, depth + 1)?;
    }
    Ok(rest)
}

fn read_key(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&size, rest) = input.split_first()?;
    rest.split_at_checked(usize::from(size))
}

/// Reads one value; what is inside a table or an array is not looked at.
fn read_value(input: &[u8]) -> Result<(Value<'_>, &[u8]), TableError> {
    let (&type_octet, input) = input.split_first().ok_or(TableError::Truncated)?;
    read_untyped(type_octet, input)?.ok_or(TableError::Truncated)
}

/// `Ok(None)` when the bytes end too early.
fn read_untyped(type_octet: u8, input: &[u8]) -> Result<Option<(Value<'_>, &[u8])>, TableError> {
    Ok(match type_octet {
        b't' => fixed(input, |[v]| Value::Bool(v != 0)),
        b'b' => fixed(input, |v| Value::I8(i8::from_be_bytes(v))),
        b'B' => fixed(input, |v| Value::U8(u8::from_be_bytes(v))),
        b's' => fixed(input, |v| Value::I16(i16::from_be_bytes(v))),
        b'u' => fixed(input, |v| Value::U16(u16::from_be_bytes(v))),
        b'I' => fixed(input, |v| Value::I32(i32::from_be_bytes(v))),
        b'i' => fixed(input, |v| Value::U32(u32::from_be_bytes(v))),
        b'l' | b'L' => fixed(input, |v| Value::I64(i64::from_be_bytes(v))),
        b'f' => fixed(input, |v| Value::F32(f32::from_be_bytes(v))),
        b'd' => fixed(input, |v| Value::F64(f64::from_be_bytes(v))),
        b'D' => fixed(input, |[scale, a, b, c, d]| Value::Decimal {
            scale,
            value: u32::from_be_bytes([a, b, c, d]),
        }),
        b'T' => fixed(input, |v| Value::Timestamp(u64::from_be_bytes(v))),
        b'V' => Some((Value::Void, input)),
        b'S' => read_long(input).map(|(v, rest)| (Value::LongStr(v), rest)),
        b'x' => read_long(input).map(|(v, rest)| (Value::Binary(v), rest)),
        b'A' => read_long(input).map(|(v, rest)| (Value::Array(ArrayRef(v)), rest)),
        b'F' => read_long(input).map(|(v, rest)| (Value::Table(TableRef(v)), rest)),
        unknown => return Err(TableError::UnknownType(unknown)),
    })
}

fn fixed<'a, const N: usize>(
    input: &'a [u8],
    value: impl FnOnce([u8; N]) -> Value<'a>,
) -> Option<(Value<'a>, &'a [u8])> {
    let (bytes, rest) = input.split_first_chunk::<N>()?;
    Some((value(*bytes), rest))
}

fn read_long(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = input.split_first_chunk::<4>()?;
    let size = usize::try_from(u32::from_be_bytes(*size)).ok()?;
    rest.split_at_checked(size)
}

#[cfg(test)]
mod tests;
