//! Questions of operators on their way to the node, and its answers on their way back.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use staunch_node::{AdminAnswer, AdminId, AdminRequest, Input};
use tokio::sync::{Semaphore, oneshot};

use crate::runtime::NodeHandle;

/// Questions that may be with the node at once; others wait for their turn.
const ADMIN_REQUESTS_MAX: usize = 64;

/// Who waits for which answer.
pub(crate) struct Questions {
    next: AtomicU64,
    turns: Semaphore,
    waiting: Mutex<HashMap<AdminId, oneshot::Sender<AdminAnswer>>>,
}

impl Default for Questions {
    fn default() -> Self {
        Self {
            next: AtomicU64::new(0),
            turns: Semaphore::new(ADMIN_REQUESTS_MAX),
            waiting: Mutex::default(),
        }
    }
}

impl Questions {
    /// Hands an answer to who asked, unless nobody waits for it any more.
    pub(crate) fn answer(&self, id: AdminId, answer: AdminAnswer) {
        let asked = self.waiting().remove(&id);
        if let Some(asked) = asked
            && asked.send(answer).is_err()
        {
            tracing::debug!(
                event = "admin.abandoned",
                id = id.0,
                "nobody waits for the answer"
            );
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<AdminId, oneshot::Sender<AdminAnswer>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NodeHandle {
    /// Asks the node; none if it is gone.
    pub(crate) async fn ask(&self, request: AdminRequest) -> Option<AdminAnswer> {
        let questions = self.questions();
        let _turn = questions.turns.acquire().await.ok()?;
        let id = AdminId(questions.next.fetch_add(1, Ordering::Relaxed));
        let (asked, answer) = oneshot::channel();
        questions.waiting().insert(id, asked);
        self.tell(Input::Admin(id, request));
        answer.await.ok()
    }
}
