//! An entry's content: what a leader proposes and every member gets.
//!
//! ```text
//! ┌────────────┬──────────────────────────────────────────────┐
//! │ entry head │ (meta 16 B, size u32, stored form) of each   │
//! └────────────┴──────────────────────────────────────────────┘
//! ```
//!
//! The head's layout is `staunch_broker::EntryHead`'s own, meta and stored form are those that a
//! log keeps of a message. Big-endian. Bodies are slices when it is read, not copies.

use bytes::{BufMut, Bytes};
use staunch_broker::{DecodeError, EntryHead, META_SIZE_BYTES};

const MESSAGE_HEAD_SIZE_BYTES: usize = META_SIZE_BYTES + 4;

/// An entry, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryData {
    /// What it says.
    pub head: EntryHead,
    /// The messages that come with it: as many as the head says.
    pub messages: Vec<EntryMessage>,
}

/// A message in an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryMessage {
    /// What the log keeps beside it.
    pub meta: [u8; META_SIZE_BYTES],
    /// Its stored form.
    pub stored: Bytes,
}

/// Why bytes are no entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// The head cannot be read.
    #[error("entry head: {0}")]
    Head(#[from] DecodeError),
    /// A message is cut short, or something follows the last one.
    #[error("an entry's messages do not fill it")]
    Messages,
}

impl EntryData {
    /// Its bytes.
    ///
    /// # Panics
    /// If it holds another number of messages than its head says.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        assert_eq!(self.head.message_count as usize, self.messages.len());
        let bodies: usize = self
            .messages
            .iter()
            .map(|message| message.stored.len())
            .sum();
        let mut out =
            Vec::with_capacity(bodies + self.messages.len() * MESSAGE_HEAD_SIZE_BYTES + 64);
        self.head.encode(&mut out);
        for message in &self.messages {
            out.put_slice(&message.meta);
            let size = u32::try_from(message.stored.len()).expect("messages are below 4 GiB");
            out.put_u32(size);
            out.put_slice(&message.stored);
        }
        out.into()
    }

    /// Reads what [`EntryData::encode`] wrote.
    ///
    /// # Errors
    /// [`DataError`] on any other bytes.
    ///
    /// # Panics
    /// On a bug in this module only.
    pub fn decode(bytes: &Bytes) -> Result<Self, DataError> {
        let (head, head_size) = EntryHead::decode(bytes)?;
        let mut rest = bytes.slice(head_size..);
        let mut messages = Vec::new();
        for _ in 0..head.message_count {
            let Some(fixed) = rest.first_chunk::<MESSAGE_HEAD_SIZE_BYTES>() else {
                return Err(DataError::Messages);
            };
            let (meta, size) = fixed.split_at(META_SIZE_BYTES);
            let meta = meta.try_into().expect("sixteen bytes");
            let size = u32::from_be_bytes(size.try_into().expect("four bytes")) as usize;
            let _head = rest.split_to(MESSAGE_HEAD_SIZE_BYTES);
            if size > rest.len() {
                return Err(DataError::Messages);
            }
            let stored = rest.split_to(size);
            messages.push(EntryMessage { meta, stored });
        }
        if rest.is_empty() {
            Ok(Self { head, messages })
        } else {
            Err(DataError::Messages)
        }
    }
}
