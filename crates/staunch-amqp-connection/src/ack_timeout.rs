//! Deliveries that wait too long for their acknowledgement (RabbitMQ, consumer timeout).
//!
//! A delivery that is never settled keeps its message and everything behind it in the log, so a
//! channel whose oldest delivery is older than allowed is closed. RabbitMQ notes the time of each
//! delivery; here a delivery costs no more than the question whether the timer runs. Each time it
//! fires, a channel notes which tags have been given out until then; a tag below such a mark was
//! delivered before the mark's time. So a channel is closed late by at most two of the timer's
//! intervals, and never early. Only the oldest delivery is looked at, as RabbitMQ does.

use std::{collections::VecDeque, time::Duration};

use staunch_types::{ChannelNumber, Timestamp};

use crate::{
    channel::Channel,
    connection::Connection,
    error::{Fault, MethodId, ReplyCode},
};

/// How often deliveries are looked at, at most and at least; in between, a part of the timeout.
const INTERVAL_MAX: Duration = Duration::from_mins(1);
const INTERVAL_MIN: Duration = Duration::from_millis(250);

/// The shortest timeout that matters is this many intervals long.
const INTERVALS_PER_TIMEOUT: u32 = 8;

/// Marks a channel keeps; beyond, every second one goes, and old deliveries are dated later.
const MARKS_MAX: usize = 128;

/// When deliveries are looked at next. It stands still while there is nothing to look at.
#[derive(Debug)]
pub(crate) struct AckTimer {
    /// Zero if no delivery has a timeout.
    interval: Duration,
    due: Option<Timestamp>,
}

impl AckTimer {
    pub(crate) fn new(timeout: Option<Duration>) -> Self {
        let mut timer = Self {
            interval: Duration::ZERO,
            due: None,
        };
        if let Some(timeout) = timeout {
            timer.cover(timeout);
        }
        timer
    }

    /// Makes the timer fire often enough for `timeout`.
    pub(crate) fn cover(&mut self, timeout: Duration) {
        let interval = (timeout / INTERVALS_PER_TIMEOUT).clamp(INTERVAL_MIN, INTERVAL_MAX);
        if self.interval.is_zero() || interval < self.interval {
            self.interval = interval;
        }
    }

    /// There is a delivery to settle.
    #[inline]
    pub(crate) fn arm(&mut self, now: Timestamp) {
        if self.due.is_none() && !self.interval.is_zero() {
            self.due = Some(now + self.interval);
        }
    }

    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.due
    }

    pub(crate) fn stop(&mut self) {
        self.due = None;
    }
}

/// Which tags of a channel had been given out when: ascending in both.
#[derive(Debug, Default)]
pub(crate) struct AckMarks {
    /// Tags below the first were delivered before the second.
    marks: VecDeque<(u64, Timestamp)>,
}

impl AckMarks {
    /// Notes that tags below `next_tag` have been given out, and forgets what only concerned
    /// tags below `oldest`. Returns a time at which `oldest` had been delivered.
    fn tick(&mut self, oldest: u64, next_tag: u64, now: Timestamp) -> Timestamp {
        while self.marks.front().is_some_and(|mark| mark.0 <= oldest) {
            self.marks.pop_front();
        }
        if self.marks.back().is_none_or(|mark| mark.0 < next_tag) {
            if self.marks.len() == MARKS_MAX {
                let mut is_second = true;
                self.marks.retain(|_| {
                    is_second = !is_second;
                    is_second
                });
            }
            self.marks.push_back((next_tag, now));
        }
        self.marks.front().map_or(now, |mark| mark.1)
    }
}

impl Channel {
    /// The timeout that the oldest unsettled delivery has passed, if it has.
    fn check_ack_timeout(&mut self, default: Option<Duration>, now: Timestamp) -> Option<Duration> {
        let (tag, delivery) = self.unacked.oldest()?;
        let next_tag = self.unacked.next_tag();
        let delivered_before = self.ack_marks.tick(tag, next_tag, now);
        let timeout = self
            .consumer_by_key(delivery.consumer)
            .and_then(|consumer| consumer.timeout)
            .or(default)?;
        (delivered_before + timeout <= now).then_some(timeout)
    }
}

impl Connection {
    /// Closes channels whose oldest delivery has waited too long, if it is time to look.
    pub(crate) fn check_ack_timeouts(&mut self) {
        let now = self.now;
        if self.ack_timer.due().is_none_or(|due| now < due) {
            return;
        }
        self.ack_timer.stop();
        let default = self.config.consumer_timeout;
        let mut late = Vec::new();
        for channel in self.channels.iter_mut().filter(|channel| channel.is_open()) {
            if channel.unacked.count() == 0 {
                continue;
            }
            match channel.check_ack_timeout(default, now) {
                Some(timeout) => late.push((channel.number, timeout)),
                None => self.ack_timer.arm(now),
            }
        }
        for (number, timeout) in late {
            self.fail_channel(number, &timed_out(number, timeout));
        }
    }
}

/// RabbitMQ's text; the close blames no method.
fn timed_out(channel: ChannelNumber, timeout: Duration) -> Fault {
    Fault {
        code: ReplyCode::PreconditionFailed,
        text: format!(
            "delivery acknowledgement on channel {channel} timed out. Timeout value used: {} ms. \
             This timeout value can be configured, see consumers doc guide to learn more",
            timeout.as_millis()
        ),
        method: MethodId::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_dated_by_the_first_mark_after_it() {
        let mut marks = AckMarks::default();
        assert_eq!(marks.tick(1, 5, Timestamp(10)), Timestamp(10));
        assert_eq!(marks.tick(3, 9, Timestamp(20)), Timestamp(10));
        assert_eq!(marks.tick(4, 9, Timestamp(30)), Timestamp(10));
        assert_eq!(marks.tick(5, 9, Timestamp(40)), Timestamp(20));
        assert_eq!(marks.tick(9, 10, Timestamp(50)), Timestamp(50));
    }

    #[test]
    fn marks_are_bounded_and_keep_their_order() {
        let mut marks = AckMarks::default();
        for time in 1..10_000 {
            let dated = marks.tick(1, time + 1, Timestamp(time));
            assert!(dated >= Timestamp(1) && dated <= Timestamp(time));
            assert!(marks.marks.len() <= MARKS_MAX);
            assert!(marks.marks.iter().is_sorted());
        }
        assert_eq!(marks.marks.back(), Some(&(10_000, Timestamp(9_999))));
    }

    #[test]
    fn the_shortest_timeout_decides_how_often() {
        let mut timer = AckTimer::new(None);
        timer.arm(Timestamp(0));
        assert_eq!(timer.due(), None);
        timer.cover(Duration::from_mins(30));
        timer.arm(Timestamp(0));
        timer.arm(Timestamp(9));
        assert_eq!(timer.due(), Some(Timestamp(0) + INTERVAL_MAX));
        timer.stop();
        timer.cover(Duration::from_secs(4));
        timer.cover(Duration::from_hours(1));
        timer.arm(Timestamp(0));
        assert_eq!(timer.due(), Some(Timestamp(0) + Duration::from_millis(500)));
    }
}
