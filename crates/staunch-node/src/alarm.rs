//! Resource alarms: memory and disk (RabbitMQ, resource alarms).
//!
//! The node tells every connection, and the connection keeps its publishes back; acks and
//! deliveries go on, because they are what makes room again. An alarm goes off a little below the
//! point where it went on, so that it does not flap. What alarms of other nodes mean is in
//! `cluster/holds`.

use staunch_types::Event;

use crate::{cluster::AlarmsElsewhere, input::News, node::Node};

/// Which resources run low, and what that is judged by.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    memory: bool,
    disk: bool,
    /// Of other nodes.
    pub(crate) elsewhere: AlarmsElsewhere,
    /// Last known free space; none before the runtime first said.
    pub(crate) disk_free_size_bytes: Option<u64>,
}

impl Alarms {
    /// What a new connection has to be told; none if all is well.
    pub(crate) fn event(&self) -> Option<Event> {
        let Self { memory, disk, .. } = self;
        let (memory, disk) = (*memory, *disk);
        (memory || disk).then_some(Event::Alarm { memory, disk })
    }

    fn judge(&mut self, kept_size_bytes: u64, limits: &Limits) -> bool {
        let before = (self.memory, self.disk);
        let memory_limit = limits.memory_size_bytes;
        let memory_clear = memory_limit / 10 * 9;
        self.memory = kept_size_bytes
            > if self.memory {
                memory_clear
            } else {
                memory_limit
            };
        let disk_limit = limits.disk_free_size_bytes;
        let disk_clear = disk_limit + disk_limit / 10;
        let wanted = if self.disk { disk_clear } else { disk_limit };
        self.disk =
            limits.log_is_short || self.disk_free_size_bytes.is_some_and(|free| free < wanted);
        before != (self.memory, self.disk)
    }
}

/// How a node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "four facts")]
pub struct Condition {
    /// It keeps more in memory than it may: publishers are blocked.
    pub has_memory_alarm: bool,
    /// It has too little free disk: publishers are blocked.
    pub has_disk_alarm: bool,
    /// Memory that cannot be dropped, in bytes.
    pub kept_size_bytes: u64,
    /// Above so much there is an alarm.
    pub kept_size_bytes_max: u64,
    /// Free space of the data directory's file system, in bytes; none before anybody looked.
    pub disk_free_size_bytes: Option<u64>,
    /// Below so much there is an alarm.
    pub disk_free_limit_size_bytes: u64,
    /// Its limit on connections is not reached.
    pub has_room_for_connections: bool,
    /// It is stopping.
    pub is_stopping: bool,
}

struct Limits {
    memory_size_bytes: u64,
    disk_free_size_bytes: u64,
    log_is_short: bool,
}

impl Node {
    /// Memory that cannot be dropped: transient bodies, indexes, what is read ahead, unwritten or
    /// held back by transactions.
    pub fn kept_size_bytes(&self) -> u64 {
        self.bodies.memory_size_bytes()
            + self.queues.memory_size_bytes()
            + self.fetches.size_bytes() as u64
            + self.store.unwritten_size_bytes() as u64
            + self.tx_size_bytes
            + self.outboxes_size_bytes()
    }

    /// Raises or clears alarms and tells every connection of a change.
    pub(crate) fn update_alarms(&mut self) {
        let limits = Limits {
            memory_size_bytes: self.config.kept_size_bytes_max(),
            disk_free_size_bytes: self.config.disk_free_limit_size_bytes,
            log_is_short: self.store.is_short_of_files(),
        };
        let before = self.alarms();
        if !self.alarms.judge(self.kept_size_bytes(), &limits) {
            return;
        }
        let (memory, disk) = self.alarms();
        for (source, was, is) in [("memory", before.0, memory), ("disk", before.1, disk)] {
            if was != is {
                self.notify_alarm(source, is);
                self.report(News::Alarm {
                    resource: source,
                    is_on: is,
                });
            }
        }
        for slot in self.sessions.slots() {
            self.tell_alarms(slot);
        }
        self.spread_alarms();
    }

    pub(crate) fn condition(&self) -> Condition {
        Condition {
            has_memory_alarm: self.alarms.memory,
            has_disk_alarm: self.alarms.disk,
            kept_size_bytes: self.kept_size_bytes(),
            kept_size_bytes_max: self.config.kept_size_bytes_max(),
            disk_free_size_bytes: self.alarms.disk_free_size_bytes,
            disk_free_limit_size_bytes: self.config.disk_free_limit_size_bytes,
            has_room_for_connections: self.has_room_for_connections(),
            is_stopping: self.stopping.is_some(),
        }
    }

    /// Which alarms are on: memory, disk.
    pub fn alarms(&self) -> (bool, bool) {
        (self.alarms.memory, self.alarms.disk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(log_is_short: bool) -> Limits {
        Limits {
            memory_size_bytes: 1000,
            disk_free_size_bytes: 1000,
            log_is_short,
        }
    }

    #[test]
    fn memory_alarm_has_hysteresis() {
        let mut alarms = Alarms::default();
        assert!(!alarms.judge(1000, &limits(false)));
        assert!(alarms.judge(1001, &limits(false)) && alarms.memory);
        assert!(!alarms.judge(950, &limits(false)) && alarms.memory);
        assert!(alarms.judge(900, &limits(false)) && !alarms.memory);
    }

    #[test]
    fn disk_alarm_follows_free_space_and_the_log() {
        let mut alarms = Alarms::default();
        assert!(
            !alarms.judge(0, &limits(false)),
            "unknown space is no alarm"
        );
        alarms.disk_free_size_bytes = Some(999);
        assert!(alarms.judge(0, &limits(false)) && alarms.disk);
        alarms.disk_free_size_bytes = Some(1050);
        assert!(!alarms.judge(0, &limits(false)) && alarms.disk);
        alarms.disk_free_size_bytes = Some(1100);
        assert!(alarms.judge(0, &limits(false)) && !alarms.disk);
        assert!(alarms.judge(0, &limits(true)) && alarms.disk);
    }
}
