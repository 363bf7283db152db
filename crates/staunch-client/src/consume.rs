//! Consuming, getting and settling.

use staunch_amqp_codec::methods::{
    BasicAck, BasicCancel, BasicConsume, BasicGet, BasicNack, BasicQos, Method,
};
use staunch_types::{ChannelNumber, FieldTable};

use crate::{
    connection::{Connection, short, text},
    error::ClientError,
};

/// A message that was fetched one at a time (AMQP 0-9-1, basic.get).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GotMessage {
    /// What an ack names.
    pub delivery_tag: u64,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// Exchange it was published to.
    pub exchange: Vec<u8>,
    /// Routing key it was published with.
    pub routing_key: Vec<u8>,
    /// Messages left in the queue.
    pub message_count: u32,
    /// Encoded properties.
    pub properties: Vec<u8>,
    /// The body.
    pub body: Vec<u8>,
}

impl Connection {
    /// Limits how many deliveries each later consumer of the channel may hold; 0 is no limit.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn qos(&mut self, channel: ChannelNumber, prefetch: u16) -> Result<(), ClientError> {
        let qos = BasicQos {
            prefetch_count: prefetch,
            ..BasicQos::default()
        };
        self.call(channel, Method::BasicQos(qos), |reply| match reply {
            Method::BasicQosOk(_) => Some(()),
            _ => None,
        })
    }

    /// Starts a consumer; gives its tag. With `no_ack` the server expects no acks.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn consume(
        &mut self,
        channel: ChannelNumber,
        queue: &str,
        no_ack: bool,
    ) -> Result<String, ClientError> {
        self.consume_with(channel, queue, no_ack, &FieldTable::default())
    }

    /// As [`Connection::consume`], with arguments.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn consume_with(
        &mut self,
        channel: ChannelNumber,
        queue: &str,
        no_ack: bool,
        arguments: &FieldTable,
    ) -> Result<String, ClientError> {
        let arguments = arguments.as_table_ref();
        let consume = BasicConsume {
            queue: short(queue)?,
            no_ack,
            arguments,
            ..BasicConsume::default()
        };
        self.call(
            channel,
            Method::BasicConsume(consume),
            |reply| match reply {
                Method::BasicConsumeOk(ok) => Some(text(ok.consumer_tag)),
                _ => None,
            },
        )
    }

    /// Ends a consumer.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn cancel(
        &mut self,
        channel: ChannelNumber,
        consumer_tag: &str,
    ) -> Result<(), ClientError> {
        let cancel = BasicCancel {
            consumer_tag: short(consumer_tag)?,
            nowait: false,
        };
        self.call(channel, Method::BasicCancel(cancel), |reply| match reply {
            Method::BasicCancelOk(_) => Some(()),
            _ => None,
        })
    }

    /// Acks a delivery, with `multiple` all up to it. Leaves with the next flush.
    ///
    /// # Errors
    /// When the connection fails.
    #[inline]
    pub fn ack(
        &mut self,
        channel: ChannelNumber,
        delivery_tag: u64,
        multiple: bool,
    ) -> Result<(), ClientError> {
        let ack = BasicAck {
            delivery_tag,
            multiple,
        };
        ack.encode_frame(channel.0, &mut self.transport.output);
        self.transport.flush_if_large()
    }

    /// Refuses deliveries as [`Connection::ack`] accepts them.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn nack(
        &mut self,
        channel: ChannelNumber,
        delivery_tag: u64,
        multiple: bool,
        requeue: bool,
    ) -> Result<(), ClientError> {
        let nack = BasicNack {
            delivery_tag,
            multiple,
            requeue,
        };
        nack.encode_frame(channel.0, &mut self.transport.output);
        self.transport.flush_if_large()
    }

    /// Takes one message; `None` if the queue is empty.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn get(
        &mut self,
        channel: ChannelNumber,
        queue: &str,
        no_ack: bool,
    ) -> Result<Option<GotMessage>, ClientError> {
        let get = BasicGet {
            queue: short(queue)?,
            no_ack,
            ..BasicGet::default()
        };
        get.encode_frame(channel.0, &mut self.transport.output);
        self.await_get(channel, |content| {
            let message = content.get_ok()?.map(|ok| GotMessage {
                delivery_tag: ok.delivery_tag,
                redelivered: ok.redelivered,
                exchange: ok.exchange.to_vec(),
                routing_key: ok.routing_key.to_vec(),
                message_count: ok.message_count,
                properties: content.properties.to_vec(),
                body: content.body.to_vec(),
            });
            Ok(message)
        })
    }
}
