//! A clean stop: clients are told, what is known goes to disk, and a last checkpoint takes back
//! the delivery reservations that were not used, so that nothing is marked redelivered without
//! cause and the next start has nothing to replay.

use std::time::Duration;

use staunch_types::{Event, Timestamp};

use crate::{
    input::Output,
    node::{Node, Stopping},
};

/// How long clients may take to close once they have been told.
const CLOSING_MAX: Duration = Duration::from_secs(5);
/// How long the last checkpoint may take: it is a convenience, the log has everything.
const CHECKPOINT_MAX: Duration = Duration::from_secs(10);

impl Node {
    pub(crate) fn begin_stop(&mut self, now: Timestamp) {
        if self.stopping.is_some() {
            return;
        }
        self.stopping = Some(Stopping::Closing(now + CLOSING_MAX));
        self.leave_leadership();
        for slot in self.sessions.slots() {
            self.sessions.push(slot, Event::Shutdown);
        }
    }

    /// Clients that did not close in time are not heard any more: one that goes on publishing
    /// would keep the node from stopping.
    pub(crate) fn takes_requests(&self) -> bool {
        matches!(self.stopping, None | Some(Stopping::Closing(_)))
    }

    pub(crate) fn advance_stop(&mut self, now: Timestamp) {
        match self.stopping {
            None | Some(Stopping::Done) => {}
            Some(Stopping::Closing(deadline)) => {
                if self.sessions.is_empty() || now >= deadline {
                    self.stopping = Some(Stopping::Flushing(now + CHECKPOINT_MAX));
                }
            }
            // A disk too full to take the last records must not keep the node for ever: nobody was
            // told that they are safe.
            Some(Stopping::Flushing(deadline)) if now >= deadline => self.stopped(),
            Some(Stopping::Flushing(deadline)) => {
                let may_checkpoint = !self.store.is_checkpoint_under_way();
                if self.is_all_persisted() && may_checkpoint {
                    for slot in self
                        .queues
                        .iter_mut()
                        .filter(|slot| slot.is_durable && !slot.is_replicated())
                    {
                        slot.queue.release_reservation();
                    }
                    self.start_checkpoint();
                    self.stopping = Some(Stopping::Checkpointing(deadline));
                }
            }
            Some(Stopping::Checkpointing(deadline)) => {
                let is_done = !self.store.is_checkpoint_under_way();
                if self.is_all_persisted() && (is_done || now >= deadline) {
                    self.stopped();
                }
            }
        }
    }

    fn stopped(&mut self) {
        self.stopping = Some(Stopping::Done);
        self.outputs.push_back(Output::Stopped);
    }
}
