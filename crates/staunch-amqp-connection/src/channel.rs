//! One channel: what the client has set up on it and what is under way.

use std::time::Duration;

use staunch_types::{
    ChannelNumber, ConsumerKey, Name, Outcome, PublishSeq, Request, request::Settle,
};

use crate::{
    ack_timeout::AckMarks,
    confirms::Confirms,
    error::PeerError,
    output::DeliverFrame,
    publish::Assembly,
    tx::Tx,
    unacked::{SettleScope, Unacked, UnackedDeliveries},
};

/// Consumers a channel may have.
pub const CONSUMERS_PER_CHANNEL_MAX: usize = 10_000;

/// Where a channel is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChannelState {
    /// In use.
    Open,
    /// The client closed it; the node has yet to answer.
    ClosedByClient,
    /// Closed for an error; the node has yet to answer.
    ClosedByServer,
    /// As before, and the node has answered; the client's `close-ok` is missing.
    AwaitingCloseOk,
}

/// A consumer as the client and as the node know it.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) key: ConsumerKey,
    pub(crate) tag: Name,
    pub(crate) frame: DeliverFrame,
    /// How long its deliveries may stay unsettled, if its queue says so.
    pub(crate) timeout: Option<Duration>,
    /// It is for a partition of its queue, and the client's consumer is the one with this key.
    pub(crate) part_of: Option<ConsumerKey>,
}

/// A channel that is open or not yet gone.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) number: ChannelNumber,
    pub(crate) state: ChannelState,
    /// Present in confirm mode.
    pub(crate) confirms: Option<Confirms>,
    /// Present in transaction mode.
    pub(crate) tx: Option<Box<Tx>>,
    pub(crate) unacked: UnackedDeliveries,
    pub(crate) ack_marks: AckMarks,
    /// The consumer of direct replies, of which there is at most one.
    pub(crate) reply_consumer: Option<ConsumerKey>,
    /// Limit for consumers to come (AMQP 0-9-1, basic.qos without `global`); 0 is none.
    pub(crate) prefetch: u16,
    /// Limit for all of its consumers together (`basic.qos` with `global`); 0 is none.
    pub(crate) prefetch_together: u16,
    /// What an empty queue name stands for.
    pub(crate) queue_declared_last: Option<Name>,
    /// It has published since the node last answered on it: a refusal may be on its way.
    pub(crate) may_be_refused: bool,
    /// A publish whose content is not complete.
    pub(crate) assembly: Option<Box<Assembly>>,
    /// Ordered by key.
    consumers: Vec<Consumer>,
    /// Place of the consumer found last.
    consumer_hint: usize,
}

impl Channel {
    pub(crate) fn new(number: ChannelNumber) -> Self {
        Self {
            number,
            state: ChannelState::Open,
            confirms: None,
            tx: None,
            unacked: UnackedDeliveries::new(),
            ack_marks: AckMarks::default(),
            reply_consumer: None,
            prefetch: 0,
            prefetch_together: 0,
            queue_declared_last: None,
            may_be_refused: false,
            assembly: None,
            consumers: Vec::new(),
            consumer_hint: 0,
        }
    }

    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.state == ChannelState::Open
    }

    /// Forgets everything but its number: from here on it only waits to be gone.
    pub(crate) fn close(&mut self, state: ChannelState) {
        *self = Self {
            state,
            ..Self::new(self.number)
        };
    }

    /// A number for a publish, in confirm mode.
    #[inline]
    pub(crate) fn number_publish(&mut self) -> Option<PublishSeq> {
        self.confirms.as_mut().map(Confirms::number)
    }

    /// Whether so many publishes are unconfirmed that the next must wait.
    #[inline]
    pub(crate) fn is_confirms_full(&self) -> bool {
        self.confirms.as_ref().is_some_and(Confirms::is_full)
    }

    /// Settles what `scope` names: appends the requests for it or, in a transaction, holds it.
    ///
    /// # Errors
    /// [`PeerError::UnknownDeliveryTag`], [`PeerError::TxTooLarge`].
    #[inline]
    pub(crate) fn settle(
        &mut self,
        scope: SettleScope,
        outcome: Outcome,
        requests: &mut Vec<Request>,
    ) -> Result<(), PeerError> {
        if self.tx.is_some() {
            return self.hold(scope, outcome);
        }
        let channel = self.number;
        let settled = |_, delivery| push_settle(requests, single(channel, delivery, outcome));
        Ok(self.unacked.settle(scope, settled)?)
    }

    /// Holds back what the transaction settles.
    #[cold]
    fn hold(&mut self, scope: SettleScope, outcome: Outcome) -> Result<(), PeerError> {
        let tx = self.tx.as_mut().expect("the channel is in a transaction");
        self.unacked
            .settle(scope, |tag, delivery| tx.hold(tag, delivery, outcome))?;
        tx.check_size()
    }

    /// Requeues everything outstanding, transaction or not: `basic.recover` takes part in none.
    #[cold]
    pub(crate) fn recover(&mut self, requests: &mut Vec<Request>) {
        let channel = self.number;
        let outcome = Outcome::Requeue;
        let requeued = |_, delivery| push_settle(requests, single(channel, delivery, outcome));
        self.unacked
            .settle(SettleScope::All, requeued)
            .expect("all are outstanding");
    }

    /// What an empty queue name stands for, or the name itself.
    ///
    /// # Errors
    /// [`PeerError::NoQueueDeclared`].
    pub(crate) fn queue_or_last(&self, name: Name) -> Result<Name, PeerError> {
        if name.is_empty() {
            return self
                .queue_declared_last
                .clone()
                .ok_or(PeerError::NoQueueDeclared);
        }
        Ok(name)
    }

    pub(crate) fn consumer_count(&self) -> usize {
        let whole = self.consumers.iter();
        whole.filter(|consumer| consumer.part_of.is_none()).count()
    }

    pub(crate) fn consumer_by_tag(&self, tag: &[u8]) -> Option<&Consumer> {
        let mut all = self.consumers.iter();
        all.find(|consumer| &*consumer.tag == tag && consumer.part_of.is_none())
    }

    pub(crate) fn consumer_by_key(&self, key: ConsumerKey) -> Option<&Consumer> {
        let place = self.place_of_consumer(key)?;
        Some(&self.consumers[place])
    }

    /// Adds a consumer, which has several keys if its queue has partitions. The first stands for
    /// all of them.
    pub(crate) fn add_consumers(
        &mut self,
        keys: &[ConsumerKey],
        tag: &Name,
        timeout: Option<Duration>,
    ) {
        for key in keys {
            let part_of = keys.first().copied().filter(|first| first != key);
            self.add_consumer(*key, tag.clone(), timeout, part_of);
        }
    }

    fn add_consumer(
        &mut self,
        key: ConsumerKey,
        tag: Name,
        timeout: Option<Duration>,
        part_of: Option<ConsumerKey>,
    ) {
        let frame = DeliverFrame::new(self.number.0, &tag);
        let place = self
            .consumers
            .partition_point(|consumer| consumer.key < key);
        let consumer = Consumer {
            key,
            tag,
            frame,
            timeout,
            part_of,
        };
        self.consumers.insert(place, consumer);
    }

    pub(crate) fn remove_consumer(&mut self, key: ConsumerKey) -> Option<Consumer> {
        let place = self.place_of_consumer(key)?;
        if self.reply_consumer == Some(key) {
            self.reply_consumer = None;
        }
        Some(self.consumers.remove(place))
    }

    /// Removes a consumer that the client has cancelled, with its parts.
    pub(crate) fn remove_whole_consumer(&mut self, key: ConsumerKey) {
        self.remove_consumer(key);
        self.consumers
            .retain(|consumer| consumer.part_of != Some(key));
    }

    fn place_of_consumer(&self, key: ConsumerKey) -> Option<usize> {
        self.consumers
            .binary_search_by_key(&key, |consumer| consumer.key)
            .ok()
    }

    /// The consumer and its next delivery tag.
    #[inline]
    pub(crate) fn next_delivery(
        &mut self,
        delivery: &staunch_types::Delivery,
    ) -> Option<(&Consumer, u64)> {
        let key = delivery.consumer;
        if self
            .consumers
            .get(self.consumer_hint)
            .is_none_or(|consumer| consumer.key != key)
        {
            self.consumer_hint = self.place_of_consumer(key)?;
        }
        let tag = self.next_tag(delivery);
        Some((&self.consumers[self.consumer_hint], tag))
    }

    /// The delivery tag of a delivery.
    #[inline]
    pub(crate) fn next_tag(&mut self, delivery: &staunch_types::Delivery) -> u64 {
        let &staunch_types::Delivery {
            consumer,
            queue,
            index,
            settled,
            ..
        } = delivery;
        if settled {
            self.unacked.push_settled()
        } else {
            self.unacked.push(Unacked {
                consumer,
                queue,
                index,
            })
        }
    }

    pub(crate) fn check_invariants(&self) {
        self.unacked.check_invariants();
        if let Some(confirms) = &self.confirms {
            confirms.check_invariants();
        }
        assert!(
            self.consumers.is_sorted_by(|a, b| a.key < b.key),
            "consumers are ordered by their distinct keys"
        );
        assert!(
            self.confirms.is_none() || self.tx.is_none(),
            "a channel is in one mode"
        );
        let is_bare = self.consumers.is_empty() && self.unacked.count() == 0 && self.tx.is_none();
        assert!(self.is_open() || is_bare, "a closed channel holds nothing");
    }
}

/// The settlement of one delivery.
#[inline]
pub(crate) fn single(channel: ChannelNumber, delivery: Unacked, outcome: Outcome) -> Settle {
    let Unacked {
        consumer,
        queue,
        index,
    } = delivery;
    Settle {
        channel,
        consumer,
        queue,
        first: index,
        count: 1,
        outcome,
    }
}

/// Adds `next` to `last` if it continues it.
#[inline]
pub(crate) fn widen(last: &mut Settle, next: &Settle) -> bool {
    let continues = last.channel == next.channel
        && last.consumer == next.consumer
        && last.queue == next.queue
        && last.outcome == next.outcome
        && last.first.0 + u64::from(last.count) == next.first.0
        && last.count < u32::MAX;
    last.count += u32::from(continues);
    continues
}

/// Appends a settlement, or widens the one before it if this continues it: a client that acks
/// one by one costs the node one request for a run.
#[inline]
fn push_settle(requests: &mut Vec<Request>, settle: Settle) {
    if let Some(Request::Settle(last)) = requests.last_mut()
        && widen(last, &settle)
    {
        return;
    }
    requests.push(Request::Settle(settle));
}

/// The channels of a connection, ordered by number. A client that uses a few high numbers costs
/// no more than one that uses a few low ones.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    #[expect(
        clippy::vec_box,
        reason = "opening a channel moves pointers, not channels"
    )]
    ordered: Vec<Box<Channel>>,
    /// Place of the channel found last: most connections use one.
    hint: usize,
}

impl Channels {
    pub(crate) fn count(&self) -> usize {
        self.ordered.len()
    }

    #[inline]
    pub(crate) fn get(&mut self, number: u16) -> Option<&mut Channel> {
        if self
            .ordered
            .get(self.hint)
            .is_none_or(|channel| channel.number.0 != number)
        {
            self.hint = self.place(number).ok()?;
        }
        Some(&mut self.ordered[self.hint])
    }

    /// The channel, if it is open.
    #[inline]
    pub(crate) fn get_open(&mut self, number: ChannelNumber) -> Option<&mut Channel> {
        self.get(number.0).filter(|channel| channel.is_open())
    }

    pub(crate) fn insert(&mut self, channel: Channel) {
        let place = self
            .place(channel.number.0)
            .expect_err("a channel is opened once");
        self.ordered.insert(place, Box::new(channel));
    }

    pub(crate) fn remove(&mut self, number: u16) {
        if let Ok(place) = self.place(number) {
            self.ordered.remove(place);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.ordered = Vec::new();
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Channel> {
        self.ordered.iter().map(|channel| &**channel)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Channel> {
        self.ordered.iter_mut().map(|channel| &mut **channel)
    }

    fn place(&self, number: u16) -> Result<usize, usize> {
        self.ordered
            .binary_search_by_key(&number, |channel| channel.number.0)
    }
}
