//! Resource alarms: who publishes is told and waits, who only consumes goes on
//! (RabbitMQ `connection.blocked`, reference 1.3).

/// The node's alarms as one connection sees them.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "two alarms and two facts, all independent"
)]
pub(crate) struct Alarms {
    memory: bool,
    disk: bool,
    /// The connection has published: it is told as soon as an alarm begins.
    has_published: bool,
    /// `connection.blocked` was sent and `connection.unblocked` was not.
    is_announced: bool,
}

impl Alarms {
    /// Whether publishes wait.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.memory || self.disk
    }

    #[inline]
    pub(crate) fn saw_publish(&mut self) {
        self.has_published = true;
    }

    pub(crate) fn set(&mut self, memory: bool, disk: bool) {
        (self.memory, self.disk) = (memory, disk);
    }

    /// The reason for `connection.blocked`, if it is due now; it counts as sent.
    pub(crate) fn announce(&mut self) -> Option<&'static str> {
        if self.is_announced || !self.has_published {
            return None;
        }
        let reason = match (self.memory, self.disk) {
            (true, true) => "low on memory & disk",
            (true, false) => "low on memory",
            (false, true) => "low on disk",
            (false, false) => return None,
        };
        self.is_announced = true;
        Some(reason)
    }

    /// Whether `connection.unblocked` is due now; it counts as sent.
    pub(crate) fn retract(&mut self) -> bool {
        !self.any() && std::mem::take(&mut self.is_announced)
    }
}
