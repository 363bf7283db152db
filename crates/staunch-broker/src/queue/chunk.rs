//! Sixty-four messages with consecutive indexes.
//!
//! What changes often is one bit each in masks; body reference and sizes sit in a boxed array. Who
//! holds them sits in a second one that comes with the first message handed out: most of a backlog
//! has none. What few messages have (an expiry, a priority, a death) sits in a third box that the
//! chunks of a plain queue never have.

use staunch_types::{BodyRef, ConsumerKey, MessageIndex, UnixMillis};

use super::{Arrival, Released};

/// Messages per chunk: the bits of a mask.
pub(super) const CHUNK_LEN: u64 = SLOT_COUNT as u64;

/// The same as a length.
const SLOT_COUNT: usize = u64::BITS as usize;

/// A handful of messages with consecutive indexes.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Index of its first message, divided by [`CHUNK_LEN`].
    pub(super) number: u64,
    /// Messages that are in the queue.
    pub(super) live: u64,
    /// Live messages that can be handed out. In recovery: whose body is known.
    pub(super) ready: u64,
    /// Messages that may have been handed out before.
    pub(super) redelivered: u64,
    /// Absent when nothing is live, or in recovery when no body is known.
    slots: Option<Box<Slots>>,
    /// Absent until a consumer holds one of its messages.
    holders: Option<Box<Holders>>,
    /// Absent until one of its messages has something of this.
    rare: Option<Box<Rare>>,
}

/// Who holds each message that is held.
type Holders = [ConsumerKey; SLOT_COUNT];

/// What a chunk knows of each of its messages: 1 KiB.
#[derive(Debug)]
pub(super) struct Slots {
    bodies: [BodyRef; SLOT_COUNT],
    sizes: [Sizes; SLOT_COUNT],
}

impl Slots {
    fn boxed() -> Box<Self> {
        Box::new(Self {
            bodies: [BodyRef(0); SLOT_COUNT],
            sizes: [Sizes::default(); SLOT_COUNT],
        })
    }
}

/// What few messages have. All masks speak of live messages only.
#[derive(Debug)]
struct Rare {
    /// Messages that died and have not been buried.
    dying: u64,
    /// Messages of a level above 0: they do not stand in the order of the indexes.
    raised: u64,
    /// Messages that expire.
    expiring: u64,
    /// Messages that came as redelivered ones ([`Arrival::redelivered`]).
    came_redelivered: u64,
    /// What the expiry index says of this chunk.
    indexed_at: Option<UnixMillis>,
    expiries: [UnixMillis; SLOT_COUNT],
    levels: [u8; SLOT_COUNT],
    /// As published, of messages that have or had a level above 0.
    priorities: [u8; SLOT_COUNT],
}

/// What [`Chunk::take`] took.
pub(super) struct Taken {
    pub(super) body: BodyRef,
    pub(super) sizes: Sizes,
    pub(super) redelivered: bool,
}

/// Who has a message that was taken.
#[derive(Clone, Copy)]
pub(super) enum Holder {
    /// A consumer, until it settles.
    Consumer(ConsumerKey),
    /// Nobody: it left the queue.
    Nobody,
}

/// Sizes of a message, in bytes: side by side, because whoever needs one needs the other.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sizes {
    /// Its stored form.
    pub(super) stored: u32,
    /// Its body alone.
    pub(super) body: u32,
}

/// Messages counted and weighed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) count: u64,
    /// Sum of [`Sizes::stored`].
    pub(super) stored_bytes: u64,
    /// Sum of [`Sizes::body`].
    pub(super) body_bytes: u64,
}

impl Totals {
    #[inline]
    pub(super) fn add(&mut self, sizes: Sizes) {
        self.count += 1;
        self.stored_bytes += u64::from(sizes.stored);
        self.body_bytes += u64::from(sizes.body);
    }

    #[inline]
    pub(super) fn subtract(&mut self, sizes: Sizes) {
        self.count -= 1;
        self.stored_bytes -= u64::from(sizes.stored);
        self.body_bytes -= u64::from(sizes.body);
    }
}

impl Chunk {
    pub(super) fn new(number: u64) -> Self {
        Self {
            number,
            live: 0,
            ready: 0,
            redelivered: 0,
            slots: None,
            holders: None,
            rare: None,
        }
    }

    #[inline]
    pub(super) fn index_of(&self, bit: u32) -> MessageIndex {
        MessageIndex(self.number * CHUNK_LEN + u64::from(bit))
    }

    pub(super) fn has_slots(&self) -> bool {
        self.slots.is_some()
    }

    /// Adds a ready message.
    #[inline]
    pub(super) fn put(&mut self, bit: u32, arrival: &Arrival) {
        self.live |= 1 << bit;
        self.ready |= 1 << bit;
        let slots = self.slots.get_or_insert_with(Slots::boxed);
        slots.bodies[bit as usize] = arrival.body;
        slots.sizes[bit as usize] = arrival.sizes();
    }

    /// What is rare of the message that was just put there.
    #[cold]
    pub(super) fn put_rare(&mut self, bit: u32, arrival: &Arrival, level: u8) {
        if arrival.redelivered {
            self.redelivered |= 1 << bit;
            self.rare_mut().came_redelivered |= 1 << bit;
        }
        let rare = self.rare_mut();
        if let Some(at) = arrival.expires_at {
            rare.expiring |= 1 << bit;
            rare.expiries[bit as usize] = at;
        }
        if level > 0 {
            rare.raised |= 1 << bit;
            rare.levels[bit as usize] = level;
            rare.priorities[bit as usize] = arrival.priority;
        }
    }

    /// What came to the queue as this message; without its priority if its level was always 0.
    pub(super) fn arrival(&self, bit: u32) -> Arrival {
        let slots = self.slots();
        let sizes = slots.sizes[bit as usize];
        Arrival {
            body: slots.bodies[bit as usize],
            size_bytes: sizes.stored,
            body_size_bytes: sizes.body,
            expires_at: self.expiry(bit),
            priority: self
                .rare_with(bit, |rare| rare.raised)
                .map_or(0, |rare| rare.priorities[bit as usize]),
            redelivered: self.came_redelivered() >> bit & 1 == 1,
        }
    }

    /// Messages that came as redelivered ones.
    pub(super) fn came_redelivered(&self) -> u64 {
        self.rare.as_ref().map_or(0, |rare| rare.came_redelivered)
    }

    #[inline]
    pub(super) fn released(&self, bit: u32) -> Released {
        let slots = self.slots();
        (
            self.index_of(bit),
            slots.bodies[bit as usize],
            slots.sizes[bit as usize].stored,
        )
    }

    #[inline]
    pub(super) fn sizes(&self, bit: u32) -> Sizes {
        self.slots().sizes[bit as usize]
    }

    pub(super) fn body_mut(&mut self, bit: u32) -> Option<&mut BodyRef> {
        let slots = self.slots.as_mut()?;
        Some(&mut slots.bodies[bit as usize])
    }

    /// Takes a ready message.
    #[inline]
    pub(super) fn take(&mut self, bit: u32, holder: Holder) -> Taken {
        let (mask, at) = (1 << bit, bit as usize);
        assert!(self.ready & mask != 0, "only a ready message can be taken");
        self.ready &= !mask;
        let slots = self
            .slots
            .as_deref_mut()
            .expect("a message with a body has a slot");
        let taken = Taken {
            body: slots.bodies[at],
            sizes: slots.sizes[at],
            redelivered: self.redelivered & mask != 0,
        };
        match holder {
            Holder::Consumer(key) => {
                let holders = &mut self.holders;
                holders.get_or_insert_with(|| Box::new([ConsumerKey(0); SLOT_COUNT]))[at] = key;
            }
            Holder::Nobody => self.clear(mask),
        }
        taken
    }

    /// Reports messages, with whether each is ready; nothing if no body is known.
    #[inline]
    pub(super) fn report(&self, mask: u64, mut each: impl FnMut(Released, Sizes, bool)) {
        let Some(slots) = &self.slots else { return };
        for bit in bits(mask) {
            let sizes = slots.sizes[bit as usize];
            let message = (self.index_of(bit), slots.bodies[bit as usize], sizes.stored);
            each(message, sizes, self.ready >> bit & 1 == 1);
        }
    }

    /// Who holds each message; nothing if none was ever held.
    #[inline]
    pub(super) fn holders(&self) -> &[ConsumerKey] {
        self.holders.as_ref().map_or(&[], |holders| &holders[..])
    }

    /// A held message has another holder from now on.
    pub(super) fn set_holder(&mut self, bit: u32, key: ConsumerKey) {
        let holders = self.holders.as_mut().expect("a held message has a holder");
        holders[bit as usize] = key;
    }

    /// Messages that a consumer holds; in recovery those whose body is not known.
    #[inline]
    pub(super) fn held(&self) -> u64 {
        self.live & !self.ready & !self.dying()
    }

    #[inline]
    pub(super) fn dying(&self) -> u64 {
        self.rare.as_ref().map_or(0, |rare| rare.dying)
    }

    /// Ready messages that are handed out in the order of their indexes.
    #[inline]
    pub(super) fn ready_plain(&self) -> u64 {
        let raised = self.rare.as_ref().map_or(0, |rare| rare.raised);
        self.ready & !raised
    }

    /// A message that was ready or held is dying.
    pub(super) fn set_dying(&mut self, bit: u32) {
        self.ready &= !(1 << bit);
        self.rare_mut().dying |= 1 << bit;
    }

    /// Level of a live message.
    pub(super) fn level(&self, bit: u32) -> u8 {
        self.rare_with(bit, |rare| rare.raised)
            .map_or(0, |rare| rare.levels[bit as usize])
    }

    /// Moves a live message to a level above 0.
    pub(super) fn set_level(&mut self, bit: u32, level: u8) {
        let rare = self.rare_mut();
        if rare.raised >> bit & 1 == 0 {
            rare.raised |= 1 << bit;
            rare.priorities[bit as usize] = 0;
        }
        rare.levels[bit as usize] = level;
    }

    /// When a live message expires.
    pub(super) fn expiry(&self, bit: u32) -> Option<UnixMillis> {
        self.rare_with(bit, |rare| rare.expiring)
            .map(|rare| rare.expiries[bit as usize])
    }

    /// When the first of the ready messages expires.
    pub(super) fn earliest_expiry(&self) -> Option<UnixMillis> {
        let rare = self.rare.as_ref()?;
        bits(self.ready & rare.expiring)
            .map(|bit| rare.expiries[bit as usize])
            .min()
    }

    /// Ready messages whose time is up.
    pub(super) fn expired(&self, now: UnixMillis) -> u64 {
        let Some(rare) = &self.rare else { return 0 };
        bits(self.ready & rare.expiring)
            .filter(|bit| rare.expiries[*bit as usize] <= now)
            .fold(0, |mask, bit| mask | 1 << bit)
    }

    pub(super) fn indexed_at(&self) -> Option<UnixMillis> {
        self.rare.as_ref()?.indexed_at
    }

    pub(super) fn set_indexed_at(&mut self, at: Option<UnixMillis>) {
        if let Some(rare) = &mut self.rare {
            rare.indexed_at = at;
        }
    }

    /// Messages leave the queue.
    #[inline]
    pub(super) fn clear(&mut self, gone: u64) {
        self.live &= !gone;
        self.ready &= !gone;
        if let Some(rare) = &mut self.rare {
            rare.dying &= !gone;
            rare.raised &= !gone;
            rare.expiring &= !gone;
            rare.came_redelivered &= !gone;
        }
    }

    /// Gives the memory of a chunk without messages back; its slots can serve another.
    pub(super) fn free(&mut self) -> Option<Box<Slots>> {
        (self.rare, self.holders) = (None, None);
        self.slots.take()
    }

    /// Slots of a chunk that has none yet.
    pub(super) fn lend(&mut self, slots: Option<Box<Slots>>) {
        debug_assert!(self.slots.is_none(), "a new chunk");
        self.slots = slots;
    }

    /// Allocated beside the chunk itself, in bytes.
    pub(super) fn boxed_size_bytes(&self) -> usize {
        let slots = self.slots.as_ref().map_or(0, |_| size_of::<Slots>());
        let holders = self.holders.as_ref().map_or(0, |_| size_of::<Holders>());
        slots + holders + self.rare.as_ref().map_or(0, |_| size_of::<Rare>())
    }

    pub(super) fn check_invariants(&self, recovery: bool) {
        assert_eq!(self.ready & !self.live, 0, "a ready message is live");
        assert!(
            recovery || self.live == 0 || self.slots.is_some(),
            "live has a body"
        );
        assert!(
            recovery || self.held() == 0 || self.holders.is_some(),
            "held has a holder"
        );
        let Some(rare) = &self.rare else { return };
        let masks = rare.dying | rare.raised | rare.expiring | rare.came_redelivered;
        assert_eq!(masks & !self.live, 0, "only the live have rare things");
        assert_eq!(rare.dying & self.ready, 0, "what is dying is not ready");
        assert_eq!(
            rare.came_redelivered & !self.redelivered,
            0,
            "what came redelivered is"
        );
        assert!(
            bits(rare.raised).all(|bit| rare.levels[bit as usize] > 0),
            "the raised have a level"
        );
    }

    fn slots(&self) -> &Slots {
        self.slots
            .as_deref()
            .expect("a message with a body has a slot")
    }

    fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_with(|| {
            Box::new(Rare {
                dying: 0,
                raised: 0,
                expiring: 0,
                came_redelivered: 0,
                indexed_at: None,
                expiries: [UnixMillis(0); SLOT_COUNT],
                levels: [0; SLOT_COUNT],
                priorities: [0; SLOT_COUNT],
            })
        })
    }

    /// The rare things, if the mask that `of` names has the bit.
    fn rare_with(&self, bit: u32, of: impl Fn(&Rare) -> u64) -> Option<&Rare> {
        self.rare.as_deref().filter(|rare| of(rare) >> bit & 1 == 1)
    }
}

/// Number of the chunk and bit of a message within it.
#[inline]
pub(super) fn split(index: u64) -> (u64, u32) {
    (
        index / CHUNK_LEN,
        u32::try_from(index % CHUNK_LEN).expect("a remainder of 64 is small"),
    )
}

/// The part of `index..end` in `index`'s chunk: its number, first bit and length.
#[inline]
pub(super) fn part(index: u64, end: u64) -> (u64, u32, u32) {
    let (number, bit) = split(index);
    let len = (end - index).min(CHUNK_LEN - u64::from(bit));
    (number, bit, u32::try_from(len).expect("at most 64"))
}

/// A mask of `len` bits from `start`; `start + len <= 64`, `len >= 1`.
#[inline]
pub(super) fn mask(start: u32, len: u32) -> u64 {
    (u64::MAX >> (u64::BITS - len)) << start
}

/// The set bits of a mask, lowest first.
#[inline]
pub(super) fn bits(mut mask: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = (mask != 0).then(|| mask.trailing_zeros())?;
        mask &= mask - 1;
        Some(bit)
    })
}
