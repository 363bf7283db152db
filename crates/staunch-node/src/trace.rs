//! The firehose (RabbitMQ, `rabbit_trace`): a copy of every message that is published to or
//! delivered in a traced virtual host goes to its exchange `amq.rabbitmq.trace`, with routing key
//! `publish.EXCHANGE` or `deliver.QUEUE`; headers tell what it was.

use staunch_types::{
    ChannelNumber, Delivery, Message, Name,
    field_table::{ArrayBuilder, TableBuilder, Value},
    properties::{Properties, PropertiesBuilder},
};

use crate::{node::Node, session::SessionSlot};

const TRACE_EXCHANGE: &[u8] = b"amq.rabbitmq.trace";

/// What a copy says beside its message.
struct Tapped {
    vhost: Name,
    connection: String,
    user: Name,
}

impl Node {
    /// Copies a publish that has been routed, if its virtual host is traced.
    pub(crate) fn trace_publish(
        &mut self,
        slot: SessionSlot,
        channel: ChannelNumber,
        message: &Message,
        more_keys: &[Vec<u8>],
    ) {
        let Some(tapped) = self.tap(slot, message) else {
            return;
        };
        let queues = self.routes.queues().iter();
        let names = queues.filter_map(|id| self.queues.get(*id));
        let names = names.fold(ArrayBuilder::new(), |names, queue| {
            names.longstr(&*queue.name)
        });
        let headers = describe(message, more_keys, &self.config.node_name)
            .longstr("vhost", &*tapped.vhost)
            .longstr("connection", &tapped.connection)
            .int("channel", i32::from(channel.0))
            .longstr("user", &*tapped.user)
            .array("routed_queues", &names);
        self.emit_trace(
            tapped.vhost,
            b"publish.",
            message.exchange(),
            headers,
            message,
        );
    }

    /// Copies a delivery, if its virtual host is traced.
    pub(crate) fn trace_delivery(&mut self, slot: SessionSlot, queue: &Name, delivery: &Delivery) {
        let message = &delivery.message;
        let Some(tapped) = self.tap(slot, message) else {
            return;
        };
        let headers = describe(message, &[], &self.config.node_name)
            .int("redelivered", i32::from(delivery.redelivered))
            .longstr("vhost", &*tapped.vhost)
            .longstr("connection", &tapped.connection)
            .int("channel", i32::from(delivery.channel.0))
            .longstr("user", &*tapped.user);
        self.emit_trace(tapped.vhost, b"deliver.", queue, headers, message);
    }

    /// Who publishes or gets the message, if that is to be told. Copies are not copied again.
    fn tap(&self, slot: SessionSlot, message: &Message) -> Option<Tapped> {
        let session = self.sessions.get(slot)?;
        if !self.traced.contains(&session.vhost) || message.exchange() == TRACE_EXCHANGE {
            return None;
        }
        let client = session.client.as_deref()?;
        Some(Tapped {
            vhost: session.vhost.clone(),
            connection: client.name.clone(),
            user: client.user.clone(),
        })
    }

    fn emit_trace(
        &mut self,
        vhost: Name,
        prefix: &[u8],
        of: &[u8],
        headers: TableBuilder,
        message: &Message,
    ) {
        let mut key = [prefix, of].concat();
        key.truncate(staunch_types::name::NAME_SIZE_BYTES_MAX);
        let headers = headers.build();
        let properties = PropertiesBuilder::new()
            .headers(headers.as_table_ref())
            .build()
            .expect("no string among the properties");
        let copy = Message::copied(TRACE_EXCHANGE, &key, properties.as_bytes(), message.body());
        self.own_messages.push(vhost, copy);
    }
}

/// The headers that every copy has.
fn describe(message: &Message, more_keys: &[Vec<u8>], node: &str) -> TableBuilder {
    let keys = more_keys.iter().fold(
        ArrayBuilder::new().longstr(message.routing_key()),
        ArrayBuilder::longstr,
    );
    let properties = describe_properties(Properties::from_validated(message.properties()));
    TableBuilder::new()
        .longstr("exchange_name", message.exchange())
        .array("routing_keys", &keys)
        .table("properties", &properties.build())
        .longstr("node", node)
}

/// A message's properties as a table: the last first, strings long, numbers 32 bits wide, as
/// RabbitMQ has them.
fn describe_properties(properties: Properties<'_>) -> TableBuilder {
    let string = |table: TableBuilder, key, value: Option<&[u8]>| match value {
        Some(value) => table.longstr(key, value),
        None => table,
    };
    let number = |table: TableBuilder, key, value: Option<u64>| match value {
        Some(value) => table.int(
            key,
            u32::try_from(value & 0xffff_ffff)
                .unwrap_or_default()
                .cast_signed(),
        ),
        None => table,
    };
    let mut table = TableBuilder::new();
    table = string(table, "cluster_id", properties.cluster_id());
    table = string(table, "app_id", properties.app_id());
    table = string(table, "user_id", properties.user_id());
    table = string(table, "type", properties.message_type());
    table = number(table, "timestamp", properties.timestamp());
    table = string(table, "message_id", properties.message_id());
    table = string(table, "expiration", properties.expiration());
    table = string(table, "reply_to", properties.reply_to());
    table = string(table, "correlation_id", properties.correlation_id());
    table = number(table, "priority", properties.priority().map(u64::from));
    table = number(
        table,
        "delivery_mode",
        properties.delivery_mode().map(u64::from),
    );
    if let Some(headers) = properties.headers() {
        table = table.value("headers", Value::Table(headers));
    }
    table = string(table, "content_encoding", properties.content_encoding());
    string(table, "content_type", properties.content_type())
}
