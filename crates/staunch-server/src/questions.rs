//! Questions of other nodes, answered on a thread that does nothing else.

use std::{sync::Arc, thread};

use anyhow::Context;
use staunch_http::Interface;
use staunch_peer::Question;
use tokio::{
    runtime,
    sync::{Semaphore, mpsc},
};

/// Questions that may wait; more are refused.
pub(crate) const WAITING_MAX: usize = 64;
/// Questions that are worked on at once.
const ANSWERED_AT_ONCE_MAX: usize = 4;

/// Answers all that come.
///
/// # Errors
/// When the thread cannot be started.
pub(crate) fn answer(
    interface: Interface,
    questions: mpsc::Receiver<Question>,
) -> anyhow::Result<()> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    thread::Builder::new()
        .name("questions".into())
        .spawn(move || runtime.block_on(serve(interface, questions)))
        .context("start the thread that answers other nodes")?;
    Ok(())
}

async fn serve(interface: Interface, mut questions: mpsc::Receiver<Question>) {
    let turns = Arc::new(Semaphore::new(ANSWERED_AT_ONCE_MAX));
    while let Ok(turn) = turns.clone().acquire_owned().await {
        let Some(question) = questions.recv().await else {
            return;
        };
        let interface = interface.clone();
        tokio::spawn(async move {
            match interface.answer(&question.body).await {
                Some(answer) => question.reply.send(&answer).await,
                None => question.reply.refuse(),
            }
            drop(turn);
        });
    }
}
