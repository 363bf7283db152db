//! What a leader is about to propose: messages with their origins, and what its queue decided.

use std::collections::{BTreeMap, VecDeque};

use staunch_broker::{ENTRY_MESSAGES_MAX, EntryHead, Origin, QueueCommand};
use staunch_replica::{EntryData, EntryMessage};

/// Bytes of messages in one entry, beyond the first.
const ENTRY_SIZE_BYTES_TARGET: usize = 1024 * 1024;
/// Commands in one entry.
const ENTRY_COMMANDS_MAX: usize = 1024;
/// Origins in one entry.
const ENTRY_ORIGINS_MAX: usize = 1024;

/// See the module's description.
#[derive(Debug, Default)]
pub(crate) struct Proposal {
    messages: VecDeque<Offered>,
    commands: VecDeque<QueueCommand>,
    /// An entry that was not taken.
    returned: Option<EntryData>,
    /// Messages that are proposed or about to be and have not entered, and bytes of their bodies.
    coming: (u64, u64),
}

/// A number of an origin, with its message unless a full queue refused that.
#[derive(Debug)]
struct Offered {
    origin: Origin,
    number: u64,
    message: Option<EntryMessage>,
}

impl Proposal {
    pub(crate) fn push(
        &mut self,
        origin: Origin,
        number: u64,
        message: EntryMessage,
        body_size_bytes: u32,
    ) {
        self.coming.0 += 1;
        self.coming.1 += u64::from(body_size_bytes);
        let message = Some(message);
        self.messages.push_back(Offered {
            origin,
            number,
            message,
        });
    }

    pub(crate) fn push_refused(&mut self, origin: Origin, number: u64) {
        let message = None;
        self.messages.push_back(Offered {
            origin,
            number,
            message,
        });
    }

    pub(crate) fn command(&mut self, command: QueueCommand) {
        self.commands.push_back(command);
    }

    /// Messages that have not entered, and bytes of their bodies.
    pub(crate) fn coming(&self) -> (u64, u64) {
        self.coming
    }

    /// Everything that was proposed has entered.
    pub(crate) fn nothing_is_coming(&mut self) {
        if self.messages.is_empty() && self.returned.is_none() {
            self.coming = (0, 0);
        }
    }

    /// Gives back memory that is not in use.
    pub(crate) fn shrink(&mut self) {
        self.messages.shrink_to_fit();
        self.commands.shrink_to_fit();
    }

    /// The next entry; none if there is nothing to propose.
    pub(crate) fn next_entry(&mut self) -> Option<EntryData> {
        if let Some(data) = self.returned.take() {
            return Some(data);
        }
        if self.messages.is_empty() && self.commands.is_empty() {
            return None;
        }
        let mut origins = BTreeMap::new();
        let mut messages = Vec::new();
        let mut size_bytes = 0;
        while let Some(offered) = self.messages.front() {
            let size = offered.message.as_ref().map_or(0, |it| it.stored.len());
            let is_over = messages.len() == ENTRY_MESSAGES_MAX as usize
                || origins.len() == ENTRY_ORIGINS_MAX && !origins.contains_key(&offered.origin)
                || size_bytes + size > ENTRY_SIZE_BYTES_TARGET && !messages.is_empty();
            if is_over {
                break;
            }
            size_bytes += size;
            let Some(offered) = self.messages.pop_front() else {
                break;
            };
            origins.insert(offered.origin, offered.number);
            messages.extend(offered.message);
        }
        let count = self.commands.len().min(ENTRY_COMMANDS_MAX);
        let commands = self.commands.drain(..count).collect();
        let head = EntryHead {
            message_count: u32::try_from(messages.len()).expect("entries are cut"),
            origins: origins.into_iter().collect(),
            commands,
        };
        Some(EntryData { head, messages })
    }

    /// The entry could not be proposed: it comes first next time.
    pub(crate) fn put_back(&mut self, data: EntryData) {
        self.returned = Some(data);
    }
}
