//! `/api/users`.

use axum::extract::{Path, State};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};
use staunch_broker::{CatalogCommand, Change, HashAlgorithm, PasswordHash, User, UserCommand};
use staunch_node::OnRefusal;
use staunch_types::Name;

use crate::{
    Api, Settings,
    auth::Caller,
    body::{self, Answer, Content, Json},
    error::ApiError,
    json::name,
    nouns::limits,
};

/// The body of PUT.
#[derive(Deserialize)]
pub(crate) struct UserBody {
    password: Option<String>,
    password_hash: Option<String>,
    hashing_algorithm: Option<String>,
    tags: Option<Tags>,
}

impl Content for UserBody {}

/// Tags as a list, or separated by commas.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Tags {
    List(Vec<String>),
    Text(String),
}

/// The body of `bulk-delete`.
#[derive(Deserialize)]
pub(crate) struct DeleteBody {
    users: Vec<String>,
}

impl Content for DeleteBody {
    const REQUIRED: &'static [&'static str] = &["users"];
}

impl Tags {
    pub(crate) fn names(&self) -> Result<Vec<Name>, ApiError> {
        let texts: Vec<&str> = match self {
            Self::List(list) => list.iter().map(String::as_str).collect(),
            Self::Text(text) => text.split(',').collect(),
        };
        let texts = texts
            .into_iter()
            .map(str::trim)
            .filter(|text| !text.is_empty());
        texts.map(name).collect()
    }
}

pub(crate) async fn list(State(api): State<Api>, caller: Caller) -> Answer {
    caller.administrator()?;
    body::ok(&Value::Array(all(&api, |_| true).await?))
}

pub(crate) async fn list_without_permissions(State(api): State<Api>, caller: Caller) -> Answer {
    caller.administrator()?;
    let users = api.node.read(|catalog| {
        let is_let_in = |user: &Name| catalog.permissions().any(|(name, _, _)| name == user);
        let outside = catalog.users().filter(|(name, _)| !is_let_in(name));
        let owned: Vec<_> = outside
            .map(|(name, user)| (name.clone(), user.clone()))
            .collect();
        owned
    });
    let users = users.await?;
    body::ok(&users.iter().map(|(name, user)| shown(name, user)).collect())
}

pub(crate) async fn get(
    State(api): State<Api>,
    caller: Caller,
    Path(user): Path<String>,
) -> Answer {
    caller.administrator()?;
    let asked = name(&user)?;
    let found = all(&api, move |name| *name == asked).await?;
    body::ok(found.first().ok_or(ApiError::NotFound)?)
}

pub(crate) async fn put(
    State(api): State<Api>,
    caller: Caller,
    Path(user): Path<String>,
    Json(body): Json<UserBody>,
) -> Answer {
    caller.administrator()?;
    let tags = body.tags.as_ref();
    let tags = tags.ok_or_else(|| ApiError::BadRequest("tags_not_present".to_owned()))?;
    let command = UserCommand::Put {
        name: name(&user)?,
        password: password(&body, &api.settings)?,
        tags: tags.names()?,
    };
    body::put(api.node.apply(CatalogCommand::User(command)).await?)
}

pub(crate) async fn delete(
    State(api): State<Api>,
    caller: Caller,
    Path(user): Path<String>,
) -> Answer {
    caller.administrator()?;
    let command = UserCommand::Delete { name: name(&user)? };
    body::delete(api.node.apply(CatalogCommand::User(command)).await?)
}

pub(crate) async fn delete_many(
    State(api): State<Api>,
    caller: Caller,
    Json(body): Json<DeleteBody>,
) -> Answer {
    caller.administrator()?;
    let command = |user: &String| {
        let name = name(user)?;
        Ok(CatalogCommand::User(UserCommand::Delete { name }))
    };
    let commands = body
        .users
        .iter()
        .map(command)
        .collect::<Result<_, ApiError>>()?;
    for result in api.node.apply_all(commands, OnRefusal::Stop).await? {
        result?;
    }
    body::put(Change::Updated)
}

/// A fresh hash of a password in the clear, or the hash that was given.
fn password(body: &UserBody, settings: &Settings) -> Result<Option<PasswordHash>, ApiError> {
    let wrong = |reason: &str| ApiError::BadRequest(reason.to_owned());
    match (&body.password, &body.password_hash) {
        (Some(_), Some(_)) => Err(wrong("both_password_and_password_hash_are_provided")),
        (None, None) => Ok(None),
        (Some(password), None) => {
            let (algorithm, salt) = (settings.password_hashing, (settings.salt)());
            Ok(Some(PasswordHash::hash(
                algorithm,
                password.as_bytes(),
                &salt,
            )))
        }
        (None, Some(hash)) if hash.is_empty() => Ok(None),
        (None, Some(hash)) => {
            let algorithm = match &body.hashing_algorithm {
                None => HashAlgorithm::default(),
                Some(name) => HashAlgorithm::from_name(name)
                    .ok_or_else(|| wrong("unknown hashing_algorithm"))?,
            };
            let bytes = match algorithm {
                // A PHC string is text as it is.
                HashAlgorithm::Argon2id => hash.as_bytes().to_vec(),
                HashAlgorithm::Sha256 | HashAlgorithm::Sha512 | HashAlgorithm::Md5 => STANDARD
                    .decode(hash)
                    .map_err(|_| wrong("password_hash is not base64"))?,
            };
            let hash = PasswordHash::new(algorithm, bytes);
            hash.map(Some).map_err(|error| wrong(&error.to_string()))
        }
    }
}

async fn all(
    api: &Api,
    wanted: impl Fn(&Name) -> bool + Send + 'static,
) -> Result<Vec<Value>, ApiError> {
    let users = api.node.read(move |catalog| {
        let users = catalog.users().filter(|(name, _)| wanted(name));
        let owned: Vec<_> = users
            .map(|(name, user)| (name.clone(), user.clone()))
            .collect();
        owned
    });
    Ok(users
        .await?
        .iter()
        .map(|(name, user)| shown(name, user))
        .collect())
}

fn shown(name: &Name, user: &User) -> Value {
    let (hash, algorithm) = match &user.password {
        None => (String::new(), HashAlgorithm::default()),
        Some(hash) if hash.algorithm() == HashAlgorithm::Argon2id => (
            String::from_utf8_lossy(hash.as_bytes()).into_owned(),
            hash.algorithm(),
        ),
        Some(hash) => (STANDARD.encode(hash.as_bytes()), hash.algorithm()),
    };
    let tags: Vec<_> = user.tags.iter().map(Name::to_string).collect();
    json!({
        "name": name.to_string(),
        "password_hash": hash,
        "hashing_algorithm": algorithm.name(),
        "tags": tags,
        "limits": limits::user::shown(user.limits),
    })
}
