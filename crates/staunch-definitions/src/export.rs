//! Writing a definitions file.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value as Json, json};
use staunch_broker::password::HashAlgorithm;
use staunch_broker::{
    Binding, Catalog, PasswordHash, Policy, PolicyScope, QueueEntry, QueueKind, User, UserLimits,
    VhostLimits, VhostMetadata,
};
use staunch_types::request::Destination;
use staunch_types::{ExchangeOptions, Name};

use crate::value::{to_json, value_to_json};

/// Version of RabbitMQ whose form of the file this is.
const RABBITMQ_VERSION: &str = "4.2.0";

/// Everything that can be exported, as JSON; with `vhost` only what belongs to that one, in the
/// form for a single virtual host, which names none.
///
/// Exclusive queues, and queues and exchanges whose names begin with `amq.`, are left out, and so
/// are bindings to such queues. Internal exchanges are not, though RabbitMQ leaves them out: it
/// imports them, and without them bindings would be lost. RabbitMQ cannot read a hash of Argon2id:
/// for it such users have no password; Staunch finds the hash under a key of its own.
///
/// # Panics
/// Never: what the catalog holds can be said in JSON.
pub fn export(catalog: &Catalog, vhost: Option<&Name>) -> Vec<u8> {
    let mut file = Map::new();
    file.insert("rabbit_version".to_owned(), RABBITMQ_VERSION.into());
    file.insert("rabbitmq_version".to_owned(), RABBITMQ_VERSION.into());
    file.insert("product_name".to_owned(), "Staunch".into());
    let version = env!("CARGO_PKG_VERSION");
    file.insert("product_version".to_owned(), version.into());
    match vhost {
        None => cluster(catalog, &mut file),
        Some(vhost) => single_vhost(catalog, vhost, &mut file),
    }
    serde_json::to_vec_pretty(&file).expect("a JSON value can be written")
}

fn cluster(catalog: &Catalog, file: &mut Map<String, Json>) {
    let format = "rabbitmq_definition_format";
    file.insert(format.to_owned(), "cluster".into());
    if let Some(name) = catalog.global_parameter(b"cluster_name") {
        file.insert("original_cluster_name".to_owned(), value_to_json(name));
    }
    put(file, "users", catalog.users().map(user));
    let vhosts = catalog.vhost_names();
    put(
        file,
        "vhosts",
        vhosts.clone().map(|name| vhost(catalog, name)),
    );
    let permissions = catalog.permissions().map(|(user, vhost, patterns)| {
        json!({
            "user": text(user),
            "vhost": text(vhost),
            "configure": patterns.configure,
            "write": patterns.write,
            "read": patterns.read,
        })
    });
    put(file, "permissions", permissions);
    let topic = catalog.topic_permissions();
    let topic = topic.map(|(user, vhost, exchange, patterns)| {
        json!({
            "user": text(user),
            "vhost": text(vhost),
            "exchange": text(exchange),
            "write": patterns.write,
            "read": patterns.read,
        })
    });
    put(file, "topic_permissions", topic);
    let parameters = catalog.global_parameters();
    let parameters =
        parameters.map(|(name, value)| json!({"name": text(name), "value": value_to_json(value)}));
    put(file, "global_parameters", parameters);
    let queues = catalog.queues().filter(|queue| is_exported(queue));
    let queues = queues.map(|found| {
        let mut entry = queue(found);
        entry.insert("vhost".to_owned(), text(&found.vhost));
        Json::Object(entry)
    });
    put(file, "queues", queues);
    for (section, entries) in SECTIONS {
        let entries = vhosts.clone().flat_map(|vhost| {
            let named = move |mut entry: Map<String, Json>| {
                entry.insert("vhost".to_owned(), text(vhost));
                Json::Object(entry)
            };
            entries(catalog, vhost).into_iter().map(named)
        });
        put(file, section, entries);
    }
}

fn single_vhost(catalog: &Catalog, vhost: &Name, file: &mut Map<String, Json>) {
    let format = "rabbitmq_definition_format";
    file.insert(format.to_owned(), "single_virtual_host".into());
    file.insert("original_vhost_name".to_owned(), text(vhost));
    if let Some(found) = catalog.vhost_metadata(vhost) {
        file.insert("metadata".to_owned(), metadata(found));
        let limits = vhost_limits(catalog.vhost_limits(vhost));
        file.insert("limits".to_owned(), Json::Object(limits));
    }
    let queues = catalog
        .queues()
        .filter(|queue| queue.vhost == *vhost && is_exported(queue));
    put(file, "queues", queues.map(queue).map(Json::Object));
    for (section, entries) in SECTIONS {
        let entries = entries(catalog, vhost).into_iter();
        put(file, section, entries.map(Json::Object));
    }
}

type Section = fn(&Catalog, &Name) -> Vec<Map<String, Json>>;

/// What belongs to a virtual host, beside its queues; the entries do not name it.
const SECTIONS: [(&str, Section); 4] = [
    ("parameters", parameters),
    ("policies", policies),
    ("exchanges", exchanges),
    ("bindings", bindings),
];

fn put(file: &mut Map<String, Json>, section: &str, entries: impl Iterator<Item = Json>) {
    file.insert(section.to_owned(), entries.collect());
}

fn text(name: &Name) -> Json {
    Json::String(name.to_string())
}

fn texts(names: &[Name]) -> Json {
    names.iter().map(text).collect()
}

fn object(json: Json) -> Map<String, Json> {
    match json {
        Json::Object(object) => object,
        other => Map::from_iter([("value".to_owned(), other)]),
    }
}

fn user((name, user): (&Name, &User)) -> Json {
    let User {
        password,
        tags,
        limits,
    } = user;
    let mut entry = object(json!({
        "name": text(name),
        "tags": texts(tags),
        "limits": user_limits(*limits),
        "password_hash": "",
        "hashing_algorithm": HashAlgorithm::default().name(),
    }));
    if let Some(password) = password {
        put_password(password, &mut entry);
    }
    Json::Object(entry)
}

fn put_password(password: &PasswordHash, entry: &mut Map<String, Json>) {
    if password.algorithm() == HashAlgorithm::Argon2id {
        let phc = String::from_utf8_lossy(password.as_bytes());
        entry.insert("staunch_password_hash".to_owned(), phc.into());
    } else {
        let hash = BASE64.encode(password.as_bytes());
        entry.insert("password_hash".to_owned(), hash.into());
        let algorithm = password.algorithm().name();
        entry.insert("hashing_algorithm".to_owned(), algorithm.into());
    }
}

fn limits<const COUNT: usize>(limits: [(&str, Option<u64>); COUNT]) -> Map<String, Json> {
    limits
        .into_iter()
        .filter_map(|(key, limit)| Some((key.to_owned(), Json::from(limit?))))
        .collect()
}

fn user_limits(of: UserLimits) -> Map<String, Json> {
    limits([
        ("max-connections", of.connections_max),
        ("max-channels", of.channels_max),
    ])
}

fn vhost_limits(of: VhostLimits) -> Map<String, Json> {
    limits([
        ("max-connections", of.connections_max),
        ("max-queues", of.queues_max),
    ])
}

fn vhost(catalog: &Catalog, name: &Name) -> Json {
    json!({
        "name": text(name),
        "metadata": catalog.vhost_metadata(name).map(metadata),
        "limits": vhost_limits(catalog.vhost_limits(name)),
    })
}

fn metadata(of: &VhostMetadata) -> Json {
    let mut entry = object(json!({
        "description": of.description,
        "tags": texts(&of.tags),
    }));
    if let Some(kind) = of.default_queue_type {
        entry.insert("default_queue_type".to_owned(), kind.name().into());
    }
    if of.tracing {
        entry.insert("tracing".to_owned(), true.into());
    }
    if of.protected_from_deletion {
        entry.insert("protected_from_deletion".to_owned(), true.into());
    }
    Json::Object(entry)
}

/// The parameters of a virtual host, as they stand in a file but for its name. With operator
/// policies and limits, which RabbitMQ keeps among them.
pub fn parameters(catalog: &Catalog, vhost: &Name) -> Vec<Map<String, Json>> {
    let entry = |component: &str, name: Json, value: Json| {
        object(json!({"component": component, "name": name, "value": value}))
    };
    let mut entries = Vec::new();
    for (component, name, value) in catalog.parameters(vhost) {
        let component = component.to_string();
        entries.push(entry(&component, text(name), value_to_json(value)));
    }
    for (name, of) in catalog.policies(vhost, PolicyScope::Operator) {
        let value = Json::Object(policy(of));
        entries.push(entry("operator_policy", text(name), value));
    }
    let limits = vhost_limits(catalog.vhost_limits(vhost));
    if !limits.is_empty() {
        entries.push(entry("vhost-limits", "limits".into(), Json::Object(limits)));
    }
    entries
}

fn policies(catalog: &Catalog, vhost: &Name) -> Vec<Map<String, Json>> {
    let policies = catalog.policies(vhost, PolicyScope::User);
    policies
        .map(|(name, of)| {
            let mut entry = policy(of);
            entry.insert("name".to_owned(), text(name));
            entry
        })
        .collect()
}

fn policy(of: &Policy) -> Map<String, Json> {
    object(json!({
        "pattern": of.pattern,
        "apply-to": of.apply_to.name(),
        "priority": of.priority,
        "definition": to_json(of.definition.as_table_ref()),
    }))
}

fn is_exported(queue: &QueueEntry) -> bool {
    !queue.options.exclusive && !queue.is_partition() && !queue.name.starts_with(b"amq.")
}

fn queue(queue: &QueueEntry) -> Map<String, Json> {
    object(json!({
        "name": text(&queue.name),
        "type": QueueKind::name(queue.kind()),
        "durable": queue.options.durable,
        "auto_delete": queue.options.auto_delete,
        "arguments": to_json(queue.options.arguments.as_table_ref()),
    }))
}

fn exchanges(catalog: &Catalog, vhost: &Name) -> Vec<Map<String, Json>> {
    let own = |name: &Name| !name.is_empty() && !name.starts_with(b"amq.");
    let exchanges = catalog.exchanges(vhost).filter(|(name, _)| own(name));
    exchanges
        .map(|(name, options)| exchange(name, options))
        .collect()
}

fn exchange(name: &Name, options: &ExchangeOptions) -> Map<String, Json> {
    object(json!({
        "name": text(name),
        "type": text(&options.kind),
        "durable": options.durable,
        "auto_delete": options.auto_delete,
        "internal": options.internal,
        "arguments": to_json(options.arguments.as_table_ref()),
    }))
}

fn bindings(catalog: &Catalog, vhost: &Name) -> Vec<Map<String, Json>> {
    let leads_somewhere = |binding: &&Binding| match &binding.destination {
        Destination::Queue(queue) => catalog.queue(vhost, queue).is_some_and(is_exported),
        Destination::Exchange(_) => true,
    };
    catalog
        .bindings(vhost)
        .filter(leads_somewhere)
        .map(binding)
        .collect()
}

fn binding(binding: &Binding) -> Map<String, Json> {
    let (kind, destination) = match &binding.destination {
        Destination::Queue(name) => ("queue", name),
        Destination::Exchange(name) => ("exchange", name),
    };
    object(json!({
        "source": text(&binding.source),
        "destination": text(destination),
        "destination_type": kind,
        "routing_key": text(&binding.routing_key),
        "arguments": to_json(binding.arguments.as_table_ref()),
    }))
}
