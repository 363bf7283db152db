//! The consuming side of a load.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use staunch_client::{ChannelNumber, Connection, Incoming};

use super::{
    body,
    latency::Latencies,
    load::{Load, Shared},
};

/// How often an idle consumer looks whether it should stop.
const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// How deliveries are acked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acks {
    /// The broker expects none.
    Automatic,
    /// One ack for so many deliveries.
    Each(u64),
}

/// One consumer with its connection.
pub(super) struct ConsumerTask {
    connection: Connection,
    channel: ChannelNumber,
    shared: Arc<Shared>,
    acks: Acks,
    latencies: Latencies,
    since_ack: u64,
    last_tag: u64,
    /// Deliveries that are not in the shared counter yet.
    uncounted: u64,
}

impl ConsumerTask {
    pub(super) fn new(
        mut connection: Connection,
        load: &Load,
        shared: Arc<Shared>,
    ) -> anyhow::Result<Self> {
        let channel = connection.open_channel()?;
        if load.acks != Acks::Automatic {
            connection.qos(channel, load.prefetch)?;
        }
        connection.consume(channel, &load.queue, load.acks == Acks::Automatic)?;
        Ok(Self {
            connection,
            channel,
            shared,
            acks: load.acks,
            latencies: Latencies::new(),
            since_ack: 0,
            last_tag: 0,
            uncounted: 0,
        })
    }

    pub(super) fn run(mut self) -> anyhow::Result<Latencies> {
        while !self.shared.stop_consumers.load(Ordering::Relaxed) {
            let mut incoming = self.connection.next_received()?.map(tag_and_stamp);
            if incoming.is_none() {
                self.before_waiting()?;
                incoming = self
                    .connection
                    .next(Some(STOP_CHECK_INTERVAL))?
                    .map(tag_and_stamp);
            }
            if let Some(Some((tag, stamp))) = incoming {
                self.handle_delivery(tag, stamp)?;
            }
        }
        // The queue may have gone already, and the channel with it; that is no failure.
        drop(self.connection.close());
        Ok(self.latencies)
    }

    #[inline]
    fn handle_delivery(&mut self, tag: u64, stamp: Option<u64>) -> anyhow::Result<()> {
        self.uncounted += 1;
        self.last_tag = tag;
        if let Some(sent_at) = stamp
            && self.shared.measuring.load(Ordering::Relaxed)
        {
            self.latencies
                .record(self.shared.now_nanoseconds().saturating_sub(sent_at));
        }
        if let Acks::Each(batch) = self.acks {
            self.since_ack += 1;
            if self.since_ack >= batch {
                self.ack(batch > 1)?;
            }
        }
        Ok(())
    }

    /// Counts, and acks what is left of a batch: the broker may hold back the rest for it.
    fn before_waiting(&mut self) -> anyhow::Result<()> {
        self.shared
            .consumed
            .fetch_add(self.uncounted, Ordering::Relaxed);
        self.uncounted = 0;
        if self.since_ack > 0 {
            self.ack(true)?;
        }
        Ok(())
    }

    fn ack(&mut self, multiple: bool) -> anyhow::Result<()> {
        self.since_ack = 0;
        Ok(self.connection.ack(self.channel, self.last_tag, multiple)?)
    }
}

#[inline]
fn tag_and_stamp(incoming: Incoming<'_>) -> Option<(u64, Option<u64>)> {
    match incoming {
        Incoming::Delivery(delivery) => Some((
            delivery.delivery_tag,
            body::sent_at_nanoseconds(delivery.body),
        )),
        Incoming::Confirm(_)
        | Incoming::Returned(_)
        | Incoming::ConsumerCancelled { .. }
        | Incoming::Blocked
        | Incoming::Unblocked => None,
    }
}
