//! The entries of a definitions file as RabbitMQ spells them.

use serde::Deserialize;
use serde_json::{Map, Value as Json};

/// Limits: an object, a list of pairs (RabbitMQ 3.10 exports them so) or nothing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Pairs(pub(crate) Json);

impl Pairs {
    /// As an object.
    ///
    /// # Errors
    /// If it is neither.
    pub(crate) fn into_object(self) -> Result<Map<String, Json>, String> {
        match self.0 {
            Json::Null => Ok(Map::new()),
            Json::Object(object) => Ok(object),
            Json::Array(pairs) => pairs
                .into_iter()
                .map(|pair| match <(String, Json)>::deserialize(pair) {
                    Ok(pair) => Ok(pair),
                    Err(error) => Err(format!("expected an object or pairs: {error}")),
                })
                .collect(),
            Json::Bool(_) | Json::Number(_) | Json::String(_) => {
                Err("expected an object or pairs".to_owned())
            }
        }
    }
}

/// A list, or one string with commas (RabbitMQ 3.8).
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Tags {
    List(Vec<String>),
    Text(String),
}

impl Default for Tags {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Tags {
    pub(crate) fn into_list(self) -> Vec<String> {
        match self {
            Self::List(list) => list,
            Self::Text(text) => text
                .split(',')
                .map(|tag| tag.trim().to_owned())
                .filter(|tag| !tag.is_empty())
                .collect(),
        }
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct UserEntry {
    pub(crate) name: String,
    pub(crate) password_hash: Option<String>,
    pub(crate) hashing_algorithm: Option<String>,
    pub(crate) password: Option<String>,
    /// A hash that RabbitMQ cannot read (PHC string): see `export`.
    pub(crate) staunch_password_hash: Option<String>,
    #[serde(default)]
    pub(crate) tags: Tags,
    #[serde(default)]
    pub(crate) limits: Pairs,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct MetadataEntry {
    pub(crate) description: Option<String>,
    pub(crate) tags: Option<Tags>,
    pub(crate) default_queue_type: Option<String>,
    pub(crate) tracing: Option<bool>,
    pub(crate) protected_from_deletion: Option<bool>,
}

impl MetadataEntry {
    /// What `self` says, and else what `other` says.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            description: self.description.or(other.description),
            tags: self.tags.or(other.tags),
            default_queue_type: self.default_queue_type.or(other.default_queue_type),
            tracing: self.tracing.or(other.tracing),
            protected_from_deletion: self
                .protected_from_deletion
                .or(other.protected_from_deletion),
        }
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct VhostEntry {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) metadata: MetadataEntry,
    /// Where they stood before there was `metadata`.
    #[serde(flatten)]
    pub(crate) legacy: MetadataEntry,
    #[serde(default)]
    pub(crate) limits: Pairs,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PermissionEntry {
    pub(crate) user: String,
    pub(crate) vhost: String,
    pub(crate) configure: String,
    pub(crate) write: String,
    pub(crate) read: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct TopicPermissionEntry {
    pub(crate) user: String,
    pub(crate) vhost: String,
    pub(crate) exchange: String,
    pub(crate) write: String,
    pub(crate) read: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ParameterEntry {
    pub(crate) vhost: Option<String>,
    pub(crate) component: String,
    pub(crate) name: String,
    pub(crate) value: Json,
}

#[derive(Debug, Deserialize)]
pub(crate) struct GlobalParameterEntry {
    pub(crate) name: String,
    pub(crate) value: Json,
}

/// What a policy says; also the value of a parameter of component `operator_policy`.
#[derive(Debug, Deserialize)]
pub(crate) struct PolicyBody {
    pub(crate) pattern: String,
    #[serde(rename = "apply-to")]
    pub(crate) apply_to: Option<String>,
    #[serde(default)]
    pub(crate) priority: i64,
    pub(crate) definition: Pairs,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PolicyEntry {
    pub(crate) vhost: Option<String>,
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) body: PolicyBody,
}

#[derive(Debug, Deserialize)]
pub(crate) struct QueueEntry {
    pub(crate) vhost: Option<String>,
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    #[serde(default)]
    pub(crate) arguments: Map<String, Json>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ExchangeEntry {
    pub(crate) vhost: Option<String>,
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    #[serde(default)]
    pub(crate) internal: bool,
    #[serde(default)]
    pub(crate) arguments: Map<String, Json>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct BindingEntry {
    pub(crate) vhost: Option<String>,
    pub(crate) source: String,
    pub(crate) destination: String,
    pub(crate) destination_type: String,
    pub(crate) routing_key: String,
    #[serde(default)]
    pub(crate) arguments: Map<String, Json>,
}
