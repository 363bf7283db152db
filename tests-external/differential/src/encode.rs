//! Operations as methods, and what comes back as text to compare.

use amq_protocol::protocol::{AMQPClass, BasicProperties, basic, confirm, exchange, queue, tx};
use amq_protocol::types::{AMQPValue, FieldArray, FieldTable};

use crate::program::{
    Exchange, Key, LAST_DECLARED, Operation, Properties, SERVER_NAMED, Table, Value,
};

/// What names begin with that a broker gives.
const GIVEN_PREFIX: &str = "amq.gen-";

/// Names of a worker's things: workers share a broker.
#[derive(Clone)]
pub struct Names {
    /// Stands before every name; cut from everything that comes back.
    pub prefix: String,
    /// Names that the broker has given to queues.
    pub given: Vec<String>,
}

impl Names {
    pub fn queue(&self, queue: usize) -> String {
        match (queue, self.given.last()) {
            (LAST_DECLARED, _) => String::new(),
            (SERVER_NAMED, Some(name)) => name.clone(),
            _ => format!("{}q{queue}", self.prefix),
        }
    }

    /// The text with names that are the same on both sides.
    pub fn cut(&self, text: &str) -> String {
        let mut text = text.replace(&self.prefix, "");
        for (number, name) in self.given.iter().enumerate() {
            text = text.replace(name, &format!("given{number}"));
        }
        // One that was refused.
        while let Some(start) = text.find(GIVEN_PREFIX) {
            let rest = &text[start + GIVEN_PREFIX.len()..];
            let is_random = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
            let size = rest.find(|c| !is_random(c)).unwrap_or(rest.len());
            text.replace_range(start..start + GIVEN_PREFIX.len() + size, "given");
        }
        text
    }

    pub fn exchange(&self, exchange: usize) -> String {
        format!("{}x{exchange}", self.prefix)
    }

    fn key(&self, key: Key) -> String {
        match key {
            Key::Text(text) => text.to_owned(),
            Key::Queue(queue) => self.queue(queue),
        }
    }

    fn table(&self, table: &Table) -> FieldTable {
        let mut fields = FieldTable::default();
        for (name, value) in table {
            fields.insert((*name).into(), self.value(value));
        }
        fields
    }

    fn value(&self, value: &Value) -> AMQPValue {
        let text = |text: String| AMQPValue::LongString(text.into());
        match value {
            Value::Int(number) => AMQPValue::LongInt(*number),
            Value::Long(number) => AMQPValue::LongLongInt(*number),
            Value::Text(value) => text((*value).to_owned()),
            Value::Queue(queue) => text(self.queue(*queue)),
            Value::Exchange(exchange) => text(self.exchange(*exchange)),
            Value::Keys(keys) => {
                let keys: Vec<AMQPValue> = keys.iter().map(|key| text(self.key(*key))).collect();
                AMQPValue::FieldArray(FieldArray::from(keys))
            }
            Value::Truth(truth) => AMQPValue::Boolean(*truth),
            Value::Float(number) => AMQPValue::Double(*number),
            Value::Void => AMQPValue::Void,
        }
    }

    /// A publish and its properties.
    pub fn publish(
        &self,
        (exchange, key): (Exchange, Key),
        mandatory: bool,
        properties: &Properties,
    ) -> (basic::Publish, BasicProperties) {
        let exchange = match exchange {
            Exchange::Default => String::new(),
            Exchange::Named(exchange) => self.exchange(exchange),
        };
        let publish = basic::Publish {
            exchange: exchange.into(),
            routing_key: self.key(key).into(),
            mandatory,
            immediate: false,
        };
        let mut encoded = BasicProperties::default();
        for (name, text) in &properties.texts {
            let text = (*text).into();
            encoded = match *name {
                "content_type" => encoded.with_content_type(text),
                "correlation_id" => encoded.with_correlation_id(text),
                "reply_to" => encoded.with_reply_to(text),
                "message_id" => encoded.with_message_id(text),
                "app_id" => encoded.with_app_id(text),
                "user_id" => encoded.with_user_id(text),
                "expiration" => encoded.with_expiration(text),
                other => panic!("property {other}"),
            };
        }
        if let Some(mode) = properties.delivery_mode {
            encoded = encoded.with_delivery_mode(mode);
        }
        if let Some(priority) = properties.priority {
            encoded = encoded.with_priority(priority);
        }
        if let Some(seconds) = properties.timestamp {
            encoded = encoded.with_timestamp(seconds);
        }
        if let Some(headers) = &properties.headers {
            encoded = encoded.with_headers(self.table(headers));
        }
        (publish, encoded)
    }

    /// The method of an operation that needs no state; none for the others.
    pub fn method(&self, operation: &Operation) -> Option<AMQPClass> {
        self.topology(operation)
            .or_else(|| self.messaging(operation))
    }

    fn topology(&self, operation: &Operation) -> Option<AMQPClass> {
        let queue_method = |method| Some(AMQPClass::Queue(method));
        let exchange_method = |method| Some(AMQPClass::Exchange(method));
        match operation {
            Operation::DeclareQueue {
                queue,
                durable,
                exclusive,
                auto_delete,
                arguments,
            } => queue_method(queue::AMQPMethod::Declare(queue::Declare {
                queue: match *queue {
                    SERVER_NAMED | LAST_DECLARED => "".into(),
                    queue => self.queue(queue).into(),
                },
                passive: false,
                durable: *durable,
                exclusive: *exclusive,
                auto_delete: *auto_delete,
                nowait: false,
                arguments: self.table(arguments),
            })),
            Operation::InspectQueue(queue) => queue_method(self.inspect(*queue)),
            Operation::DeclareExchange {
                exchange,
                kind,
                durable,
                auto_delete,
                internal,
                arguments,
            } => exchange_method(exchange::AMQPMethod::Declare(exchange::Declare {
                exchange: self.exchange(*exchange).into(),
                kind: (*kind).into(),
                passive: false,
                durable: *durable,
                auto_delete: *auto_delete,
                internal: *internal,
                nowait: false,
                arguments: self.table(arguments),
            })),
            Operation::InspectExchange(exchange) => {
                Some(inspect_exchange(self.exchange(*exchange)))
            }
            Operation::DeleteExchange {
                exchange,
                if_unused,
            } => exchange_method(exchange::AMQPMethod::Delete(exchange::Delete {
                exchange: self.exchange(*exchange).into(),
                if_unused: *if_unused,
                nowait: false,
            })),
            Operation::Purge(queue) => queue_method(queue::AMQPMethod::Purge(queue::Purge {
                queue: self.queue(*queue).into(),
                nowait: false,
            })),
            Operation::DeleteQueue {
                queue,
                if_unused,
                if_empty,
            } => queue_method(queue::AMQPMethod::Delete(queue::Delete {
                queue: self.queue(*queue).into(),
                if_unused: *if_unused,
                if_empty: *if_empty,
                nowait: false,
            })),
            _ => self.bindings(operation),
        }
    }

    /// A passive declaration of a queue.
    pub fn inspect(&self, queue: usize) -> queue::AMQPMethod {
        queue::AMQPMethod::Declare(queue::Declare {
            queue: self.queue(queue).into(),
            passive: true,
            durable: false,
            exclusive: false,
            auto_delete: false,
            nowait: false,
            arguments: FieldTable::default(),
        })
    }

    fn bindings(&self, operation: &Operation) -> Option<AMQPClass> {
        Some(match operation {
            Operation::Bind {
                queue,
                exchange,
                key,
                arguments,
            } => AMQPClass::Queue(queue::AMQPMethod::Bind(queue::Bind {
                queue: self.queue(*queue).into(),
                exchange: self.exchange(*exchange).into(),
                routing_key: self.key(*key).into(),
                nowait: false,
                arguments: self.table(arguments),
            })),
            Operation::Unbind {
                queue,
                exchange,
                key,
                arguments,
            } => AMQPClass::Queue(queue::AMQPMethod::Unbind(queue::Unbind {
                queue: self.queue(*queue).into(),
                exchange: self.exchange(*exchange).into(),
                routing_key: self.key(*key).into(),
                arguments: self.table(arguments),
            })),
            Operation::BindExchange {
                to,
                from,
                key,
                arguments,
            } => AMQPClass::Exchange(exchange::AMQPMethod::Bind(exchange::Bind {
                destination: self.exchange(*to).into(),
                source: self.exchange(*from).into(),
                routing_key: self.key(*key).into(),
                nowait: false,
                arguments: self.table(arguments),
            })),
            Operation::UnbindExchange {
                to,
                from,
                key,
                arguments,
            } => AMQPClass::Exchange(exchange::AMQPMethod::Unbind(exchange::Unbind {
                destination: self.exchange(*to).into(),
                source: self.exchange(*from).into(),
                routing_key: self.key(*key).into(),
                nowait: false,
                arguments: self.table(arguments),
            })),
            _ => return None,
        })
    }

    fn messaging(&self, operation: &Operation) -> Option<AMQPClass> {
        let method = match operation {
            Operation::SelectConfirms => {
                let select = confirm::Select { nowait: false };
                return Some(AMQPClass::Confirm(confirm::AMQPMethod::Select(select)));
            }
            Operation::SelectTx => {
                return Some(AMQPClass::Tx(tx::AMQPMethod::Select(tx::Select {})));
            }
            Operation::Commit => {
                return Some(AMQPClass::Tx(tx::AMQPMethod::Commit(tx::Commit {})));
            }
            Operation::Rollback => {
                return Some(AMQPClass::Tx(tx::AMQPMethod::Rollback(tx::Rollback {})));
            }
            Operation::Get { queue, no_ack } => basic::AMQPMethod::Get(basic::Get {
                queue: self.queue(*queue).into(),
                no_ack: *no_ack,
            }),
            Operation::Consume {
                queue,
                tag,
                no_ack,
                exclusive,
                arguments,
            } => basic::AMQPMethod::Consume(basic::Consume {
                queue: self.queue(*queue).into(),
                consumer_tag: format!("t{tag}").into(),
                no_local: false,
                no_ack: *no_ack,
                exclusive: *exclusive,
                nowait: false,
                arguments: self.table(arguments),
            }),
            Operation::Cancel(tag) => basic::AMQPMethod::Cancel(basic::Cancel {
                consumer_tag: format!("t{tag}").into(),
                nowait: false,
            }),
            Operation::LimitPrefetch { count, global } => basic::AMQPMethod::Qos(basic::Qos {
                prefetch_count: *count,
                global: *global,
            }),
            Operation::Recover { requeue } => {
                basic::AMQPMethod::Recover(basic::Recover { requeue: *requeue })
            }
            Operation::AckUnknown(tag) => basic::AMQPMethod::Ack(basic::Ack {
                delivery_tag: *tag,
                multiple: false,
            }),
            _ => return None,
        };
        Some(AMQPClass::Basic(method))
    }
}

/// A passive declaration of an exchange.
pub fn inspect_exchange(exchange: String) -> AMQPClass {
    AMQPClass::Exchange(exchange::AMQPMethod::Declare(exchange::Declare {
        exchange: exchange.into(),
        kind: "direct".into(),
        passive: true,
        durable: false,
        auto_delete: false,
        internal: false,
        nowait: false,
        arguments: FieldTable::default(),
    }))
}

/// Properties as text, absent ones left out. Times that a broker stamped are all the same.
pub fn print_properties(properties: &BasicProperties) -> String {
    let mut out = String::new();
    let mut text = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            out.push_str(&format!(" {name}={value}"));
        }
    };
    let short = |value: &Option<amq_protocol::types::ShortString>| {
        value.as_ref().map(|value| value.to_string())
    };
    text("content_type", short(properties.content_type()));
    text("content_encoding", short(properties.content_encoding()));
    let mode = properties.delivery_mode().map(|mode| mode.to_string());
    text("delivery_mode", mode);
    let priority = properties.priority().map(|priority| priority.to_string());
    text("priority", priority);
    text("correlation_id", short(properties.correlation_id()));
    text("reply_to", short(properties.reply_to()));
    text("expiration", short(properties.expiration()));
    text("message_id", short(properties.message_id()));
    let timestamp = properties.timestamp().map(|seconds| seconds.to_string());
    text("timestamp", timestamp);
    text("type", short(properties.kind()));
    text("user_id", short(properties.user_id()));
    text("app_id", short(properties.app_id()));
    text("cluster_id", short(properties.cluster_id()));
    text("headers", properties.headers().as_ref().map(print_table));
    out
}

fn print_table(table: &FieldTable) -> String {
    let fields = table.inner().iter();
    let fields: Vec<String> = fields
        .map(|(name, value)| format!("{name}: {}", print_value(value)))
        .collect();
    format!("{{{}}}", fields.join(", "))
}

fn print_value(value: &AMQPValue) -> String {
    match value {
        AMQPValue::FieldTable(table) => print_table(table),
        AMQPValue::FieldArray(array) => {
            let values: Vec<String> = array.as_slice().iter().map(print_value).collect();
            format!("[{}]", values.join(", "))
        }
        AMQPValue::LongString(text) => {
            format!("{:?}", String::from_utf8_lossy(text.as_bytes()))
        }
        AMQPValue::Timestamp(_) => "time".to_owned(),
        other => format!("{other:?}"),
    }
}
