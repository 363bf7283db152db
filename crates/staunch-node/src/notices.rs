//! What the broker itself publishes: events, to the topic exchange `amq.rabbitmq.event` of the
//! default virtual host (RabbitMQ, `rabbitmq_event_exchange`), and the firehose (`trace`).
//!
//! Both are gathered during a drain and put into queues when it hands out, because they come up
//! in the midst of other work on queues. Nobody waits for them, and what is too much is dropped.

use staunch_types::{
    ChannelNumber, Message, Name, UnixMillis, field_table::TableBuilder,
    properties::PropertiesBuilder, request::Peer,
};

use crate::{
    changes::terms,
    delay::targets,
    login::connection_name,
    node::Node,
    publish::Arriving,
    session::{Session, SessionSlot},
};

/// Messages of its own that the broker gathers between two hand-outs.
const OWN_MESSAGES_MAX: usize = 65_536;

const EVENT_VHOST: &str = "/";
const EVENT_EXCHANGE: &str = "amq.rabbitmq.event";

/// Messages of the broker that have not been put into queues.
#[derive(Debug, Default)]
pub(crate) struct OwnMessages(Vec<(Name, Message)>);

impl OwnMessages {
    pub(crate) fn push(&mut self, vhost: Name, message: Message) {
        if self.0.len() < OWN_MESSAGES_MAX {
            self.0.push((vhost, message));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Node {
    /// Puts the broker's own messages into the queues that are bound for them.
    pub(crate) fn publish_own(&mut self) {
        for (vhost, message) in std::mem::take(&mut self.own_messages.0) {
            if message.stored_size_bytes() > self.message_size_bytes_max() {
                continue;
            }
            let route = &mut self.routes.onward;
            let envelope = staunch_broker::Envelope::of(&message);
            if self.catalog.route_onward(&vhost, &envelope, route).is_err() {
                continue;
            }
            let targets = targets(route);
            let mut arriving = Arriving::new(&message, self.wall_now());
            for target in targets {
                self.enqueue_at(target, &mut arriving);
            }
        }
    }

    /// Publishes an event, if anything is bound for events. The last header that `describe` adds
    /// is followed by the time, as RabbitMQ's plugin has it.
    pub(crate) fn notify(
        &mut self,
        key: &str,
        describe: impl FnOnce(TableBuilder) -> TableBuilder,
    ) {
        if !self.has_listeners() {
            return;
        }
        let UnixMillis(millis) = self.wall_now();
        let headers = describe(TableBuilder::new())
            .long("timestamp_in_ms", i64::try_from(millis).unwrap_or(i64::MAX))
            .build();
        let properties = PropertiesBuilder::new()
            .headers(headers.as_table_ref())
            .delivery_mode(2)
            .timestamp(UnixMillis(millis).seconds())
            .build()
            .expect("no string among the properties");
        let message = Message::copied(
            EVENT_EXCHANGE.as_bytes(),
            key.as_bytes(),
            properties.as_bytes(),
            b"",
        );
        self.own_messages
            .push(Name::from_static(EVENT_VHOST), message);
    }

    pub(crate) fn has_listeners(&self) -> bool {
        let (vhost, exchange) = (EVENT_VHOST.as_bytes(), EVENT_EXCHANGE.as_bytes());
        self.catalog.is_source(vhost, exchange)
    }

    /// A connection has been opened to its virtual host.
    pub(crate) fn notify_connection(&mut self, slot: SessionSlot) {
        if !self.has_listeners() {
            return;
        }
        let Some(session) = self.sessions.get(slot) else {
            return;
        };
        let Some(client) = session.client.as_deref() else {
            return;
        };
        let pid = connection_pid(&self.config.node_name, session);
        let node = self.config.node_name.clone();
        let (user, name) = (client.user.clone(), client.name.clone());
        let peer = &client.peer;
        let (mechanism, tls) = (peer.mechanism, peer.tls);
        let properties = terms(peer.client_properties.as_table_ref());
        let (host, port) = host_and_port(peer.local_address);
        let (peer_host, peer_port) = host_and_port(peer.address);
        let vhost = session.vhost.clone();
        let UnixMillis(connected_at) = self.wall_now();
        self.notify("connection.created", |headers| {
            headers
                .longstr("user_who_performed_action", &*user)
                .longstr("node", node)
                .long(
                    "connected_at",
                    i64::try_from(connected_at).unwrap_or(i64::MAX),
                )
                .array("client_properties", &properties)
                .longstr("vhost", &*vhost)
                .longstr("user", &*user)
                .longstr("protocol", "{0,9,1}")
                .longstr("ssl_protocol", tls.unwrap_or_default())
                .longstr("auth_mechanism", mechanism)
                .bool("ssl", tls.is_some())
                .longstr("peer_host", peer_host)
                .longstr("host", host)
                .long("peer_port", peer_port)
                .long("port", port)
                .longstr("name", name)
                .longstr("pid", pid)
                .longstr("type", "network")
        });
    }

    /// Somebody has logged in, or was refused for this reason.
    pub(crate) fn notify_login(&mut self, user: &Name, peer: &Peer, refused: Option<&str>) {
        if !self.has_listeners() {
            return;
        }
        let (host, _) = host_and_port(peer.local_address);
        let (peer_host, peer_port) = host_and_port(peer.address);
        let key = match refused {
            None => "user.authentication.success",
            Some(_) => "user.authentication.failure",
        };
        self.notify(key, |mut headers| {
            if let Some(why) = refused {
                // RabbitMQ's is a list of the characters.
                headers = headers.longstr("error", why);
            }
            headers = headers.bool("ssl", peer.tls.is_some());
            if let Some(tls) = peer.tls {
                headers = headers.longstr("ssl_protocol", tls);
            }
            headers
                .longstr("auth_mechanism", peer.mechanism)
                .longstr("protocol", "{0,9,1}")
                .long("peer_port", peer_port)
                .longstr("peer_host", peer_host)
                .longstr("connection_name", connection_name(peer))
                .longstr("host", host)
                .longstr("name", &**user)
                .longstr("connection_type", "network")
        });
    }

    /// A connection that was opened is over.
    pub(crate) fn notify_connection_closed(&mut self, slot: SessionSlot) {
        if !self.has_listeners() {
            return;
        }
        let Some(session) = self.sessions.get(slot) else {
            return;
        };
        let Some(client) = session
            .client
            .as_deref()
            .filter(|_| !session.vhost.is_empty())
        else {
            return;
        };
        let properties = terms(client.peer.client_properties.as_table_ref());
        let (node, name) = (self.config.node_name.clone(), client.name.clone());
        let pid = connection_pid(&node, session);
        self.notify("connection.closed", |headers| {
            headers
                .array("client_properties", &properties)
                .longstr("node", node)
                .longstr("pid", pid)
                .longstr("name", name)
        });
    }

    /// A channel was opened.
    pub(crate) fn notify_channel(&mut self, slot: SessionSlot, number: ChannelNumber) {
        let Some((user, pid)) = self.channel_events(slot, number) else {
            return;
        };
        let Some(session) = self.sessions.get(slot) else {
            return;
        };
        let Some(client) = session.client.as_deref() else {
            return;
        };
        let connection = connection_pid(&self.config.node_name, session);
        let name = format!("{} ({number})", client.name);
        let vhost = session.vhost.clone();
        self.notify("channel.created", |headers| {
            headers
                .longstr("user_who_performed_action", &*user)
                .longstr("vhost", &*vhost)
                .longstr("user", &*user)
                .long("number", i64::from(number.0))
                .longstr("connection", connection)
                .longstr("name", name)
                .longstr("pid", pid)
        });
    }

    /// A channel is over.
    pub(crate) fn notify_channel_closed(&mut self, slot: SessionSlot, number: ChannelNumber) {
        let Some((user, pid)) = self.channel_events(slot, number) else {
            return;
        };
        self.notify("channel.closed", |headers| {
            headers
                .longstr("user_who_performed_action", &*user)
                .longstr("pid", pid)
        });
    }

    /// Who has the channel, and its id, if anybody listens.
    fn channel_events(&self, slot: SessionSlot, number: ChannelNumber) -> Option<(Name, String)> {
        if !self.has_listeners() {
            return None;
        }
        let session = self.sessions.get(slot)?;
        let user = session.client.as_deref()?.user.clone();
        let pid = channel_pid(&self.config.node_name, session, number);
        Some((user, pid))
    }

    /// A resource alarm went on or off.
    pub(crate) fn notify_alarm(&mut self, source: &str, is_on: bool) {
        let key = if is_on { "alarm.set" } else { "alarm.cleared" };
        let node = self.config.node_name.clone();
        self.notify(key, |headers| {
            headers
                .longstr("node", node)
                .longstr("source", source)
                .longstr("type", "resource_limit")
        });
    }
}

/// What stands for the process that RabbitMQ would have for it.
pub(crate) fn connection_pid(node: &str, session: &Session) -> String {
    format!("<{node}.{}>", session.id)
}

/// The same for a channel.
pub(crate) fn channel_pid(node: &str, session: &Session, number: ChannelNumber) -> String {
    format!("<{node}.{}.{number}>", session.id)
}

/// An address as events tell it.
fn host_and_port(address: Option<std::net::SocketAddr>) -> (String, i64) {
    address.map_or_else(
        || ("unknown".to_owned(), 0),
        |it| (it.ip().to_string(), i64::from(it.port())),
    )
}
