//! Messages that leave their place in a queue, and why.
//!
//! A message that is done with is *released*: the caller frees its body and logs that it is
//! settled. One that dies in a queue with dead lettering is *dying* first: neither ready nor
//! unacked, but still live, so the log keeps it until whoever moves it on buries it
//! ([`Queue::bury`]). A crash in between brings it back as a ready message: a dead letter is
//! published twice rather than never.

use staunch_types::{BodyRef, MessageIndex};

use super::chunk::{Holder, Sizes};
use super::entries::Position;
use super::{Queue, Released};

/// Why a message died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Death {
    /// Its time was up.
    Expired,
    /// The queue was full.
    MaxLength,
    /// A consumer refused it without requeue.
    Rejected,
    /// It was given back more often than the queue allows.
    DeliveryLimit,
}

impl Death {
    /// The reason as `x-death` and its companions tell it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::MaxLength => "maxlen",
            Self::Rejected => "rejected",
            Self::DeliveryLimit => "delivery_limit",
        }
    }
}

/// A message to be dead-lettered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dying {
    /// Its place in the queue, for [`Queue::bury`].
    pub index: MessageIndex,
    /// Where its body is now. The log may move it: [`Queue::message`] knows where to.
    pub body: BodyRef,
    /// Its size in bytes.
    pub size_bytes: u32,
    /// Why it died.
    pub reason: Death,
}

/// What several calls of [`Queue`] append to, for the caller to drain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Departed {
    /// Messages that left the queue for good.
    pub released: Vec<Released>,
    /// Messages that wait to be dead-lettered.
    pub dying: Vec<Dying>,
}

impl Departed {
    /// Nothing left its place.
    pub fn is_empty(&self) -> bool {
        self.released.is_empty() && self.dying.is_empty()
    }
}

impl Queue {
    /// A dying message was moved on: it leaves the queue. One of a replicated queue stays until
    /// that is committed.
    ///
    /// # Panics
    /// If no message is dying at `index`.
    pub fn bury(&mut self, index: MessageIndex) -> Released {
        if self.is_replicated() {
            return self.message(index).expect("only a dying message is buried");
        }
        let buried = self.entries.bury(index.0);
        let (buried, sizes) = buried.expect("only a dying message is buried");
        self.dying_count -= 1;
        self.dying_body_bytes -= u64::from(sizes.body);
        if let Some(returns) = &mut self.returns {
            returns.forget(index.0..index.0 + 1);
        }
        buried
    }

    /// Messages that died and have not been buried: neither ready nor unacked.
    pub fn dying_count(&self) -> u64 {
        self.dying_count
    }

    /// A ready message that has left the order dies.
    pub(super) fn die(&mut self, position: Position, reason: Death, departed: &mut Departed) {
        let index = position.index;
        if self.has_dead_lettering {
            let (message, sizes) = self.entries.kill(position);
            self.ready.subtract(sizes);
            self.mourn((message, sizes), reason, departed);
            return;
        }
        if self.is_replicated() {
            let sizes = self.entries.chunk(position).sizes(position.bit());
            self.ready.subtract(sizes);
            let message = self.begin_to_leave(position);
            departed.released.push(message);
            return;
        }
        let taken = self.entries.take(position, Holder::Nobody);
        self.ready.subtract(taken.sizes);
        if let Some(returns) = &mut self.returns {
            returns.forget(index.0..index.0 + 1);
        }
        departed
            .released
            .push((index, taken.body, taken.sizes.stored));
    }

    /// Messages that somebody holds, all of `first..end`, die. In a queue without dead lettering
    /// they leave as if acked.
    #[cold]
    pub(super) fn die_held(
        &mut self,
        first: u64,
        end: u64,
        reason: Death,
        departed: &mut Departed,
    ) {
        if !self.has_dead_lettering {
            let at = self.entries.place_of(first);
            return self.leave_held(at, first, end, departed);
        }
        for index in first..end {
            let position = self.entries.position(index);
            let position = position.expect("the caller checked that it is held");
            let (message, sizes) = self.entries.kill(position);
            self.unacked_count -= 1;
            self.unacked_body_bytes -= u64::from(sizes.body);
            self.mourn((message, sizes), reason, departed);
        }
    }

    /// Messages that somebody holds, all of `first..end`, leave the queue; `at` is the place of
    /// the first one's chunk.
    #[inline]
    pub(super) fn leave_held(&mut self, at: usize, first: u64, end: u64, departed: &mut Departed) {
        if self.is_replicated() {
            return self.leave_replicated(first, end, &mut departed.released);
        }
        let mut body_bytes = 0;
        self.entries
            .remove_from(at, first, end, |message, sizes, _| {
                body_bytes += u64::from(sizes.body);
                departed.released.push(message);
            });
        self.unacked_count -= end - first;
        self.unacked_body_bytes -= body_bytes;
        if let Some(returns) = &mut self.returns {
            returns.forget(first..end);
        }
    }

    fn mourn(
        &mut self,
        (message, sizes): (Released, Sizes),
        reason: Death,
        departed: &mut Departed,
    ) {
        let (index, body, size_bytes) = message;
        self.dying_count += 1;
        self.dying_body_bytes += u64::from(sizes.body);
        departed.dying.push(Dying {
            index,
            body,
            size_bytes,
            reason,
        });
    }
}
