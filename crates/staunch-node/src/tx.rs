//! Transactions (AMQP 0-9-1, class tx).
//!
//! A publish in a transaction is checked and routed at once, so that what is wrong with it is
//! said then, and is kept with its channel. A commit puts the kept messages into their queues in
//! order and applies the settlements that the connection held back; all of it is appended within
//! one drain, and `Committed` waits for the disk like every other promise.

use staunch_types::{
    ChannelNumber, Event, Message, Operation, QueueId, Refusal, Reply, request::Settle,
};

use crate::{cluster::Purpose, node::Node, publish::Kept, session::SessionSlot};

/// Messages that one transaction may hold.
const TX_MESSAGES_MAX: usize = 65_536;
/// Share of the memory that may be kept which all transactions together may take. They hold it
/// until their clients commit, and a client whose publishes the memory alarm holds back may never
/// come to that: so they must not be able to raise the alarm by themselves.
const TX_MEMORY_SHARE: u64 = 2;
/// Bytes of them; one message is always allowed.
const TX_SIZE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What a channel in transaction mode holds back.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    publishes: Vec<HeldPublish>,
    /// Stored sizes of the messages together.
    pub(crate) size_bytes: u64,
    /// Stored sizes of the copies that the commit will make of them.
    fan_out_size_bytes: u64,
}

/// A publish that waits for its commit.
#[derive(Debug)]
pub(crate) struct HeldPublish {
    pub(crate) message: Message,
    pub(crate) mandatory: bool,
    /// Routing keys beside the message's own: direct replies may be among them.
    pub(crate) more_keys: Box<[Vec<u8>]>,
    /// Where it goes, as it was when it was published.
    pub(crate) queues: Box<[QueueId]>,
    /// Queues that hold it back first, and for how many milliseconds from the commit on.
    pub(crate) delayed: Box<[(QueueId, u64)]>,
}

impl Transaction {
    /// Messages that it holds.
    pub(crate) fn publish_count(&self) -> u64 {
        self.publishes.len() as u64
    }

    fn hold(&mut self, publish: HeldPublish, fan_out_max: u64) -> Result<u64, Refusal> {
        let size_bytes = publish.message.stored_size_bytes() as u64;
        let copies_size_bytes = size_bytes.saturating_mul(publish.queues.len() as u64);
        let fan_out_size_bytes = self.fan_out_size_bytes.saturating_add(copies_size_bytes);
        if fan_out_size_bytes > fan_out_max {
            return Err(Refusal::Precondition(format!(
                "transaction makes more than {fan_out_max} bytes of copies"
            )));
        }
        let is_full = self.publishes.len() >= TX_MESSAGES_MAX
            || (self.size_bytes + size_bytes > TX_SIZE_BYTES_MAX && !self.publishes.is_empty());
        if is_full {
            return Err(Refusal::ResourceError(format!(
                "transaction is larger than {TX_MESSAGES_MAX} messages or {TX_SIZE_BYTES_MAX} bytes"
            )));
        }
        self.size_bytes += size_bytes;
        self.fan_out_size_bytes = fan_out_size_bytes;
        self.publishes.push(publish);
        Ok(size_bytes)
    }
}

impl Node {
    /// `tx.select`; a second one changes nothing.
    pub(crate) fn select_tx(&mut self, slot: SessionSlot, channel: ChannelNumber) {
        if let Some(open) = self.sessions.channel_mut(slot, channel) {
            open.tx.get_or_insert_default();
        }
    }

    /// Keeps a routed publish until its commit.
    pub(crate) fn hold_publish(
        &mut self,
        slot: SessionSlot,
        channel: ChannelNumber,
        publish: HeldPublish,
    ) {
        let held_max = self.config.kept_size_bytes_max() / TX_MEMORY_SHARE;
        let size_bytes = publish.message.stored_size_bytes() as u64;
        if self.tx_size_bytes + size_bytes > held_max {
            let text = format!("transactions hold {held_max} bytes together at most");
            let refusal = Refusal::Precondition(text);
            return self.refuse(slot, channel, Operation::Publish, refusal);
        }
        let fan_out_max = self.fan_out_size_bytes_max();
        let Some(open) = self.sessions.channel_mut(slot, channel) else {
            return;
        };
        let tx = open.tx.get_or_insert_default();
        match tx.hold(publish, fan_out_max) {
            Ok(size_bytes) => self.tx_size_bytes += size_bytes,
            Err(refusal) => self.refuse(slot, channel, Operation::Publish, refusal),
        }
    }

    /// `tx.commit`.
    pub(crate) fn commit(
        &mut self,
        slot: SessionSlot,
        channel: ChannelNumber,
        settles: Vec<Settle>,
    ) {
        if self.requester(slot, channel).is_none() {
            return;
        }
        let Some(held) = self.take_transaction(slot, channel) else {
            let refusal = Refusal::Precondition("channel is not transactional".to_owned());
            return self.refuse(slot, channel, Operation::Commit, refusal);
        };
        let (mut is_whole, mut ticket) = (true, None);
        for publish in held {
            let kept = self.enqueue_held(slot, channel, publish);
            is_whole &= kept != Kept::Refused;
            if kept.is_sent() {
                ticket = ticket.or_else(|| self.open_commit(slot, channel));
                self.add_to_ticket(ticket);
            }
        }
        for settle in settles {
            self.settle(slot, settle);
        }
        if !is_whole {
            let refusal = Refusal::Precondition("partial tx completion".to_owned());
            return self.refuse(slot, channel, Operation::Commit, refusal);
        }
        if let Some(ticket) = ticket {
            // Its part here is what the answer waits for when the others are known.
            return self.close_ticket(ticket);
        }
        self.answer_committed(slot, channel);
    }

    /// The publishes of a transaction are in their queues: its client is told when its settlements
    /// hold as well (contract C9).
    pub(crate) fn answer_committed(&mut self, slot: SessionSlot, channel: ChannelNumber) {
        let reply = Reply::Committed;
        let event = Event::Reply { channel, reply };
        if !self.waits_for_settlements(slot, Some(channel), Some(&event)) {
            self.answer_when_persisted(slot, event);
        }
    }

    fn open_commit(&mut self, session: SessionSlot, channel: ChannelNumber) -> Option<u64> {
        let open = self.sessions.get(session)?;
        let connection = open.id;
        let opening = open.channels.get(&channel)?.opening;
        self.open_ticket(Purpose::Commit {
            session,
            connection,
            channel,
            opening,
        })
    }

    /// `tx.rollback`.
    pub(crate) fn rollback(&mut self, slot: SessionSlot, channel: ChannelNumber) {
        if self.requester(slot, channel).is_some() {
            drop(self.take_transaction(slot, channel));
        }
    }

    /// What the channel's transaction held; it goes on, empty. None if it is in no transaction.
    fn take_transaction(
        &mut self,
        slot: SessionSlot,
        channel: ChannelNumber,
    ) -> Option<Vec<HeldPublish>> {
        let open = self.sessions.channel_mut(slot, channel)?;
        let tx = std::mem::take(&mut **open.tx.as_mut()?);
        self.tx_size_bytes -= tx.size_bytes;
        Some(tx.publishes)
    }

    fn enqueue_held(
        &mut self,
        slot: SessionSlot,
        channel: ChannelNumber,
        publish: HeldPublish,
    ) -> Kept {
        let HeldPublish {
            message,
            mandatory,
            more_keys,
            queues,
            delayed,
        } = publish;
        // A queue may have gone since.
        let is_there = |id: &QueueId| self.queues.get(*id).is_some();
        let queues = queues.iter().copied().filter(is_there).collect();
        let delayed = delayed.iter().copied().filter(|(id, _)| is_there(id));
        let delayed: Vec<_> = delayed.collect();
        self.routes.replace(queues, &delayed);
        self.keep(slot, (channel, mandatory), &message, &more_keys)
    }
}
