//! What the servers of queues tell clients of this node.

use staunch_broker::{ConsumerSpec, Indexes, QueueKind};
use staunch_types::{
    ChannelNumber, ConnectionId, ConsumerKey, Delivery, Event, Name, NodeId, Operation, Outcome,
    QueueId, Refusal, Reply, Request,
    request::{Consume, Settle},
};

use super::{
    abroad::{At, Remote},
    asked::operation,
};
use crate::{
    consume::priority,
    consumers::{Consumer, ConsumerKind, Label},
    counts::HandedOut,
    node::Node,
    queues::WaitingGet,
    session::SessionSlot,
};

impl Node {
    /// Events for a client of this node.
    pub(super) fn take_events(
        &mut self,
        from: NodeId,
        connection: ConnectionId,
        events: Vec<Event>,
    ) {
        for event in events {
            let Some(session) = self.sessions.find(connection) else {
                return;
            };
            self.take_event(from, session, event);
        }
    }

    fn take_event(&mut self, from: NodeId, session: SessionSlot, event: Event) {
        match event {
            Event::Delivery(delivery) => {
                if let Some(delivery) = self.take_delivery(from, session, delivery) {
                    self.sessions.push(session, Event::Delivery(delivery));
                }
            }
            Event::Reply { channel, reply } => self.take_reply(from, session, channel, reply),
            Event::Refused {
                channel,
                operation,
                refusal,
            } => self.take_refused(from, session, (channel, operation), *refusal),
            Event::ConsumerCancelled { consumer, .. } => {
                let abroad = self.cluster.as_ref().map(|it| &it.edge.abroad);
                let remote = abroad.and_then(|it| it.get(it.find_at(from, consumer)?));
                if let Some(key) = remote.map(|remote| remote.key) {
                    self.end_remote_consumer(key, false);
                }
            }
            _ => {}
        }
    }

    /// A delivery as the client knows it; none if its consumer is gone here.
    fn take_delivery(
        &mut self,
        from: NodeId,
        session: SessionSlot,
        mut delivery: Delivery,
    ) -> Option<Delivery> {
        let size_bytes = delivery.outbound_size_bytes();
        let found = self.sessions.get(session)?;
        let connection = found.id;
        let abroad = &mut self.cluster.as_mut()?.edge.abroad;
        let token = abroad.receiver(from, delivery.consumer, delivery.queue);
        let remote = token.and_then(|token| abroad.get_mut(token));
        let remote = remote.filter(|remote| remote.session == session);
        let kind = remote.as_ref().and_then(|it| self.consumers.get(it.key));
        let kind = kind.map(|consumer| consumer.kind);
        let Some(remote) = remote.filter(|_| kind != Some(ConsumerKind::Cancelled)) else {
            self.send_back(from, session, &delivery, kind.is_some());
            return None;
        };
        delivery.consumer = remote.key;
        if !delivery.settled {
            remote.held.insert(delivery.index.0);
        }
        abroad.came(connection, from, size_bytes);
        let mut is_blocked = self.count_outbound(session, &delivery);
        if !delivery.settled
            && let Some(consumer) = self.consumers.get_mut(delivery.consumer)
        {
            consumer.unsettled_count += 1;
        }
        if let Some(open) = self.sessions.channel_mut(session, delivery.channel) {
            let is_consumed = kind == Some(ConsumerKind::Active);
            let how = if is_consumed {
                HandedOut::Delivered
            } else {
                HandedOut::Got
            };
            open.counts
                .count(how, delivery.settled, delivery.redelivered);
            is_blocked |= is_consumed && !delivery.settled && open.count_unsettled();
        }
        if is_blocked {
            self.apply_blocks(session, None);
        }
        Some(delivery)
    }

    /// A delivery came too late: to a consumer that its client knows to be cancelled, if `is_known`,
    /// and else to one that is gone, whose channel takes it back when it is over there as well.
    fn send_back(
        &mut self,
        from: NodeId,
        session: SessionSlot,
        delivery: &Delivery,
        is_known: bool,
    ) {
        let size_bytes = delivery.outbound_size_bytes();
        let request = Request::Drained { size_bytes };
        self.send_request(session, from, None, request);
        if is_known && !delivery.settled {
            let settle = Settle {
                channel: delivery.channel,
                consumer: delivery.consumer,
                queue: delivery.queue,
                first: delivery.index,
                count: 1,
                outcome: Outcome::Requeue,
            };
            let request = Request::Settle(settle);
            self.send_request(session, from, Some(delivery.queue), request);
        }
    }

    /// The answer to what was asked on the channel, if it comes from whom it was asked.
    fn take_reply(
        &mut self,
        from: NodeId,
        session: SessionSlot,
        channel: ChannelNumber,
        reply: Reply,
    ) {
        let Some(connection) = self.sessions.get(session).map(|session| session.id) else {
            return;
        };
        let abroad = self.cluster.as_ref().map(|it| &it.edge.abroad);
        let asked = abroad.and_then(|abroad| abroad.asked.get(&connection));
        let answers = asked.is_some_and(|asked| {
            asked.channel == channel
                && asked.sent_to == Some(from)
                && !abroad.is_some_and(|it| it.is_forgetting(from, connection))
                && is_answer(&asked.request, &reply)
        });
        let asked = if answers {
            self.take_asked(connection)
        } else {
            None
        };
        let Some(asked) = asked else {
            // It was given up. What was got is given back when the channel is closed.
            return;
        };
        match (asked.request, reply) {
            (
                Request::Consume(consume),
                Reply::Consuming {
                    consumer,
                    consumer_timeout,
                },
            ) => {
                let at = At::Known(from, consumer);
                let key = self.add_consumer_abroad(session, asked.queue, at, &consume);
                self.consumers.label(key, Label::from(&consume));
                self.notify_consumer(session, &consume);
                let reply = Reply::Consuming {
                    consumer: key,
                    consumer_timeout,
                };
                self.reply(session, channel, reply);
            }
            (Request::Cancel { consumer, .. }, Reply::Cancelled { .. }) => {
                self.end_remote_consumer(consumer, true);
            }
            (
                Request::Get { no_ack, .. },
                Reply::Got {
                    delivery,
                    ready_count,
                },
            ) => {
                let get = WaitingGet {
                    session,
                    channel,
                    no_ack,
                };
                self.take_got(from, get, *delivery, ready_count);
            }
            (Request::DeleteQueue { queue, .. }, Reply::QueueDeleted { count }) => {
                self.delete_checked(session, channel, queue, count);
            }
            (_, reply) => self.reply(session, channel, reply),
        }
    }

    fn take_got(&mut self, from: NodeId, get: WaitingGet, delivery: Delivery, ready_count: u64) {
        let WaitingGet {
            session, channel, ..
        } = get;
        let (queue, there) = (delivery.queue, delivery.consumer);
        if self.sessions.channel_mut(session, channel).is_none() {
            return;
        }
        let key = self.getter_key(get, queue);
        let at = At::Known(from, there);
        let abroad = self.cluster.as_mut().map(|it| &mut it.edge.abroad);
        match abroad {
            Some(abroad) => match abroad.find(key) {
                Some(token) => {
                    abroad.set_at(token, at);
                }
                None => {
                    self.insert_remote(session, channel, queue, at, (key, None));
                }
            },
            None => return,
        }
        let delivery = self.take_delivery(from, session, delivery);
        if self
            .consumers
            .get(key)
            .is_some_and(|getter| getter.unsettled_count == 0)
        {
            self.forget_remote(key);
        }
        self.drop_idle_getter(key);
        if let Some(delivery) = delivery {
            let reply = Reply::Got {
                delivery: Box::new(delivery),
                ready_count,
            };
            self.reply(session, channel, reply);
        }
    }

    /// A consumer of a client of this node, on another node.
    fn add_consumer_abroad(
        &mut self,
        session: SessionSlot,
        queue: QueueId,
        at: At,
        consume: &Consume,
    ) -> ConsumerKey {
        let channel = consume.channel;
        let key = self.consumers.insert(Consumer {
            session,
            channel,
            queue,
            kind: ConsumerKind::Active,
            unsettled_count: 0,
        });
        let vhost = self.sessions.get(session).map(|open| open.vhost.clone());
        let kind = self.queues.get(queue).map(|slot| slot.kind);
        let spec = ConsumerSpec {
            key,
            no_ack: consume.no_ack,
            exclusive: consume.exclusive && kind != Some(QueueKind::Quorum),
            prefetch: consume.prefetch,
            // It was asked of the server whether it is one.
            priority: priority(consume, &vhost.unwrap_or_default()).unwrap_or_default(),
            identity: self.identity(session, consume),
        };
        self.insert_remote(session, channel, queue, at, (key, Some(spec)));
        if let Some(open) = self.sessions.channel_mut(session, channel) {
            open.consumers.insert(key);
        }
        key
    }

    /// Registers a consumer with whoever serves the queue, now or later, without waiting for its
    /// answer.
    pub(crate) fn consume_unasked(
        &mut self,
        session: SessionSlot,
        queue: QueueId,
        consume: &Consume,
    ) -> ConsumerKey {
        let at = At::Nowhere(self.now);
        let key = self.add_consumer_abroad(session, queue, at, consume);
        let abroad = self.cluster.as_ref().map(|it| &it.edge.abroad);
        let token = abroad.and_then(|abroad| abroad.find(key));
        if let (Some(token), Some(server)) = (token, self.server_of(queue)) {
            self.claim_at(token, server);
        }
        key
    }

    fn insert_remote(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
        queue: QueueId,
        at: At,
        (key, spec): (ConsumerKey, Option<ConsumerSpec>),
    ) {
        let (Some(found), Some(cluster)) = (self.sessions.get(session), &mut self.cluster) else {
            return;
        };
        cluster.edge.abroad.insert(Remote {
            session,
            connection: found.id,
            channel,
            queue,
            key,
            spec,
            at,
            held: Indexes::default(),
            unsent: Vec::new(),
        });
    }

    fn take_refused(
        &mut self,
        from: NodeId,
        session: SessionSlot,
        (channel, refused): (ChannelNumber, Operation),
        refusal: Refusal,
    ) {
        let Some(connection) = self.sessions.get(session).map(|session| session.id) else {
            return;
        };
        let abroad = self.cluster.as_ref().map(|it| &it.edge.abroad);
        let asked = abroad.and_then(|abroad| abroad.asked.get(&connection));
        let answers = asked.is_some_and(|asked| {
            asked.channel == channel
                && asked.sent_to == Some(from)
                && !abroad.is_some_and(|it| it.is_forgetting(from, connection))
                && operation(&asked.request) == refused
        });
        if answers {
            self.take_asked(connection);
            self.refuse(session, channel, refused, refusal);
        }
    }

    /// A queue that another node serves may be deleted: it held so many messages.
    fn delete_checked(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
        name: Name,
        count: u64,
    ) {
        if let Some((_, vhost)) = self.requester(session, channel) {
            self.define_deletion(session, channel, vhost, name, count);
        }
    }
}

fn is_answer(request: &Request, reply: &Reply) -> bool {
    matches!(
        (request, reply),
        (Request::Consume(_), Reply::Consuming { .. })
            | (Request::Cancel { .. }, Reply::Cancelled { .. })
            | (Request::Get { .. }, Reply::Got { .. } | Reply::GotNothing)
            | (Request::PurgeQueue { .. }, Reply::QueuePurged { .. })
            | (Request::DeclareQueue(_), Reply::QueueDeclared { .. })
            | (Request::DeleteQueue { .. }, Reply::QueueDeleted { .. })
    )
}
