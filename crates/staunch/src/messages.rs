//! Commands that carry messages, over AMQP.

pub(crate) mod consume;
pub(crate) mod dead_letters;
pub(crate) mod door;
pub(crate) mod peek;
pub(crate) mod progress;
pub(crate) mod properties;
pub(crate) mod publish;
pub(crate) mod shift;
pub(crate) mod shown;
pub(crate) mod tail;
pub(crate) mod transfer;
