//! `/api/parameters` and `/api/global-parameters`.

use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};
use staunch_broker::{Catalog, CatalogCommand, ParameterCommand, ParameterValue};
use staunch_definitions::value_to_json;
use staunch_types::Name;

use crate::{
    Api,
    auth::Caller,
    body::{self, Answer, Json},
    error::ApiError,
    json::{name, with_value},
};

/// The body of PUT.
#[derive(Deserialize)]
pub(crate) struct ParameterBody {
    value: Value,
}

pub(crate) async fn list(State(api): State<Api>, caller: Caller) -> Answer {
    caller.policymaker()?;
    let vhosts = caller.vhosts(&api).await?;
    body::ok(&Value::Array(all(&api, vhosts, None).await?))
}

pub(crate) async fn list_component(
    State(api): State<Api>,
    caller: Caller,
    Path(component): Path<String>,
) -> Answer {
    caller.policymaker()?;
    let vhosts = caller.vhosts(&api).await?;
    body::ok(&Value::Array(
        all(&api, vhosts, Some(name(&component)?)).await?,
    ))
}

pub(crate) async fn list_vhost(
    State(api): State<Api>,
    caller: Caller,
    Path((component, vhost)): Path<(String, String)>,
) -> Answer {
    caller.policymaker()?;
    let vhost = name(&vhost)?;
    caller.enter(&api, &vhost).await?;
    body::ok(&Value::Array(
        all(&api, vec![vhost], Some(name(&component)?)).await?,
    ))
}

pub(crate) async fn get(
    State(api): State<Api>,
    caller: Caller,
    Path((component, vhost, parameter)): Path<(String, String, String)>,
) -> Answer {
    caller.policymaker()?;
    let (component, vhost, parameter) = (name(&component)?, name(&vhost)?, name(&parameter)?);
    caller.enter(&api, &vhost).await?;
    let found = api.node.read(move |catalog| {
        let value = catalog.parameter(&vhost, &component, &parameter)?;
        Some(shown(&vhost, &component, &parameter, &value_to_json(value)))
    });
    body::ok(&found.await?.ok_or(ApiError::NotFound)?)
}

pub(crate) async fn put(
    State(api): State<Api>,
    caller: Caller,
    Path((component, vhost, parameter)): Path<(String, String, String)>,
    Json(body): Json<ParameterBody>,
) -> Answer {
    caller.policymaker()?;
    let vhost = name(&vhost)?;
    caller.enter(&api, &vhost).await?;
    let command = ParameterCommand::Set {
        vhost,
        component: name(&component)?,
        name: name(&parameter)?,
        value: with_value(&body.value, ParameterValue::new)?,
    };
    body::put(api.node.apply(CatalogCommand::Parameter(command)).await?)
}

pub(crate) async fn delete(
    State(api): State<Api>,
    caller: Caller,
    Path((component, vhost, parameter)): Path<(String, String, String)>,
) -> Answer {
    caller.policymaker()?;
    let vhost = name(&vhost)?;
    caller.enter(&api, &vhost).await?;
    let command = ParameterCommand::Clear {
        vhost,
        component: name(&component)?,
        name: name(&parameter)?,
    };
    body::delete(api.node.apply(CatalogCommand::Parameter(command)).await?)
}

/// Parameters of no virtual host.
pub(crate) mod global {
    use super::{
        Answer, Api, ApiError, Caller, CatalogCommand, Json, ParameterBody, ParameterCommand,
        ParameterValue, Path, State, Value, body, json, name, value_to_json, with_value,
    };

    pub(crate) async fn list(State(api): State<Api>, caller: Caller) -> Answer {
        caller.policymaker()?;
        let all = api.node.read(|catalog| {
            let json = |(name, value): (&staunch_types::Name, _)| {
                json!({"name": name.to_string(), "value": value_to_json(value)})
            };
            catalog.global_parameters().map(json).collect::<Vec<Value>>()
        });
        body::ok(&Value::Array(all.await?))
    }

    pub(crate) async fn get(
        State(api): State<Api>,
        caller: Caller,
        Path(parameter): Path<String>,
    ) -> Answer {
        caller.policymaker()?;
        let asked = name(&parameter)?;
        let value = api
            .node
            .read(move |catalog| catalog.global_parameter(&asked).map(value_to_json));
        let value = value.await?.ok_or(ApiError::NotFound)?;
        body::ok(&json!({"name": parameter, "value": value}))
    }

    pub(crate) async fn put(
        State(api): State<Api>,
        caller: Caller,
        Path(parameter): Path<String>,
        Json(body): Json<ParameterBody>,
    ) -> Answer {
        caller.administrator()?;
        let command = ParameterCommand::SetGlobal {
            name: name(&parameter)?,
            value: with_value(&body.value, ParameterValue::new)?,
        };
        body::put(api.node.apply(CatalogCommand::Parameter(command)).await?)
    }

    pub(crate) async fn delete(
        State(api): State<Api>,
        caller: Caller,
        Path(parameter): Path<String>,
    ) -> Answer {
        caller.administrator()?;
        let name = name(&parameter)?;
        let command = ParameterCommand::ClearGlobal { name };
        body::delete(api.node.apply(CatalogCommand::Parameter(command)).await?)
    }
}

async fn all(
    api: &Api,
    vhosts: Vec<Name>,
    component: Option<Name>,
) -> Result<Vec<Value>, ApiError> {
    let read = move |catalog: &Catalog| {
        let mut found = Vec::new();
        for vhost in &vhosts {
            for (of, name, value) in catalog.parameters(vhost) {
                if component.as_ref().is_none_or(|component| component == of) {
                    found.push(shown(vhost, of, name, &value_to_json(value)));
                }
            }
        }
        found
    };
    api.node.read(read).await
}

fn shown(vhost: &Name, component: &Name, name: &Name, value: &Value) -> Value {
    json!({
        "vhost": vhost.to_string(),
        "component": component.to_string(),
        "name": name.to_string(),
        "value": value,
    })
}
