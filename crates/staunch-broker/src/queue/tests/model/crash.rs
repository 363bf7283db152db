//! Crashes and restarts of the model: what a snapshot and the log bring back.

use super::*;

impl World {
    pub(super) fn save(&self) -> Saved {
        let mut bytes = Vec::new();
        self.queue.encode_snapshot(&mut bytes);
        let returns = self.live.iter();
        Saved {
            bytes,
            command_count: self.commands.len(),
            returns: returns
                .map(|(index, known)| (*index, known.returns))
                .collect(),
        }
    }

    /// What was dying is ready again, nobody holds anything, and counts are those persisted.
    pub(super) fn crash(
        &mut self,
        snapshot: usize,
        start: usize,
        commands_at: usize,
        is_reversed: bool,
    ) {
        if self.durability == Durability::Transient {
            return;
        }
        let chosen = snapshot % (self.snapshots.len() + 1);
        let chosen = self.snapshots.get(chosen).or(self.base.as_ref());
        let contained = chosen.map_or(0, |saved| saved.command_count);
        let commands = &self.commands[start % (contained + 1)..];
        let mut queue = match chosen {
            Some(saved) => Queue::decode_snapshot(&saved.bytes, &self.settings).unwrap(),
            None => Queue::recovering(&self.settings),
        };
        let mut returns = chosen.map_or_else(BTreeMap::new, |saved| saved.returns.clone());
        for command in commands {
            let QueueCommand::Returned { counts } = command else {
                continue;
            };
            for (index, count) in counts {
                let known = returns.entry(index.0).or_default();
                *known = (*count).max(*known);
            }
        }
        let mut arrivals = self.arrivals.clone();
        if is_reversed {
            arrivals.reverse();
        }
        let commands_at = commands_at % (arrivals.len() + 1);
        let replay = |queue: &mut Queue| {
            let mut garbage = Vec::new();
            let all = commands.iter();
            all.for_each(|command| queue.apply_recovered(command, &mut garbage));
        };
        for (at, (index, arrival)) in arrivals.iter().enumerate() {
            if at == commands_at {
                replay(&mut queue);
            }
            let Arrival {
                body, size_bytes, ..
            } = *arrival;
            let arrival = Arrival::from_meta(body, size_bytes, arrival.meta()).unwrap();
            queue.restore_message(*index, arrival);
            let again = queue.restore_message(*index, arrival);
            assert_ne!(again, Restored::Live, "each message is found once");
        }
        if commands_at == arrivals.len() {
            replay(&mut queue);
        }
        queue.check_invariants();
        assert_eq!(queue.missing(), []);
        assert_eq!(queue.finish_recovery(), 0);
        self.restart(queue, &returns);
    }

    /// A restart after everything was written down.
    pub(super) fn clean_stop(&mut self) {
        if self.durability == Durability::Transient {
            return;
        }
        let upto = self.queue.release_reservation();
        assert!(upto.0 <= self.reserved);
        let sent = |(index, known): (&u64, &Known)| known.sent.then_some(*index);
        let last = self.live.iter().filter_map(sent).max();
        assert!(last.is_none_or(|last| last < upto.0), "contract C8");
        self.reserved = upto.0;
        let mut saved = self.save();
        saved.command_count = 0;
        self.commands.clear();
        self.snapshots.clear();
        self.base = Some(saved);
        self.crash(0, 0, 0, false);
    }

    fn restart(&mut self, queue: Queue, returns: &BTreeMap<u64, u32>) {
        self.queue = queue;
        for (index, known) in &mut self.live {
            known.state = State::Ready;
            known.suspect |= *index < self.reserved;
            known.returned_at = None;
            known.returns = 0;
            if self.queue.returns.is_some() {
                known.returns = returns.get(index).copied().unwrap_or(0);
            }
            known.returns_taken = known.returns;
        }
        self.consumers.clear();
        self.astray.clear();
        (self.active, self.turn) = (None, 0);
    }
}
