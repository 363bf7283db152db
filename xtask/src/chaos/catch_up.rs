//! `cargo xtask chaos catch-up`: what it costs clients that a member of their queue gets what it has
//! missed, and how long that takes.
//!
//! Three real nodes and one quorum queue. A follower is killed, much is published, and the follower
//! is started again. Meanwhile a client publishes 2,000 messages a second and notes for each how
//! long its confirm took, from the moment when it was due: before the follower is back, and until it
//! has everything.

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use staunch_client::{
    ChannelNumber, ConnectOptions, Connection, Incoming, QueueSpec,
    proof::{
        cluster::{ClusterProcess, Site},
        guard::Guard,
    },
};

use super::{USAGE, waits::Waits};

const NODES: usize = 3;
const QUEUE: &str = "q";
const MIB: usize = 1 << 20;
/// Messages a second while it is measured.
const RATE: u32 = 2_000;
/// Bytes of each of those.
const STEADY_SIZE_BYTES: usize = 1024;
/// How long it is measured before the follower is back.
const BEFORE: Duration = Duration::from_secs(15);
/// Publishes on their way while the backlog is made, in bytes.
const WINDOW_SIZE_BYTES: usize = 4 * MIB;
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_mins(5);
/// Entries that the follower may lack at the end, since clients go on publishing.
const BEHIND_MAX: u64 = 100;
/// How much longer the confirms of 99 % may take meanwhile.
const RISE_MAX: f64 = 1.5;

/// A run.
#[derive(Debug)]
struct Plan {
    mib: usize,
    size_bytes: usize,
    /// Somebody consumes what is published while the follower is away.
    is_consumed: bool,
    binary: PathBuf,
}

/// Runs `options`, what follows `chaos catch-up` on the command line.
pub(super) fn run(root: &Path, options: &[&str]) -> anyhow::Result<ExitCode> {
    let plan = Plan::parse(root, options)?;
    let guard = Guard::new("catch-up")?;
    Ok(if plan.run(&guard)? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Plan {
    fn parse(root: &Path, options: &[&str]) -> anyhow::Result<Self> {
        let mut plan = Self {
            mib: 1024,
            size_bytes: 1024,
            is_consumed: false,
            binary: root.join("target/release/staunch"),
        };
        let mut rest = options.iter();
        while let Some(option) = rest.next() {
            match (*option, rest.next()) {
                ("--mib", Some(value)) => plan.mib = value.parse().context("--mib")?,
                ("--size", Some(value)) => plan.size_bytes = value.parse().context("--size")?,
                ("--binary", Some(file)) => plan.binary = fs::canonicalize(file)?,
                ("--consumed", Some(value)) => plan.is_consumed = value.parse()?,
                _ => bail!("usage:\n{USAGE}"),
            }
        }
        Ok(plan)
    }

    fn run(&self, guard: &Guard) -> anyhow::Result<bool> {
        let mut nodes =
            ClusterProcess::new(&self.binary, guard.directory(), &Site::loopback(NODES))?;
        nodes.start()?;
        guard.watch(&nodes.pids())?;
        ensure!(nodes.view().wait_whole(PATIENCE), "the nodes do not meet");
        let options = nodes.connect_options();
        let mut client = Client::connect(&options[0])?;
        let queue = QueueSpec::durable(QUEUE);
        client
            .connection
            .queue_declare_all(client.channel, &[queue])?;
        ensure!(nodes.view().wait_caught_up(QUEUE, 0, PATIENCE), "no leader");
        let leader = nodes.view().leader(QUEUE, &[]).context("no leader")?;
        let away = (1..NODES)
            .rfind(|node| *node != leader)
            .context("a follower")?;
        nodes.node(away).kill();
        let consumer = self
            .is_consumed
            .then(|| Consumer::start(&options[0]))
            .transpose()?;
        let started = Instant::now();
        client.fill(self.mib * MIB, self.size_bytes)?;
        eprintln!(
            "n{} leads, n{} is away: {} MiB in messages of {} bytes in {:.1} s",
            leader + 1,
            away + 1,
            self.mib,
            self.size_bytes,
            started.elapsed().as_secs_f64()
        );
        let until = Instant::now() + BEFORE;
        let before = client.publish_steadily(|| Instant::now() >= until)?;
        eprint!("before: {before}");
        nodes.node(away).start()?;
        guard.watch(&nodes.pids())?;
        let started = Instant::now();
        let (during, took) = thread::scope(|scope| {
            let view = nodes.view();
            let watch = scope.spawn(move || {
                let has_all = view.wait_caught_up(QUEUE, BEHIND_MAX, PATIENCE);
                has_all.then(|| started.elapsed())
            });
            let during = client.publish_steadily(|| watch.is_finished());
            (during, watch.join())
        });
        let during = during?;
        let took = took.ok().flatten().context("it does not catch up")?;
        eprint!("during: {during}");
        drop(consumer);
        let rise = during.p99().as_secs_f64() / before.p99().as_secs_f64();
        let verdict = if rise <= RISE_MAX { "met" } else { "MISSED" };
        eprintln!("caught up after {:.1} s", took.as_secs_f64());
        eprintln!("p99 of confirms during it by p99 before: {rise:.2} of {RISE_MAX}  {verdict}");
        Ok(rise <= RISE_MAX)
    }
}

/// Who publishes.
struct Client {
    connection: Connection,
    channel: ChannelNumber,
}

impl Client {
    fn connect(options: &ConnectOptions) -> anyhow::Result<Self> {
        let mut connection = Connection::open(options)?;
        let channel = connection.open_channel()?;
        connection.confirm_select(channel)?;
        Ok(Self {
            connection,
            channel,
        })
    }

    /// Publishes so much, as fast as it is confirmed.
    fn fill(&mut self, mut left: usize, size_bytes: usize) -> anyhow::Result<()> {
        let body = vec![b'x'; size_bytes];
        let window = (WINDOW_SIZE_BYTES / size_bytes).max(1);
        while left > 0 {
            (self.connection).publish(self.channel, "", QUEUE, &<_>::default(), &body)?;
            left = left.saturating_sub(size_bytes);
            while self.connection.unconfirmed_count(self.channel) >= window {
                self.connection.next(Some(PATIENCE))?;
            }
        }
        let refused = (self.connection).wait_for_confirms(self.channel, PATIENCE)?;
        ensure!(refused.is_empty(), "{} were refused", refused.len());
        Ok(())
    }

    /// Publishes at [`RATE`] until `is_over`: how long the confirms took.
    fn publish_steadily(&mut self, is_over: impl Fn() -> bool) -> anyhow::Result<Waits> {
        let body = vec![b'x'; STEADY_SIZE_BYTES];
        let period = Duration::from_secs(1) / RATE;
        let mut waits = Waits::default();
        // When those were due that are not confirmed; they are confirmed in order.
        let mut due = VecDeque::new();
        let mut next = Instant::now();
        while !is_over() {
            while next <= Instant::now() {
                (self.connection).publish(self.channel, "", QUEUE, &<_>::default(), &body)?;
                due.push_back(next);
                next += period;
            }
            self.connection.flush()?;
            let pause = next.saturating_duration_since(Instant::now());
            self.note_confirms(pause.max(Duration::from_micros(100)), &mut due, &mut waits)?;
        }
        while !due.is_empty() {
            self.note_confirms(PATIENCE, &mut due, &mut waits)?;
        }
        Ok(waits)
    }

    fn note_confirms(
        &mut self,
        pause: Duration,
        due: &mut VecDeque<Instant>,
        waits: &mut Waits,
    ) -> anyhow::Result<()> {
        if let Some(Incoming::Confirm(confirm)) = self.connection.next(Some(pause))? {
            ensure!(confirm.is_ack, "publish {} was refused", confirm.tag);
        }
        let left = self.connection.unconfirmed_count(self.channel);
        while due.len() > left
            && let Some(due) = due.pop_front()
        {
            waits.add(due.elapsed());
        }
        Ok(())
    }
}

/// Somebody who consumes everything, until it is dropped.
struct Consumer {
    is_over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Consumer {
    fn start(options: &ConnectOptions) -> anyhow::Result<Self> {
        let mut connection = Connection::open(options)?;
        let channel = connection.open_channel()?;
        connection.qos(channel, 1_000)?;
        connection.consume(channel, QUEUE, false)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let work = move || {
            while !over.load(Ordering::Relaxed) {
                let tag = match connection.next(Some(Duration::from_millis(100))) {
                    Ok(Some(Incoming::Delivery(delivery))) => delivery.delivery_tag,
                    Ok(_) => continue,
                    Err(_) => return,
                };
                if connection.ack(channel, tag, false).is_err() {
                    return;
                }
            }
        };
        let thread = Some(thread::spawn(work));
        Ok(Self { is_over, thread })
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(thread::JoinHandle::join);
        drop(ended);
    }
}
