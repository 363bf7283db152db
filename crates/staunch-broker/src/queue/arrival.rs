//! What a queue is told of a message, beside where its bytes are.

use staunch_types::{BodyRef, UnixMillis};

use super::chunk::Sizes;
use crate::encoding::DecodeError;

/// Flag in [`Arrival::meta`]: [`Arrival::redelivered`].
const FLAG_REDELIVERED: u8 = 1;

/// Version of the layout of [`Arrival::meta`].
const META_VERSION: u8 = 2;

/// Size of [`Arrival::meta`], in bytes.
pub const META_SIZE_BYTES: usize = 16;

/// A message that comes to a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Where its stored form is.
    pub body: BodyRef,
    /// Size of the stored form, in bytes.
    pub size_bytes: u32,
    /// Size of the body alone, in bytes: what `x-max-length-bytes` counts.
    pub body_size_bytes: u32,
    /// When it expires; from its own `expiration` and the queue's `x-message-ttl`.
    pub expires_at: Option<UnixMillis>,
    /// Its priority as published; the queue knows how high its own go.
    pub priority: u8,
    /// It may have been handed out before, as another message: a copy that a crash took, because
    /// it was not on disk yet, while what it was made of was. It is handed out as redelivered
    /// (contract C8).
    pub redelivered: bool,
}

impl Arrival {
    /// What is kept beside the message in the log, so that recovery need not read it. Version 2,
    /// big-endian: expiry u64 (0 is none), body size u32, priority u8, flags u8 (bit 0 is
    /// `redelivered`), a zero byte, version u8.
    pub fn meta(&self) -> [u8; META_SIZE_BYTES] {
        let mut meta = [0; META_SIZE_BYTES];
        let expires_at = self.expires_at.map_or(0, |at| at.0);
        meta[..8].copy_from_slice(&expires_at.to_be_bytes());
        meta[8..12].copy_from_slice(&self.body_size_bytes.to_be_bytes());
        meta[12] = self.priority;
        meta[13] = u8::from(self.redelivered) * FLAG_REDELIVERED;
        meta[15] = META_VERSION;
        meta
    }

    /// The message that [`Arrival::meta`] was made of.
    ///
    /// # Errors
    /// [`DecodeError`] if it was made by another version.
    pub fn from_meta(
        body: BodyRef,
        size_bytes: u32,
        meta: [u8; META_SIZE_BYTES],
    ) -> Result<Self, DecodeError> {
        if meta[15] != META_VERSION {
            return Err(DecodeError::UnknownVersion { version: meta[15] });
        }
        if meta[13] & !FLAG_REDELIVERED != 0 {
            return Err(DecodeError::OutOfRange);
        }
        let (mut expires_at, mut body_size_bytes) = ([0; 8], [0; 4]);
        expires_at.copy_from_slice(&meta[..8]);
        body_size_bytes.copy_from_slice(&meta[8..12]);
        let expires_at = u64::from_be_bytes(expires_at);
        Ok(Self {
            body,
            size_bytes,
            body_size_bytes: u32::from_be_bytes(body_size_bytes),
            expires_at: (expires_at > 0).then_some(UnixMillis(expires_at)),
            priority: meta[12],
            redelivered: meta[13] & FLAG_REDELIVERED != 0,
        })
    }

    /// Whether there is something to say of it that most messages do not have.
    #[inline]
    pub(super) fn has_rare(&self, level: u8) -> bool {
        self.expires_at.is_some() || level > 0 || self.redelivered
    }

    #[inline]
    pub(super) fn sizes(&self) -> Sizes {
        Sizes {
            stored: self.size_bytes,
            body: self.body_size_bytes,
        }
    }
}
