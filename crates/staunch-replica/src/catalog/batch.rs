//! What an entry of the catalog's group says, and what a node asks the group's leader to propose.
//!
//! Version 1, big-endian:
//!
//! ```text
//! 0         1            9         17          25           26          30
//! ┌─────────┬────────────┬─────────┬───────────┬────────────┬───────────┬──────────────────┐
//! │ version │ origin u64 │ base    │ number    │ on refusal │ count u32 │ size u32, command│
//! └─────────┴────────────┴─────────┴───────────┴────────────┴───────────┴──────────────────┘
//! ```

use bytes::{Buf, BufMut, Bytes};
use staunch_broker::{Catalog, CatalogCommand, DecodeError, NodeCommand, Origin};

const BATCH_VERSION: u8 = 1;

/// Bytes of a batch; one command is always allowed, if it does not exceed this by itself. Fits into
/// a record of the smallest log.
pub const BATCH_SIZE_BYTES_MAX: usize = 512 * 1024;

const HEAD_SIZE_BYTES: usize = 30;

/// Changes of the catalog that one node proposes, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The node that proposes it, in this life of it.
    pub origin: Origin,
    /// Everything of this origin below it was answered or given up.
    pub base: u64,
    /// Ascends by one with each batch of an origin, beginning at 1. 0 makes the origin itself
    /// known, and is not counted.
    pub number: u64,
    /// What a refused command means for those behind it.
    pub on_refusal: OnRefusal,
    /// The changes.
    pub commands: Vec<CatalogCommand>,
}

/// What becomes of the commands behind a refused one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRefusal {
    /// They are not tried.
    Stop,
    /// They are applied all the same.
    GoOn,
}

/// Why bytes are no batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Written by another version.
    #[error("batch version {0} is not known to this version, which reads {BATCH_VERSION}")]
    Version(u8),
    /// It ends too early, or something follows.
    #[error("a batch has the wrong size")]
    Size,
    /// Larger than any that a node makes.
    #[error("a batch of {0} bytes is larger than {BATCH_SIZE_BYTES_MAX}")]
    TooLarge(usize),
    /// A flag has no known value.
    #[error("unknown flag {0} in a batch")]
    Flag(u8),
    /// A command cannot be read.
    #[error("command: {0}")]
    Command(#[from] DecodeError),
}

impl Batch {
    /// Whether it counts, asked of the catalog to which it is applied right after: not if it was
    /// applied before, comes too early, or is of a life that is over.
    pub fn is_admitted(&self, catalog: &mut Catalog) -> bool {
        match self.number {
            0 => matches!(
                self.commands[..],
                [CatalogCommand::Node(
                    NodeCommand::Started { .. } | NodeCommand::Begin { .. }
                )]
            ),
            number => catalog.admit(self.origin, self.base, number),
        }
    }

    /// Its bytes.
    ///
    /// # Panics
    /// If a command has 4 GiB or more.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(HEAD_SIZE_BYTES + 64 * self.commands.len());
        out.put_u8(BATCH_VERSION);
        out.put_u64(self.origin.0);
        out.put_u64(self.base);
        out.put_u64(self.number);
        out.put_u8(u8::from(self.on_refusal == OnRefusal::GoOn));
        out.put_u32(u32::try_from(self.commands.len()).expect("commands are few"));
        for command in &self.commands {
            let start = out.len();
            out.put_u32(0);
            command.encode(&mut out);
            let size = u32::try_from(out.len() - start - 4).expect("commands are below 4 GiB");
            out[start..start + 4].copy_from_slice(&size.to_be_bytes());
        }
        out.into()
    }

    /// Reads what [`Batch::encode`] wrote.
    ///
    /// # Errors
    /// [`BatchError`] on any other bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, BatchError> {
        if bytes.len() > BATCH_SIZE_BYTES_MAX {
            return Err(BatchError::TooLarge(bytes.len()));
        }
        let mut rest = bytes;
        let version = rest.try_get_u8().map_err(|_| BatchError::Size)?;
        if version != BATCH_VERSION {
            return Err(BatchError::Version(version));
        }
        if bytes.len() < HEAD_SIZE_BYTES {
            return Err(BatchError::Size);
        }
        let (origin, base, number) = (Origin(rest.get_u64()), rest.get_u64(), rest.get_u64());
        let on_refusal = match rest.get_u8() {
            0 => OnRefusal::Stop,
            1 => OnRefusal::GoOn,
            flag => return Err(BatchError::Flag(flag)),
        };
        let count = rest.get_u32();
        let mut commands = Vec::new();
        for _ in 0..count {
            let size = rest.try_get_u32().map_err(|_| BatchError::Size)? as usize;
            let (command, after) = rest.split_at_checked(size).ok_or(BatchError::Size)?;
            commands.push(CatalogCommand::decode(command)?);
            rest = after;
        }
        if !rest.is_empty() {
            return Err(BatchError::Size);
        }
        Ok(Self {
            origin,
            base,
            number,
            on_refusal,
            commands,
        })
    }
}
