//! Direct reply-to (RabbitMQ): replies without a queue.
//!
//! A client consumes from `amq.rabbitmq.reply-to` and names that as `reply_to` in its requests.
//! The node replaces it with a name that only whoever got the request knows, and a message
//! published to that name becomes a settled delivery on the client's channel: it is never stored,
//! and it is lost if the channel is gone or cannot take more.

use std::{collections::BTreeSet, fmt::Write};

use sha2::{Digest, Sha256};
use staunch_types::{
    ChannelNumber, ConnectionId, ConsumerKey, Delivery, Event, Message, MessageIndex, Name,
    Operation, QueueId, Refusal, Reply, Resource, ReturnReason,
    properties::{Properties, PropertiesBuilder},
};

use crate::{
    consumers::{Consumer, ConsumerKind},
    node::Node,
    session::SessionSlot,
};

/// The name a client consumes from and gives as `reply_to`.
const REPLY_QUEUE: &[u8] = b"amq.rabbitmq.reply-to";
/// Bytes on their way to a connection above which replies to it are dropped.
const REPLIES_OUTBOUND_SIZE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Bytes of a token: connection, channel, secret.
const TOKEN_SIZE_BYTES: usize = 8 + 2 + SECRET_SIZE_BYTES;
const SECRET_SIZE_BYTES: usize = 16;

/// The queue that replies come from, as far as a delivery must name one. Real queues begin at 1.
const NO_QUEUE: QueueId = QueueId(0);

/// A channel's consumer of replies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplyConsumer {
    pub(crate) key: ConsumerKey,
    secret: [u8; SECRET_SIZE_BYTES],
}

/// Whether a queue's name belongs to direct reply-to.
pub(crate) fn is_reply_name(queue: &[u8]) -> bool {
    queue.starts_with(REPLY_QUEUE)
}

/// The refusal of a binding to such a name.
pub(crate) fn bind_refusal() -> Refusal {
    Refusal::AccessRefused("cannot bind or unbind to a volatile (direct reply-to) queue".to_owned())
}

impl Node {
    /// `basic.consume` of [`REPLY_QUEUE`].
    pub(crate) fn consume_replies(&mut self, session: SessionSlot, channel: ChannelNumber) {
        let Some((connection, _)) = self.requester(session, channel) else {
            return;
        };
        let secret = self.next_secret(connection);
        let Some(open) = self.sessions.channel_mut(session, channel) else {
            return;
        };
        if open.replies.is_some() {
            let refusal = Refusal::Precondition("reply consumer already set".to_owned());
            return self.refuse(session, channel, Operation::Consume, refusal);
        }
        let consumer = self.consumers.insert(Consumer {
            session,
            channel,
            queue: NO_QUEUE,
            kind: ConsumerKind::Replies,
            unsettled_count: 0,
        });
        open.replies = Some(Box::new(ReplyConsumer {
            key: consumer,
            secret,
        }));
        let reply = Reply::Consuming {
            consumer,
            consumer_timeout: None,
        };
        self.reply(session, channel, reply);
    }

    /// The channel's reply consumer goes, if `key` is that.
    pub(crate) fn cancel_replies(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
        key: ConsumerKey,
    ) {
        let open = self.sessions.channel_mut(session, channel);
        if let Some(open) = open
            && open.replies.as_ref().is_some_and(|it| it.key == key)
        {
            open.replies = None;
            self.consumers.remove(key);
        }
    }

    /// The request with a `reply_to` that leads back to this channel, if it asks for one.
    ///
    /// # Errors
    /// 406 if the channel does not consume replies.
    pub(crate) fn with_reply_name(
        &self,
        session: SessionSlot,
        channel: ChannelNumber,
        message: &Message,
    ) -> Result<Option<Message>, Refusal> {
        let properties = Properties::from_validated(message.properties());
        if properties.reply_to() != Some(REPLY_QUEUE) {
            return Ok(None);
        }
        let found = self.sessions.get(session).and_then(|session| {
            let open = session.channels.get(&channel)?;
            Some((session.id, open.replies.as_deref()?))
        });
        let Some((connection, consumer)) = found else {
            let text = "fast reply consumer does not exist".to_owned();
            return Err(Refusal::Precondition(text));
        };
        let reply_to = reply_name(connection, channel, &consumer.secret);
        let properties = PropertiesBuilder::from_properties(properties)
            .reply_to(&reply_to)
            .build()
            .expect("a reply name is a short string");
        Ok(Some(Message::copied(
            message.exchange(),
            message.routing_key(),
            properties.as_bytes(),
            message.body(),
        )))
    }

    /// A message that no queue takes: a reply, or one to give back if it is `mandatory`.
    pub(crate) fn give_unroutable(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
        mandatory: bool,
        message: Message,
    ) {
        if message.exchange().is_empty()
            && let Some(consumer) = self.find_reply_consumer(message.routing_key())
        {
            return self.deliver_reply(consumer, message);
        }
        if let Some(open) = self.sessions.channel_mut(session, channel) {
            open.counts.return_unroutable += u64::from(mandatory);
            open.counts.drop_unroutable += u64::from(!mandatory);
        }
        if mandatory {
            let reason = ReturnReason::NoRoute;
            self.sessions.push(
                session,
                Event::Returned {
                    channel,
                    reason,
                    message,
                },
            );
        }
    }

    /// Delivers a message with further routing keys to everybody whom one of its keys leads to,
    /// once. True if there is anybody.
    #[cold]
    pub(crate) fn deliver_replies(&mut self, message: &Message, more_keys: &[Vec<u8>]) -> bool {
        if !message.exchange().is_empty() {
            return false;
        }
        let keys =
            std::iter::once(message.routing_key()).chain(more_keys.iter().map(Vec::as_slice));
        let found: BTreeSet<_> = keys
            .filter_map(|key| self.find_reply_consumer(key))
            .collect();
        for consumer in &found {
            self.deliver_reply(*consumer, message.clone());
        }
        !found.is_empty()
    }

    /// `queue.declare` of such a name asks whether its consumer is still there.
    pub(crate) fn declare_reply_queue(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
        name: Name,
        vhost: Name,
    ) {
        if *name == *REPLY_QUEUE || self.find_reply_consumer(&name).is_some() {
            let (ready_count, consumer_count) = (0, 1);
            let reply = Reply::QueueDeclared {
                ready_count,
                consumer_count,
            };
            return self.reply(session, channel, reply);
        }
        let resource = Resource::Queue;
        let refusal = Refusal::NotFound {
            resource,
            name,
            vhost,
        };
        self.refuse(session, channel, Operation::DeclareQueue, refusal);
    }

    fn deliver_reply(&mut self, key: ConsumerKey, message: Message) {
        let Some(consumer) = self.consumers.get(key).copied() else {
            return;
        };
        let is_flooded = self
            .sessions
            .get(consumer.session)
            .is_none_or(|session| session.outbound_size_bytes > REPLIES_OUTBOUND_SIZE_BYTES_MAX);
        if is_flooded {
            return;
        }
        let delivery = Delivery {
            channel: consumer.channel,
            consumer: key,
            queue: NO_QUEUE,
            index: MessageIndex(0),
            redelivered: false,
            settled: true,
            message,
        };
        let is_congested = self.count_outbound(consumer.session, &delivery);
        self.sessions
            .push(consumer.session, Event::Delivery(delivery));
        if is_congested {
            self.apply_blocks(consumer.session, None);
        }
    }

    /// Whom a reply name leads to, if it was made by this node and its consumer is still there.
    fn find_reply_consumer(&self, queue: &[u8]) -> Option<ConsumerKey> {
        let token = queue.strip_prefix(REPLY_QUEUE)?.strip_prefix(b".")?;
        let (connection, channel, secret) = read_token(token)?;
        let session = self.sessions.get(self.sessions.find(connection)?)?;
        let consumer = session.channels.get(&channel)?.replies.as_deref()?;
        let differences = consumer.secret.iter().zip(secret);
        let differences = differences.fold(0, |found, (own, given)| found | (own ^ given));
        (differences == 0).then_some(consumer.key)
    }

    /// Bytes that nobody who lacks the node's seed can foretell.
    fn next_secret(&mut self, connection: ConnectionId) -> [u8; SECRET_SIZE_BYTES] {
        self.secret_count += 1;
        let mut digest = Sha256::new();
        digest.update(b"direct reply-to");
        digest.update(self.config.seed.to_be_bytes());
        digest.update(connection.0.to_be_bytes());
        digest.update(self.secret_count.to_be_bytes());
        let mut secret = [0; SECRET_SIZE_BYTES];
        secret.copy_from_slice(&digest.finalize()[..SECRET_SIZE_BYTES]);
        secret
    }
}

/// `amq.rabbitmq.reply-to.` and the token in hexadecimal.
fn reply_name(
    connection: ConnectionId,
    channel: ChannelNumber,
    secret: &[u8; SECRET_SIZE_BYTES],
) -> String {
    let mut name = format!(
        "{}.{:016x}{:04x}",
        String::from_utf8_lossy(REPLY_QUEUE),
        connection.0,
        channel.0
    );
    for byte in secret {
        write!(name, "{byte:02x}").expect("a string takes all");
    }
    name
}

fn read_token(token: &[u8]) -> Option<(ConnectionId, ChannelNumber, [u8; SECRET_SIZE_BYTES])> {
    if token.len() != 2 * TOKEN_SIZE_BYTES {
        return None;
    }
    let mut bytes = [0; TOKEN_SIZE_BYTES];
    for (byte, digits) in bytes.iter_mut().zip(token.chunks_exact(2)) {
        let digit = |at: usize| char::from(digits[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    let (connection, rest) = bytes.split_first_chunk()?;
    let (channel, secret) = rest.split_first_chunk()?;
    Some((
        ConnectionId(u64::from_be_bytes(*connection)),
        ChannelNumber(u16::from_be_bytes(*channel)),
        secret.try_into().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_nothing_else_does() {
        let secret = [7; SECRET_SIZE_BYTES];
        let name = reply_name(ConnectionId(9), ChannelNumber(3), &secret);
        assert!(name.len() <= staunch_types::name::NAME_SIZE_BYTES_MAX);
        let token = &name.as_bytes()[REPLY_QUEUE.len() + 1..];
        let read = read_token(token);
        assert_eq!(read, Some((ConnectionId(9), ChannelNumber(3), secret)));
        assert_eq!(read_token(&token[1..]), None);
        assert_eq!(read_token(b""), None);
        let odd = [b'x'; 2 * TOKEN_SIZE_BYTES];
        assert_eq!(read_token(&odd), None);
    }
}
