//! `/api/vhosts`.

use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};
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
    body::{self, Answer, Content, Json},
    error::ApiError,
    json::name,
    listing::Listing,
    nouns::users::Tags,
    rates::{extend, message_stats, moving},
};

/// The body of PUT; what is left out stays as it is.
#[derive(Deserialize)]
pub(crate) struct VhostBody {
    description: Option<String>,
    tags: Option<Tags>,
    default_queue_type: Option<String>,
    protected_from_deletion: Option<bool>,
    tracing: Option<bool>,
}

impl Content for VhostBody {}

pub(crate) async fn list(State(api): State<Api>, caller: Caller, listing: Listing) -> Answer {
    let names = caller.vhosts_seen(&api).await?;
    listing.answer(shown(&api, names, &listing).await?)
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
    let found = shown(&api, vec![vhost], &listing).await?;
    let found = found.into_iter().next().ok_or(ApiError::NotFound)?;
    body::ok(&listing.only_columns(found))
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
            tracing: self.tracing.unwrap_or(known.tracing),
            protected_from_deletion: self
                .protected_from_deletion
                .unwrap_or(known.protected_from_deletion),
        })
    }
}

/// Those of the names that are there.
async fn shown(api: &Api, names: Vec<Name>, listing: &Listing) -> Result<Vec<Value>, ApiError> {
    let node_name = api.settings.node_name.clone();
    let found = api.node.read(move |catalog| {
        let default = catalog.limits().default_queue_type.name();
        let known = names.into_iter().filter_map(|name| {
            let metadata = catalog.vhost_metadata(&name)?.clone();
            Some((name, metadata))
        });
        (default, known.collect::<Vec<_>>())
    });
    let (default, found) = found.await?;
    let statistics = api.statistics.read();
    let rows = found.iter().map(|(name, known)| {
        let mut shown = vhost_json(name, known, default, &node_name);
        let moved = statistics.vhost(name).filter(|_| !listing.has_no_stats);
        if let Some(moved) = moved {
            let (round, windows) = (statistics.round(), &listing.windows);
            let depth = moving(&DEPTH_NAMES, &moved.depth, round, windows.lengths);
            extend(&mut shown, depth);
            shown["message_stats"] = message_stats(Some(&moved.messages), round, windows.messages);
        }
        shown
    });
    Ok(rows.collect())
}

fn vhost_json(name: &Name, known: &VhostMetadata, default: &'static str, node_name: &str) -> Value {
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
        "cluster_state": { node_name: "running" },
    })
}
