//! Deliveries come back: acked, refused or given back.

use staunch_types::{ConsumerKey, MessageIndex, Outcome, UnixMillis};

use super::departed::{Death, Departed};
use super::{Queue, UnknownDelivery};

impl Queue {
    /// Settles deliveries with consecutive indexes: the first, and how many. [`Outcome::Discard`] is a death of the
    /// reason [`Death::Rejected`]; [`Outcome::Requeue`] gives each message back to its place,
    /// redelivered, or is its death where it was given back too often or its time was up at
    /// `now`. What leaves its place is appended to `departed`. Returns how many were settled, which is all.
    ///
    /// # Errors
    /// [`UnknownDelivery`] if the consumer does not hold all of them; then nothing changes.
    ///
    /// # Panics
    /// On a bug in this module only.
    pub fn settle(
        &mut self,
        consumer: ConsumerKey,
        (first, count): (MessageIndex, u32),
        outcome: Outcome,
        now: UnixMillis,
        departed: &mut Departed,
    ) -> Result<u32, UnknownDelivery> {
        let unknown = |index| UnknownDelivery { consumer, index };
        let end = first
            .0
            .checked_add(u64::from(count))
            .ok_or(unknown(first))?;
        let slot = self
            .consumers
            .as_ref()
            .and_then(|consumers| consumers.find(consumer));
        let slot = slot.ok_or(unknown(first))?;
        let at = self
            .entries
            .check_held(first.0, end, consumer)
            .map_err(unknown)?;
        match outcome {
            Outcome::Discard if self.has_dead_lettering => {
                self.die_held(first.0, end, Death::Rejected, departed);
            }
            Outcome::Ack | Outcome::Discard => self.leave_held(at, first.0, end, departed),
            Outcome::Requeue => {
                for index in first.0..end {
                    self.give_back(index, now, departed);
                }
            }
        }
        let entries = &self.entries;
        let consumers = self.consumers.as_mut().expect("the slot was found there");
        let is_held = |index: &u64| entries.is_held_by(*index, consumer);
        consumers.get_mut(slot).unacked.settled(count, is_held);
        consumers.settled(slot);
        consumers.drop_if_idle(slot);
        self.drop_consumers_if_empty();
        Ok(count)
    }

    /// Gives back everything a consumer holds, each message to its place, redelivered: in the order
    /// of delivery to a quorum queue (RabbitMQ, `rabbit_fifo:return_all`), which hands out again in
    /// the order of return; otherwise the oldest first. What was given back too often, or too late at `now`, is appended to `departed`.
    ///
    /// # Panics
    /// On a bug in this module only.
    pub fn requeue_all(
        &mut self,
        consumer: ConsumerKey,
        now: UnixMillis,
        departed: &mut Departed,
    ) -> u32 {
        let Some(consumers) = &mut self.consumers else {
            return 0;
        };
        let Some(slot) = consumers.find(consumer) else {
            return 0;
        };
        let entries = &self.entries;
        let is_held = |index: &u64| entries.is_held_by(*index, consumer);
        let holder = consumers.get_mut(slot);
        let mut held = holder.unacked.take_all(is_held);
        holder.astray.clear();
        let count = u32::try_from(held.len()).expect("a consumer counts what it holds in 32 bits");
        if !self.is_quorum() {
            held.sort_unstable();
        }
        for index in held {
            self.give_back(index, now, departed);
        }
        let consumers = self.consumers_mut();
        consumers.settled(slot);
        consumers.drop_if_idle(slot);
        self.drop_consumers_if_empty();
        count
    }

    /// A held message becomes ready again, or dies if that was once too often, or its time is up:
    /// what lives for 0 ms may be delivered once and never again.
    #[inline]
    fn give_back(&mut self, index: u64, now: UnixMillis, departed: &mut Departed) {
        if let Some(returns) = &mut self.returns
            && !returns.raise(index)
        {
            return self.die_held(index, index + 1, Death::DeliveryLimit, departed);
        }
        if self.entries.expiry(index).is_some_and(|at| at <= now) {
            return self.die_held(index, index + 1, Death::Expired, departed);
        }
        let sizes = self.entries.give_back(index);
        self.unacked_count -= 1;
        self.unacked_body_bytes -= u64::from(sizes.body);
        self.ready.add(sizes);
        self.stand_again(index);
    }
}
