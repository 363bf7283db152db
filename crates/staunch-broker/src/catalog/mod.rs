//! The catalog: virtual hosts, exchanges, bindings and queues, and where a message goes.
//!
//! It changes only by [`CatalogCommand`]s. Applying one is a function of the catalog and the
//! command, so that every replica that applies the same commands holds the same catalog; a
//! refused command changes nothing. Hash tables find things by name and are never iterated:
//! whatever has an order is sorted.
//!
//! It also knows who may do what: users, permissions, and what virtual hosts, policies and
//! parameters say. That is configuration, and all of it survives a restart.
//!
//! What else survives is durable exchanges, durable queues that are not exclusive, and bindings
//! between two such. A command that changed one of them says so in
//! [`Applied::durable`]. An auto-delete exchange may be durable and yet live by a transient
//! binding; so its going is persisted as a command of its own ([`Applied::consequences`]), and
//! [`Catalog::replay`] draws no such consequences itself.

mod apply;
mod arguments;
mod binding;
mod command;
mod effective;
mod exchange;
mod limits;
mod members;
mod nodes;
mod parameters;
mod partitions;
mod permissions;
mod placement;
mod policies;
mod policy_keys;
mod queues;
mod route;
mod snapshot;
mod users;
mod vhosts;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use staunch_types::request::Destination;
use staunch_types::{
    ConnectionId, ExchangeOptions, Name, NodeId, QueueId, QueueOptions, Refusal, Resource,
};

pub use binding::Binding;
pub use command::CatalogCommand;
pub use nodes::{NodeCommand, NodeEntry, NodeState};
pub use parameters::{ParameterCommand, ParameterValue, TABLE_SIZE_BYTES_MAX};
pub use partitions::{
    PARTITIONS, PARTITIONS_MAX, PARTITIONS_MIN, Partitioning, partition_count, partition_of,
};
pub use permissions::{Access, PermissionCommand, PermissionPatterns, TopicPatterns};
pub use placement::{MEMBERS_MAX, Placement};
pub use policies::{ApplyTo, Policy, PolicyCommand, PolicyScope};
pub use route::Route;
pub use users::{TAGS_MAX, User, UserCommand, UserLimits};
pub use vhosts::{DESCRIPTION_SIZE_BYTES_MAX, VhostCommand, VhostLimits, VhostMetadata};

use crate::exchange::Seeded;
use crate::settings::QueueSettings;
use apply::Mode;
pub use arguments::LIFE_MILLIS_MAX;
use arguments::Subject;
use binding::Bindings;
use effective::SharedSettings;
use exchange::Exchange;
use queues::Queues;
use users::UserEntry;
use vhosts::Vhost;

/// Name of the virtual host that is there from the start.
const DEFAULT_VHOST: &str = "/";

/// Most of everything that one catalog holds, and what its node's configuration says beside.
/// It is the proposer's: commands that were persisted are not held against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatalogLimits {
    /// Virtual hosts.
    pub vhosts_max: usize,
    /// Exchanges in all, the predeclared ones included.
    pub exchanges_max: usize,
    /// Queues in all.
    pub queues_max: usize,
    /// Bindings per virtual host.
    pub bindings_max: usize,
    /// Users.
    pub users_max: usize,
    /// Policies per virtual host, and as many operator policies.
    pub policies_max: usize,
    /// Parameters per virtual host, and as many global ones.
    pub parameters_max: usize,
    /// Kind of queues declared without `x-queue-type` where the virtual host has no default.
    pub default_queue_type: QueueKind,
}

impl Default for CatalogLimits {
    fn default() -> Self {
        Self {
            vhosts_max: 10_000,
            exchanges_max: 1_000_000,
            queues_max: 4_000_000,
            bindings_max: 16_000_000,
            users_max: 1_000_000,
            policies_max: 1_000,
            parameters_max: 10_000,
            default_queue_type: QueueKind::Classic,
        }
    }
}

/// What a command did to the thing it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was made.
    Created,
    /// It was there already, or was not there to be removed.
    Unchanged,
    /// It is another from now on.
    Updated,
    /// It went.
    Deleted,
}

impl Change {
    fn of(is_changed: bool) -> Self {
        if is_changed {
            Self::Updated
        } else {
            Self::Unchanged
        }
    }

    fn of_set<T: PartialEq>(old: Option<&T>, new: &T) -> Self {
        old.map_or(Self::Created, |old| Self::of(old != new))
    }

    fn of_removal<T>(removed: Option<T>) -> Self {
        removed.map_or(Self::Unchanged, |_| Self::Deleted)
    }
}

/// What a command did.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// To the thing it names.
    pub change: Change,
    /// The command must be persisted.
    pub durable: bool,
    /// Further commands to persist after it: durable exchanges that went as a consequence.
    pub consequences: Vec<CatalogCommand>,
    /// The queue that was declared, new or not; of an exchange that delays messages the queue
    /// that holds them.
    pub queue: Option<QueueId>,
    /// Queues that went, as they were.
    pub queues_deleted: Vec<QueueEntry>,
    /// Queues whose [`QueueEntry::settings`] are others from now on.
    pub queues_changed: Vec<QueueId>,
    /// Queues that are to be kept by other nodes from now on.
    pub queues_moved: Vec<QueueId>,
    /// Auto-delete exchanges that went as a consequence.
    pub exchanges_deleted: Vec<Name>,
    /// Bindings that went, as a consequence or by name.
    pub bindings_removed: u64,
}

/// What kind of queue was asked for (`x-queue-type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueKind {
    /// On this node alone.
    Classic,
    /// Replicated; for now kept by this node alone.
    Quorum,
}

impl QueueKind {
    /// RabbitMQ's module for it, which its texts name.
    pub(crate) fn module(self) -> &'static str {
        match self {
            Self::Classic => "rabbit_classic_queue",
            Self::Quorum => "rabbit_quorum_queue",
        }
    }

    /// Its value of `x-queue-type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
        }
    }

    /// The kind with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "classic" => Some(Self::Classic),
            "quorum" => Some(Self::Quorum),
            _ => None,
        }
    }
}

/// A queue as the catalog knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueEntry {
    /// Its id.
    pub id: QueueId,
    /// Its virtual host.
    pub vhost: Name,
    /// Its name.
    pub name: Name,
    /// What it was declared as.
    pub options: QueueOptions,
    /// The connection it belongs to, if it is exclusive.
    pub owner: Option<ConnectionId>,
    /// How it behaves, by its arguments and policies.
    pub settings: Arc<QueueSettings>,
    /// It holds the messages that the exchange called `name` delays. Such a queue comes and goes
    /// with its exchange, and no client can name it.
    pub holds_delayed: bool,
    /// Where it is kept.
    pub placement: Placement,
    /// What it has to do with partitions.
    pub partitioning: Partitioning,
}

impl QueueEntry {
    /// Whether it outlives its process.
    pub fn is_durable(&self) -> bool {
        self.options.durable && !self.options.exclusive
    }

    /// Whether it goes with the process of that node, which keeps it in memory alone. A queue for
    /// delayed messages stays, empty, with its exchange.
    pub fn goes_with(&self, node: NodeId) -> bool {
        self.placement.home() == Some(node) && !self.holds_delayed && !self.is_durable()
    }

    /// What kind it was declared as.
    pub fn kind(&self) -> QueueKind {
        arguments::queue_kind(&self.options.arguments).unwrap_or(QueueKind::Classic)
    }
}

/// Virtual hosts with what is in them, and users with what they may do.
#[derive(Debug)]
pub struct Catalog {
    vhosts: BTreeMap<Name, Vhost>,
    queues: Queues,
    users: BTreeMap<Name, UserEntry>,
    global_parameters: BTreeMap<Name, ParameterValue>,
    nodes: BTreeMap<NodeId, NodeEntry>,
    /// Which cluster it is, drawn when it was founded; 0 before that.
    cluster_id: u64,
    next_node_id: NodeId,
    is_founded: bool,
    settings: SharedSettings,
    next_queue_id: QueueId,
    version: u64,
    access_version: u64,
    limits: CatalogLimits,
    hasher: Seeded,
}

impl Catalog {
    /// A catalog with virtual host `/` and what is predeclared in it. `seed` decides the order
    /// of hash tables and nothing that can be seen.
    pub fn new(seed: u64) -> Self {
        Self::with_limits(seed, CatalogLimits::default())
    }

    /// As [`Catalog::new`], with other limits.
    pub fn with_limits(seed: u64, limits: CatalogLimits) -> Self {
        let hasher = Seeded(seed);
        let name = Name::from_static(DEFAULT_VHOST);
        let vhost = Vhost::new(&name, hasher);
        let vhosts = BTreeMap::from([(name, vhost)]);
        // 0 is the catalog's own stream in the log.
        let next_queue_id = QueueId(1);
        Self {
            vhosts,
            queues: Queues::new(hasher),
            users: BTreeMap::new(),
            global_parameters: BTreeMap::new(),
            nodes: BTreeMap::new(),
            cluster_id: 0,
            next_node_id: NodeId(1),
            is_founded: false,
            settings: SharedSettings::default(),
            next_queue_id,
            version: 0,
            access_version: 0,
            limits,
            hasher,
        }
    }

    /// Sets other limits; what is there already stays.
    pub fn set_limits(&mut self, limits: CatalogLimits) {
        self.limits = limits;
    }

    /// The limits.
    pub fn limits(&self) -> CatalogLimits {
        self.limits
    }

    /// Changes with every change, so that routes and snapshots can be cached.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The id for the next [`CatalogCommand::DeclareQueue`].
    pub fn next_queue_id(&self) -> QueueId {
        self.next_queue_id
    }

    /// Checks that a virtual host is there.
    ///
    /// # Errors
    /// [`Refusal::VhostNotFound`].
    pub fn check_vhost(&self, vhost: &[u8]) -> Result<(), Refusal> {
        self.vhost(vhost).map(drop)
    }

    /// Names of the virtual hosts, in order.
    pub fn vhost_names(&self) -> impl Iterator<Item = &Name> + Clone {
        self.vhosts.keys()
    }

    /// A queue by name.
    pub fn queue(&self, vhost: &[u8], name: &[u8]) -> Option<&QueueEntry> {
        self.queues.by_name(vhost, name)
    }

    /// A queue by id.
    pub fn queue_by_id(&self, id: QueueId) -> Option<&QueueEntry> {
        self.queues.by_id(id)
    }

    /// Every queue that clients know, by id.
    pub fn queues(&self) -> impl Iterator<Item = &QueueEntry> {
        self.queues_and_holders()
            .filter(|queue| !queue.holds_delayed)
    }

    /// Every queue, by id, with those that hold the messages that exchanges delay.
    pub fn queues_and_holders(&self) -> impl Iterator<Item = &QueueEntry> {
        self.queues.sorted().into_iter()
    }

    /// How many queues there are that clients know.
    pub fn queue_count(&self) -> usize {
        self.queues.len()
    }

    /// Exclusive queues of a connection, by id: they go when it closes.
    pub fn queues_owned_by(&self, owner: ConnectionId) -> Vec<QueueId> {
        self.queues.owned_by(owner).collect()
    }

    /// The exchanges of a virtual host, by name.
    pub fn exchanges(&self, vhost: &[u8]) -> impl Iterator<Item = (&Name, &ExchangeOptions)> {
        self.vhosts.get(vhost).into_iter().flat_map(|vhost| {
            vhost
                .exchange_names
                .iter()
                .map(|name| (name, &vhost.exchanges[name].options))
        })
    }

    /// The bindings of a virtual host, ordered by source, destination, key and arguments. The
    /// default bindings are implied and not listed.
    pub fn bindings(&self, vhost: &[u8]) -> impl Iterator<Item = &Binding> {
        self.vhosts
            .get(vhost)
            .into_iter()
            .flat_map(|vhost| vhost.bindings.iter().map(std::convert::AsRef::as_ref))
    }

    /// Whether there is this binding.
    pub fn has_binding(&self, vhost: &[u8], binding: &Binding) -> bool {
        let inside = self.vhosts.get(vhost);
        inside.is_some_and(|inside| inside.bindings.contains(binding))
    }

    /// The queue, if `connection` may touch it: asked before passive declare, bind, unbind,
    /// purge, delete, consume and get.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], or [`Refusal::QueueLocked`] if it is another connection's.
    pub fn check_queue(
        &self,
        vhost: &[u8],
        name: &[u8],
        connection: ConnectionId,
    ) -> Result<&QueueEntry, Refusal> {
        let Some(entry) = self.queues.by_name(vhost, name) else {
            self.vhost(vhost)?;
            let (vhost, name) = (&short_name(vhost), &short_name(name));
            return Err(Subject {
                resource: Resource::Queue,
                vhost,
                name,
            }
            .not_found());
        };
        if entry.owner.is_some_and(|owner| owner != connection) {
            return Err(locked(entry));
        }
        Ok(entry)
    }

    /// The exchange: asked for a passive declare.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], or [`Refusal::DefaultExchange`].
    pub fn check_exchange(&self, vhost: &[u8], name: &[u8]) -> Result<&ExchangeOptions, Refusal> {
        if name.is_empty() {
            return Err(Refusal::DefaultExchange);
        }
        let exchange = self.vhost(vhost)?.exchanges.get(name).ok_or_else(|| {
            let (vhost, name) = (&short_name(vhost), &short_name(name));
            Subject {
                resource: Resource::Exchange,
                vhost,
                name,
            }
            .not_found()
        })?;
        Ok(&exchange.options)
    }

    /// Whether anything is bound to the exchange as its source.
    pub fn is_source(&self, vhost: &[u8], exchange: &[u8]) -> bool {
        let inside = self.vhosts.get(vhost);
        inside.is_some_and(|inside| inside.bindings.has_source(exchange))
    }

    /// Memory of the queue tables, in bytes, without names and arguments.
    pub fn queue_memory_bytes(&self) -> usize {
        self.queues.memory_bytes()
    }

    /// Checks every relation between the parts; walks everything.
    ///
    /// # Panics
    /// If one does not hold: a bug in this module.
    pub fn check_invariants(&self) {
        self.queues.check_invariants();
        assert!(
            self.queues_and_holders()
                .all(|queue| queue.id < self.next_queue_id),
            "ids are not reused"
        );
        for holder in self
            .queues_and_holders()
            .filter(|queue| queue.holds_delayed)
        {
            let exchange = &self.vhosts[&holder.vhost].exchanges[&holder.name];
            assert_eq!(exchange.delay_queue, Some(holder.id), "it has an exchange");
        }
        for (user, vhost, _) in self.permissions() {
            assert!(self.vhosts.contains_key(vhost), "permission of {user}");
        }
        for (user, vhost, ..) in self.topic_permissions() {
            assert!(
                self.vhosts.contains_key(vhost),
                "topic permission of {user}"
            );
        }
        for queue in self.queues() {
            assert_eq!(*queue.settings, self.settings_of(queue));
        }
        for (name, vhost) in &self.vhosts {
            vhost.bindings.check_invariants();
            let queues = self.queues().filter(|queue| queue.vhost == *name);
            assert_eq!(queues.count(), vhost.queue_count);
            assert_eq!(vhost.exchanges.len(), vhost.exchange_names.len());
            for exchange in &vhost.exchange_names {
                let holder = vhost.exchanges[exchange].delay_queue;
                let there = holder.is_none_or(|holder| self.queues.by_id(holder).is_some());
                assert!(there, "an exchange that delays has its queue");
            }
            for binding in vhost.bindings.iter() {
                assert!(
                    vhost.exchanges.contains_key(&binding.source),
                    "the source is there"
                );
                let there = match &binding.destination {
                    Destination::Queue(queue) => self.queues.by_name(name, queue).is_some(),
                    Destination::Exchange(exchange) => vhost.exchanges.contains_key(exchange),
                };
                assert!(there, "the destination is there");
            }
        }
    }

    fn vhost(&self, name: &[u8]) -> Result<&Vhost, Refusal> {
        self.vhosts.get(name).ok_or_else(|| Refusal::VhostNotFound {
            vhost: short_name(name),
        })
    }
}

fn locked(entry: &QueueEntry) -> Refusal {
    Refusal::QueueLocked {
        queue: entry.name.clone(),
        vhost: entry.vhost.clone(),
    }
}

/// A name for a reply text; whatever is too long to be one cannot exist.
fn short_name(name: &[u8]) -> Name {
    let size_bytes = name.len().min(staunch_types::name::NAME_SIZE_BYTES_MAX);
    Name::new(&name[..size_bytes]).expect("cut to the longest name")
}
