//! Bodies of messages in queues that do not survive a restart: in memory only.
//!
//! A message's stored form is copied once, into its queue's own arena: chunks that double from
//! 512 bytes to 64 KiB while the queue is in use. A queue is mostly first in, first out, so a
//! chunk's messages die together and a slow queue cannot pin the memory of a fast one. Rejected:
//! slices of the socket buffer (one stuck 16-byte message would pin 256 KiB) and one allocation
//! per message (twice the cost at 16 bytes).

use bytes::{Bytes, BytesMut};
use staunch_types::{BodyRef, Message};

/// First chunk of a queue's arena, in bytes.
const ARENA_SIZE_BYTES_MIN: usize = 512;
/// Largest chunk; larger messages get an allocation of their own.
const ARENA_SIZE_BYTES_MAX: usize = 64 * 1024;

/// Free places of the table that are always kept.
const FREE_KEPT_MAX: usize = 1024;

/// Every transient body of the node, by slot.
#[derive(Debug, Default)]
pub(crate) struct TransientBodies {
    slots: Vec<Bytes>,
    free: Vec<u32>,
    size_bytes: u64,
}

/// Where one queue's messages are copied to.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    chunk: BytesMut,
    next_size_bytes: usize,
}

impl TransientBodies {
    /// Keeps `body`; the reference is valid until [`Self::release`].
    pub(crate) fn insert(&mut self, body: Bytes) -> BodyRef {
        self.size_bytes += body.len() as u64;
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = body;
            return BodyRef(u64::from(slot));
        }
        let slot = u32::try_from(self.slots.len()).expect("fewer than 2^32 transient messages");
        self.slots.push(body);
        BodyRef(u64::from(slot))
    }

    /// The stored form behind `body`.
    pub(crate) fn get(&self, body: BodyRef) -> Bytes {
        self.slots[index(body)].clone()
    }

    /// Gives the slot back, and what was in it.
    pub(crate) fn take(&mut self, body: BodyRef) -> Bytes {
        let bytes = std::mem::take(&mut self.slots[index(body)]);
        self.size_bytes -= bytes.len() as u64;
        self.free
            .push(u32::try_from(body.0).expect("transient references are slots"));
        bytes
    }

    /// Gives the slot back.
    pub(crate) fn release(&mut self, body: BodyRef) {
        drop(self.take(body));
    }

    /// Bytes of bodies kept and of their places in the table. Free places are not counted: the
    /// next messages go there, and [`Self::trim`] gives most of them back.
    pub(crate) fn memory_size_bytes(&self) -> u64 {
        self.size_bytes + (self.count() * size_of::<Bytes>()) as u64
    }

    /// Gives back the free end of a table that is mostly free.
    pub(crate) fn trim(&mut self) {
        if self.free.len() < FREE_KEPT_MAX.max(self.slots.len() / 2) {
            return;
        }
        // A stored message is never empty, so an empty place is a free one.
        while self.slots.last().is_some_and(Bytes::is_empty) {
            self.slots.pop();
        }
        let end = self.slots.len();
        self.free.retain(|slot| (*slot as usize) < end);
        self.slots.shrink_to(end + FREE_KEPT_MAX);
        self.free.shrink_to(FREE_KEPT_MAX);
    }

    /// Bodies kept.
    pub(crate) fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

impl Arena {
    /// Copies the stored form of `message`.
    pub(crate) fn store(&mut self, message: &Message) -> Bytes {
        let size = message.stored_size_bytes();
        if size > ARENA_SIZE_BYTES_MAX / 4 {
            let mut own = BytesMut::with_capacity(size);
            message.put_stored(&mut own);
            return own.freeze();
        }
        if self.chunk.capacity() - self.chunk.len() < size {
            let doubled = self
                .next_size_bytes
                .clamp(ARENA_SIZE_BYTES_MIN, ARENA_SIZE_BYTES_MAX);
            self.chunk = BytesMut::with_capacity(doubled.max(size));
            self.next_size_bytes = doubled * 2;
        }
        message.put_stored(&mut self.chunk);
        self.chunk.split().freeze()
    }
}

fn index(body: BodyRef) -> usize {
    usize::try_from(body.0).expect("transient references are slots")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_come_back_and_slots_are_reused() {
        let mut bodies = TransientBodies::default();
        let mut arena = Arena::default();
        let message = Message::copied(b"", b"q", b"\0\0", b"hello");
        let first = bodies.insert(arena.store(&message));
        let second = bodies.insert(arena.store(&message));
        assert_ne!(first, second);
        let read = Message::from_stored(bodies.get(first)).unwrap();
        assert_eq!(read.body(), b"hello");
        bodies.release(first);
        assert_eq!(bodies.insert(arena.store(&message)), first);
        assert_eq!(bodies.count(), 2);
    }

    #[test]
    fn a_table_that_was_large_shrinks() {
        let mut bodies = TransientBodies::default();
        let body = Bytes::from_static(b"x");
        let kept: Vec<_> = (0..100_000).map(|_| bodies.insert(body.clone())).collect();
        assert!(bodies.memory_size_bytes() > 3_000_000);
        for one in &kept[1..] {
            bodies.release(*one);
        }
        bodies.trim();
        assert!(bodies.memory_size_bytes() < 100 && bodies.slots.capacity() < 2048);
        assert_eq!(bodies.get(kept[0]), body);
        let again: Vec<_> = (0..10).map(|_| bodies.insert(body.clone())).collect();
        assert!(again.iter().all(|one| *one != kept[0]));
    }

    #[test]
    fn an_arena_grows_to_its_limit_and_large_messages_stand_alone() {
        let mut arena = Arena::default();
        let small = Message::copied(b"", b"q", b"\0\0", &[7; 1000]);
        for _ in 0..1000 {
            let body = arena.store(&small);
            assert_eq!(body.len(), small.stored_size_bytes());
        }
        assert!(arena.chunk.capacity() <= ARENA_SIZE_BYTES_MAX);
        let large = Message::copied(b"", b"q", b"\0\0", &vec![7; 1 << 20]);
        assert_eq!(arena.store(&large).len(), large.stored_size_bytes());
    }
}
