//! What one entry of a replicated queue's log says, and its bytes: the one owner of this layout.
//!
//! An entry is what one drain of the leader did to one queue: messages that come, then commands.
//! Version 1; numbers are LEB128 varints unless said:
//!
//! ```text
//! 0         1                 2
//! ┌─────────┬───────────────┬───────────────┬───────────────────────────────┐
//! │ version │ message count │ origin count  │ (origin u64, number) of each  │
//! └─────────┴───────────────┴───────────────┴───────────────────────────────┘
//! ┌───────────────┬─────────────────────────┐
//! │ command count │ (size, command) of each │
//! └───────────────┴─────────────────────────┘
//! ```
//!
//! The head does not say where its messages are: in a log they are the records that follow, in a
//! message between nodes the bytes.

use super::replica::Origin;
use super::{Arrival, QueueCommand, Released};
use crate::encoding::{DecodeError, Reader, Writer};

const ENTRY_VERSION: u8 = 1;

/// Most messages in one entry.
pub const ENTRY_MESSAGES_MAX: u32 = 65_536;

/// Most commands in one entry.
const COMMANDS_MAX: u64 = 1_024;

/// Most origins in one entry.
const ORIGINS_MAX: u64 = 1_024;

/// An entry without its messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryHead {
    /// Messages that come with it.
    pub message_count: u32,
    /// Up to which number each origin has been heard with this entry.
    pub origins: Vec<(Origin, u64)>,
    /// What else happened, in this order, after the messages came.
    pub commands: Vec<QueueCommand>,
}

impl EntryHead {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.message_count == 0 && self.origins.is_empty() && self.commands.is_empty()
    }

    /// Appends its bytes to `out`.
    ///
    /// # Panics
    /// If it exceeds a limit.
    pub fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.message_count <= ENTRY_MESSAGES_MAX, "entries are cut");
        assert!(self.origins.len() as u64 <= ORIGINS_MAX, "entries are cut");
        assert!(
            self.commands.len() as u64 <= COMMANDS_MAX,
            "entries are cut"
        );
        out.put_u8(ENTRY_VERSION);
        out.put_varint(u64::from(self.message_count));
        out.put_varint(self.origins.len() as u64);
        for (origin, number) in &self.origins {
            out.put_u64(origin.0);
            out.put_varint(*number);
        }
        out.put_varint(self.commands.len() as u64);
        let mut bytes = Vec::new();
        for command in &self.commands {
            bytes.clear();
            command.encode(&mut bytes);
            out.put_varint(bytes.len() as u64);
            out.extend_from_slice(&bytes);
        }
    }

    /// Reads the head that `bytes` start with; also its size in bytes.
    ///
    /// # Errors
    /// [`DecodeError`] on bytes that [`EntryHead::encode`] has not written.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.version(ENTRY_VERSION)?;
        let message_count = limited(&mut reader, u64::from(ENTRY_MESSAGES_MAX))?;
        let message_count = u32::try_from(message_count).map_err(|_| DecodeError::OutOfRange)?;
        let mut origins = Vec::new();
        for _ in 0..limited(&mut reader, ORIGINS_MAX)? {
            origins.push((Origin(reader.u64()?), reader.varint()?));
        }
        let mut commands = Vec::new();
        for _ in 0..limited(&mut reader, COMMANDS_MAX)? {
            let size = usize::try_from(reader.varint()?).map_err(|_| DecodeError::OutOfRange)?;
            commands.push(QueueCommand::decode(reader.bytes(size)?)?);
        }
        let head = Self {
            message_count,
            origins,
            commands,
        };
        Ok((head, bytes.len() - reader.left()))
    }
}

fn limited(reader: &mut Reader<'_>, max: u64) -> Result<u64, DecodeError> {
    reader.varint().and_then(|count| {
        (count <= max)
            .then_some(count)
            .ok_or(DecodeError::OutOfRange)
    })
}

impl super::Queue {
    /// An entry has been committed: its messages, one after the other from the next index on,
    /// then what its head says. The same on every node; messages that are gone by it are appended
    /// to `released`.
    ///
    /// # Panics
    /// If the queue is not replicated, or the entry holds another number of messages than its
    /// head says.
    pub fn apply_entry(
        &mut self,
        head: &EntryHead,
        messages: &[Arrival],
        released: &mut Vec<Released>,
    ) {
        assert_eq!(
            head.message_count as usize,
            messages.len(),
            "an entry is whole"
        );
        for arrival in messages {
            if self.leads() {
                self.enqueue(*arrival);
            } else {
                let restored = self.restore_message(self.next_index(), *arrival);
                assert_eq!(restored, super::Restored::Live, "a new index is free");
            }
        }
        for (origin, number) in &head.origins {
            self.heard_from(*origin, *number);
        }
        for command in &head.commands {
            if self.leads() {
                self.apply_committed(command, released);
            } else {
                self.apply_recovered(command, released);
            }
        }
    }
}
