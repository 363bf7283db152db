//! Short strings: names of exchanges, queues, vhosts, users, and routing keys.

use std::{borrow::Borrow, fmt, ops::Deref, sync::Arc};

/// Longest name in bytes (AMQP 0-9-1, shortstr).
pub const NAME_SIZE_BYTES_MAX: usize = 255;

/// An immutable short string of at most [`NAME_SIZE_BYTES_MAX`] bytes; a clone costs a counter.
///
/// Routing keys may be any bytes, so this is not a `str`; [`fmt::Display`] replaces what is not
/// UTF-8. Names of declared things are checked for UTF-8 where they are declared.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<[u8]>);

/// A name was longer than [`NAME_SIZE_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("name of {size_bytes} bytes is longer than {NAME_SIZE_BYTES_MAX}")]
pub struct NameTooLong {
    /// Length that was refused.
    pub size_bytes: usize,
}

impl Name {
    /// Copies `bytes`.
    ///
    /// # Errors
    /// [`NameTooLong`] above 255 bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, NameTooLong> {
        if bytes.len() > NAME_SIZE_BYTES_MAX {
            return Err(NameTooLong {
                size_bytes: bytes.len(),
            });
        }
        Ok(Self(bytes.into()))
    }

    /// A name known when the program was written.
    ///
    /// # Panics
    /// Above 255 bytes.
    pub fn from_static(name: &'static str) -> Self {
        assert!(
            name.len() <= NAME_SIZE_BYTES_MAX,
            "a constant name is short"
        );
        Self(name.as_bytes().into())
    }

    /// The bytes as they came over the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether the name is the empty string.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Default for Name {
    fn default() -> Self {
        Self::from_static("")
    }
}

impl Deref for Name {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

// `Name` hashes and orders exactly as its bytes, so maps can be asked with a borrowed slice.
impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.0).fmt(f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), f)
    }
}
