//! Methods that the node answers: exchanges, queues, bindings, consumers, gets.

use staunch_amqp_codec::{
    methods::{BasicConsume, BasicGet, ExchangeDeclare, Method, QueueDeclare},
    wire::ShortStr,
};
use staunch_types::{
    ChannelNumber, ExchangeOptions, FieldTable, Name, QueueOptions, Request,
    field_table::TableRef,
    request::{Binding, Consume, DeclareExchange, DeclareQueue, Destination},
};

use crate::{
    connection::Connection,
    error::PeerError,
    methods::name,
    pending::{Awaited, WriteReply},
    unacked::UNACKED_PER_CHANNEL_MAX,
};

const QUEUE_PREFIX: &str = "amq.gen-";
const CONSUMER_PREFIX: &str = "amq.ctag-";

/// Consuming from it brings direct replies; no such queue exists.
const REPLY_QUEUE: &[u8] = b"amq.rabbitmq.reply-to";

/// The arguments that `queue.bind`, `queue.unbind` and their exchange kin share.
struct BindingArguments<'a> {
    source: ShortStr<'a>,
    routing_key: ShortStr<'a>,
    arguments: TableRef<'a>,
}

impl Connection {
    pub(crate) fn take_exchange_class(
        &mut self,
        number: ChannelNumber,
        method: Method<'_>,
    ) -> Result<(), PeerError> {
        match method {
            Method::ExchangeDeclare(declare) => self.take_exchange_declare(number, &declare),
            Method::ExchangeDelete(delete) => {
                self.requests.push(Request::DeleteExchange {
                    channel: number,
                    exchange: name(delete.exchange),
                    if_unused: delete.if_unused,
                });
                let write = WriteReply::unless(delete.nowait);
                self.await_reply(number, write, Awaited::ExchangeDeleted);
            }
            Method::ExchangeBind(bind) => {
                let destination = Destination::Exchange(name(bind.destination));
                let binding = BindingArguments {
                    source: bind.source,
                    routing_key: bind.routing_key,
                    arguments: bind.arguments,
                };
                let routing_key = routing_key(&binding);
                let binding = binding.to_binding(number, destination, routing_key);
                self.requests.push(Request::Bind(Box::new(binding)));
                let write = WriteReply::unless(bind.nowait);
                self.await_reply(number, write, Awaited::ExchangeBound);
            }
            Method::ExchangeUnbind(unbind) => {
                let destination = Destination::Exchange(name(unbind.destination));
                let binding = BindingArguments {
                    source: unbind.source,
                    routing_key: unbind.routing_key,
                    arguments: unbind.arguments,
                };
                let routing_key = routing_key(&binding);
                let binding = binding.to_binding(number, destination, routing_key);
                self.requests.push(Request::Unbind(Box::new(binding)));
                let write = WriteReply::unless(unbind.nowait);
                self.await_reply(number, write, Awaited::ExchangeUnbound);
            }
            _ => return Err(PeerError::UnimplementedMethod),
        }
        Ok(())
    }

    pub(crate) fn take_queue_class(
        &mut self,
        number: ChannelNumber,
        method: Method<'_>,
    ) -> Result<(), PeerError> {
        match method {
            Method::QueueDeclare(declare) => self.take_queue_declare(number, &declare),
            Method::QueueBind(bind) => {
                let arguments = BindingArguments {
                    source: bind.exchange,
                    routing_key: bind.routing_key,
                    arguments: bind.arguments,
                };
                let binding = self.queue_binding(number, bind.queue, &arguments)?;
                self.requests.push(Request::Bind(Box::new(binding)));
                self.await_reply(number, WriteReply::unless(bind.nowait), Awaited::QueueBound);
            }
            Method::QueueUnbind(unbind) => {
                let arguments = BindingArguments {
                    source: unbind.exchange,
                    routing_key: unbind.routing_key,
                    arguments: unbind.arguments,
                };
                let binding = self.queue_binding(number, unbind.queue, &arguments)?;
                self.requests.push(Request::Unbind(Box::new(binding)));
                self.await_reply(number, WriteReply::Yes, Awaited::QueueUnbound);
            }
            Method::QueuePurge(purge) => {
                let queue = self.open_channel(number).queue_or_last(name(purge.queue))?;
                self.requests.push(Request::PurgeQueue {
                    channel: number,
                    queue,
                });
                self.await_reply(
                    number,
                    WriteReply::unless(purge.nowait),
                    Awaited::QueuePurged,
                );
            }
            Method::QueueDelete(delete) => {
                let queue = self
                    .open_channel(number)
                    .queue_or_last(name(delete.queue))?;
                self.requests.push(Request::DeleteQueue {
                    channel: number,
                    queue,
                    if_unused: delete.if_unused,
                    if_empty: delete.if_empty,
                });
                let write = WriteReply::unless(delete.nowait);
                let cancelled = Vec::new();
                self.await_reply(number, write, Awaited::QueueDeleted { cancelled });
            }
            _ => return Err(PeerError::UnimplementedMethod),
        }
        Ok(())
    }

    pub(crate) fn take_consume(
        &mut self,
        number: ChannelNumber,
        consume: &BasicConsume<'_>,
    ) -> Result<(), PeerError> {
        let tag = if consume.consumer_tag.is_empty() {
            self.tokens.name(CONSUMER_PREFIX)
        } else {
            verbatim(consume.consumer_tag)
        };
        let max = self.config.consumers_per_channel_max;
        let channel = self.open_channel(number);
        let queue = channel.queue_or_last(name(consume.queue))?;
        if channel.consumer_by_tag(&tag).is_some() {
            return Err(PeerError::ConsumerTagReused { tag });
        }
        if channel.consumer_count() >= max {
            return Err(PeerError::TooManyConsumers { max });
        }
        let write = WriteReply::unless(consume.nowait);
        if &*queue == REPLY_QUEUE {
            return self.take_consume_replies(number, tag, consume.no_ack, write);
        }
        let prefetch = channel.prefetch;
        self.requests.push(Request::Consume(Consume {
            channel: number,
            queue,
            tag: tag.clone(),
            no_ack: consume.no_ack,
            exclusive: consume.exclusive,
            prefetch,
            arguments: owned(consume.arguments),
        }));
        self.await_reply(number, write, Awaited::Consuming { tag });
        Ok(())
    }

    /// `basic.consume` of direct replies (RabbitMQ, direct reply-to).
    fn take_consume_replies(
        &mut self,
        number: ChannelNumber,
        tag: Name,
        no_ack: bool,
        write: WriteReply,
    ) -> Result<(), PeerError> {
        if !no_ack {
            return Err(PeerError::ReplyConsumerAcks);
        }
        if self.open_channel(number).reply_consumer.is_some() {
            return Err(PeerError::ReplyConsumerTwice);
        }
        self.requests
            .push(Request::ConsumeReplies { channel: number });
        self.await_reply(number, write, Awaited::ConsumingReplies { tag });
        Ok(())
    }

    pub(crate) fn take_get(
        &mut self,
        number: ChannelNumber,
        get: &BasicGet<'_>,
    ) -> Result<(), PeerError> {
        let channel = self.open_channel(number);
        let queue = channel.queue_or_last(name(get.queue))?;
        if !get.no_ack && channel.unacked.count() >= UNACKED_PER_CHANNEL_MAX {
            return Err(PeerError::TooManyUnacked {
                max: UNACKED_PER_CHANNEL_MAX,
            });
        }
        self.requests.push(Request::Get {
            channel: number,
            queue,
            no_ack: get.no_ack,
        });
        self.await_reply(number, WriteReply::Yes, Awaited::Got);
        Ok(())
    }

    fn take_exchange_declare(&mut self, number: ChannelNumber, declare: &ExchangeDeclare<'_>) {
        self.requests
            .push(Request::DeclareExchange(DeclareExchange {
                channel: number,
                exchange: name(declare.exchange),
                passive: declare.passive,
                options: ExchangeOptions {
                    kind: verbatim(declare.kind),
                    durable: declare.durable,
                    auto_delete: declare.auto_delete,
                    internal: declare.internal,
                    arguments: owned(declare.arguments),
                },
            }));
        let write = WriteReply::unless(declare.nowait);
        self.await_reply(number, write, Awaited::ExchangeDeclared);
    }

    fn take_queue_declare(&mut self, number: ChannelNumber, declare: &QueueDeclare<'_>) {
        let mut queue = name(declare.queue);
        let server_named = queue.is_empty() && !declare.passive;
        if server_named {
            queue = self.tokens.name(QUEUE_PREFIX);
        }
        self.requests.push(Request::DeclareQueue(DeclareQueue {
            channel: number,
            queue: queue.clone(),
            server_named,
            passive: declare.passive,
            options: QueueOptions {
                durable: declare.durable,
                exclusive: declare.exclusive,
                auto_delete: declare.auto_delete,
                arguments: owned(declare.arguments),
            },
        }));
        let write = WriteReply::unless(declare.nowait);
        self.await_reply(number, write, Awaited::QueueDeclared { queue });
    }

    /// A queue's binding. No queue and no routing key stands for the queue declared last and its
    /// name (AMQP 0-9-1, queue.bind).
    fn queue_binding(
        &mut self,
        number: ChannelNumber,
        queue: ShortStr<'_>,
        arguments: &BindingArguments<'_>,
    ) -> Result<Binding, PeerError> {
        let asked = name(queue);
        let (is_last, queue) = (
            asked.is_empty(),
            self.open_channel(number).queue_or_last(asked)?,
        );
        if is_reply_queue(&queue) {
            return Err(PeerError::ReplyQueueBound);
        }
        let routing_key = if is_last && arguments.routing_key.is_empty() {
            queue.clone()
        } else {
            routing_key(arguments)
        };
        Ok(arguments.to_binding(number, Destination::Queue(queue), routing_key))
    }
}

impl BindingArguments<'_> {
    fn to_binding(
        &self,
        channel: ChannelNumber,
        destination: Destination,
        routing_key: Name,
    ) -> Binding {
        Binding {
            channel,
            source: name(self.source),
            destination,
            routing_key,
            arguments: owned(self.arguments),
        }
    }
}

/// The name of direct replies, or an address to send one to: the name, a dot and a token.
fn is_reply_queue(queue: &Name) -> bool {
    queue
        .strip_prefix(REPLY_QUEUE)
        .is_some_and(|rest| rest.first().is_none_or(|byte| *byte == b'.'))
}

fn routing_key(arguments: &BindingArguments<'_>) -> Name {
    verbatim(arguments.routing_key)
}

fn verbatim(text: ShortStr<'_>) -> Name {
    Name::new(text.as_bytes()).expect("a short string is a name")
}

/// Arguments outlive the read buffer, so they get bytes of their own.
fn owned(arguments: TableRef<'_>) -> FieldTable {
    if arguments.is_empty() {
        FieldTable::default()
    } else {
        arguments.to_field_table()
    }
}
