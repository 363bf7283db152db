//! Declarations: the catalog decides, the log remembers, and the answer waits for the disk
//! (contract C5). On a node of a cluster all nodes decide together, see `cluster`: what was agreed on
//! comes back here to be followed.

use staunch_broker::{
    Applied, Binding as CatalogBinding, CatalogCommand, Change, Durability, NodeCommand, Placement,
    Queue, QueueEntry,
};
use staunch_log::StreamId;
use staunch_replica::OnRefusal;
use staunch_types::{
    ChannelNumber, ConnectionId, Event, Name, Operation, QueueId, QueueOptions, Refusal, Reply,
    Request, Resource,
    request::{Binding, DeclareExchange, DeclareQueue, Destination},
};

use crate::{
    cluster::{Place, Then},
    node::Node,
    pending::{CountsDue, Pending},
    queues::{QueueSlot, settings_of},
    replies::{self, is_reply_name},
    session::SessionSlot,
};

/// What a definition has done.
pub(crate) struct Defined {
    pub(crate) change: Change,
    /// It survives once what is logged is on disk.
    pub(crate) is_logged: bool,
    /// The queue that was declared.
    pub(crate) queue: Option<QueueId>,
}

impl Node {
    pub(crate) fn declare_exchange(&mut self, session: SessionSlot, declare: DeclareExchange) {
        let DeclareExchange {
            channel,
            exchange,
            passive,
            options,
        } = declare;
        let Some((_, vhost)) = self.requester(session, channel) else {
            return;
        };
        let operation = Operation::DeclareExchange;
        if passive {
            return match self.catalog.check_exchange(&vhost, &exchange) {
                Ok(_) => {
                    // It may be there, and not yet on disk.
                    let reply = Reply::ExchangeDeclared;
                    self.answer_when_persisted(session, Event::Reply { channel, reply });
                }
                Err(refusal) => self.refuse(session, channel, operation, refusal),
            };
        }
        let placement = self.place_holder(options.durable);
        let command = CatalogCommand::DeclareExchange {
            vhost,
            name: exchange,
            options,
            delay_queue: self.catalog.next_queue_id(),
            placement,
        };
        self.define(
            session,
            channel,
            operation,
            command,
            Reply::ExchangeDeclared,
        );
    }

    pub(crate) fn delete_exchange(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
        name: Name,
        if_unused: bool,
    ) {
        let Some((_, vhost)) = self.requester(session, channel) else {
            return;
        };
        let command = CatalogCommand::DeleteExchange {
            vhost,
            name,
            if_unused,
        };
        let operation = Operation::DeleteExchange;
        self.define(session, channel, operation, command, Reply::ExchangeDeleted);
    }

    pub(crate) fn bind(&mut self, session: SessionSlot, binding: Binding) {
        let channel = binding.channel;
        let operation = match binding.destination {
            Destination::Queue(_) => Operation::BindQueue,
            Destination::Exchange(_) => Operation::BindExchange,
        };
        let Some((connection, vhost)) = self.requester(session, channel) else {
            return;
        };
        if let Err(refusal) = self.check_destination(&vhost, &binding, connection) {
            return self.refuse(session, channel, operation, refusal);
        }
        let command = CatalogCommand::Bind {
            vhost,
            binding: catalog_binding(binding),
        };
        self.define(session, channel, operation, command, Reply::Bound);
    }

    pub(crate) fn unbind(&mut self, session: SessionSlot, binding: Binding) {
        let channel = binding.channel;
        let operation = match binding.destination {
            Destination::Queue(_) => Operation::UnbindQueue,
            Destination::Exchange(_) => Operation::UnbindExchange,
        };
        let Some((connection, vhost)) = self.requester(session, channel) else {
            return;
        };
        let checked = self.check_destination(&vhost, &binding, connection);
        let binding = catalog_binding(binding);
        if let Err(refusal) = checked {
            // Whose queue it is counts only where there is something to be undone (RabbitMQ).
            let is_locked = matches!(refusal, Refusal::QueueLocked { .. });
            if !is_locked || self.catalog.has_binding(&vhost, &binding) {
                return self.refuse(session, channel, operation, refusal);
            }
        }
        let command = CatalogCommand::Unbind { vhost, binding };
        self.define(session, channel, operation, command, Reply::Unbound);
    }

    /// Refuses a binding to another connection's exclusive queue. What is missing, the queue or
    /// the exchange, is the catalog's to judge, and comes first (RabbitMQ).
    fn check_destination(
        &self,
        vhost: &Name,
        binding: &Binding,
        connection: ConnectionId,
    ) -> Result<(), Refusal> {
        let Destination::Queue(queue) = &binding.destination else {
            return Ok(());
        };
        if is_reply_name(queue) {
            return Err(replies::bind_refusal());
        }
        match self.catalog.check_queue(vhost, queue, connection) {
            Ok(_) | Err(Refusal::NotFound { .. }) => Ok(()),
            Err(refusal) => {
                let source = self.catalog.check_exchange(vhost, &binding.source);
                if matches!(source, Err(Refusal::NotFound { .. })) {
                    return Ok(());
                }
                Err(refusal)
            }
        }
    }

    pub(crate) fn declare_queue(&mut self, session: SessionSlot, declare: DeclareQueue) {
        let asked = self.cluster.is_some().then(|| declare.clone());
        let DeclareQueue {
            channel,
            queue: name,
            server_named,
            passive,
            options,
        } = declare;
        let Some((connection, vhost)) = self.requester(session, channel) else {
            return;
        };
        let operation = Operation::DeclareQueue;
        if is_reply_name(&name) {
            return self.declare_reply_queue(session, channel, name, vhost);
        }
        let existing = match self.known_queue(&vhost, &name, connection) {
            Ok(entry) if self.is_doomed(entry.id) => {
                // It is declared again when it is gone.
                let (id, asked) = (entry.id, asked.expect("only a cluster waits"));
                return self.ask(session, channel, id, Request::DeclareQueue(asked));
            }
            Ok(entry) => Some(entry.id),
            Err(Refusal::NotFound { .. }) if !passive => None,
            Err(refusal) => return self.refuse(session, channel, operation, refusal),
        };
        if let Some(id) = existing {
            self.renew_by_declaration(id);
        }
        if let (true, Some(id)) = (passive, existing) {
            return self.answer_counts(CountsDue {
                session,
                connection,
                channel,
                queue: id,
            });
        }
        self.ledger.queue_declared(existing.is_none());
        let new_id = self.catalog.next_queue_id();
        let (queue, owner) = ((vhost, name), options.exclusive.then_some(connection));
        let command = self.declaration(queue, owner, server_named, options);
        if let (Some(asked), None) = (&asked, existing) {
            let then = Then::Counts {
                session,
                connection,
                channel,
            };
            let mut size_bytes = 0;
            if let Err(refusal) = self.check_proposal(&command, &mut size_bytes) {
                return self.refuse(session, channel, operation, refusal);
            }
            let more = self.join_declarations(session, asked, &command, &mut size_bytes);
            let commands = std::iter::once(command).chain(more).collect();
            return self.propose_batch(commands, OnRefusal::Stop, then);
        }
        if let Err(refusal) = self.apply_definition(&command) {
            return self.refuse(session, channel, operation, refusal);
        }
        let queue = existing.unwrap_or(new_id);
        if let Some(asked) = asked.filter(|_| self.is_elsewhere(queue) && !self.is_split(queue)) {
            // If it goes before its server has answered, it is declared once more.
            return self.ask(session, channel, queue, Request::DeclareQueue(asked));
        }
        self.answer_counts(CountsDue {
            session,
            connection,
            channel,
            queue,
        });
    }

    /// The command that declares a queue: with a kind, and a place.
    pub(crate) fn declaration(
        &self,
        (vhost, name): (Name, Name),
        owner: Option<ConnectionId>,
        server_named: bool,
        options: QueueOptions,
    ) -> CatalogCommand {
        let (options, placement, partitions) =
            self.complete_queue((&vhost, &name), server_named, options);
        CatalogCommand::DeclareQueue {
            vhost,
            name,
            id: self.catalog.next_queue_id(),
            server_named,
            options,
            owner,
            placement,
            partitions,
        }
    }

    /// A queue's options with its kind, and where it and its partitions are to be kept.
    pub(crate) fn complete_queue(
        &self,
        (vhost, name): (&Name, &Name),
        server_named: bool,
        options: QueueOptions,
    ) -> (QueueOptions, Placement, Vec<Placement>) {
        let is_kind_open = options.arguments.get("x-queue-type").is_none();
        let options = (self.catalog).complete_queue_options(vhost, options, server_named);
        let (placement, partitions) = self.place_queue(vhost, name, &options, is_kind_open);
        (options, placement, partitions)
    }

    /// Answers a declaration with the queue's counts once everything before it is on disk and
    /// has been handed out: a client that published before it asked sees what came of it.
    pub(crate) fn answer_counts(&mut self, counts: CountsDue) {
        if !self.asks_for_majority(counts.queue) && self.is_all_persisted() {
            self.counts_due.push(counts);
        } else {
            self.push_pending(Pending::Counts(counts));
        }
    }

    /// Gives the answers that are due; called when the drain has handed out what it can.
    pub(crate) fn give_counts(&mut self) {
        for counts in std::mem::take(&mut self.counts_due) {
            let CountsDue {
                session,
                connection,
                channel,
                queue,
            } = counts;
            if !self.is_still(session, connection) {
                continue;
            }
            if self.is_split(queue) {
                self.count_partitions(session, channel, queue);
                continue;
            }
            if self.is_elsewhere(queue) {
                self.ask_for_counts(session, channel, queue);
                continue;
            }
            // A queue deleted in the meantime was there when it was declared, and empty then.
            let found = self.queues.get(queue).map(|slot| &slot.queue);
            let ready_count = found.map_or(0, Queue::ready_count);
            let consumer_count = found.map_or(0, Queue::consumer_count);
            self.reply(
                session,
                channel,
                Reply::QueueDeclared {
                    ready_count,
                    consumer_count,
                },
            );
        }
    }

    pub(crate) fn purge_queue(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
        name: &[u8],
    ) {
        let Some((connection, vhost)) = self.requester(session, channel) else {
            return;
        };
        let id = match self.known_queue(&vhost, name, connection) {
            Ok(entry) => entry.id,
            Err(refusal) => {
                return self.refuse(session, channel, Operation::PurgeQueue, refusal);
            }
        };
        if self.is_split(id) {
            return self.purge_partitions(session, channel, id);
        }
        if self.is_elsewhere(id) {
            let queue = Name::new(name).unwrap_or_default();
            let request = Request::PurgeQueue { channel, queue };
            return self.ask(session, channel, id, request);
        }
        let queue = Name::new(name).unwrap_or_default();
        if self.waits_for_publishes(session, id, Request::PurgeQueue { channel, queue }) {
            return;
        }
        let count = self.purge_here(id);
        let reply = Reply::QueuePurged { count };
        self.answer_when_persisted(session, Event::Reply { channel, reply });
    }

    /// Purges a queue that is served here; how many messages went.
    pub(crate) fn purge_here(&mut self, id: QueueId) -> u64 {
        self.dispatch_now(id);
        let slot = self
            .queues
            .get_mut(id)
            .expect("the catalog and the table agree");
        let mut released = Vec::new();
        let count = slot.queue.purge(&mut released);
        self.let_go(id, released);
        self.mark_dirty(id);
        count
    }

    /// `conditions` are `if_unused` and `if_empty`.
    pub(crate) fn delete_queue(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
        name: &Name,
        conditions: (bool, bool),
    ) {
        let Some((connection, vhost)) = self.requester(session, channel) else {
            return;
        };
        let operation = Operation::DeleteQueue;
        let found = self.known_queue(&vhost, name, connection);
        let count = match found.map(|entry| entry.id) {
            Ok(id) if self.is_split(id) => {
                return self.delete_partitions(session, channel, id, conditions);
            }
            Ok(id) if self.is_elsewhere(id) => {
                let request = deletion(channel, name, conditions);
                return self.ask(session, channel, id, request);
            }
            Ok(id) => {
                let request = deletion(channel, name, conditions);
                if conditions.1 && self.waits_for_publishes(session, id, request) {
                    return;
                }
                self.dispatch_now(id);
                let slot = self
                    .queues
                    .get(id)
                    .expect("the catalog and the table agree");
                if let Err(refusal) = check_conditions(slot, conditions) {
                    return self.refuse(session, channel, operation, refusal);
                }
                slot.queue.ready_count()
            }
            Err(Refusal::NotFound { .. }) => 0,
            Err(refusal) => return self.refuse(session, channel, operation, refusal),
        };
        self.define_deletion(session, channel, vhost, name.clone(), count);
    }

    /// Deletes a queue that held so many messages.
    pub(crate) fn define_deletion(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
        vhost: Name,
        name: Name,
        count: u64,
    ) {
        let command = CatalogCommand::DeleteQueue { vhost, name };
        self.define(
            session,
            channel,
            Operation::DeleteQueue,
            command,
            Reply::QueueDeleted { count },
        );
    }

    /// Applies a definition on behalf of a channel and answers when it is on disk; in a cluster:
    /// when it is agreed on. What is there already needs no agreement.
    fn define(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
        operation: Operation,
        command: CatalogCommand,
        reply: Reply,
    ) {
        if self.cluster.is_some() && !self.catalog.is_there(&command) {
            if let Err(refusal) = self.check_proposal(&command, &mut 0) {
                return self.refuse(session, channel, operation, refusal);
            }
            let Some(connection) = self.sessions.get(session).map(|session| session.id) else {
                return;
            };
            let then = Then::Reply {
                session,
                connection,
                channel,
                operation,
                reply,
            };
            return self.propose_batch(vec![command], OnRefusal::Stop, then);
        }
        match self.apply_definition(&command) {
            Err(refusal) => self.refuse(session, channel, operation, refusal),
            Ok(defined) => {
                let event = Event::Reply { channel, reply };
                // An answer about what is already there must not overtake its making.
                if defined.is_logged || !self.is_all_persisted() {
                    self.answer_when_persisted(session, event);
                } else {
                    self.sessions.push(session, event);
                }
            }
        }
    }

    /// Changes the catalog, logs the change if it must survive, and makes or removes queues: on a
    /// node that stands alone, or for what changes nothing.
    pub(crate) fn apply_definition(
        &mut self,
        command: &CatalogCommand,
    ) -> Result<Defined, Refusal> {
        let applied = self.catalog.apply(command)?;
        let is_alone = self.cluster.is_none();
        assert!(
            is_alone || applied.change == Change::Unchanged,
            "nodes of a cluster decide together"
        );
        if applied.durable {
            self.log_definition(command);
        }
        for consequence in &applied.consequences {
            self.log_definition(consequence);
        }
        self.follow_definition(command, &applied, true);
        Ok(Defined {
            change: applied.change,
            is_logged: applied.durable || !applied.consequences.is_empty(),
            queue: applied.queue,
        })
    }

    /// Follows a change of the catalog. `speaks`: clients that listen to events hear of it from
    /// this node.
    pub(crate) fn follow_definition(
        &mut self,
        command: &CatalogCommand,
        applied: &Applied,
        speaks: bool,
    ) {
        self.follow(applied);
        self.follow_access(command, applied.change);
        if speaks {
            self.notify_change(command, applied.change);
            for consequence in &applied.consequences {
                self.notify_change(consequence, Change::Deleted);
            }
            if matches!(command, CatalogCommand::Node(_)) {
                for entry in &applied.queues_deleted {
                    self.notify_queue_deleted(&entry.name, &entry.vhost);
                }
            }
        }
    }

    fn log_definition(&mut self, command: &CatalogCommand) {
        let mut payload = Vec::new();
        command.encode(&mut payload);
        self.store.append_control(StreamId::CATALOG, &payload);
    }

    /// Brings the table of queues in line with the catalog.
    fn follow(&mut self, applied: &Applied) {
        for entry in &applied.queues_deleted {
            self.forget_queue(entry);
        }
        for id in &applied.queues_changed {
            self.configure_queue(*id);
        }
        for id in &applied.queues_moved {
            self.follow_placement(*id);
        }
        let Some(id) = applied.queue.filter(|id| self.queues.get(*id).is_none()) else {
            return;
        };
        let entry = self.catalog.queue_by_id(id);
        let partitions = entry.map(QueueEntry::partitions);
        for id in std::iter::once(id).chain(partitions.into_iter().flatten()) {
            self.make_queue(id);
        }
    }

    /// A queue is gone from the catalog.
    pub(crate) fn forget_queue(&mut self, entry: &QueueEntry) {
        if let Some(session) = entry.owner.and_then(|owner| self.sessions.find(owner))
            && let Some(session) = self.sessions.get_mut(session)
        {
            session.exclusive_queues.remove(&entry.id);
        }
        self.remove_queue(entry.id);
        self.forget_doom(entry.id);
    }

    /// A queue has come into the catalog.
    pub(crate) fn make_queue(&mut self, id: QueueId) {
        let owner = self.open_queue(id);
        self.doom_if_old(id);
        if let Some(session) = owner.and_then(|owner| self.sessions.find(owner))
            && let Some(session) = self.sessions.get_mut(session)
        {
            session.exclusive_queues.insert(id);
        }
    }

    /// Makes a place in the table for a queue of the catalog; whose queue it is.
    pub(crate) fn open_queue(&mut self, id: QueueId) -> Option<ConnectionId> {
        let entry = self.catalog.queue_by_id(id).cloned();
        let entry = entry.expect("a declared queue is in the catalog");
        let durability = if crate::queues::is_logged(&entry) {
            Durability::Durable
        } else {
            Durability::Transient
        };
        let (place, queue) = self.open_place(&entry).unwrap_or_else(|| {
            let queue = Queue::new(durability, &settings_of(&entry));
            (Place::Here, queue)
        });
        let mut slot = QueueSlot::new(&entry, queue, self.wall_now());
        slot.is_durable &= !matches!(place, Place::Elsewhere);
        slot.place = place;
        let is_here = matches!(slot.place, Place::Here);
        self.ledger.queue_moves(&mut slot);
        self.queues.insert(Box::new(slot));
        if is_here {
            self.watch_use(id);
        }
        self.begin_group(id, true);
        entry.owner
    }

    /// A queue's settings have changed with a policy.
    pub(crate) fn configure_queue(&mut self, id: QueueId) {
        let Some(entry) = self.catalog.queue_by_id(id) else {
            return;
        };
        let settings = settings_of(entry);
        let now = self.wall_now();
        if let Some(slot) = self.queues.get_mut(id) {
            if slot.settings.expires_millis != settings.expires_millis {
                // Who gives a queue an hour means from now on (RabbitMQ, `ensure_expiry_timer`).
                slot.used_at = now;
            }
            slot.keep_dead_lettering(&settings);
            slot.queue.configure(&settings);
            slot.is_watched = settings.horizon_slo_millis.is_some();
            slot.settings = settings;
            self.watch_use(id);
            self.mark_dirty(id);
            self.mourn_again(id);
        }
    }

    /// A queue is gone from the catalog: its messages, consumers and waiting gets go with it.
    fn remove_queue(&mut self, id: QueueId) {
        if let Some(cluster) = &mut self.cluster {
            cluster.groups.left.remove(&id);
        }
        let Some(mut slot) = self.queues.remove(id) else {
            return;
        };
        self.ledger.queue_goes(&slot);
        self.fetches.forget(&mut slot);
        self.forget_expiry(&slot);
        self.forget_dead(&mut slot);
        self.rooms.forget(id);
        if let Place::Replicated(mut member) = std::mem::take(&mut slot.place) {
            self.forget_proposals(&mut member);
            member.replica.bury(&mut self.store);
        }
        for (_, body, size_bytes) in slot.queue.live_from(staunch_types::MessageIndex(0)) {
            if slot.is_durable {
                self.store.release(body, size_bytes);
            } else {
                self.bodies.release(body);
            }
        }
        let keys: Vec<_> = slot.queue.consumer_keys().collect();
        for key in keys {
            self.cancel_by_node(key);
        }
        self.refuse_getters(&mut slot);
        self.edge_queue_removed(&mut slot);
    }

    /// A connection is being closed: nobody is told any more that its queues are locked.
    pub(crate) fn doom_exclusive_queues(&mut self, session: SessionSlot) {
        let found = self.sessions.get(session);
        let queues = found.map(|found| found.exclusive_queues.clone());
        for id in queues.into_iter().flatten() {
            self.doom(id);
        }
    }

    /// The exclusive queues of a connection go with it, and then the connection.
    pub(crate) fn end_with_exclusive_queues(&mut self, session: SessionSlot) {
        let Some(found) = self.sessions.get_mut(session) else {
            return;
        };
        let connection = found.id;
        let queues = std::mem::take(&mut found.exclusive_queues);
        if self.cluster.is_none() {
            for id in queues {
                self.delete_by_node(id);
            }
        } else if !queues.is_empty() {
            let retire = |queue| CatalogCommand::Node(NodeCommand::Retire { queue });
            let commands: Vec<_> = queues.into_iter().map(retire).collect();
            let then = Then::EndSession {
                session,
                connection,
            };
            return self.propose_in_batches(commands, then);
        }
        self.end_session_when_persisted(session, connection);
    }

    /// Deletes a queue because of what it is, not because somebody asked.
    pub(crate) fn delete_by_node(&mut self, id: QueueId) {
        if self.cluster.is_some() {
            if self.doom(id) {
                let command = CatalogCommand::Node(NodeCommand::Retire { queue: id });
                self.propose_batch(vec![command], OnRefusal::GoOn, Then::Nothing);
            }
            return;
        }
        let Some(entry) = self.catalog.queue_by_id(id) else {
            return;
        };
        let QueueEntry { vhost, name, .. } = entry;
        let command = CatalogCommand::DeleteQueue {
            vhost: vhost.clone(),
            name: name.clone(),
        };
        let acting = self.acting.take();
        let applied = self.apply_definition(&command);
        assert!(applied.is_ok(), "an existing queue can be deleted");
        self.acting = acting;
    }
}

/// A request to delete a queue, if it is unused or empty.
pub(crate) fn deletion(
    channel: ChannelNumber,
    queue: &Name,
    (if_unused, if_empty): (bool, bool),
) -> Request {
    Request::DeleteQueue {
        channel,
        queue: queue.clone(),
        if_unused,
        if_empty,
    }
}

fn catalog_binding(binding: Binding) -> CatalogBinding {
    let Binding {
        channel: _,
        source,
        destination,
        routing_key,
        arguments,
    } = binding;
    CatalogBinding {
        source,
        destination,
        routing_key,
        arguments,
    }
}

/// Whether a queue may be deleted under these conditions. Quorum queues know them too, other than
/// RabbitMQ's: programs that were made for classic queues meet them where they are the default.
pub(crate) fn check_conditions(slot: &QueueSlot, conditions: (bool, bool)) -> Result<(), Refusal> {
    let counts = (slot.queue.ready_count(), slot.queue.consumer_count());
    check_counts((&slot.vhost, &slot.name), counts, conditions)
}

/// As [`check_conditions`], of a queue with so many ready messages and consumers.
pub(crate) fn check_counts(
    (vhost, name): (&Name, &Name),
    (ready_count, consumer_count): (u64, u32),
    (if_unused, if_empty): (bool, bool),
) -> Result<(), Refusal> {
    let (vhost, name) = (vhost.clone(), name.clone());
    if if_unused && consumer_count > 0 {
        return Err(Refusal::InUse {
            resource: Resource::Queue,
            name,
            vhost,
        });
    }
    if if_empty && ready_count > 0 {
        return Err(Refusal::NotEmpty { queue: name, vhost });
    }
    Ok(())
}
