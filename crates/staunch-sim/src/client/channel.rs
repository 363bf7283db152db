//! A channel from the client's side: what it asked, what it holds, what it published.

use std::collections::{BTreeMap, VecDeque};

use staunch_amqp_codec::{
    methods::{ChannelClose, ChannelOpen, Method},
    wire::ShortStr,
};
use staunch_types::ConnectionId;

use crate::{
    client::{Wire, content::Assembling},
    definitions::Change,
    history::{
        ChannelKey, Commit, Emission, Fact, MessageId, QueueRef, Removal, Settlement, Stamp,
    },
    register::Operation,
    witness::{Orphan, Witness},
};

/// What a channel is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Definitions and probes.
    Control,
    /// Publishing.
    Publish,
    /// Consuming.
    Consume,
}

/// Where a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// In use, perhaps before `open-ok`.
    Open,
    /// `channel.close` sent: everything but its answer is ignored.
    Closing,
}

/// A request that waits for its answer. Answers come in the order of the requests.
#[derive(Clone, Debug)]
pub enum Asked {
    /// `channel.open`
    Open,
    /// `confirm.select`
    ConfirmSelect,
    /// `basic.qos`
    Qos,
    /// A change of the definitions, with the removal it is if it deletes a queue.
    Change(Change, Operation, Option<Removal>),
    /// A declaration that must be refused as inequivalent.
    Inequivalent,
    /// `queue.purge`
    Purge(Removal),
    /// `queue.declare`, passive, sent at this time.
    Probe(QueueRef, Stamp),
    /// `basic.consume` with this tag.
    Consume(String),
    /// `basic.cancel` of this tag.
    Cancel(String),
    /// `basic.get`, without acks or with, sent at this time.
    Get(QueueRef, bool, Stamp),
    /// `basic.recover`
    Recover,
    /// `tx.select`
    TxSelect,
    /// `tx.commit` of these messages.
    Commit(Commit, Vec<MessageId>),
    /// `tx.rollback` of these messages.
    Rollback(Vec<MessageId>),
}

/// What a transaction holds.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    /// Messages, in order.
    pub published: Vec<MessageId>,
    /// Settlements, by delivery tag.
    pub settled: BTreeMap<u64, Settlement>,
}

/// A consumer.
#[derive(Clone, Debug)]
pub struct Consumer {
    /// Its queue.
    pub queue: QueueRef,
    /// Deliveries it may hold; 0 is no limit.
    pub held_max: u32,
    /// Without acks.
    pub no_ack: bool,
    /// Deliveries it holds.
    pub held: u32,
    /// Being cancelled.
    pub cancelling: bool,
    /// When it was asked for.
    pub asked: Stamp,
}

/// A delivery that is not settled.
#[derive(Clone, Debug)]
pub struct Held {
    /// Which one.
    pub emission: Emission,
    /// To which consumer; none for a get.
    pub consumer: Option<String>,
}

/// The channel.
#[derive(Debug)]
pub struct Channel {
    /// Its name in the history.
    pub key: ChannelKey,
    /// Its number.
    pub number: u16,
    /// What it is for.
    pub purpose: Purpose,
    /// Where it is.
    pub phase: Phase,
    /// Unanswered requests.
    pub asked: VecDeque<Asked>,
    /// In confirm mode.
    pub confirming: bool,
    /// Publishes without confirm.
    pub unconfirmed: BTreeMap<u64, MessageId>,
    /// The transaction, on a channel in that mode.
    pub tx: Option<Transaction>,
    /// Number of the last publish.
    pub last_seq: u64,
    /// Deliveries held.
    pub unacked: BTreeMap<u64, Held>,
    /// Consumers by tag.
    pub consumers: BTreeMap<String, Consumer>,
    /// Limit of the whole channel; 0 is none.
    pub prefetch_global: u16,
    /// Ready messages that probes saw.
    pub probed: BTreeMap<QueueRef, u64>,
    /// Set when the client broke a rule on purpose: an error is due.
    pub provoked: bool,
    /// How many consumers it ever had, for fresh tags.
    pub tags_used: u64,
    pub(super) assembling: Option<Assembling>,
    pub(super) last_delivery_tag: u64,
    pub(super) recovering: bool,
}

impl Channel {
    /// Opens channel `number`.
    pub fn open(number: u16, purpose: Purpose, wire: &mut Wire<'_>) -> Self {
        ChannelOpen {
            out_of_band: ShortStr::EMPTY,
        }
        .encode_frame(number, wire.out);
        Self {
            key: wire.witness.new_channel(),
            number,
            purpose,
            phase: Phase::Open,
            asked: VecDeque::from([Asked::Open]),
            confirming: false,
            unconfirmed: BTreeMap::new(),
            tx: None,
            last_seq: 0,
            unacked: BTreeMap::new(),
            consumers: BTreeMap::new(),
            prefetch_global: 0,
            probed: BTreeMap::new(),
            provoked: false,
            tags_used: 0,
            assembling: None,
            last_delivery_tag: 0,
            recovering: false,
        }
    }

    /// Sends a request and remembers that an answer is due.
    pub fn ask<'m>(&mut self, method: impl Into<Method<'m>>, asked: Asked, wire: &mut Wire<'_>) {
        method.into().encode_frame(self.number, wire.out);
        self.asked.push_back(asked);
    }

    /// Sends a change of the definitions.
    pub fn ask_change<'m>(
        &mut self,
        change: Change,
        removal: Option<Removal>,
        method: impl Into<Method<'m>>,
        wire: &mut Wire<'_>,
    ) {
        let operation = wire.witness.begin_change(change);
        self.ask(method, Asked::Change(change, operation, removal), wire);
    }

    /// Sends `channel.close`.
    pub fn close(&mut self, wire: &mut Wire<'_>) {
        let close = ChannelClose {
            reply_code: 200,
            reply_text: ShortStr::from_static("done"),
            class_id: 0,
            method_id: 0,
        };
        close.encode_frame(self.number, wire.out);
        self.phase = Phase::Closing;
        self.orphan_requests(wire.connection, wire.witness);
        self.unconfirmed.clear();
    }

    /// Whether nothing is unanswered.
    pub fn is_quiet(&self) -> bool {
        self.phase == Phase::Open && self.asked.is_empty() && self.unconfirmed.is_empty()
    }

    /// Whether it is open and nothing stands in its way.
    pub fn is_usable(&self) -> bool {
        self.phase == Phase::Open && !self.recovering && !self.provoked
    }

    /// Nobody will hear the answers: what they would have said stays unknown.
    pub fn orphan_requests(&mut self, connection: ConnectionId, witness: &mut Witness) {
        for asked in self.asked.drain(..) {
            match asked {
                Asked::Change(_, operation, removal) => {
                    witness.orphan(connection, Orphan::Operation(operation));
                    if let Some(removal) = removal {
                        witness.orphan(connection, Orphan::Removal(removal));
                    }
                }
                Asked::Purge(removal) => witness.orphan(connection, Orphan::Removal(removal)),
                Asked::Open
                | Asked::ConfirmSelect
                | Asked::Qos
                | Asked::Inequivalent
                | Asked::Probe(..)
                | Asked::Consume(_)
                | Asked::Cancel(_)
                | Asked::Get(..)
                | Asked::Recover
                | Asked::TxSelect
                | Asked::Commit(..)
                | Asked::Rollback(_) => {}
            }
        }
    }

    /// Forgets held deliveries that were settled, and says so in the history.
    pub fn settled(&mut self, tags: &[u64], settlement: Settlement, witness: &mut Witness) {
        for tag in tags {
            let Some(held) = self.unacked.remove(tag) else {
                continue;
            };
            witness.history.push(Fact::Settled {
                emission: held.emission,
                settlement,
            });
            if let Some(consumer) = held.consumer.and_then(|tag| self.consumers.get_mut(&tag)) {
                consumer.held -= 1;
            }
        }
    }
}
