//! Peer messages as bytes.
//!
//! All that a node has to say to another at one time, of however many groups, goes into one
//! *batch*: the payload of one frame of their link. Numbers are big-endian.
//!
//! ```text
//! batch    u8 version = 1 | u8 0 | u16 messages | u32 head length | u32 CRC-32C of the head
//!          head | bodies
//! head     u64 from | u64 to | messages
//! message  u64 group | u64 term | u8 kind | fields of the kind
//! entry    u64 term | u8 payload kind | u32 length; the index follows from the entry before
//! bodies   the payloads of all entries, in order
//! ```
//!
//! The fields of each kind are listed at [`Body`]'s encoder below. The checksum covers what the
//! state of the cluster hangs on; the bodies are covered by the link's.
//!
//! Bodies are not copied: a batch is written from segments and its entries are slices of what was
//! read. Small ones are copied when written, which costs less than a segment. Nothing here is
//! read by protobuf.

use bytes::{BufMut, Bytes, BytesMut};
use staunch_types::{GroupId, LogIndex, NodeId, Term};

use crate::{
    entry::{Entry, InvalidPayload, LogPosition, Payload},
    members::{InvalidMembers, Members},
    message::{Append, AppendAnswer, Body, Candidacy, Message, VoteAnswer},
    state::SnapshotMeta,
};

/// The layout above.
pub const VERSION: u8 = 1;

/// Messages in a batch.
pub const MESSAGES_MAX: usize = 4096;

/// Entries in a message.
pub const ENTRIES_MAX: usize = 1 << 16;

/// Bytes after which a batch is full. One message is always taken.
pub const BATCH_SIZE_BYTES_TARGET: usize = 1 << 20;

/// Bytes up to which the payload of an entry is copied.
const COPY_SIZE_BYTES_MAX: usize = 512;

const PREFIX_SIZE_BYTES: usize = 12;
const ENTRY_HEAD_SIZE_BYTES: usize = 13;

const KIND_PRE_VOTE: u8 = 1;
const KIND_PRE_VOTE_ANSWER: u8 = 2;
const KIND_VOTE: u8 = 3;
const KIND_VOTE_ANSWER: u8 = 4;
const KIND_APPEND: u8 = 5;
const KIND_APPEND_ACCEPTED: u8 = 6;
const KIND_APPEND_REJECTED: u8 = 7;
const KIND_HEARTBEAT: u8 = 8;
const KIND_HEARTBEAT_ANSWER: u8 = 9;
const KIND_SNAPSHOT: u8 = 10;
const KIND_TIMEOUT_NOW: u8 = 11;
const KIND_SLEEP: u8 = 12;

/// Why bytes are no batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Written by another version.
    #[error("peer messages of version {version}, this node speaks {VERSION}")]
    Version {
        /// As read.
        version: u8,
    },
    /// Shorter than it says.
    #[error("truncated peer messages")]
    Truncated,
    /// Longer than it says.
    #[error("{size_bytes} bytes too many in peer messages")]
    Trailing {
        /// How many.
        size_bytes: usize,
    },
    /// The head was damaged on its way.
    #[error("damaged peer messages")]
    Checksum,
    /// A count or length above what is ever sent.
    #[error("{count} of something of which there are at most {max}")]
    TooMany {
        /// As read.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// Unknown kind of message, or a flag that is neither 0 nor 1.
    #[error("unknown kind or flag {value} in peer messages")]
    Unknown {
        /// As read.
        value: u8,
    },
    /// An index is the last of its type: adding to it would overflow.
    #[error("an index is out of range")]
    OutOfRange,
    /// Not an entry's payload.
    #[error(transparent)]
    Payload(#[from] InvalidPayload),
    /// Not a list of members.
    #[error(transparent)]
    Members(#[from] InvalidMembers),
}

/// Writes messages as batches, each a list of segments to be sent one after the other. All must
/// be from one node and to one node.
///
/// # Panics
/// If they are not.
#[must_use]
pub fn encode(messages: &[Message]) -> Vec<Vec<Bytes>> {
    let mut batches = Vec::new();
    let mut batch: Option<Batch> = None;
    for message in messages {
        if batch.as_ref().is_some_and(Batch::is_full) {
            batches.extend(batch.take().map(Batch::finish));
        }
        batch
            .get_or_insert_with(|| Batch::new(message.from, message.to))
            .put(message);
    }
    batches.extend(batch.map(Batch::finish));
    batches
}

struct Batch {
    from: NodeId,
    to: NodeId,
    count: u16,
    head: BytesMut,
    bodies: Vec<Bytes>,
    size_bytes: usize,
}

impl Batch {
    fn new(from: NodeId, to: NodeId) -> Self {
        let mut head = BytesMut::with_capacity(256);
        head.put_bytes(0, PREFIX_SIZE_BYTES);
        head.put_u64(from.0);
        head.put_u64(to.0);
        Self {
            from,
            to,
            count: 0,
            head,
            bodies: Vec::new(),
            size_bytes: 0,
        }
    }

    fn is_full(&self) -> bool {
        usize::from(self.count) >= MESSAGES_MAX
            || self.head.len() + self.size_bytes >= BATCH_SIZE_BYTES_TARGET
    }

    fn put(&mut self, message: &Message) {
        assert!(
            message.from == self.from && message.to == self.to,
            "a batch is from one node and to one node"
        );
        self.count += 1;
        self.head.put_u64(message.group.0);
        self.head.put_u64(message.term.0);
        match &message.body {
            Body::PreVote(candidacy) => self.put_candidacy(KIND_PRE_VOTE, candidacy),
            Body::Vote(candidacy) => self.put_candidacy(KIND_VOTE, candidacy),
            Body::PreVoteAnswer(answer) => self.put_vote(KIND_PRE_VOTE_ANSWER, *answer),
            Body::VoteAnswer(answer) => self.put_vote(KIND_VOTE_ANSWER, *answer),
            Body::Append(append) => self.put_append(append),
            Body::AppendAnswer(AppendAnswer::Accepted { last, commit }) => {
                self.put_indexes(KIND_APPEND_ACCEPTED, &[*last, *commit]);
            }
            Body::AppendAnswer(AppendAnswer::Rejected {
                previous,
                hint,
                commit,
            }) => {
                self.put_indexes(KIND_APPEND_REJECTED, &[*previous, *commit]);
                self.put_position(*hint);
            }
            Body::Heartbeat { commit } => self.put_indexes(KIND_HEARTBEAT, &[*commit]),
            Body::HeartbeatAnswer { commit } => {
                self.put_indexes(KIND_HEARTBEAT_ANSWER, &[*commit]);
            }
            Body::Snapshot(meta) => {
                self.head.put_u8(KIND_SNAPSHOT);
                self.put_position(meta.last);
                let members = meta.members.encode();
                self.head.put_u32(length(members.len()));
                self.head.put_slice(&members);
            }
            Body::TimeoutNow => self.head.put_u8(KIND_TIMEOUT_NOW),
            Body::Sleep { commit } => self.put_indexes(KIND_SLEEP, &[*commit]),
        }
    }

    fn put_indexes(&mut self, kind: u8, indexes: &[LogIndex]) {
        self.head.put_u8(kind);
        for index in indexes {
            self.head.put_u64(index.0);
        }
    }

    fn put_position(&mut self, position: LogPosition) {
        self.head.put_u64(position.index.0);
        self.head.put_u64(position.term.0);
    }

    fn put_candidacy(&mut self, kind: u8, candidacy: &Candidacy) {
        self.head.put_u8(kind);
        self.put_position(candidacy.last);
        self.put_position(candidacy.commit);
        self.head.put_u8(u8::from(candidacy.is_transfer));
    }

    fn put_vote(&mut self, kind: u8, answer: VoteAnswer) {
        self.head.put_u8(kind);
        self.put_position(answer.commit);
        self.head.put_u8(u8::from(answer.is_granted));
    }

    fn put_append(&mut self, append: &Append) {
        assert!(append.entries.len() <= ENTRIES_MAX);
        let first = append.entries.first().map(|entry| entry.index);
        assert!(
            first.is_none_or(|first| first == append.previous.index.next()),
            "entries are numbered from the one before them"
        );
        self.head.put_u8(KIND_APPEND);
        self.put_position(append.previous);
        self.head.put_u64(append.commit.0);
        self.head.put_u32(length(append.entries.len()));
        for entry in &append.entries {
            let (kind, body) = entry.payload.encode();
            self.head.put_u64(entry.term.0);
            self.head.put_u8(kind);
            self.head.put_u32(length(body.len()));
            self.size_bytes += body.len();
            if !body.is_empty() {
                self.bodies.push(body);
            }
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        let head = &self.head[PREFIX_SIZE_BYTES..];
        let mut prefix = [0; PREFIX_SIZE_BYTES];
        prefix[0] = VERSION;
        prefix[2..4].copy_from_slice(&self.count.to_be_bytes());
        prefix[4..8].copy_from_slice(&length(head.len()).to_be_bytes());
        prefix[8..].copy_from_slice(&crc32c::crc32c(head).to_be_bytes());
        self.head[..PREFIX_SIZE_BYTES].copy_from_slice(&prefix);
        let mut segments = Vec::with_capacity(1 + 2 * self.bodies.len());
        let mut open = self.head;
        for body in self.bodies {
            if body.len() <= COPY_SIZE_BYTES_MAX {
                open.put_slice(&body);
                continue;
            }
            if !open.is_empty() {
                segments.push(open.split().freeze());
            }
            segments.push(body);
        }
        if !open.is_empty() {
            segments.push(open.freeze());
        }
        segments
    }
}

/// Heads and bodies are far below 4 GiB: entries and their number are limited.
fn length(size: usize) -> u32 {
    u32::try_from(size).expect("sizes are limited to less than 4 GiB")
}

/// Reads a batch. Bodies are slices of `batch`.
///
/// # Errors
/// [`WireError`].
pub fn decode(batch: &Bytes) -> Result<Vec<Message>, WireError> {
    let (&version, _) = batch.split_first().ok_or(WireError::Truncated)?;
    if version != VERSION {
        return Err(WireError::Version { version });
    }
    let (prefix, rest) = batch
        .split_first_chunk::<PREFIX_SIZE_BYTES>()
        .ok_or(WireError::Truncated)?;
    let mut fields = Reader { head: &prefix[1..] };
    let reserved = fields.u8()?;
    if reserved != 0 {
        return Err(WireError::Unknown { value: reserved });
    }
    let count = usize::from(fields.u16()?);
    let head_size_bytes = fields.u32()? as usize;
    let checksum = fields.u32()?;
    if count > MESSAGES_MAX {
        return Err(WireError::TooMany {
            count,
            max: MESSAGES_MAX,
        });
    }
    let head = rest.get(..head_size_bytes).ok_or(WireError::Truncated)?;
    if crc32c::crc32c(head) != checksum {
        return Err(WireError::Checksum);
    }
    let mut reader = Reader { head };
    let mut bodies = batch.slice(PREFIX_SIZE_BYTES + head_size_bytes..);
    let from = NodeId(reader.u64()?);
    let to = NodeId(reader.u64()?);
    let mut messages = Vec::with_capacity(count);
    for _ in 0..count {
        let group = GroupId(reader.u64()?);
        let term = Term(reader.u64()?);
        let body = reader.body(&mut bodies)?;
        messages.push(Message {
            group,
            from,
            to,
            term,
            body,
        });
    }
    match reader.head.len() + bodies.len() {
        0 => Ok(messages),
        size_bytes => Err(WireError::Trailing { size_bytes }),
    }
}

struct Reader<'a> {
    head: &'a [u8],
}

impl Reader<'_> {
    fn take<const SIZE: usize>(&mut self) -> Result<[u8; SIZE], WireError> {
        let (taken, rest) = self.head.split_first_chunk().ok_or(WireError::Truncated)?;
        self.head = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.take::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, WireError> {
        Ok(u16::from_be_bytes(self.take()?))
    }

    fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_be_bytes(self.take()?))
    }

    fn flag(&mut self) -> Result<bool, WireError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(WireError::Unknown { value }),
        }
    }

    fn index(&mut self) -> Result<LogIndex, WireError> {
        Ok(LogIndex(self.u64()?))
    }

    fn position(&mut self) -> Result<LogPosition, WireError> {
        Ok(LogPosition {
            index: self.index()?,
            term: Term(self.u64()?),
        })
    }

    fn candidacy(&mut self) -> Result<Candidacy, WireError> {
        Ok(Candidacy {
            last: self.position()?,
            commit: self.position()?,
            is_transfer: self.flag()?,
        })
    }

    fn vote(&mut self) -> Result<VoteAnswer, WireError> {
        Ok(VoteAnswer {
            commit: self.position()?,
            is_granted: self.flag()?,
        })
    }

    fn body(&mut self, bodies: &mut Bytes) -> Result<Body, WireError> {
        Ok(match self.u8()? {
            KIND_PRE_VOTE => Body::PreVote(self.candidacy()?),
            KIND_PRE_VOTE_ANSWER => Body::PreVoteAnswer(self.vote()?),
            KIND_VOTE => Body::Vote(self.candidacy()?),
            KIND_VOTE_ANSWER => Body::VoteAnswer(self.vote()?),
            KIND_APPEND => Body::Append(self.append(bodies)?),
            KIND_APPEND_ACCEPTED => Body::AppendAnswer(AppendAnswer::Accepted {
                last: self.index()?,
                commit: self.index()?,
            }),
            KIND_APPEND_REJECTED => {
                let (previous, commit) = (self.index()?, self.index()?);
                Body::AppendAnswer(AppendAnswer::Rejected {
                    previous,
                    hint: self.position()?,
                    commit,
                })
            }
            KIND_HEARTBEAT => Body::Heartbeat {
                commit: self.index()?,
            },
            KIND_HEARTBEAT_ANSWER => Body::HeartbeatAnswer {
                commit: self.index()?,
            },
            KIND_SNAPSHOT => Body::Snapshot(SnapshotMeta {
                last: self.position()?,
                members: self.members()?,
            }),
            KIND_TIMEOUT_NOW => Body::TimeoutNow,
            KIND_SLEEP => Body::Sleep {
                commit: self.index()?,
            },
            value => return Err(WireError::Unknown { value }),
        })
    }

    fn members(&mut self) -> Result<Members, WireError> {
        let size_bytes = self.u32()? as usize;
        let (members, rest) = self
            .head
            .split_at_checked(size_bytes)
            .ok_or(WireError::Truncated)?;
        self.head = rest;
        Ok(Members::decode(members)?)
    }

    fn append(&mut self, bodies: &mut Bytes) -> Result<Append, WireError> {
        let previous = self.position()?;
        let commit = self.index()?;
        let count = self.u32()? as usize;
        if count > ENTRIES_MAX {
            return Err(WireError::TooMany {
                count,
                max: ENTRIES_MAX,
            });
        }
        if previous.index.0 > u64::MAX - ENTRIES_MAX as u64 {
            return Err(WireError::OutOfRange);
        }
        // What the head can hold, whatever it says.
        let mut entries = Vec::with_capacity(count.min(self.head.len() / ENTRY_HEAD_SIZE_BYTES));
        let mut index = previous.index;
        for _ in 0..count {
            index = index.next();
            let term = Term(self.u64()?);
            let kind = self.u8()?;
            let size_bytes = self.u32()? as usize;
            if size_bytes > bodies.len() {
                return Err(WireError::Truncated);
            }
            entries.push(Entry {
                index,
                term,
                payload: Payload::decode(kind, bodies.split_to(size_bytes))?,
            });
        }
        Ok(Append {
            previous,
            commit,
            entries,
        })
    }
}
