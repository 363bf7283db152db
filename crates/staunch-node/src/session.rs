//! One client connection as the node sees it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use staunch_types::{
    ChannelNumber, ConnectionId, ConsumerKey, Event, Name, NodeId, PublishSeq, QueueId,
};

use crate::{
    access::Epoch,
    consumers::Consumers,
    counts::ChannelCounts,
    declaring::{Declaring, declared_on},
    login::{Candidate, Client},
    partitions::Gathering,
    replies::ReplyConsumer,
    tx::Transaction,
};

/// Deliveries a connection may have on the way to its socket, in bytes. Beyond it the node stops
/// delivering to it until half has drained.
pub const OUTBOUND_SIZE_BYTES_MAX: u64 = 1024 * 1024;

/// Events for which a session makes room at once, if the last drain had as many.
const EVENTS_RESERVED_MAX: u32 = 16 * 1024;

/// Place of a session in the node's table; reused after the session is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionSlot(pub(crate) u32);

/// A client connection.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "two facts, and membership of three lists of the node"
)]
pub(crate) struct Session {
    pub(crate) id: ConnectionId,
    /// The node whose client it is, if that is another one.
    pub(crate) shadow_of: Option<NodeId>,
    /// Somebody whose password is being checked.
    pub(crate) candidate: Option<Box<Candidate>>,
    /// The epoch in which it was found that its user may do everything in a virtual host that is
    /// not traced.
    pub(crate) free_pass: Epoch,
    /// None until somebody has logged in.
    pub(crate) client: Option<Box<Client>>,
    /// Empty until `OpenVhost` succeeded.
    pub(crate) vhost: Name,
    pub(crate) channels: BTreeMap<ChannelNumber, Channel>,
    /// Queues that go with the connection.
    pub(crate) exclusive_queues: BTreeSet<QueueId>,
    /// Events not yet handed to the runtime.
    pub(crate) events: Vec<Event>,
    /// How many events there were in the last drain that had some.
    events_count_last: u32,
    /// Whether the slot is in the node's list of sessions with events.
    pub(crate) is_touched: bool,
    /// In the ledger of what has changed since the last sample.
    pub(crate) is_moved: bool,
    /// Bytes of deliveries handed out and not yet reported drained.
    pub(crate) outbound_size_bytes: u64,
    /// Over the limit: its consumers are blocked.
    pub(crate) is_congested: bool,
    /// The channel of the delivery that filled it, or one of its channels, the last time.
    pub(crate) channel_last: Option<ChannelNumber>,
    /// In the node's list of sessions that can take more again.
    pub(crate) is_relieved: bool,
    /// A queue it has published to whose consumers lag behind.
    pub(crate) lagging: Option<QueueId>,
    /// It has published to a queue that is kept on another node with an alarm.
    pub(crate) is_exposed: bool,
    /// Outboxes that are too full for it to publish more, and queues that it has no credit for.
    pub(crate) holds_count: u32,
}

/// A channel of a session.
#[derive(Debug, Default)]
pub(crate) struct Channel {
    /// Tells it from others that had its number, of this node's sessions.
    pub(crate) opening: u64,
    /// What it did.
    pub(crate) counts: ChannelCounts,
    /// Consumers, cancelled ones with unsettled deliveries among them.
    pub(crate) consumers: BTreeSet<ConsumerKey>,
    /// The keys under which it holds what it got, one per queue.
    pub(crate) getters: BTreeMap<QueueId, ConsumerKey>,
    /// The queue of each `basic.get` that has not been answered.
    pub(crate) waiting_gets: Vec<QueueId>,
    /// Its consumer of direct replies.
    pub(crate) replies: Option<Box<ReplyConsumer>>,
    /// What it holds back, if it is in transaction mode.
    pub(crate) tx: Option<Box<Transaction>>,
    /// Shared limit of unsettled deliveries (`basic.qos` with `global`); 0 is none.
    pub(crate) prefetch: u16,
    /// Unsettled deliveries to its consumers.
    pub(crate) unsettled_count: u32,
    /// The shared limit is reached: its consumers are blocked.
    pub(crate) is_full: bool,
    /// Who took the last of its room, or of its connection's: when there is some again, the others
    /// come first.
    pub(crate) filled_by: Option<ConsumerKey>,
    /// The keys of each consumer that has one for every partition of its queue; the client knows it
    /// by the first.
    pub(crate) splits: Vec<Box<[ConsumerKey]>>,
    /// Declarations of queues, while one is under way.
    pub(crate) declaring: Option<Box<Declaring>>,
    /// What is being asked of the partitions of a queue.
    pub(crate) gathering: Option<Box<Gathering>>,
    /// Something was refused: everything but `CloseChannel` is ignored.
    pub(crate) is_refused: bool,
}

impl Session {
    pub(crate) fn new(id: ConnectionId) -> Self {
        Self {
            id,
            shadow_of: None,
            candidate: None,
            free_pass: Epoch::default(),
            client: None,
            vhost: Name::default(),
            channels: BTreeMap::new(),
            exclusive_queues: BTreeSet::new(),
            events: Vec::new(),
            events_count_last: 0,
            is_touched: false,
            is_moved: false,
            outbound_size_bytes: 0,
            is_congested: false,
            channel_last: None,
            is_relieved: false,
            lagging: None,
            is_exposed: false,
            holds_count: 0,
        }
    }

    /// The queues of its consumers. Behind the channel whose turn ended last comes the next one,
    /// and so it is with the consumers of each channel.
    fn queues_in_turn(&self, consumers: &Consumers) -> impl Iterator<Item = QueueId> {
        let channels = in_turn(self.channel_last, |range| self.channels.range(range));
        let keys = channels.flat_map(|(_, channel)| {
            in_turn(channel.filled_by, |range| channel.consumers.range(range))
        });
        keys.filter_map(|key| Some(consumers.get(*key)?.queue))
    }

    /// Whether consumers on `channel` must wait.
    pub(crate) fn is_blocked(&self, channel: ChannelNumber) -> bool {
        self.is_congested
            || self
                .channels
                .get(&channel)
                .is_some_and(|channel| channel.is_full)
    }
}

/// Everything of an ordered collection, given by its ranges, beginning behind `last`.
fn in_turn<K: Copy, I: Iterator>(
    last: Option<K>,
    range: impl Fn((Bound<K>, Bound<K>)) -> I,
) -> impl Iterator<Item = I::Item> {
    let behind = last.map_or(Bound::Unbounded, Bound::Excluded);
    let upto = last.map(|last| range((Bound::Unbounded, Bound::Included(last))));
    range((behind, Bound::Unbounded)).chain(upto.into_iter().flatten())
}

/// The node's sessions by slot, with those that have events to hand over.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    slots: Vec<Option<Box<Session>>>,
    free: Vec<SessionSlot>,
    by_id: BTreeMap<ConnectionId, SessionSlot>,
    touched: Vec<SessionSlot>,
    /// Channels on which a declaration was answered.
    declared: Vec<(SessionSlot, ChannelNumber)>,
    /// Channels that were ever opened.
    openings: u64,
}

impl Sessions {
    /// A channel that is opened.
    pub(crate) fn new_channel(&mut self) -> Channel {
        self.openings += 1;
        Channel {
            opening: self.openings,
            ..Channel::default()
        }
    }

    /// Whether that channel is still open.
    pub(crate) fn is_open(&self, slot: SessionSlot, channel: ChannelNumber, opening: u64) -> bool {
        let session = self.get(slot);
        let open = session.and_then(|session| session.channels.get(&channel));
        open.is_some_and(|open| open.opening == opening)
    }

    pub(crate) fn insert(&mut self, id: ConnectionId) -> SessionSlot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            SessionSlot(u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 sessions"))
        });
        self.slots[slot.0 as usize] = Some(Box::new(Session::new(id)));
        let replaced = self.by_id.insert(id, slot);
        assert!(replaced.is_none(), "connection ids are never reused");
        slot
    }

    pub(crate) fn find(&self, id: ConnectionId) -> Option<SessionSlot> {
        self.by_id.get(&id).copied()
    }

    pub(crate) fn get(&self, slot: SessionSlot) -> Option<&Session> {
        self.slots.get(slot.0 as usize)?.as_deref()
    }

    pub(crate) fn get_mut(&mut self, slot: SessionSlot) -> Option<&mut Session> {
        self.slots.get_mut(slot.0 as usize)?.as_deref_mut()
    }

    /// The channel, unless the session or the channel is gone.
    pub(crate) fn channel_mut(
        &mut self,
        slot: SessionSlot,
        channel: ChannelNumber,
    ) -> Option<&mut Channel> {
        self.get_mut(slot)?.channels.get_mut(&channel)
    }

    /// A delivery to this consumer was the last that its channel or its connection could take.
    pub(crate) fn end_turn(
        &mut self,
        slot: SessionSlot,
        channel: ChannelNumber,
        consumer: ConsumerKey,
    ) {
        let Some(session) = self.get_mut(slot) else {
            return;
        };
        session.channel_last = Some(channel);
        if let Some(open) = session.channels.get_mut(&channel) {
            open.filled_by = Some(consumer);
        }
    }

    /// Notes that a session can take more again; true if that was not noted before.
    pub(crate) fn begin_relief(&mut self, slot: SessionSlot) -> bool {
        self.get_mut(slot)
            .is_some_and(|session| !std::mem::replace(&mut session.is_relieved, true))
    }

    /// The queues that a relieved session consumes from, in the order in which they are served.
    pub(crate) fn end_relief(&mut self, slot: SessionSlot, consumers: &Consumers) -> Vec<QueueId> {
        let Some(session) = self.get_mut(slot) else {
            return Vec::new();
        };
        session.is_relieved = false;
        session.queues_in_turn(consumers).collect()
    }

    /// Ends a session; its events not yet handed over are returned.
    pub(crate) fn remove(&mut self, slot: SessionSlot) -> Option<Box<Session>> {
        let session = self.slots.get_mut(slot.0 as usize)?.take()?;
        self.by_id.remove(&session.id);
        self.free.push(slot);
        Some(session)
    }

    /// Adds an event for the session in `slot`, if it is still there.
    pub(crate) fn push(&mut self, slot: SessionSlot, event: Event) {
        let Some(session) = self
            .slots
            .get_mut(slot.0 as usize)
            .and_then(Option::as_deref_mut)
        else {
            return;
        };
        if !session.is_touched {
            session.is_touched = true;
            session.events.reserve(session.events_count_last as usize);
            self.touched.push(slot);
        }
        if let Some(channel) = declared_on(&event)
            && let Some(open) = session.channels.get(&channel)
            && open.declaring.is_some()
        {
            self.declared.push((slot, channel));
        }
        session.events.push(event);
    }

    /// Adds a confirm, merged with the one before it where they adjoin.
    pub(crate) fn push_confirm(
        &mut self,
        slot: SessionSlot,
        on: ChannelNumber,
        from: PublishSeq,
        upto: PublishSeq,
    ) {
        if let Some(session) = self.get_mut(slot) {
            if let Some(open) = session.channels.get_mut(&on) {
                open.counts.confirm += upto.0 + 1 - from.0;
            }
            if let Some(Event::Confirmed { channel, last, .. }) = session.events.last_mut()
                && *channel == on
                && last.0 + 1 == from.0
            {
                *last = upto;
                return;
            }
        }
        self.push(
            slot,
            Event::Confirmed {
                channel: on,
                first: from,
                last: upto,
            },
        );
    }

    /// Adds the refusal of a publish, merged with the one before it where they adjoin.
    pub(crate) fn push_nack(&mut self, slot: SessionSlot, on: ChannelNumber, seq: PublishSeq) {
        if let Some(session) = self.get_mut(slot) {
            if let Some(open) = session.channels.get_mut(&on) {
                open.counts.refused += 1;
            }
            if let Some(Event::Nacked { channel, last, .. }) = session.events.last_mut()
                && *channel == on
                && last.0 + 1 == seq.0
            {
                *last = seq;
                return;
            }
        }
        let (first, last) = (seq, seq);
        let channel = on;
        self.push(
            slot,
            Event::Nacked {
                channel,
                first,
                last,
            },
        );
    }

    /// The sessions with events, with the node whose client each is, if that is another one, and
    /// their events.
    pub(crate) fn take_events(
        &mut self,
    ) -> impl Iterator<Item = (ConnectionId, Option<NodeId>, Vec<Event>)> {
        let touched = std::mem::take(&mut self.touched);
        touched.into_iter().filter_map(|slot| {
            let session = self.slots[slot.0 as usize].as_deref_mut()?;
            session.is_touched = false;
            let events = std::mem::take(&mut session.events);
            let count = u32::try_from(events.len()).unwrap_or(u32::MAX);
            session.events_count_last = count.min(EVENTS_RESERVED_MAX);
            (!events.is_empty()).then_some((session.id, session.shadow_of, events))
        })
    }

    /// Channels on which a declaration was answered, once for each.
    pub(crate) fn take_declared(&mut self) -> Vec<(SessionSlot, ChannelNumber)> {
        std::mem::take(&mut self.declared)
    }

    /// Whether there are such.
    pub(crate) fn has_declared(&self) -> bool {
        !self.declared.is_empty()
    }

    /// Every session's slot, oldest connection first.
    pub(crate) fn slots(&self) -> Vec<SessionSlot> {
        self.by_id.values().copied().collect()
    }

    /// Every session, oldest connection first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Session> {
        self.by_id.values().filter_map(|slot| self.get(*slot))
    }

    /// Whether this node has no clients of its own.
    pub(crate) fn is_empty(&self) -> bool {
        self.iter().all(|session| session.shadow_of.is_some())
    }
}

impl Channel {
    /// Counts a delivery that awaits settlement; true when this filled the channel.
    pub(crate) fn count_unsettled(&mut self) -> bool {
        self.unsettled_count += 1;
        let fills = self.prefetch > 0 && self.unsettled_count >= u32::from(self.prefetch);
        let newly = fills && !self.is_full;
        self.is_full |= fills;
        newly
    }

    /// Recomputes fullness after the limit or the count changed; true when room came to be.
    pub(crate) fn recheck_room(&mut self) -> bool {
        let is_full = self.prefetch > 0 && self.unsettled_count >= u32::from(self.prefetch);
        let got_room = self.is_full && !is_full;
        self.is_full = is_full;
        got_room
    }
}
