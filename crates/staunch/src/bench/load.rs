//! A load: producers and consumers on one queue, measured between a warm-up and an end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use serde::Serialize;
use staunch_client::{ConnectOptions, Connection, QueueSpec};
use staunch_types::field_table::TableBuilder;

use super::{
    consumer::{Acks, ConsumerTask},
    latency::{Latencies, LatencyFigures},
    process::ServerProcess,
    producer::ProducerTask,
};

/// How long a load may take to end after it was told to.
const WIND_DOWN: Duration = Duration::from_secs(30);

/// When a load ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    /// After a warm-up and a time of measurement.
    Elapsed {
        /// Not measured.
        warm_up: Duration,
        /// Measured.
        measured: Duration,
    },
    /// When so many have been published by each producer, and consumed if anybody consumes.
    Count(u64),
}

/// What to do to a broker.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) queue: String,
    pub(super) queue_type: Option<String>,
    pub(super) durable: bool,
    pub(super) persistent: bool,
    pub(super) producers: u32,
    pub(super) consumers: u32,
    pub(super) size_bytes: usize,
    /// Unconfirmed publishes that each producer may have; `None` for no confirms.
    pub(super) confirm_window: Option<usize>,
    pub(super) acks: Acks,
    pub(super) prefetch: u16,
    /// Messages a second by all producers together; `None` for as many as possible.
    pub(super) rate: Option<f64>,
    pub(super) until: Until,
}

/// What came out.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) seconds: f64,
    pub(super) published: u64,
    pub(super) consumed: u64,
    pub(super) published_per_second: f64,
    pub(super) consumed_per_second: f64,
    pub(super) consumed_mb_per_second: f64,
    pub(super) latency: LatencyFigures,
    /// CPU seconds of the server for a million messages, if its process is known.
    pub(super) server_cpu_per_million: Option<f64>,
    pub(super) server_resident_bytes: Option<u64>,
}

/// What the threads of a load share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) started: Instant,
    pub(super) stop_producers: AtomicBool,
    pub(super) stop_consumers: AtomicBool,
    /// Latency is recorded only while this is set.
    pub(super) measuring: AtomicBool,
    /// Confirmed if there are confirms, sent otherwise.
    pub(super) published: AtomicU64,
    pub(super) consumed: AtomicU64,
}

impl Shared {
    /// Nanoseconds since the start; never 0.
    #[inline]
    pub(super) fn now_nanoseconds(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos())
            .unwrap_or(u64::MAX)
            .max(1)
    }
}

/// Counters at an instant.
struct Sample {
    at: Instant,
    published: u64,
    consumed: u64,
    cpu: Option<Duration>,
}

impl Load {
    /// Puts the load on the broker at `options` and gives what came out. The queue is deleted
    /// before and after.
    pub(super) fn run(
        &self,
        options: &ConnectOptions,
        server: Option<ServerProcess>,
    ) -> anyhow::Result<Outcome> {
        let mut control = Connection::open(options).context("cannot connect to the broker")?;
        let channel = control.open_channel()?;
        control.queue_delete(channel, &self.queue)?;
        control.queue_declare(channel, &self.queue_spec())?;
        let shared = Arc::new(Shared {
            started: Instant::now(),
            stop_producers: AtomicBool::new(false),
            stop_consumers: AtomicBool::new(false),
            measuring: AtomicBool::new(matches!(self.until, Until::Count(_))),
            published: AtomicU64::new(0),
            consumed: AtomicU64::new(0),
        });
        let consumers = self.start_consumers(options, &shared)?;
        let producers = self.start_producers(options, &shared)?;
        let (first, last) = self.measure(&shared, server, &producers, &consumers);
        let resident = server.map(ServerProcess::resident_size_bytes);
        shared.stop_producers.store(true, Ordering::Relaxed);
        for producer in producers {
            join(producer)?;
        }
        shared.stop_consumers.store(true, Ordering::Relaxed);
        let mut latencies = Latencies::new();
        for consumer in consumers {
            latencies.add(&join(consumer)?);
        }
        control.queue_delete(channel, &self.queue)?;
        control.close()?;
        let (published, consumed) = (
            last.published - first.published,
            last.consumed - first.consumed,
        );
        let seconds = (last.at - first.at).as_secs_f64();
        let messages = if self.consumers > 0 {
            consumed
        } else {
            published
        };
        let cpu = last
            .cpu
            .zip(first.cpu)
            .map(|(last, first)| last.saturating_sub(first).as_secs_f64());
        Ok(Outcome {
            seconds,
            published,
            consumed,
            published_per_second: float(published) / seconds,
            consumed_per_second: float(consumed) / seconds,
            consumed_mb_per_second: float(consumed * self.size_bytes as u64) / seconds / 1e6,
            latency: latencies.figures(),
            server_cpu_per_million: cpu.map(|cpu| cpu / float(messages.max(1)) * 1e6),
            server_resident_bytes: resident,
        })
    }

    pub(super) fn queue_spec(&self) -> QueueSpec {
        let arguments = match &self.queue_type {
            Some(kind) => TableBuilder::new().longstr("x-queue-type", kind).build(),
            None => TableBuilder::new().build(),
        };
        QueueSpec {
            durable: self.durable,
            arguments,
            ..QueueSpec::durable(&self.queue)
        }
    }

    fn start_consumers(
        &self,
        options: &ConnectOptions,
        shared: &Arc<Shared>,
    ) -> anyhow::Result<Vec<JoinHandle<anyhow::Result<Latencies>>>> {
        let start = |i| {
            let connection = Connection::open(options)?;
            let task = ConsumerTask::new(connection, self, Arc::clone(shared))?;
            spawn(format!("consumer-{i}"), move || task.run())
        };
        (0..self.consumers).map(start).collect()
    }

    fn start_producers(
        &self,
        options: &ConnectOptions,
        shared: &Arc<Shared>,
    ) -> anyhow::Result<Vec<JoinHandle<anyhow::Result<()>>>> {
        let start = |i| {
            let connection = Connection::open(options)?;
            let task = ProducerTask::new(connection, self, Arc::clone(shared))?;
            spawn(format!("producer-{i}"), move || task.run())
        };
        (0..self.producers).map(start).collect()
    }

    /// Waits through the load; gives the counters at the start and the end of measurement.
    fn measure<P, C>(
        &self,
        shared: &Shared,
        server: Option<ServerProcess>,
        producers: &[JoinHandle<P>],
        consumers: &[JoinHandle<C>],
    ) -> (Sample, Sample) {
        let sample = || Sample {
            at: Instant::now(),
            published: shared.published.load(Ordering::Relaxed),
            consumed: shared.consumed.load(Ordering::Relaxed),
            cpu: server.map(ServerProcess::cpu),
        };
        let failed = || {
            consumers.iter().any(JoinHandle::is_finished)
                || matches!(self.until, Until::Elapsed { .. })
                    && producers.iter().any(JoinHandle::is_finished)
        };
        let wait_until = |done: &dyn Fn() -> bool| {
            while !done() && !failed() {
                std::thread::sleep(Duration::from_millis(2));
            }
        };
        match self.until {
            Until::Elapsed { warm_up, measured } => {
                let warm = shared.started + warm_up;
                wait_until(&|| Instant::now() >= warm);
                shared.measuring.store(true, Ordering::Relaxed);
                let first = sample();
                let end = first.at + measured;
                wait_until(&|| Instant::now() >= end);
                let last = sample();
                shared.measuring.store(false, Ordering::Relaxed);
                (first, last)
            }
            Until::Count(count) => {
                let first = sample();
                let total = count * u64::from(self.producers);
                let reached = |counter: &AtomicU64| counter.load(Ordering::Relaxed) >= total;
                wait_until(&|| reached(&shared.published));
                if self.consumers > 0 {
                    wait_until(&|| reached(&shared.consumed));
                }
                (first, sample())
            }
        }
    }
}

fn spawn<T: Send + 'static>(
    name: String,
    run: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<JoinHandle<anyhow::Result<T>>> {
    Ok(std::thread::Builder::new().name(name).spawn(run)?)
}

fn join<T>(handle: JoinHandle<anyhow::Result<T>>) -> anyhow::Result<T> {
    let deadline = Instant::now() + WIND_DOWN;
    while !handle.is_finished() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    let name = handle.thread().name().unwrap_or("thread").to_owned();
    if !handle.is_finished() {
        return Err(anyhow!("{name} did not end within {WIND_DOWN:?}"));
    }
    handle
        .join()
        .map_err(|_| anyhow!("{name} panicked"))?
        .with_context(|| format!("{name} failed"))
}

/// A count as a float; exact up to 2^53.
#[expect(
    clippy::cast_precision_loss,
    reason = "figures are shown to a few digits"
)]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}
