//! What each request of a connection leads to.

use staunch_types::{ChannelNumber, ConnectionId, Event, Name, Operation, Refusal, Reply, Request};

use crate::{
    node::Node,
    session::{OUTBOUND_SIZE_BYTES_MAX, SessionSlot},
};

impl Node {
    pub(crate) fn handle_request(&mut self, slot: SessionSlot, request: Request) {
        match request {
            Request::Publish(publish) => self.publish(slot, publish),
            Request::Settle(settle) => self.settle(slot, settle),
            Request::Drained { size_bytes } => self.drained(slot, size_bytes),
            Request::DeclareQueue(declare) => self.declare_in_turn(slot, declare),
            request => self.handle_permitted(slot, request),
        }
    }

    /// Handles a request if its sender may do that.
    pub(crate) fn handle_permitted(&mut self, slot: SessionSlot, request: Request) {
        if self.permits(slot, &request) {
            self.acting = Some(slot);
            self.handle_rare_request(slot, request);
            self.acting = None;
        }
    }

    pub(crate) fn handle_rare_request(&mut self, slot: SessionSlot, request: Request) {
        match request {
            Request::Publish(_) | Request::Settle(_) | Request::Drained { .. } => {
                unreachable!("handled before")
            }
            Request::Login(login) => self.login(slot, login),
            Request::OpenVhost { vhost } => self.open_vhost(slot, vhost),
            Request::OpenChannel { channel } => self.open_channel(slot, channel),
            Request::UpdateSecret { .. } => self.update_secret(slot),
            Request::ConsumeReplies { channel } => self.consume_replies(slot, channel),
            Request::SelectTx { channel } => self.select_tx(slot, channel),
            Request::Commit { channel, settles } => self.commit(slot, channel, settles),
            Request::Rollback { channel } => self.rollback(slot, channel),
            Request::DeclareExchange(declare) => self.declare_exchange(slot, declare),
            Request::DeleteExchange {
                channel,
                exchange,
                if_unused,
            } => {
                self.delete_exchange(slot, channel, exchange, if_unused);
            }
            Request::Bind(binding) => self.bind(slot, *binding),
            Request::Unbind(binding) => self.unbind(slot, *binding),
            Request::DeclareQueue(declare) => self.declare_queue(slot, declare),
            Request::PurgeQueue { channel, queue } => self.purge_queue(slot, channel, &queue),
            Request::DeleteQueue {
                channel,
                queue,
                if_unused,
                if_empty,
            } => {
                self.delete_queue(slot, channel, &queue, (if_unused, if_empty));
            }
            Request::Consume(consume) => self.consume(slot, &consume),
            Request::Cancel { channel, consumer } => self.cancel(slot, channel, consumer),
            Request::Get {
                channel,
                queue,
                no_ack,
            } => self.get(slot, channel, &queue, no_ack),
            Request::LimitChannel { channel, prefetch } => {
                self.limit_channel(slot, channel, prefetch);
            }
            Request::LimitConsumers { channel, prefetch } => {
                self.limit_consumers(slot, channel, prefetch);
            }
            Request::Sync { channel } => self.sync(slot, channel),
            Request::CloseChannel { channel } => self.close_channel(slot, channel),
            Request::CloseConnection => self.close_connection(slot),
        }
    }

    /// The channel's connection id and vhost, unless it takes no requests.
    pub(crate) fn requester(
        &self,
        slot: SessionSlot,
        channel: ChannelNumber,
    ) -> Option<(ConnectionId, Name)> {
        let session = self.sessions.get(slot)?;
        let is_open = session
            .channels
            .get(&channel)
            .is_some_and(|channel| !channel.is_refused);
        is_open.then(|| (session.id, session.vhost.clone()))
    }

    pub(crate) fn reply(&mut self, slot: SessionSlot, channel: ChannelNumber, reply: Reply) {
        if self.is_gathering(slot, channel) {
            return self.gathered(slot, channel, reply);
        }
        self.sessions.push(slot, Event::Reply { channel, reply });
    }

    /// Refuses something on a channel, which takes nothing more from then on.
    pub(crate) fn refuse(
        &mut self,
        slot: SessionSlot,
        channel: ChannelNumber,
        operation: Operation,
        refusal: Refusal,
    ) {
        if self.goes_on_gathering(slot, channel, operation, &refusal) {
            return;
        }
        let is_shadow = self
            .sessions
            .get(slot)
            .is_some_and(|it| it.shadow_of.is_some());
        if let Some(open) = self.sessions.channel_mut(slot, channel) {
            // The client's own node ignores the channel; here are its consumers only.
            open.is_refused = !is_shadow;
        }
        self.sessions.push(
            slot,
            Event::Refused {
                channel,
                operation,
                refusal: Box::new(refusal),
            },
        );
    }

    fn open_channel(&mut self, slot: SessionSlot, channel: ChannelNumber) {
        let client = self.sessions.get(slot).and_then(|it| it.client.as_deref());
        if let Some(user) = client.map(|client| client.user.clone()) {
            if let Err(refusal) = self.check_channel_count(&user) {
                let (operation, refusal) = (Operation::OpenChannel, Box::new(refusal));
                let event = Event::ConnectionRefused { operation, refusal };
                return self.sessions.push(slot, event);
            }
            self.census.open_channel(&user);
        }
        let open = self.sessions.new_channel();
        if let Some(session) = self.sessions.get_mut(slot) {
            self.ledger.churn.channel_created += u64::from(session.shadow_of.is_none());
            let replaced = session.channels.insert(channel, open);
            assert!(
                replaced.is_none(),
                "a channel is closed before its number is used again"
            );
            self.sessions.push(slot, Event::ChannelOpened { channel });
        }
        self.notify_channel(slot, channel);
    }

    pub(crate) fn drained(&mut self, slot: SessionSlot, size_bytes: u64) {
        self.drained_elsewhere(slot, size_bytes);
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        assert!(
            size_bytes <= session.outbound_size_bytes,
            "only what was handed out can drain"
        );
        session.outbound_size_bytes -= size_bytes;
        if session.is_congested && session.outbound_size_bytes <= OUTBOUND_SIZE_BYTES_MAX / 2 {
            session.is_congested = false;
            self.unblock_session(slot);
        }
    }

    fn sync(&mut self, slot: SessionSlot, channel: ChannelNumber) {
        if self.requester(slot, channel).is_some() {
            self.reply(slot, channel, Reply::Synced);
        }
    }

    fn close_channel(&mut self, slot: SessionSlot, channel: ChannelNumber) {
        self.abandon_channel(slot, channel);
        let closed = Event::ChannelClosed { channel };
        if !self.waits_for_settlements(slot, Some(channel), Some(&closed)) {
            self.answer_when_persisted(slot, closed);
        }
    }

    fn close_connection(&mut self, slot: SessionSlot) {
        let Some(session) = self.sessions.get(slot) else {
            return;
        };
        let channels: Vec<_> = session.channels.keys().copied().collect();
        for channel in channels {
            self.abandon_channel(slot, channel);
        }
        self.end_shadows(slot);
        self.doom_exclusive_queues(slot);
        if !self.waits_for_settlements(slot, None, None) {
            self.end_with_exclusive_queues(slot);
        }
    }

    /// Hands over what is left for the session, the farewell last.
    pub(crate) fn end_session(&mut self, slot: SessionSlot) {
        self.notify_connection_closed(slot);
        let Some(session) = self.sessions.remove(slot) else {
            return;
        };
        self.ledger.connection_goes(&session);
        if let Some(client) = session
            .client
            .as_ref()
            .filter(|_| !session.vhost.is_empty())
        {
            self.census.leave(&client.user, &session.vhost);
        }
        let mut events = session.events;
        events.push(Event::ConnectionClosed);
        self.outputs
            .push_back(crate::Output::Events(session.id, events));
    }
}
