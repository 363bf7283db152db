//! What an operator asks of a node: changes of the catalog, lists, the end of a connection.
//!
//! Requests come from the rim (HTTP, definitions at start) and not from a client, so nobody's
//! permissions are asked here: whoever sends them has been judged before.

use std::{any::Any, fmt};

use staunch_broker::{Catalog, CatalogCommand, Change, NodeCommand, QueueEntry};
use staunch_horizon::TimeLeft;
pub use staunch_replica::OnRefusal;
use staunch_types::{ConnectionId, Event, Name, QueueId, Refusal, UnixMillis, request::Peer};

use crate::{
    alarm::Condition,
    cluster::{ClusterStatus, Failover, OtherNode, QueueReplicas, StopCheck},
    counts::QueueCounts,
    input::Output,
    lists::{ChannelInfo, ConsumerInfo},
    node::Node,
    pending::Pending,
    queues::QueueSlot,
    sample::{Held, Sample},
    session::Session,
};

/// A request's name, chosen by who asks; the answer bears it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdminId(pub u64);

/// What an operator asks for.
#[derive(Debug)]
pub enum AdminRequest {
    /// Apply changes in order. Answered by [`AdminAnswer::Applied`] once all that was changed is
    /// on disk. The queue ids in declarations are chosen by the node.
    Apply {
        /// The changes.
        commands: Vec<CatalogCommand>,
        /// What a refused one means for those behind it.
        on_refusal: OnRefusal,
    },
    /// Read the catalog. Answered by [`AdminAnswer::Read`].
    Read(CatalogRead),
    /// List the connections. Answered by [`AdminAnswer::Connections`].
    ListConnections,
    /// List the channels of this node's clients. Answered by [`AdminAnswer::Channels`].
    ListChannels,
    /// List the consumers of this node's clients. Answered by [`AdminAnswer::Consumers`].
    ListConsumers,
    /// What has changed since the last sample, or a part of it; for one who asks regularly.
    /// Answered by [`AdminAnswer::Sample`].
    Sample,
    /// What horizons say of queues with an objective (`horizon-slo`): the lower bound of the time
    /// without consumers. Answered by [`AdminAnswer::Heard`].
    Horizons(Vec<(QueueId, TimeLeft)>),
    /// List the queues. Answered by [`AdminAnswer::Queues`].
    ListQueues {
        /// Of this virtual host; none: of all.
        vhost: Option<Name>,
    },
    /// List these queues, as many as are there. Answered by [`AdminAnswer::Queues`].
    FindQueues(Vec<QueueId>),
    /// Tell a connection to close (320). Answered by [`AdminAnswer::Closing`].
    CloseConnection {
        /// Its name, such as `127.0.0.1:40000 -> 127.0.0.1:5672`.
        name: String,
        /// Explanation for the client.
        reason: String,
    },
    /// How this node is. Answered by [`AdminAnswer::Condition`].
    Condition,
    /// How the cluster is. Answered by [`AdminAnswer::Cluster`].
    ClusterStatus,
    /// Which nodes were given up, and how others took over. Answered by [`AdminAnswer::Failovers`].
    Failovers,
    /// Who could be asked beside this node. Answered by [`AdminAnswer::Others`].
    OtherNodes,
    /// Where a queue is kept. Answered by [`AdminAnswer::Replicas`].
    QueueReplicas {
        /// Its virtual host.
        vhost: Name,
        /// Its name.
        name: Name,
    },
    /// What would stand still if a node stopped. Answered by [`AdminAnswer::StopsWith`].
    StopsWith {
        /// Its name.
        node: Name,
    },
    /// Have a node leave the cluster. Answered as [`AdminRequest::Apply`]; a node that lives has
    /// left only when its replicas have moved.
    RemoveNode {
        /// Its name.
        node: Name,
        /// It is gone for good, and what it alone has kept is lost.
        is_dead: bool,
    },
    /// Spread replicas over the nodes, a few at a time. Answered by as many results as were moved.
    Rebalance,
}

/// A question to the catalog, as a function of it that gives back what it found. It runs on the
/// node's own time, so it copies out little and leaves the rest to who asked.
pub struct CatalogRead(Box<dyn FnOnce(&Catalog) -> Found + Send>);

/// What a [`CatalogRead`] found: of the type that who asked it expects.
pub type Found = Box<dyn Any + Send>;

impl CatalogRead {
    /// The question that `read` answers.
    pub fn new<T: Send + 'static>(read: impl FnOnce(&Catalog) -> T + Send + 'static) -> Self {
        Self(Box::new(|catalog| Box::new(read(catalog))))
    }
}

impl fmt::Debug for CatalogRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CatalogRead(..)")
    }
}

/// The answer to an [`AdminRequest`].
#[derive(Debug)]
pub enum AdminAnswer {
    /// One result per change that was tried, in order.
    Applied(Vec<Result<Change, Refusal>>),
    /// What was found.
    Read(Found),
    /// Every connection that has logged in, oldest first.
    Connections(Vec<ConnectionInfo>),
    /// Channels, by connection, oldest first, and number.
    Channels(Vec<ChannelInfo>),
    /// Consumers.
    Consumers(Vec<ConsumerInfo>),
    /// What has changed.
    Sample(Box<Sample>),
    /// It knows.
    Heard,
    /// How it is.
    Condition(Condition),
    /// Queues, by id.
    Queues(Vec<QueueInfo>),
    /// How many connections have that name and were told to close.
    Closing(usize),
    /// How the cluster is; none from a node that stands alone.
    Cluster(Option<Box<ClusterStatus>>),
    /// Those that are remembered, the oldest first; none of a node that stands alone.
    Failovers(Vec<Failover>),
    /// The cluster's other nodes; none beside a node that stands alone.
    Others(Vec<OtherNode>),
    /// Where the queue is kept; none if there is no such queue.
    Replicas(Option<QueueReplicas>),
    /// What would stand still; none if there is no such node.
    StopsWith(Option<StopCheck>),
}

/// A connection in a list.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// Its id within this node.
    pub id: ConnectionId,
    /// Its name, as RabbitMQ makes it of both addresses.
    pub name: String,
    /// Who logged in.
    pub user: Name,
    /// Its virtual host; empty before `connection.open`.
    pub vhost: Name,
    /// The other end.
    pub peer: Peer,
    /// When it logged in, milliseconds of the wall clock.
    pub connected_at: UnixMillis,
    /// Open channels.
    pub channel_count: usize,
    /// Consumers on them.
    pub consumer_count: usize,
}

/// A queue in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueInfo {
    /// Its id.
    pub id: QueueId,
    /// Its virtual host.
    pub vhost: Name,
    /// Its name.
    pub name: Name,
    /// Messages that could be delivered.
    pub ready_count: u64,
    /// Messages delivered and not settled.
    pub unacked_count: u64,
    /// Consumers.
    pub consumer_count: u32,
    /// Memory of its index, in bytes.
    pub memory_size_bytes: u64,
    /// It is a partition of a queue, whose numbers contain its own.
    pub is_partition: bool,
    /// It has partitions: each node tells the sum over those that it serves.
    pub is_split: bool,
    /// This node hands out its messages. The numbers of others are for that one to tell.
    pub is_served_here: bool,
    /// What happened in it.
    pub counts: QueueCounts,
    /// What it holds; of a queue with partitions, what is beside the counts above.
    pub held: Held,
}

impl Node {
    pub(crate) fn handle_admin(&mut self, id: AdminId, request: AdminRequest) {
        let answer = match request {
            AdminRequest::Apply {
                commands,
                on_refusal,
            } => {
                let commands = self.complete(commands);
                if self.cluster.is_some() {
                    return self.propose_for_operator(id, on_refusal, Vec::new(), commands.into());
                }
                let answer = AdminAnswer::Applied(self.apply_all(commands, on_refusal));
                return self.answer_admin_when_persisted(id, answer);
            }
            AdminRequest::Read(CatalogRead(read)) => AdminAnswer::Read(read(&self.catalog)),
            AdminRequest::ListConnections => AdminAnswer::Connections(self.list_connections()),
            AdminRequest::ListChannels => AdminAnswer::Channels(self.list_channels()),
            AdminRequest::ListConsumers => AdminAnswer::Consumers(self.list_consumers()),
            AdminRequest::Sample => AdminAnswer::Sample(Box::new(self.sample())),
            AdminRequest::Horizons(horizons) => {
                self.hear_horizons(horizons);
                AdminAnswer::Heard
            }
            AdminRequest::Condition => AdminAnswer::Condition(self.condition()),
            AdminRequest::FindQueues(ids) => AdminAnswer::Queues(self.find_queues(&ids)),
            AdminRequest::ListQueues { vhost } => {
                AdminAnswer::Queues(self.list_queues(vhost.as_ref()))
            }
            AdminRequest::CloseConnection { name, reason } => {
                AdminAnswer::Closing(self.force_by_name(&name, &reason))
            }
            AdminRequest::ClusterStatus => {
                AdminAnswer::Cluster(self.cluster_status().map(Box::new))
            }
            AdminRequest::Failovers => AdminAnswer::Failovers(self.failovers()),
            AdminRequest::OtherNodes => AdminAnswer::Others(self.other_nodes()),
            AdminRequest::QueueReplicas { vhost, name } => {
                AdminAnswer::Replicas(self.queue_replicas(&vhost, &name))
            }
            AdminRequest::StopsWith { node } => AdminAnswer::StopsWith(self.stop_check(&node)),
            AdminRequest::RemoveNode { node, is_dead } => {
                return match self.removal(&node, is_dead) {
                    Ok(commands) => self.propose_as_operator(id, commands),
                    Err(refusal) => {
                        let answer = AdminAnswer::Applied(vec![Err(refusal)]);
                        self.outputs.push_back(Output::Admin(id, answer));
                    }
                };
            }
            AdminRequest::Rebalance => {
                let commands = self.evener_placements();
                return self.propose_as_operator(id, commands);
            }
        };
        self.outputs.push_back(Output::Admin(id, answer));
    }

    fn propose_as_operator(&mut self, id: AdminId, commands: Vec<NodeCommand>) {
        let commands = commands.into_iter().map(CatalogCommand::Node).collect();
        self.propose_for_operator(id, OnRefusal::GoOn, Vec::new(), commands);
    }

    /// Says of which kind new queues are where it is open, and where they are to be kept, as for
    /// clients that declare them.
    fn complete(&self, mut commands: Vec<CatalogCommand>) -> Vec<CatalogCommand> {
        for command in &mut commands {
            match command {
                CatalogCommand::DeclareQueue {
                    vhost,
                    name,
                    options,
                    server_named,
                    placement,
                    partitions,
                    ..
                } => {
                    let asked = options.clone();
                    (*options, *placement, *partitions) =
                        self.complete_queue((vhost, name), *server_named, asked);
                }
                CatalogCommand::DeclareExchange {
                    options, placement, ..
                } => *placement = self.place_holder(options.durable),
                _ => {}
            }
        }
        commands
    }

    fn apply_all(
        &mut self,
        commands: Vec<CatalogCommand>,
        on_refusal: OnRefusal,
    ) -> Vec<Result<Change, Refusal>> {
        let mut results = Vec::with_capacity(commands.len());
        for mut command in commands {
            if let CatalogCommand::DeclareQueue { id, .. }
            | CatalogCommand::DeclareExchange {
                delay_queue: id, ..
            } = &mut command
            {
                *id = self.catalog.next_queue_id();
            }
            let result = self
                .apply_definition(&command)
                .map(|defined| defined.change);
            let ends = result.is_err() && on_refusal == OnRefusal::Stop;
            results.push(result);
            if ends {
                break;
            }
        }
        results
    }

    fn answer_admin_when_persisted(&mut self, id: AdminId, answer: AdminAnswer) {
        if self.is_all_persisted() {
            self.outputs.push_back(Output::Admin(id, answer));
        } else {
            let answer = Box::new(answer);
            self.push_pending(Pending::Admin { id, answer });
        }
    }

    fn list_connections(&self) -> Vec<ConnectionInfo> {
        let known = self.sessions.iter();
        known.filter_map(connection_info).collect()
    }

    fn list_queues(&self, vhost: Option<&Name>) -> Vec<QueueInfo> {
        let wanted = self
            .queues
            .iter()
            .filter(|slot| !slot.holds_delayed)
            .filter(|slot| vhost.is_none_or(|vhost| slot.vhost == *vhost));
        wanted.map(|slot| self.queue_info(slot)).collect()
    }

    fn find_queues(&self, ids: &[QueueId]) -> Vec<QueueInfo> {
        let found = ids.iter().filter_map(|id| self.queues.get(*id));
        found.map(|slot| self.queue_info(slot)).collect()
    }

    /// Of a queue with partitions: what is in those that this node serves.
    fn queue_info(&self, slot: &QueueSlot) -> QueueInfo {
        let mut sum = queue_info(slot);
        let entry = self.catalog.queue_by_id(slot.id);
        let parts = entry.map(QueueEntry::partitions).into_iter().flatten();
        for id in parts {
            sum.is_split = true;
            let Some(part) = self.queues.get(id).filter(|it| it.is_served_here()) else {
                continue;
            };
            let part = queue_info(part);
            sum.ready_count += part.ready_count;
            sum.unacked_count += part.unacked_count;
            sum.consumer_count = sum.consumer_count.max(part.consumer_count);
            sum.memory_size_bytes += part.memory_size_bytes;
        }
        sum
    }

    fn force_by_name(&mut self, name: &str, reason: &str) -> usize {
        let named = self.sessions.slots().into_iter().filter(|slot| {
            let session = self.sessions.get(*slot);
            session.is_some_and(|session| session.client.as_ref().is_some_and(|it| it.name == name))
        });
        let named: Vec<_> = named.collect();
        for slot in &named {
            let reason = reason.to_owned();
            self.sessions.push(*slot, Event::Forced { reason });
        }
        named.len()
    }
}

fn connection_info(session: &Session) -> Option<ConnectionInfo> {
    let client = session.client.as_ref()?;
    let channels = session.channels.values();
    Some(ConnectionInfo {
        id: session.id,
        name: client.name.clone(),
        user: client.user.clone(),
        vhost: session.vhost.clone(),
        peer: client.peer.clone(),
        connected_at: client.connected_at,
        channel_count: session.channels.len(),
        consumer_count: channels.map(|channel| channel.consumers.len()).sum(),
    })
}

fn queue_info(slot: &QueueSlot) -> QueueInfo {
    QueueInfo {
        id: slot.id,
        vhost: slot.vhost.clone(),
        name: slot.name.clone(),
        ready_count: slot.queue.ready_count(),
        unacked_count: slot.queue.unacked_count(),
        consumer_count: slot.queue.consumer_count(),
        memory_size_bytes: slot.queue.memory_bytes() as u64,
        is_partition: slot.settings.partition.is_some(),
        is_split: false,
        is_served_here: slot.is_served_here(),
        counts: slot.counts_now(),
        held: slot.held(),
    }
}
