//! `/api/parameters` and `/api/global-parameters`.

use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};
use staunch_broker::{Catalog, CatalogCommand, ParameterCommand, ParameterValue, PolicyScope};
use staunch_definitions::value_to_json;
use staunch_types::Name;

use crate::{
    Api,
    auth::Caller,
    body::{self, Answer, Content, Json},
    error::ApiError,
    json::{name, with_value},
    nouns::{limits, policies},
};

/// Component under which RabbitMQ keeps policies, which it does not change as parameters.
const POLICY: &str = "policy";

/// Component of operator policies. Only administrators change them, here too.
const OPERATOR_POLICY: &str = "operator_policy";

/// Component of the limits of a virtual host. Only administrators change them, here too.
const VHOST_LIMITS: &str = "vhost-limits";

/// The one parameter of [`VHOST_LIMITS`].
const LIMITS: &str = "limits";

/// The body of PUT.
#[derive(Deserialize)]
pub(crate) struct ParameterBody {
    value: Value,
}

impl Content for ParameterBody {
    const REQUIRED: &'static [&'static str] = &["value"];
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
    let parameter = Value::String(parameter.to_string());
    let found = all(&api, vec![vhost], Some(component)).await?;
    let found = found.iter().find(|entry| entry["name"] == parameter);
    body::ok(found.ok_or(ApiError::NotFound)?)
}

pub(crate) async fn put(
    State(api): State<Api>,
    caller: Caller,
    Path((component, vhost, parameter)): Path<(String, String, String)>,
    Json(body): Json<ParameterBody>,
) -> Answer {
    caller.policymaker()?;
    if component == OPERATOR_POLICY {
        caller.administrator()?;
        let policy = serde_json::from_value(body.value);
        let policy = policy.map_err(|error| ApiError::BadRequest(error.to_string()))?;
        let named = (vhost.as_str(), parameter.as_str());
        let answer = policies::set(&api, &caller, PolicyScope::Operator, named, policy).await;
        return answer.map_err(policies::fit_for_html);
    }
    let vhost = name(&vhost)?;
    let entered = caller.enter(&api, &vhost).await;
    entered.map_err(ApiError::of_vhost)?;
    match component.as_str() {
        POLICY => return Err(refused_policy()),
        VHOST_LIMITS => {
            caller.administrator()?;
            check_name_of_limits(&parameter)?;
            let change = limits::vhost::replace(&api, vhost, Some(body.value)).await;
            return body::put(change.map_err(policies::fit_for_html)?);
        }
        _ => {}
    }
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
    if component == OPERATOR_POLICY {
        caller.administrator()?;
        let named = (vhost.as_str(), parameter.as_str());
        return policies::clear(&api, &caller, PolicyScope::Operator, named).await;
    }
    let vhost = name(&vhost)?;
    caller.enter(&api, &vhost).await?;
    if component == VHOST_LIMITS && parameter == LIMITS {
        caller.administrator()?;
        return body::delete(limits::vhost::replace(&api, vhost, None).await?);
    }
    let command = ParameterCommand::Clear {
        vhost,
        component: name(&component)?,
        name: name(&parameter)?,
    };
    body::delete(api.node.apply(CatalogCommand::Parameter(command)).await?)
}

/// Policies have paths of their own (RabbitMQ).
fn refused_policy() -> ApiError {
    ApiError::BadRequest("policies may not be set using this method".to_owned())
}

/// RabbitMQ keeps any name, and then falls over all but one.
fn check_name_of_limits(parameter: &str) -> Result<(), ApiError> {
    if parameter == LIMITS {
        return Ok(());
    }
    let reason = format!("limits of a virtual host are called '{LIMITS}', not '{parameter}'");
    Err(ApiError::BadRequest(reason))
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
        caller.policymaker()?;
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
        caller.policymaker()?;
        let name = name(&parameter)?;
        let command = ParameterCommand::ClearGlobal { name };
        body::delete(api.node.apply(CatalogCommand::Parameter(command)).await?)
    }
}

/// Also operator policies and limits, which RabbitMQ keeps among the parameters.
async fn all(
    api: &Api,
    vhosts: Vec<Name>,
    component: Option<Name>,
) -> Result<Vec<Value>, ApiError> {
    let read = move |catalog: &Catalog| {
        let mut found = Vec::new();
        for vhost in &vhosts {
            let entries = staunch_definitions::parameters(catalog, vhost);
            found.extend(entries.into_iter().map(|mut entry| {
                entry.insert("vhost".to_owned(), vhost.to_string().into());
                Value::Object(entry)
            }));
        }
        found
    };
    let mut found = api.node.read(read).await?;
    if let Some(component) = component {
        let component = Value::String(component.to_string());
        found.retain(|entry| entry["component"] == component);
    }
    Ok(found)
}
