//! Events of what has changed: things in the catalog, and consumers. Keys and headers are those
//! of RabbitMQ's plugin (`rabbitmq_event_exchange`), which shows tables of others as Erlang terms.

use staunch_broker::{
    Binding, CatalogCommand, Change, ParameterCommand, PermissionCommand, PolicyCommand,
    PolicyScope, UserCommand, VhostCommand,
};
use staunch_types::{
    ConsumerKey, ExchangeOptions, Name, QueueOptions,
    field_table::{ArrayBuilder, TableBuilder, TableRef, Value},
    request::{Consume, Destination},
};

use crate::{
    consumers::Label,
    node::Node,
    notices::{channel_pid, connection_pid},
    session::SessionSlot,
};

/// Who did what nobody asked for, or an operator did.
const INTERNAL_USER: &str = "rmq-internal";

impl Node {
    /// The user on whose request something is done at this moment.
    fn actor(&self) -> Name {
        let session = self.acting.and_then(|slot| self.sessions.get(slot));
        let client = session.and_then(|session| session.client.as_deref());
        client.map_or_else(
            || Name::from_static(INTERNAL_USER),
            |client| client.user.clone(),
        )
    }

    /// A consumer has come.
    pub(crate) fn notify_consumer(&mut self, slot: SessionSlot, consume: &Consume) {
        if !self.has_listeners() {
            return;
        }
        let Some(session) = self.sessions.get(slot) else {
            return;
        };
        let channel = channel_pid(&self.config.node_name, session, consume.channel);
        let (user, vhost) = (self.actor(), session.vhost.clone());
        self.notify("consumer.created", |headers| {
            headers
                .longstr("user_who_performed_action", &*user)
                .array("arguments", &terms(consume.arguments.as_table_ref()))
                .long("prefetch_count", i64::from(consume.prefetch))
                .longstr("queue", &*consume.queue)
                .longstr("vhost", &*vhost)
                .longstr("channel", channel)
                .bool("ack_required", !consume.no_ack)
                .bool("exclusive", consume.exclusive)
                .longstr("consumer_tag", &*consume.tag)
        });
    }

    /// A consumer has gone.
    pub(crate) fn notify_consumer_gone(&mut self, key: ConsumerKey) {
        let Some(label) = self.consumers.take_label(key) else {
            return;
        };
        if !self.has_listeners() {
            return;
        }
        let Label { tag, queue, .. } = label;
        let Some(consumer) = self.consumers.get(key) else {
            return;
        };
        let Some(session) = self.sessions.get(consumer.session) else {
            return;
        };
        let channel = channel_pid(&self.config.node_name, session, consumer.channel);
        let client = session.client.as_deref();
        let user = client.map(|client| client.user.clone()).unwrap_or_default();
        let vhost = session.vhost.clone();
        self.notify("consumer.deleted", |headers| {
            headers
                .longstr("user_who_performed_action", &*user)
                .longstr("queue", &*queue)
                .longstr("vhost", &*vhost)
                .longstr("channel", channel)
                .longstr("consumer_tag", &*tag)
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
        if !self.has_listeners() {
            return;
        }
        match command {
            CatalogCommand::CreateVhost { vhost } | CatalogCommand::DeleteVhost { vhost } => {
                self.notify_acted(&format!("vhost.{verb}"), |headers| {
                    headers.longstr("name", &**vhost)
                });
            }
            CatalogCommand::DeclareExchange {
                vhost,
                name,
                options,
                ..
            } => self.notify_exchange(vhost, name, options),
            CatalogCommand::DeleteExchange { vhost, name, .. } => {
                self.notify_acted("exchange.deleted", |headers| named(headers, name, vhost));
            }
            CatalogCommand::DeclareQueue {
                vhost,
                name,
                options,
                ..
            } => self.notify_queue(vhost, name, options),
            CatalogCommand::DeleteQueue { vhost, name } => self.notify_queue_deleted(name, vhost),
            CatalogCommand::Bind { vhost, binding } | CatalogCommand::Unbind { vhost, binding } => {
                self.notify_binding(&format!("binding.{verb}"), vhost, binding);
            }
            CatalogCommand::Vhost(command) => self.notify_vhost(command),
            CatalogCommand::User(command) => self.notify_user(command, change),
            CatalogCommand::Permission(command) => self.notify_permission(command),
            CatalogCommand::Policy(command) => self.notify_policy(command),
            CatalogCommand::Parameter(command) => self.notify_parameter(command),
            // Its queues are told one by one.
            CatalogCommand::Node(_) => {}
        }
    }

    pub(crate) fn notify_queue_deleted(&mut self, name: &Name, vhost: &Name) {
        if self.has_listeners() {
            self.notify_acted("queue.deleted", |headers| named(headers, name, vhost));
        }
    }

    /// An event that begins with who did it.
    fn notify_acted(&mut self, key: &str, describe: impl FnOnce(TableBuilder) -> TableBuilder) {
        let user = self.actor();
        self.notify(key, |headers| {
            describe(headers.longstr("user_who_performed_action", &*user))
        });
    }

    fn notify_exchange(&mut self, vhost: &Name, name: &Name, options: &ExchangeOptions) {
        self.notify_acted("exchange.created", |headers| {
            let headers = headers
                .longstr("policy", "")
                .array("arguments", &terms(options.arguments.as_table_ref()))
                .bool("internal", options.internal)
                .bool("auto_delete", options.auto_delete)
                .bool("durable", options.durable)
                .longstr("type", options.kind.to_string());
            named(headers, name, vhost)
        });
    }

    fn notify_queue(&mut self, vhost: &Name, name: &Name, options: &QueueOptions) {
        let session = self.acting.and_then(|slot| self.sessions.get(slot));
        let owner = session.filter(|_| options.exclusive);
        let owner = owner.map_or_else(String::new, |session| {
            connection_pid(&self.config.node_name, session)
        });
        self.notify_acted("queue.created", |headers| {
            let headers = headers
                .bool("exclusive", options.exclusive)
                .longstr("owner_pid", owner)
                .array("arguments", &terms(options.arguments.as_table_ref()))
                .bool("auto_delete", options.auto_delete)
                .bool("durable", options.durable && !options.exclusive);
            named(headers, name, vhost)
        });
    }

    fn notify_binding(&mut self, key: &str, vhost: &Name, binding: &Binding) {
        let (kind, destination) = match &binding.destination {
            Destination::Queue(name) => ("queue", name),
            Destination::Exchange(name) => ("exchange", name),
        };
        self.notify_acted(key, |headers| {
            headers
                .longstr("vhost", &**vhost)
                .array("arguments", &terms(binding.arguments.as_table_ref()))
                .longstr("routing_key", &*binding.routing_key)
                .longstr("destination_kind", kind)
                .longstr("destination_name", &**destination)
                .longstr("source_kind", "exchange")
                .longstr("source_name", &*binding.source)
        });
    }

    fn notify_vhost(&mut self, command: &VhostCommand) {
        match command {
            VhostCommand::SetMetadata { .. } => {}
            VhostCommand::SetLimits { vhost: _, limits } => {
                let limits = [
                    ("max-connections", limits.connections_max),
                    ("max-queues", limits.queues_max),
                ];
                self.notify_limits("vhost.limits", limits, |headers| headers);
            }
        }
    }

    /// Limits were set, or lifted if none is left.
    fn notify_limits(
        &mut self,
        of: &str,
        limits: [(&str, Option<u64>); 2],
        describe: impl FnOnce(TableBuilder) -> TableBuilder,
    ) {
        let is_lifted = limits.iter().all(|(_, limit)| limit.is_none());
        let verb = if is_lifted { "cleared" } else { "set" };
        self.notify_acted(&format!("{of}.{verb}"), |headers| {
            let headers = limits.iter().fold(headers, |headers, (key, limit)| {
                limit.map_or(headers.clone(), |limit| {
                    headers.long(key, i64::try_from(limit).unwrap_or(i64::MAX))
                })
            });
            describe(headers).longstr("name", "limits")
        });
    }

    fn notify_user(&mut self, command: &UserCommand, change: Change) {
        match command {
            UserCommand::Put {
                name,
                password,
                tags,
            } => {
                let key = match (change, password) {
                    (Change::Created, _) => "user.created",
                    (_, Some(_)) => "user.password.changed",
                    (_, None) => "user.password.cleared",
                };
                self.notify_acted(key, |headers| headers.longstr("name", &**name));
                if change == Change::Created && tags.is_empty() {
                    return;
                }
                let tags = tags
                    .iter()
                    .fold(ArrayBuilder::new(), |tags, tag| tags.longstr(&**tag));
                self.notify_acted("user.tags.set", |headers| {
                    headers.array("tags", &tags).longstr("name", &**name)
                });
            }
            UserCommand::SetLimits { name, limits } => {
                let limits = [
                    ("max-connections", limits.connections_max),
                    ("max-channels", limits.channels_max),
                ];
                self.notify_limits("user.limits", limits, |headers| {
                    headers.longstr("username", &**name)
                });
            }
            UserCommand::Delete { name } => {
                self.notify_acted("user.deleted", |headers| headers.longstr("name", &**name));
            }
        }
    }

    fn notify_permission(&mut self, command: &PermissionCommand) {
        let of = |headers: TableBuilder, user: &Name, vhost: &Name| {
            headers.longstr("vhost", &**vhost).longstr("user", &**user)
        };
        match command {
            PermissionCommand::Set {
                user,
                vhost,
                patterns,
            } => self.notify_acted("permission.created", |headers| {
                let headers = headers
                    .longstr("read", &patterns.read)
                    .longstr("write", &patterns.write)
                    .longstr("configure", &patterns.configure);
                of(headers, user, vhost)
            }),
            PermissionCommand::Clear { user, vhost } => {
                self.notify_acted("permission.deleted", |headers| of(headers, user, vhost));
            }
            PermissionCommand::SetTopic {
                user,
                vhost,
                exchange,
                patterns,
            } => self.notify_acted("topic.permission.created", |headers| {
                let headers = headers
                    .longstr("read", &patterns.read)
                    .longstr("write", &patterns.write)
                    .longstr("exchange", &**exchange);
                of(headers, user, vhost)
            }),
            PermissionCommand::ClearTopic { user, vhost, .. } => {
                self.notify_acted("topic.permission.deleted", |headers| {
                    of(headers, user, vhost)
                });
            }
        }
    }

    fn notify_policy(&mut self, command: &PolicyCommand) {
        match command {
            PolicyCommand::Set {
                vhost,
                name,
                policy,
                ..
            } => self.notify_acted("policy.set", |headers| {
                let headers = headers
                    .longstr("apply-to", policy.apply_to.name())
                    .long("priority", policy.priority)
                    .table("definition", &policy.definition)
                    .longstr("pattern", &policy.pattern);
                named(headers, name, vhost)
            }),
            PolicyCommand::Delete { scope, vhost, name } => {
                let key = match scope {
                    PolicyScope::User => "policy.cleared",
                    PolicyScope::Operator => "operator.policy.cleared",
                };
                self.notify_acted(key, |headers| named(headers, name, vhost));
            }
        }
    }

    fn notify_parameter(&mut self, command: &ParameterCommand) {
        let component_of = |headers: TableBuilder, name: &Name, component: &[u8]| {
            headers
                .longstr("name", &**name)
                .longstr("component", component)
        };
        match command {
            ParameterCommand::Set {
                vhost,
                component,
                name,
                value,
            } => self.notify_acted("parameter.set", |headers| {
                component_of(headers.value("value", value.get()), name, component)
                    .longstr("vhost", &**vhost)
            }),
            ParameterCommand::Clear {
                vhost,
                component,
                name,
            } => self.notify_acted("parameter.cleared", |headers| {
                component_of(headers, name, component).longstr("vhost", &**vhost)
            }),
            ParameterCommand::SetGlobal { name, value } => {
                self.notify_acted("parameter.set", |headers| {
                    component_of(headers.value("value", value.get()), name, b"global")
                });
            }
            ParameterCommand::ClearGlobal { name } => {
                self.notify_acted("parameter.cleared", |headers| {
                    component_of(headers, name, b"global")
                });
            }
        }
    }
}

fn named(headers: TableBuilder, name: &Name, vhost: &Name) -> TableBuilder {
    headers.longstr("name", &**name).longstr("vhost", &**vhost)
}

/// The fields of a table as events show them: `{<<"x-max-length">>,signedint,5}`.
pub(crate) fn terms(table: TableRef<'_>) -> ArrayBuilder {
    table
        .iter()
        .fold(ArrayBuilder::new(), |terms, (key, value)| {
            terms.longstr(field_term(key, value))
        })
}

fn field_term(key: &[u8], value: Value<'_>) -> String {
    let key = String::from_utf8_lossy(key);
    format!(
        "{{<<\"{key}\">>,{},{}}}",
        value.amqp_type_name(),
        term(value)
    )
}

fn term(value: Value<'_>) -> String {
    match value {
        Value::LongStr(text) | Value::Binary(text) => {
            format!("<<\"{}\">>", String::from_utf8_lossy(text))
        }
        Value::Table(table) => {
            let fields = table.iter().map(|(key, value)| field_term(key, value));
            format!("[{}]", fields.collect::<Vec<_>>().join(","))
        }
        Value::Array(values) => {
            let values = values
                .iter()
                .map(|value| format!("{{{},{}}}", value.amqp_type_name(), term(value)));
            format!("[{}]", values.collect::<Vec<_>>().join(","))
        }
        Value::Bool(truth) => truth.to_string(),
        Value::F32(number) => number.to_string(),
        Value::F64(number) => number.to_string(),
        Value::Timestamp(seconds) => seconds.to_string(),
        Value::Void => "undefined".to_owned(),
        Value::I8(_)
        | Value::U8(_)
        | Value::I16(_)
        | Value::U16(_)
        | Value::I32(_)
        | Value::U32(_)
        | Value::I64(_) => value
            .as_i64()
            .map_or_else(String::new, |number| number.to_string()),
        Value::Decimal { .. } => format!("{value:?}"),
    }
}
