//! The threads that work for the node: three for the disk, and those of [`verify`].

use std::thread;

use anyhow::Context;
use staunch_log::{Background, BackgroundJob, Disk, FetchJob, Reader, WriteJob, Writer};
use staunch_node::Input;
use staunch_types::QueueId;
use tokio::sync::mpsc;

use crate::{
    fatal,
    runtime::{NodeHandle, verify},
};

/// Jobs a worker may have waiting. The node has at most one write outstanding, and three background
/// jobs: a tenure, a checkpoint and one of upkeep. Fetches are one per queue and not counted here.
const JOBS_MAX: usize = 4;

/// Senders to the workers.
pub(crate) struct Workers {
    pub(crate) writer: mpsc::Sender<WriteJob>,
    pub(crate) background: mpsc::Sender<BackgroundJob>,
    pub(crate) reader: mpsc::UnboundedSender<(QueueId, FetchJob)>,
    pub(crate) verifiers: verify::Sender,
}

impl Workers {
    /// Starts the threads; each ends when its sender is dropped.
    pub(crate) fn start<D>(
        writer: Writer<D>,
        background: Background<D>,
        reader: Reader<D>,
        node: &NodeHandle,
    ) -> anyhow::Result<Self>
    where
        D: Disk,
        Writer<D>: Send + 'static,
        Background<D>: Send + 'static,
        Reader<D>: Send + 'static,
    {
        Ok(Self {
            writer: start_writer(writer, node.clone())?,
            background: start_background(background, node.clone())?,
            reader: start_reader(reader, node.clone())?,
            verifiers: verify::start(node)?,
        })
    }
}

fn start_writer<D: Disk>(
    mut writer: Writer<D>,
    node: NodeHandle,
) -> anyhow::Result<mpsc::Sender<WriteJob>>
where
    Writer<D>: Send + 'static,
{
    let (sender, mut jobs) = mpsc::channel(JOBS_MAX);
    let work = move || {
        while let Some(job) = jobs.blocking_recv() {
            // Never retried: after a failed sync nobody knows what is on the disk (contract C19).
            let written = writer.run(job).unwrap_or_else(|error| fatal::disk(&error));
            node.tell(Input::Written(written));
        }
    };
    thread::Builder::new()
        .name("log-writer".into())
        .spawn(work)
        .context("start log writer")?;
    Ok(sender)
}

fn start_background<D: Disk>(
    mut background: Background<D>,
    node: NodeHandle,
) -> anyhow::Result<mpsc::Sender<BackgroundJob>>
where
    Background<D>: Send + 'static,
{
    let (sender, mut jobs) = mpsc::channel(JOBS_MAX);
    let work = move || {
        while let Some(job) = jobs.blocking_recv() {
            let outcome = background
                .run(job)
                .unwrap_or_else(|error| fatal::disk(&error));
            node.tell(Input::Background(outcome));
        }
    };
    thread::Builder::new()
        .name("log-background".into())
        .spawn(work)
        .context("start background")?;
    Ok(sender)
}

fn start_reader<D: Disk>(
    reader: Reader<D>,
    node: NodeHandle,
) -> anyhow::Result<mpsc::UnboundedSender<(QueueId, FetchJob)>>
where
    Reader<D>: Send + 'static,
{
    let (sender, mut jobs) = mpsc::unbounded_channel();
    let work = move || {
        while let Some((queue, job)) = jobs.blocking_recv() {
            node.tell(Input::Fetched(queue, reader.run(job)));
        }
    };
    thread::Builder::new()
        .name("log-reader".into())
        .spawn(work)
        .context("start log reader")?;
    Ok(sender)
}
