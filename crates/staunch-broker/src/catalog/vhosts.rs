//! Virtual hosts: making and deleting them, what is known of them, and their limits.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use hashbrown::HashMap;
use staunch_types::field_table::{TableBuilder, TableRef};
use staunch_types::{ExchangeKind, FieldTable, Name, QueueId, QueueOptions, Refusal};

use super::arguments::may_be;
use super::parameters::{ParameterCommand, ParameterValue};
use super::policies::Policies;
use super::users::{check_name, sorted_tags};
use super::{
    Applied, Bindings, Catalog, CatalogCommand, Change, DEFAULT_VHOST, Exchange, Mode, QueueKind,
};
use crate::catalog::exchange::{EVENTS, PREDECLARED};
use crate::encoding::{DecodeError, Reader, Writer};
use crate::exchange::Seeded;

/// Longest description of a virtual host, in bytes.
pub const DESCRIPTION_SIZE_BYTES_MAX: usize = 4_096;

/// The arguments of a classic queue that was declared with none: most queues share them.
const CLASSIC_ARGUMENTS: &[u8] = b"\x0cx-queue-typeS\0\0\0\x07classic";

/// What is known of a virtual host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VhostMetadata {
    /// For people.
    pub description: String,
    /// For people; sorted, each once.
    pub tags: Vec<Name>,
    /// Kind of queues declared without `x-queue-type`; none: the node's default.
    pub default_queue_type: Option<QueueKind>,
    /// Every message is also published to `amq.rabbitmq.trace`.
    pub tracing: bool,
    /// It cannot be deleted.
    pub protected_from_deletion: bool,
}

/// Most things in a virtual host; none is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VhostLimits {
    /// Connections (`max-connections`).
    pub connections_max: Option<u64>,
    /// Queues (`max-queues`).
    pub queues_max: Option<u64>,
}

/// A change of what a virtual host is; `CreateVhost` and `DeleteVhost` make and delete it.
#[derive(Clone, Debug, PartialEq)]
pub enum VhostCommand {
    /// Replace what is known of it.
    SetMetadata {
        /// Virtual host.
        vhost: Name,
        /// What is known from now on.
        metadata: VhostMetadata,
    },
    /// Replace its limits. What is there already stays, above a limit too.
    SetLimits {
        /// Virtual host.
        vhost: Name,
        /// Its limits from now on.
        limits: VhostLimits,
    },
}

/// A virtual host.
#[derive(Debug)]
pub(super) struct Vhost {
    pub(super) exchanges: HashMap<Name, Exchange, Seeded>,
    /// The same names, in order.
    pub(super) exchange_names: BTreeSet<Name>,
    pub(super) bindings: Bindings,
    pub(super) queue_count: usize,
    pub(super) metadata: VhostMetadata,
    pub(super) limits: VhostLimits,
    pub(super) policies: Policies,
    /// By component and name.
    pub(super) parameters: BTreeMap<(Name, Name), ParameterValue>,
}

impl Vhost {
    pub(super) fn new(name: &Name, hasher: Seeded) -> Self {
        let mut vhost = Self {
            exchanges: HashMap::with_hasher(hasher),
            exchange_names: BTreeSet::new(),
            bindings: Bindings::default(),
            queue_count: 0,
            metadata: VhostMetadata::default(),
            limits: VhostLimits::default(),
            policies: Policies::default(),
            parameters: BTreeMap::new(),
        };
        for (exchange, kind, internal) in PREDECLARED {
            let exchange_name = Name::from_static(exchange);
            vhost.add_exchange(exchange_name, Exchange::predeclared(kind, internal, hasher));
        }
        if **name == *DEFAULT_VHOST.as_bytes() {
            let events = Exchange::predeclared(ExchangeKind::Topic, true, hasher);
            vhost.add_exchange(Name::from_static(EVENTS), events);
        }
        vhost
    }

    /// Calls `each` with the commands that make metadata, limits, policies and parameters again.
    pub(super) fn configuration(&self, name: &Name, each: &mut impl FnMut(CatalogCommand)) {
        if self.metadata != VhostMetadata::default() {
            let (vhost, metadata) = (name.clone(), self.metadata.clone());
            each(CatalogCommand::Vhost(VhostCommand::SetMetadata {
                vhost,
                metadata,
            }));
        }
        if self.limits != VhostLimits::default() {
            let (vhost, limits) = (name.clone(), self.limits);
            each(CatalogCommand::Vhost(VhostCommand::SetLimits {
                vhost,
                limits,
            }));
        }
        self.policies.configuration(name, each);
        for ((component, parameter), value) in &self.parameters {
            each(CatalogCommand::Parameter(ParameterCommand::Set {
                vhost: name.clone(),
                component: component.clone(),
                name: parameter.clone(),
                value: value.clone(),
            }));
        }
    }

    pub(super) fn add_exchange(&mut self, name: Name, exchange: Exchange) {
        self.exchange_names.insert(name.clone());
        self.exchanges.insert(name, exchange);
    }
}

impl Catalog {
    /// What is known of a virtual host.
    pub fn vhost_metadata(&self, vhost: &[u8]) -> Option<&VhostMetadata> {
        self.vhosts.get(vhost).map(|vhost| &vhost.metadata)
    }

    /// Limits of a virtual host; those of a missing one are none.
    pub fn vhost_limits(&self, vhost: &[u8]) -> VhostLimits {
        self.vhosts
            .get(vhost)
            .map_or(VhostLimits::default(), |vhost| vhost.limits)
    }

    /// The options with which a queue is to be declared: where the client has left out
    /// `x-queue-type` they say the virtual host's or the node's default, or classic where that
    /// cannot be as the client wants it (RabbitMQ 4, `augment_declare_args`; there arguments and a
    /// name that the server gives are not looked at).
    #[must_use]
    pub fn complete_queue_options(
        &self,
        vhost: &[u8],
        options: QueueOptions,
        server_named: bool,
    ) -> QueueOptions {
        if options.arguments.get("x-queue-type").is_some() {
            return options;
        }
        let own = self
            .vhost_metadata(vhost)
            .and_then(|metadata| metadata.default_queue_type);
        let wanted = own.unwrap_or(self.limits.default_queue_type);
        let can_be = match wanted {
            QueueKind::Classic => true,
            QueueKind::Quorum => {
                let is_shared = options.durable && !options.exclusive && !options.auto_delete;
                is_shared && !server_named && may_be(&options.arguments, QueueKind::Quorum)
            }
        };
        let kind = if can_be { wanted } else { QueueKind::Classic };
        QueueOptions {
            arguments: with_queue_kind(&options.arguments, kind),
            ..options
        }
    }

    pub(super) fn create_vhost(&mut self, vhost: &Name, mode: Mode) -> Result<Applied, Refusal> {
        if self.vhosts.contains_key(vhost) {
            return Ok(Applied::unchanged());
        }
        if mode.is_new() {
            check_name("vhost", vhost)?;
        }
        if mode == Mode::Decide {
            self.check_vhost_limit(vhost)?;
        }
        self.vhosts
            .insert(vhost.clone(), Vhost::new(vhost, self.hasher));
        Ok(self.access_changed(Change::Created))
    }

    pub(super) fn delete_vhost(&mut self, vhost: &Name, mode: Mode) -> Result<Applied, Refusal> {
        let Some(inside) = self.vhosts.get(vhost) else {
            return Ok(Applied::unchanged());
        };
        if inside.metadata.protected_from_deletion && mode.is_new() {
            return Err(Refusal::Precondition(format!(
                "refusing to delete virtual host '{vhost}' because it is protected from deletion"
            )));
        }
        let bindings_removed = inside.bindings.len() as u64;
        let mut applied = self.access_changed(Change::Deleted);
        applied.bindings_removed = bindings_removed;
        self.vhosts.remove(vhost);
        let all = self.queues_and_holders();
        let ids: Vec<QueueId> = all
            .filter(|queue| queue.vhost == *vhost)
            .map(|queue| queue.id)
            .collect();
        let removed = ids.into_iter().filter_map(|id| self.queues.remove(id));
        applied.queues_deleted = removed.collect();
        for user in self.users.values_mut() {
            user.permissions.remove(vhost);
            user.topic_permissions.remove(vhost);
        }
        Ok(applied)
    }

    pub(super) fn apply_vhost(&mut self, command: &VhostCommand) -> Result<Applied, Refusal> {
        let is_changed = match command {
            VhostCommand::SetMetadata { vhost, metadata } => {
                let size_bytes = metadata.description.len();
                if size_bytes > DESCRIPTION_SIZE_BYTES_MAX {
                    return Err(Refusal::LimitReached(format!(
                        "description of {size_bytes} bytes is longer than \
                         {DESCRIPTION_SIZE_BYTES_MAX}"
                    )));
                }
                let metadata = VhostMetadata {
                    tags: sorted_tags(&metadata.tags)?,
                    ..metadata.clone()
                };
                let inside = self.vhost_mut(vhost)?;
                std::mem::replace(&mut inside.metadata, metadata.clone()) != metadata
            }
            VhostCommand::SetLimits { vhost, limits } => {
                let inside = self.vhost_mut(vhost)?;
                std::mem::replace(&mut inside.limits, *limits) != *limits
            }
        };
        Ok(Applied::new(Change::of(is_changed), true))
    }
}

fn with_queue_kind(arguments: &FieldTable, kind: QueueKind) -> FieldTable {
    if arguments.is_empty() && kind == QueueKind::Classic {
        return FieldTable::from_validated(Bytes::from_static(CLASSIC_ARGUMENTS));
    }
    let mut builder = TableBuilder::new();
    for (key, value) in arguments {
        builder
            .try_value(key, value)
            .expect("a key of a table is short");
    }
    let completed = builder.longstr("x-queue-type", kind.name()).build();
    // A table that is as large as may be stays as it is: a larger one could not be read again.
    match TableRef::parse(completed.as_bytes()) {
        Ok(_) => completed,
        Err(_) => arguments.clone(),
    }
}

impl VhostCommand {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::SetMetadata { vhost, metadata } => {
                out.put_u8(1);
                out.put_name(vhost);
                out.put_text(&metadata.description);
                out.put_names(&metadata.tags);
                let kind = metadata.default_queue_type.map_or("", QueueKind::name);
                out.put_text(kind);
                out.put_bool(metadata.tracing);
                out.put_bool(metadata.protected_from_deletion);
            }
            Self::SetLimits { vhost, limits } => {
                out.put_u8(2);
                out.put_name(vhost);
                out.put_optional_u64(limits.connections_max);
                out.put_optional_u64(limits.queues_max);
            }
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = reader.u8()?;
        let vhost = reader.name()?;
        Ok(match kind {
            1 => Self::SetMetadata {
                vhost,
                metadata: VhostMetadata {
                    description: reader.text()?,
                    tags: reader.names()?,
                    default_queue_type: read_queue_kind(&reader.text()?)?,
                    tracing: reader.bool()?,
                    protected_from_deletion: reader.bool()?,
                },
            },
            2 => Self::SetLimits {
                vhost,
                limits: VhostLimits {
                    connections_max: reader.optional_u64()?,
                    queues_max: reader.optional_u64()?,
                },
            },
            kind => return Err(DecodeError::UnknownKind { kind }),
        })
    }
}

fn read_queue_kind(name: &str) -> Result<Option<QueueKind>, DecodeError> {
    if name.is_empty() {
        return Ok(None);
    }
    QueueKind::from_name(name)
        .map(Some)
        .ok_or(DecodeError::OutOfRange)
}
