//! Resource alarms: who publishes is told and waits, who only consumes goes on
//! (RabbitMQ `connection.blocked`, reference 1.3). Who publishes faster than its queues take it waits
//! as well and is not told (RabbitMQ, credit flow).

use std::borrow::Cow;

/// The node's alarms as one connection sees them.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "two alarms and three facts, all independent"
)]
pub(crate) struct Alarms {
    memory: bool,
    disk: bool,
    /// Too much is on its way, or a queue that is to hold out for a time gets too much.
    is_held: bool,
    /// Why such a queue slows the connection, while it does.
    slowed: Option<Box<str>>,
    /// The connection has published: it is told as soon as an alarm begins.
    has_published: bool,
    /// `connection.blocked` was sent and `connection.unblocked` was not.
    is_announced: bool,
}

impl Alarms {
    /// Whether publishes wait.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.memory || self.disk || self.is_held
    }

    #[inline]
    pub(crate) fn saw_publish(&mut self) {
        self.has_published = true;
    }

    pub(crate) fn set(&mut self, memory: bool, disk: bool) {
        (self.memory, self.disk) = (memory, disk);
    }

    pub(crate) fn slow(&mut self, reason: Option<Box<str>>) {
        self.slowed = reason;
    }

    pub(crate) fn hold(&mut self, is_held: bool) {
        self.is_held = is_held;
    }

    /// The reason for `connection.blocked`, if it is due now; it counts as sent.
    pub(crate) fn announce(&mut self) -> Option<Cow<'static, str>> {
        if self.is_announced || !self.has_published {
            return None;
        }
        let reason = match (self.memory, self.disk) {
            (true, true) => Cow::Borrowed("low on memory & disk"),
            (true, false) => Cow::Borrowed("low on memory"),
            (false, true) => Cow::Borrowed("low on disk"),
            (false, false) => Cow::Owned(self.slowed.as_deref()?.to_owned()),
        };
        self.is_announced = true;
        Some(reason)
    }

    /// Whether `connection.unblocked` is due now; it counts as sent.
    pub(crate) fn retract(&mut self) -> bool {
        let has_reason = self.memory || self.disk || self.slowed.is_some();
        !has_reason && std::mem::take(&mut self.is_announced)
    }
}
