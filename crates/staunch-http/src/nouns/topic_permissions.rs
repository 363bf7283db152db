//! `/api/topic-permissions`: which routing keys users may use at topic exchanges.

use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};
use staunch_broker::{CatalogCommand, PermissionCommand, TopicPatterns};
use staunch_types::Name;

use crate::{
    Api,
    auth::Caller,
    body::{self, Answer, Content, Json},
    error::ApiError,
    json::name,
    nouns::permissions::{self, check_user},
};

/// The body of PUT.
#[derive(Deserialize)]
pub(crate) struct TopicBody {
    exchange: String,
    write: String,
    read: String,
}

impl Content for TopicBody {
    const REQUIRED: &'static [&'static str] = &["exchange", "write", "read"];
}

/// Where a topic permission stands.
struct Place {
    user: Name,
    vhost: Name,
    exchange: Name,
}

pub(crate) async fn list(State(api): State<Api>, caller: Caller) -> Answer {
    caller.administrator()?;
    body::ok(&Value::Array(all(&api, |_| true).await?))
}

pub(crate) async fn list_user(
    State(api): State<Api>,
    caller: Caller,
    Path(user): Path<String>,
) -> Answer {
    caller.administrator()?;
    let asked = name(&user)?;
    check_user(&api, &asked).await?;
    body::ok(&Value::Array(
        all(&api, move |place| place.user == asked).await?,
    ))
}

pub(crate) async fn list_vhost(
    State(api): State<Api>,
    caller: Caller,
    Path(vhost): Path<String>,
) -> Answer {
    caller.administrator()?;
    let asked = name(&vhost)?;
    caller.enter(&api, &asked).await?;
    body::ok(&Value::Array(
        all(&api, move |place| place.vhost == asked).await?,
    ))
}

pub(crate) async fn get(
    State(api): State<Api>,
    caller: Caller,
    Path((vhost, user)): Path<(String, String)>,
) -> Answer {
    caller.administrator()?;
    let asked = (name(&vhost)?, name(&user)?);
    let found = all(&api, move |place| {
        (&place.vhost, &place.user) == (&asked.0, &asked.1)
    })
    .await?;
    if found.is_empty() {
        return Err(ApiError::NotFound);
    }
    body::ok(&Value::Array(found))
}

pub(crate) async fn get_one(
    State(api): State<Api>,
    caller: Caller,
    Path((vhost, user, exchange)): Path<(String, String, String)>,
) -> Answer {
    caller.administrator()?;
    let (vhost, user, exchange) = (name(&vhost)?, name(&user)?, name(&exchange)?);
    let wanted = move |place: &Place| {
        place.vhost == vhost && place.user == user && place.exchange == exchange
    };
    let found = all(&api, wanted).await?;
    body::ok(found.first().ok_or(ApiError::NotFound)?)
}

pub(crate) async fn put(
    State(api): State<Api>,
    caller: Caller,
    Path((vhost, user)): Path<(String, String)>,
    Json(body): Json<TopicBody>,
) -> Answer {
    caller.administrator()?;
    let command = PermissionCommand::SetTopic {
        user: name(&user)?,
        vhost: name(&vhost)?,
        exchange: name(&body.exchange)?,
        patterns: TopicPatterns {
            write: body.write,
            read: body.read,
        },
    };
    permissions::set(&api, command).await
}

pub(crate) async fn delete(
    State(api): State<Api>,
    caller: Caller,
    Path((vhost, user)): Path<(String, String)>,
) -> Answer {
    clear(&api, &caller, &vhost, &user, None).await
}

pub(crate) async fn delete_one(
    State(api): State<Api>,
    caller: Caller,
    Path((vhost, user, exchange)): Path<(String, String, String)>,
) -> Answer {
    clear(&api, &caller, &vhost, &user, Some(name(&exchange)?)).await
}

async fn clear(
    api: &Api,
    caller: &Caller,
    vhost: &str,
    user: &str,
    exchange: Option<Name>,
) -> Answer {
    caller.administrator()?;
    let command = PermissionCommand::ClearTopic {
        user: name(user)?,
        vhost: name(vhost)?,
        exchange,
    };
    body::delete(api.node.apply(CatalogCommand::Permission(command)).await?)
}

async fn all(
    api: &Api,
    wanted: impl Fn(&Place) -> bool + Send + 'static,
) -> Result<Vec<Value>, ApiError> {
    let found = api.node.read(move |catalog| {
        let all = catalog
            .topic_permissions()
            .map(|(user, vhost, exchange, patterns)| {
                let place = Place {
                    user: user.clone(),
                    vhost: vhost.clone(),
                    exchange: exchange.clone(),
                };
                (place, patterns)
            });
        let wanted = all.filter(|(place, _)| wanted(place));
        wanted
            .map(|(place, patterns)| (place, patterns.clone()))
            .collect::<Vec<_>>()
    });
    let shown = |(place, patterns): &(Place, TopicPatterns)| {
        json!({
            "user": place.user.to_string(),
            "vhost": place.vhost.to_string(),
            "exchange": place.exchange.to_string(),
            "write": patterns.write,
            "read": patterns.read,
        })
    };
    Ok(found.await?.iter().map(shown).collect())
}
