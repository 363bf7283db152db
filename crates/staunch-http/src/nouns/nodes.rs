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
    listing::Listing,
    nouns::overview::{EXCHANGE_TYPES, contexts},
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
    listing.answer(all(&api, &listing).await?)
}

pub(crate) async fn get(
    State(api): State<Api>,
    caller: Caller,
    listing: Listing,
    Path(node): Path<String>,
) -> Answer {
    monitor(&caller)?;
    let found = find(&api, &listing, &node).await?;
    body::ok(&listing.only_columns(found))
}

/// Where the memory of a node is, as far as that is told apart.
pub(crate) async fn memory(
    State(api): State<Api>,
    caller: Caller,
    Path(node): Path<String>,
) -> Answer {
    monitor(&caller)?;
    find(&api, &Listing::default(), &node).await?;
    if node != api.settings.node_name {
        return body::ok(&json!({"memory": "not_available"}));
    }
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
    body::ok(&json!({"memory": parts}))
}

fn monitor(caller: &Caller) -> Result<(), ApiError> {
    if caller.is_monitor() {
        Ok(())
    } else {
        Err(ApiError::NotAuthorized("Not monitor user".to_owned()))
    }
}

async fn find(api: &Api, listing: &Listing, node: &str) -> Result<Value, ApiError> {
    let nodes = all(api, listing).await?;
    let found = nodes.into_iter().find(|row| row["name"] == node);
    found.ok_or(ApiError::NotFound)
}

/// Every node of the cluster. Of others this one knows whether they are there.
async fn all(api: &Api, listing: &Listing) -> Result<Vec<Value>, ApiError> {
    let status = api.node.cluster_status().await?;
    let condition = api.node.condition().await?;
    let mut rows = vec![own(api, status.as_deref(), &condition, listing)];
    let others = status.iter().flat_map(|status| &status.nodes);
    let others = others.filter(|node| node.name.to_string() != api.settings.node_name);
    rows.extend(others.map(other));
    rows.sort_by_key(|row| row["name"].as_str().map(str::to_owned));
    Ok(rows)
}

fn own(
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

/// Another node, of which little is known here.
fn other(node: &NodeStatus) -> Value {
    json!({
        "name": node.name.to_string(),
        "type": "disc",
        "running": node.is_up,
        "being_drained": node.is_drained,
        "partitions": [],
    })
}
