//! What must hold between the parts of a queue after every step.

use super::Queue;

impl Queue {
    /// Checks every relation between the parts; walks everything.
    ///
    /// # Panics
    /// If one does not hold: a bug in this module.
    pub fn check_invariants(&self) {
        self.entries.check_invariants(self.recovery.is_some());
        if self.recovery.is_some() {
            return;
        }
        let (ready, unacked, dying) = self.entries.count_all();
        assert_eq!(ready, self.ready, "ready messages are counted");
        let counted = (self.unacked_count, self.unacked_body_bytes);
        assert_eq!(
            (unacked.count, unacked.body_bytes),
            counted,
            "unacked messages are counted"
        );
        assert_eq!(
            (dying.count, dying.body_bytes),
            (self.dying_count, self.dying_body_bytes),
            "dying messages are counted"
        );
        self.check_holders();
        self.check_order();
        if let Some(returns) = &self.returns {
            returns.check_invariants(|index| self.entries.position(index).is_some());
        }
    }

    fn check_holders(&self) {
        let mut held = 0;
        for consumer in self.consumers.iter().flat_map(|consumers| consumers.iter()) {
            held += u64::from(consumer.unacked.count());
            let is_held = |index: &u64| self.entries.is_held_by(*index, consumer.key);
            consumer.unacked.check_invariants(is_held);
        }
        assert_eq!(
            held, self.unacked_count,
            "every unacked message has a holder"
        );
        if let Some(consumers) = &self.consumers {
            assert!(!consumers.is_empty(), "no box for nobody");
            consumers.check_invariants();
        }
    }

    fn check_order(&self) {
        let (mut returned, mut raised) = (0, 0);
        for (index, _, _) in self.entries.live_from(0, false) {
            let position = self.entries.position(index.0);
            let position = position.expect("what is listed is found");
            let chunk = self.entries.chunk(position);
            let is_in = |mask: u64| mask >> position.bit() & 1 == 1;
            if chunk.level(position.bit()) > 0 {
                raised += u64::from(is_in(chunk.ready));
                continue;
            }
            assert!(
                index.0 < self.fresh || !is_in(chunk.held()),
                "what was handed out is not fresh"
            );
            if is_in(chunk.ready) && index.0 < self.fresh {
                returned += 1;
                assert!(index.0 >= self.returned_from, "the hint is a lower bound");
            }
        }
        assert_eq!(
            returned, self.returned_count,
            "returned messages are counted"
        );
        match &self.levels {
            None => assert_eq!(raised, 0, "no levels without priorities"),
            Some(levels) => {
                assert_eq!(raised, levels.count(), "all of the raised are known");
                levels.check_invariants(|index| {
                    let position = self.entries.position(index)?;
                    let chunk = self.entries.chunk(position);
                    let is_ready = chunk.ready >> position.bit() & 1 == 1;
                    is_ready.then(|| chunk.level(position.bit()))
                });
            }
        }
    }
}
