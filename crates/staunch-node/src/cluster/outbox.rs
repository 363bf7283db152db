//! Messages on their way to queues that are replicated, or kept elsewhere: sent in order to whoever
//! serves the queue, kept until that one says that they are safe, sent again when another does.
//!
//! Every queue has an outbox of its own, in which messages are numbered from 1. A publish waits for
//! the answers of all its queues; a dead letter is buried when all that it was routed to have it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use staunch_broker::Overflow;
use staunch_replica::EntryMessage;
use staunch_types::{
    ChannelNumber, ConnectionId, MessageIndex, NodeId, Operation, PublishSeq, QueueId, Refusal,
    Timestamp,
};

use super::{
    offer::Offer,
    wire::{FRAME_SIZE_BYTES_TARGET, Frame, Heard, Published},
};
use crate::{
    node::Node,
    pending::Pending,
    publish::{Arriving, Enqueued},
    session::SessionSlot,
};

/// Bytes of messages in all outboxes beyond which no more requests should be handled.
const OUTBOXES_SIZE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Messages in all outboxes, likewise.
const OUTBOXES_COUNT_MAX: usize = 256 * 1024;
/// How long a message waits for a majority before its publisher is told that it may be lost
/// (contract C15).
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(30);
/// How often messages are looked at for that.
const TIMEOUT_CHECK_PERIOD: Duration = Duration::from_millis(500);
/// How often the outboxes are emptied in one drain: what a full queue passes on may be for another.
const FLUSH_ROUNDS_MAX: usize = 4;

/// The outboxes of this node, one for each queue that its clients have published to.
#[derive(Debug, Default)]
pub(crate) struct Outboxes {
    by_queue: BTreeMap<QueueId, Outbox>,
    /// Those with something to send.
    dirty: Vec<QueueId>,
    /// Those that have become empty since they were last looked at.
    emptied: Vec<QueueId>,
    size_bytes: usize,
    count: usize,
    /// Where the last message went, for whoever is about to wait for it.
    pub(crate) last: Vec<QueueId>,
    /// Publishers that waited for room and need not any more.
    relieved: Vec<(SessionSlot, ConnectionId)>,
    tickets: BTreeMap<u64, Ticket>,
    ticket_count: u64,
    next_check: Timestamp,
}

/// What is on its way to one queue.
#[derive(Debug)]
struct Outbox {
    /// Those that were ever sent are the first.
    items: VecDeque<Item>,
    /// Of their messages.
    size_bytes: usize,
    /// Publishers that wait for room.
    held: BTreeSet<(SessionSlot, ConnectionId)>,
    next_number: u64,
    /// How many of `items` have been sent to the queue's server, since it is that and connected.
    sent_count: usize,
    /// The last number sent to it.
    last_sent: Option<u64>,
    is_dirty: bool,
    /// In the list of those that have become empty.
    is_emptied: bool,
}

#[derive(Debug)]
struct Item {
    number: u64,
    message: EntryMessage,
    waiter: Waiter,
    since: Timestamp,
    /// Some server may have it.
    was_sent: bool,
    is_refused: bool,
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug)]
enum Waiter {
    Nobody,
    Publish(Publisher),
    Ticket(u64),
}

/// A publish to be confirmed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Publisher {
    pub(crate) session: SessionSlot,
    pub(crate) connection: ConnectionId,
    pub(crate) channel: ChannelNumber,
    /// Which channel of that number.
    pub(crate) opening: u64,
    pub(crate) seq: PublishSeq,
}

/// What several answers are waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    Publish(Publisher),
    /// A transaction's commit is to be answered.
    Commit {
        session: SessionSlot,
        connection: ConnectionId,
        channel: ChannelNumber,
        opening: u64,
    },
    /// A dead message is to be buried.
    Bury {
        queue: QueueId,
        index: MessageIndex,
    },
}

/// What became of a message on its way to a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    /// It is in the queue, and committed or on disk; or the queue is gone.
    Safe,
    /// A full queue has refused it.
    Refused,
    /// It may be in the queue or not.
    Unknown,
}

#[derive(Debug)]
struct Ticket {
    purpose: Purpose,
    left: usize,
    /// The worst of the answers.
    fate: Fate,
    /// Queues that have it.
    placed: Vec<QueueId>,
}

impl Outbox {
    fn new() -> Self {
        Self {
            items: VecDeque::new(),
            size_bytes: 0,
            held: BTreeSet::new(),
            next_number: 1,
            sent_count: 0,
            last_sent: None,
            is_dirty: false,
            is_emptied: false,
        }
    }

    /// The lowest number that is not answered.
    fn base(&self) -> u64 {
        self.items
            .front()
            .map_or(self.next_number, |item| item.number)
    }

    /// The next messages to be sent, as many as a frame holds.
    fn next_batch(&mut self) -> Option<(u64, Vec<(u64, EntryMessage)>)> {
        let base = self.base();
        let follows = self.last_sent.map_or(base - 1, |last| last.max(base - 1));
        let mut size_bytes = 0;
        let mut messages = Vec::new();
        for item in self.items.range_mut(self.sent_count..) {
            size_bytes += item.message.stored.len();
            if size_bytes > FRAME_SIZE_BYTES_TARGET && !messages.is_empty() {
                break;
            }
            item.was_sent = true;
            messages.push((item.number, item.message.clone()));
        }
        self.sent_count += messages.len();
        self.last_sent = Some(messages.last()?.0);
        Some((follows, messages))
    }
}

impl Outboxes {
    /// Panics if sizes or counts are wrong.
    pub(crate) fn check_invariants(&self) {
        let size_of = |outbox: &Outbox| -> usize {
            let items = outbox.items.iter();
            items.map(|item| item.message.stored.len()).sum()
        };
        for outbox in self.by_queue.values() {
            assert_eq!(
                size_of(outbox),
                outbox.size_bytes,
                "an outbox knows its size"
            );
        }
        let outboxes = self.by_queue.values();
        assert_eq!(
            outboxes.clone().map(size_of).sum::<usize>(),
            self.size_bytes
        );
        assert_eq!(outboxes.map(|it| it.items.len()).sum::<usize>(), self.count);
    }

    /// Whether so much is on its way that nothing should be added.
    pub(crate) fn is_full(&self) -> bool {
        self.size_bytes > OUTBOXES_SIZE_BYTES_MAX || self.count > OUTBOXES_COUNT_MAX
    }

    /// Bytes of messages.
    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Whether so much is on its way that it matters to which queue.
    #[inline]
    pub(super) fn is_filling(&self) -> bool {
        self.size_bytes > OUTBOXES_SIZE_BYTES_MAX / 8 || self.count > OUTBOXES_COUNT_MAX / 8
    }

    /// Bytes and messages that one outbox may hold, as things are: half of what is free.
    fn share(&self) -> (usize, usize) {
        (
            OUTBOXES_SIZE_BYTES_MAX.saturating_sub(self.size_bytes) / 2,
            OUTBOXES_COUNT_MAX.saturating_sub(self.count) / 2,
        )
    }

    /// Has a publisher wait if the queue's outbox holds more than its share; false if it need not,
    /// or waits already.
    pub(super) fn hold(&mut self, queue: QueueId, who: (SessionSlot, ConnectionId)) -> bool {
        let (size_bytes_max, count_max) = self.share();
        let Some(outbox) = self.by_queue.get_mut(&queue) else {
            return false;
        };
        let is_over = outbox.size_bytes > size_bytes_max || outbox.items.len() > count_max;
        is_over && outbox.held.insert(who)
    }

    /// Some of an outbox has gone: who waits for room goes on when half of its share is free.
    fn relieve(&mut self, queue: QueueId) {
        let (size_bytes_max, count_max) = self.share();
        let Some(outbox) = self.by_queue.get_mut(&queue) else {
            return;
        };
        let has_room =
            outbox.size_bytes <= size_bytes_max / 2 && outbox.items.len() <= count_max / 2;
        if !outbox.held.is_empty() && (has_room || outbox.items.is_empty()) {
            self.relieved.extend(std::mem::take(&mut outbox.held));
        }
    }

    /// Publishers that need not wait any more.
    pub(super) fn take_relieved(&mut self) -> Vec<(SessionSlot, ConnectionId)> {
        std::mem::take(&mut self.relieved)
    }

    fn push(&mut self, queue: QueueId, message: EntryMessage, now: Timestamp) {
        let size_bytes = message.stored.len();
        self.size_bytes += size_bytes;
        self.count += 1;
        let outbox = self.by_queue.entry(queue).or_insert_with(Outbox::new);
        outbox.size_bytes += size_bytes;
        let number = outbox.next_number;
        outbox.next_number += 1;
        outbox.items.push_back(Item {
            number,
            message,
            waiter: Waiter::Nobody,
            since: now,
            was_sent: false,
            is_refused: false,
        });
        self.mark_dirty(queue);
    }

    fn mark_dirty(&mut self, queue: QueueId) {
        if let Some(outbox) = self.by_queue.get_mut(&queue)
            && !std::mem::replace(&mut outbox.is_dirty, true)
        {
            self.dirty.push(queue);
        }
    }

    /// Another node serves the queue, or the link with it was made anew: all that is not answered
    /// is sent again. Returns how many messages that are.
    pub(crate) fn rewind(&mut self, queue: QueueId) -> usize {
        let Some(outbox) = self.by_queue.get_mut(&queue) else {
            return 0;
        };
        let sent_count = std::mem::take(&mut outbox.sent_count);
        outbox.last_sent = None;
        self.mark_dirty(queue);
        sent_count
    }

    /// Queues with something on its way.
    pub(crate) fn queues(&self) -> Vec<QueueId> {
        let waiting = self.by_queue.iter();
        let waiting = waiting.filter(|(_, outbox)| !outbox.items.is_empty());
        waiting.map(|(id, _)| *id).collect()
    }

    /// Whoever waits for the message that was pushed last to each of `queues`.
    fn attach(&mut self, queues: &[QueueId], waiter: Waiter) {
        for queue in queues {
            let last = self
                .by_queue
                .get_mut(queue)
                .and_then(|outbox| outbox.items.back_mut());
            if let Some(item) = last {
                item.waiter = waiter;
            }
        }
    }

    fn issue(&mut self, purpose: Purpose, left: usize) -> u64 {
        self.ticket_count += 1;
        let ticket = Ticket {
            purpose,
            left,
            fate: Fate::Safe,
            placed: Vec::new(),
        };
        self.tickets.insert(self.ticket_count, ticket);
        self.ticket_count
    }

    /// Takes the answers out of what a queue's server has said.
    fn take_heard(&mut self, heard: &Heard, may_refuse: bool) -> Vec<(Waiter, Fate)> {
        let mut answers = Vec::new();
        let Some(outbox) = self.by_queue.get_mut(&heard.queue) else {
            return answers;
        };
        for number in &heard.refused {
            let at = outbox.items.partition_point(|item| item.number < *number);
            if let Some(item) = outbox.items.get_mut(at)
                && item.number == *number
            {
                item.is_refused = true;
                let waiter = std::mem::replace(&mut item.waiter, Waiter::Nobody);
                answers.push((waiter, Fate::Refused));
            }
        }
        while let Some(item) = outbox
            .items
            .pop_front_if(|item| item.is_refused || item.number <= heard.upto)
        {
            outbox.sent_count = outbox.sent_count.saturating_sub(1);
            outbox.size_bytes -= item.message.stored.len();
            self.size_bytes -= item.message.stored.len();
            self.count -= 1;
            let is_doubtful = may_refuse && item.number <= heard.doubtful;
            let fate = if is_doubtful {
                Fate::Unknown
            } else {
                Fate::Safe
            };
            answers.push((item.waiter, fate));
        }
        if outbox.items.is_empty() && !std::mem::replace(&mut outbox.is_emptied, true) {
            self.emptied.push(heard.queue);
        }
        self.relieve(heard.queue);
        answers
    }

    /// Gives back memory of outboxes that are empty.
    fn rest(&mut self) {
        for queue in std::mem::take(&mut self.emptied) {
            if let Some(outbox) = self.by_queue.get_mut(&queue) {
                outbox.is_emptied = false;
                if outbox.items.is_empty() {
                    outbox.items = VecDeque::new();
                }
            }
        }
    }

    /// Forgets what matches of an outbox; its waiters.
    fn drop_items(&mut self, queue: QueueId, which: impl Fn(&Item) -> bool) -> Vec<Waiter> {
        let mut waiters = Vec::new();
        let Some(outbox) = self.by_queue.get_mut(&queue) else {
            return waiters;
        };
        let (mut at, sent_before) = (0, outbox.sent_count);
        let (size_bytes, count) = (&mut self.size_bytes, &mut self.count);
        let sent_count = &mut outbox.sent_count;
        let own_size_bytes = &mut outbox.size_bytes;
        outbox.items.retain(|item| {
            let goes = which(item);
            if goes {
                *size_bytes -= item.message.stored.len();
                *own_size_bytes -= item.message.stored.len();
                *count -= 1;
                waiters.push(item.waiter);
                *sent_count -= usize::from(at < sent_before);
            }
            at += 1;
            !goes
        });
        self.relieve(queue);
        waiters
    }

    /// Publishers for whom the wait has become too long; what no server may have is forgotten. Dead
    /// letters wait on.
    fn take_overdue(&mut self, now: Timestamp) -> Vec<(QueueId, Waiter)> {
        let mut overdue = Vec::new();
        let tickets = std::mem::take(&mut self.tickets);
        let is_late = |item: &Item| now.since(item.since) >= PUBLISH_TIMEOUT;
        for id in self.queues() {
            let Some(outbox) = self.by_queue.get_mut(&id) else {
                continue;
            };
            if !outbox.items.front().is_some_and(is_late) {
                continue;
            }
            let gives_up = |item: &Item| is_late(item) && !item.waiter.is_patient(&tickets);
            for item in outbox.items.iter_mut().filter(|item| item.was_sent) {
                if gives_up(item) {
                    let waiter = std::mem::replace(&mut item.waiter, Waiter::Nobody);
                    overdue.push((id, waiter));
                }
            }
            let dropped = self.drop_items(id, |item| !item.was_sent && gives_up(item));
            overdue.extend(dropped.into_iter().map(|waiter| (id, waiter)));
        }
        self.tickets = tickets;
        overdue
    }
}

impl Waiter {
    /// Whether it is never told that the wait was too long.
    fn is_patient(self, tickets: &BTreeMap<u64, Ticket>) -> bool {
        let Self::Ticket(id) = self else {
            return false;
        };
        let purpose = tickets.get(&id).map(|ticket| ticket.purpose);
        matches!(purpose, Some(Purpose::Bury { .. }))
    }
}

impl Node {
    /// Puts a message into the outbox of a queue that is replicated or kept elsewhere.
    #[inline(never)]
    pub(crate) fn send_off(&mut self, id: QueueId, arriving: &mut Arriving<'_>) -> Enqueued {
        let (Some(cluster), Some(slot)) = (&mut self.cluster, self.queues.get_mut(id)) else {
            return Enqueued::Gone;
        };
        let message = arriving.entry_message(slot);
        cluster.outboxes.push(id, message, self.now);
        arriving.sent.push(id);
        // The next tick looks whether its arena is still of use.
        self.mark_dirty(id);
        Enqueued::Sent
    }

    /// Has somebody wait for the message that was just sent off, and for the disk if `is_logged`.
    pub(crate) fn await_answers(&mut self, purpose: Purpose, is_logged: bool) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let queues = std::mem::take(&mut cluster.outboxes.last);
        self.await_answers_of(&queues, purpose, is_logged);
    }

    /// As [`Node::await_answers`], of these queues.
    pub(crate) fn await_answers_of(
        &mut self,
        queues: &[QueueId],
        purpose: Purpose,
        is_logged: bool,
    ) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let outboxes = &mut cluster.outboxes;
        if let (Purpose::Publish(publisher), false, [_]) = (purpose, is_logged, queues) {
            return outboxes.attach(queues, Waiter::Publish(publisher));
        }
        let ticket = outboxes.issue(purpose, queues.len() + usize::from(is_logged));
        outboxes.attach(queues, Waiter::Ticket(ticket));
        if is_logged {
            self.pending.push(Pending::Ticket(ticket));
        }
    }

    /// Begins to wait for several messages; each is added with [`Node::add_to_ticket`].
    pub(crate) fn open_ticket(&mut self, purpose: Purpose) -> Option<u64> {
        let cluster = self.cluster.as_mut()?;
        Some(cluster.outboxes.issue(purpose, 1))
    }

    /// The message that was just sent off is waited for as well.
    pub(crate) fn add_to_ticket(&mut self, id: Option<u64>) {
        let (Some(id), Some(cluster)) = (id, &mut self.cluster) else {
            return;
        };
        let outboxes = &mut cluster.outboxes;
        let queues = std::mem::take(&mut outboxes.last);
        outboxes.attach(&queues, Waiter::Ticket(id));
        if let Some(ticket) = outboxes.tickets.get_mut(&id) {
            ticket.left += queues.len();
        }
    }

    /// Nothing more is added, or what is kept here is on disk.
    pub(crate) fn close_ticket(&mut self, ticket: u64) {
        self.answer_ticket(ticket, None, Fate::Safe);
    }

    /// A queue's server has answered.
    pub(crate) fn outbox_heard(&mut self, heard: &Heard) {
        let may_refuse = self
            .queues
            .get(heard.queue)
            .is_some_and(|slot| slot.settings.overflow != Overflow::DropHead);
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let answers = cluster.outboxes.take_heard(heard, may_refuse);
        if !answers.is_empty() {
            cluster.failovers.confirmed(heard.queue, self.now);
        }
        for (waiter, fate) in answers {
            self.answer(heard.queue, waiter, fate);
        }
    }

    fn answer(&mut self, queue: QueueId, waiter: Waiter, fate: Fate) {
        match waiter {
            Waiter::Nobody => {}
            Waiter::Publish(publisher) => self.answer_publisher(publisher, fate == Fate::Safe),
            Waiter::Ticket(ticket) => self.answer_ticket(ticket, Some(queue), fate),
        }
    }

    fn answer_publisher(&mut self, publisher: Publisher, is_safe: bool) {
        let Publisher {
            session,
            connection,
            channel,
            opening,
            seq,
        } = publisher;
        if !self.is_still(session, connection) || !self.sessions.is_open(session, channel, opening)
        {
            return;
        }
        if is_safe {
            self.sessions.push_confirm(session, channel, seq, seq);
        } else {
            self.sessions.push_nack(session, channel, seq);
        }
    }

    fn answer_ticket(&mut self, id: u64, queue: Option<QueueId>, fate: Fate) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let tickets = &mut cluster.outboxes.tickets;
        let Some(ticket) = tickets.get_mut(&id) else {
            return;
        };
        ticket.left -= 1;
        if let (Purpose::Bury { queue: source, .. }, Some(queue)) = (ticket.purpose, queue)
            && fate == Fate::Refused
        {
            self.rooms.turned_away(queue, source);
        }
        ticket.fate = ticket.fate.max(fate);
        ticket.placed.extend(queue.filter(|_| fate == Fate::Safe));
        if ticket.left > 0 {
            return;
        }
        let Some(ticket) = tickets.remove(&id) else {
            return;
        };
        match ticket.purpose {
            Purpose::Publish(publisher) => {
                self.answer_publisher(publisher, ticket.fate == Fate::Safe);
            }
            Purpose::Commit {
                session,
                connection,
                channel,
                opening,
            } => {
                if !self.is_still(session, connection)
                    || !self.sessions.is_open(session, channel, opening)
                {
                    return;
                }
                if ticket.fate != Fate::Safe {
                    let refusal = Refusal::Precondition("partial tx completion".to_owned());
                    return self.refuse(session, channel, Operation::Commit, refusal);
                }
                self.answer_committed(session, channel);
            }
            Purpose::Bury { queue, index } => {
                let placed = ticket.placed.clone();
                self.copies_answered(queue, index, ticket.placed, ticket.fate);
                // Where one has arrived there may be room for more.
                for queue in placed {
                    self.use_room(queue);
                }
            }
        }
    }

    /// Sends what has gathered to whoever serves the queues; what nobody serves waits.
    pub(crate) fn flush_outboxes(&mut self) {
        for _ in 0..FLUSH_ROUNDS_MAX {
            let Some(cluster) = &mut self.cluster else {
                return;
            };
            let dirty = std::mem::take(&mut cluster.outboxes.dirty);
            if dirty.is_empty() {
                return;
            }
            for id in dirty {
                self.flush_outbox(id);
            }
        }
    }

    pub(crate) fn flush_outbox(&mut self, id: QueueId) {
        let server = self.server_of(id);
        while let Some(cluster) = &mut self.cluster
            && let Some(outbox) = cluster.outboxes.by_queue.get_mut(&id)
        {
            outbox.is_dirty = false;
            let Some(server) = server else { return };
            let Some((follows, messages)) = outbox.next_batch() else {
                return;
            };
            let base = outbox.base();
            if server == cluster.me {
                self.offer_own(id, base, follows, messages);
            } else {
                let published = Published {
                    queue: id,
                    base,
                    follows,
                    messages,
                };
                self.send_frame(server, &Frame::Publish(published));
            }
        }
    }

    fn offer_own(
        &mut self,
        queue: QueueId,
        base: u64,
        follows: u64,
        messages: Vec<(u64, EntryMessage)>,
    ) {
        let Some(cluster) = &self.cluster else { return };
        let origin = cluster.origin;
        let offer = Offer {
            origin,
            base,
            follows,
            messages,
        };
        let offered = self.offer(queue, offer);
        self.outbox_heard(&Heard {
            queue,
            upto: offered.heard,
            doubtful: offered.heard,
            refused: offered.refused,
        });
    }

    /// Tells publishers that have waited too long; looked at now and then.
    pub(crate) fn check_outboxes(&mut self, now: Timestamp) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        if now < cluster.outboxes.next_check {
            return;
        }
        cluster.outboxes.next_check = now + TIMEOUT_CHECK_PERIOD;
        cluster.outboxes.rest();
        for (queue, waiter) in cluster.outboxes.take_overdue(now) {
            self.answer(queue, waiter, Fate::Unknown);
        }
    }

    /// The queue is gone, and what was on its way to it with it: its publishers need not worry.
    pub(crate) fn drop_outbox(&mut self, id: QueueId) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let waiters = cluster.outboxes.drop_items(id, |_| true);
        cluster.outboxes.by_queue.remove(&id);
        for waiter in waiters {
            self.answer(id, waiter, Fate::Safe);
        }
    }

    /// The node that keeps these queues alone is another process than before: whether that one
    /// had what was sent to it is not known, and it must not be sent twice (contract C10).
    pub(crate) fn give_up_sent(&mut self, home: NodeId) {
        let Some(cluster) = &self.cluster else { return };
        for id in cluster.outboxes.queues() {
            let entry = self.catalog.queue_by_id(id);
            if entry.and_then(|entry| entry.placement.home()) != Some(home) {
                continue;
            }
            let Some(cluster) = &mut self.cluster else {
                return;
            };
            for waiter in cluster.outboxes.drop_items(id, |item| item.was_sent) {
                self.answer(id, waiter, Fate::Unknown);
            }
        }
    }
}
