//! `/api/exchanges`.

use std::collections::BTreeMap;

use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use staunch_broker::{Access, Catalog, CatalogCommand, PolicyScope};
use staunch_stats::EXCHANGE_NAMES;
use staunch_types::{ExchangeOptions, Name, QueueId, Resource};

use crate::{
    Api,
    auth::Caller,
    body::{self, Answer, Content, Flag, Json},
    error::ApiError,
    json::{name, object, table},
    listing::{Listing, Windows},
    others::Unknown,
    question::Question,
    rates::{add, moving},
};

/// The body of PUT.
#[derive(Deserialize)]
pub(crate) struct ExchangeBody {
    #[serde(rename = "type", default = "direct")]
    kind: String,
    #[serde(default)]
    durable: Flag,
    #[serde(default)]
    auto_delete: Flag,
    #[serde(default)]
    internal: Flag,
    #[serde(default)]
    arguments: Map<String, Value>,
}

impl Content for ExchangeBody {}

fn direct() -> String {
    "direct".to_owned()
}

/// Conditions of DELETE.
#[derive(Deserialize)]
pub(crate) struct Conditions {
    #[serde(default, rename = "if-unused")]
    if_unused: bool,
}

pub(crate) async fn list(State(api): State<Api>, caller: Caller, listing: Listing) -> Answer {
    let vhosts = caller.vhosts(&api).await?;
    let (rows, unknown) = all(&api, vhosts, &listing, |_| true).await?;
    Ok(unknown.mark(listing.answer(rows)?))
}

pub(crate) async fn list_vhost(
    State(api): State<Api>,
    caller: Caller,
    listing: Listing,
    Path(vhost): Path<String>,
) -> Answer {
    let vhost = name(&vhost)?;
    caller.enter(&api, &vhost).await?;
    let (rows, unknown) = all(&api, vec![vhost], &listing, |_| true).await?;
    Ok(unknown.mark(listing.answer(rows)?))
}

pub(crate) async fn get(
    State(api): State<Api>,
    caller: Caller,
    listing: Listing,
    Path((vhost, exchange)): Path<(String, String)>,
) -> Answer {
    let (vhost, exchange) = (name(&vhost)?, named(&exchange)?);
    caller.enter(&api, &vhost).await?;
    let wanted = move |name: &Name| *name == exchange;
    let (found, unknown) = all(&api, vec![vhost], &listing, wanted).await?;
    let found = found.into_iter().next().ok_or(ApiError::NotFound)?;
    Ok(unknown.mark(body::ok(&listing.only_columns(found))?))
}

pub(crate) async fn put(
    State(api): State<Api>,
    caller: Caller,
    Path((vhost, exchange)): Path<(String, String)>,
    Json(body): Json<ExchangeBody>,
) -> Answer {
    let (vhost, exchange) = (name(&vhost)?, name(&exchange)?);
    let mut wanted = vec![(Access::Configure, Resource::Exchange, exchange.clone())];
    if let Some(Value::String(alternate)) = body.arguments.get("alternate-exchange") {
        wanted.push((Access::Read, Resource::Exchange, exchange.clone()));
        wanted.push((Access::Write, Resource::Exchange, name(alternate)?));
    }
    let may = caller.may(&api, &vhost, wanted).await;
    may.map_err(ApiError::of_vhost)?;
    let command = CatalogCommand::DeclareExchange {
        vhost,
        name: exchange,
        options: ExchangeOptions {
            kind: name(&body.kind)?,
            durable: body.durable.0,
            auto_delete: body.auto_delete.0,
            internal: body.internal.0,
            arguments: table(&body.arguments)?,
        },
        // The node chooses it.
        delay_queue: QueueId(0),
        placement: staunch_broker::Placement::HERE,
    };
    body::put(api.node.apply(command).await?)
}

pub(crate) async fn delete(
    State(api): State<Api>,
    caller: Caller,
    Path((vhost, exchange)): Path<(String, String)>,
    Query(conditions): Query<Conditions>,
) -> Answer {
    let (vhost, exchange) = (name(&vhost)?, name(&exchange)?);
    let wanted = vec![(Access::Configure, Resource::Exchange, exchange.clone())];
    caller.may(&api, &vhost, wanted).await?;
    let command = CatalogCommand::DeleteExchange {
        vhost,
        name: exchange,
        if_unused: conditions.if_unused,
    };
    body::delete(api.node.apply(command).await?)
}

/// In paths the default exchange is called `amq.default`.
pub(crate) fn named(text: &str) -> Result<Name, ApiError> {
    name(if text == "amq.default" { "" } else { text })
}

async fn all(
    api: &Api,
    vhosts: Vec<Name>,
    listing: &Listing,
    wanted: impl Fn(&Name) -> bool + Send + 'static,
) -> Result<(Vec<Value>, Unknown), ApiError> {
    let (mut moving, unknown) = if listing.has_no_stats {
        (Moved::new(), Unknown::default())
    } else {
        rates(api, &vhosts, listing).await?
    };
    let found = api.node.read(move |catalog| {
        let mut found = Vec::new();
        for vhost in vhosts {
            for (name, options) in catalog.exchanges(&vhost) {
                if wanted(name) {
                    let policy = policy(catalog, &vhost, name);
                    found.push((vhost.clone(), name.clone(), options.clone(), policy));
                }
            }
        }
        found
    });
    let shown = |(vhost, name, options, policy): &(Name, Name, ExchangeOptions, Option<Name>)| {
        let mut shown = json!({
            "name": name.to_string(),
            "vhost": vhost.to_string(),
            "type": options.kind.to_string(),
            "durable": options.durable,
            "auto_delete": options.auto_delete,
            "internal": options.internal,
            "arguments": object(options.arguments.as_table_ref()),
        });
        if let Some(policy) = policy {
            shown["policy"] = policy.to_string().into();
        }
        shown
    };
    let found = found.await?;
    let rows = found.iter().map(|row| {
        let mut shown = shown(row);
        let moved = moving.get_mut(&row.0.to_string());
        if let Some(moved) = moved.and_then(|moved| moved.remove(&row.1.to_string())) {
            shown["message_stats"] = Value::Object(moved);
        }
        shown
    });
    Ok((rows.collect(), unknown))
}

/// Rates of exchanges to which something was published, by virtual host and name.
type Moved = BTreeMap<String, BTreeMap<String, Map<String, Value>>>;

/// What went through exchanges on all nodes.
async fn rates(
    api: &Api,
    vhosts: &[Name],
    listing: &Listing,
) -> Result<(Moved, Unknown), ApiError> {
    let vhosts: Vec<_> = vhosts.iter().map(Name::to_string).collect();
    let mut moving = moved(api, &vhosts, &listing.windows);
    let query = listing.query.clone();
    let question = Question::Exchanges { vhosts, query };
    let heard = api.ask_others::<Moved>(&question).await?;
    let others = heard.answers.into_iter().flat_map(|(_, moved)| moved);
    for (vhost, exchanges) in others {
        let known = moving.entry(vhost).or_default();
        for (name, other) in exchanges {
            add(known.entry(name).or_default(), other);
        }
    }
    Ok((moving, heard.unknown))
}

/// What went through exchanges on this node.
pub(crate) fn moved(api: &Api, vhosts: &[String], windows: &Windows) -> Moved {
    let statistics = api.statistics.read();
    let mut moved = Moved::new();
    for ((vhost, name), series) in statistics.exchanges() {
        let vhost = vhost.to_string();
        if vhosts.contains(&vhost) {
            let rates = moving(
                &EXCHANGE_NAMES,
                series,
                statistics.round(),
                windows.messages,
            );
            moved
                .entry(vhost)
                .or_default()
                .insert(name.to_string(), rates);
        }
    }
    moved
}

fn policy(catalog: &Catalog, vhost: &Name, exchange: &Name) -> Option<Name> {
    catalog
        .policy_of_exchange(vhost, exchange, PolicyScope::User)
        .cloned()
}
