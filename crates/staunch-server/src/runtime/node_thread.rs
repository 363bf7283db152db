//! The thread that owns the node machine.

use std::{collections::HashMap, sync::Arc, thread, time::Duration};

use anyhow::Context;
use staunch_log::{Background, Disk, Reader, Writer};
use staunch_node::{Input, Node, Output};
use staunch_types::{ConnectionId, Request};
use tokio::{
    runtime,
    sync::{mpsc, oneshot},
    time,
};

use crate::{
    clock::Clock,
    fatal,
    runtime::{Mailbox, worker::Workers},
};

/// Batches of requests that may wait for the node; a connection with more waits itself.
const INBOX_BATCHES_MAX: usize = 16;
/// Inputs handled before the node seals, dispatches and emits.
const DRAIN_INPUTS_MAX: usize = 128;
/// Requests after which a drain ends, so that a flood of publishes does not keep deliveries
/// waiting: one to two milliseconds of work.
const DRAIN_REQUESTS_MAX: usize = 8192;
/// How often the node hears that time passes.
const TICK: Duration = Duration::from_millis(200);

/// What connection tasks send to the node thread.
pub(crate) enum FromConnection {
    /// A new connection and where its events go.
    Connected(ConnectionId, Arc<Mailbox>),
    /// Requests, in order.
    Requests(ConnectionId, Vec<Request>),
}

/// How the rest of the process talks to the node.
#[derive(Clone)]
pub(crate) struct NodeHandle {
    pub(crate) requests: mpsc::Sender<FromConnection>,
    facts: mpsc::UnboundedSender<Input>,
}

impl NodeHandle {
    /// Tells the node a fact about the machine, or to stop.
    pub(crate) fn tell(&self, fact: Input) {
        // The receiver only goes away with the process.
        drop(self.facts.send(fact));
    }
}

/// The running node thread.
pub(crate) struct NodeThread {
    stopped: oneshot::Receiver<()>,
}

impl NodeThread {
    /// Starts the node and its disk workers.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub(crate) fn start<D>(
        node: Node,
        writer: Writer<D>,
        background: Background<D>,
        reader: Reader<D>,
        clock: Clock,
    ) -> anyhow::Result<(NodeHandle, Self)>
    where
        D: Disk,
        Writer<D>: Send + 'static,
        Background<D>: Send + 'static,
        Reader<D>: Send + 'static,
    {
        let (requests, request_inbox) = mpsc::channel(INBOX_BATCHES_MAX);
        let (facts, fact_inbox) = mpsc::unbounded_channel();
        let (stopped_sender, stopped) = oneshot::channel();
        let workers = Workers::start(writer, background, reader, &facts)?;
        let mut driver = Driver {
            node,
            workers,
            clock,
            requests: request_inbox,
            facts: fact_inbox,
            mailboxes: HashMap::new(),
            stopped: Some(stopped_sender),
        };
        let runtime = runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        thread::Builder::new()
            .name("node".into())
            .spawn(move || runtime.block_on(driver.run()))
            .context("start node thread")?;
        Ok((NodeHandle { requests, facts }, Self { stopped }))
    }

    /// Resolves when the node has written everything and stopped.
    pub(crate) async fn stopped(self) {
        // A dropped sender means the thread is gone: stopped as well.
        drop(self.stopped.await);
    }
}

async fn sleep_until(deadline: Option<time::Instant>) {
    if let Some(deadline) = deadline {
        time::sleep_until(deadline).await;
    }
}

struct Driver {
    node: Node,
    workers: Workers,
    clock: Clock,
    requests: mpsc::Receiver<FromConnection>,
    facts: mpsc::UnboundedReceiver<Input>,
    mailboxes: HashMap<ConnectionId, Arc<Mailbox>>,
    stopped: Option<oneshot::Sender<()>>,
}

impl Driver {
    async fn run(&mut self) {
        let mut ticker = time::interval(TICK);
        ticker.set_missed_tick_behavior(time::MissedTickBehavior::Skip);
        loop {
            let takes_requests = !self.node.is_saturated();
            let mut taken = 0;
            let deadline = self
                .node
                .poll_timeout()
                .map(|at| self.clock.instant(at).into());
            tokio::select! {
                biased;
                Some(fact) = self.facts.recv() => self.node.handle(fact, self.clock.now()),
                _ = ticker.tick() => self.node.handle(Input::Tick, self.clock.now()),
                Some(message) = self.requests.recv(), if takes_requests => {
                    taken = self.receive(message);
                }
                () = sleep_until(deadline), if deadline.is_some() => {}
                else => return,
            }
            self.drain_inboxes(taken);
            self.node.finish_drain(self.clock.now());
            while let Some(output) = self.node.poll_output() {
                self.perform(output);
            }
        }
    }

    /// Takes what else has arrived, so that one seal and one sync serve all of it.
    fn drain_inboxes(&mut self, mut taken: usize) {
        for _ in 0..DRAIN_INPUTS_MAX {
            if let Ok(fact) = self.facts.try_recv() {
                self.node.handle(fact, self.clock.now());
                continue;
            }
            if taken > DRAIN_REQUESTS_MAX || self.node.is_saturated() {
                return;
            }
            match self.requests.try_recv() {
                Ok(message) => taken += self.receive(message),
                Err(_) => return,
            }
        }
    }

    /// Returns how many requests it was.
    fn receive(&mut self, message: FromConnection) -> usize {
        let now = self.clock.now();
        match message {
            FromConnection::Connected(id, mailbox) => {
                self.mailboxes.insert(id, mailbox);
                self.node.handle(Input::Connected(id), now);
                1
            }
            FromConnection::Requests(id, requests) => {
                let count = requests.len();
                self.node.handle(Input::Requests(id, requests), now);
                count
            }
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Events(id, events) => {
                let is_last = matches!(events.last(), Some(staunch_types::Event::ConnectionClosed));
                if let Some(mailbox) = self.mailboxes.get(&id) {
                    mailbox.post(events);
                }
                if is_last {
                    self.mailboxes.remove(&id);
                }
            }
            Output::Proceed(id) => {
                if let Some(mailbox) = self.mailboxes.get(&id) {
                    mailbox.let_proceed();
                }
            }
            Output::Write(job) => {
                let sent = self.workers.writer.try_send(job);
                assert!(sent.is_ok(), "the node has one write outstanding");
            }
            Output::Background(job) => {
                let sent = self.workers.background.try_send(job);
                assert!(sent.is_ok(), "the node has one background job outstanding");
            }
            Output::Fetch(queue, job) => {
                let sent = self.workers.reader.send((queue, job));
                assert!(sent.is_ok(), "the reader lives as long as the node");
            }
            Output::Stopped => {
                if let Some(stopped) = self.stopped.take()
                    && stopped.send(()).is_err()
                {
                    tracing::debug!(event = "node.stopped", "nobody waited for the end");
                }
            }
            Output::Unreadable(failed) => fatal::damaged(&failed),
        }
    }
}
