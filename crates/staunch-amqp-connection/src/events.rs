//! What the node says, written to the client.

use std::{collections::VecDeque, time::Duration};

use staunch_amqp_codec::{
    content::{encode_ack, encode_nack},
    methods::{
        BasicAck, BasicCancel, BasicCancelOk, BasicConsumeOk, BasicGetEmpty, BasicGetOk, BasicNack,
        ChannelClose, ChannelCloseOk, ChannelOpenOk, ConnectionBlocked, ConnectionUnblocked,
        ConnectionUpdateSecretOk, ExchangeBindOk, ExchangeDeclareOk, ExchangeDeleteOk,
        ExchangeUnbindOk, QueueBindOk, QueueDeclareOk, QueueDeleteOk, QueuePurgeOk, QueueUnbindOk,
        TxCommitOk,
    },
    wire::ShortStr,
};
use staunch_types::{
    ChannelNumber, ConsumerKey, Delivery, Event, Name, Operation, PublishSeq, Refusal, Reply,
    Request, Timestamp,
};

use crate::{
    channel::{Channel, ChannelState},
    confirms::{Confirm, Verdict},
    connection::{Connection, PublishStall},
    error::{Fault, MethodId, PeerError, Scope},
    output::short,
    pending::{Awaited, Pending, WriteReply},
    refusal,
    unacked::UNACKED_PER_CHANNEL_MAX,
};

const UPDATE_SECRET: MethodId = MethodId(10, 70);

impl Connection {
    /// Takes what the node says. After the connection is over, only `ConnectionClosed` counts, and
    /// `Forced`, if the client is waiting for its end.
    ///
    /// # Panics
    /// If the node breaks the contract of [`Event`]: an answer nobody asked for, a publish
    /// confirmed twice.
    pub fn handle_event(&mut self, event: Event, now: Timestamp) {
        self.now = now;
        if self.is_released() {
            match event {
                Event::ConnectionClosed => self.handle_connection_closed(),
                Event::Forced { .. } => self.withhold_close_ok(),
                _ => {}
            }
            return;
        }
        match event {
            Event::Delivery(delivery) => self.deliver(&delivery),
            Event::Confirmed {
                channel,
                first,
                last,
            } => {
                self.resolve(channel, first, last, Verdict::Confirmed);
            }
            Event::Nacked {
                channel,
                first,
                last,
            } => {
                self.resolve(channel, first, last, Verdict::Nacked);
            }
            Event::Returned {
                channel,
                reason: _,
                message,
            } => {
                if self.channels.get_open(channel).is_some() {
                    self.output.returned(channel.0, &message, self.frame_max);
                }
            }
            Event::Reply { channel, reply } => self.handle_reply(channel, reply),
            Event::Refused {
                channel,
                operation,
                refusal,
            } => {
                self.handle_refused(channel, operation, &refusal);
            }
            Event::ConsumerCancelled { channel, consumer } => {
                self.handle_consumer_cancelled(channel, consumer);
            }
            Event::ChannelClosed { channel } => self.handle_channel_closed(channel),
            Event::LoginAccepted { user } => self.handle_login_accepted(user),
            Event::LoginRefused => self.handle_login_refused(),
            Event::VhostOpened => self.handle_vhost_opened(),
            Event::VhostRefused(refusal) => self.handle_vhost_refused(&refusal),
            Event::SecretUpdated => {
                self.take_pending_of_connection();
                self.output.method(0, ConnectionUpdateSecretOk);
            }
            Event::SecretRefused => {
                self.take_pending_of_connection();
                self.fail_connection(&PeerError::SecretRefused.into_fault(UPDATE_SECRET));
            }
            Event::ChannelOpened { channel } => self.handle_channel_opened(channel),
            Event::ConnectionRefused { operation, refusal } => {
                self.force_close(&refusal::fault(operation, &refusal));
            }
            Event::Forced { reason } => self.handle_forced(reason),
            Event::ConnectionClosed => self.handle_connection_closed(),
            Event::Alarm { memory, disk } => self.handle_alarm(memory, disk),
            Event::PublishesHeld { is_held } => self.handle_held(is_held),
            Event::Slowed { reason } => self.handle_slowed(reason),
            Event::Shutdown => self.handle_shutdown(),
        }
    }

    #[inline]
    fn deliver(&mut self, delivery: &Delivery) {
        let next = self
            .channels
            .get_open(delivery.channel)
            .and_then(|channel| channel.next_delivery(delivery));
        match next {
            Some((consumer, tag)) => {
                self.output
                    .deliver(&consumer.frame, tag, delivery, self.frame_max);
                if !delivery.settled {
                    self.ack_timer.arm(self.now);
                }
            }
            // The channel is closing: the node requeues what is unsettled.
            None => self.output.drop_delivery(delivery),
        }
    }

    /// Whether drained bytes are kept from the node, so that it stops delivering to a client
    /// that settles nothing.
    pub(crate) fn is_node_held_back(&self) -> bool {
        self.channels
            .iter()
            .any(|channel| channel.unacked.count() >= UNACKED_PER_CHANNEL_MAX)
    }

    fn resolve(
        &mut self,
        number: ChannelNumber,
        first: PublishSeq,
        last: PublishSeq,
        verdict: Verdict,
    ) {
        let Some(channel) = self.channels.get_open(number) else {
            return;
        };
        let confirms = channel
            .confirms
            .as_mut()
            .expect("only numbered publishes are confirmed");
        if !confirms.has_unsent() {
            self.confirms_unsent.push(number.0);
        }
        confirms.resolve(first, last, verdict);
        if self.publish_stall == Some(PublishStall::Confirms(number)) && !confirms.is_full() {
            self.publish_stall = None;
        }
    }

    /// Writes the confirms that have gathered. Returned messages were written when they came, so
    /// they stand before their confirms (contract C3).
    pub(crate) fn flush_confirms(&mut self) {
        let mut unsent = std::mem::take(&mut self.confirms_unsent);
        for number in unsent.drain(..) {
            let confirms = self.channels.get(number).and_then(|c| c.confirms.as_mut());
            let Some(confirms) = confirms else { continue };
            let out = self.output.buffer();
            confirms.take_unsent(|confirm| match confirm {
                Confirm::Ack(seq) => {
                    encode_ack(
                        out,
                        number,
                        BasicAck {
                            delivery_tag: seq,
                            multiple: false,
                        },
                    );
                }
                Confirm::AckUpTo(seq) => {
                    encode_ack(
                        out,
                        number,
                        BasicAck {
                            delivery_tag: seq,
                            multiple: true,
                        },
                    );
                }
                Confirm::Nack(seq) => {
                    let nack = BasicNack {
                        delivery_tag: seq,
                        multiple: false,
                        // Means nothing from this side; RabbitMQ leaves the bit at its default.
                        requeue: true,
                    };
                    encode_nack(out, number, nack);
                }
            });
        }
        // Its capacity serves the next batch.
        self.confirms_unsent = unsent;
    }

    /// The pending request, whose answer has come.
    fn take_pending(&mut self, number: ChannelNumber) -> Pending {
        let pending = self.pending.pop_front();
        let pending = pending.expect("the node answers what was asked");
        if self.pending.is_empty() {
            self.pending = VecDeque::new();
        }
        assert_eq!(
            pending.channel, number,
            "the node answers on the channel it was asked on"
        );
        pending
    }

    fn take_pending_of_connection(&mut self) {
        let awaited = self.take_pending(ChannelNumber(0)).awaited;
        assert!(
            matches!(awaited, Awaited::SecretUpdated),
            "the node answered {awaited:?} with word of a secret"
        );
    }

    fn handle_channel_opened(&mut self, number: ChannelNumber) {
        let awaited = self.take_pending(number).awaited;
        assert!(
            matches!(awaited, Awaited::ChannelOpened),
            "the node answered {awaited:?} with an open channel"
        );
        self.channels.insert(Channel::new(number));
        let channel_id = b"";
        self.output.method(number.0, ChannelOpenOk { channel_id });
    }

    fn handle_reply(&mut self, number: ChannelNumber, reply: Reply) {
        if self.channels.get_open(number).is_none() {
            return self.drop_reply(&reply);
        }
        let Pending { write, awaited, .. } = self.take_pending(number);
        self.open_channel(number).may_be_refused = false;
        match (awaited, reply) {
            (Awaited::Synced { answer }, Reply::Synced) => self.output.method(number.0, *answer),
            (Awaited::Mistake { fault }, Reply::Synced) => self.fail_channel(number, &fault),
            (Awaited::Close, Reply::Synced) => self.close_channel_for_client(number),
            (Awaited::Cancelled { tag }, Reply::Synced) => {
                let consumer_tag = short(&tag);
                self.write_if(write, number, BasicCancelOk { consumer_tag });
            }
            (Awaited::QueueDeleted { cancelled }, Reply::QueueDeleted { count }) => {
                self.write_deleted(number, write, count, &cancelled);
            }
            (
                Awaited::QueueDeclared { queue },
                Reply::QueueDeclared {
                    ready_count,
                    consumer_count,
                },
            ) => {
                let method = QueueDeclareOk {
                    queue: short(&queue),
                    message_count: saturated(ready_count),
                    consumer_count,
                };
                self.write_if(write, number, method);
                self.open_channel(number).queue_declared_last = Some(queue);
            }
            (
                Awaited::Consuming { tag },
                Reply::Consuming {
                    consumer,
                    consumer_timeout,
                },
            ) => self.begin_consuming(number, write, &tag, &[consumer], consumer_timeout),
            (
                Awaited::Consuming { tag },
                Reply::ConsumingSplit {
                    consumers,
                    consumer_timeout,
                },
            ) => self.begin_consuming(number, write, &tag, &consumers, consumer_timeout),
            (Awaited::ConsumingReplies { tag }, Reply::Consuming { consumer, .. }) => {
                let consumer_tag = short(&tag);
                self.write_if(write, number, BasicConsumeOk { consumer_tag });
                let channel = self.open_channel(number);
                channel.add_consumers(&[consumer], &tag, None);
                channel.reply_consumer = Some(consumer);
            }
            (Awaited::Cancelled { tag }, Reply::Cancelled { consumer }) => {
                self.open_channel(number).remove_whole_consumer(consumer);
                let consumer_tag = short(&tag);
                self.write_if(write, number, BasicCancelOk { consumer_tag });
            }
            (
                Awaited::Got,
                Reply::Got {
                    delivery,
                    ready_count,
                },
            ) => {
                self.write_got(number, &delivery, ready_count);
            }
            (awaited, reply) => self.write_plain_reply(number, write, &awaited, &reply),
        }
    }

    /// `basic.consume-ok`; several consumers are those of a queue's partitions.
    fn begin_consuming(
        &mut self,
        number: ChannelNumber,
        write: WriteReply,
        tag: &Name,
        consumers: &[ConsumerKey],
        timeout: Option<Duration>,
    ) {
        let consumer_tag = short(tag);
        self.write_if(write, number, BasicConsumeOk { consumer_tag });
        if let Some(timeout) = timeout {
            self.ack_timer.cover(timeout);
        }
        self.open_channel(number)
            .add_consumers(consumers, tag, timeout);
    }

    /// An answer that crossed with the refusal of something earlier on the channel.
    fn drop_reply(&mut self, reply: &Reply) {
        if let Reply::Got { delivery, .. } = reply {
            self.output.drop_delivery(delivery);
        }
    }

    /// The answer to `queue.delete`, then word of the consumers that went with the queue.
    fn write_deleted(
        &mut self,
        number: ChannelNumber,
        write: WriteReply,
        count: u64,
        cancelled: &[Name],
    ) {
        let message_count = saturated(count);
        self.write_if(write, number, QueueDeleteOk { message_count });
        for tag in cancelled {
            self.write_cancel(number, tag);
        }
    }

    /// Answers that carry at most a number.
    fn write_plain_reply(
        &mut self,
        number: ChannelNumber,
        write: WriteReply,
        awaited: &Awaited,
        reply: &Reply,
    ) {
        match (awaited, reply) {
            (Awaited::Got, Reply::GotNothing) => {
                let cluster_id = ShortStr::EMPTY;
                self.output.method(number.0, BasicGetEmpty { cluster_id });
            }
            (Awaited::Committed, Reply::Committed) => self.output.method(number.0, TxCommitOk),
            (Awaited::ExchangeDeclared, Reply::ExchangeDeclared) => {
                self.write_if(write, number, ExchangeDeclareOk);
            }
            (Awaited::ExchangeDeleted, Reply::ExchangeDeleted) => {
                self.write_if(write, number, ExchangeDeleteOk);
            }
            (Awaited::ExchangeBound, Reply::Bound) => self.write_if(write, number, ExchangeBindOk),
            (Awaited::ExchangeUnbound, Reply::Unbound) => {
                self.write_if(write, number, ExchangeUnbindOk);
            }
            (Awaited::QueueBound, Reply::Bound) => self.write_if(write, number, QueueBindOk),
            (Awaited::QueueUnbound, Reply::Unbound) => self.write_if(write, number, QueueUnbindOk),
            (Awaited::QueuePurged, Reply::QueuePurged { count }) => {
                let message_count = saturated(*count);
                self.write_if(write, number, QueuePurgeOk { message_count });
            }
            _ => panic!("the node answered {awaited:?} with {reply:?}"),
        }
    }

    fn write_if<'a>(
        &mut self,
        write: WriteReply,
        number: ChannelNumber,
        method: impl Into<staunch_amqp_codec::methods::Method<'a>>,
    ) {
        if write == WriteReply::Yes {
            self.output.method(number.0, method);
        }
    }

    fn write_got(&mut self, number: ChannelNumber, delivery: &Delivery, ready_count: u64) {
        let delivery_tag = self.open_channel(number).next_tag(delivery);
        let message = &delivery.message;
        let method = BasicGetOk {
            delivery_tag,
            redelivered: delivery.redelivered,
            exchange: short(message.exchange()),
            routing_key: short(message.routing_key()),
            message_count: saturated(ready_count),
        };
        self.output.got(method, delivery, self.frame_max);
        if !delivery.settled {
            self.ack_timer.arm(self.now);
        }
    }

    fn handle_refused(&mut self, number: ChannelNumber, operation: Operation, refusal: &Refusal) {
        // Closing already: the node's word crossed with ours.
        if self.channels.get_open(number).is_none() {
            return;
        }
        let fault = refusal::fault(operation, refusal);
        let is_closing = self.pending.front().is_some_and(|pending| {
            pending.channel == number && matches!(pending.awaited, Awaited::Close)
        });
        match fault.code.scope() {
            Scope::Channel => {
                self.fail_channel(number, &fault);
                if is_closing {
                    // The client's own close crossed with this one.
                    self.output.method(number.0, ChannelCloseOk);
                }
            }
            Scope::Connection => self.fail_connection(&fault),
        }
    }

    fn handle_consumer_cancelled(&mut self, number: ChannelNumber, consumer: ConsumerKey) {
        let Some(channel) = self.channels.get_open(number) else {
            return;
        };
        let Some(consumer) = channel.remove_consumer(consumer) else {
            return;
        };
        if !self.client.knows_cancel || consumer.part_of.is_some() {
            return;
        }
        if let Some(pending) = self.pending.front_mut()
            && pending.channel == number
            && let Awaited::QueueDeleted { cancelled } = &mut pending.awaited
        {
            return cancelled.push(consumer.tag);
        }
        self.write_cancel(number, &consumer.tag);
    }

    fn write_cancel(&mut self, number: ChannelNumber, tag: &[u8]) {
        let consumer_tag = short(tag);
        self.output.method(
            number.0,
            BasicCancel {
                consumer_tag,
                nowait: true,
            },
        );
    }

    /// Sends `channel.close` and lets the node know.
    pub(crate) fn fail_channel(&mut self, number: ChannelNumber, fault: &Fault) {
        self.release_channel(number, ChannelState::ClosedByServer);
        self.output.method(
            number.0,
            ChannelClose {
                reply_code: fault.code.code(),
                reply_text: ShortStr::truncated(&fault.to_string()),
                class_id: fault.method.0,
                method_id: fault.method.1,
            },
        );
    }

    pub(crate) fn close_channel_for_client(&mut self, number: ChannelNumber) {
        self.release_channel(number, ChannelState::ClosedByClient);
    }

    /// Tells the node that the channel is over; reading stops until it has answered.
    fn release_channel(&mut self, number: ChannelNumber, state: ChannelState) {
        self.flush_confirms();
        let channel = self.open_channel(number);
        let assembling = channel
            .assembly
            .as_ref()
            .map_or(0, |assembly| assembly.size_bytes());
        channel.close(state);
        self.assembling_size_bytes -= assembling;
        self.channels_closing_count += 1;
        if self
            .pending
            .front()
            .is_some_and(|pending| pending.channel == number)
        {
            // The node answers nothing more on a channel it has refused something on.
            self.pending = VecDeque::new();
        }
        if self.publish_stall == Some(PublishStall::Confirms(number)) {
            self.publish_stall = None;
        }
        self.requests
            .push(Request::CloseChannel { channel: number });
    }

    fn handle_channel_closed(&mut self, number: ChannelNumber) {
        let channel = self
            .channels
            .get(number.0)
            .expect("the node closes channels that exist");
        match channel.state {
            ChannelState::ClosedByClient => {
                self.channels.remove(number.0);
                self.output.method(number.0, ChannelCloseOk);
            }
            ChannelState::ClosedByServer => channel.state = ChannelState::AwaitingCloseOk,
            ChannelState::Open | ChannelState::AwaitingCloseOk => {
                panic!("the node closed channel {number} unasked")
            }
        }
        self.channels_closing_count -= 1;
    }

    fn handle_alarm(&mut self, memory: bool, disk: bool) {
        self.alarms.set(memory, disk);
        if memory || disk {
            self.announce_alarm();
            return;
        }
        self.end_stall();
        self.retract_alarm();
    }

    fn handle_slowed(&mut self, reason: Option<Box<str>>) {
        self.alarms.slow(reason);
        self.announce_alarm();
        self.retract_alarm();
    }

    fn retract_alarm(&mut self) {
        if self.alarms.retract() && self.client.knows_blocked {
            self.output.method(0, ConnectionUnblocked);
        }
    }

    fn handle_shutdown(&mut self) {
        let reason = "broker forced connection closure with reason 'shutdown'";
        self.handle_forced(reason.to_owned());
    }

    fn handle_held(&mut self, is_held: bool) {
        self.alarms.hold(is_held);
        self.end_stall();
    }

    /// Reads on where a publish had to wait, if it need not any more.
    fn end_stall(&mut self) {
        if !self.alarms.any() && self.publish_stall == Some(PublishStall::Alarm) {
            self.publish_stall = None;
        }
    }

    /// Tells a client that publishes why it has to wait, once.
    pub(crate) fn announce_alarm(&mut self) {
        if let Some(reason) = self.alarms.announce()
            && self.client.knows_blocked
        {
            self.output.method(
                0,
                ConnectionBlocked {
                    reason: ShortStr::truncated(&reason),
                },
            );
        }
    }
}

/// Counts on the wire have 32 bits.
fn saturated(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
