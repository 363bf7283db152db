//! Lists of channels and consumers for operators.

use staunch_types::{ChannelNumber, ConnectionId, ConsumerKey, FieldTable, Name};

use crate::{
    consumers::{ConsumerKind, Label},
    counts::ChannelCounts,
    node::Node,
    session::{Channel, Session},
};

/// A channel in a list.
#[derive(Clone, Debug)]
pub struct ChannelInfo {
    /// Its connection.
    pub connection: ConnectionId,
    /// The connection's name.
    pub connection_name: String,
    /// Its number.
    pub number: ChannelNumber,
    /// Which of the channels that had this number on this node.
    pub opening: u64,
    /// Who has it.
    pub user: Name,
    /// Where.
    pub vhost: Name,
    /// The client's address.
    pub peer: Option<std::net::SocketAddr>,
    /// Its consumers.
    pub consumer_count: usize,
    /// Deliveries that it has not settled.
    pub unacked_count: u64,
    /// Messages that its transaction holds back.
    pub uncommitted_count: u64,
    /// Whether it is in transaction mode.
    pub is_transactional: bool,
    /// Its shared limit of unsettled deliveries; 0 is none.
    pub prefetch_global: u16,
    /// What it did.
    pub counts: ChannelCounts,
}

/// A consumer in a list.
#[derive(Clone, Debug)]
pub struct ConsumerInfo {
    /// Its tag.
    pub tag: Name,
    /// Its queue.
    pub queue: Name,
    /// The virtual host of both.
    pub vhost: Name,
    /// Its connection.
    pub connection: ConnectionId,
    /// The connection's name.
    pub connection_name: String,
    /// Its channel's number.
    pub channel: ChannelNumber,
    /// Who has it.
    pub user: Name,
    /// The client's address.
    pub peer: Option<std::net::SocketAddr>,
    /// It acknowledges what it gets.
    pub is_acking: bool,
    /// Nobody else may consume.
    pub is_exclusive: bool,
    /// It gets messages: false for one that waits for its turn as the single active consumer.
    pub is_active: bool,
    /// Deliveries that it may have unsettled; 0 is no limit.
    pub prefetch: u16,
    /// What it was started with.
    pub arguments: FieldTable,
}

impl Node {
    pub(crate) fn list_channels(&self) -> Vec<ChannelInfo> {
        let sessions = self.sessions.iter();
        let sessions = sessions.filter(|session| session.shadow_of.is_none());
        let channels = sessions.flat_map(|session| {
            let channels = session.channels.iter();
            channels.filter_map(|(number, open)| self.channel_info(session, *number, open))
        });
        channels.collect()
    }

    fn channel_info(
        &self,
        session: &Session,
        number: ChannelNumber,
        open: &Channel,
    ) -> Option<ChannelInfo> {
        let client = session.client.as_ref()?;
        let keys = open.consumers.iter().chain(open.getters.values());
        let unsettled = keys.filter_map(|key| self.consumers.get(*key));
        let consumers = open.consumers.iter().filter(|key| {
            let consumer = self.consumers.get(**key);
            consumer.is_some_and(|consumer| consumer.kind == ConsumerKind::Active)
        });
        Some(ChannelInfo {
            connection: session.id,
            connection_name: client.name.clone(),
            number,
            opening: open.opening,
            user: client.user.clone(),
            vhost: session.vhost.clone(),
            peer: client.peer.address,
            consumer_count: consumers.count(),
            unacked_count: unsettled.map(|it| u64::from(it.unsettled_count)).sum(),
            uncommitted_count: open.tx.as_ref().map_or(0, |tx| tx.publish_count()),
            is_transactional: open.tx.is_some(),
            prefetch_global: open.prefetch,
            counts: open.counts,
        })
    }

    pub(crate) fn list_consumers(&self) -> Vec<ConsumerInfo> {
        let labels = self.consumers.labels();
        labels
            .filter_map(|(key, label)| self.consumer_info(key, label))
            .collect()
    }

    fn consumer_info(&self, key: ConsumerKey, label: &Label) -> Option<ConsumerInfo> {
        let consumer = self.consumers.get(key)?;
        let session = self.sessions.get(consumer.session)?;
        let client = session.client.as_ref()?;
        let slot = self.queues.get(consumer.queue);
        let is_waiting =
            slot.is_some_and(|slot| slot.is_served_here() && slot.queue.is_waiting_consumer(key));
        Some(ConsumerInfo {
            tag: label.tag.clone(),
            queue: label.queue.clone(),
            vhost: session.vhost.clone(),
            connection: session.id,
            connection_name: client.name.clone(),
            channel: consumer.channel,
            user: client.user.clone(),
            peer: client.peer.address,
            is_acking: !label.no_ack,
            is_exclusive: label.exclusive,
            is_active: !is_waiting,
            prefetch: label.prefetch,
            arguments: label.arguments.clone(),
        })
    }
}
