//! Whether a method means the same here and in `amq-protocol`, field by field and by name.
//!
//! Comparing bytes alone would not notice two fields of one type that are swapped in both
//! directions. Fields that AMQP reserves are missing: `amq-protocol` does not show them.

use amq_protocol::protocol as theirs;
use amq_protocol::protocol::BasicProperties;
use amq_protocol::types::{AMQPValue, DecimalValue, FieldTable, LongString, ShortString};
use staunch_types::field_table::{TableRef, Value};
use staunch_types::properties::Properties;

use crate::methods::Method;
use crate::wire::ShortStr;

/// Equality across the two crates.
pub(super) trait Same<T: ?Sized> {
    fn same(&self, ours: &T) -> bool;
}

macro_rules! same_if_equal {
    ($($name:ty),*) => {$(
        impl Same<$name> for $name {
            fn same(&self, ours: &$name) -> bool {
                self == ours
            }
        }
    )*};
}

same_if_equal!(bool, u8, u16, u32, u64);

impl Same<ShortStr<'_>> for ShortString {
    fn same(&self, ours: &ShortStr<'_>) -> bool {
        self.as_str().as_bytes() == ours.as_bytes()
    }
}

impl Same<&[u8]> for LongString {
    fn same(&self, ours: &&[u8]) -> bool {
        self.as_bytes() == *ours
    }
}

impl Same<TableRef<'_>> for FieldTable {
    fn same(&self, ours: &TableRef<'_>) -> bool {
        self.inner().len() == ours.iter().count()
            && self.inner().iter().all(|(key, theirs)| {
                ours.get(key.as_str())
                    .is_some_and(|ours| theirs.same(&ours))
            })
    }
}

impl Same<Value<'_>> for AMQPValue {
    fn same(&self, ours: &Value<'_>) -> bool {
        match (self, *ours) {
            (Self::Boolean(theirs), Value::Bool(ours)) => *theirs == ours,
            (Self::ShortShortInt(theirs), Value::I8(ours)) => *theirs == ours,
            (Self::ShortShortUInt(theirs), Value::U8(ours)) => *theirs == ours,
            (Self::ShortInt(theirs), Value::I16(ours)) => *theirs == ours,
            (Self::ShortUInt(theirs), Value::U16(ours)) => *theirs == ours,
            (Self::LongInt(theirs), Value::I32(ours)) => *theirs == ours,
            (Self::LongUInt(theirs), Value::U32(ours)) => *theirs == ours,
            (Self::LongLongInt(theirs), Value::I64(ours)) => *theirs == ours,
            (Self::Float(theirs), Value::F32(ours)) => theirs.to_bits() == ours.to_bits(),
            (Self::Double(theirs), Value::F64(ours)) => theirs.to_bits() == ours.to_bits(),
            (Self::DecimalValue(theirs), Value::Decimal { scale, value }) => {
                (theirs.scale, theirs.value) == (scale, value)
            }
            (Self::LongString(theirs), Value::LongStr(ours)) => theirs.same(&ours),
            (Self::FieldArray(theirs), Value::Array(ours)) => {
                theirs.as_slice().len() == ours.iter().count()
                    && theirs
                        .as_slice()
                        .iter()
                        .zip(ours)
                        .all(|(theirs, ours)| theirs.same(&ours))
            }
            (Self::Timestamp(theirs), Value::Timestamp(ours)) => *theirs == ours,
            (Self::FieldTable(theirs), Value::Table(ours)) => theirs.same(&ours),
            (Self::Void, Value::Void) => true,
            (Self::ByteArray(theirs), Value::Binary(ours)) => theirs.as_slice() == ours,
            _ => false,
        }
    }
}

/// A table of `amq-protocol`'s own making, as ours.
pub(super) fn theirs(fields: &[(String, super::Tree)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, tree) in fields {
        table.insert(key.as_str().into(), their_value(tree));
    }
    table
}

fn their_value(tree: &super::Tree) -> AMQPValue {
    use super::Tree;
    match tree {
        Tree::Bool(v) => AMQPValue::Boolean(*v),
        Tree::I8(v) => AMQPValue::ShortShortInt(*v),
        Tree::U8(v) => AMQPValue::ShortShortUInt(*v),
        Tree::I16(v) => AMQPValue::ShortInt(*v),
        Tree::U16(v) => AMQPValue::ShortUInt(*v),
        Tree::I32(v) => AMQPValue::LongInt(*v),
        Tree::U32(v) => AMQPValue::LongUInt(*v),
        Tree::I64(v) => AMQPValue::LongLongInt(*v),
        Tree::F32(v) => AMQPValue::Float(*v),
        Tree::F64(v) => AMQPValue::Double(*v),
        &Tree::Decimal(scale, value) => AMQPValue::DecimalValue(DecimalValue { scale, value }),
        Tree::Text(v) => AMQPValue::LongString(v.clone().into()),
        Tree::Timestamp(v) => AMQPValue::Timestamp(*v),
        Tree::Void => AMQPValue::Void,
        Tree::Binary(v) => AMQPValue::ByteArray(v.as_slice().into()),
        Tree::Array(items) => {
            let values: Vec<_> = items.iter().map(their_value).collect();
            AMQPValue::FieldArray(values.into())
        }
        Tree::Table(fields) => AMQPValue::FieldTable(theirs(fields)),
    }
}

/// Properties with headers, the texts that are there in the order of their flags, and numbers:
/// delivery mode, priority, timestamp.
pub(super) fn their_properties(
    headers: FieldTable,
    texts: &[Option<String>],
    numbers: (Option<u8>, Option<u8>, Option<u64>),
) -> BasicProperties {
    let setters = [
        BasicProperties::with_content_type,
        BasicProperties::with_content_encoding,
        BasicProperties::with_correlation_id,
        BasicProperties::with_reply_to,
        BasicProperties::with_expiration,
        BasicProperties::with_message_id,
        BasicProperties::with_type,
        BasicProperties::with_user_id,
        BasicProperties::with_app_id,
        BasicProperties::with_cluster_id,
    ];
    let mut properties = BasicProperties::default().with_headers(headers);
    for (with, text) in setters.iter().zip(texts) {
        if let Some(text) = text {
            properties = with(properties, text.as_str().into());
        }
    }
    let (mode, priority, timestamp) = numbers;
    if let Some(mode) = mode {
        properties = properties.with_delivery_mode(mode);
    }
    if let Some(priority) = priority {
        properties = properties.with_priority(priority);
    }
    if let Some(timestamp) = timestamp {
        properties = properties.with_timestamp(timestamp);
    }
    properties
}

impl Same<Properties<'_>> for BasicProperties {
    fn same(&self, ours: &Properties<'_>) -> bool {
        let text = |theirs: &Option<ShortString>, ours: Option<&[u8]>| {
            theirs.as_ref().map(|text| text.as_str().as_bytes()) == ours
        };
        let headers = match (self.headers(), ours.headers()) {
            (Some(theirs), Some(ours)) => theirs.same(&ours),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        headers
            && text(self.content_type(), ours.content_type())
            && text(self.content_encoding(), ours.content_encoding())
            && text(self.correlation_id(), ours.correlation_id())
            && text(self.reply_to(), ours.reply_to())
            && text(self.expiration(), ours.expiration())
            && text(self.message_id(), ours.message_id())
            && text(self.kind(), ours.message_type())
            && text(self.user_id(), ours.user_id())
            && text(self.app_id(), ours.app_id())
            && text(self.cluster_id(), ours.cluster_id())
            && *self.delivery_mode() == ours.delivery_mode()
            && *self.priority() == ours.priority()
            && *self.timestamp() == ours.timestamp()
    }
}

macro_rules! same_methods {
    ($($ours:ident = $class:ident $module:ident $method:ident: $($field:ident)*;)*) => {
        impl Same<Method<'_>> for theirs::AMQPClass {
            #[allow(unused_variables, reason = "some methods have no fields")]
            fn same(&self, ours: &Method<'_>) -> bool {
                match (self, ours) {
                    $((
                        Self::$class(theirs::$module::AMQPMethod::$method(theirs)),
                        Method::$ours(ours),
                    ) => true $(&& theirs.$field.same(&ours.$field))*,)*
                    _ => false,
                }
            }
        }
    };
}

same_methods! {
    ConnectionStart = Connection connection Start: version_major version_minor server_properties mechanisms locales;
    ConnectionStartOk = Connection connection StartOk: client_properties mechanism response locale;
    ConnectionSecure = Connection connection Secure: challenge;
    ConnectionSecureOk = Connection connection SecureOk: response;
    ConnectionTune = Connection connection Tune: channel_max frame_max heartbeat;
    ConnectionTuneOk = Connection connection TuneOk: channel_max frame_max heartbeat;
    ConnectionOpen = Connection connection Open: virtual_host;
    ConnectionOpenOk = Connection connection OpenOk:;
    ConnectionClose = Connection connection Close: reply_code reply_text class_id method_id;
    ConnectionCloseOk = Connection connection CloseOk:;
    ConnectionBlocked = Connection connection Blocked: reason;
    ConnectionUnblocked = Connection connection Unblocked:;
    ConnectionUpdateSecret = Connection connection UpdateSecret: new_secret reason;
    ConnectionUpdateSecretOk = Connection connection UpdateSecretOk:;
    ChannelOpen = Channel channel Open:;
    ChannelOpenOk = Channel channel OpenOk:;
    ChannelFlow = Channel channel Flow: active;
    ChannelFlowOk = Channel channel FlowOk: active;
    ChannelClose = Channel channel Close: reply_code reply_text class_id method_id;
    ChannelCloseOk = Channel channel CloseOk:;
    AccessRequest = Access access Request: realm exclusive passive active write read;
    AccessRequestOk = Access access RequestOk:;
    ExchangeDeclare = Exchange exchange Declare: exchange kind passive durable auto_delete internal nowait arguments;
    ExchangeDeclareOk = Exchange exchange DeclareOk:;
    ExchangeDelete = Exchange exchange Delete: exchange if_unused nowait;
    ExchangeDeleteOk = Exchange exchange DeleteOk:;
    ExchangeBind = Exchange exchange Bind: destination source routing_key nowait arguments;
    ExchangeBindOk = Exchange exchange BindOk:;
    ExchangeUnbind = Exchange exchange Unbind: destination source routing_key nowait arguments;
    ExchangeUnbindOk = Exchange exchange UnbindOk:;
    QueueDeclare = Queue queue Declare: queue passive durable exclusive auto_delete nowait arguments;
    QueueDeclareOk = Queue queue DeclareOk: queue message_count consumer_count;
    QueueBind = Queue queue Bind: queue exchange routing_key nowait arguments;
    QueueBindOk = Queue queue BindOk:;
    QueuePurge = Queue queue Purge: queue nowait;
    QueuePurgeOk = Queue queue PurgeOk: message_count;
    QueueDelete = Queue queue Delete: queue if_unused if_empty nowait;
    QueueDeleteOk = Queue queue DeleteOk: message_count;
    QueueUnbind = Queue queue Unbind: queue exchange routing_key arguments;
    QueueUnbindOk = Queue queue UnbindOk:;
    BasicQos = Basic basic Qos: prefetch_count global;
    BasicQosOk = Basic basic QosOk:;
    BasicConsume = Basic basic Consume: queue consumer_tag no_local no_ack exclusive nowait arguments;
    BasicConsumeOk = Basic basic ConsumeOk: consumer_tag;
    BasicCancel = Basic basic Cancel: consumer_tag nowait;
    BasicCancelOk = Basic basic CancelOk: consumer_tag;
    BasicPublish = Basic basic Publish: exchange routing_key mandatory immediate;
    BasicReturn = Basic basic Return: reply_code reply_text exchange routing_key;
    BasicDeliver = Basic basic Deliver: consumer_tag delivery_tag redelivered exchange routing_key;
    BasicGet = Basic basic Get: queue no_ack;
    BasicGetOk = Basic basic GetOk: delivery_tag redelivered exchange routing_key message_count;
    BasicGetEmpty = Basic basic GetEmpty:;
    BasicAck = Basic basic Ack: delivery_tag multiple;
    BasicReject = Basic basic Reject: delivery_tag requeue;
    BasicRecoverAsync = Basic basic RecoverAsync: requeue;
    BasicRecover = Basic basic Recover: requeue;
    BasicRecoverOk = Basic basic RecoverOk:;
    BasicNack = Basic basic Nack: delivery_tag multiple requeue;
    ConfirmSelect = Confirm confirm Select: nowait;
    ConfirmSelectOk = Confirm confirm SelectOk:;
    TxSelect = Tx tx Select:;
    TxSelectOk = Tx tx SelectOk:;
    TxCommit = Tx tx Commit:;
    TxCommitOk = Tx tx CommitOk:;
    TxRollback = Tx tx Rollback:;
    TxRollbackOk = Tx tx RollbackOk:;
}
