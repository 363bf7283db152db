//! Queues of several partitions, on the node of the client that uses them.
//!
//! A consumer of such a queue is one consumer for each partition: the client knows them by one tag,
//! and the queue machine of each partition decides whether it is the one that is served
//! (`broker/queue/spread.rs`). They are registered without asking, as after a change of leader, so
//! a partition that has no leader at the moment holds up nothing.
//!
//! What else is asked about the queue is asked of one partition after the other, on the client's
//! channel, as if the client had done so; the answers are *gathered* and not passed on. A partition
//! that nobody serves is passed over.

use std::{collections::VecDeque, time::Duration};

use staunch_broker::{Queue, QueueEntry};
use staunch_types::{
    ChannelNumber, ConsumerKey, Event, Name, Operation, QueueId, Refusal, Reply, Request,
    request::Consume,
};

use crate::{consumers::Label, definitions::check_counts, node::Node, session::SessionSlot};

/// What is asked of all partitions of a queue.
#[derive(Debug)]
pub(crate) struct Gathering {
    /// Partitions that have not been asked, and what each will be.
    left: VecDeque<(QueueId, Request)>,
    found: Found,
}

/// What has been answered so far.
#[derive(Debug)]
enum Found {
    /// For `queue.declare`, and for `queue.delete` of the queue with this name.
    Counts {
        ready_count: u64,
        /// Most of any partition: each consumer is with all of them.
        consumer_count: u32,
        to_delete: Option<Deletion>,
    },
    Purged {
        count: u64,
    },
    /// `basic.get`: the first message is the answer.
    Nothing,
    /// `basic.cancel` of the consumer with this key.
    Cancelled(ConsumerKey),
}

/// A queue to be deleted, if it is unused, or empty.
#[derive(Clone, Debug)]
struct Deletion {
    name: Name,
    if_unused: bool,
    if_empty: bool,
}

impl Gathering {
    /// What the requests are called when they are refused.
    fn operation(&self) -> Operation {
        match self.found {
            Found::Counts { .. } => Operation::DeclareQueue,
            Found::Purged { .. } => Operation::PurgeQueue,
            Found::Nothing => Operation::Get,
            Found::Cancelled(_) => Operation::Cancel,
        }
    }
}

impl Node {
    /// Whether a queue's messages are in partitions.
    pub(crate) fn is_split(&self, id: QueueId) -> bool {
        let entry = self.catalog.queue_by_id(id);
        entry.is_some_and(QueueEntry::is_split)
    }

    fn partitions_of(&self, id: QueueId) -> Vec<(QueueId, Name)> {
        let entry = self.catalog.queue_by_id(id);
        let ids = entry.map(QueueEntry::partitions);
        let parts = ids.into_iter().flatten();
        parts
            .filter_map(|id| Some((id, self.queues.get(id)?.name.clone())))
            .collect()
    }

    /// Whether the partition has a leader that can be asked.
    fn is_served(&self, id: QueueId) -> bool {
        let entry = self.catalog.queue_by_id(id);
        let has_majority = entry.is_some_and(|entry| self.has_majority(entry));
        !self.is_elsewhere(id) || (has_majority && self.server_of(id).is_some())
    }

    /// `basic.consume`.
    pub(crate) fn consume_partitions(
        &mut self,
        session: SessionSlot,
        id: QueueId,
        consume: &Consume,
    ) {
        let channel = consume.channel;
        match self.add_to_partitions(session, id, consume) {
            Err(refusal) => self.refuse(session, channel, Operation::Consume, refusal),
            Ok(consumers) => {
                if let Some(first) = consumers.first() {
                    self.consumers.label(*first, Label::from(consume));
                }
                self.notify_consumer(session, consume);
                let settings = self.queues.get(id).map(|slot| &slot.settings);
                let millis = settings.and_then(|settings| settings.consumer_timeout_millis);
                if let Some(open) = self.sessions.channel_mut(session, channel) {
                    open.splits.push(consumers.clone());
                }
                let reply = Reply::ConsumingSplit {
                    consumers,
                    consumer_timeout: millis.map(Duration::from_millis),
                };
                self.reply(session, channel, reply);
            }
        }
    }

    fn add_to_partitions(
        &mut self,
        session: SessionSlot,
        id: QueueId,
        consume: &Consume,
    ) -> Result<Box<[ConsumerKey]>, Refusal> {
        let vhost = self.sessions.get(session).map(|found| found.vhost.clone());
        let vhost = vhost.unwrap_or_default();
        crate::consume::priority(consume, &vhost)?;
        let mut keys = Vec::new();
        for (part, _) in self.partitions_of(id) {
            if self.is_elsewhere(part) {
                keys.push(self.consume_unasked(session, part, consume));
                continue;
            }
            self.dispatch_now(part);
            match self.add_consumer(session, part, consume, vhost.clone()) {
                Ok(key) => keys.push(key),
                Err(refusal) => {
                    for key in keys {
                        self.cancel(session, consume.channel, key);
                    }
                    return Err(refusal);
                }
            }
            self.mark_dirty(part);
        }
        Ok(keys.into())
    }

    /// `basic.cancel`. False if the consumer is not one of several partitions.
    pub(crate) fn cancel_split(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
        key: ConsumerKey,
    ) -> bool {
        let Some(open) = self.sessions.channel_mut(session, channel) else {
            return false;
        };
        let mut splits = open.splits.iter();
        let Some(at) = splits.position(|keys| keys.first() == Some(&key)) else {
            return false;
        };
        let keys = open.splits.swap_remove(at);
        let cancel = |key: &ConsumerKey| {
            let queue = self.consumers.get(*key)?.queue;
            let consumer = *key;
            Some((queue, Request::Cancel { channel, consumer }))
        };
        let gathering = Gathering {
            left: keys.iter().filter_map(cancel).collect(),
            found: Found::Cancelled(key),
        };
        self.begin_gathering(session, channel, gathering);
        true
    }

    /// A consumer is gone with its queue: if it was one of several partitions, so are the others,
    /// and their keys may become others'.
    pub(crate) fn forget_split(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
        key: ConsumerKey,
    ) {
        if let Some(open) = self.sessions.channel_mut(session, channel)
            && !open.splits.is_empty()
        {
            open.splits.retain(|keys| !keys.contains(&key));
        }
    }

    /// `basic.get`: of the partitions in turn, beginning with another each time.
    pub(crate) fn get_from_partitions(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
        id: QueueId,
        no_ack: bool,
    ) {
        let mut parts = self.partitions_of(id);
        self.gets_of_partitions = self.gets_of_partitions.wrapping_add(1);
        if !parts.is_empty() {
            let first = self.gets_of_partitions % parts.len();
            parts.rotate_left(first);
        }
        let get = |(id, queue)| {
            let request = Request::Get {
                channel,
                queue,
                no_ack,
            };
            (id, request)
        };
        let gathering = Gathering {
            left: parts.into_iter().map(get).collect(),
            found: Found::Nothing,
        };
        self.begin_gathering(session, channel, gathering);
    }

    /// The answer to `queue.declare`.
    pub(crate) fn count_partitions(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
        id: QueueId,
    ) {
        self.gather_counts(session, channel, id, None);
    }

    /// `queue.delete`: what the partitions hold is counted first.
    pub(crate) fn delete_partitions(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
        id: QueueId,
        (if_unused, if_empty): (bool, bool),
    ) {
        let Some(name) = self.queues.get(id).map(|slot| slot.name.clone()) else {
            return;
        };
        let deletion = Deletion {
            name,
            if_unused,
            if_empty,
        };
        self.gather_counts(session, channel, id, Some(deletion));
    }

    fn delete_counted(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
        deletion: Deletion,
        (ready_count, consumer_count): (u64, u32),
    ) {
        let Some((_, vhost)) = self.requester(session, channel) else {
            return;
        };
        let Deletion {
            name,
            if_unused,
            if_empty,
        } = deletion;
        let counts = (ready_count, consumer_count);
        let conditions = (if_unused, if_empty);
        match check_counts((&vhost, &name), counts, conditions) {
            Ok(()) => self.define_deletion(session, channel, vhost, name, ready_count),
            Err(refusal) => self.refuse(session, channel, Operation::DeleteQueue, refusal),
        }
    }

    fn gather_counts(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
        id: QueueId,
        to_delete: Option<Deletion>,
    ) {
        let parts = self.partitions_of(id).into_iter();
        let count = |(id, name)| (id, crate::cluster::count_request(channel, name));
        let gathering = Gathering {
            left: parts.map(count).collect(),
            found: Found::Counts {
                ready_count: 0,
                consumer_count: 0,
                to_delete,
            },
        };
        self.begin_gathering(session, channel, gathering);
    }

    /// `queue.purge`: refused as a whole if there is a partition that nobody serves.
    pub(crate) fn purge_partitions(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
        id: QueueId,
    ) {
        let parts = self.partitions_of(id);
        if let Some((_, part)) = parts.iter().find(|(id, _)| !self.is_served(*id)) {
            let refusal = Refusal::Precondition(format!("partition '{part}' has no majority"));
            return self.refuse(session, channel, Operation::PurgeQueue, refusal);
        }
        let purge = |(id, queue)| (id, Request::PurgeQueue { channel, queue });
        let gathering = Gathering {
            left: parts.into_iter().map(purge).collect(),
            found: Found::Purged { count: 0 },
        };
        self.begin_gathering(session, channel, gathering);
    }

    fn begin_gathering(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
        gathering: Gathering,
    ) {
        if let Some(open) = self.sessions.channel_mut(session, channel) {
            open.gathering = Some(Box::new(gathering));
            self.gather(session, channel);
        }
    }

    fn gathering(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
    ) -> Option<&mut Gathering> {
        let open = self.sessions.channel_mut(session, channel)?;
        open.gathering.as_deref_mut()
    }

    /// Asks the next partition. What is known here is taken at once.
    fn gather(&mut self, session: SessionSlot, channel: ChannelNumber) {
        while let Some(gathering) = self.gathering(session, channel) {
            let Some((queue, request)) = gathering.left.pop_front() else {
                return self.finish_gathering(session, channel);
            };
            let is_here = !self.is_elsewhere(queue);
            match request {
                Request::Cancel { channel, consumer } => {
                    return self.cancel(session, channel, consumer);
                }
                _ if !self.is_served(queue) => {}
                Request::DeclareQueue(_) if is_here => {
                    let found = self.queues.get(queue).map(|slot| &slot.queue);
                    let reply = Reply::QueueDeclared {
                        ready_count: found.map_or(0, Queue::ready_count),
                        consumer_count: found.map_or(0, Queue::consumer_count),
                    };
                    self.add_found(session, channel, &reply);
                }
                Request::DeclareQueue(_) => return self.ask_for_counts(session, channel, queue),
                Request::PurgeQueue { .. } if is_here => {
                    let count = self.purge_here(queue);
                    self.add_found(session, channel, &Reply::QueuePurged { count });
                }
                request => return self.handle_rare_request(session, request),
            }
        }
    }

    /// Whether answers on the channel are those of partitions.
    pub(crate) fn is_gathering(&self, session: SessionSlot, channel: ChannelNumber) -> bool {
        let found = self.sessions.get(session);
        let open = found.and_then(|found| found.channels.get(&channel));
        open.is_some_and(|open| open.gathering.is_some())
    }

    /// A partition has answered.
    pub(crate) fn gathered(&mut self, session: SessionSlot, channel: ChannelNumber, reply: Reply) {
        if let Reply::Got { .. } = reply {
            self.end_gathering(session, channel);
            return self.reply(session, channel, reply);
        }
        self.add_found(session, channel, &reply);
        self.gather(session, channel);
    }

    fn add_found(&mut self, session: SessionSlot, channel: ChannelNumber, reply: &Reply) {
        let Some(gathering) = self.gathering(session, channel) else {
            return;
        };
        match (&mut gathering.found, reply) {
            (
                Found::Counts {
                    ready_count,
                    consumer_count,
                    ..
                },
                Reply::QueueDeclared {
                    ready_count: ready,
                    consumer_count: consumers,
                },
            ) => {
                *ready_count += ready;
                *consumer_count = (*consumer_count).max(*consumers);
            }
            (Found::Purged { count }, Reply::QueuePurged { count: purged }) => *count += purged,
            _ => {}
        }
    }

    /// A partition has refused, or nobody serves it any more. True if the others are asked all the
    /// same.
    pub(crate) fn goes_on_gathering(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
        operation: Operation,
        refusal: &Refusal,
    ) -> bool {
        let Some(gathering) = self.gathering(session, channel) else {
            return false;
        };
        if gathering.operation() != operation {
            return false;
        }
        if matches!(refusal, Refusal::NotFound { .. }) {
            self.end_gathering(session, channel);
            return false;
        }
        self.gather(session, channel);
        true
    }

    fn end_gathering(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
    ) -> Option<Box<Gathering>> {
        let open = self.sessions.channel_mut(session, channel)?;
        open.gathering.take()
    }

    fn finish_gathering(&mut self, session: SessionSlot, channel: ChannelNumber) {
        let Some(gathering) = self.end_gathering(session, channel) else {
            return;
        };
        match gathering.found {
            Found::Counts {
                ready_count,
                consumer_count,
                to_delete: None,
            } => {
                let reply = Reply::QueueDeclared {
                    ready_count,
                    consumer_count,
                };
                self.reply(session, channel, reply);
            }
            Found::Counts {
                ready_count,
                consumer_count,
                to_delete: Some(deletion),
            } => {
                let counts = (ready_count, consumer_count);
                self.delete_counted(session, channel, deletion, counts);
            }
            Found::Purged { count } => {
                let reply = Reply::QueuePurged { count };
                let event = Event::Reply { channel, reply };
                if !self.waits_for_settlements(session, Some(channel), Some(&event)) {
                    self.answer_when_persisted(session, event);
                }
            }
            Found::Nothing => self.reply(session, channel, Reply::GotNothing),
            Found::Cancelled(consumer) => {
                self.reply(session, channel, Reply::Cancelled { consumer });
            }
        }
    }
}
