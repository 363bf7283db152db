//! The publishing side of a load.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use staunch_client::{ChannelNumber, Connection, PublishTemplate};
use staunch_types::properties::PropertiesBuilder;

use super::{
    body,
    load::{Load, Shared, Until, float},
};

/// Publishes between two looks at the clock and the stop flag.
const BATCH_COUNT: u64 = 64;

/// Without confirms, how often a producer looks whether the broker wants it to wait.
const BLOCKED_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// One producer with its connection.
pub(super) struct ProducerTask {
    connection: Connection,
    channel: ChannelNumber,
    template: PublishTemplate,
    body: Vec<u8>,
    shared: Arc<Shared>,
    window: Option<usize>,
    /// Time between two messages of this producer, if there is a rate.
    interval_nanoseconds: Option<f64>,
    count_max: u64,
    sent: u64,
    confirmed: u64,
}

impl ProducerTask {
    pub(super) fn new(
        mut connection: Connection,
        load: &Load,
        shared: Arc<Shared>,
    ) -> anyhow::Result<Self> {
        let channel = connection.open_channel()?;
        if load.confirm_window.is_some() {
            connection.confirm_select(channel)?;
        }
        let mut properties = PropertiesBuilder::new();
        if load.persistent {
            properties = properties.delivery_mode(2);
        }
        let properties = properties.build()?;
        let template = connection.publish_template(channel, "", &load.queue, false, &properties)?;
        let interval = load.rate.map(|rate| 1e9 / rate * f64::from(load.producers));
        let count_max = match load.until {
            Until::Count(count) => count,
            Until::Elapsed { .. } => u64::MAX,
        };
        Ok(Self {
            connection,
            channel,
            template,
            body: body::unstamped(load.size_bytes),
            shared,
            window: load.confirm_window,
            interval_nanoseconds: interval,
            count_max,
            sent: 0,
            confirmed: 0,
        })
    }

    pub(super) fn run(mut self) -> anyhow::Result<()> {
        let start = self.shared.now_nanoseconds();
        let mut looked_at = Instant::now();
        while !self.shared.stop_producers.load(Ordering::Relaxed) && self.sent < self.count_max {
            let now = self.shared.now_nanoseconds();
            let allowed = self.allowed(now - start);
            for _ in 0..allowed {
                self.publish(start, now)?;
            }
            if self.window.is_none() {
                self.shared.published.fetch_add(allowed, Ordering::Relaxed);
                if looked_at.elapsed() > BLOCKED_CHECK_INTERVAL || self.is_blocked() {
                    looked_at = Instant::now();
                    self.receive(Some(Duration::ZERO))?;
                }
            }
            if allowed == 0 || self.interval_nanoseconds.is_some() {
                self.connection.flush()?;
                let timeout = self.until_next(start);
                self.receive(Some(timeout))?;
            } else if self.window.is_some() {
                self.receive_what_is_there()?;
            }
        }
        self.connection.flush()?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.connection.unconfirmed_count(self.channel) > 0 && Instant::now() < deadline {
            self.receive(Some(Duration::from_millis(100)))?;
        }
        self.connection.close()?;
        Ok(())
    }

    /// How many may be published now.
    fn allowed(&self, elapsed_nanoseconds: u64) -> u64 {
        if self.is_blocked() {
            return 0;
        }
        let left = self.count_max - self.sent;
        let in_window = match self.window {
            Some(window) => {
                window.saturating_sub(self.connection.unconfirmed_count(self.channel)) as u64
            }
            None => BATCH_COUNT,
        };
        let due = match self.interval_nanoseconds {
            Some(interval) => {
                whole(float(elapsed_nanoseconds) / interval).saturating_sub(self.sent)
            }
            None => BATCH_COUNT,
        };
        in_window.min(due).min(left)
    }

    fn is_blocked(&self) -> bool {
        self.connection.blocked_reason().is_some()
    }

    #[inline]
    fn publish(&mut self, start: u64, now: u64) -> anyhow::Result<()> {
        let sent_at = match self.interval_nanoseconds {
            // When it was due: what waited longer is charged for the wait.
            Some(interval) => start + whole(float(self.sent + 1) * interval),
            // At full speed one message a batch is measured; a clock for each would itself cost
            // more than a publish.
            None if self.sent.is_multiple_of(BATCH_COUNT) => now,
            None => 0,
        };
        body::stamp(&mut self.body, sent_at, self.sent);
        self.connection.publish_with(&self.template, &self.body)?;
        self.sent += 1;
        Ok(())
    }

    /// How long until the next message is due.
    fn until_next(&self, start: u64) -> Duration {
        let Some(interval) = self.interval_nanoseconds else {
            return Duration::from_millis(100);
        };
        let due = start + whole(float(self.sent + 1) * interval);
        let left = due.saturating_sub(self.shared.now_nanoseconds());
        let is_window_full = self.window == Some(self.connection.unconfirmed_count(self.channel));
        if is_window_full {
            Duration::from_millis(100)
        } else {
            Duration::from_nanos(left)
        }
    }

    fn receive(&mut self, timeout: Option<Duration>) -> anyhow::Result<()> {
        self.connection.next(timeout)?;
        self.receive_what_is_there()
    }

    fn receive_what_is_there(&mut self) -> anyhow::Result<()> {
        while self.connection.next_received()?.is_some() {}
        if self.window.is_some() {
            let open = self.connection.unconfirmed_count(self.channel) as u64;
            let confirmed = self.sent - open;
            self.shared
                .published
                .fetch_add(confirmed - self.confirmed, Ordering::Relaxed);
            self.confirmed = confirmed;
        }
        Ok(())
    }
}

/// The integer part of a number that is not negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times and counts are positive and below 2^53"
)]
fn whole(number: f64) -> u64 {
    number as u64
}
