//! Slow password checks, on threads of their own.
//!
//! A check takes tens of milliseconds of a processor and some memory, so only a few run at once,
//! and none of them while the node's lock is held. The node bounds how many wait
//! ([`staunch_node::VERIFICATIONS_WAITING_MAX`]) and refuses further logins.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::Context;
use staunch_node::{Input, VerifyJob};
use staunch_types::ConnectionId;
use tokio::sync::mpsc;

use crate::runtime::NodeHandle;

/// Checks that run at once.
const VERIFIERS: usize = 2;

/// Where jobs are sent; the threads end when it is dropped.
pub(crate) type Sender = mpsc::UnboundedSender<(ConnectionId, VerifyJob)>;

/// Starts the threads.
pub(crate) fn start(node: &NodeHandle) -> anyhow::Result<Sender> {
    let (sender, jobs) = mpsc::unbounded_channel::<(ConnectionId, VerifyJob)>();
    let jobs = Arc::new(Mutex::new(jobs));
    for _ in 0..VERIFIERS {
        let (jobs, node) = (jobs.clone(), node.clone());
        let next = move || {
            let mut jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner);
            jobs.blocking_recv()
        };
        let work = move || {
            while let Some((id, job)) = next() {
                node.tell(Input::Verified(id, job.run()));
            }
        };
        thread::Builder::new()
            .name("verify".into())
            .spawn(work)
            .context("start password verifier")?;
    }
    Ok(sender)
}
