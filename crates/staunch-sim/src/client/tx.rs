//! Channels in transaction mode.

use staunch_amqp_codec::methods::{BasicAck, TxCommit, TxRollback, TxSelect};

use crate::{
    client::{
        Wire,
        channel::{Asked, Channel, Transaction},
    },
    history::{Commit, Fact, MessageId, Settlement},
    random::Random,
};

impl Channel {
    /// Sends `tx.select`.
    pub fn select_tx(&mut self, wire: &mut Wire<'_>) {
        self.ask(TxSelect, Asked::TxSelect, wire);
        self.tx = Some(Transaction::default());
    }

    /// Whether the end of a transaction has not been answered.
    pub fn is_ending_tx(&self) -> bool {
        let ends = |asked: &Asked| matches!(asked, Asked::Commit(..) | Asked::Rollback(_));
        self.asked.iter().any(ends)
    }

    /// Deliveries held that no settlement in the transaction speaks of.
    pub fn unsettled_tags(&self) -> Vec<u64> {
        let settled = self.tx.as_ref().map(|tx| &tx.settled);
        let is_open = |tag: &&u64| settled.is_none_or(|settled| !settled.contains_key(tag));
        self.unacked.keys().filter(is_open).copied().collect()
    }

    /// Settles deliveries, in the transaction if there is one.
    pub fn settle(&mut self, tags: &[u64], settlement: Settlement, wire: &mut Wire<'_>) {
        match &mut self.tx {
            Some(tx) => tx.settled.extend(tags.iter().map(|tag| (*tag, settlement))),
            None => self.settled(tags, settlement, wire.witness),
        }
    }

    /// Sends `tx.commit`. From now on what the transaction holds may take effect.
    pub fn commit(&mut self, wire: &mut Wire<'_>) {
        let Some(tx) = &mut self.tx else { return };
        let Transaction { published, settled } = std::mem::take(tx);
        let commit = wire.witness.begin_commit(published.clone());
        for (tag, settlement) in settled {
            self.settled(&[tag], settlement, wire.witness);
        }
        self.ask(TxCommit, Asked::Commit(commit, published), wire);
    }

    /// Sends `tx.rollback`.
    pub fn roll_back(&mut self, wire: &mut Wire<'_>) {
        let Some(tx) = &mut self.tx else { return };
        let published = std::mem::take(tx).published;
        self.ask(TxRollback, Asked::Rollback(published), wire);
    }

    /// Ends the transaction one way or the other.
    pub fn end_tx(&mut self, random: &mut Random, wire: &mut Wire<'_>) {
        if random.chance(200) {
            self.roll_back(wire);
        } else {
            self.commit(wire);
        }
    }

    /// Settles everything it holds for good.
    pub fn ack_all(&mut self, wire: &mut Wire<'_>) {
        if self.is_ending_tx() {
            return;
        }
        let tags = self.unsettled_tags();
        if let Some(last) = tags.last() {
            BasicAck {
                delivery_tag: *last,
                multiple: true,
            }
            .encode_frame(self.number, wire.out);
            self.settle(&tags, Settlement::Ack, wire);
        }
        if self.tx.as_ref().is_some_and(|tx| !tx.settled.is_empty()) {
            self.commit(wire);
        }
    }

    /// `tx.commit-ok` came.
    pub(super) fn committed(
        &mut self,
        commit: Commit,
        messages: &[MessageId],
        wire: &mut Wire<'_>,
    ) {
        wire.witness.coverage.hit("transaction committed");
        wire.witness.history.push(Fact::Committed { commit });
        let barrier = Fact::Barrier { channel: self.key };
        wire.witness.history.push(barrier);
        for id in messages {
            wire.witness.publish_over(*id);
        }
    }
}
