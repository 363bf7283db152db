//! The catalog: virtual hosts, exchanges, bindings and queues, and where a message goes.
//!
//! It changes only by [`CatalogCommand`]s. Applying one is a function of the catalog and the
//! command, so that every replica that applies the same commands holds the same catalog; a
//! refused command changes nothing. Hash tables find things by name and are never iterated:
//! whatever has an order is sorted.
//!
//! What survives a restart is durable exchanges, durable queues that are not exclusive, and
//! bindings between two such. A command that changed one of them says so in
//! [`Applied::durable`]. An auto-delete exchange may be durable and yet live by a transient
//! binding; so its going is persisted as a command of its own ([`Applied::consequences`]), and
//! [`Catalog::replay`] draws no such consequences itself.

mod apply;
mod arguments;
mod binding;
mod command;
mod exchange;
mod queues;
mod route;
mod snapshot;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;
use staunch_types::request::Destination;
use staunch_types::{
    ConnectionId, ExchangeOptions, Name, QueueId, QueueOptions, Refusal, Resource,
};

pub use binding::Binding;
pub use command::CatalogCommand;
pub use route::Routed;

use crate::exchange::Seeded;
use arguments::Subject;
use binding::Bindings;
use exchange::{Exchange, PREDECLARED};
use queues::Queues;

/// Name of the virtual host that is there from the start.
const DEFAULT_VHOST: &str = "/";

/// Most of everything that one catalog holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatalogLimits {
    /// Virtual hosts.
    pub vhosts_max: usize,
    /// Exchanges per virtual host, the predeclared ones included.
    pub exchanges_max: usize,
    /// Queues in all.
    pub queues_max: usize,
    /// Bindings per virtual host.
    pub bindings_max: usize,
}

impl Default for CatalogLimits {
    fn default() -> Self {
        Self {
            vhosts_max: 10_000,
            exchanges_max: 1_000_000,
            queues_max: 4_000_000,
            bindings_max: 16_000_000,
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
    /// It went.
    Deleted,
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
    /// The queue that was declared, new or not.
    pub queue: Option<QueueId>,
    /// Queues that went, as they were.
    pub queues_deleted: Vec<QueueEntry>,
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
}

impl QueueEntry {
    /// Whether it outlives its process.
    pub fn is_durable(&self) -> bool {
        self.options.durable && !self.options.exclusive
    }

    /// What kind it was declared as.
    pub fn kind(&self) -> QueueKind {
        arguments::queue_kind(&self.options.arguments).unwrap_or(QueueKind::Classic)
    }
}

/// A virtual host.
#[derive(Debug)]
struct Vhost {
    exchanges: HashMap<Name, Exchange, Seeded>,
    /// The same names, in order.
    exchange_names: BTreeSet<Name>,
    bindings: Bindings,
}

impl Vhost {
    fn new(hasher: Seeded) -> Self {
        let mut vhost = Self {
            exchanges: HashMap::with_hasher(hasher),
            exchange_names: BTreeSet::new(),
            bindings: Bindings::default(),
        };
        for (name, kind, internal) in PREDECLARED {
            let exchange = Exchange::predeclared(kind, internal, hasher);
            vhost.add_exchange(Name::from_static(name), exchange);
        }
        vhost
    }

    fn add_exchange(&mut self, name: Name, exchange: Exchange) {
        self.exchange_names.insert(name.clone());
        self.exchanges.insert(name, exchange);
    }
}

/// Virtual hosts, exchanges, bindings and queues.
#[derive(Debug)]
pub struct Catalog {
    vhosts: BTreeMap<Name, Vhost>,
    queues: Queues,
    next_queue_id: QueueId,
    version: u64,
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
        let vhosts = BTreeMap::from([(Name::from_static(DEFAULT_VHOST), Vhost::new(hasher))]);
        // 0 is the catalog's own stream in the log.
        let next_queue_id = QueueId(1);
        Self {
            vhosts,
            queues: Queues::new(hasher),
            next_queue_id,
            version: 0,
            limits,
            hasher,
        }
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
    pub fn vhost_names(&self) -> impl Iterator<Item = &Name> {
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

    /// Every queue, by id.
    pub fn queues(&self) -> impl Iterator<Item = &QueueEntry> {
        self.queues.sorted().into_iter()
    }

    /// How many queues there are.
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
            self.queues().all(|queue| queue.id < self.next_queue_id),
            "ids are not reused"
        );
        for (name, vhost) in &self.vhosts {
            vhost.bindings.check_invariants();
            assert_eq!(vhost.exchanges.len(), vhost.exchange_names.len());
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
