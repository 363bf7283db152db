//! `/api/nodes`.

use axum::extract::{Path, State};
use serde_json::{Value, json};
use staunch_node::{ClusterStatus, Condition, NodeStatus};
use staunch_stats::CHURN_NAMES;

use crate::{
    Api, Machine,
    auth::Caller,
    body::{self, Answer},
    error::ApiError,
    json::name,
    listing::Listing,
    nouns::overview::{EXCHANGE_TYPES, contexts},
    others::Unknown,
    question::Question,
    rates::{extend, moving},
};

/// Numbers of Erlang that tools read and that mean nothing here.
const NOT_HERE: [&str; 22] = [
    "run_queue",
    "proc_used",
    "gc_num",
    "gc_bytes_reclaimed",
    "context_switches",
    "io_read_count",
    "io_read_bytes",
    "io_read_avg_time",
    "io_write_count",
    "io_write_bytes",
    "io_write_avg_time",
    "io_sync_count",
    "io_sync_avg_time",
    "io_seek_count",
    "io_seek_avg_time",
    "io_reopen_count",
    "mnesia_ram_tx_count",
    "mnesia_disk_tx_count",
    "msg_store_read_count",
    "msg_store_write_count",
    "queue_index_read_count",
    "queue_index_write_count",
];

/// Parts of the memory of an Erlang node.
const MEMORY_PARTS: [&str; 27] = [
    "connection_readers",
    "connection_writers",
    "connection_channels",
    "connection_other",
    "queue_procs",
    "queue_slave_procs",
    "quorum_queue_procs",
    "quorum_queue_dlx_procs",
    "stream_queue_procs",
    "stream_queue_replica_reader_procs",
    "stream_queue_coordinator_procs",
    "plugins",
    "metadata_store",
    "other_proc",
    "metrics",
    "mgmt_db",
    "mnesia",
    "quorum_ets",
    "metadata_store_ets",
    "other_ets",
    "binary",
    "msg_index",
    "code",
    "atom",
    "other_system",
    "allocated_unused",
    "reserved_unallocated",
];

pub(crate) async fn list(State(api): State<Api>, caller: Caller, listing: Listing) -> Answer {
    monitor(&caller)?;
    let (rows, unknown) = all(&api, &listing).await?;
    Ok(unknown.mark(listing.answer(rows)?))
}

pub(crate) async fn get(
    State(api): State<Api>,
    caller: Caller,
    listing: Listing,
    Path(node): Path<String>,
) -> Answer {
    monitor(&caller)?;
    let (rows, unknown) = all(&api, &listing).await?;
    let found = rows.into_iter().find(|row| row["name"] == node);
    let found = found.ok_or(ApiError::NotFound)?;
    Ok(unknown.mark(body::ok(&listing.only_columns(found))?))
}

/// Where the memory of a node is, as far as that is told apart.
pub(crate) async fn memory(
    State(api): State<Api>,
    caller: Caller,
    Path(node): Path<String>,
) -> Answer {
    monitor(&caller)?;
    let node = name(&node)?;
    if node == api.name() {
        return body::ok(&own_memory(&api).await?);
    }
    let others = api.node.others().await?;
    let found = others.into_iter().find(|other| other.name == node);
    let answer = if found.ok_or(ApiError::NotFound)?.is_there {
        api.ask_node::<Value>(node, &Question::Memory).await
    } else {
        None
    };
    body::ok(&answer.unwrap_or_else(|| json!({"memory": "not_available"})))
}

pub(crate) async fn own_memory(api: &Api) -> Result<Value, ApiError> {
    let (machine, condition) = ((api.settings.machine.0)(), api.node.condition().await?);
    let mut parts = json!({});
    for part in MEMORY_PARTS {
        parts[part] = 0.into();
    }
    let used = machine.memory_used_size_bytes;
    parts["queue_procs"] = condition.kept_size_bytes.into();
    parts["other_system"] = used.saturating_sub(condition.kept_size_bytes).into();
    parts["strategy"] = "rss".into();
    parts["total"] = json!({"rss": used, "allocated": used, "erlang": used});
    Ok(json!({"memory": parts}))
}

fn monitor(caller: &Caller) -> Result<(), ApiError> {
    if caller.is_monitor() {
        Ok(())
    } else {
        Err(ApiError::NotAuthorized("Not monitor user".to_owned()))
    }
}

/// Every node of the cluster.
async fn all(api: &Api, listing: &Listing) -> Result<(Vec<Value>, Unknown), ApiError> {
    let mut rows = vec![own(api, listing).await?];
    let query = listing.query.clone();
    let heard = api.ask_others::<Value>(&Question::Node { query }).await?;
    rows.extend(heard.answers.into_iter().map(|(_, row)| row));
    if !heard.unknown.is_empty() {
        let status = api.node.cluster_status().await?;
        let nodes = status.iter().flat_map(|status| &status.nodes);
        let silent = nodes.filter(|node| heard.unknown.contains(&node.name.to_string()));
        rows.extend(silent.map(unknown));
    }
    rows.sort_by_key(|row| row["name"].as_str().map(str::to_owned));
    Ok((rows, heard.unknown))
}

/// This node.
pub(crate) async fn own(api: &Api, listing: &Listing) -> Result<Value, ApiError> {
    let status = api.node.cluster_status().await?;
    let condition = api.node.condition().await?;
    Ok(shown(api, status.as_deref(), &condition, listing))
}

fn shown(
    api: &Api,
    status: Option<&ClusterStatus>,
    condition: &Condition,
    listing: &Listing,
) -> Value {
    let settings = &api.settings;
    let machine: Machine = (settings.machine.0)();
    let nodes = status.map_or(&[][..], |status| &status.nodes);
    let me = nodes
        .iter()
        .find(|it| it.name.to_string() == settings.node_name);
    let kind =
        |(name, description)| json!({"name": name, "description": description, "enabled": true});
    let mut row = json!({
        "name": settings.node_name,
        "type": "disc",
        "running": true,
        "being_drained": me.is_some_and(|me| me.is_drained),
        "partitions": [],
        "os_pid": machine.pid.to_string(),
        "uptime": machine.uptime_millis,
        "processors": machine.processor_count,
        "rates_mode": "basic",
        "fd_used": machine.fd_used,
        "fd_total": machine.fd_max,
        "sockets_total": machine.fd_max,
        "proc_total": 1_048_576,
        "mem_used": machine.memory_used_size_bytes,
        "mem_limit": condition.kept_size_bytes_max,
        "mem_alarm": condition.has_memory_alarm,
        "mem_calculation_strategy": "rss",
        "disk_free": condition.disk_free_size_bytes.unwrap_or(0),
        "disk_free_limit": condition.disk_free_limit_size_bytes,
        "disk_free_alarm": condition.has_disk_alarm,
        "db_dir": machine.data_dir,
        "config_files": [],
        "log_files": [],
        "net_ticktime": 60,
        "enabled_plugins": ["rabbitmq_management", "rabbitmq_prometheus"],
        "applications": [
            {"name": "rabbit", "description": settings.product, "version": settings.product_version},
            {"name": "staunch", "description": "Staunch", "version": settings.version},
        ],
        "auth_mechanisms": [],
        "exchange_types": EXCHANGE_TYPES.map(kind),
        "contexts": contexts(api),
        "cluster_links": [],
        "metrics_gc_queue_length": {},
    });
    for name in NOT_HERE {
        row[name] = 0.into();
        row[format!("{name}_details")] = json!({"rate": 0.0});
    }
    for name in ["mem_used", "fd_used", "sockets_used", "disk_free"] {
        // They are looked at only when they are asked for.
        row[format!("{name}_details")] = json!({"rate": 0.0});
    }
    let statistics = api.statistics.read();
    let (churn, round) = (&statistics.totals().churn, statistics.round());
    row["sockets_used"] = statistics.connections().count().into();
    extend(
        &mut row,
        moving(&CHURN_NAMES, churn, round, listing.windows.node),
    );
    row
}

/// A node that says nothing.
fn unknown(node: &NodeStatus) -> Value {
    json!({
        "name": node.name.to_string(),
        "type": "disc",
        "running": false,
        "being_drained": node.is_drained,
        "partitions": [],
    })
}
