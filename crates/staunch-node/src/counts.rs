//! What has happened, counted.
//!
//! Plain numbers that lie beside data which is touched anyway: no table is asked on the road of a
//! message, and nothing is counted twice. What a node, a virtual host or an exchange type has done
//! is added up by whoever takes samples (`sample`), never here.

use std::collections::BTreeMap;

use staunch_types::Name;

/// Exchanges that are counted between two samples; what others do is not told apart.
const EXCHANGES_COUNTED_MAX: usize = 100_000;

/// What happened in a queue since this process has it. Publishes are counted by the queue itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Messages that were enqueued.
    pub publish: u64,
    /// Bytes of their bodies.
    pub publish_body_bytes: u64,
    /// Deliveries to consumers that acknowledge.
    pub deliver: u64,
    /// Deliveries to consumers that do not.
    pub deliver_no_ack: u64,
    /// Messages got that are to be acknowledged.
    pub get: u64,
    /// Messages got that are not.
    pub get_no_ack: u64,
    /// Gets that found nothing.
    pub get_empty: u64,
    /// Those of all these that may have been handed out before.
    pub redeliver: u64,
    /// Messages acknowledged.
    pub ack: u64,
    /// Messages that died because their time was up.
    pub expired: u64,
    /// Messages that died because the queue was full.
    pub overflowed: u64,
    /// Messages that consumers refused without requeue.
    pub rejected: u64,
    /// Messages that were given back too often.
    pub returned_too_often: u64,
}

/// What a channel did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelCounts {
    /// Messages published.
    pub publish: u64,
    /// Those of them that were numbered, to be confirmed.
    pub numbered: u64,
    /// Publishes confirmed.
    pub confirm: u64,
    /// Publishes that were refused instead (`basic.nack`).
    pub refused: u64,
    /// Messages sent back because no queue took them (`basic.return`).
    pub return_unroutable: u64,
    /// Messages that no queue took and nobody wanted back.
    pub drop_unroutable: u64,
    /// Deliveries to consumers that acknowledge.
    pub deliver: u64,
    /// Deliveries to consumers that do not.
    pub deliver_no_ack: u64,
    /// Messages got that are to be acknowledged.
    pub get: u64,
    /// Messages got that are not.
    pub get_no_ack: u64,
    /// Gets that found nothing.
    pub get_empty: u64,
    /// Those of all these that may have been handed out before.
    pub redeliver: u64,
    /// Messages acknowledged.
    pub ack: u64,
}

/// What an exchange passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExchangeCounts {
    /// Messages published to it.
    pub publish_in: u64,
    /// Copies that went from it into queues.
    pub publish_out: u64,
}

/// What came and went on this node since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Churn {
    /// Connections that opened a virtual host.
    pub connection_created: u64,
    /// Those of them that are over.
    pub connection_closed: u64,
    /// Channels opened.
    pub channel_created: u64,
    /// Channels closed.
    pub channel_closed: u64,
    /// Declarations of queues by clients of this node.
    pub queue_declared: u64,
    /// Queues that this made.
    pub queue_created: u64,
    /// Queues that are gone.
    pub queue_deleted: u64,
}

/// How a message was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandedOut {
    Delivered,
    Got,
}

impl QueueCounts {
    /// Adds what happened in a queue between `before` and `now`.
    pub fn grow(&mut self, before: &Self, now: &Self) {
        let grown = |of: fn(&Self) -> u64| of(now).saturating_sub(of(before));
        self.publish += grown(|it| it.publish);
        self.publish_body_bytes += grown(|it| it.publish_body_bytes);
        self.deliver += grown(|it| it.deliver);
        self.deliver_no_ack += grown(|it| it.deliver_no_ack);
        self.get += grown(|it| it.get);
        self.get_no_ack += grown(|it| it.get_no_ack);
        self.get_empty += grown(|it| it.get_empty);
        self.redeliver += grown(|it| it.redeliver);
        self.ack += grown(|it| it.ack);
        self.expired += grown(|it| it.expired);
        self.overflowed += grown(|it| it.overflowed);
        self.rejected += grown(|it| it.rejected);
        self.returned_too_often += grown(|it| it.returned_too_often);
    }

    pub(crate) fn count(&mut self, how: HandedOut, is_settled: bool, is_redelivered: bool) {
        *match (how, is_settled) {
            (HandedOut::Delivered, false) => &mut self.deliver,
            (HandedOut::Delivered, true) => &mut self.deliver_no_ack,
            (HandedOut::Got, false) => &mut self.get,
            (HandedOut::Got, true) => &mut self.get_no_ack,
        } += 1;
        self.redeliver += u64::from(is_redelivered);
    }
}

impl ChannelCounts {
    pub(crate) fn count(&mut self, how: HandedOut, is_settled: bool, is_redelivered: bool) {
        *match (how, is_settled) {
            (HandedOut::Delivered, false) => &mut self.deliver,
            (HandedOut::Delivered, true) => &mut self.deliver_no_ack,
            (HandedOut::Got, false) => &mut self.get,
            (HandedOut::Got, true) => &mut self.get_no_ack,
        } += 1;
        self.redeliver += u64::from(is_redelivered);
    }

    /// Publishes that wait for their confirm.
    #[must_use]
    pub fn unconfirmed(&self) -> u64 {
        self.numbered.saturating_sub(self.confirm + self.refused)
    }

    /// Adds up what two channels did.
    pub fn add(&mut self, other: &Self) {
        self.publish += other.publish;
        self.numbered += other.numbered;
        self.confirm += other.confirm;
        self.refused += other.refused;
        self.return_unroutable += other.return_unroutable;
        self.drop_unroutable += other.drop_unroutable;
        self.deliver += other.deliver;
        self.deliver_no_ack += other.deliver_no_ack;
        self.get += other.get;
        self.get_no_ack += other.get_no_ack;
        self.get_empty += other.get_empty;
        self.redeliver += other.redeliver;
        self.ack += other.ack;
    }
}

/// Counts exchanges. Publishers send runs of messages to one exchange: a run is counted in place,
/// and a table is asked only when another exchange's turn comes.
#[derive(Debug, Default)]
pub(crate) struct ExchangeTally {
    vhost: Vec<u8>,
    exchange: Vec<u8>,
    run: ExchangeCounts,
    counted: BTreeMap<(Name, Name), ExchangeCounts>,
}

impl ExchangeTally {
    /// One more message to the exchange of the run.
    #[inline]
    pub(crate) fn count(&mut self, copies: usize) {
        self.run.publish_in += 1;
        self.run.publish_out += copies as u64;
    }

    /// The messages that are counted from now on went to this exchange.
    pub(crate) fn turn_to(&mut self, vhost: &[u8], exchange: &[u8]) {
        if self.exchange == exchange && self.vhost == vhost {
            return;
        }
        self.end_run();
        self.vhost.clear();
        self.vhost.extend_from_slice(vhost);
        self.exchange.clear();
        self.exchange.extend_from_slice(exchange);
    }

    /// What was counted since this was last asked.
    pub(crate) fn take(&mut self) -> BTreeMap<(Name, Name), ExchangeCounts> {
        self.end_run();
        std::mem::take(&mut self.counted)
    }

    fn end_run(&mut self) {
        let run = std::mem::take(&mut self.run);
        if run.publish_in == 0 {
            return;
        }
        let name = |bytes| Name::new(bytes).expect("the name of something that is declared");
        let key = (name(&self.vhost), name(&self.exchange));
        if self.counted.len() >= EXCHANGES_COUNTED_MAX && !self.counted.contains_key(&key) {
            return;
        }
        let counts = self.counted.entry(key).or_default();
        counts.publish_in += run.publish_in;
        counts.publish_out += run.publish_out;
    }
}
