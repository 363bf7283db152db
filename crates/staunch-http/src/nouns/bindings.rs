//! `/api/bindings`.
//!
//! A binding has no name of its own; its *properties key* tells it from others between the same
//! ends: `~` without routing key and arguments, the routing key as in a form of HTML, and with
//! arguments `~` and a hash of them behind it.

use axum::{
    extract::{Path, State},
    http::{HeaderValue, StatusCode, header},
    response::IntoResponse,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use staunch_broker::{Access, Binding, CatalogCommand};
use staunch_types::{FieldTable, Name, Resource, request::Destination};

use crate::{
    Api,
    auth::Caller,
    body::{self, Answer, Content, Json},
    error::ApiError,
    json::{name, object, table},
    nouns::{exchanges::named, queues::check_free},
};

/// What stays as it is in a part of a URL (RFC 3986, unreserved).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The body of POST.
#[derive(Deserialize)]
pub(crate) struct BindingBody {
    #[serde(default)]
    routing_key: String,
    #[serde(default)]
    arguments: Map<String, Value>,
}

impl Content for BindingBody {}

/// The two ends in a path.
#[derive(Clone)]
struct Ends {
    vhost: Name,
    source: Name,
    destination: Destination,
}

pub(crate) async fn list(State(api): State<Api>, caller: Caller) -> Answer {
    let vhosts = caller.vhosts(&api).await?;
    let mut found = Vec::new();
    for vhost in vhosts {
        found.extend(all(&api, vhost, |_| true).await?);
    }
    all_shown(&found)
}

pub(crate) async fn list_vhost(
    State(api): State<Api>,
    caller: Caller,
    Path(vhost): Path<String>,
) -> Answer {
    listed(&api, &caller, name(&vhost)?, |_| true).await
}

pub(crate) async fn of_queue(
    State(api): State<Api>,
    caller: Caller,
    Path((vhost, queue)): Path<(String, String)>,
) -> Answer {
    let destination = Destination::Queue(name(&queue)?);
    listed(&api, &caller, name(&vhost)?, move |it| {
        it.destination == destination
    })
    .await
}

pub(crate) async fn from_exchange(
    State(api): State<Api>,
    caller: Caller,
    Path((vhost, exchange)): Path<(String, String)>,
) -> Answer {
    let source = named(&exchange)?;
    listed(&api, &caller, name(&vhost)?, move |it| it.source == source).await
}

pub(crate) async fn to_exchange(
    State(api): State<Api>,
    caller: Caller,
    Path((vhost, exchange)): Path<(String, String)>,
) -> Answer {
    let destination = Destination::Exchange(name(&exchange)?);
    listed(&api, &caller, name(&vhost)?, move |it| {
        it.destination == destination
    })
    .await
}

pub(crate) async fn between(
    State(api): State<Api>,
    caller: Caller,
    Path((vhost, source, kind, destination)): Path<(String, String, String, String)>,
) -> Answer {
    let ends = Ends::new(&vhost, &source, &kind, &destination)?;
    let vhost = ends.vhost.clone();
    listed(&api, &caller, vhost, move |it| ends.are_of(it)).await
}

pub(crate) async fn post(
    State(api): State<Api>,
    caller: Caller,
    Path((vhost, source, kind, destination)): Path<(String, String, String, String)>,
    Json(body): Json<BindingBody>,
) -> Answer {
    let ends = Ends::new(&vhost, &source, &kind, &destination)?;
    let routing_key = name(&body.routing_key)?;
    let may = ends.check(&api, &caller, &routing_key).await;
    may.map_err(ApiError::of_vhost)?;
    let binding = Binding {
        source: ends.source,
        destination: ends.destination,
        routing_key,
        arguments: table(&body.arguments)?,
    };
    let properties = properties_key(&binding);
    let command = CatalogCommand::Bind {
        vhost: ends.vhost,
        binding,
    };
    api.node.apply(command).await?;
    let escaped = |text: &str| utf8_percent_encode(text, ESCAPED).to_string();
    // Relative to the request, as RabbitMQ's.
    let location = format!("{}/{}", escaped(&destination), escaped(&properties));
    let location = HeaderValue::from_str(&location)
        .map_err(|error| ApiError::BadRequest(error.to_string()))?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)]).into_response())
}

pub(crate) async fn get(
    State(api): State<Api>,
    caller: Caller,
    Path((vhost, source, kind, destination, properties)): Path<(
        String,
        String,
        String,
        String,
        String,
    )>,
) -> Answer {
    let ends = Ends::new(&vhost, &source, &kind, &destination)?;
    caller.enter(&api, &ends.vhost).await?;
    let (vhost, binding) = find(&api, &ends, &properties).await?;
    body::ok(&shown(&vhost, &binding))
}

pub(crate) async fn delete(
    State(api): State<Api>,
    caller: Caller,
    Path((vhost, source, kind, destination, properties)): Path<(
        String,
        String,
        String,
        String,
        String,
    )>,
) -> Answer {
    let ends = Ends::new(&vhost, &source, &kind, &destination)?;
    caller.may(&api, &ends.vhost, ends.wanted()).await?;
    let (vhost, binding) = find(&api, &ends, &properties).await?;
    ends.check(&api, &caller, &binding.routing_key).await?;
    body::delete(
        api.node
            .apply(CatalogCommand::Unbind { vhost, binding })
            .await?,
    )
}

impl Ends {
    fn new(vhost: &str, source: &str, kind: &str, destination: &str) -> Result<Self, ApiError> {
        let destination = name(destination)?;
        Ok(Self {
            vhost: name(vhost)?,
            source: named(source)?,
            destination: match kind {
                "q" => Destination::Queue(destination),
                "e" => Destination::Exchange(destination),
                _ => return Err(ApiError::NotFound),
            },
        })
    }

    /// As over AMQP: write to where messages go, read from where they come.
    fn wanted(&self) -> Vec<(Access, Resource, Name)> {
        let (resource, name) = match &self.destination {
            Destination::Queue(name) => (Resource::Queue, name),
            Destination::Exchange(name) => (Resource::Exchange, name),
        };
        vec![
            (Access::Write, resource, name.clone()),
            (Access::Read, Resource::Exchange, self.source.clone()),
        ]
    }

    /// Whether the caller may bind and unbind them with this key.
    async fn check(&self, api: &Api, caller: &Caller, key: &Name) -> Result<(), ApiError> {
        caller.may(api, &self.vhost, self.wanted()).await?;
        caller.may_bind(api, &self.vhost, &self.source, key).await?;
        match &self.destination {
            Destination::Queue(queue) => check_free(api, &self.vhost, queue).await,
            Destination::Exchange(_) => Ok(()),
        }
    }

    fn are_of(&self, binding: &Binding) -> bool {
        self.source == binding.source && self.destination == binding.destination
    }
}

async fn find(api: &Api, ends: &Ends, properties: &str) -> Result<(Name, Binding), ApiError> {
    let (vhost, ends) = (ends.vhost.clone(), ends.clone());
    let found = all(api, vhost, move |binding| ends.are_of(binding)).await?;
    let mut found = found.into_iter();
    found
        .find(|(_, binding)| properties_key(binding) == properties)
        .ok_or(ApiError::NotFound)
}

async fn listed(
    api: &Api,
    caller: &Caller,
    vhost: Name,
    wanted: impl Fn(&Binding) -> bool + Send + 'static,
) -> Answer {
    caller.enter(api, &vhost).await?;
    let found = all(api, vhost, wanted).await?;
    all_shown(&found)
}

fn all_shown(found: &[(Name, Binding)]) -> Answer {
    let shown = found.iter().map(|(vhost, binding)| shown(vhost, binding));
    body::ok(&shown.collect())
}

/// Bindings of a virtual host, the implied ones of the default exchange first.
async fn all(
    api: &Api,
    vhost: Name,
    wanted: impl Fn(&Binding) -> bool + Send + 'static,
) -> Result<Vec<(Name, Binding)>, ApiError> {
    api.node
        .read(move |catalog| {
            let queues = catalog.queues().filter(|queue| queue.vhost == vhost);
            let implied = queues.map(|queue| Binding {
                source: Name::default(),
                destination: Destination::Queue(queue.name.clone()),
                routing_key: queue.name.clone(),
                arguments: FieldTable::default(),
            });
            let all = implied.chain(catalog.bindings(&vhost).cloned());
            all.filter(|binding| wanted(binding))
                .map(|binding| (vhost.clone(), binding))
                .collect()
        })
        .await
}

fn shown(vhost: &Name, binding: &Binding) -> Value {
    let (kind, destination) = match &binding.destination {
        Destination::Queue(name) => ("queue", name),
        Destination::Exchange(name) => ("exchange", name),
    };
    json!({
        "source": binding.source.to_string(),
        "vhost": vhost.to_string(),
        "destination": destination.to_string(),
        "destination_type": kind,
        "routing_key": binding.routing_key.to_string(),
        "arguments": object(binding.arguments.as_table_ref()),
        "properties_key": properties_key(binding),
    })
}

fn properties_key(binding: &Binding) -> String {
    let key = binding.routing_key.to_string();
    let key = utf8_percent_encode(&key, ESCAPED).to_string();
    let key = key.replace("%20", "+");
    match (binding.arguments.is_empty(), key.is_empty()) {
        (true, true) => "~".to_owned(),
        (true, false) => key,
        (false, _) => format!("{key}~{}", hash(binding.arguments.as_bytes())),
    }
}

/// FNV-1a in URL-safe letters: it tells the few bindings between two ends apart and is the same
/// on every node.
fn hash(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use staunch_types::field_table::TableBuilder;

    use super::*;

    #[test]
    fn a_properties_key_is_fit_for_a_url_and_tells_arguments_apart() {
        let key = |routing_key: &'static str, arguments: &FieldTable| {
            properties_key(&Binding {
                source: Name::from_static("x"),
                destination: Destination::Queue(Name::from_static("q")),
                routing_key: Name::from_static(routing_key),
                arguments: arguments.clone(),
            })
        };
        let none = FieldTable::default();
        let (one, two) = (
            TableBuilder::new().int("n", 1).build(),
            TableBuilder::new().int("n", 2).build(),
        );
        assert_eq!(key("", &none), "~");
        assert_eq!(key("a.b", &none), "a.b");
        assert_eq!(key("a/b +#", &none), "a%2Fb+%2B%23");
        assert!(key("", &one).starts_with('~') && key("k", &one).starts_with("k~"));
        assert_ne!(key("k", &one), key("k", &two));
    }
}
