//! `/api/vhost-limits` and `/api/user-limits`.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{body::Content, json::printed};

/// The body of PUT.
#[derive(Deserialize)]
pub(crate) struct LimitBody {
    value: Value,
}

impl Content for LimitBody {
    const REQUIRED: &'static [&'static str] = &["value"];
}

/// What becomes of a limit.
enum Change {
    /// Set to what a request says.
    Set(Value),
    /// Taken away.
    Clear,
}

impl Change {
    /// The limit, if there shall be one: a negative number is none.
    fn limit(&self, limit: &str) -> Result<Option<u64>, String> {
        match self {
            Self::Clear => Ok(None),
            Self::Set(value) => match value.as_i64() {
                Some(number) => Ok(u64::try_from(number).ok()),
                None => Err(format!(
                    "{limit} should be a number, actually was {}",
                    printed(value)
                )),
            },
        }
    }

    /// Nothing becomes of a limit that there is not, if it is taken away.
    fn unknown(&self, limit: &str, place: &str) -> Result<(), String> {
        match self {
            Self::Clear => Ok(()),
            Self::Set(value) => Err(format!(
                "Unrecognised terms [{{<<\"{limit}\">>,{}}}] in {place}",
                printed(value)
            )),
        }
    }
}

/// The limits that there are, by name.
fn object<const N: usize>(limits: [(&str, Option<u64>); N]) -> Value {
    let set = limits
        .into_iter()
        .filter_map(|(name, limit)| Some((name.to_owned(), limit?.into())));
    Value::Object(set.collect::<Map<_, _>>())
}

/// Limits of virtual hosts.
pub(crate) mod vhost {
    use axum::extract::{Path, State};
    use serde_json::{Value, json};
    use staunch_broker::{CatalogCommand, VhostCommand, VhostLimits};
    use staunch_types::Name;

    use super::{Change, LimitBody, object};
    use crate::{
        Api,
        auth::Caller,
        body::{self, Answer, Json},
        error::ApiError,
        json::name,
    };

    pub(crate) async fn list(State(api): State<Api>, caller: Caller) -> Answer {
        let vhosts = caller.vhosts_seen(&api).await?;
        body::ok(&Value::Array(all(&api, vhosts).await?))
    }

    pub(crate) async fn get(
        State(api): State<Api>,
        caller: Caller,
        Path(vhost): Path<String>,
    ) -> Answer {
        let vhost = name(&vhost)?;
        caller.enter(&api, &vhost).await?;
        body::ok(&Value::Array(all(&api, vec![vhost]).await?))
    }

    pub(crate) async fn put(
        State(api): State<Api>,
        caller: Caller,
        Path((vhost, limit)): Path<(String, String)>,
        Json(body): Json<LimitBody>,
    ) -> Answer {
        set(&api, &caller, &vhost, &limit, Change::Set(body.value)).await
    }

    pub(crate) async fn delete(
        State(api): State<Api>,
        caller: Caller,
        Path((vhost, limit)): Path<(String, String)>,
    ) -> Answer {
        set(&api, &caller, &vhost, &limit, Change::Clear).await
    }

    async fn set(api: &Api, caller: &Caller, vhost: &str, limit: &str, change: Change) -> Answer {
        caller.administrator()?;
        let vhost = name(vhost)?;
        let entered = caller.enter(api, &vhost).await;
        entered.map_err(|error| match change {
            Change::Set(_) => error.of_vhost(),
            Change::Clear => error,
        })?;
        let asked = vhost.clone();
        let mut limits = api
            .node
            .read(move |catalog| catalog.vhost_limits(&asked))
            .await?;
        let invalid = |what| ApiError::BadRequest(format!("Validation failed\n\n{what}\n"));
        match limit {
            "max-connections" => limits.connections_max = change.limit(limit).map_err(invalid)?,
            "max-queues" => limits.queues_max = change.limit(limit).map_err(invalid)?,
            other => change.unknown(other, "limits").map_err(invalid)?,
        }
        let command = VhostCommand::SetLimits { vhost, limits };
        api.node.apply(CatalogCommand::Vhost(command)).await?;
        body::put(staunch_broker::Change::Updated)
    }

    /// Replaces all limits of a virtual host by what an object says, or takes them away.
    pub(in crate::nouns) async fn replace(
        api: &Api,
        vhost: Name,
        limits: Option<Value>,
    ) -> Result<staunch_broker::Change, ApiError> {
        let asked = vhost.clone();
        let before = api
            .node
            .read(move |catalog| catalog.vhost_limits(&asked))
            .await?;
        let invalid = |what| ApiError::BadRequest(format!("Validation failed\n\n{what}\n"));
        let is_set = limits.is_some();
        let limits = limits.map_or_else(|| Ok(VhostLimits::default()), read);
        let limits = limits.map_err(invalid)?;
        let command = VhostCommand::SetLimits { vhost, limits };
        api.node.apply(CatalogCommand::Vhost(command)).await?;
        let had_some = before != VhostLimits::default();
        Ok(match (had_some, is_set) {
            (false, true) => staunch_broker::Change::Created,
            (true, true) => staunch_broker::Change::Updated,
            (true, false) => staunch_broker::Change::Deleted,
            (false, false) => staunch_broker::Change::Unchanged,
        })
    }

    /// Limits by name, as a parameter holds them.
    fn read(limits: Value) -> Result<VhostLimits, String> {
        let Value::Object(entries) = limits else {
            return Err("limits are not an object".to_owned());
        };
        let mut limits = VhostLimits::default();
        for (limit, value) in entries {
            let change = Change::Set(value);
            match limit.as_str() {
                "max-connections" => limits.connections_max = change.limit(&limit)?,
                "max-queues" => limits.queues_max = change.limit(&limit)?,
                other => change.unknown(other, "limits")?,
            }
        }
        Ok(limits)
    }

    async fn all(api: &Api, vhosts: Vec<Name>) -> Result<Vec<Value>, ApiError> {
        let found = api.node.read(move |catalog| {
            let limits = vhosts.into_iter().map(|vhost| {
                let limits = catalog.vhost_limits(&vhost);
                (vhost, limits)
            });
            limits.collect::<Vec<_>>()
        });
        let found = found.await?;
        let limited = found
            .iter()
            .filter(|(_, limits)| *limits != VhostLimits::default());
        let shown = limited.map(|(vhost, limits)| {
            let value = object([
                ("max-connections", limits.connections_max),
                ("max-queues", limits.queues_max),
            ]);
            json!({"vhost": vhost.to_string(), "value": value})
        });
        Ok(shown.collect())
    }
}

/// Limits of users.
pub(crate) mod user {
    use axum::extract::{Path, State};
    use serde_json::{Value, json};
    use staunch_broker::{CatalogCommand, UserCommand, UserLimits};
    use staunch_types::Name;

    use super::{Change, LimitBody, object};
    use crate::{
        Api,
        auth::Caller,
        body::{self, Answer, Json},
        error::ApiError,
        json::name,
        nouns::permissions::check_user,
    };

    pub(crate) async fn list(State(api): State<Api>, caller: Caller) -> Answer {
        caller.administrator()?;
        body::ok(&Value::Array(all(&api, |_| true).await?))
    }

    pub(crate) async fn get(
        State(api): State<Api>,
        caller: Caller,
        Path(user): Path<String>,
    ) -> Answer {
        caller.administrator()?;
        let asked = name(&user)?;
        check_user(&api, &asked).await?;
        body::ok(&Value::Array(all(&api, move |name| *name == asked).await?))
    }

    pub(crate) async fn put(
        State(api): State<Api>,
        caller: Caller,
        Path((user, limit)): Path<(String, String)>,
        Json(body): Json<LimitBody>,
    ) -> Answer {
        set(&api, &caller, &user, &limit, Change::Set(body.value)).await
    }

    pub(crate) async fn delete(
        State(api): State<Api>,
        caller: Caller,
        Path((user, limit)): Path<(String, String)>,
    ) -> Answer {
        set(&api, &caller, &user, &limit, Change::Clear).await
    }

    /// As an object.
    pub(crate) fn shown(limits: UserLimits) -> Value {
        object([
            ("max-connections", limits.connections_max),
            ("max-channels", limits.channels_max),
        ])
    }

    async fn set(api: &Api, caller: &Caller, user: &str, limit: &str, change: Change) -> Answer {
        caller.administrator()?;
        let user = name(user)?;
        let asked = user.clone();
        let known = api
            .node
            .read(move |catalog| catalog.user(&asked).map(|user| user.limits));
        let mut limits = known.await?.ok_or_else(|| match change {
            Change::Set(_) => ApiError::BadRequest(format!("no_such_user: {user}")),
            Change::Clear => ApiError::NotFound,
        })?;
        let invalid = ApiError::BadRequest;
        match limit {
            "max-connections" => limits.connections_max = change.limit(limit).map_err(invalid)?,
            "max-channels" => limits.channels_max = change.limit(limit).map_err(invalid)?,
            other => change.unknown(other, "user-limits").map_err(invalid)?,
        }
        let command = UserCommand::SetLimits { name: user, limits };
        api.node.apply(CatalogCommand::User(command)).await?;
        body::put(staunch_broker::Change::Updated)
    }

    async fn all(
        api: &Api,
        wanted: impl Fn(&Name) -> bool + Send + 'static,
    ) -> Result<Vec<Value>, ApiError> {
        let found = api.node.read(move |catalog| {
            let users = catalog.users().filter(|(name, _)| wanted(name));
            users
                .map(|(name, user)| (name.clone(), user.limits))
                .collect::<Vec<_>>()
        });
        let found = found.await?;
        let limited = found
            .iter()
            .filter(|(_, limits)| *limits != UserLimits::default());
        let json = |(name, limits): &(Name, UserLimits)| json!({"user": name.to_string(), "value": shown(*limits)});
        Ok(limited.map(json).collect())
    }
}
