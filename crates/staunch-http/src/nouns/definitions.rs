//! `/api/definitions`: everything at once.

use axum::{
    body::Body,
    extract::{Path, Request, State},
    http::{HeaderValue, StatusCode, header},
    response::IntoResponse,
};
use staunch_types::Name;

use crate::{
    Api,
    auth::Caller,
    body::{self, Answer},
    definitions::apply_definitions,
    error::ApiError,
    json::name,
    router::DEFINITIONS_SIZE_BYTES_MAX,
};

pub(crate) async fn export(State(api): State<Api>, caller: Caller) -> Answer {
    caller.administrator()?;
    exported(&api, None).await
}

pub(crate) async fn export_vhost(
    State(api): State<Api>,
    caller: Caller,
    Path(vhost): Path<String>,
) -> Answer {
    caller.administrator()?;
    let vhost = name(&vhost)?;
    caller.enter(&api, &vhost).await?;
    exported(&api, Some(vhost)).await
}

pub(crate) async fn import(State(api): State<Api>, caller: Caller, request: Request) -> Answer {
    caller.administrator()?;
    imported(&api, request, None).await
}

pub(crate) async fn import_vhost(
    State(api): State<Api>,
    caller: Caller,
    Path(vhost): Path<String>,
    request: Request,
) -> Answer {
    caller.administrator()?;
    let vhost = name(&vhost)?;
    let entered = caller.enter(&api, &vhost).await;
    entered.map_err(ApiError::of_vhost)?;
    imported(&api, request, Some(&vhost)).await
}

async fn exported(api: &Api, vhost: Option<Name>) -> Answer {
    let read = move |catalog: &_| staunch_definitions::export(catalog, vhost.as_ref());
    let mut response = Body::from(api.node.read(read).await?).into_response();
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

async fn imported(api: &Api, request: Request, vhost: Option<&Name>) -> Answer {
    let file = body::read(request, DEFINITIONS_SIZE_BYTES_MAX).await?;
    let mut salt = api.settings.salt;
    let import = staunch_definitions::import(&file, vhost, &mut salt)
        .map_err(|error| ApiError::BadRequest(error.to_string()))?;
    for warning in apply_definitions(&api.node, import).await? {
        tracing::warn!(event = "definitions.ignored", %warning, "part of the definitions was ignored");
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}
