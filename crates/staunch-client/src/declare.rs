//! Declaring and deleting exchanges, queues and bindings.

use staunch_amqp_codec::methods::{
    ExchangeDeclare, ExchangeDelete, Method, QueueBind, QueueDeclare, QueueDelete, QueuePurge,
};
use staunch_types::{ChannelNumber, FieldTable};

use crate::{
    connection::{Connection, short, text},
    error::ClientError,
};

/// A queue to declare (AMQP 0-9-1, queue.declare).
#[derive(Clone, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are the bits of the method"
)]
pub struct QueueSpec {
    /// Name; empty lets the server choose.
    pub name: String,
    /// Only asks whether it exists.
    pub passive: bool,
    /// Survives a restart.
    pub durable: bool,
    /// Belongs to the connection.
    pub exclusive: bool,
    /// Goes with its last consumer.
    pub auto_delete: bool,
    /// Further arguments, such as `x-queue-type`.
    pub arguments: FieldTable,
}

/// An exchange to declare (AMQP 0-9-1, exchange.declare).
#[derive(Clone, Debug, Default)]
pub struct ExchangeSpec {
    /// Name.
    pub name: String,
    /// `direct`, `fanout`, `topic` or `headers`.
    pub kind: String,
    /// Only asks whether it exists.
    pub passive: bool,
    /// Survives a restart.
    pub durable: bool,
    /// Goes with its last binding.
    pub auto_delete: bool,
    /// Further arguments.
    pub arguments: FieldTable,
}

/// A queue as the server sees it (AMQP 0-9-1, queue.declare-ok).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueDeclared {
    /// Name.
    pub name: String,
    /// Messages that are ready.
    pub message_count: u32,
    /// Consumers.
    pub consumer_count: u32,
}

impl QueueSpec {
    /// A durable queue.
    #[must_use]
    pub fn durable(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            durable: true,
            ..Self::default()
        }
    }

    fn method(&self) -> Result<QueueDeclare<'_>, ClientError> {
        Ok(QueueDeclare {
            queue: short(&self.name)?,
            passive: self.passive,
            durable: self.durable,
            exclusive: self.exclusive,
            auto_delete: self.auto_delete,
            arguments: self.arguments.as_table_ref(),
            ..QueueDeclare::default()
        })
    }
}

impl Connection {
    /// Declares a queue.
    ///
    /// # Errors
    /// When the server refuses, for example with 406 because the queue exists and is different.
    pub fn queue_declare(
        &mut self,
        channel: ChannelNumber,
        queue: &QueueSpec,
    ) -> Result<QueueDeclared, ClientError> {
        self.call(channel, Method::QueueDeclare(queue.method()?), declared)
    }

    /// Declares many queues, all sent before the first answer is awaited.
    ///
    /// # Errors
    /// As [`Connection::queue_declare`], for the first that is refused.
    pub fn queue_declare_all(
        &mut self,
        channel: ChannelNumber,
        queues: &[QueueSpec],
    ) -> Result<(), ClientError> {
        for queue in queues {
            queue
                .method()?
                .encode_frame(channel.0, &mut self.transport.output);
        }
        for _ in queues {
            self.await_reply(channel, "queue.declare-ok", declared)?;
        }
        Ok(())
    }

    /// Binds a queue to an exchange.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn queue_bind(
        &mut self,
        channel: ChannelNumber,
        queue: &str,
        exchange: &str,
        routing_key: &str,
        arguments: &FieldTable,
    ) -> Result<(), ClientError> {
        let bind = QueueBind {
            queue: short(queue)?,
            exchange: short(exchange)?,
            routing_key: short(routing_key)?,
            arguments: arguments.as_table_ref(),
            ..QueueBind::default()
        };
        self.call(channel, Method::QueueBind(bind), |reply| match reply {
            Method::QueueBindOk(_) => Some(()),
            _ => None,
        })
    }

    /// Throws away what is ready in a queue; gives how many messages that were.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn queue_purge(&mut self, channel: ChannelNumber, queue: &str) -> Result<u32, ClientError> {
        let purge = QueuePurge {
            queue: short(queue)?,
            ..QueuePurge::default()
        };
        self.call(channel, Method::QueuePurge(purge), |reply| match reply {
            Method::QueuePurgeOk(ok) => Some(ok.message_count),
            _ => None,
        })
    }

    /// Deletes a queue whatever it holds; gives how many messages it held.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn queue_delete(
        &mut self,
        channel: ChannelNumber,
        queue: &str,
    ) -> Result<u32, ClientError> {
        let delete = QueueDelete {
            queue: short(queue)?,
            ..QueueDelete::default()
        };
        self.call(channel, Method::QueueDelete(delete), |reply| match reply {
            Method::QueueDeleteOk(ok) => Some(ok.message_count),
            _ => None,
        })
    }

    /// Declares an exchange.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn exchange_declare(
        &mut self,
        channel: ChannelNumber,
        exchange: &ExchangeSpec,
    ) -> Result<(), ClientError> {
        let declare = ExchangeDeclare {
            exchange: short(&exchange.name)?,
            kind: short(&exchange.kind)?,
            passive: exchange.passive,
            durable: exchange.durable,
            auto_delete: exchange.auto_delete,
            arguments: exchange.arguments.as_table_ref(),
            ..ExchangeDeclare::default()
        };
        self.call(
            channel,
            Method::ExchangeDeclare(declare),
            |reply| match reply {
                Method::ExchangeDeclareOk(_) => Some(()),
                _ => None,
            },
        )
    }

    /// Deletes an exchange.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn exchange_delete(
        &mut self,
        channel: ChannelNumber,
        exchange: &str,
    ) -> Result<(), ClientError> {
        let delete = ExchangeDelete {
            exchange: short(exchange)?,
            ..ExchangeDelete::default()
        };
        self.call(
            channel,
            Method::ExchangeDelete(delete),
            |reply| match reply {
                Method::ExchangeDeleteOk(_) => Some(()),
                _ => None,
            },
        )
    }
}

fn declared(reply: &Method<'_>) -> Option<QueueDeclared> {
    match reply {
        Method::QueueDeclareOk(ok) => Some(QueueDeclared {
            name: text(ok.queue),
            message_count: ok.message_count,
            consumer_count: ok.consumer_count,
        }),
        _ => None,
    }
}
