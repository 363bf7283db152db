//! Commands and what they do.

use std::sync::Arc;

use staunch_types::request::Destination;
use staunch_types::{ConnectionId, Name, QueueId, QueueOptions, Refusal, Resource};

use super::arguments::{self, Subject};
use super::exchange::is_reserved;
use super::parameters::check_table;
use super::{
    Applied, Binding, Catalog, CatalogCommand, Change, Partitioning, Placement, QueueEntry, Vhost,
    locked,
};
use crate::exchange::Target;

/// Whether a command is new or was accepted before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// It is new: limits hold, and an auto-delete exchange goes with its last binding.
    Decide,
    /// It is new, and every node of a cluster applies it with the same result: limits are each
    /// node's own and were asked before ([`Catalog::check_limits`]).
    Replicate,
    /// It was persisted: limits were checked then, and may be others today; if an exchange went,
    /// that was persisted as a command.
    Replay,
}

impl Mode {
    /// Whether it was persisted before.
    pub(super) fn is_new(self) -> bool {
        self != Self::Replay
    }
}

/// The parts of [`CatalogCommand::DeclareQueue`].
#[derive(Clone, Copy)]
struct NewQueue<'a> {
    name: &'a Name,
    id: QueueId,
    server_named: bool,
    options: &'a QueueOptions,
    owner: Option<ConnectionId>,
    placement: &'a Placement,
    partitions: &'a [Placement],
}

impl Applied {
    pub(super) fn new(change: Change, durable: bool) -> Self {
        Self {
            change,
            durable: durable && change != Change::Unchanged,
            consequences: Vec::new(),
            queue: None,
            queues_deleted: Vec::new(),
            queues_changed: Vec::new(),
            queues_moved: Vec::new(),
            exchanges_deleted: Vec::new(),
            bindings_removed: 0,
        }
    }

    pub(super) fn unchanged() -> Self {
        Self::new(Change::Unchanged, false)
    }
}

impl Catalog {
    /// Applies a command.
    ///
    /// # Errors
    /// [`Refusal`] if it cannot be; then nothing has changed.
    pub fn apply(&mut self, command: &CatalogCommand) -> Result<Applied, Refusal> {
        self.run(command, Mode::Decide)
    }

    /// Applies a command that was persisted, after a restart. Replaying commands that a snapshot
    /// already contains does no harm, if all that followed them are replayed too.
    ///
    /// # Errors
    /// As [`Catalog::apply`].
    pub fn replay(&mut self, command: &CatalogCommand) -> Result<Applied, Refusal> {
        self.run(command, Mode::Replay)
    }

    /// Applies a command that a cluster's nodes have agreed on: a function of the catalog and the
    /// command alone. Limits are not asked; new queues get the next id, whatever is proposed.
    ///
    /// # Errors
    /// As [`Catalog::apply`].
    pub fn apply_replicated(&mut self, command: &CatalogCommand) -> Result<Applied, Refusal> {
        self.run(command, Mode::Replicate)
    }

    /// Whether a declaration or binding names what is there already: applying it changes nothing
    /// and shows only whether it is the same.
    pub fn is_there(&self, command: &CatalogCommand) -> bool {
        match command {
            CatalogCommand::DeclareExchange { vhost, name, .. } => {
                let inside = self.vhosts.get(vhost);
                inside.is_some_and(|inside| inside.exchanges.contains_key(name))
            }
            CatalogCommand::DeclareQueue { vhost, name, .. } => {
                self.queues.by_name(vhost, name).is_some()
            }
            CatalogCommand::Bind { vhost, binding } => self.has_binding(vhost, binding),
            _ => false,
        }
    }

    fn run(&mut self, command: &CatalogCommand, mode: Mode) -> Result<Applied, Refusal> {
        let applied = match command {
            CatalogCommand::CreateVhost { vhost } => self.create_vhost(vhost, mode),
            CatalogCommand::DeleteVhost { vhost } => self.delete_vhost(vhost, mode),
            CatalogCommand::DeclareExchange {
                vhost,
                name,
                options,
                delay_queue,
                placement,
            } => {
                let holder = (*delay_queue, placement);
                self.declare_exchange((vhost, name), options, holder, mode)
            }
            CatalogCommand::DeleteExchange {
                vhost,
                name,
                if_unused,
            } => self.delete_exchange(vhost, name, *if_unused, mode),
            CatalogCommand::Bind { vhost, binding } => self.bind(vhost, binding, mode),
            CatalogCommand::Unbind { vhost, binding } => self.unbind(vhost, binding, mode),
            CatalogCommand::DeclareQueue {
                vhost,
                name,
                id,
                server_named,
                options,
                owner,
                placement,
                partitions,
            } => {
                let (id, server_named, owner) = (*id, *server_named, *owner);
                self.declare_queue(
                    vhost,
                    &NewQueue {
                        name,
                        id,
                        server_named,
                        options,
                        owner,
                        placement,
                        partitions,
                    },
                    mode,
                )
            }
            CatalogCommand::DeleteQueue { vhost, name } => self.delete_queue(vhost, name, mode),
            CatalogCommand::Vhost(command) => self.apply_vhost(command),
            CatalogCommand::User(command) => self.apply_user(command, mode),
            CatalogCommand::Permission(command) => self.apply_permission(command, mode),
            CatalogCommand::Policy(command) => self.apply_policy(command, mode),
            CatalogCommand::Parameter(command) => self.apply_parameter(command, mode),
            CatalogCommand::Node(command) => self.apply_node(command, mode),
        }?;
        if applied.change != Change::Unchanged {
            self.version += 1;
        }
        Ok(applied)
    }

    /// As [`Catalog::take_queue_ids`] for one.
    pub(super) fn take_queue_id(&mut self, proposed: QueueId, mode: Mode) -> QueueId {
        self.take_queue_ids(proposed, 1, mode)
    }

    /// The first of `count` ids that follow each other: the proposed one, or another if a proposer
    /// that was not up to date proposed one that is taken or was.
    fn take_queue_ids(&mut self, proposed: QueueId, count: u64, mode: Mode) -> QueueId {
        let end = |first: QueueId| first.0.saturating_add(count);
        let is_free = |id| self.queues.by_id(QueueId(id)).is_none();
        let taken = proposed == QueueId(0)
            || mode == Mode::Replicate
            || !(proposed.0..end(proposed)).all(is_free);
        let id = if taken { self.next_queue_id } else { proposed };
        self.next_queue_id = self.next_queue_id.max(QueueId(end(id)));
        id
    }

    fn delete_exchange(
        &mut self,
        vhost: &Name,
        name: &Name,
        if_unused: bool,
        mode: Mode,
    ) -> Result<Applied, Refusal> {
        let inside = self.vhost_mut(vhost)?;
        if name.is_empty() {
            return Err(Refusal::DefaultExchange);
        }
        let (resource, owned_name, owned_vhost) = (Resource::Exchange, name.clone(), vhost.clone());
        if is_reserved(name) {
            let (name, vhost) = (owned_name, owned_vhost);
            return Err(Refusal::SystemResource {
                resource,
                name,
                vhost,
            });
        }
        let Some(exchange) = inside.exchanges.get(name) else {
            return Ok(Applied::unchanged());
        };
        if if_unused && inside.bindings.has_source(name) {
            let (name, vhost) = (owned_name, owned_vhost);
            return Err(Refusal::InUse {
                resource,
                name,
                vhost,
            });
        }
        let mut applied = Applied::new(Change::Deleted, exchange.options.durable);
        let mut candidates = self.drop_exchange(vhost, name, &mut applied);
        self.auto_delete(vhost, &mut candidates, mode, &mut applied);
        Ok(applied)
    }

    fn bind(&mut self, vhost: &Name, binding: &Binding, mode: Mode) -> Result<Applied, Refusal> {
        let inside = self.vhost(vhost)?;
        let target = self.check_binding(vhost, inside, binding)?;
        if inside.bindings.contains(binding) {
            return Ok(Applied::unchanged());
        }
        if mode.is_new() {
            check_table(
                "arguments of binding of",
                &binding.source,
                &binding.arguments,
            )?;
        }
        if mode == Mode::Decide {
            self.check_binding_limit(vhost, binding)?;
        }
        let durable = self.is_binding_durable(vhost, inside, &binding.source, &binding.destination);
        let inside = self.vhost_mut(vhost)?;
        inside.bindings.insert(binding);
        let source = inside
            .exchanges
            .get_mut(&binding.source)
            .expect("checked above");
        source.router.add(binding, target);
        Ok(Applied::new(Change::Created, durable))
    }

    /// Checks a binding to be made; where it leads.
    fn check_binding(
        &self,
        vhost: &Name,
        inside: &Vhost,
        binding: &Binding,
    ) -> Result<Target, Refusal> {
        let source = &binding.source;
        if source.is_empty() {
            return Err(Refusal::DefaultExchange);
        }
        let exchange = Subject {
            resource: Resource::Exchange,
            vhost,
            name: source,
        };
        let from = inside
            .exchanges
            .get(source)
            .ok_or_else(|| exchange.not_found())?;
        let (target, queue) = match &binding.destination {
            Destination::Queue(name) => {
                let subject = Subject {
                    resource: Resource::Queue,
                    vhost,
                    name,
                };
                let queue = self.queues.by_name(vhost, name);
                let queue = queue.ok_or_else(|| subject.not_found())?;
                (Target::Queue(queue.id), Some(queue.kind()))
            }
            Destination::Exchange(name) if name.is_empty() => return Err(Refusal::DefaultExchange),
            Destination::Exchange(name) => {
                let subject = Subject {
                    resource: Resource::Exchange,
                    vhost,
                    name,
                };
                if !inside.exchanges.contains_key(name) {
                    return Err(subject.not_found());
                }
                (Target::Exchange(name.clone()), None)
            }
        };
        let checked = from.router.check(binding, queue);
        checked.map_err(Refusal::Precondition)?;
        Ok(target)
    }

    fn unbind(&mut self, vhost: &Name, binding: &Binding, mode: Mode) -> Result<Applied, Refusal> {
        let inside = self.vhost(vhost)?;
        let default =
            matches!(&binding.destination, Destination::Exchange(name) if name.is_empty());
        if binding.source.is_empty() || default {
            return Err(Refusal::DefaultExchange);
        }
        let durable = self.is_binding_durable(vhost, inside, &binding.source, &binding.destination);
        let mut applied = Applied::new(Change::Deleted, durable);
        if !self.drop_binding(vhost, binding, &mut applied) {
            return Ok(Applied::unchanged());
        }
        let mut candidates = vec![binding.source.clone()];
        self.auto_delete(vhost, &mut candidates, mode, &mut applied);
        Ok(applied)
    }

    fn declare_queue(
        &mut self,
        vhost: &Name,
        new: &NewQueue<'_>,
        mode: Mode,
    ) -> Result<Applied, Refusal> {
        self.vhost(vhost)?;
        let (resource, name) = (Resource::Queue, new.name);
        let subject = Subject {
            resource,
            vhost,
            name,
        };
        if let Some(there) = self.queues.by_name(vhost, name) {
            self.check_not_partition(there)?;
            if there.owner != new.owner || there.options.exclusive != new.options.exclusive {
                return Err(locked(there));
            }
            arguments::check_same_queue(subject, new.options, &there.options)?;
            return Ok(Applied {
                queue: Some(there.id),
                ..Applied::unchanged()
            });
        }
        if name.is_empty() || !arguments::is_valid_name(name) {
            return Err(Refusal::InvalidName {
                resource,
                name: name.clone(),
            });
        }
        if is_reserved(name) && !new.server_named {
            return Err(Refusal::ReservedName {
                resource,
                name: name.clone(),
            });
        }
        arguments::check_queue(subject, new.options, new.server_named)?;
        if mode.is_new() {
            check_table("arguments of queue", name, &new.options.arguments)?;
            self.check_vhost_queue_limit(vhost, name, 1 + new.partitions.len())?;
        }
        if mode == Mode::Decide {
            self.check_queue_limit(vhost, name, 1 + new.partitions.len())?;
        }
        arguments::check_queue_kind(subject, new.options)?;
        self.check_partitions(subject, new.options, new.partitions.len())?;
        let placement = self.without_removed(new.placement)?;
        let partitions = new.partitions.iter();
        let partitions = partitions.map(|part| self.without_removed(part));
        let partitions = partitions.collect::<Result<Vec<_>, _>>()?;
        let new = NewQueue {
            placement: &placement,
            partitions: &partitions,
            ..*new
        };
        let entry = self.new_entry(vhost, &new, mode);
        let (id, durable) = (entry.id, entry.is_durable());
        let whole = entry.is_split().then(|| entry.clone());
        self.queues.insert(entry);
        if let Some(whole) = whole {
            self.insert_partitions(&whole, new.partitions);
        }
        self.vhost_mut(vhost)?.queue_count += 1 + new.partitions.len();
        Ok(Applied {
            queue: Some(id),
            ..Applied::new(Change::Created, durable)
        })
    }

    fn new_entry(&mut self, vhost: &Name, new: &NewQueue<'_>, mode: Mode) -> QueueEntry {
        let count = u8::try_from(new.partitions.len()).expect("partitions are few");
        let id = self.take_queue_ids(new.id, 1 + u64::from(count), mode);
        let arguments = new.options.arguments.as_table_ref().to_field_table();
        let mut entry = QueueEntry {
            id,
            vhost: self.shared_vhost_name(vhost),
            name: new.name.clone(),
            options: QueueOptions {
                arguments,
                ..new.options.clone()
            },
            owner: new.owner.filter(|_| new.options.exclusive),
            settings: Arc::default(),
            holds_delayed: false,
            placement: new.placement.clone(),
            partitioning: match count {
                0 => Partitioning::Whole,
                count => Partitioning::Split { count },
            },
        };
        entry.settings = self.settings.share(self.settings_of(&entry));
        entry
    }

    fn delete_queue(&mut self, vhost: &Name, name: &Name, mode: Mode) -> Result<Applied, Refusal> {
        self.vhost(vhost)?;
        let Some(entry) = self.queues.by_name(vhost, name) else {
            return Ok(Applied::unchanged());
        };
        self.check_not_partition(entry)?;
        let id = entry.id;
        let mut applied = Applied::new(Change::Deleted, entry.is_durable());
        self.drop_queue(id, mode, &mut applied);
        Ok(applied)
    }

    /// Removes a queue that clients know, with its partitions, its bindings and what lives by
    /// those.
    pub(super) fn drop_queue(&mut self, id: QueueId, mode: Mode, applied: &mut Applied) {
        let entry = self.queues.by_id(id).expect("the caller found it");
        for part in entry.partitions() {
            self.drop_queue(part, mode, applied);
        }
        let entry = self.queues.by_id(id).expect("it goes last");
        let (vhost, name) = (&entry.vhost.clone(), &entry.name.clone());
        let inside = self.vhosts.get(vhost).expect("a queue is in a vhost");
        let destination = Destination::Queue(name.clone());
        let bindings: Vec<Arc<Binding>> = inside
            .bindings
            .of_destination(&destination)
            .cloned()
            .collect();
        let mut candidates = Vec::new();
        for binding in bindings {
            self.drop_binding(vhost, &binding, applied);
            candidates.push(binding.source.clone());
        }
        applied.queues_deleted.extend(self.queues.remove(id));
        let inside = self.vhosts.get_mut(vhost).expect("it was there before");
        inside.queue_count -= 1;
        self.auto_delete(vhost, &mut candidates, mode, applied);
    }

    /// The virtual host's own limit comes before the node's (RabbitMQ, `rabbit_queue_type`).
    fn check_vhost_queue_limit(
        &self,
        vhost: &Name,
        name: &Name,
        count: usize,
    ) -> Result<(), Refusal> {
        let inside = self.vhost(vhost)?;
        let own = inside.limits.queues_max;
        let wanted = (inside.queue_count + count) as u64;
        if let Some(limit) = own.filter(|limit| wanted > *limit) {
            return Err(Refusal::LimitReached(format!(
                "cannot declare queue '{name}': queue limit in vhost '{vhost}' ({limit}) is reached"
            )));
        }
        Ok(())
    }

    /// Removes one binding; false if it is not there.
    fn drop_binding(&mut self, vhost: &Name, binding: &Binding, applied: &mut Applied) -> bool {
        let inside = self.vhosts.get_mut(vhost).expect("the caller found it");
        if !inside.bindings.remove(binding) {
            return false;
        }
        let target = match &binding.destination {
            Destination::Queue(name) => {
                let queue = self.queues.by_name(vhost, name);
                Target::Queue(queue.expect("bindings go before their queue").id)
            }
            Destination::Exchange(name) => Target::Exchange(name.clone()),
        };
        let source = inside.exchanges.get_mut(&binding.source);
        source
            .expect("bindings go before their exchange")
            .router
            .remove(binding, &target);
        applied.bindings_removed += 1;
        true
    }

    /// Removes an exchange and its bindings; names of exchanges that lost a binding.
    fn drop_exchange(&mut self, vhost: &Name, name: &Name, applied: &mut Applied) -> Vec<Name> {
        let inside = self.vhosts.get_mut(vhost).expect("the caller found it");
        let destination = Destination::Exchange(name.clone());
        let mut bindings: Vec<Arc<Binding>> = inside.bindings.of_source(name).cloned().collect();
        bindings.extend(inside.bindings.of_destination(&destination).cloned());
        for binding in &bindings {
            self.drop_binding(vhost, binding, applied);
        }
        let inside = self.vhosts.get_mut(vhost).expect("the caller found it");
        let exchange = inside.exchanges.remove(name);
        inside.exchange_names.remove(name);
        let holder = exchange.and_then(|exchange| exchange.delay_queue);
        let holder = holder.and_then(|id| self.queues.remove(id));
        applied.queues_deleted.extend(holder);
        bindings
            .into_iter()
            .map(|binding| binding.source.clone())
            .collect()
    }

    /// Removes those of `candidates` that live by their bindings and have none left, and so on.
    fn auto_delete(
        &mut self,
        vhost: &Name,
        candidates: &mut Vec<Name>,
        mode: Mode,
        applied: &mut Applied,
    ) {
        if mode == Mode::Replay {
            return;
        }
        while let Some(name) = candidates.pop() {
            let inside = self.vhosts.get(vhost).expect("the caller found it");
            let Some(exchange) = inside.exchanges.get(&name) else {
                continue;
            };
            if !exchange.options.auto_delete || inside.bindings.has_source(&name) {
                continue;
            }
            if exchange.options.durable {
                applied.consequences.push(CatalogCommand::DeleteExchange {
                    vhost: vhost.clone(),
                    name: name.clone(),
                    if_unused: false,
                });
            }
            candidates.extend(self.drop_exchange(vhost, &name, applied));
            applied.exchanges_deleted.push(name);
        }
    }

    pub(super) fn vhost_mut(&mut self, name: &Name) -> Result<&mut Vhost, Refusal> {
        let missing = || Refusal::VhostNotFound {
            vhost: name.clone(),
        };
        self.vhosts.get_mut(name).ok_or_else(missing)
    }

    /// The name as the catalog holds it, so that queues share one copy.
    pub(super) fn shared_vhost_name(&self, name: &Name) -> Name {
        let (shared, _) = self
            .vhosts
            .get_key_value(name)
            .expect("the caller found it");
        shared.clone()
    }
}
