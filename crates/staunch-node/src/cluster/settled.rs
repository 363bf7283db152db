//! Settlements that a queue's server may not have committed yet, and closings that wait for them
//! (contract C9).
//!
//! A settlement is kept until its server says that everything before a barrier is safe. When
//! another node begins to serve the queue first, it is told again: what it finds among the messages
//! is settled, even if it has been given to somebody else by now; the rest was committed.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use staunch_broker::Departed;
use staunch_types::{
    ChannelNumber, ConnectionId, Event, MessageIndex, NodeId, Outcome, QueueId, Reply, Term,
    Timestamp,
};

use super::wire::{Frame, SettledRun};
use crate::{node::Node, pending::Pending, queues::QueueSlot, session::SessionSlot};

/// How long a closing waits for the settlements before it.
const CLOSING_MAX: Duration = Duration::from_secs(5);

/// See the module's description.
#[derive(Debug, Default)]
pub(crate) struct Settlements {
    /// By their order.
    open: BTreeMap<u64, Open>,
    last: u64,
    links: BTreeMap<NodeId, Link>,
    closings: Vec<Closing>,
}

#[derive(Debug)]
struct Open {
    queue: QueueId,
    run: SettledRun,
    /// Whose channel it came on.
    of: Option<(ConnectionId, ChannelNumber)>,
    told: Option<Told>,
}

/// Who was told of a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    server: NodeId,
    /// In which it serves the queue.
    term: Term,
    /// Before which one of its barriers.
    barrier: u64,
}

/// Barriers of one server.
#[derive(Debug, Default)]
struct Link {
    /// The next one.
    barrier: u64,
    is_due: bool,
    /// Barrier and settlement.
    waiting: VecDeque<(u64, u64)>,
}

/// A channel or connection that is to be closed, or a transaction that is to be answered.
#[derive(Debug)]
struct Closing {
    session: SessionSlot,
    connection: ConnectionId,
    /// What is said then; none: the connection ends.
    event: Option<Box<Event>>,
    left: BTreeSet<u64>,
    until: Timestamp,
}

impl Settlements {
    /// Remembers a settlement of which `server` is being told, that serves the queue in that term.
    pub(super) fn add(
        &mut self,
        server: Option<(NodeId, Term)>,
        queue: QueueId,
        run: SettledRun,
        of: Option<(ConnectionId, ChannelNumber)>,
    ) {
        let told = server.map(|server| self.tell(server));
        if let Some(mut last) = self.open.last_entry() {
            let last = last.get_mut();
            let adjoins = last.run.first.0 + u64::from(last.run.count) == run.first.0;
            let count = last.run.count.checked_add(run.count);
            if let Some(count) = count
                && adjoins
                && (last.queue, last.of, last.told) == (queue, of, told)
                && last.run.outcome == run.outcome
            {
                last.run.count = count;
                return;
            }
        }
        self.insert(Open {
            queue,
            run,
            of,
            told,
        });
    }

    /// Remembers a settlement of which nobody is told before [`Settlements::sent`].
    pub(super) fn add_unsent(
        &mut self,
        queue: QueueId,
        run: SettledRun,
        of: (ConnectionId, ChannelNumber),
    ) -> u64 {
        self.insert(Open {
            queue,
            run,
            of: Some(of),
            told: None,
        })
    }

    /// The queue's server is being told of a settlement.
    pub(super) fn sent(&mut self, number: u64, server: (NodeId, Term)) {
        if self.open.contains_key(&number) {
            let told = self.tell(server);
            self.set_told(number, told);
        }
    }

    fn insert(&mut self, open: Open) -> u64 {
        self.last += 1;
        self.wait(self.last, open.told);
        self.open.insert(self.last, open);
        self.last
    }

    fn set_told(&mut self, number: u64, told: Told) {
        self.wait(number, Some(told));
        if let Some(open) = self.open.get_mut(&number) {
            open.told = Some(told);
        }
    }

    /// Remembers messages that left their queue while this node served it.
    fn add_own(&mut self, queue: QueueId, first: MessageIndex, count: u32) {
        let run = SettledRun {
            first,
            count,
            outcome: Outcome::Ack,
        };
        self.add(None, queue, run, None);
    }

    /// A server is told something now, before its next barrier.
    fn tell(&mut self, (server, term): (NodeId, Term)) -> Told {
        let link = self.links.entry(server).or_default();
        link.is_due = true;
        Told {
            server,
            term,
            barrier: link.barrier,
        }
    }

    fn wait(&mut self, number: u64, told: Option<Told>) {
        if let Some(told) = told
            && let Some(link) = self.links.get_mut(&told.server)
        {
            link.waiting.push_back((told.barrier, number));
        }
    }

    /// Barriers to be sent behind what servers were told in this drain.
    pub(super) fn take_barriers(&mut self) -> Vec<(NodeId, u64)> {
        let due = self.links.iter_mut().filter(|(_, link)| link.is_due);
        due.map(|(node, link)| {
            link.is_due = false;
            link.barrier += 1;
            (*node, link.barrier - 1)
        })
        .collect()
    }

    /// Queues of settlements.
    pub(super) fn queues(&self) -> impl Iterator<Item = QueueId> {
        self.open.values().map(|open| open.queue)
    }

    /// What a node was told is not known to be safe.
    pub(super) fn server_lost(&mut self, node: NodeId) {
        self.links.remove(&node);
        for open in self.open.values_mut() {
            open.told = open.told.filter(|told| told.server != node);
        }
    }

    fn of_queue(&self, queue: QueueId) -> Vec<u64> {
        let all = self.open.iter();
        all.filter(|(_, open)| open.queue == queue)
            .map(|(number, _)| *number)
            .collect()
    }

    /// These are safe, or void.
    fn end(&mut self, numbers: &[u64]) -> Vec<Closing> {
        for number in numbers {
            self.open.remove(number);
            for closing in &mut self.closings {
                closing.left.remove(number);
            }
        }
        let over = |closing: &mut Closing| closing.left.is_empty();
        self.closings.extract_if(.., over).collect()
    }
}

impl Node {
    /// A server has made everything safe that it was told before a barrier, but for what it was told
    /// of `lost` queues in these terms and before.
    pub(super) fn barrier_passed(&mut self, from: NodeId, barrier: u64, lost: &[(QueueId, Term)]) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let settlements = &mut cluster.edge.settlements;
        let mut numbers = Vec::new();
        while let Some(link) = settlements.links.get_mut(&from)
            && let Some((at, number)) = link.waiting.pop_front_if(|(at, _)| *at <= barrier)
        {
            let Some(open) = settlements.open.get_mut(&number) else {
                continue;
            };
            let Some(told) = open.told.filter(|it| (it.server, it.barrier) == (from, at)) else {
                continue;
            };
            let is_lost =
                |(queue, term): &(QueueId, Term)| *queue == open.queue && told.term <= *term;
            if lost.iter().any(is_lost) {
                open.told = None;
            } else {
                numbers.push(number);
            }
        }
        let over = settlements.end(&numbers);
        self.finish_closings(over);
    }

    /// The queue is gone with its messages.
    pub(super) fn settlements_void(&mut self, queue: QueueId) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let settlements = &mut cluster.edge.settlements;
        let numbers = settlements.of_queue(queue);
        let over = settlements.end(&numbers);
        self.finish_closings(over);
    }

    /// Another node serves the queue, or the same one has been reached again: it is told what may
    /// have been lost.
    pub(super) fn settle_again(&mut self, queue: QueueId, server: NodeId) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let term = cluster.edge.term_of(queue);
        let settlements = &mut cluster.edge.settlements;
        let numbers = settlements.of_queue(queue);
        let runs: Vec<_> = numbers
            .iter()
            .map(|number| settlements.open[number].run)
            .collect();
        if runs.is_empty() {
            return;
        }
        if server != cluster.me {
            let told = settlements.tell((server, term));
            for number in numbers {
                settlements.set_told(number, told);
            }
            let settled = Frame::Settled { queue, term, runs };
            return cluster.edge.push(server, settled);
        }
        let over = settlements.end(&numbers);
        self.take_settled(queue, &runs);
        self.finish_closings(over);
    }

    /// Settles what clients have settled with a server before this one.
    pub(super) fn take_settled(&mut self, queue: QueueId, runs: &[SettledRun]) {
        let now = self.wall_now();
        let Some(slot) = self.queues.get_mut(queue) else {
            return;
        };
        if !slot.is_served_here() {
            return;
        }
        let mut departed = Departed::default();
        for run in runs {
            for index in run.first.0..run.first.0 + u64::from(run.count) {
                let index = MessageIndex(index);
                slot.queue
                    .settle_for(index, run.outcome, now, &mut departed);
            }
        }
        self.leave(queue, departed, false);
        for run in runs.iter().filter(|run| run.outcome == Outcome::Ack) {
            self.settle_dying(queue, run.first.0..run.first.0 + u64::from(run.count));
        }
        self.mark_dirty(queue);
    }

    /// This node ceases to serve the queue in `slot`, which it did in that term: what has left it and
    /// was not committed is back in its place, and the next server is to settle it. Who waits for
    /// that waits on, and other nodes are not told that it is safe.
    pub(super) fn keep_uncommitted(&mut self, slot: &QueueSlot, term: Term) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let settlements = &mut cluster.edge.settlements;
        for (first, count) in slot.queue.leaving() {
            let Some(dead) = &slot.dead else {
                settlements.add_own(slot.id, first, count);
                continue;
            };
            // What has died and was not passed on dies again with the next server.
            let indexes = (first.0..first.0 + u64::from(count)).map(MessageIndex);
            for first in indexes.filter(|index| !dead.has(*index)) {
                settlements.add_own(slot.id, first, 1);
            }
        }
        let left: BTreeSet<_> = settlements.of_queue(slot.id).into_iter().collect();
        let waiting = self.take_waiting(|pending| match pending {
            Pending::Frame(frame) => {
                if let Frame::Passed { lost, .. } = &mut frame.1 {
                    lost.push((slot.id, term));
                }
                false
            }
            Pending::Answer { event, .. } => !left.is_empty() && ends_settling(event),
            Pending::EndSession { .. } => !left.is_empty(),
            _ => false,
        });
        let until = self.now + CLOSING_MAX;
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        // Who waits for others may wait for these as well.
        for closing in &mut cluster.edge.settlements.closings {
            closing.left.extend(&left);
        }
        for pending in waiting {
            let (session, connection, event) = match pending {
                Pending::Answer {
                    session,
                    connection,
                    event,
                } => (session, connection, Some(event)),
                Pending::EndSession {
                    session,
                    connection,
                } => (session, connection, None),
                _ => continue,
            };
            cluster.edge.settlements.closings.push(Closing {
                session,
                connection,
                event,
                left: left.clone(),
                until,
            });
        }
    }

    /// Whether settlements of a channel, or of all of its connection, are not known to hold. Then the
    /// client is told when they are; without an event its connection ends then.
    pub(crate) fn waits_for_settlements(
        &mut self,
        session: SessionSlot,
        channel: Option<ChannelNumber>,
        event: Option<&Event>,
    ) -> bool {
        let Some(connection) = self.sessions.get(session).map(|session| session.id) else {
            return false;
        };
        let until = self.now + CLOSING_MAX;
        let Some(cluster) = &mut self.cluster else {
            return false;
        };
        let settlements = &mut cluster.edge.settlements;
        // Of what was settled here before another node served the queue it is not known who did.
        let concerns = |open: &Open| {
            open.of.is_none_or(|(of, on)| {
                of == connection && channel.is_none_or(|channel| channel == on)
            })
        };
        let open = settlements.open.iter();
        let left: BTreeSet<_> = open
            .filter(|(_, open)| concerns(open))
            .map(|(number, _)| *number)
            .collect();
        if left.is_empty() {
            return false;
        }
        settlements.closings.push(Closing {
            session,
            connection,
            event: event.cloned().map(Box::new),
            left,
            until,
        });
        true
    }

    fn finish_closings(&mut self, closings: Vec<Closing>) {
        for closing in closings {
            let Closing {
                session,
                connection,
                event,
                ..
            } = closing;
            if !self.is_still(session, connection) {
                continue;
            }
            match event {
                Some(event) => self.answer_when_persisted(session, *event),
                None => self.end_with_exclusive_queues(session),
            }
        }
    }

    /// Who has waited too long to be closed is dropped: what became of its settlements is not
    /// known.
    pub(super) fn check_closings(&mut self, now: Timestamp) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let late = |closing: &mut Closing| now >= closing.until;
        let closings = &mut cluster.edge.settlements.closings;
        let late: Vec<_> = closings.extract_if(.., late).collect();
        for closing in late {
            if !self.is_still(closing.session, closing.connection) {
                continue;
            }
            let reason = "settlements could not be committed: no majority".to_owned();
            self.sessions
                .push(closing.session, Event::Forced { reason });
            if closing.event.is_none() {
                self.end_with_exclusive_queues(closing.session);
            }
        }
    }
}

/// Whether a client that is told so may take its settlements for done (contract C9), or what it had
/// purged for gone (C4).
fn ends_settling(event: &Event) -> bool {
    matches!(
        event,
        Event::ChannelClosed { .. }
            | Event::Reply {
                reply: Reply::Committed | Reply::QueuePurged { .. },
                ..
            }
    )
}
