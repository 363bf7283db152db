//! What the broker itself publishes: events, to the topic exchange `amq.rabbitmq.event` of the
//! default virtual host (RabbitMQ, `rabbitmq_event_exchange`), and the firehose (`trace`).
//!
//! Both are gathered during a drain and put into queues when it hands out, because they come up
//! in the midst of other work on queues. Nobody waits for them, and what is too much is dropped.

use staunch_broker::{CatalogCommand, Change, PermissionCommand, UserCommand};
use staunch_types::{
    ChannelNumber, Message, Name, UnixMillis, field_table::TableBuilder,
    properties::PropertiesBuilder,
};

use crate::{
    delay::targets,
    node::Node,
    publish::Arriving,
    session::{Session, SessionSlot},
};

/// Messages of its own that the broker gathers between two hand-outs.
const OWN_MESSAGES_MAX: usize = 65_536;

const EVENT_VHOST: &str = "/";
const EVENT_EXCHANGE: &str = "amq.rabbitmq.event";

/// Who did what nobody asked for, or an operator did.
const INTERNAL_USER: &str = "rmq-internal";

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
            if message.stored_size_bytes() > self.store.config().payload_size_bytes_max() {
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
    fn notify(&mut self, key: &str, describe: impl FnOnce(TableBuilder) -> TableBuilder) {
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

    fn has_listeners(&self) -> bool {
        let (vhost, exchange) = (EVENT_VHOST.as_bytes(), EVENT_EXCHANGE.as_bytes());
        self.catalog.is_source(vhost, exchange)
    }

    /// A connection has been opened to its virtual host, or is over.
    pub(crate) fn notify_connection(&mut self, key: &str, slot: SessionSlot) {
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
        let pid = connection_pid(&self.config.node_name, session);
        let node = self.config.node_name.clone();
        let (user, name) = (client.user.clone(), client.name.clone());
        let (mechanism, is_encrypted) = (client.peer.mechanism, client.peer.tls.is_some());
        let peer = &client.peer;
        let address = |address: Option<std::net::SocketAddr>| {
            address.map_or_else(
                || ("unknown".to_owned(), 0),
                |it| (it.ip().to_string(), i64::from(it.port())),
            )
        };
        let (host, port) = address(peer.local_address);
        let (peer_host, peer_port) = address(peer.address);
        let vhost = session.vhost.clone();
        self.notify(key, |headers| {
            headers
                .longstr("user_who_performed_action", &*user)
                .longstr("node", node)
                .longstr("vhost", &*vhost)
                .longstr("user", &*user)
                .longstr("auth_mechanism", mechanism)
                .bool("ssl", is_encrypted)
                .longstr("peer_host", peer_host)
                .longstr("host", host)
                .long("peer_port", peer_port)
                .long("port", port)
                .longstr("name", name)
                .longstr("pid", pid)
                .longstr("type", "network")
        });
    }

    /// A channel was opened or is over.
    pub(crate) fn notify_channel(&mut self, key: &str, slot: SessionSlot, number: ChannelNumber) {
        if !self.has_listeners() {
            return;
        }
        let Some(session) = self.sessions.get(slot) else {
            return;
        };
        let Some(client) = session.client.as_deref() else {
            return;
        };
        let connection = connection_pid(&self.config.node_name, session);
        let pid = format!("<{}.{}.{number}>", self.config.node_name, session.id);
        let name = format!("{} ({number})", client.name);
        let (user, vhost) = (client.user.clone(), session.vhost.clone());
        self.notify(key, |headers| {
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

    /// The catalog has changed.
    pub(crate) fn notify_change(&mut self, command: &CatalogCommand, change: Change) {
        let verb = match change {
            Change::Unchanged => return,
            Change::Created => "created",
            Change::Updated => "updated",
            Change::Deleted => "deleted",
        };
        let by =
            |headers: TableBuilder| headers.longstr("user_who_performed_action", INTERNAL_USER);
        match command {
            CatalogCommand::CreateVhost { vhost } | CatalogCommand::DeleteVhost { vhost } => {
                self.notify(&format!("vhost.{verb}"), |headers| {
                    by(headers).longstr("name", &**vhost)
                });
            }
            CatalogCommand::DeclareExchange { vhost, name, .. }
            | CatalogCommand::DeleteExchange { vhost, name, .. } => {
                self.notify(&format!("exchange.{verb}"), |headers| {
                    by(headers)
                        .longstr("name", &**name)
                        .longstr("vhost", &**vhost)
                });
            }
            CatalogCommand::DeclareQueue { vhost, name, .. }
            | CatalogCommand::DeleteQueue { vhost, name } => {
                self.notify(&format!("queue.{verb}"), |headers| {
                    by(headers)
                        .longstr("name", &**name)
                        .longstr("vhost", &**vhost)
                });
            }
            CatalogCommand::Bind { vhost, binding } | CatalogCommand::Unbind { vhost, binding } => {
                let (kind, destination) = match &binding.destination {
                    staunch_types::request::Destination::Queue(name) => ("queue", name),
                    staunch_types::request::Destination::Exchange(name) => ("exchange", name),
                };
                self.notify(&format!("binding.{verb}"), |headers| {
                    by(headers)
                        .longstr("routing_key", &*binding.routing_key)
                        .longstr("destination_kind", kind)
                        .longstr("destination_name", &**destination)
                        .longstr("source_kind", "exchange")
                        .longstr("source_name", &*binding.source)
                        .longstr("vhost", &**vhost)
                });
            }
            CatalogCommand::User(command) => self.notify_user(command, change),
            CatalogCommand::Permission(command) => self.notify_permission(command),
            _ => {}
        }
    }

    fn notify_user(&mut self, command: &UserCommand, change: Change) {
        let (key, name) = match command {
            UserCommand::Put { name, .. } if change == Change::Created => ("user.created", name),
            UserCommand::Put { name, .. } => ("user.password.changed", name),
            UserCommand::SetLimits { name, .. } => ("user.limits.set", name),
            UserCommand::Delete { name } => ("user.deleted", name),
        };
        self.notify(key, |headers| {
            headers
                .longstr("user_who_performed_action", INTERNAL_USER)
                .longstr("name", &**name)
        });
    }

    fn notify_permission(&mut self, command: &PermissionCommand) {
        let (key, user, vhost) = match command {
            PermissionCommand::Set { user, vhost, .. } => ("permission.created", user, vhost),
            PermissionCommand::Clear { user, vhost } => ("permission.deleted", user, vhost),
            PermissionCommand::SetTopic { user, vhost, .. } => {
                ("topic.permission.created", user, vhost)
            }
            PermissionCommand::ClearTopic { user, vhost, .. } => {
                ("topic.permission.deleted", user, vhost)
            }
        };
        self.notify(key, |headers| {
            headers
                .longstr("user_who_performed_action", INTERNAL_USER)
                .longstr("vhost", &**vhost)
                .longstr("user", &**user)
        });
    }
}

/// What stands for the process that RabbitMQ would have for it.
fn connection_pid(node: &str, session: &Session) -> String {
    format!("<{node}.{}>", session.id)
}
