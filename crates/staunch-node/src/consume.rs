//! Consumers: how they come, how they go, and what a channel leaves behind.

use std::time::Duration;

use staunch_broker::{ConsumerSpec, Departed, QueueKind, Refused, consumer_identity};
use staunch_types::{
    ChannelNumber, ConsumerKey, Event, Name, Operation, QueueId, Refusal, Reply, Request, Resource,
    request::Consume,
};

use crate::{
    consumers::{Consumer, ConsumerKind, Label},
    node::Node,
    session::SessionSlot,
};

impl Node {
    /// `basic.consume`.
    pub(crate) fn consume(&mut self, session: SessionSlot, consume: &Consume) {
        let channel = consume.channel;
        let Some((connection, vhost)) = self.requester(session, channel) else {
            return;
        };
        let id = match self.known_queue(&vhost, &consume.queue, connection) {
            Ok(entry) => entry.id,
            Err(refusal) => return self.refuse(session, channel, Operation::Consume, refusal),
        };
        if self.is_split(id) {
            return self.consume_partitions(session, id, consume);
        }
        if self.is_elsewhere(id) {
            return self.ask(session, channel, id, Request::Consume(consume.clone()));
        }
        self.dispatch_now(id);
        match self.add_consumer(session, id, consume, vhost) {
            Err(refusal) => self.refuse(session, channel, Operation::Consume, refusal),
            Ok(consumer) => {
                self.consumers.label(consumer, Label::from(consume));
                self.notify_consumer(session, consume);
                let settings = self.queues.get(id).map(|slot| &slot.settings);
                let millis = settings.and_then(|settings| settings.consumer_timeout_millis);
                let reply = Reply::Consuming {
                    consumer,
                    consumer_timeout: millis.map(Duration::from_millis),
                };
                self.reply(session, channel, reply);
                self.mark_dirty(id);
            }
        }
    }

    pub(crate) fn add_consumer(
        &mut self,
        session: SessionSlot,
        id: QueueId,
        consume: &Consume,
        vhost: Name,
    ) -> Result<ConsumerKey, Refusal> {
        let channel = consume.channel;
        let priority = priority(consume, &vhost)?;
        let slot = self.queues.get(id);
        let is_quorum = slot.is_some_and(|slot| slot.kind == QueueKind::Quorum);
        let kind = ConsumerKind::Active;
        let consumer = Consumer {
            session,
            channel,
            queue: id,
            kind,
            unsettled_count: 0,
        };
        let key = self.consumers.insert(consumer);
        let spec = ConsumerSpec {
            key,
            no_ack: consume.no_ack,
            // Quorum queues have single active consumers instead, and do not look at it.
            exclusive: consume.exclusive && !is_quorum,
            prefetch: consume.prefetch,
            priority,
            identity: self.identity(session, consume),
        };
        let slot = self
            .queues
            .get_mut(id)
            .expect("the catalog and the table agree");
        if let Err(refused) = slot.queue.add_consumer(spec) {
            let queue = slot.name.clone();
            self.consumers.remove(key);
            return Err(match refused {
                Refused::ExclusiveUse => Refusal::QueueInExclusiveUse { queue, vhost },
                Refused::TooManyConsumers => Refusal::LimitReached(refused.to_string()),
            });
        }
        let is_blocked = self
            .sessions
            .get(session)
            .is_some_and(|open| open.is_blocked(channel));
        slot.queue.set_consumer_blocked(key, is_blocked);
        if let Some(open) = self.sessions.channel_mut(session, channel) {
            open.consumers.insert(key);
        }
        Ok(key)
    }

    /// Who a consumer is for the partitions of a queue, on whichever node they are.
    pub(crate) fn identity(&self, session: SessionSlot, consume: &Consume) -> u64 {
        let connection = self.sessions.get(session).map(|found| found.id);
        consumer_identity(
            connection.unwrap_or_default(),
            consume.channel,
            &consume.tag,
        )
    }

    /// `basic.cancel`: its unsettled deliveries stay with the channel.
    pub(crate) fn cancel(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
        key: ConsumerKey,
    ) {
        if self.requester(session, channel).is_none() {
            return;
        }
        if self.cancel_split(session, channel, key) {
            return;
        }
        if self.cancel_elsewhere(session, channel, key) {
            return;
        }
        if let Some(queue) = self.consumers.get(key).map(|consumer| consumer.queue) {
            self.dispatch_now(queue);
        }
        self.remove_consumer(session, channel, key);
        self.reply(session, channel, Reply::Cancelled { consumer: key });
    }

    /// Takes a consumer off its queue; an auto-delete queue goes with its last one.
    fn remove_consumer(&mut self, session: SessionSlot, channel: ChannelNumber, key: ConsumerKey) {
        let Some(consumer) = self.consumers.get_mut(key) else {
            return;
        };
        if consumer.session != session {
            return;
        }
        match consumer.kind {
            ConsumerKind::Active => {}
            ConsumerKind::Replies => return self.cancel_replies(session, channel, key),
            ConsumerKind::Cancelled | ConsumerKind::Getter => return,
        }
        consumer.kind = ConsumerKind::Cancelled;
        let (queue, unsettled_count) = (consumer.queue, consumer.unsettled_count);
        self.notify_consumer_gone(key);
        if unsettled_count == 0 {
            self.consumers.remove(key);
            if let Some(open) = self.sessions.channel_mut(session, channel) {
                open.consumers.remove(&key);
            }
        }
        let now = self.wall_now();
        let Some(slot) = self.queues.get_mut(queue) else {
            return;
        };
        slot.used_at = now;
        slot.queue.remove_consumer(key);
        if slot.is_auto_delete && slot.queue.consumer_count() == 0 {
            return self.delete_by_node(queue);
        }
        // Whoever comes next in line may take over.
        self.mark_dirty(queue);
    }

    /// A consumer on another node is cancelled as its client wants.
    pub(crate) fn cancelled_elsewhere(&mut self, key: ConsumerKey) {
        let Some(consumer) = self.consumers.get_mut(key) else {
            return;
        };
        consumer.kind = ConsumerKind::Cancelled;
        let Consumer {
            session,
            channel,
            unsettled_count,
            ..
        } = *consumer;
        self.notify_consumer_gone(key);
        if unsettled_count == 0 {
            self.consumers.remove(key);
            if let Some(open) = self.sessions.channel_mut(session, channel) {
                open.consumers.remove(&key);
            }
        }
        self.reply(session, channel, Reply::Cancelled { consumer: key });
    }

    /// The consumer's queue is gone: the client is told, and what it holds of it is void.
    pub(crate) fn cancel_by_node(&mut self, key: ConsumerKey) {
        let Some(consumer) = self.consumers.get_mut(key) else {
            return;
        };
        let Consumer {
            session,
            channel,
            unsettled_count,
            ..
        } = *consumer;
        consumer.kind = ConsumerKind::Cancelled;
        self.notify_consumer_gone(key);
        self.forget_split(session, channel, key);
        if unsettled_count == 0 {
            self.consumers.remove(key);
            if let Some(open) = self.sessions.channel_mut(session, channel) {
                open.consumers.remove(&key);
            }
        }
        self.sessions.push(
            session,
            Event::ConsumerCancelled {
                channel,
                consumer: key,
            },
        );
    }

    /// `basic.qos` with `global`.
    pub(crate) fn limit_channel(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
        prefetch: u16,
    ) {
        let Some(open) = self.sessions.channel_mut(session, channel) else {
            return;
        };
        open.prefetch = prefetch;
        open.recheck_room();
        self.unblock_session(session);
        let request = Request::LimitChannel { channel, prefetch };
        self.tell_servers(session, channel, &request);
    }

    /// `basic.qos` without `global`, for clients that take it to change consumers there are.
    pub(crate) fn limit_consumers(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
        prefetch: u16,
    ) {
        let Some(open) = self.sessions.channel_mut(session, channel) else {
            return;
        };
        let keys: Vec<_> = open.consumers.iter().copied().collect();
        for key in keys {
            let Some(consumer) = self.consumers.get(key) else {
                continue;
            };
            let queue = consumer.queue;
            if let Some(slot) = self.queues.get_mut(queue) {
                slot.queue.set_consumer_prefetch(key, prefetch);
                self.mark_dirty(queue);
            }
        }
        let request = Request::LimitConsumers { channel, prefetch };
        self.tell_servers(session, channel, &request);
    }

    /// A channel is over: consumers go, what was not settled returns to its queues, and gets
    /// that wait are forgotten.
    pub(crate) fn abandon_channel(&mut self, session: SessionSlot, channel: ChannelNumber) {
        let Some(found) = self.sessions.get_mut(session) else {
            return;
        };
        let Some(open) = found.channels.remove(&channel) else {
            return;
        };
        let Some(found) = self.sessions.get(session) else {
            return;
        };
        if let Some(client) = &found.client {
            self.census.close_channel(&client.user);
        }
        if let Some(found) = self.sessions.get_mut(session) {
            self.ledger.channel_closes(found, &open.counts);
        }
        self.leave_servers(session, channel);
        self.tx_size_bytes -= open.tx.as_ref().map_or(0, |tx| tx.size_bytes);
        if let Some(replies) = &open.replies {
            self.consumers.remove(replies.key);
        }
        for queue in open.waiting_gets {
            let Some(slot) = self.queues.get_mut(queue) else {
                continue;
            };
            let Some(mut getters) = slot.getters.take() else {
                continue;
            };
            getters.retain(|get| get.session != session || get.channel != channel);
            slot.getters = (!getters.is_empty()).then_some(getters);
        }
        let now = self.wall_now();
        let mut emptied = Vec::new();
        for key in open.consumers.iter().chain(open.getters.values()) {
            self.notify_consumer_gone(*key);
            let is_remote = self.forget_remote(*key);
            let Some(consumer) = self.consumers.remove(*key).filter(|_| !is_remote) else {
                continue;
            };
            let Some(slot) = self.queues.get_mut(consumer.queue) else {
                continue;
            };
            let mut departed = Departed::default();
            slot.queue.begin_return();
            let returned = slot.queue.requeue_all(*key, now, &mut departed);
            slot.queue.drop_returned(returned, &mut departed);
            slot.count_not_returned(&departed);
            if consumer.kind == ConsumerKind::Active {
                slot.queue.remove_consumer(*key);
                slot.used_at = now;
                if slot.is_auto_delete && slot.queue.consumer_count() == 0 {
                    emptied.push(consumer.queue);
                }
            }
            self.leave(consumer.queue, departed, true);
            self.mark_dirty(consumer.queue);
        }
        for queue in emptied {
            self.delete_by_node(queue);
        }
        self.notify_channel_closed(session, channel);
    }
}

pub(crate) fn priority(consume: &Consume, vhost: &Name) -> Result<i32, Refusal> {
    let Some(value) = consume.arguments.get("x-priority") else {
        return Ok(0);
    };
    let invalid = |reason: String| Refusal::InvalidArgument {
        argument: "x-priority".to_owned(),
        resource: Resource::Queue,
        name: consume.queue.clone(),
        vhost: vhost.clone(),
        reason,
    };
    let Some(number) = value.as_i64() else {
        return Err(invalid(format!(
            "\"expected integer, got {}\"",
            value.amqp_type_name()
        )));
    };
    i32::try_from(number).map_err(|_| invalid(format!("{{max_value_exceeded,{number}}}")))
}
