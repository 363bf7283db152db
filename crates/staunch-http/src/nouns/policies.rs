//! `/api/policies` and `/api/operator-policies`.

use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use staunch_broker::{ApplyTo, CatalogCommand, Policy, PolicyCommand, PolicyScope};
use staunch_types::Name;

use crate::{
    Api,
    auth::Caller,
    body::{self, Answer, Content, Json},
    error::ApiError,
    json::{name, object, printed, table},
};

/// The body of PUT.
#[derive(Deserialize)]
pub(crate) struct PolicyBody {
    pattern: Value,
    definition: Map<String, Value>,
    #[serde(default)]
    priority: Value,
    #[serde(rename = "apply-to")]
    apply_to: Option<String>,
}

impl Content for PolicyBody {
    const REQUIRED: &'static [&'static str] = &["pattern", "definition"];
}

pub(crate) async fn list(State(api): State<Api>, caller: Caller) -> Answer {
    list_in_all(&api, &caller, PolicyScope::User).await
}

pub(crate) async fn list_vhost(
    State(api): State<Api>,
    caller: Caller,
    Path(vhost): Path<String>,
) -> Answer {
    list_in_one(&api, &caller, PolicyScope::User, &vhost).await
}

pub(crate) async fn get(
    State(api): State<Api>,
    caller: Caller,
    Path((vhost, policy)): Path<(String, String)>,
) -> Answer {
    get_one(&api, &caller, PolicyScope::User, (&vhost, &policy)).await
}

pub(crate) async fn put(
    State(api): State<Api>,
    caller: Caller,
    Path((vhost, policy)): Path<(String, String)>,
    Json(body): Json<PolicyBody>,
) -> Answer {
    caller.policymaker()?;
    set(&api, &caller, PolicyScope::User, (&vhost, &policy), body).await
}

pub(crate) async fn delete(
    State(api): State<Api>,
    caller: Caller,
    Path((vhost, policy)): Path<(String, String)>,
) -> Answer {
    caller.policymaker()?;
    clear(&api, &caller, PolicyScope::User, (&vhost, &policy)).await
}

/// What only administrators change.
pub(crate) mod operator {
    use super::{
        Answer, Api, Caller, Json, Path, PolicyBody, PolicyScope, State, clear, get_one,
        list_in_all, list_in_one, set,
    };

    pub(crate) async fn list(State(api): State<Api>, caller: Caller) -> Answer {
        list_in_all(&api, &caller, PolicyScope::Operator).await
    }

    pub(crate) async fn list_vhost(
        State(api): State<Api>,
        caller: Caller,
        Path(vhost): Path<String>,
    ) -> Answer {
        list_in_one(&api, &caller, PolicyScope::Operator, &vhost).await
    }

    pub(crate) async fn get(
        State(api): State<Api>,
        caller: Caller,
        Path((vhost, policy)): Path<(String, String)>,
    ) -> Answer {
        get_one(&api, &caller, PolicyScope::Operator, (&vhost, &policy)).await
    }

    pub(crate) async fn put(
        State(api): State<Api>,
        caller: Caller,
        Path((vhost, policy)): Path<(String, String)>,
        Json(body): Json<PolicyBody>,
    ) -> Answer {
        caller.administrator()?;
        set(
            &api,
            &caller,
            PolicyScope::Operator,
            (&vhost, &policy),
            body,
        )
        .await
    }

    pub(crate) async fn delete(
        State(api): State<Api>,
        caller: Caller,
        Path((vhost, policy)): Path<(String, String)>,
    ) -> Answer {
        caller.administrator()?;
        clear(&api, &caller, PolicyScope::Operator, (&vhost, &policy)).await
    }
}

async fn list_in_all(api: &Api, caller: &Caller, scope: PolicyScope) -> Answer {
    let vhosts = caller.vhosts(api).await?;
    body::ok(&Value::Array(all(api, scope, vhosts).await?))
}

async fn list_in_one(api: &Api, caller: &Caller, scope: PolicyScope, vhost: &str) -> Answer {
    let vhost = name(vhost)?;
    caller.enter(api, &vhost).await?;
    body::ok(&Value::Array(all(api, scope, vec![vhost]).await?))
}

async fn get_one(
    api: &Api,
    caller: &Caller,
    scope: PolicyScope,
    (vhost, policy): (&str, &str),
) -> Answer {
    let (vhost, policy) = (name(vhost)?, name(policy)?);
    caller.enter(api, &vhost).await?;
    let asked = (vhost.clone(), policy.clone());
    let found = api
        .node
        .read(move |catalog| catalog.policy(&asked.0, scope, &asked.1).cloned());
    let found = found.await?.ok_or(ApiError::NotFound)?;
    body::ok(&shown(&vhost, &policy, &found))
}

pub(super) async fn set(
    api: &Api,
    caller: &Caller,
    scope: PolicyScope,
    (vhost, policy): (&str, &str),
    body: PolicyBody,
) -> Answer {
    let vhost = name(vhost)?;
    let entered = caller.enter(api, &vhost).await;
    entered.map_err(ApiError::of_vhost)?;
    let command = PolicyCommand::Set {
        scope,
        vhost,
        name: name(policy)?,
        policy: body.policy().map_err(|error| worded(scope, error))?,
    };
    let change = api.node.apply(CatalogCommand::Policy(command)).await;
    body::put(change.map_err(|error| worded(scope, error))?)
}

impl PolicyBody {
    fn policy(self) -> Result<Policy, ApiError> {
        let invalid = |what: String| ApiError::BadRequest(format!("Validation failed\n\n{what}\n"));
        let Value::String(pattern) = &self.pattern else {
            let pattern = printed(&self.pattern);
            let what = format!("pattern should be a binary but was {pattern}");
            return Err(invalid(what));
        };
        let priority = match &self.priority {
            Value::Null => 0,
            Value::Number(number) if number.is_i64() => number.as_i64().unwrap_or_default(),
            other => {
                let what = format!(
                    "priority should be a number, actually was {}",
                    printed(other)
                );
                return Err(invalid(what));
            }
        };
        let apply_to = self.apply_to.as_deref().unwrap_or("all");
        let apply_to = ApplyTo::from_name(apply_to).ok_or_else(|| {
            invalid(format!(
                "apply-to '{apply_to}' unrecognised; should be one of: 'queues', \
                 'classic_queues', 'quorum_queues', 'streams', 'exchanges' or 'all'"
            ))
        })?;
        Ok(Policy {
            pattern: pattern.clone(),
            apply_to,
            priority,
            definition: table(&self.definition)?,
        })
    }
}

/// RabbitMQ makes its reasons fit for HTML, but where operators' policies are refused.
fn worded(scope: PolicyScope, error: ApiError) -> ApiError {
    match scope {
        PolicyScope::User => fit_for_html(error),
        PolicyScope::Operator => error,
    }
}

/// The error with a reason that a page can show as it is.
pub(super) fn fit_for_html(error: ApiError) -> ApiError {
    match error {
        ApiError::BadRequest(reason) => {
            ApiError::BadRequest(reason.replace('<', "&lt;").replace('>', "&gt;"))
        }
        other => other,
    }
}

pub(super) async fn clear(
    api: &Api,
    caller: &Caller,
    scope: PolicyScope,
    (vhost, policy): (&str, &str),
) -> Answer {
    let vhost = name(vhost)?;
    caller.enter(api, &vhost).await?;
    let command = PolicyCommand::Delete {
        scope,
        vhost,
        name: name(policy)?,
    };
    body::delete(api.node.apply(CatalogCommand::Policy(command)).await?)
}

async fn all(api: &Api, scope: PolicyScope, vhosts: Vec<Name>) -> Result<Vec<Value>, ApiError> {
    let found = api.node.read(move |catalog| {
        let mut found = Vec::new();
        for vhost in vhosts {
            for (name, policy) in catalog.policies(&vhost, scope) {
                found.push((vhost.clone(), name.clone(), policy.clone()));
            }
        }
        found
    });
    let found = found.await?;
    Ok(found
        .iter()
        .map(|(vhost, name, policy)| shown(vhost, name, policy))
        .collect())
}

fn shown(vhost: &Name, name: &Name, policy: &Policy) -> Value {
    json!({
        "vhost": vhost.to_string(),
        "name": name.to_string(),
        "pattern": policy.pattern,
        "apply-to": policy.apply_to.name(),
        "priority": policy.priority,
        "definition": object(policy.definition.as_table_ref()),
    })
}
