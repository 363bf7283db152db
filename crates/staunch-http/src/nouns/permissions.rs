//! `/api/permissions`: what users may do with queues and exchanges.

use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};
use staunch_broker::{CatalogCommand, PermissionCommand, PermissionPatterns};
use staunch_types::Name;

use crate::{
    Api,
    auth::Caller,
    body::{self, Answer, Content, Json},
    error::ApiError,
    json::name,
};

/// The body of PUT: all three, as RabbitMQ demands.
#[derive(Deserialize)]
pub(crate) struct PatternsBody {
    configure: String,
    write: String,
    read: String,
}

impl Content for PatternsBody {
    const REQUIRED: &'static [&'static str] = &["configure", "write", "read"];
}

pub(crate) async fn list(State(api): State<Api>, caller: Caller) -> Answer {
    caller.administrator()?;
    body::ok(&Value::Array(all(&api, |_, _| true).await?))
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
        all(&api, move |user, _| *user == asked).await?,
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
        all(&api, move |_, vhost| *vhost == asked).await?,
    ))
}

pub(crate) async fn get(
    State(api): State<Api>,
    caller: Caller,
    Path((vhost, user)): Path<(String, String)>,
) -> Answer {
    caller.administrator()?;
    let asked = (name(&user)?, name(&vhost)?);
    let found = all(&api, move |user, vhost| {
        *user == asked.0 && *vhost == asked.1
    })
    .await?;
    body::ok(found.first().ok_or(ApiError::NotFound)?)
}

pub(crate) async fn put(
    State(api): State<Api>,
    caller: Caller,
    Path((vhost, user)): Path<(String, String)>,
    Json(body): Json<PatternsBody>,
) -> Answer {
    caller.administrator()?;
    let command = PermissionCommand::Set {
        user: name(&user)?,
        vhost: name(&vhost)?,
        patterns: PermissionPatterns {
            configure: body.configure,
            write: body.write,
            read: body.read,
        },
    };
    set(&api, command).await
}

pub(crate) async fn delete(
    State(api): State<Api>,
    caller: Caller,
    Path((vhost, user)): Path<(String, String)>,
) -> Answer {
    caller.administrator()?;
    let command = PermissionCommand::Clear {
        user: name(&user)?,
        vhost: name(&vhost)?,
    };
    body::delete(api.node.apply(CatalogCommand::Permission(command)).await?)
}

/// Grants something; what misses user or virtual host is a bad request here (RabbitMQ).
pub(crate) async fn set(api: &Api, command: PermissionCommand) -> Answer {
    let (PermissionCommand::Set { user, vhost, .. }
    | PermissionCommand::SetTopic { user, vhost, .. }
    | PermissionCommand::Clear { user, vhost }
    | PermissionCommand::ClearTopic { user, vhost, .. }) = &command;
    let asked = (user.clone(), vhost.clone());
    let are_there = api.node.read(move |catalog| {
        catalog.user(&asked.0).is_some() && catalog.check_vhost(&asked.1).is_ok()
    });
    if !are_there.await? {
        return Err(ApiError::BadRequest("vhost_or_user_not_found".to_owned()));
    }
    body::put(api.node.apply(CatalogCommand::Permission(command)).await?)
}

/// 404 unless there is such a user.
pub(crate) async fn check_user(api: &Api, user: &Name) -> Result<(), ApiError> {
    let asked = user.clone();
    let is_there = api.node.read(move |catalog| catalog.user(&asked).is_some());
    if is_there.await? {
        Ok(())
    } else {
        Err(ApiError::NotFound)
    }
}

async fn all(
    api: &Api,
    wanted: impl Fn(&Name, &Name) -> bool + Send + 'static,
) -> Result<Vec<Value>, ApiError> {
    let found = api.node.read(move |catalog| {
        let all = catalog.permissions();
        let wanted = all.filter(|(user, vhost, _)| wanted(user, vhost));
        let owned = wanted.map(|(user, vhost, it)| (user.clone(), vhost.clone(), it.clone()));
        owned.collect::<Vec<_>>()
    });
    let shown = |(user, vhost, patterns): &(Name, Name, PermissionPatterns)| {
        json!({
            "user": user.to_string(),
            "vhost": vhost.to_string(),
            "configure": patterns.configure,
            "write": patterns.write,
            "read": patterns.read,
        })
    };
    Ok(found.await?.iter().map(shown).collect())
}
