//! The way to the node.

use std::{pin::Pin, sync::Arc};

use staunch_broker::{Catalog, CatalogCommand, Change};
use staunch_node::{
    AdminAnswer, AdminRequest, CatalogRead, ChannelInfo, ClusterStatus, Condition, ConnectionInfo,
    ConsumerInfo, Failover, OnRefusal, OtherNode, QueueInfo, QueueReplicas, StopCheck,
};
use staunch_types::{Event, Name, QueueId, Refusal, Request};
use tokio::sync::mpsc;

use crate::{
    changes::{self, Told},
    error::ApiError,
};

/// An answer on its way; none if the node is gone.
pub type Asked = Pin<Box<dyn Future<Output = Option<AdminAnswer>> + Send>>;

/// A session with the node as a client connection has one. It ends, and what it holds returns,
/// when the sender is dropped; the events end when the node has said its last word.
#[derive(Debug)]
pub struct Line {
    /// To the node.
    pub requests: mpsc::Sender<Vec<Request>>,
    /// From it.
    pub events: mpsc::UnboundedReceiver<Event>,
}

/// Asks the node.
#[derive(Clone)]
pub struct NodePort {
    ask: Arc<dyn Fn(AdminRequest) -> Asked + Send + Sync>,
    dial: Arc<dyn Fn() -> Line + Send + Sync>,
}

impl NodePort {
    /// A port whose questions `ask` carries and whose sessions `dial` opens.
    pub fn new(
        ask: impl Fn(AdminRequest) -> Asked + Send + Sync + 'static,
        dial: impl Fn() -> Line + Send + Sync + 'static,
    ) -> Self {
        Self {
            ask: Arc::new(ask),
            dial: Arc::new(dial),
        }
    }

    /// A new session.
    pub(crate) fn dial(&self) -> Line {
        (self.dial)()
    }

    /// What `read` finds in the catalog.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Catalog) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        match self
            .answer(AdminRequest::Read(CatalogRead::new(read)))
            .await?
        {
            AdminAnswer::Read(found) => found
                .downcast::<T>()
                .map(|found| *found)
                .map_err(|_| ApiError::Unavailable),
            _ => Err(ApiError::Unavailable),
        }
    }

    /// Applies one change; when this resolves, it is on disk.
    pub(crate) async fn apply(&self, command: CatalogCommand) -> Result<Change, ApiError> {
        let results = self.apply_all(vec![command], OnRefusal::Stop).await?;
        let result = results.into_iter().next().ok_or(ApiError::Unavailable)?;
        Ok(result?)
    }

    /// Applies changes in order.
    pub(crate) async fn apply_all(
        &self,
        commands: Vec<CatalogCommand>,
        on_refusal: OnRefusal,
    ) -> Result<Vec<Result<Change, Refusal>>, ApiError> {
        let told: Vec<_> = commands.iter().map(Told::of).collect();
        let request = AdminRequest::Apply {
            commands,
            on_refusal,
        };
        let AdminAnswer::Applied(results) = self.answer(request).await? else {
            return Err(ApiError::Unavailable);
        };
        let done = told.into_iter().zip(&results);
        let done = done.filter(|(_, result)| !matches!(result, Ok(Change::Unchanged) | Err(_)));
        let done: Vec<_> = done.filter_map(|(told, _)| told).collect();
        changes::tell(&done);
        Ok(results)
    }

    pub(crate) async fn queues(&self, vhost: Option<Name>) -> Result<Vec<QueueInfo>, ApiError> {
        match self.answer(AdminRequest::ListQueues { vhost }).await? {
            AdminAnswer::Queues(queues) => Ok(queues),
            _ => Err(ApiError::Unavailable),
        }
    }

    pub(crate) async fn connections(&self) -> Result<Vec<ConnectionInfo>, ApiError> {
        match self.answer(AdminRequest::ListConnections).await? {
            AdminAnswer::Connections(connections) => Ok(connections),
            _ => Err(ApiError::Unavailable),
        }
    }

    /// As many of these as are there.
    pub(crate) async fn find_queues(&self, ids: Vec<QueueId>) -> Result<Vec<QueueInfo>, ApiError> {
        match self.answer(AdminRequest::FindQueues(ids)).await? {
            AdminAnswer::Queues(queues) => Ok(queues),
            _ => Err(ApiError::Unavailable),
        }
    }

    pub(crate) async fn channels(&self) -> Result<Vec<ChannelInfo>, ApiError> {
        match self.answer(AdminRequest::ListChannels).await? {
            AdminAnswer::Channels(channels) => Ok(channels),
            _ => Err(ApiError::Unavailable),
        }
    }

    pub(crate) async fn consumers(&self) -> Result<Vec<ConsumerInfo>, ApiError> {
        match self.answer(AdminRequest::ListConsumers).await? {
            AdminAnswer::Consumers(consumers) => Ok(consumers),
            _ => Err(ApiError::Unavailable),
        }
    }

    pub(crate) async fn condition(&self) -> Result<Condition, ApiError> {
        match self.answer(AdminRequest::Condition).await? {
            AdminAnswer::Condition(condition) => Ok(condition),
            _ => Err(ApiError::Unavailable),
        }
    }

    /// How many connections of that name were told to close.
    pub(crate) async fn close_connection(
        &self,
        name: String,
        reason: String,
    ) -> Result<usize, ApiError> {
        match self
            .answer(AdminRequest::CloseConnection { name, reason })
            .await?
        {
            AdminAnswer::Closing(count) => Ok(count),
            _ => Err(ApiError::Unavailable),
        }
    }

    /// None from a node that stands alone.
    pub(crate) async fn cluster_status(&self) -> Result<Option<Box<ClusterStatus>>, ApiError> {
        match self.answer(AdminRequest::ClusterStatus).await? {
            AdminAnswer::Cluster(status) => Ok(status),
            _ => Err(ApiError::Unavailable),
        }
    }

    /// What is remembered of failovers, the oldest first.
    pub(crate) async fn failovers(&self) -> Result<Vec<Failover>, ApiError> {
        match self.answer(AdminRequest::Failovers).await? {
            AdminAnswer::Failovers(failovers) => Ok(failovers),
            _ => Err(ApiError::Unavailable),
        }
    }

    /// Who could be asked beside this node.
    pub(crate) async fn others(&self) -> Result<Vec<OtherNode>, ApiError> {
        match self.answer(AdminRequest::OtherNodes).await? {
            AdminAnswer::Others(others) => Ok(others),
            _ => Err(ApiError::Unavailable),
        }
    }

    /// None if there is no such queue.
    pub(crate) async fn queue_replicas(
        &self,
        vhost: Name,
        name: Name,
    ) -> Result<Option<QueueReplicas>, ApiError> {
        match self
            .answer(AdminRequest::QueueReplicas { vhost, name })
            .await?
        {
            AdminAnswer::Replicas(replicas) => Ok(replicas),
            _ => Err(ApiError::Unavailable),
        }
    }

    /// None if there is no such node.
    pub(crate) async fn stops_with(&self, node: Name) -> Result<Option<StopCheck>, ApiError> {
        match self.answer(AdminRequest::StopsWith { node }).await? {
            AdminAnswer::StopsWith(check) => Ok(check),
            _ => Err(ApiError::Unavailable),
        }
    }

    /// Has the node do something that changes the cluster.
    pub(crate) async fn change_cluster(
        &self,
        request: AdminRequest,
    ) -> Result<Vec<Result<Change, Refusal>>, ApiError> {
        match self.answer(request).await? {
            AdminAnswer::Applied(results) => Ok(results),
            _ => Err(ApiError::Unavailable),
        }
    }

    /// The answer to any request; none if the node is gone.
    pub async fn ask(&self, request: AdminRequest) -> Option<AdminAnswer> {
        (self.ask)(request).await
    }

    async fn answer(&self, request: AdminRequest) -> Result<AdminAnswer, ApiError> {
        self.ask(request).await.ok_or(ApiError::Unavailable)
    }
}
