//! `/metrics` for Prometheus: names, labels and text as RabbitMQ's dashboards and alert rules read
//! them (RabbitMQ's Prometheus plugin), and `staunch_` for what is ours.
//!
//! Numbers are copied out of the statistics and rendered in our own time: neither the node nor the
//! next round waits for a scrape. A scrape shows the last round, so scraping more often than
//! samples are taken shows nothing new.

mod aggregated;
mod horizon;
mod objects;
mod text;

use std::sync::Arc;

use axum::{
    Router,
    extract::{RawQuery, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use staunch_definitions::value_to_json;
use staunch_node::{ClusterStatus, Condition, Failover};
use tokio::sync::Semaphore;

use crate::{
    NodePort, Settings, SharedStatistics,
    horizons::Table,
    metrics::{
        objects::{Family, Selection},
        text::Text,
    },
};

/// Scrapes that are answered at once; more are refused with 503.
const SCRAPES_MAX: usize = 4;

/// What Prometheus reads (text format 0.0.4).
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Clone)]
struct Exporter {
    node: NodePort,
    settings: Arc<Settings>,
    statistics: SharedStatistics,
    turns: Arc<Semaphore>,
}

/// What is asked of the node for a scrape.
struct Scrape {
    cluster_name: String,
    condition: Condition,
    cluster: Option<Box<ClusterStatus>>,
    /// The last that this node has seen.
    failover: Option<Failover>,
    horizons: Arc<Table>,
    /// Which of the paths it is.
    endpoint: &'static str,
}

/// The metrics of a node, without login.
pub fn metrics_router(node: NodePort, settings: Settings, statistics: SharedStatistics) -> Router {
    let exporter = Exporter {
        node,
        settings: Arc::new(settings),
        statistics,
        turns: Arc::new(Semaphore::new(SCRAPES_MAX)),
    };
    Router::new()
        .route("/metrics", get(aggregated))
        .route("/metrics/per-object", get(per_object))
        .route("/metrics/detailed", get(detailed))
        .route("/metrics/memory-breakdown", get(memory_breakdown))
        .with_state(exporter)
}

async fn aggregated(State(exporter): State<Exporter>) -> Response {
    let render = |exporter: &Exporter, scrape: &Scrape, text: &mut Text| {
        aggregated::node(exporter, scrape, text);
        aggregated::messages(&exporter.statistics, text);
        aggregated::queues(&exporter.statistics, text);
        aggregated::channels(&exporter.statistics, text);
        aggregated::own(scrape, text);
        horizon::aggregated(&scrape.horizons, text);
    };
    exporter.answer("aggregated", render).await
}

async fn per_object(State(exporter): State<Exporter>) -> Response {
    let render = |exporter: &Exporter, scrape: &Scrape, text: &mut Text| {
        aggregated::node(exporter, scrape, text);
        aggregated::messages(&exporter.statistics, text);
        objects::render(&exporter.statistics, &Selection::everything(), text);
        aggregated::own(scrape, text);
        horizon::aggregated(&scrape.horizons, text);
        horizon::queues(&scrape.horizons, &Selection::everything(), text);
    };
    exporter.answer("per-object", render).await
}

/// Of the families and queues that the query names; without a family there is nothing but who we
/// are.
async fn detailed(State(exporter): State<Exporter>, RawQuery(query): RawQuery) -> Response {
    let selection = match Selection::read(query.as_deref().unwrap_or_default()) {
        Ok(selection) => selection,
        Err(reason) => return (StatusCode::BAD_REQUEST, reason).into_response(),
    };
    let render = move |exporter: &Exporter, scrape: &Scrape, text: &mut Text| {
        if selection.has(Family::NodeCoarse) {
            aggregated::node(exporter, scrape, text);
        }
        objects::render(&exporter.statistics, &selection, text);
        if selection.has(Family::QueueHorizon) {
            horizon::queues(&scrape.horizons, &selection, text);
        }
    };
    exporter.answer("detailed", render).await
}

async fn memory_breakdown(State(exporter): State<Exporter>) -> Response {
    let render = |exporter: &Exporter, scrape: &Scrape, text: &mut Text| {
        let used = (exporter.settings.machine.0)().memory_used_size_bytes;
        let kept = scrape.condition.kept_size_bytes;
        text.family(
            "rabbitmq_memory_queue_procs_bytes",
            "gauge",
            "memory of messages and indexes",
        );
        text.sample(&[], kept);
        text.family(
            "rabbitmq_memory_other_system_bytes",
            "gauge",
            "memory of all else",
        );
        text.sample(&[], used.saturating_sub(kept));
    };
    exporter.answer("memory-breakdown", render).await
}

impl Exporter {
    /// Asks the node what is needed, then renders on a thread that may take its time.
    async fn answer(
        self,
        endpoint: &'static str,
        render: impl FnOnce(&Self, &Scrape, &mut Text) + Send + 'static,
    ) -> Response {
        let Ok(turn) = self.turns.clone().try_acquire_owned() else {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        };
        let Some(scrape) = self.scrape(endpoint).await else {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        };
        let rendering = tokio::task::spawn_blocking(move || {
            let mut text = Text::default();
            aggregated::identity(&self, &scrape, &mut text);
            render(&self, &scrape, &mut text);
            drop(turn);
            text.finish()
        });
        let Ok(text) = rendering.await else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        let mut response = text.into_response();
        let kind = HeaderValue::from_static(CONTENT_TYPE);
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }

    /// None if the node is gone.
    async fn scrape(&self, endpoint: &'static str) -> Option<Scrape> {
        let name = self
            .node
            .read(|catalog| catalog.global_parameter(b"cluster_name").map(value_to_json));
        let name = name.await.ok()?;
        let name = name.and_then(|name| name.as_str().map(str::to_owned));
        Some(Scrape {
            cluster_name: name.unwrap_or_else(|| self.settings.node_name.clone()),
            condition: self.node.condition().await.ok()?,
            cluster: self.node.cluster_status().await.ok()?,
            failover: self.node.failovers().await.ok()?.pop(),
            horizons: self.statistics.recent_horizons(&self.node).await.ok()?,
            endpoint,
        })
    }
}
