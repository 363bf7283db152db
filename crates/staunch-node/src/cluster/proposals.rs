//! Changes of the catalog that this node has proposed and not heard of yet.
//!
//! Each is numbered, sent to whoever leads the catalog's group, and sent again, in order, when
//! another leads, the link was made anew or nothing is heard for a while. The catalog counts a
//! number once. When this node applies it, it has the result, and whoever asked gets the answer:
//! nobody hears of a change before it is committed (contract C5).
//!
//! Without a majority nothing is committed. What a client asks for is refused after
//! [`ANSWER_MAX`] and not sent again; it may still be made if it has reached a leader, and says so.
//! What the node itself wants, such as the end of a queue whose connection has closed, is kept
//! until it is done. A node that takes over the whole catalog from another does not see the results
//! of its own: it proposes these again, for all of them may be applied twice.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use staunch_broker::{CatalogCommand, Change};
use staunch_replica::{BATCH_SIZE_BYTES_MAX, Batch, OnRefusal};
use staunch_types::{
    ChannelNumber, ConnectionId, Event, NodeId, Operation, QueueId, Refusal, Reply, Term, Timestamp,
};

use super::{PeerPayload, catalog_transfer::FRAME_PROPOSE};
use crate::{
    admin::{AdminAnswer, AdminId},
    definitions::Defined,
    input::Output,
    node::Node,
    pending::{CountsDue, Pending},
    session::SessionSlot,
};

/// How long a client waits for the nodes to agree.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// How long nothing may be heard before what is proposed is sent again.
const RESEND_AFTER: Duration = Duration::from_secs(1);

/// How long a node waits before it makes itself known again.
const INTRODUCE_AFTER: Duration = Duration::from_millis(200);

/// Commands in one batch: others get their turn in between.
const BATCH_COMMANDS_MAX: usize = 256;

/// Bytes of commands in one batch, the last one apart.
pub(crate) const BATCH_FILL_SIZE_BYTES: usize = 32 * 1024;

/// What is to be done when the result is known.
#[derive(Debug)]
pub(crate) enum Then {
    /// Nobody waits.
    Nothing,
    /// A channel gets `reply`, or a refusal.
    Reply {
        session: SessionSlot,
        connection: ConnectionId,
        channel: ChannelNumber,
        operation: Operation,
        reply: Reply,
    },
    /// A channel has declared queues.
    Counts {
        session: SessionSlot,
        connection: ConnectionId,
        channel: ChannelNumber,
    },
    /// An operator asked.
    Admin {
        id: AdminId,
        on_refusal: OnRefusal,
        /// Of what was applied before.
        results: Vec<Result<Change, Refusal>>,
        /// What is to be applied after.
        rest: VecDeque<CatalogCommand>,
    },
    /// A session ends with its queues.
    EndSession {
        session: SessionSlot,
        connection: ConnectionId,
    },
}

impl Then {
    /// Whose request it was.
    pub(super) fn session(&self) -> Option<(SessionSlot, ConnectionId)> {
        match self {
            Self::Reply {
                session,
                connection,
                ..
            }
            | Self::Counts {
                session,
                connection,
                ..
            } => Some((*session, *connection)),
            Self::Nothing | Self::Admin { .. } | Self::EndSession { .. } => None,
        }
    }
}

/// See the module's description.
#[derive(Debug, Default)]
pub(crate) struct Proposals {
    /// The catalog knows this node in this life.
    pub(super) is_known: bool,
    last_number: u64,
    /// Not heard of, by number.
    outstanding: VecDeque<Outstanding>,
    /// Whom it was sent to, and in which term.
    sent_to: Option<(NodeId, Term)>,
    /// When something was last sent or heard.
    moved_at: Timestamp,
    introduced_at: Option<Timestamp>,
}

#[derive(Debug)]
struct Outstanding {
    number: u64,
    on_refusal: OnRefusal,
    commands: Vec<CatalogCommand>,
    then: Then,
    deadline: Option<Timestamp>,
    is_sent: bool,
}

impl Proposals {
    /// Everything is to be sent again.
    pub(super) fn ask_again(&mut self) {
        for it in &mut self.outstanding {
            it.is_sent = false;
        }
        self.introduced_at = None;
    }

    /// A batch was applied: what is to be done now, unless it was given up.
    pub(super) fn answered(&mut self, number: u64) -> Option<Then> {
        let at = (self.outstanding.iter()).position(|it| it.number == number)?;
        self.outstanding.remove(at).map(|it| it.then)
    }

    /// Whether it is time for the node to make itself known.
    pub(super) fn may_introduce(&mut self, now: Timestamp) -> bool {
        let waited = |at: Timestamp| now.since(at) >= INTRODUCE_AFTER;
        let may = self.introduced_at.is_none_or(waited);
        if may {
            self.introduced_at = Some(now);
        }
        may
    }

    /// Numbers up to `heard` were applied and nobody knows with which result: they are proposed
    /// anew.
    pub(super) fn renumber(&mut self, heard: u64) {
        let unknown = (self.outstanding.iter()).take_while(|it| it.number <= heard);
        let unknown = unknown.count();
        for mut it in self.outstanding.drain(..unknown).collect::<Vec<_>>() {
            self.last_number += 1;
            it.number = self.last_number;
            it.is_sent = false;
            self.outstanding.push_back(it);
        }
    }

    fn base(&self) -> u64 {
        let first = self.outstanding.front().map(|it| it.number);
        first.unwrap_or(self.last_number + 1)
    }
}

fn no_majority() -> Refusal {
    Refusal::Precondition(format!(
        "no majority of the cluster's nodes has agreed within {} s; the change may still be made",
        ANSWER_MAX.as_secs()
    ))
}

impl Node {
    /// Proposes changes, which become one entry; `then` follows when they were applied here.
    pub(crate) fn propose_batch(
        &mut self,
        commands: Vec<CatalogCommand>,
        on_refusal: OnRefusal,
        then: Then,
    ) {
        let deadline = match then {
            Then::Nothing => None,
            _ => Some(self.now + ANSWER_MAX),
        };
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let proposals = &mut cluster.catalog.proposals;
        proposals.last_number += 1;
        proposals.outstanding.push_back(Outstanding {
            number: proposals.last_number,
            on_refusal,
            commands,
            then,
            deadline,
            is_sent: false,
        });
    }

    /// Proposes small changes that do not depend on each other, in as many batches as they need;
    /// `then` follows on the last one.
    pub(crate) fn propose_in_batches(&mut self, mut commands: Vec<CatalogCommand>, then: Then) {
        while commands.len() > BATCH_COMMANDS_MAX {
            let rest = commands.split_off(BATCH_COMMANDS_MAX);
            let first = std::mem::replace(&mut commands, rest);
            self.propose_batch(first, OnRefusal::GoOn, Then::Nothing);
        }
        self.propose_batch(commands, OnRefusal::GoOn, then);
    }

    /// Proposes an operator's changes, as many as fit into one batch; the rest follows when these
    /// are applied.
    pub(crate) fn propose_for_operator(
        &mut self,
        id: AdminId,
        on_refusal: OnRefusal,
        mut results: Vec<Result<Change, Refusal>>,
        mut rest: VecDeque<CatalogCommand>,
    ) {
        let mut commands: Vec<CatalogCommand> = Vec::new();
        let mut size_bytes = 0;
        while let Some(command) = rest.front() {
            if let Err(refusal) = self.check_proposal(command, &mut size_bytes) {
                if !commands.is_empty() {
                    break;
                }
                rest.pop_front();
                results.push(Err(refusal));
                if on_refusal == OnRefusal::Stop {
                    rest.clear();
                }
                continue;
            }
            commands.extend(rest.pop_front());
            if commands.len() >= BATCH_COMMANDS_MAX || size_bytes >= BATCH_FILL_SIZE_BYTES {
                break;
            }
        }
        if commands.is_empty() {
            let answer = AdminAnswer::Applied(results);
            return self.outputs.push_back(Output::Admin(id, answer));
        }
        let then = Then::Admin {
            id,
            on_refusal,
            results,
            rest,
        };
        self.propose_batch(commands, on_refusal, then);
    }

    /// What can be said against a command before it is proposed; adds its size.
    pub(crate) fn check_proposal(
        &self,
        command: &CatalogCommand,
        size_bytes: &mut usize,
    ) -> Result<(), Refusal> {
        self.catalog.check_limits(command)?;
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        *size_bytes += bytes.len();
        if bytes.len() > BATCH_SIZE_BYTES_MAX / 2 {
            return Err(Refusal::LimitReached(format!(
                "a definition of {} bytes is larger than {}",
                bytes.len(),
                BATCH_SIZE_BYTES_MAX / 2
            )));
        }
        Ok(())
    }

    /// Sends what was not sent to the one who leads now.
    pub(super) fn send_proposals(&mut self) {
        let now = self.now;
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let role = cluster.catalog.replica.group().role_now();
        let to = role.leader.map(|leader| (leader, role.term));
        let origin = cluster.origin;
        let proposals = &mut cluster.catalog.proposals;
        if to != proposals.sent_to || now.since(proposals.moved_at) >= RESEND_AFTER {
            proposals.sent_to = to;
            proposals.moved_at = now;
            for it in &mut proposals.outstanding {
                it.is_sent = false;
            }
        }
        if to.is_none() || !proposals.is_known {
            return;
        }
        let base = proposals.base();
        let mut batches = Vec::new();
        for it in proposals.outstanding.iter_mut().filter(|it| !it.is_sent) {
            it.is_sent = true;
            batches.push(Batch {
                origin,
                base,
                number: it.number,
                on_refusal: it.on_refusal,
                commands: it.commands.clone(),
            });
        }
        if !batches.is_empty() {
            proposals.moved_at = now;
        }
        for batch in batches {
            self.send_batch(&batch);
        }
    }

    /// Has a batch proposed by the leader, if one is known.
    pub(super) fn send_batch(&mut self, batch: &Batch) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let Some(leader) = cluster.catalog.leader() else {
            return;
        };
        if leader == cluster.me {
            // If it is not taken it will be sent again.
            let _refused = cluster.catalog.replica.propose(batch);
            return;
        }
        let kind = Bytes::from_static(&[FRAME_PROPOSE]);
        let payload = vec![kind, batch.encode()];
        self.send(leader, PeerPayload::Catalog, payload);
    }

    /// A peer has a batch for the leader.
    pub(super) fn propose_for_peer(&mut self, batch: &Bytes) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        // What makes no sense, or comes to one who does not lead, is as if it had been lost.
        if let Ok(batch) = Batch::decode(batch) {
            let _refused = cluster.catalog.replica.propose(&batch);
        }
    }

    /// Refuses what clients have waited for long enough.
    pub(super) fn give_up_proposals(&mut self) {
        let now = self.now;
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let mut late = Vec::new();
        cluster.catalog.proposals.outstanding.retain_mut(|it| {
            if it.deadline.is_none_or(|deadline| now < deadline) {
                return true;
            }
            it.deadline = None;
            let then = std::mem::replace(&mut it.then, Then::Nothing);
            let is_kept = matches!(then, Then::EndSession { .. });
            late.push((then, it.commands.len()));
            is_kept
        });
        for (then, count) in late {
            let results = (0..count).map(|_| Err(no_majority())).collect();
            self.conclude_late(then, results);
        }
    }

    fn conclude_late(&mut self, then: Then, results: Vec<Result<Defined, Refusal>>) {
        match then {
            Then::Admin {
                id,
                results: mut before,
                ..
            } => {
                let late = results
                    .into_iter()
                    .map(|it| it.map(|defined| defined.change));
                before.extend(late.take(1));
                let answer = AdminAnswer::Applied(before);
                self.outputs.push_back(Output::Admin(id, answer));
            }
            then => self.conclude(then, results),
        }
    }

    /// Tells whoever has waited for it.
    pub(super) fn conclude(&mut self, then: Then, mut results: Vec<Result<Defined, Refusal>>) {
        match then {
            Then::Nothing => {}
            Then::Reply {
                session,
                connection,
                channel,
                operation,
                reply,
            } => {
                if !self.still_waits(session, connection, channel) {
                    return;
                }
                match results.pop() {
                    Some(Err(refusal)) => self.refuse(session, channel, operation, refusal),
                    _ => self.sessions.push(session, Event::Reply { channel, reply }),
                }
            }
            Then::Counts {
                session,
                connection,
                channel,
            } => {
                if self.still_waits(session, connection, channel) {
                    self.conclude_declarations((session, connection, channel), results);
                }
            }
            Then::Admin {
                id,
                on_refusal,
                results: mut all,
                mut rest,
            } => {
                let stops = on_refusal == OnRefusal::Stop && results.iter().any(Result::is_err);
                all.extend(
                    results
                        .into_iter()
                        .map(|it| it.map(|defined| defined.change)),
                );
                if stops {
                    rest.clear();
                }
                self.propose_for_operator(id, on_refusal, all, rest);
            }
            Then::EndSession {
                session,
                connection,
            } => {
                let is_still = self.is_still(session, connection);
                if is_still && !self.waits_for_settlements(session, None, None) {
                    self.end_session_when_persisted(session, connection);
                }
            }
        }
    }

    /// Answers declarations of queues that were proposed together, in order.
    fn conclude_declarations(
        &mut self,
        (session, connection, channel): (SessionSlot, ConnectionId, ChannelNumber),
        results: Vec<Result<Defined, Refusal>>,
    ) {
        for result in results {
            let defined = match result {
                Ok(defined) => defined,
                Err(refusal) => {
                    return self.refuse(session, channel, Operation::DeclareQueue, refusal);
                }
            };
            if defined.change == Change::Created {
                // Nobody can have published before: neither its leader nor the disk knows more of
                // it than that it is empty. Whoever deletes it deletes it after this.
                let reply = Reply::QueueDeclared {
                    ready_count: 0,
                    consumer_count: 0,
                };
                self.reply(session, channel, reply);
                continue;
            }
            self.part_declarations(session, channel);
            return self.answer_counts(CountsDue {
                session,
                connection,
                channel,
                queue: defined.queue.unwrap_or(QueueId(0)),
            });
        }
    }

    fn still_waits(
        &self,
        session: SessionSlot,
        connection: ConnectionId,
        channel: ChannelNumber,
    ) -> bool {
        self.is_still(session, connection) && self.requester(session, channel).is_some()
    }

    /// Lets a session go when everything decided so far is safe.
    pub(crate) fn end_session_when_persisted(
        &mut self,
        session: SessionSlot,
        connection: ConnectionId,
    ) {
        if !self.is_still(session, connection) {
            return;
        }
        if self.is_all_persisted() {
            self.end_session(session);
        } else {
            self.push_pending(Pending::EndSession {
                session,
                connection,
            });
        }
    }
}
