//! What a node counts, and what must hold between its parts.

use staunch_types::ConsumerKey;

use crate::{cluster::Place, consumers::ConsumerKind, node::Node};

impl Node {
    /// Queues there are.
    pub fn queue_count(&self) -> usize {
        self.catalog.queue_count()
    }

    /// Messages in all queues.
    pub fn message_count(&self) -> u64 {
        self.queues
            .iter()
            .map(|slot| slot.queue.message_count())
            .sum()
    }

    /// Panics if the node contradicts itself.
    ///
    /// # Panics
    /// On a bug.
    pub fn check_invariants(&self) {
        self.catalog.check_invariants();
        let mut transient_count = 0;
        for slot in self.queues.iter() {
            slot.queue.check_invariants();
            for key in slot.queue.consumer_keys() {
                let consumer = self.consumers.get(key);
                assert_eq!(
                    consumer.map(|consumer| consumer.queue),
                    Some(slot.id),
                    "a queue knows live keys of its own: {key:?}"
                );
            }
            assert!(
                self.catalog.queue_by_id(slot.id).is_some(),
                "table and catalog agree"
            );
            if !slot.is_durable && matches!(slot.place, Place::Here) {
                transient_count += slot.queue.message_count();
            }
        }
        assert_eq!(
            transient_count,
            self.bodies.count() as u64,
            "every body has one message"
        );
        if let Some(cluster) = &self.cluster {
            cluster.outboxes.check_invariants();
        }
        self.check_sessions();
        self.check_shadows();
        self.store.check_invariants();
    }

    /// What clients of other nodes have not settled is what the queues know of that.
    fn check_shadows(&self) {
        let shadows = self.sessions.iter().filter(|it| it.shadow_of.is_some());
        for channel in shadows.flat_map(|session| session.channels.values()) {
            for key in channel.consumers.iter().chain(channel.getters.values()) {
                let consumer = self.consumers.get(*key).expect("a channel knows live keys");
                // What was held of a queue that is gone is void.
                if let Some(slot) = self.queues.get(consumer.queue) {
                    let known = slot.queue.unsettled_count(*key);
                    assert_eq!(consumer.unsettled_count, known, "of shadow {key:?}");
                }
            }
        }
    }

    fn check_sessions(&self) {
        assert_eq!(
            self.recount(),
            self.census,
            "connections and channels are counted"
        );
        let mut key_count = 0;
        let mut tx_size_bytes = 0;
        for session in self.sessions.iter() {
            for id in &session.exclusive_queues {
                let entry = self
                    .catalog
                    .queue_by_id(*id)
                    .expect("it owns what is there");
                assert_eq!(entry.owner, Some(session.id), "it owns its own");
            }
            for channel in session.channels.values() {
                key_count += channel.consumers.len() + channel.getters.len();
                key_count += usize::from(channel.replies.is_some());
                tx_size_bytes += channel.tx.as_ref().map_or(0, |tx| tx.size_bytes);
                let unsettled = channel.consumers.iter().map(|key| {
                    let consumer = self.consumers.get(*key).expect("a channel knows live keys");
                    let is_over = consumer.kind == ConsumerKind::Cancelled;
                    assert!(
                        !is_over || consumer.unsettled_count > 0,
                        "it is over and still here"
                    );
                    consumer.unsettled_count
                });
                assert_eq!(
                    unsettled.sum::<u32>(),
                    channel.unsettled_count,
                    "unsettled are counted"
                );
                let holds = |key: &ConsumerKey| {
                    self.consumers
                        .get(*key)
                        .is_some_and(|it| it.unsettled_count > 0)
                };
                assert!(
                    channel.getters.values().all(holds),
                    "a getter's key lasts while it holds"
                );
            }
        }
        assert_eq!(
            key_count,
            self.consumers.count(),
            "every consumer has a channel"
        );
        assert_eq!(
            tx_size_bytes, self.tx_size_bytes,
            "what is held back is counted"
        );
        let waiting = self
            .queues
            .iter()
            .flat_map(|slot| slot.getters.iter().flatten());
        let gets = self
            .sessions
            .iter()
            .flat_map(|session| session.channels.values());
        let gets = gets.map(|channel| channel.waiting_gets.len());
        assert_eq!(
            waiting.count(),
            gets.sum::<usize>(),
            "every get stands in one line"
        );
    }
}
