//! Frames on channels: every method a client may send, and what it asks of the node.
//!
//! A method that the node answers leaves a [`Pending`] behind, and reading stops until the answer
//! is there (see the crate's page for why).

use staunch_amqp_codec::{
    frame::{Frame, FrameKind},
    methods::{
        AccessRequestOk, BasicCancelOk, BasicPublish, BasicQos, BasicQosOk, BasicRecoverOk,
        ChannelCloseOk, ChannelFlowOk, ConfirmSelectOk, Method, TxRollbackOk, TxSelectOk,
    },
    wire::ShortStr,
};
use staunch_types::{ChannelNumber, Name, Outcome, Request, request::Publish};

use crate::{
    channel::{Channel, ChannelState},
    confirms::Confirms,
    connection::{Connection, PublishStall},
    error::{MethodId, PeerError},
    input::{Mistake, Taken, decode_method},
    pending::{Awaited, Pending, WriteReply},
    publish::Assembly,
    tx::Tx,
    unacked::SettleScope,
};

/// Unfinished publishes of a connection may be this many times as large as one message may be.
/// They interleave only if a client publishes on several channels at once.
const UNFINISHED_MESSAGES_MAX: usize = 4;

const PUBLISH: MethodId = MethodId(60, 40);

impl Connection {
    /// Takes a frame on a channel other than 0.
    pub(crate) fn take_channel_frame(&mut self, frame: Frame<'_>) -> Result<Taken, Mistake> {
        let Some(channel) = self.channels.get(frame.channel) else {
            return self.take_first_frame(frame).map(|()| Taken::Yes);
        };
        match channel.state {
            ChannelState::Open if channel.assembly.is_some() => self
                .take_content(frame)
                .map(|()| Taken::Yes)
                .map_err(|error| (error, PUBLISH)),
            ChannelState::Open => match frame.kind {
                FrameKind::Method => {
                    let method = MethodId::of_payload(frame.payload);
                    self.take_channel_method(frame)
                        .map_err(|error| (error, method))
                }
                FrameKind::Header | FrameKind::Body => {
                    Err((PeerError::ContentWithoutMethod, MethodId::default()))
                }
                FrameKind::Heartbeat => {
                    Err((PeerError::unexpected_frame(frame), MethodId::default()))
                }
            },
            ChannelState::AwaitingCloseOk => {
                self.take_frame_after_close(frame);
                Ok(Taken::Yes)
            }
            ChannelState::ClosedByClient | ChannelState::ClosedByServer => {
                unreachable!("input is not read until the node has closed the channel")
            }
        }
    }

    /// A frame on a channel that is not there: only `channel.open` may be.
    fn take_first_frame(&mut self, frame: Frame<'_>) -> Result<(), Mistake> {
        let (number, count) = (frame.channel, self.channels.count());
        let none = MethodId::default();
        match frame.kind {
            FrameKind::Method => {}
            FrameKind::Header | FrameKind::Body => {
                return Err((PeerError::ContentWithoutMethod, none));
            }
            FrameKind::Heartbeat => return Err((PeerError::unexpected_frame(frame), none)),
        }
        let method_id = MethodId::of_payload(frame.payload);
        let Method::ChannelOpen(_) = decode_method(frame.payload)? else {
            return Err((PeerError::ChannelNotOpen, method_id));
        };
        let channel_max = self.channel_max;
        if channel_max != 0 && count >= usize::from(channel_max) {
            return Err((PeerError::TooManyChannels { channel_max }, none));
        }
        let channel = ChannelNumber(number);
        self.requests.push(Request::OpenChannel { channel });
        self.await_reply(channel, WriteReply::Yes, Awaited::ChannelOpened);
        Ok(())
    }

    /// A channel closed for an error only waits for `close-ok`; a close that crossed is answered.
    fn take_frame_after_close(&mut self, frame: Frame<'_>) {
        if frame.kind != FrameKind::Method {
            return;
        }
        match Method::decode(frame.payload) {
            Ok(Method::ChannelCloseOk(_)) => self.channels.remove(frame.channel),
            Ok(Method::ChannelClose(_)) => self.output.method(frame.channel, ChannelCloseOk),
            Ok(_) | Err(_) => {}
        }
    }

    fn take_channel_method(&mut self, frame: Frame<'_>) -> Result<Taken, PeerError> {
        let number = ChannelNumber(frame.channel);
        let method = Method::decode(frame.payload).map_err(PeerError::Method)?;
        if let Method::BasicPublish(publish) = method {
            return self.take_publish(number, &publish);
        }
        match method.ids().0 {
            20 | 30 | 85 | 90 => self.take_channel_class(number, method)?,
            40 => self.take_exchange_class(number, method)?,
            50 => self.take_queue_class(number, method)?,
            60 => self.take_basic_class(number, method)?,
            _ => return Err(PeerError::UnimplementedMethod),
        }
        Ok(Taken::Yes)
    }

    /// `basic.publish` whose frames are taken one by one.
    fn take_publish(
        &mut self,
        number: ChannelNumber,
        publish: &BasicPublish<'_>,
    ) -> Result<Taken, PeerError> {
        if publish.immediate {
            return Err(PeerError::not_implemented("immediate=true"));
        }
        self.alarms.saw_publish();
        if self.alarms.any() {
            self.announce_alarm();
            self.publish_stall = Some(PublishStall::Alarm);
            return Ok(Taken::No);
        }
        let channel = self.open_channel(number);
        if channel.is_confirms_full() {
            self.publish_stall = Some(PublishStall::Confirms(number));
            return Ok(Taken::No);
        }
        let assembly = Box::new(Assembly::new(publish));
        self.assembling_size_bytes += assembly.size_bytes();
        self.open_channel(number).assembly = Some(assembly);
        Ok(Taken::Yes)
    }

    /// A frame of a content under way.
    fn take_content(&mut self, frame: Frame<'_>) -> Result<(), PeerError> {
        let number = ChannelNumber(frame.channel);
        let body_size_bytes_max = self.config.body_size_bytes_max;
        let channel = self
            .channels
            .get_open(number)
            .expect("content is taken on an open channel only");
        let assembly = channel.assembly.as_mut().expect("a content is under way");
        let before = assembly.size_bytes();
        let is_complete = assembly.push(frame, body_size_bytes_max)?;
        self.assembling_size_bytes += assembly.size_bytes() - before;
        let size_bytes_max = body_size_bytes_max.saturating_mul(UNFINISHED_MESSAGES_MAX);
        // A single message is within its own limit, whatever that is.
        if self.assembling_size_bytes > assembly.size_bytes().max(size_bytes_max) {
            return Err(PeerError::UnfinishedTooLarge { size_bytes_max });
        }
        if is_complete && let Some(assembly) = channel.assembly.take() {
            channel.may_be_refused = true;
            self.assembling_size_bytes -= assembly.size_bytes();
            self.requests.push(Request::Publish(Publish {
                channel: number,
                seq: channel.number_publish(),
                mandatory: assembly.mandatory,
                message: assembly.into_message(),
            }));
        }
        Ok(())
    }

    /// Classes channel, access, confirm and tx.
    fn take_channel_class(
        &mut self,
        number: ChannelNumber,
        method: Method<'_>,
    ) -> Result<(), PeerError> {
        match method {
            Method::ChannelOpen(_) => return Err(PeerError::ChannelOpenTwice),
            Method::ChannelClose(_) => self.take_close(number),
            // An answer to a close that was never sent; harmless.
            Method::ChannelCloseOk(_) => {}
            Method::ChannelFlow(flow) if flow.active => {
                self.answer_in_turn(number, ChannelFlowOk { active: true });
            }
            Method::ChannelFlow(_) => return Err(PeerError::not_implemented("active=false")),
            Method::AccessRequest(_) => {
                self.answer_in_turn(number, AccessRequestOk { ticket: 1 });
            }
            Method::ConfirmSelect(select) => {
                let channel = self.open_channel(number);
                if channel.tx.is_some() {
                    return Err(PeerError::ConfirmAfterTx);
                }
                channel.confirms.get_or_insert_with(Confirms::new);
                if !select.nowait {
                    self.answer_in_turn(number, ConfirmSelectOk);
                }
            }
            Method::TxSelect(_) => return self.take_tx_select(number),
            Method::TxCommit(_) => return self.take_tx_commit(number),
            Method::TxRollback(_) => return self.take_tx_rollback(number),
            _ => return Err(PeerError::UnimplementedMethod),
        }
        Ok(())
    }

    fn take_basic_class(
        &mut self,
        number: ChannelNumber,
        method: Method<'_>,
    ) -> Result<(), PeerError> {
        match method {
            Method::BasicAck(ack) => {
                let scope = SettleScope::new(ack.delivery_tag, ack.multiple);
                return self.settle(number, scope, Outcome::Ack);
            }
            Method::BasicNack(nack) => {
                let scope = SettleScope::new(nack.delivery_tag, nack.multiple);
                return self.settle(number, scope, refused(nack.requeue));
            }
            Method::BasicReject(reject) => {
                let scope = SettleScope::One(reject.delivery_tag);
                return self.settle(number, scope, refused(reject.requeue));
            }
            Method::BasicRecover(recover) => {
                self.recover(number, recover.requeue)?;
                self.answer_in_turn(number, BasicRecoverOk);
            }
            Method::BasicRecoverAsync(recover) => self.recover(number, recover.requeue)?,
            Method::BasicQos(qos) if qos.prefetch_size != 0 => {
                let text = format!("prefetch_size!=0 ({})", qos.prefetch_size);
                return Err(PeerError::NotImplemented(text));
            }
            Method::BasicQos(qos) => self.take_qos(number, qos),
            Method::BasicConsume(consume) => return self.take_consume(number, &consume),
            Method::BasicCancel(cancel) => {
                self.take_cancel(
                    number,
                    cancel.consumer_tag,
                    WriteReply::unless(cancel.nowait),
                );
            }
            // The answer to a cancel from this side.
            Method::BasicCancelOk(_) => {}
            Method::BasicGet(get) => return self.take_get(number, &get),
            _ => return Err(PeerError::UnimplementedMethod),
        }
        Ok(())
    }

    /// `basic.qos`: without `global` for consumers to come, with it for all together. The former
    /// ends the latter (RabbitMQ).
    fn take_qos(&mut self, number: ChannelNumber, qos: BasicQos) {
        let (channel, prefetch) = (number, qos.prefetch_count);
        let limits_consumers = self.client.limits_consumers;
        let open = self.open_channel(number);
        let together = if qos.global { prefetch } else { 0 };
        let before = std::mem::replace(&mut open.prefetch_together, together);
        let has_consumers = open.consumer_count() > 0;
        if !qos.global {
            open.prefetch = prefetch;
        }
        if qos.global || before > 0 {
            let prefetch = together;
            self.requests
                .push(Request::LimitChannel { channel, prefetch });
        }
        if !qos.global && limits_consumers && has_consumers {
            self.requests
                .push(Request::LimitConsumers { channel, prefetch });
        }
        self.answer_in_turn(number, BasicQosOk);
    }

    fn settle(
        &mut self,
        number: ChannelNumber,
        scope: SettleScope,
        outcome: Outcome,
    ) -> Result<(), PeerError> {
        let channel = self
            .channels
            .get_open(number)
            .expect("methods are taken on an open channel only");
        channel.settle(scope, outcome, &mut self.requests)
    }

    fn recover(&mut self, number: ChannelNumber, requeue: bool) -> Result<(), PeerError> {
        if !requeue {
            return Err(PeerError::not_implemented("requeue=false"));
        }
        let channel = self
            .channels
            .get_open(number)
            .expect("methods are taken on an open channel only");
        channel.recover(&mut self.requests);
        Ok(())
    }

    /// `tx.select`; a second one changes nothing.
    fn take_tx_select(&mut self, number: ChannelNumber) -> Result<(), PeerError> {
        let channel = self.open_channel(number);
        if channel.confirms.is_some() {
            return Err(PeerError::TxAfterConfirm);
        }
        if channel.tx.is_none() {
            channel.tx = Some(Box::new(Tx::default()));
            self.requests.push(Request::SelectTx { channel: number });
        }
        self.answer_in_turn(number, TxSelectOk);
        Ok(())
    }

    fn take_tx_commit(&mut self, number: ChannelNumber) -> Result<(), PeerError> {
        let tx = self.open_channel(number).tx.as_mut();
        let settles = tx.ok_or(PeerError::NotTransactional)?.commit(number);
        self.requests.push(Request::Commit {
            channel: number,
            settles,
        });
        self.await_reply(number, WriteReply::Yes, Awaited::Committed);
        Ok(())
    }

    /// `tx.rollback`: deliveries settled since are outstanding again; they are not sent again
    /// (RabbitMQ).
    fn take_tx_rollback(&mut self, number: ChannelNumber) -> Result<(), PeerError> {
        let channel = self.open_channel(number);
        let tx = channel.tx.as_mut().ok_or(PeerError::NotTransactional)?;
        tx.roll_back(&mut channel.unacked);
        self.requests.push(Request::Rollback { channel: number });
        self.answer_in_turn(number, TxRollbackOk);
        Ok(())
    }

    fn take_cancel(&mut self, number: ChannelNumber, tag: ShortStr<'_>, write: WriteReply) {
        let channel = self.open_channel(number);
        let known = channel.consumer_by_tag(tag.as_bytes());
        let request = match (known, write) {
            (Some(consumer), _) => Request::Cancel {
                channel: number,
                consumer: consumer.key,
            },
            (None, WriteReply::No) => return,
            (None, WriteReply::Yes) if channel.may_be_refused => Request::Sync { channel: number },
            (None, WriteReply::Yes) => {
                return self
                    .output
                    .method(number.0, BasicCancelOk { consumer_tag: tag });
            }
        };
        self.requests.push(request);
        let tag = Name::new(tag.as_bytes()).expect("a short string is a name");
        self.await_reply(number, write, Awaited::Cancelled { tag });
    }

    /// Answers something that only this side knows about, behind the refusal, if any, of what the
    /// channel published before: clients take such answers as word that all is well (RabbitMQ).
    fn answer_in_turn(&mut self, number: ChannelNumber, method: impl Into<Method<'static>>) {
        if !self.open_channel(number).may_be_refused {
            return self.output.method(number.0, method);
        }
        let answer = Box::new(method.into());
        self.catch_up(number, Awaited::Synced { answer });
    }

    /// Lets the node say what is to be said of earlier publishes; then comes `next`.
    pub(crate) fn catch_up(&mut self, number: ChannelNumber, next: Awaited) {
        self.requests.push(Request::Sync { channel: number });
        self.await_reply(number, WriteReply::Yes, next);
    }

    /// `channel.close`, behind the refusal, if any, of what the channel published before.
    fn take_close(&mut self, number: ChannelNumber) {
        if self.open_channel(number).may_be_refused {
            self.catch_up(number, Awaited::Close);
        } else {
            self.close_channel_for_client(number);
        }
    }

    /// Remembers what was asked; reading stops until the answer is there.
    pub(crate) fn await_reply(
        &mut self,
        channel: ChannelNumber,
        write: WriteReply,
        awaited: Awaited,
    ) {
        let next = Pending {
            channel,
            write,
            awaited,
        };
        let both_declare = |pending: &Pending| {
            pending.is_declaration_on(channel.0) && next.is_declaration_on(channel.0)
        };
        assert!(
            self.pending.back().is_none_or(both_declare),
            "one answered request is outstanding at a time"
        );
        self.pending.push_back(next);
    }

    /// The channel a method came on.
    pub(crate) fn open_channel(&mut self, number: ChannelNumber) -> &mut Channel {
        self.channels
            .get_open(number)
            .expect("methods are taken on an open channel only")
    }
}

fn refused(requeue: bool) -> Outcome {
    if requeue {
        Outcome::Requeue
    } else {
        Outcome::Discard
    }
}

/// A name that is stored. RabbitMQ drops line ends from names of queues and exchanges.
pub(crate) fn name(text: ShortStr<'_>) -> Name {
    let bytes = text.as_bytes();
    let is_line_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let name = if bytes.iter().any(is_line_end) {
        let kept: Vec<u8> = bytes
            .iter()
            .copied()
            .filter(|byte| !is_line_end(byte))
            .collect();
        Name::new(&kept)
    } else {
        Name::new(bytes)
    };
    name.expect("a short string is a name")
}
