//! Pacing of publishers.
//!
//! A connection has one large batch of publishes with the node at a time; it reads on when the
//! node says so. (A small one is not worth the extra word.) Usually that is at the end of the drain. If the batch went to a queue whose consumers lag
//! behind, the word is held back until they have caught up, but never longer than
//! [`PACE_MAX`]: on a busy machine this gives processor time to consumers instead of to a backlog
//! that grows, and a consumer that is truly slow cannot stop its publishers.

use std::{collections::VecDeque, time::Duration};

use staunch_types::{ConnectionId, Request, Timestamp};

use crate::{input::Output, node::Node, queues::QueueSlot};

/// Publishes in a batch, or bytes of them, from which on the batch is paced.
const PACED_COUNT_MIN: usize = 64;
/// As above, in bytes.
const PACED_SIZE_BYTES_MIN: usize = 32 * 1024;
/// Longest time a batch of publishes is held back.
const PACE_MAX: Duration = Duration::from_millis(5);
/// Ready bytes above which the consumers of a queue lag.
const LAG_SIZE_BYTES: u64 = 4 * 1024 * 1024;
/// Ready messages above which they lag as well.
const LAG_COUNT: u64 = 32 * 1024;

/// Connections that wait to be let on, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    waiting: VecDeque<(ConnectionId, Timestamp)>,
}

/// Whether the node will answer this batch with [`Output::Proceed`], for which the connection
/// has to wait before it reads on.
pub fn is_paced(batch: &[Request]) -> bool {
    let mut count = 0;
    let mut size_bytes = 0;
    batch.iter().any(|request| {
        if let Request::Publish(publish) = request {
            count += 1;
            size_bytes += publish.message.stored_size_bytes();
        }
        count >= PACED_COUNT_MIN || size_bytes >= PACED_SIZE_BYTES_MIN
    })
}

impl QueueSlot {
    /// Whether it has consumers and they do not keep up.
    pub(crate) fn lags(&self) -> bool {
        self.queue.consumer_count() > 0
            && (self.queue.ready_bytes() > LAG_SIZE_BYTES || self.queue.ready_count() > LAG_COUNT)
    }
}

impl Node {
    /// Remembers that the connection waits for the batch.
    pub(crate) fn expect_pace(&mut self, id: ConnectionId, batch: &[Request], now: Timestamp) {
        if is_paced(batch) {
            self.pace.waiting.push_back((id, now));
        }
    }

    /// Lets connections go on whose queues keep up, or that have waited long enough.
    pub(crate) fn let_proceed(&mut self, now: Timestamp) {
        for _ in 0..self.pace.waiting.len() {
            let Some((id, since)) = self.pace.waiting.pop_front() else {
                return;
            };
            if now.since(since) < PACE_MAX && self.publishes_into_lag(id) {
                self.pace.waiting.push_back((id, since));
            } else {
                self.outputs.push_back(Output::Proceed(id));
            }
        }
    }

    fn publishes_into_lag(&mut self, id: ConnectionId) -> bool {
        let Some(slot) = self.sessions.find(id) else {
            return false;
        };
        let Some(session) = self.sessions.get_mut(slot) else {
            return false;
        };
        let queue = session.lagging.and_then(|queue| self.queues.get(queue));
        let lags = queue.is_some_and(QueueSlot::lags);
        if !lags {
            session.lagging = None;
        }
        lags
    }

    /// When the first connection that waits is to be let on.
    pub(crate) fn pace_timeout(&self) -> Option<Timestamp> {
        self.pace
            .waiting
            .front()
            .map(|(_, since)| *since + PACE_MAX)
    }
}
