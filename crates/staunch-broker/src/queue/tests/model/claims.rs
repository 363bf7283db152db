//! What the model makes of claims, and of settlements that come late.

use super::*;

impl World {
    /// Somebody who is known, or only holds, has had some messages before.
    pub(super) fn claim(&mut self, key: u32, skip: usize, count: u32) {
        let Some(first) = self.live.keys().nth(skip).copied() else {
            return;
        };
        if key < 10 && !self.consumers.contains_key(&key) {
            return;
        }
        let end = (first + u64::from(count)).min(self.queue.next_index().0);
        let mut expected = 0;
        for index in first..end {
            let known = self.live.get_mut(&index);
            if let Some(known) = known.filter(|it| it.state == State::Ready)
                && index < self.reserved
            {
                known.state = State::Held(key);
                known.sent = true;
                known.handed_out_at = self.delivery_next;
                self.delivery_next += 1;
                expected += 1;
            } else {
                self.astray.entry(key).or_default().insert(index);
            }
        }
        let claimed = self
            .queue
            .claim(ConsumerKey(key), MessageIndex(first), count);
        assert_eq!(claimed, expected);
        // It was the active one where it got them.
        let is_idle = |active: u32| active != key && self.unsettled_count(active) == 0;
        if expected > 0 && self.consumers.contains_key(&key) && self.active.is_some_and(is_idle) {
            self.active = Some(key);
        }
    }

    /// Somebody acks what it has lost, or what it never had.
    pub(super) fn settle_claimed(&mut self, key: u32, skip: usize) {
        let astray = self
            .astray
            .get(&key)
            .and_then(|astray| astray.iter().next());
        let astray = astray.filter(|_| skip.is_multiple_of(2));
        let Some(index) = astray.or_else(|| self.live.keys().nth(skip).copied()) else {
            return;
        };
        let state = self.live.get(&index).map(|known| known.state);
        let leaves = match state {
            Some(State::Ready) => index < self.reserved,
            Some(State::Held(_)) => true,
            Some(State::Dying) | None => false,
        };
        let is_held = state == Some(State::Held(key));
        let was_astray = |astray: &mut Indexes| astray.remove(index);
        let counts = is_held || self.astray.get_mut(&key).is_some_and(was_astray);
        if let Some(State::Held(other)) = state
            && other != key
        {
            self.astray.entry(other).or_default().insert(index);
        }
        let mut departed = Departed::default();
        let run = (MessageIndex(index), 1);
        let queue = &mut self.queue;
        let settled =
            queue.settle_claimed(ConsumerKey(key), run, Outcome::Ack, self.now, &mut departed);
        assert_eq!(settled.count, u32::from(counts));
        assert_eq!(settled.some_astray, !is_held);
        assert_eq!(departed.released.len(), usize::from(leaves));
        self.leave(&departed.released);
    }
}
