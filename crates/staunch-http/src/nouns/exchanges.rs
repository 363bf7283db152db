//! `/api/exchanges`.

use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use staunch_broker::{Access, Catalog, CatalogCommand, PolicyScope};
use staunch_stats::EXCHANGE_NAMES;
use staunch_types::{ExchangeOptions, Name, QueueId, Resource};

use crate::{
    Api,
    auth::Caller,
    body::{self, Answer, Content, Json},
    error::ApiError,
    json::{name, object, table},
    listing::Listing,
    rates::moving,
};

/// The body of PUT.
#[derive(Deserialize)]
pub(crate) struct ExchangeBody {
    #[serde(rename = "type", default = "direct")]
    kind: String,
    #[serde(default)]
    durable: bool,
    #[serde(default)]
    auto_delete: bool,
    #[serde(default)]
    internal: bool,
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
    listing.answer(all(&api, vhosts, &listing, |_| true).await?)
}

pub(crate) async fn list_vhost(
    State(api): State<Api>,
    caller: Caller,
    listing: Listing,
    Path(vhost): Path<String>,
) -> Answer {
    let vhost = name(&vhost)?;
    caller.enter(&api, &vhost).await?;
    listing.answer(all(&api, vec![vhost], &listing, |_| true).await?)
}

pub(crate) async fn get(
    State(api): State<Api>,
    caller: Caller,
    listing: Listing,
    Path((vhost, exchange)): Path<(String, String)>,
) -> Answer {
    let (vhost, exchange) = (name(&vhost)?, named(&exchange)?);
    caller.enter(&api, &vhost).await?;
    let found = all(&api, vec![vhost], &listing, move |name| *name == exchange).await?;
    let found = found.into_iter().next().ok_or(ApiError::NotFound)?;
    body::ok(&listing.only_columns(found))
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
            durable: body.durable,
            auto_delete: body.auto_delete,
            internal: body.internal,
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
) -> Result<Vec<Value>, ApiError> {
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
    let statistics = api.statistics.read();
    let rows = found.iter().map(|row| {
        let mut shown = shown(row);
        let series = statistics.exchange(&(row.0.clone(), row.1.clone()));
        if let Some(series) = series.filter(|_| !listing.has_no_stats) {
            let window = listing.windows.messages;
            let moving = moving(&EXCHANGE_NAMES, series, statistics.round(), window);
            shown["message_stats"] = Value::Object(moving);
        }
        shown
    });
    Ok(rows.collect())
}

fn policy(catalog: &Catalog, vhost: &Name, exchange: &Name) -> Option<Name> {
    catalog
        .policy_of_exchange(vhost, exchange, PolicyScope::User)
        .cloned()
}
