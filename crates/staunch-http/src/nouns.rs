//! What the interface speaks of, one file each.

use axum::{
    Router,
    routing::{delete, get, post, put},
};

use crate::Api;

mod bindings;
pub(crate) mod channels;
mod cluster;
pub(crate) mod connections;
mod definitions;
pub(crate) mod exchanges;
mod health;
pub(crate) mod horizon;
mod limits;
mod membership;
mod messages;
pub(crate) mod nodes;
pub(crate) mod overview;
mod parameters;
mod permissions;
mod policies;
pub(crate) mod queues;
mod topic_permissions;
mod users;
pub(crate) mod vhosts;

/// Every path below `/api`.
pub(crate) fn routes() -> Router<Api> {
    Router::new()
        .merge(access_routes())
        .merge(setting_routes())
        .merge(messaging_routes())
        .merge(monitoring_routes())
        .merge(health_routes())
        .nest("/staunch/v1", own_routes())
        .route("/overview", get(overview::get))
        .route("/whoami", get(overview::whoami))
        .route("/connections", get(connections::list))
        .route("/connections/username/{user}", get(connections::list_user))
        .route(
            "/connections/{name}",
            get(connections::get).delete(connections::delete),
        )
        .route("/vhosts/{vhost}/connections", get(connections::list_vhost))
        .route(
            "/definitions",
            get(definitions::export).post(definitions::import),
        )
        .route(
            "/definitions/{vhost}",
            get(definitions::export_vhost).post(definitions::import_vhost),
        )
}

/// How things are.
fn monitoring_routes() -> Router<Api> {
    Router::new()
        .route("/nodes", get(nodes::list))
        .route("/nodes/{node}", get(nodes::get))
        .route("/nodes/{node}/memory", get(nodes::memory))
        .route("/channels", get(channels::list))
        .route("/channels/{channel}", get(channels::get))
        .route("/vhosts/{vhost}/channels", get(channels::list_vhost))
        .route(
            "/connections/{name}/channels",
            get(channels::list_connection),
        )
        .route("/consumers", get(channels::consumers))
        .route("/consumers/{vhost}", get(channels::consumers_vhost))
        .route("/aliveness-test/{vhost}", get(health::aliveness))
        .route("/healthchecks/node", get(health::node))
        .route("/healthchecks/node/{node}", get(health::node))
        .route("/feature-flags", get(health::feature_flags))
        .route("/deprecated-features", get(health::none))
        .route("/deprecated-features/used", get(health::none))
        .route("/federation-links", get(health::none))
        .route("/federation-links/{vhost}", get(health::none))
        .route("/shovels", get(health::none))
        .route("/shovels/{vhost}", get(health::none))
        .route("/extensions", get(health::extensions))
        .route(
            "/cluster-name",
            get(health::cluster_name).put(health::set_cluster_name),
        )
        .route("/version", get(health::version))
        .route("/auth", get(health::auth))
}

fn health_routes() -> Router<Api> {
    let checks = Router::new()
        .route("/alarms", get(health::alarms))
        .route("/local-alarms", get(health::local_alarms))
        .route("/virtual-hosts", get(health::virtual_hosts))
        .route("/node-is-quorum-critical", get(health::quorum_critical))
        .route(
            "/node-is-mirror-sync-critical",
            get(health::mirror_sync_critical),
        )
        .route("/port-listener/{port}", get(health::port_listener))
        .route(
            "/protocol-listener/{protocol}",
            get(health::protocol_listener),
        )
        .route(
            "/certificate-expiration/{within}/{unit}",
            get(health::certificate_expiration),
        )
        .route("/is-in-service", get(health::in_service))
        .route("/ready-to-serve-clients", get(health::in_service))
        .route(
            "/below-node-connection-limit",
            get(health::connection_limit),
        )
        .route(
            "/reached-target-cluster-size",
            get(health::target_cluster_size),
        );
    Router::new().nest("/health/checks", checks)
}

/// What RabbitMQ does not have.
fn own_routes() -> Router<Api> {
    Router::new()
        .route("/cluster", get(cluster::status))
        .route(
            "/nodes/{node}/drain",
            put(cluster::drain).delete(cluster::revive),
        )
        .route("/nodes/{node}", delete(membership::remove))
        .route("/nodes/{node}/safe-to-stop", get(membership::safe_to_stop))
        .route("/cluster/rebalance", post(membership::rebalance))
        .route("/horizon", get(horizon::list))
        .route(
            "/horizon/what-if",
            get(horizon::what_if::asked_of_node).post(horizon::what_if::told_of_node),
        )
        .route("/horizon/queues/{vhost}/{name}", get(horizon::get))
        .route(
            "/horizon/queues/{vhost}/{name}/what-if",
            get(horizon::what_if::asked_of_queue).post(horizon::what_if::told_of_queue),
        )
        .route(
            "/queues/{vhost}/{name}/replicas",
            get(cluster::replicas).post(membership::change_replicas),
        )
}

/// Who there is and what they may do.
fn access_routes() -> Router<Api> {
    Router::new()
        .route("/users", get(users::list))
        .route("/users/bulk-delete", post(users::delete_many))
        .route(
            "/users/without-permissions",
            get(users::list_without_permissions),
        )
        .route(
            "/users/{user}",
            get(users::get).put(users::put).delete(users::delete),
        )
        .route("/users/{user}/permissions", get(permissions::list_user))
        .route(
            "/users/{user}/topic-permissions",
            get(topic_permissions::list_user),
        )
        .route("/permissions", get(permissions::list))
        .route(
            "/permissions/{vhost}/{user}",
            get(permissions::get)
                .put(permissions::put)
                .delete(permissions::delete),
        )
        .route("/topic-permissions", get(topic_permissions::list))
        .route(
            "/topic-permissions/{vhost}/{user}",
            get(topic_permissions::get)
                .put(topic_permissions::put)
                .delete(topic_permissions::delete),
        )
        .route(
            "/topic-permissions/{vhost}/{user}/{exchange}",
            get(topic_permissions::get_one).delete(topic_permissions::delete_one),
        )
        .route("/vhosts", get(vhosts::list))
        .route(
            "/vhosts/{vhost}",
            get(vhosts::get).put(vhosts::put).delete(vhosts::delete),
        )
        .route("/vhosts/{vhost}/permissions", get(permissions::list_vhost))
        .route(
            "/vhosts/{vhost}/topic-permissions",
            get(topic_permissions::list_vhost),
        )
}

/// Policies, limits, parameters.
fn setting_routes() -> Router<Api> {
    Router::new()
        .route("/policies", get(policies::list))
        .route("/policies/{vhost}", get(policies::list_vhost))
        .route(
            "/policies/{vhost}/{name}",
            get(policies::get)
                .put(policies::put)
                .delete(policies::delete),
        )
        .route("/operator-policies", get(policies::operator::list))
        .route(
            "/operator-policies/{vhost}",
            get(policies::operator::list_vhost),
        )
        .route(
            "/operator-policies/{vhost}/{name}",
            get(policies::operator::get)
                .put(policies::operator::put)
                .delete(policies::operator::delete),
        )
        .route("/vhost-limits", get(limits::vhost::list))
        .route("/vhost-limits/{vhost}", get(limits::vhost::get))
        .route(
            "/vhost-limits/{vhost}/{name}",
            put(limits::vhost::put).delete(limits::vhost::delete),
        )
        .route("/user-limits", get(limits::user::list))
        .route("/user-limits/{user}", get(limits::user::get))
        .route(
            "/user-limits/{user}/{name}",
            put(limits::user::put).delete(limits::user::delete),
        )
        .route("/parameters", get(parameters::list))
        .route("/parameters/{component}", get(parameters::list_component))
        .route(
            "/parameters/{component}/{vhost}",
            get(parameters::list_vhost),
        )
        .route(
            "/parameters/{component}/{vhost}/{name}",
            get(parameters::get)
                .put(parameters::put)
                .delete(parameters::delete),
        )
        .route("/global-parameters", get(parameters::global::list))
        .route(
            "/global-parameters/{name}",
            get(parameters::global::get)
                .put(parameters::global::put)
                .delete(parameters::global::delete),
        )
}

/// Queues, exchanges, bindings.
fn messaging_routes() -> Router<Api> {
    Router::new()
        .route("/queues", get(queues::list))
        .route("/queues/detailed", get(queues::list))
        .route("/queues/{vhost}", get(queues::list_vhost))
        .route(
            "/queues/{vhost}/{name}",
            get(queues::get).put(queues::put).delete(queues::delete),
        )
        .route("/queues/{vhost}/{name}/bindings", get(bindings::of_queue))
        .route("/queues/{vhost}/{name}/get", post(messages::get))
        .route("/queues/{vhost}/{name}/contents", delete(messages::purge))
        .route("/exchanges/{vhost}/{name}/publish", post(messages::publish))
        .route("/exchanges", get(exchanges::list))
        .route("/exchanges/{vhost}", get(exchanges::list_vhost))
        .route(
            "/exchanges/{vhost}/{name}",
            get(exchanges::get)
                .put(exchanges::put)
                .delete(exchanges::delete),
        )
        .route(
            "/exchanges/{vhost}/{name}/bindings/source",
            get(bindings::from_exchange),
        )
        .route(
            "/exchanges/{vhost}/{name}/bindings/destination",
            get(bindings::to_exchange),
        )
        .route("/bindings", get(bindings::list))
        .route("/bindings/{vhost}", get(bindings::list_vhost))
        .route(
            "/bindings/{vhost}/e/{source}/{kind}/{destination}",
            get(bindings::between).post(bindings::post),
        )
        .route(
            "/bindings/{vhost}/e/{source}/{kind}/{destination}/{properties}",
            get(bindings::get).delete(bindings::delete),
        )
}
