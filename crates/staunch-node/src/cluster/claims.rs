//! Consumers that move to another server with what they hold.
//!
//! A node that begins to serve a replicated queue hands out nothing of it before all nodes that it
//! is connected to have claimed what their clients hold, or a second is over.

use std::{collections::BTreeSet, time::Duration};

use staunch_broker::{ConsumerSpec, Holding};
use staunch_types::{
    ConsumerKey, MessageIndex, NodeId, QueueId, Request, Term, Timestamp, request::Settle,
};

use super::{
    abroad::{At, Remote},
    wire::{Claim, ClaimSpec, Frame},
};
use crate::{
    consumers::{Consumer, ConsumerKind},
    node::Node,
    queues::QueueSlot,
    session::SessionSlot,
};

/// How long a new server waits for claims.
const CLAIM_PERIOD: Duration = Duration::from_secs(1);

/// A queue whose holders have not all spoken.
#[derive(Debug)]
pub(crate) struct Claiming {
    term: Term,
    waits_for: BTreeSet<NodeId>,
    until: Timestamp,
}

impl Node {
    /// Whether the queue must wait with handing out.
    pub(crate) fn is_claiming(&self, id: QueueId) -> bool {
        let cluster = self.cluster.as_ref();
        cluster.is_some_and(|cluster| cluster.edge.claiming.contains_key(&id))
    }

    /// This node begins to serve a replicated queue.
    pub(super) fn begin_claims(&mut self, id: QueueId, term: Term) {
        let now = self.now;
        let is_empty = self.queues.get(id).is_none_or(QueueSlot::is_empty);
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let others = cluster.nodes.others().into_iter();
        let waits_for: BTreeSet<_> = others
            .filter(|node| cluster.nodes.is_connected(*node))
            .collect();
        if is_empty || waits_for.is_empty() {
            return;
        }
        let claiming = Claiming {
            term,
            waits_for,
            until: now + CLAIM_PERIOD,
        };
        cluster.edge.claiming.insert(id, claiming);
    }

    /// A node has claimed what its clients hold in this term, or is gone.
    pub(super) fn has_claimed_all(&mut self, id: QueueId, node: NodeId, term: Option<Term>) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let Some(claiming) = cluster.edge.claiming.get_mut(&id) else {
            return;
        };
        if term.is_none_or(|term| term == claiming.term) {
            claiming.waits_for.remove(&node);
        }
        if claiming.waits_for.is_empty() {
            cluster.edge.claiming.remove(&id);
            self.mark_dirty(id);
        }
    }

    pub(super) fn check_claiming(&mut self, now: Timestamp) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let claiming = cluster.edge.claiming.iter();
        let over: Vec<_> = claiming
            .filter(|(_, claiming)| claiming.until <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            if let Some(cluster) = &mut self.cluster {
                cluster.edge.claiming.remove(&id);
            }
            self.mark_dirty(id);
        }
    }

    /// The consumers of this node's clients on a queue go to its server, with what they hold.
    pub(super) fn move_consumers(&mut self, queue: QueueId, server: NodeId) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let (me, edge) = (cluster.me, &mut cluster.edge);
        // Their claims were with the server before, or with this one in another term.
        (edge.abroad.ended).retain(|_, remote| remote.queue != queue);
        for token in edge.abroad.of_queue(queue) {
            if server == me {
                self.serve_remote(token);
            } else {
                self.claim_at(token, server);
            }
        }
    }

    pub(super) fn claim_at(&mut self, token: u64, server: NodeId) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let edge = &mut cluster.edge;
        let queue = edge.abroad.get(token).map(|remote| remote.queue);
        let term = queue.map(|queue| edge.term_of(queue)).unwrap_or_default();
        let Some(remote) = edge.abroad.set_at(token, At::Claiming(server)) else {
            return;
        };
        // The server was told of these with all that others may not have committed; what it hands
        // out from now on they do not mean.
        remote.unsent.clear();
        let open = self
            .sessions
            .channel_mut(remote.session, remote.channel)
            .map(|open| open.prefetch);
        let spec = remote.spec.map(|spec| ClaimSpec {
            no_ack: spec.no_ack,
            exclusive: spec.exclusive,
            prefetch: spec.prefetch,
            priority: spec.priority,
            identity: spec.identity,
            channel_prefetch: open.unwrap_or_default(),
        });
        let claim = Claim {
            connection: remote.connection,
            channel: remote.channel,
            queue: remote.queue,
            term,
            token,
            spec,
            held: remote.held.runs(),
        };
        let (connection, channel) = (remote.connection, remote.channel);
        edge.abroad.note_shadow(connection, channel, server);
        edge.push(server, Frame::Claim(claim));
    }

    /// The consumer's queue is served here from now on.
    fn serve_remote(&mut self, token: u64) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let Some(remote) = cluster.edge.abroad.remove(token) else {
            return;
        };
        let Remote {
            session,
            channel,
            queue,
            key,
            spec,
            held,
            ..
        } = remote;
        let Some(slot) = self.queues.get_mut(queue) else {
            return;
        };
        // It may have been cancelled before its claim with another node was answered.
        let kind = self.consumers.get(key).map(|consumer| consumer.kind);
        let spec = spec.filter(|_| kind == Some(ConsumerKind::Active));
        let added = spec.map(|spec| slot.queue.add_consumer(spec));
        for (first, count) in held.runs() {
            slot.queue.claim(key, first, count);
        }
        if let Some(Err(_)) = added {
            self.cancel_by_node(key);
        } else {
            let found = self.sessions.get(session);
            let is_blocked = found.is_some_and(|found| found.is_blocked(channel));
            slot.queue.set_consumer_blocked(key, is_blocked);
        }
        self.mark_dirty(queue);
    }

    /// A client of another node holds deliveries of a queue that is served here from now on.
    pub(super) fn take_claim(&mut self, from: NodeId, claim: &Claim) {
        let Claim {
            connection,
            channel,
            queue,
            token,
            spec,
            ref held,
            ..
        } = *claim;
        let found = self.queues.get(queue);
        let Some(vhost) = found
            .filter(|slot| slot.is_served_here())
            .map(|slot| slot.vhost.clone())
        else {
            return;
        };
        let Some(session) = self.shadow(from, connection, &vhost) else {
            return;
        };
        self.open_shadow_channel(session, channel);
        if let Some(spec) = &spec
            && spec.channel_prefetch > 0
        {
            self.limit_channel(session, channel, spec.channel_prefetch);
        }
        let kind = match spec {
            Some(_) => ConsumerKind::Active,
            None => ConsumerKind::Cancelled,
        };
        let key = self.consumers.insert(Consumer {
            session,
            channel,
            queue,
            kind,
            unsettled_count: 0,
        });
        let consumer = self.register_claim(key, spec, held).then_some(key);
        if consumer.is_none() {
            self.consumers.remove(key);
        }
        self.queue_frame(from, Frame::Claimed { token, consumer });
        self.mark_dirty(queue);
    }

    /// Has the queue know a claimed consumer. False if it is none, or was refused as one, and holds
    /// nothing; one that was refused and holds something is told to its node as cancelled.
    fn register_claim(
        &mut self,
        key: ConsumerKey,
        spec: Option<ClaimSpec>,
        held: &[(MessageIndex, u32)],
    ) -> bool {
        let Some(consumer) = self.consumers.get(key).copied() else {
            return false;
        };
        let Consumer {
            session,
            channel,
            queue,
            ..
        } = consumer;
        let Some(slot) = self.queues.get_mut(queue) else {
            return false;
        };
        let added = spec.map(|spec| {
            slot.queue.add_consumer(ConsumerSpec {
                key,
                no_ack: spec.no_ack,
                exclusive: spec.exclusive,
                prefetch: spec.prefetch,
                priority: spec.priority,
                identity: spec.identity,
            })
        });
        for (first, count) in held {
            slot.queue.claim(key, *first, *count);
        }
        let unsettled_count = slot.queue.unsettled_count(key);
        let is_consumer = matches!(added, Some(Ok(())));
        if !is_consumer && unsettled_count == 0 {
            return false;
        }
        if let Some(consumer) = self.consumers.get_mut(key) {
            consumer.unsettled_count = unsettled_count;
        }
        if let Some(open) = self.sessions.channel_mut(session, channel) {
            open.consumers.insert(key);
            for _ in 0..unsettled_count {
                open.count_unsettled();
            }
        }
        self.apply_blocks(session, None);
        if let Some(Err(_)) = added {
            self.cancel_by_node(key);
        }
        true
    }

    /// A claim was answered: the consumer's key there, none if it was refused.
    pub(super) fn claim_answered(
        &mut self,
        from: NodeId,
        token: u64,
        consumer: Option<ConsumerKey>,
    ) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let abroad = &mut cluster.edge.abroad;
        if let Some(ended) = abroad.take_ended(token, from) {
            let Remote {
                session,
                channel,
                queue,
                unsent,
                ..
            } = ended;
            if let Some(consumer) = consumer
                && self.is_still(session, ended.connection)
            {
                self.send_settlements(session, (from, queue), consumer, unsent);
                let request = Request::Cancel { channel, consumer };
                self.send_request(session, from, Some(queue), request);
            }
            return;
        }
        let Some(remote) = abroad.get(token).filter(|it| it.at == At::Claiming(from)) else {
            // Its channel was closed meanwhile, and so will be the shadow's.
            return;
        };
        let (session, channel, own) = (remote.session, remote.channel, remote.key);
        let queue = remote.queue;
        let is_consumer = remote.spec.is_some();
        let kind = self.consumers.get(own).map(|consumer| consumer.kind);
        let Some(key) = consumer else {
            abroad.remove(token);
            if is_consumer && kind == Some(ConsumerKind::Active) {
                self.cancel_by_node(own);
            }
            return;
        };
        let Some(remote) = abroad.set_at(token, At::Known(from, key)) else {
            return;
        };
        let unsent = std::mem::take(&mut remote.unsent);
        let is_over = is_consumer && kind != Some(ConsumerKind::Active);
        if is_over {
            remote.spec = None;
        }
        self.send_settlements(session, (from, queue), key, unsent);
        if is_over {
            let consumer = key;
            let request = Request::Cancel { channel, consumer };
            self.send_request(session, from, Some(queue), request);
        }
    }

    fn send_settlements(
        &mut self,
        session: SessionSlot,
        (to, queue): (NodeId, QueueId),
        consumer: ConsumerKey,
        settles: Vec<(u64, Settle)>,
    ) {
        for (number, settle) in settles {
            if let Some(cluster) = &mut self.cluster {
                let term = cluster.edge.term_of(queue);
                cluster.edge.settlements.sent(number, (to, term));
            }
            let settle = Settle { consumer, ..settle };
            self.send_request(session, to, Some(queue), Request::Settle(settle));
        }
    }

    /// The queue in `slot` is about to be served elsewhere: consumers of this node's clients wait
    /// for that, those of others are forgotten here.
    pub(super) fn disperse(&mut self, slot: &mut QueueSlot) {
        for holding in slot.queue.holdings() {
            let Holding { key, spec, held } = holding;
            let Some(consumer) = self.consumers.get(key).copied() else {
                continue;
            };
            let Some(session) = self.sessions.get(consumer.session) else {
                continue;
            };
            let connection = session.id;
            if session.shadow_of.is_some() {
                self.forget_shadow_consumer(key);
                continue;
            }
            let indexes = held.into_iter();
            let indexes = indexes.flat_map(|(first, count)| first.0..first.0 + u64::from(count));
            let remote = Remote {
                session: consumer.session,
                connection,
                channel: consumer.channel,
                queue: slot.id,
                key,
                spec,
                at: At::Nowhere(self.now),
                held: indexes.collect(),
                unsent: Vec::new(),
            };
            if let Some(cluster) = &mut self.cluster {
                cluster.edge.abroad.insert(remote);
            }
        }
        for get in slot.getters.take().into_iter().flatten() {
            self.end_waiting(get, slot.id);
            let request = Request::Get {
                channel: get.channel,
                queue: slot.name.clone(),
                no_ack: get.no_ack,
            };
            self.ask_later(get.session, get.channel, slot.id, request);
        }
    }
}
