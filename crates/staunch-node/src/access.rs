//! What a user may do: the table of RabbitMQ's permissions, and what is asked of a publish before
//! it is routed.
//!
//! A user whose patterns are all `.*` in a virtual host that is not traced has a *free pass*: the
//! node counts up its epoch whenever users, permissions or tracing change, and a session that was
//! found free in this epoch is asked nothing more. That is the one comparison on the road of a
//! message. For everyone else the last answers are remembered, as RabbitMQ's channels do.

use std::collections::BTreeSet;

use staunch_broker::{Access, CatalogCommand, Change, UserCommand};
use staunch_types::{
    ChannelNumber, Event, FieldTable, Message, Name, Operation, Refusal, Request, Resource,
    field_table::{TableBuilder, Value},
    name,
    properties::{Properties, PropertiesBuilder},
    request::{Binding, Destination},
};

use crate::{expiry::message_ttl, node::Node, replies::is_reply_name, session::SessionSlot};

/// Answers that a session remembers (RabbitMQ, `rabbit_channel`, `MAX_PERMISSION_CACHE_SIZE`).
const GRANTS_MAX: usize = 12;

/// Headers with further routing keys; those of the second are nobody's business but the broker's
/// (RabbitMQ, sender-selected distribution).
const MORE_KEYS: &str = "CC";
const MORE_KEYS_BLIND: &str = "BCC";

/// The default exchange's name in permissions and texts about them.
const DEFAULT_EXCHANGE_ALIAS: &str = "amq.default";

/// Counts changes of what users may do and of what is traced. Its first value is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Epoch(u64);

impl Epoch {
    pub(crate) const FIRST: Self = Self(1);

    fn advance(&mut self) {
        self.0 += 1;
    }
}

/// What a session's user may do, as far as it has been asked.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// When it was asked.
    epoch: Epoch,
    /// The answer is always yes.
    is_unrestricted: bool,
    /// May publish in the name of others.
    is_impersonator: bool,
    /// The last answers that were yes, oldest first.
    granted: Vec<(Access, Resource, Name)>,
}

/// A publish after its properties have been looked at.
pub(crate) struct Examined {
    pub(crate) message: Message,
    /// Routing keys beside the message's own.
    pub(crate) more_keys: Vec<Vec<u8>>,
}

impl Node {
    /// Whether the session's user may do what is asked; if not, that is refused.
    pub(crate) fn permits(&mut self, slot: SessionSlot, request: &Request) -> bool {
        let is_free = self
            .sessions
            .get(slot)
            .is_some_and(|session| session.free_pass == self.epoch);
        let Some((channel, operation)) = subject(request).filter(|_| !is_free) else {
            return true;
        };
        if self.requester(slot, channel).is_none() {
            return false;
        }
        match self.check_request(slot, request) {
            Ok(()) => true,
            Err(refusal) => {
                self.refuse(slot, channel, operation, refusal);
                false
            }
        }
    }

    /// The table (RabbitMQ, access control).
    pub(crate) fn check_request(
        &mut self,
        slot: SessionSlot,
        request: &Request,
    ) -> Result<(), Refusal> {
        use Access::{Configure, Read, Write};
        use Resource::{Exchange, Queue};
        match request {
            Request::DeclareExchange(declare) if !declare.passive => {
                let exchange = &declare.exchange;
                self.check_access(slot, Configure, Exchange, exchange)?;
                let alternate = name_in(&declare.options.arguments, "alternate-exchange");
                if let Some(alternate) = alternate.filter(|_| !self.has_exchange(slot, exchange)) {
                    self.check_access(slot, Read, Exchange, exchange)?;
                    self.check_access(slot, Write, Exchange, &alternate)?;
                }
                Ok(())
            }
            Request::DeleteExchange { exchange, .. } => {
                self.check_access(slot, Configure, Exchange, exchange)
            }
            Request::Bind(binding) | Request::Unbind(binding) => self.check_binding(slot, binding),
            Request::DeclareQueue(declare)
                if !declare.passive && !is_reply_name(&declare.queue) =>
            {
                let queue = &declare.queue;
                self.check_access(slot, Configure, Queue, queue)?;
                let dead_letters = name_in(&declare.options.arguments, "x-dead-letter-exchange");
                if let Some(exchange) = dead_letters.filter(|_| !self.has_queue(slot, queue)) {
                    self.check_access(slot, Read, Queue, queue)?;
                    self.check_access(slot, Write, Exchange, &exchange)?;
                }
                Ok(())
            }
            Request::DeleteQueue { queue, .. } => self.check_access(slot, Configure, Queue, queue),
            Request::PurgeQueue { queue, .. } | Request::Get { queue, .. } => {
                self.check_access(slot, Read, Queue, queue)
            }
            Request::Consume(consume) => self.check_access(slot, Read, Queue, &consume.queue),
            _ => Ok(()),
        }
    }

    fn check_binding(&mut self, slot: SessionSlot, binding: &Binding) -> Result<(), Refusal> {
        let (resource, destination) = match &binding.destination {
            Destination::Queue(name) => (Resource::Queue, name),
            Destination::Exchange(name) => (Resource::Exchange, name),
        };
        let source = &binding.source;
        self.check_access(slot, Access::Write, resource, destination)?;
        self.check_access(slot, Access::Read, Resource::Exchange, source)?;
        self.check_topic(slot, Access::Read, source, &binding.routing_key)
    }

    /// Whether the session's user may do this to the queue or exchange of that name.
    ///
    /// # Errors
    /// 403 with RabbitMQ's text.
    fn check_access(
        &mut self,
        slot: SessionSlot,
        access: Access,
        resource: Resource,
        name: &[u8],
    ) -> Result<(), Refusal> {
        self.refresh_standing(slot);
        let session = self.sessions.get_mut(slot);
        let Some((client, vhost)) =
            session.and_then(|session| Some((session.client.as_deref_mut()?, &session.vhost)))
        else {
            return Err(Refusal::AccessRefused("nobody has logged in".to_owned()));
        };
        let Standing {
            is_unrestricted,
            granted,
            ..
        } = &mut client.standing;
        let is_known = |(known, of, called): &(Access, Resource, Name)| {
            *known == access && *of == resource && **called == *name
        };
        if *is_unrestricted || granted.iter().any(is_known) {
            return Ok(());
        }
        let user = &client.user;
        if self
            .catalog
            .authorize(user, vhost, access, (resource, name))
        {
            if granted.len() >= GRANTS_MAX {
                granted.remove(0);
            }
            let name = Name::new(name).unwrap_or_default();
            granted.push((access, resource, name));
            return Ok(());
        }
        let name = match (resource, name) {
            (Resource::Exchange, b"") => DEFAULT_EXCHANGE_ALIAS.into(),
            (Resource::Exchange | Resource::Queue, name) => String::from_utf8_lossy(name),
        };
        let (verb, noun) = (access.verb(), resource.noun());
        Err(Refusal::AccessRefused(format!(
            "{verb} access to {noun} '{name}' in vhost '{vhost}' refused for user '{user}'"
        )))
    }

    /// Whether the session's user may use the routing key at the exchange.
    ///
    /// # Errors
    /// 403 with RabbitMQ's text.
    fn check_topic(
        &self,
        slot: SessionSlot,
        access: Access,
        exchange: &[u8],
        key: &[u8],
    ) -> Result<(), Refusal> {
        let session = self.sessions.get(slot);
        let Some((client, vhost)) =
            session.and_then(|session| Some((session.client.as_deref()?, &session.vhost)))
        else {
            return Ok(());
        };
        let user = &client.user;
        if client.standing.is_unrestricted
            || self
                .catalog
                .authorize_topic(user, vhost, exchange, access, key)
        {
            return Ok(());
        }
        Err(Refusal::AccessRefused(format!(
            "{} access to topic '{}' in exchange '{}' in vhost '{vhost}' refused for user '{user}'",
            access.verb(),
            String::from_utf8_lossy(key),
            String::from_utf8_lossy(exchange)
        )))
    }

    /// Asks again what the session's user may do, if that may have changed.
    fn refresh_standing(&mut self, slot: SessionSlot) {
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        let Some(client) = session.client.as_deref_mut() else {
            return;
        };
        if client.standing.epoch == self.epoch {
            return;
        }
        let user = self.catalog.user(&client.user);
        client.standing = Standing {
            epoch: self.epoch,
            is_unrestricted: self.catalog.is_unrestricted(&client.user, &session.vhost),
            is_impersonator: user.is_some_and(|user| user.has_tag("impersonator")),
            granted: Vec::new(),
        };
        if client.standing.is_unrestricted && !self.traced.contains(&session.vhost) {
            session.free_pass = self.epoch;
        }
    }

    /// Looks at a publish whose sender has no free pass, or whose properties bear on its way.
    ///
    /// # Errors
    /// 403 if its user may not publish there; 406 for a `user_id` that is not the publisher's, an
    /// `expiration` that is no time, a `reply_to` that leads nowhere, or `CC` or `BCC` that are no lists.
    pub(crate) fn examine(
        &mut self,
        slot: SessionSlot,
        channel: ChannelNumber,
        message: Message,
    ) -> Result<Examined, Refusal> {
        let exchange = message.exchange();
        self.check_access(slot, Access::Write, Resource::Exchange, exchange)?;
        self.check_topic(slot, Access::Write, exchange, message.routing_key())?;
        let properties = Properties::from_validated(message.properties());
        let more_keys = match self.check_properties(slot, properties) {
            Ok(more_keys) => more_keys,
            // RabbitMQ looks at the exchange first; here that is done where the message is routed.
            Err(refusal) => {
                let vhost = self.sessions.get(slot).map(|session| &session.vhost);
                let vhost = vhost.map_or(&[][..], |vhost| vhost);
                self.catalog.check_publishable(vhost, exchange)?;
                return Err(refusal);
            }
        };
        for key in &more_keys {
            self.check_topic(slot, Access::Write, exchange, key)?;
        }
        let message = with_hidden_keys(message);
        let rewritten = self.with_reply_name(slot, channel, &message)?;
        Ok(Examined {
            message: rewritten.unwrap_or(message),
            more_keys,
        })
    }

    /// Checks what a publisher says about its message; its further routing keys.
    fn check_properties(
        &self,
        slot: SessionSlot,
        properties: Properties<'_>,
    ) -> Result<Vec<Vec<u8>>, Refusal> {
        if let Some(user_id) = properties.user_id() {
            self.check_user_id(slot, user_id)?;
        }
        message_ttl(properties)?;
        more_keys(properties)
    }

    /// `user_id` is a validated property: it says who publishes (RabbitMQ, validated user-id).
    fn check_user_id(&self, slot: SessionSlot, user_id: &[u8]) -> Result<(), Refusal> {
        let client = self.sessions.get(slot).and_then(|it| it.client.as_deref());
        let user = client.map(|client| client.user.as_bytes());
        if user == Some(user_id) || client.is_some_and(|it| it.standing.is_impersonator) {
            return Ok(());
        }
        Err(Refusal::Precondition(format!(
            "user_id property set to '{}' but authenticated user was '{}'",
            String::from_utf8_lossy(user_id),
            String::from_utf8_lossy(user.unwrap_or_default())
        )))
    }

    /// Follows a change of the catalog that bears on who may do what: everyone is asked anew, and
    /// connections go whose user or virtual host has gone.
    pub(crate) fn follow_access(&mut self, command: &CatalogCommand, change: Change) {
        if change == Change::Unchanged {
            return;
        }
        match command {
            CatalogCommand::User(UserCommand::Delete { name }) => {
                self.force_where(&format!("user '{name}' is deleted"), |user, _| user == name);
            }
            CatalogCommand::DeleteVhost { vhost } => {
                let reason = format!("vhost '{vhost}' is deleted");
                self.force_where(&reason, |_, open| open == vhost);
            }
            CatalogCommand::CreateVhost { .. }
            | CatalogCommand::Vhost(_)
            | CatalogCommand::User(_)
            | CatalogCommand::Permission(_) => {}
            _ => return,
        }
        self.refresh_epoch();
    }

    /// Has everyone asked anew.
    pub(crate) fn refresh_epoch(&mut self) {
        self.epoch.advance();
        let names = self.catalog.vhost_names();
        let traced = names.filter(|name| {
            let metadata = self.catalog.vhost_metadata(name);
            metadata.is_some_and(|metadata| metadata.tracing)
        });
        self.traced = traced.cloned().collect::<BTreeSet<_>>();
    }

    /// Ends the connections whose user or virtual host is gone, whenever that was.
    pub(crate) fn end_sessions_without_ground(&mut self) {
        let catalog = &self.catalog;
        let users: BTreeSet<Name> = catalog.users().map(|(name, _)| name.clone()).collect();
        let vhosts: BTreeSet<Name> = catalog.vhost_names().cloned().collect();
        self.force_where("its user or vhost is deleted", |user, vhost| {
            !users.contains(user) || !(vhost.is_empty() || vhosts.contains(vhost))
        });
    }

    /// Ends connections by user and virtual host.
    fn force_where(&mut self, reason: &str, goes: impl Fn(&Name, &Name) -> bool) {
        for slot in self.sessions.slots() {
            let session = self.sessions.get(slot);
            let goes = session.is_some_and(|session| {
                let client = session.client.as_deref();
                client.is_some_and(|client| goes(&client.user, &session.vhost))
            });
            if goes {
                let reason = reason.to_owned();
                self.sessions.push(slot, Event::Forced { reason });
            }
        }
    }

    fn has_exchange(&self, slot: SessionSlot, name: &[u8]) -> bool {
        let session = self.sessions.get(slot);
        session.is_some_and(|it| self.catalog.check_exchange(&it.vhost, name).is_ok())
    }

    fn has_queue(&self, slot: SessionSlot, name: &[u8]) -> bool {
        let session = self.sessions.get(slot);
        session.is_some_and(|it| self.catalog.queue(&it.vhost, name).is_some())
    }
}

/// The channel a request is refused on, and as what, if it needs a permission. Publishes are
/// looked at on their own road.
fn subject(request: &Request) -> Option<(ChannelNumber, Operation)> {
    Some(match request {
        Request::DeclareExchange(declare) => (declare.channel, Operation::DeclareExchange),
        Request::DeleteExchange { channel, .. } => (*channel, Operation::DeleteExchange),
        Request::Bind(binding) => {
            let operation = match binding.destination {
                Destination::Queue(_) => Operation::BindQueue,
                Destination::Exchange(_) => Operation::BindExchange,
            };
            (binding.channel, operation)
        }
        Request::Unbind(binding) => {
            let operation = match binding.destination {
                Destination::Queue(_) => Operation::UnbindQueue,
                Destination::Exchange(_) => Operation::UnbindExchange,
            };
            (binding.channel, operation)
        }
        Request::DeclareQueue(declare) => (declare.channel, Operation::DeclareQueue),
        Request::DeleteQueue { channel, .. } => (*channel, Operation::DeleteQueue),
        Request::PurgeQueue { channel, .. } => (*channel, Operation::PurgeQueue),
        Request::Get { channel, .. } => (*channel, Operation::Get),
        Request::Consume(consume) => (consume.channel, Operation::Consume),
        _ => return None,
    })
}

fn name_in(arguments: &FieldTable, key: &str) -> Option<Name> {
    let text = arguments.get(key).and_then(Value::as_str)?;
    Name::new(text.as_bytes()).ok()
}

/// Routing keys in the headers. What is no string in a list is no key (RabbitMQ,
/// `rabbit_basic:header_routes`).
fn more_keys(properties: Properties<'_>) -> Result<Vec<Vec<u8>>, Refusal> {
    let mut keys = Vec::new();
    let Some(headers) = properties.headers() else {
        return Ok(keys);
    };
    for header in [MORE_KEYS, MORE_KEYS_BLIND] {
        let Some(value) = headers.get(header) else {
            continue;
        };
        let Some(list) = value.as_array() else {
            let type_name = value.amqp_type_name();
            return Err(Refusal::Precondition(format!(
                "invalid message: {{unacceptable_type_in_header,\"{header}\",{type_name}}}"
            )));
        };
        keys.extend(list.into_iter().filter_map(|value| match value {
            Value::LongStr(key) => Some(key.to_vec()),
            _ => None,
        }));
    }
    Ok(keys)
}

/// The message as receivers may see it, with its blind keys beside it.
fn with_hidden_keys(message: Message) -> Message {
    let properties = Properties::from_validated(message.properties());
    let Some(headers) = properties.headers() else {
        return message;
    };
    let Some(blind) = headers.get(MORE_KEYS_BLIND) else {
        return message;
    };
    let keys = blind.as_array().into_iter().flatten();
    let keys = keys.filter_map(|key| match key {
        Value::LongStr(key) if key.len() <= name::NAME_SIZE_BYTES_MAX => Some(key),
        _ => None,
    });
    let headers = TableBuilder::new()
        .copy_except(headers, &[MORE_KEYS_BLIND])
        .build();
    let properties = PropertiesBuilder::from_properties(properties)
        .headers(headers.as_table_ref())
        .build()
        .expect("the properties of a message can be encoded again");
    let shown = message.with_properties(properties.as_bytes());
    shown.with_blind_keys(keys)
}
