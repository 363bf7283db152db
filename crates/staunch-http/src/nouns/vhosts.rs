//! `/api/vhosts`.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use staunch_broker::{
    CatalogCommand, Change, PermissionCommand, PermissionPatterns, QueueKind, VhostCommand,
    VhostMetadata,
};
use staunch_node::OnRefusal;
use staunch_stats::DEPTH_NAMES;
use staunch_types::Name;

use crate::{
    Api,
    auth::Caller,
    body::{self, Answer, Content, Flag, Json},
    error::ApiError,
    json::name,
    listing::{Listing, Windows},
    nouns::users::Tags,
    others::Unknown,
    question::Question,
    rates::{add, extend, message_stats, moving},
};

/// The body of PUT; what is left out stays as it is.
#[derive(Deserialize)]
pub(crate) struct VhostBody {
    description: Option<String>,
    tags: Option<Tags>,
    default_queue_type: Option<String>,
    protected_from_deletion: Option<Flag>,
    tracing: Option<Flag>,
}

impl Content for VhostBody {}

pub(crate) async fn list(State(api): State<Api>, caller: Caller, listing: Listing) -> Answer {
    let names = caller.vhosts_seen(&api).await?;
    let (rows, unknown) = shown(&api, names, &listing).await?;
    Ok(unknown.mark(listing.answer(rows)?))
}

pub(crate) async fn get(
    State(api): State<Api>,
    caller: Caller,
    listing: Listing,
    Path(vhost): Path<String>,
) -> Answer {
    let vhost = name(&vhost)?;
    if !caller.is_monitor() {
        caller.enter(&api, &vhost).await?;
    }
    let (found, unknown) = shown(&api, vec![vhost], &listing).await?;
    let found = found.into_iter().next().ok_or(ApiError::NotFound)?;
    Ok(unknown.mark(body::ok(&listing.only_columns(found))?))
}

pub(crate) async fn put(
    State(api): State<Api>,
    caller: Caller,
    Path(vhost): Path<String>,
    Json(body): Json<VhostBody>,
) -> Answer {
    caller.administrator()?;
    let vhost = name(&vhost)?;
    let asked = vhost.clone();
    let known = api
        .node
        .read(move |catalog| catalog.vhost_metadata(&asked).cloned());
    let known = known.await?;
    let mut commands = vec![CatalogCommand::CreateVhost {
        vhost: vhost.clone(),
    }];
    if known.is_none() {
        // Who makes a virtual host may do everything in it (RabbitMQ).
        commands.push(CatalogCommand::Permission(PermissionCommand::Set {
            user: caller.name,
            vhost: vhost.clone(),
            patterns: PermissionPatterns::everything(),
        }));
    }
    let metadata = body.over(known.unwrap_or_default())?;
    commands.push(CatalogCommand::Vhost(VhostCommand::SetMetadata {
        vhost,
        metadata,
    }));
    let results = api.node.apply_all(commands, OnRefusal::Stop).await?;
    let changes = results.into_iter().collect::<Result<Vec<_>, _>>()?;
    let made = changes.first().copied().unwrap_or(Change::Unchanged);
    body::put(made)
}

pub(crate) async fn delete(
    State(api): State<Api>,
    caller: Caller,
    Path(vhost): Path<String>,
) -> Answer {
    caller.administrator()?;
    let vhost = name(&vhost)?;
    let asked = vhost.clone();
    let known = api
        .node
        .read(move |catalog| catalog.vhost_metadata(&asked).cloned());
    if known
        .await?
        .is_some_and(|known| known.protected_from_deletion)
    {
        let reason = format!("vhost '{vhost}' is protected from deletion");
        return Err(ApiError::Precondition(reason));
    }
    body::delete(
        api.node
            .apply(CatalogCommand::DeleteVhost { vhost })
            .await?,
    )
}

/// Nobody deletes the virtual host from now on.
pub(crate) async fn protect(api: State<Api>, caller: Caller, vhost: Path<String>) -> Answer {
    set_protected(&api.0, &caller, &vhost.0, true).await
}

/// The virtual host may be deleted again.
pub(crate) async fn unprotect(api: State<Api>, caller: Caller, vhost: Path<String>) -> Answer {
    set_protected(&api.0, &caller, &vhost.0, false).await
}

async fn set_protected(api: &Api, caller: &Caller, vhost: &str, is_protected: bool) -> Answer {
    caller.administrator()?;
    let vhost = name(vhost)?;
    let asked = vhost.clone();
    let known = api
        .node
        .read(move |catalog| catalog.vhost_metadata(&asked).cloned());
    let metadata = VhostMetadata {
        protected_from_deletion: is_protected,
        ..known.await?.ok_or(ApiError::NotFound)?
    };
    let command = VhostCommand::SetMetadata { vhost, metadata };
    api.node.apply(CatalogCommand::Vhost(command)).await?;
    body::put(Change::Updated)
}

impl VhostBody {
    fn over(self, known: VhostMetadata) -> Result<VhostMetadata, ApiError> {
        let default_queue_type = match self.default_queue_type.as_deref() {
            None => known.default_queue_type,
            Some("" | "undefined") => None,
            Some(kind) => Some(QueueKind::from_name(kind).ok_or_else(|| {
                ApiError::BadRequest(format!("unsupported default queue type '{kind}'"))
            })?),
        };
        Ok(VhostMetadata {
            description: self.description.unwrap_or(known.description),
            tags: match self.tags {
                Some(tags) => tags.names()?,
                None => known.tags,
            },
            default_queue_type,
            tracing: self.tracing.map_or(known.tracing, |it| it.0),
            protected_from_deletion: self
                .protected_from_deletion
                .map_or(known.protected_from_deletion, |it| it.0),
        })
    }
}

/// Those of the names that are there.
async fn shown(
    api: &Api,
    names: Vec<Name>,
    listing: &Listing,
) -> Result<(Vec<Value>, Unknown), ApiError> {
    let found = api.node.read(move |catalog| {
        let default = catalog.limits().default_queue_type.name();
        let known = names.into_iter().filter_map(|name| {
            let metadata = catalog.vhost_metadata(&name)?.clone();
            Some((name, metadata))
        });
        (default, known.collect::<Vec<_>>())
    });
    let (default, found) = found.await?;
    let mut moving = moved(api, &listing.windows);
    let query = listing.query.clone();
    let question = Question::Vhosts { query };
    let heard = api.ask_others::<Moved>(&question).await?;
    let mut states = Map::from_iter([(api.settings.node_name.clone(), "running".into())]);
    for (node, other) in heard.answers {
        states.insert(node.to_string(), "running".into());
        for (name, other) in other {
            add(moving.entry(name).or_default(), other);
        }
    }
    for node in heard.unknown.shown().as_array().into_iter().flatten() {
        states.insert(
            node.as_str().unwrap_or_default().to_owned(),
            "unknown".into(),
        );
    }
    let rows = found.iter().map(|(name, known)| {
        let mut shown = vhost_json(name, known, default, &states);
        let moved = moving.remove(&name.to_string());
        extend(
            &mut shown,
            moved.filter(|_| !listing.has_no_stats).unwrap_or_default(),
        );
        shown
    });
    Ok((rows.collect(), heard.unknown))
}

/// Rates of virtual hosts in which something has happened, by name.
type Moved = BTreeMap<String, Map<String, Value>>;

/// What has happened on this node.
pub(crate) fn moved(api: &Api, windows: &Windows) -> Moved {
    let statistics = api.statistics.read();
    let round = statistics.round();
    let moved = statistics.vhosts().map(|(name, moved)| {
        let mut rates = moving(&DEPTH_NAMES, &moved.depth, round, windows.lengths);
        let messages = message_stats(Some(&moved.messages), round, windows.messages);
        rates.insert("message_stats".to_owned(), messages);
        (name.to_string(), rates)
    });
    moved.collect()
}

fn vhost_json(
    name: &Name,
    known: &VhostMetadata,
    default: &'static str,
    states: &Map<String, Value>,
) -> Value {
    let kind = known.default_queue_type.map_or(default, QueueKind::name);
    let tags: Vec<_> = known.tags.iter().map(Name::to_string).collect();
    json!({
        "name": name.to_string(),
        "description": known.description,
        "tags": tags,
        "default_queue_type": kind,
        "protected_from_deletion": known.protected_from_deletion,
        "tracing": known.tracing,
        "metadata": {
            "description": known.description,
            "tags": tags,
            "default_queue_type": kind,
        },
        "cluster_state": states,
    })
}
