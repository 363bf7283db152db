//! Every path below `/api`, what is said of it, and who answers. Long because it is one table.
#![expect(clippy::too_many_lines, reason = "tables are as long as they are")]

use super::{
    bindings, channels, cluster, connections, dead_letters, definitions, events, exchanges,
    failovers, health, horizon, jobs, limits, membership, messages, nodes, overview, page_sessions,
    parameters, permissions, policies, queues, stream, topic_permissions, users, vhosts,
};
use crate::{
    openapi,
    routes::{Answered, Routes, delete, get, post, put},
};

/// What may be asked of the future.
const WHAT_IF: [&str; 6] = [
    "rate_factor",
    "consumers_gone_seconds",
    "consumers_per_second",
    "one_node_fewer",
    "limit",
    "capacity",
];

/// Every path below `/api`.
pub(crate) fn routes() -> Routes {
    Routes::default()
        .merge(access_routes().tagged("Who may do what"))
        .merge(setting_routes().tagged("Policies, limits and parameters"))
        .merge(queue_routes().tagged("Queues"))
        .merge(exchange_routes().tagged("Exchanges and bindings"))
        .merge(client_routes().tagged("Clients"))
        .merge(monitoring_routes().tagged("The node and its cluster"))
        .merge(health_routes().tagged("Health checks"))
        .merge(own_routes().below("/staunch/v1").tagged("Staunch's own"))
}

/// Connections, channels, consumers.
fn client_routes() -> Routes {
    Routes::default()
        .route("/whoami", [get(overview::whoami, "Who asks").one("Whoami")])
        .route(
            "/connections",
            [get(connections::list, "All connections").pages("Connection")],
        )
        .route(
            "/connections/username/{user}",
            [
                delete(
                    connections::delete_user,
                    "Closes the connections of a user, for the reason in `X-Reason`",
                ),
                get(connections::list_user, "The connections of a user").pages("Connection"),
            ],
        )
        .route(
            "/connections/{name}",
            [
                get(connections::get, "A connection").row("Connection"),
                delete(
                    connections::delete,
                    "Closes a connection, for the reason in `X-Reason`",
                ),
            ],
        )
        .route(
            "/connections/{name}/channels",
            [get(channels::list_connection, "The channels of a connection").pages("Channel")],
        )
        .route(
            "/vhosts/{vhost}/connections",
            [
                get(connections::list_vhost, "The connections to a virtual host")
                    .pages("Connection"),
            ],
        )
        .route(
            "/channels",
            [get(channels::list, "All channels").pages("Channel")],
        )
        .route(
            "/channels/{channel}",
            [get(channels::get, "A channel").row("Channel")],
        )
        .route(
            "/vhosts/{vhost}/channels",
            [get(channels::list_vhost, "The channels in a virtual host").pages("Channel")],
        )
        .route(
            "/consumers",
            [get(channels::consumers, "All consumers").pages("Consumer")],
        )
        .route(
            "/consumers/{vhost}",
            [get(channels::consumers_vhost, "The consumers in a virtual host").pages("Consumer")],
        )
}

/// How things are.
fn monitoring_routes() -> Routes {
    Routes::default()
        .route(
            "/overview",
            [get(overview::get, "The whole at a glance").row("Overview")],
        )
        .route("/nodes", [get(nodes::list, "All nodes").pages("Node")])
        .route("/nodes/{node}", [get(nodes::get, "A node").row("Node")])
        .route(
            "/nodes/{node}/memory",
            [get(nodes::memory, "Where the memory of a node is").one("NodeMemory")],
        )
        .route(
            "/definitions",
            [
                get(definitions::export, "All that has been defined").one("Definitions"),
                post(definitions::import, "Defines what is not there yet").takes("Definitions"),
            ],
        )
        .route(
            "/definitions/{vhost}",
            [
                get(
                    definitions::export_vhost,
                    "All that has been defined in a virtual host",
                )
                .one("VhostDefinitions"),
                post(
                    definitions::import_vhost,
                    "Defines what is not there yet in a virtual host",
                )
                .takes("VhostDefinitions"),
            ],
        )
        .route(
            "/feature-flags",
            [get(health::feature_flags, "Features that clients ask for").all("FeatureFlag")],
        )
        .route(
            "/feature-flags/{feature}/enable",
            [
                put(health::enable_feature, "Enables a feature, as all are")
                    .answered(Answered::Done),
            ],
        )
        .route(
            "/rebalance/queues",
            [post(
                membership::rebalance_queues,
                "Moves a few replicas to nodes that keep fewer",
            )],
        )
        .route(
            "/auth/attempts/{node}",
            [get(health::login_attempts, "Nothing: logins are not counted").one("Nothing")],
        )
        .route(
            "/deprecated-features",
            [get(health::none, "Nothing").one("Nothing")],
        )
        .route(
            "/deprecated-features/used",
            [get(health::none, "Nothing").one("Nothing")],
        )
        .route(
            "/federation-links",
            [get(health::none, "Nothing: no federation").one("Nothing")],
        )
        .route(
            "/federation-links/{vhost}",
            [get(health::none, "Nothing: no federation").one("Nothing")],
        )
        .route(
            "/shovels",
            [get(health::none, "Nothing: no shovels").one("Nothing")],
        )
        .route(
            "/shovels/{vhost}",
            [get(health::none, "Nothing: no shovels").one("Nothing")],
        )
        .route(
            "/stream/connections",
            [get(health::none, "Nothing: no streams").one("Nothing")],
        )
        .route(
            "/stream/connections/{vhost}",
            [get(health::none, "Nothing: no streams").one("Nothing")],
        )
        .route(
            "/stream/publishers",
            [get(health::none, "Nothing: no streams").one("Nothing")],
        )
        .route(
            "/stream/publishers/{vhost}",
            [get(health::none, "Nothing: no streams").one("Nothing")],
        )
        .route(
            "/stream/consumers",
            [get(health::none, "Nothing: no streams").one("Nothing")],
        )
        .route(
            "/stream/consumers/{vhost}",
            [get(health::none, "Nothing: no streams").one("Nothing")],
        )
        .route(
            "/extensions",
            [get(health::extensions, "What RabbitMQ's page loads").all("Extension")],
        )
        .route(
            "/cluster-name",
            [
                get(health::cluster_name, "The name of the cluster").one("ClusterName"),
                put(health::set_cluster_name, "Names the cluster")
                    .takes("ClusterName")
                    .answered(Answered::Done),
            ],
        )
        .route(
            "/version",
            [get(health::version, "The version that clients are told")
                .one("Version")
                .open()],
        )
        .route(
            "/auth",
            [get(health::auth, "How to log in").one("LoginKinds")],
        )
}

/// What tells whether things are well.
fn health_routes() -> Routes {
    let checks = Routes::default()
        .route("/alarms", [get(health::alarms, "No alarm is on").check()])
        .route(
            "/local-alarms",
            [get(health::local_alarms, "No alarm is on here").check()],
        )
        .route(
            "/virtual-hosts",
            [get(health::virtual_hosts, "All virtual hosts are up").check()],
        )
        .route(
            "/node-is-quorum-critical",
            [get(
                health::quorum_critical,
                "Nothing would stand still without this node",
            )
            .check()],
        )
        .route(
            "/node-is-mirror-sync-critical",
            [get(health::mirror_sync_critical, "There are no mirrored queues").check()],
        )
        .route(
            "/port-listener/{port}",
            [get(health::port_listener, "Something listens on a port").check()],
        )
        .route(
            "/protocol-listener/{protocol}",
            [get(
                health::protocol_listener,
                "Something listens for a protocol",
            )
            .check()],
        )
        .route(
            "/certificate-expiration/{within}/{unit}",
            [get(
                health::certificate_expiration,
                "No certificate expires so soon",
            )
            .check()],
        )
        .route(
            "/is-in-service",
            [get(health::in_service, "The node takes clients")
                .check()
                .open()],
        )
        .route(
            "/ready-to-serve-clients",
            [get(health::in_service, "The node takes clients")
                .check()
                .open()],
        )
        .route(
            "/below-node-connection-limit",
            [get(
                health::connection_limit,
                "One more connection would be let in",
            )
            .check()
            .open()],
        )
        .route(
            "/reached-target-cluster-size",
            [get(
                health::target_cluster_size,
                "There are as many nodes as there should be",
            )
            .check()
            .open()],
        );
    checks
        .below("/health/checks")
        .route(
            "/aliveness-test/{vhost}",
            [get(health::aliveness, "A virtual host works").check()],
        )
        .route(
            "/healthchecks/node",
            [get(health::node, "The node answers").check()],
        )
        .route(
            "/healthchecks/node/{node}",
            [get(health::node, "The node answers").check()],
        )
}

/// What RabbitMQ does not have.
fn own_routes() -> Routes {
    Routes::default()
        .route(
            "/openapi.json",
            [get(openapi::get, "This document").one("OpenApi").open()],
        )
        .route(
            "/events",
            [get(
                events::list,
                "What has happened; with `Accept: text/event-stream` as it happens",
            )
            .asks(&["count", "name"])
            .one("Events")],
        )
        .route(
            "/failovers",
            [get(
                failovers::list,
                "Which nodes were lost, how others took over, and what took so long",
            )
            .one("Failovers")],
        )
        .route(
            "/jobs",
            [
                get(jobs::list, "Messages on their way elsewhere, and those that were").all("Job"),
                post(jobs::begin, "Replays, moves or drops messages")
                    .takes("Task")
                    .one("Job"),
            ],
        )
        .route(
            "/jobs/{job}",
            [
                get(jobs::get, "How far a job is").one("Job"),
                delete(jobs::cancel, "Has a job end where it is"),
            ],
        )
        .route(
            "/dead-letters",
            [get(
                dead_letters::list,
                "The queues that dead letters of others go to",
            )
            .all("DeadLetterQueue")],
        )
        .route(
            "/dead-letters/{vhost}/{name}",
            [post(
                dead_letters::look,
                "Why and where the first messages of a queue died; they are redelivered from then on",
            )
            .takes("DeadLetterLook")
            .one("DeadLetters")],
        )
        .route(
            "/stream",
            [get(
                stream::follow,
                "Answers to several GETs again and again, as they change",
            )
            .asks(&["get", "interval"])
            .streams("StreamEvent")],
        )
        .route(
            "/session",
            [
                get(page_sessions::get, "Who asks, by cookie or password").one("PageSession"),
                post(page_sessions::open, "Logs in, and sets a cookie")
                    .takes("PageLogin")
                    .one("PageSession")
                    .open(),
                delete(page_sessions::end, "Logs out")
                    .asks(&["path"])
                    .open(),
            ],
        )
        .route(
            "/cluster",
            [get(cluster::status, "The cluster as this node sees it").one("Cluster")],
        )
        .route(
            "/cluster/rebalance",
            [post(
                membership::rebalance,
                "Moves a few replicas to nodes that keep fewer",
            )
            .one("Rebalanced")],
        )
        .route(
            "/nodes/{node}",
            [delete(
                membership::remove,
                "Has a node leave the cluster, or gives it up",
            )
            .asks(&["force"])
            .one("NodeRemoved")],
        )
        .route(
            "/nodes/{node}/drain",
            [
                put(cluster::drain, "Has a node lead nothing").answered(Answered::Done),
                delete(cluster::revive, "Lets a node lead again"),
            ],
        )
        .route(
            "/nodes/{node}/safe-to-stop",
            [get(
                membership::safe_to_stop,
                "What would stand still without a node",
            )
            .one("StopCheck")],
        )
        .route(
            "/queues/{vhost}/{name}/replicas",
            [
                get(cluster::replicas, "Where a queue is kept, and who leads").one("Replicas"),
                post(
                    membership::change_replicas,
                    "Has a queue kept by other nodes",
                )
                .takes("ReplicaChange"),
            ],
        )
        .route(
            "/horizon",
            [get(
                horizon::list,
                "How long node, virtual hosts and queues hold out",
            )
            .asks(&[
                "basis",
                "slo",
                "vhost",
                "page",
                "page_size",
                "name",
                "use_regex",
            ])
            .one("HorizonList")],
        )
        .route(
            "/horizon/queues/{vhost}/{name}",
            [get(horizon::get, "How long a queue holds out").one("QueueHorizon")],
        )
        .route(
            "/horizon/what-if",
            [
                get(horizon::what_if::asked_of_node, "What if, of the node")
                    .asks(&WHAT_IF)
                    .one("WhatIfAnswer"),
                post(horizon::what_if::told_of_node, "What if, of the node")
                    .takes("WhatIf")
                    .one("WhatIfAnswer"),
            ],
        )
        .route(
            "/horizon/queues/{vhost}/{name}/what-if",
            [
                get(horizon::what_if::asked_of_queue, "What if, of a queue")
                    .asks(&WHAT_IF)
                    .one("WhatIfAnswer"),
                post(horizon::what_if::told_of_queue, "What if, of a queue")
                    .takes("WhatIf")
                    .one("WhatIfAnswer"),
            ],
        )
}

/// Who there is and what they may do.
fn access_routes() -> Routes {
    Routes::default()
        .route("/users", [get(users::list, "All users").all("User")])
        .route(
            "/users/bulk-delete",
            [post(users::delete_many, "Deletes users").takes("UserNames")],
        )
        .route(
            "/users/without-permissions",
            [get(
                users::list_without_permissions,
                "Users that no virtual host lets in",
            )
            .all("User")],
        )
        .route(
            "/users/{user}",
            [
                get(users::get, "A user").one("User"),
                put(users::put, "Creates or changes a user").takes("UserBody"),
                delete(users::delete, "Deletes a user"),
            ],
        )
        .route(
            "/users/{user}/permissions",
            [get(permissions::list_user, "The permissions of a user").all("Permission")],
        )
        .route(
            "/users/{user}/topic-permissions",
            [get(
                topic_permissions::list_user,
                "The topic permissions of a user",
            )
            .all("TopicPermission")],
        )
        .route(
            "/permissions",
            [get(permissions::list, "All permissions").all("Permission")],
        )
        .route(
            "/permissions/{vhost}/{user}",
            [
                get(permissions::get, "What a user may do in a virtual host").one("Permission"),
                put(
                    permissions::put,
                    "Says what a user may do in a virtual host",
                )
                .takes("PermissionBody"),
                delete(permissions::delete, "Shuts a user out of a virtual host"),
            ],
        )
        .route(
            "/topic-permissions",
            [get(topic_permissions::list, "All topic permissions").all("TopicPermission")],
        )
        .route(
            "/topic-permissions/{vhost}/{user}",
            [
                get(
                    topic_permissions::get,
                    "The topic permissions of a user in a virtual host",
                )
                .all("TopicPermission"),
                put(
                    topic_permissions::put,
                    "Says which routing keys a user may use",
                )
                .takes("TopicPermissionBody"),
                delete(
                    topic_permissions::delete,
                    "Lifts the topic permissions of a user",
                ),
            ],
        )
        .route(
            "/topic-permissions/{vhost}/{user}/{exchange}",
            [
                get(
                    topic_permissions::get_one,
                    "The topic permissions of a user at an exchange",
                )
                .one("TopicPermission"),
                delete(topic_permissions::delete_one, "Lifts them"),
            ],
        )
        .route(
            "/vhosts",
            [get(vhosts::list, "All virtual hosts").pages("Vhost")],
        )
        .route(
            "/vhosts/{vhost}",
            [
                get(vhosts::get, "A virtual host").row("Vhost"),
                put(vhosts::put, "Creates or changes a virtual host").takes("VhostBody"),
                delete(
                    vhosts::delete,
                    "Deletes a virtual host and all that is in it",
                ),
            ],
        )
        .route(
            "/vhosts/{vhost}/deletion/protection",
            [
                post(vhosts::protect, "Has nobody delete a virtual host"),
                delete(vhosts::unprotect, "Lets a virtual host be deleted again"),
            ],
        )
        .route(
            "/vhosts/{vhost}/permissions",
            [get(permissions::list_vhost, "Who may do what in a virtual host").all("Permission")],
        )
        .route(
            "/vhosts/{vhost}/topic-permissions",
            [get(
                topic_permissions::list_vhost,
                "The topic permissions in a virtual host",
            )
            .all("TopicPermission")],
        )
}

/// Policies, limits, parameters.
fn setting_routes() -> Routes {
    policy_routes()
        .route(
            "/vhost-limits",
            [get(limits::vhost::list, "Limits of virtual hosts").all("VhostLimits")],
        )
        .route(
            "/vhost-limits/{vhost}",
            [get(limits::vhost::get, "The limits of a virtual host").all("VhostLimits")],
        )
        .route(
            "/vhost-limits/{vhost}/{limit}",
            [
                put(
                    limits::vhost::put,
                    "Limits `max-connections` or `max-queues`",
                )
                .takes("LimitBody")
                .answered(Answered::Done),
                delete(limits::vhost::delete, "Lifts a limit"),
            ],
        )
        .route(
            "/user-limits",
            [get(limits::user::list, "Limits of users").all("UserLimits")],
        )
        .route(
            "/user-limits/{user}",
            [get(limits::user::get, "The limits of a user").all("UserLimits")],
        )
        .route(
            "/user-limits/{user}/{limit}",
            [
                put(
                    limits::user::put,
                    "Limits `max-connections` or `max-channels`",
                )
                .takes("LimitBody")
                .answered(Answered::Done),
                delete(limits::user::delete, "Lifts a limit"),
            ],
        )
        .route(
            "/parameters",
            [get(parameters::list, "All parameters").all("Parameter")],
        )
        .route(
            "/parameters/{component}",
            [get(parameters::list_component, "The parameters of a component").all("Parameter")],
        )
        .route(
            "/parameters/{component}/{vhost}",
            [get(
                parameters::list_vhost,
                "The parameters of a component in a virtual host",
            )
            .all("Parameter")],
        )
        .route(
            "/parameters/{component}/{vhost}/{name}",
            [
                get(parameters::get, "A parameter").one("Parameter"),
                put(parameters::put, "Sets a parameter").takes("ParameterBody"),
                delete(parameters::delete, "Clears a parameter"),
            ],
        )
        .route(
            "/global-parameters",
            [get(parameters::global::list, "All global parameters").all("GlobalParameter")],
        )
        .route(
            "/global-parameters/{name}",
            [
                get(parameters::global::get, "A global parameter").one("GlobalParameter"),
                put(parameters::global::put, "Sets a global parameter").takes("ParameterBody"),
                delete(parameters::global::delete, "Clears a global parameter"),
            ],
        )
}

fn policy_routes() -> Routes {
    Routes::default()
        .route(
            "/policies",
            [get(policies::list, "All policies").all("Policy")],
        )
        .route(
            "/policies/{vhost}",
            [get(policies::list_vhost, "The policies in a virtual host").all("Policy")],
        )
        .route(
            "/policies/{vhost}/{name}",
            [
                get(policies::get, "A policy").one("Policy"),
                put(policies::put, "Sets a policy").takes("PolicyBody"),
                delete(policies::delete, "Clears a policy"),
            ],
        )
        .route(
            "/operator-policies",
            [get(policies::operator::list, "All operator policies").all("Policy")],
        )
        .route(
            "/operator-policies/{vhost}",
            [get(
                policies::operator::list_vhost,
                "The operator policies in a virtual host",
            )
            .all("Policy")],
        )
        .route(
            "/operator-policies/{vhost}/{name}",
            [
                get(policies::operator::get, "An operator policy").one("Policy"),
                put(policies::operator::put, "Sets an operator policy").takes("PolicyBody"),
                delete(policies::operator::delete, "Clears an operator policy"),
            ],
        )
}

/// Queues and what is in them.
fn queue_routes() -> Routes {
    Routes::default()
        .route("/queues", [get(queues::list, "All queues").pages("Queue")])
        .route(
            "/queues/detailed",
            [get(queues::list, "All queues").pages("Queue")],
        )
        .route(
            "/queues/{vhost}",
            [get(queues::list_vhost, "The queues in a virtual host").pages("Queue")],
        )
        .route(
            "/queues/{vhost}/{name}",
            [
                get(queues::get, "A queue").row("Queue"),
                put(queues::put, "Declares a queue").takes("QueueBody"),
                delete(queues::delete, "Deletes a queue").asks(&["if-empty", "if-unused"]),
            ],
        )
        .route(
            "/queues/{vhost}/{name}/bindings",
            [get(bindings::of_queue, "What a queue is bound to").all("Binding")],
        )
        .route(
            "/queues/{vhost}/{name}/get",
            [post(messages::get, "Takes messages for a look")
                .takes("GetBody")
                .all("Message")],
        )
        .route(
            "/queues/{vhost}/{name}/contents",
            [delete(messages::purge, "Purges a queue")],
        )
}

/// Exchanges, and who is bound to them.
fn exchange_routes() -> Routes {
    Routes::default()
        .route(
            "/exchanges",
            [get(exchanges::list, "All exchanges").pages("Exchange")],
        )
        .route(
            "/exchanges/{vhost}",
            [get(exchanges::list_vhost, "The exchanges in a virtual host").pages("Exchange")],
        )
        .route(
            "/exchanges/{vhost}/{name}",
            [
                get(exchanges::get, "An exchange").row("Exchange"),
                put(exchanges::put, "Declares an exchange").takes("ExchangeBody"),
                delete(exchanges::delete, "Deletes an exchange").asks(&["if-unused"]),
            ],
        )
        .route(
            "/exchanges/{vhost}/{name}/publish",
            [post(messages::publish, "Publishes a message")
                .takes("PublishBody")
                .one("Published")],
        )
        .route(
            "/exchanges/{vhost}/{name}/bindings/source",
            [get(bindings::from_exchange, "What is bound to an exchange").all("Binding")],
        )
        .route(
            "/exchanges/{vhost}/{name}/bindings/destination",
            [get(bindings::to_exchange, "What an exchange is bound to").all("Binding")],
        )
        .route(
            "/bindings",
            [get(bindings::list, "All bindings").all("Binding")],
        )
        .route(
            "/bindings/{vhost}",
            [get(bindings::list_vhost, "The bindings in a virtual host").all("Binding")],
        )
        .route(
            "/bindings/{vhost}/e/{source}/{kind}/{destination}",
            [
                get(bindings::between, "The bindings between two").all("Binding"),
                post(bindings::post, "Binds")
                    .takes("BindingBody")
                    .answered(Answered::Location),
            ],
        )
        .route(
            "/bindings/{vhost}/e/{source}/{kind}/{destination}/{properties}",
            [
                get(bindings::get, "A binding").one("Binding"),
                delete(bindings::delete, "Unbinds"),
            ],
        )
}
