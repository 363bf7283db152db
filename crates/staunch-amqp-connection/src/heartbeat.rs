//! Heartbeats both ways (AMQP 0-9-1, section 4.2.7).
//!
//! One tick per half interval serves both: if nothing was written since the last tick, a
//! heartbeat is; if nothing was read for four ticks, which is two intervals, the peer is dead.
//! While the connection itself does not read, the peer cannot prove that it lives, so the count
//! stands still.

use std::time::Duration;

use staunch_types::Timestamp;

/// Ticks without input after which the peer is dead: two intervals.
const SILENT_TICKS_MAX: u32 = 4;

/// What a tick asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    /// Nothing.
    Idle,
    /// Write a heartbeat frame.
    Send,
    /// The peer missed two heartbeats.
    PeerDead,
}

/// Timers of one connection; without an interval there are none.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    half_interval: Duration,
    next_tick: Option<Timestamp>,
    silent_ticks: u32,
    wrote: bool,
}

impl Heartbeat {
    /// Not yet negotiated.
    pub(crate) fn off() -> Self {
        Self {
            half_interval: Duration::ZERO,
            next_tick: None,
            silent_ticks: 0,
            wrote: false,
        }
    }

    /// Starts after tuning; an interval of zero means no heartbeats.
    pub(crate) fn start(&mut self, interval: Duration, now: Timestamp) {
        self.half_interval = interval / 2;
        self.next_tick = (!interval.is_zero()).then(|| now + self.half_interval);
    }

    pub(crate) fn stop(&mut self) {
        self.next_tick = None;
    }

    #[inline]
    pub(crate) fn saw_input(&mut self) {
        self.silent_ticks = 0;
    }

    #[inline]
    pub(crate) fn saw_output(&mut self) {
        self.wrote = true;
    }

    pub(crate) fn next_tick(&self) -> Option<Timestamp> {
        self.next_tick
    }

    /// Lets time pass. `reads` says whether the connection takes input.
    pub(crate) fn tick(&mut self, now: Timestamp, reads: bool) -> Beat {
        if self.next_tick.is_none_or(|due| now < due) {
            return Beat::Idle;
        }
        self.next_tick = Some(now + self.half_interval);
        self.silent_ticks = if reads { self.silent_ticks + 1 } else { 0 };
        if self.silent_ticks > SILENT_TICKS_MAX {
            return Beat::PeerDead;
        }
        if std::mem::take(&mut self.wrote) {
            Beat::Idle
        } else {
            Beat::Send
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn sends_when_idle_and_gives_up_after_two_intervals() {
        let mut heartbeat = Heartbeat::off();
        heartbeat.start(Duration::from_secs(10), Timestamp(0));
        let mut at = |seconds: u64| heartbeat.tick(Timestamp(seconds * SECOND), true);
        assert_eq!(at(4), Beat::Idle);
        assert_eq!([at(5), at(10), at(15), at(20)], [Beat::Send; 4]);
        assert_eq!(at(25), Beat::PeerDead);
    }

    #[test]
    fn output_replaces_a_heartbeat_and_input_resets_the_count() {
        let mut heartbeat = Heartbeat::off();
        heartbeat.start(Duration::from_secs(10), Timestamp(0));
        for seconds in (5..500).step_by(5) {
            heartbeat.saw_output();
            heartbeat.saw_input();
            assert_eq!(
                heartbeat.tick(Timestamp(seconds * SECOND), true),
                Beat::Idle
            );
        }
        for seconds in (500..1000).step_by(5) {
            assert_eq!(
                heartbeat.tick(Timestamp(seconds * SECOND), false),
                Beat::Send
            );
        }
    }
}
