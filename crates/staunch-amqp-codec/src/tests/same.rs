//! Whether a method means the same here and in `amq-protocol`, field by field and by name.
//!
//! Comparing bytes alone would not notice two fields of one type that are swapped in both
//! directions. Fields that AMQP reserves are missing: `amq-protocol` does not show them.

use amq_protocol::protocol as theirs;
use amq_protocol::types::{AMQPValue, FieldTable, LongString, ShortString};
use staunch_types::field_table::{TableRef, Value};

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
