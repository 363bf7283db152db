//! Reading a definitions file.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};
use staunch_broker::password::{HashAlgorithm, PasswordHash, SALT_SIZE_BYTES};
use staunch_broker::{
    ApplyTo, Binding, CatalogCommand, ParameterCommand, ParameterValue, PermissionCommand,
    PermissionPatterns, Placement, Policy, PolicyCommand, PolicyScope, QueueKind, TopicPatterns,
    UserCommand, UserLimits, VhostCommand, VhostLimits, VhostMetadata,
};
use staunch_types::request::Destination;
use staunch_types::{ExchangeOptions, FieldTable, Name, QueueId, QueueOptions, Refusal};

use crate::entries::{
    BindingEntry, ExchangeEntry, GlobalParameterEntry, MetadataEntry, Pairs, ParameterEntry,
    PermissionEntry, PolicyBody, PolicyEntry, QueueEntry, TopicPermissionEntry, UserEntry,
    VhostEntry,
};
use crate::value::{from_json, with_value};

/// Keys of the file that say nothing to import.
const DESCRIPTIVE_KEYS: [&str; 9] = [
    "rabbit_version",
    "rabbitmq_version",
    "product_name",
    "product_version",
    "rabbitmq_definition_format",
    "original_cluster_name",
    "original_vhost_name",
    "explanation",
    "name",
];

/// Why a file was refused. Nothing of it is imported then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// It is no JSON object.
    #[error("definitions are no JSON object: {0}")]
    NotJson(String),
    /// An entry cannot be read.
    #[error("{entry}: {reason}")]
    Entry {
        /// Section, place and name, such as `queues[3] 'orders'`.
        entry: String,
        /// What is wrong.
        reason: String,
    },
}

/// What a file says.
#[derive(Debug, Default)]
pub struct Import {
    /// What to apply, in this order.
    pub plan: Vec<Planned>,
    /// What was ignored, for the log.
    pub warnings: Vec<String>,
}

/// A command and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Section, place and name, such as `queues[3] 'orders'`.
    pub entry: String,
    /// What it asks for.
    pub command: CatalogCommand,
}

/// What the catalog's answer to a planned command means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is as the file says.
    Done,
    /// It cannot be, and RabbitMQ would say nothing: a binding one end of which was not exported.
    Ignored(String),
    /// It cannot be.
    Failed(String),
}

impl Planned {
    /// Judges the catalog's answer.
    pub fn verdict(&self, answer: Result<(), &Refusal>) -> Verdict {
        let Err(refusal) = answer else {
            return Verdict::Done;
        };
        let text = format!("{}: {refusal}", self.entry);
        match (&self.command, refusal) {
            (CatalogCommand::Bind { .. }, Refusal::NotFound { .. }) => Verdict::Ignored(text),
            _ => Verdict::Failed(text),
        }
    }
}

/// Reads a file. With `vhost` only what belongs into a virtual host is read, and all of it into
/// that one. `salt` gives fresh random bytes, for users whose password is in the file.
///
/// # Errors
/// [`ImportError`] for the first entry that cannot be read.
pub fn import(
    file: &[u8],
    vhost: Option<&Name>,
    salt: &mut dyn FnMut() -> [u8; SALT_SIZE_BYTES],
) -> Result<Import, ImportError> {
    let sections: Map<String, Json> =
        serde_json::from_slice(file).map_err(|error| ImportError::NotJson(error.to_string()))?;
    let hashes_md5 = is_before_sha256(sections.get("rabbit_version"));
    let mut reader = Reader {
        sections,
        vhost,
        import: Import::default(),
    };
    if vhost.is_none() {
        reader.each("users", |planner, entry| {
            user(planner, entry, hashes_md5, salt)
        })?;
        reader.each("vhosts", self::vhost)?;
        reader.each("permissions", permission)?;
    } else {
        reader.skip(&["users", "vhosts", "permissions", "topic_permissions"]);
        reader.skip(&["global_parameters"]);
        reader.metadata()?;
    }
    reader.each("exchanges", |planner, entry| exchange(planner, &entry))?;
    if vhost.is_none() {
        reader.each("topic_permissions", topic_permission)?;
        reader.each("global_parameters", |planner, entry| {
            global_parameter(planner, &entry)
        })?;
    }
    reader.each("policies", policy)?;
    reader.each("parameters", parameter)?;
    reader.each("queues", queue)?;
    reader.each("bindings", |planner, entry| binding(planner, &entry))?;
    Ok(reader.finish())
}

/// RabbitMQ before 3.6 hashed with MD5 and did not say so.
fn is_before_sha256(version: Option<&Json>) -> bool {
    let mut parts = version
        .and_then(Json::as_str)
        .unwrap_or_default()
        .split('.')
        .map(|part| part.parse::<u32>().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) < (3, 6),
        _ => false,
    }
}

/// Takes a file apart.
struct Reader<'a> {
    sections: Map<String, Json>,
    vhost: Option<&'a Name>,
    import: Import,
}

/// Collects what one entry asks for.
struct Planner<'a> {
    entry: String,
    vhost: Option<&'a Name>,
    import: &'a mut Import,
}

type Outcome = Result<(), String>;

impl Reader<'_> {
    /// Reads a section, if the file has it.
    fn each<Entry: DeserializeOwned>(
        &mut self,
        section: &str,
        mut read: impl FnMut(&mut Planner<'_>, Entry) -> Outcome,
    ) -> Result<(), ImportError> {
        let entries = match self.sections.remove(section) {
            None | Some(Json::Null) => return Ok(()),
            Some(Json::Array(entries)) => entries,
            Some(_) => {
                return Err(ImportError::Entry {
                    entry: section.to_owned(),
                    reason: "expected a list".to_owned(),
                });
            }
        };
        for (at, json) in entries.into_iter().enumerate() {
            let entry = describe(section, at, &json);
            let mut planner = Planner {
                entry: entry.clone(),
                vhost: self.vhost,
                import: &mut self.import,
            };
            serde_json::from_value(json)
                .map_err(|error| error.to_string())
                .and_then(|read_entry| read(&mut planner, read_entry))
                .map_err(|reason| ImportError::Entry { entry, reason })?;
        }
        Ok(())
    }

    /// Metadata and limits of the one virtual host that the file was exported from.
    fn metadata(&mut self) -> Result<(), ImportError> {
        let Some(vhost) = self.vhost else {
            return Ok(());
        };
        let mut entry = Map::new();
        for key in ["metadata", "limits", "description", "tags"] {
            let value = self.sections.remove(key);
            entry.extend(value.map(|value| (key.to_owned(), value)));
        }
        let value = self.sections.remove("default_queue_type");
        entry.extend(value.map(|value| ("default_queue_type".to_owned(), value)));
        entry.insert("name".to_owned(), Json::String(vhost.to_string()));
        let one = Json::Array(vec![Json::Object(entry)]);
        self.sections.insert("vhosts".to_owned(), one);
        self.each("vhosts", self::vhost)
    }

    fn skip(&mut self, sections: &[&str]) {
        for section in sections {
            let skipped = self.sections.remove(*section);
            if skipped.is_some_and(|entries| entries != Json::Array(Vec::new())) {
                let text = format!("{section} are not imported into a single virtual host");
                self.import.warnings.push(text);
            }
        }
    }

    fn finish(mut self) -> Import {
        for key in self.sections.keys() {
            if !DESCRIPTIVE_KEYS.contains(&key.as_str()) {
                let text = format!("unknown key '{key}' was ignored");
                self.import.warnings.push(text);
            }
        }
        self.import
    }
}

/// `queues[3] 'orders'`.
fn describe(section: &str, at: usize, json: &Json) -> String {
    let name = ["name", "user", "source"]
        .into_iter()
        .find_map(|key| json.get(key)?.as_str());
    match name {
        Some(name) => format!("{section}[{at}] '{name}'"),
        None => format!("{section}[{at}]"),
    }
}

impl Planner<'_> {
    fn plan(&mut self, command: CatalogCommand) {
        let entry = self.entry.clone();
        self.import.plan.push(Planned { entry, command });
    }

    fn warn(&mut self, text: &str) {
        let text = format!("{}: {text}", self.entry);
        self.import.warnings.push(text);
    }

    /// Where the entry belongs.
    fn vhost(&self, named: Option<&str>) -> Result<Name, String> {
        match (self.vhost, named) {
            (Some(vhost), _) => Ok(vhost.clone()),
            (None, Some(named)) => name(named),
            (None, None) => Err("missing field `vhost`".to_owned()),
        }
    }
}

fn name(text: &str) -> Result<Name, String> {
    Name::new(text.as_bytes()).map_err(|error| error.to_string())
}

fn names(texts: &[String]) -> Result<Vec<Name>, String> {
    texts.iter().map(|text| name(text)).collect()
}

fn table(object: &Map<String, Json>) -> Result<FieldTable, String> {
    from_json(object).map_err(|error| error.to_string())
}

/// A limit by name; a negative one is none.
fn limit(limits: &Map<String, Json>, key: &str) -> Result<Option<u64>, String> {
    match limits.get(key) {
        None => Ok(None),
        Some(value) => {
            let number = value.as_i64();
            let number = number.ok_or_else(|| format!("limit {key} is not an integer: {value}"))?;
            Ok(u64::try_from(number).ok())
        }
    }
}

fn user(
    planner: &mut Planner<'_>,
    entry: UserEntry,
    hashes_md5: bool,
    salt: &mut dyn FnMut() -> [u8; SALT_SIZE_BYTES],
) -> Outcome {
    let user = name(&entry.name)?;
    let password = password(&entry, hashes_md5, salt)?;
    if password.is_none() {
        planner.warn("the user has no password and cannot log in with one");
    }
    let tags = names(&entry.tags.into_list())?;
    planner.plan(CatalogCommand::User(UserCommand::Put {
        name: user.clone(),
        password,
        tags,
    }));
    let limits = entry.limits.into_object()?;
    let limits = UserLimits {
        connections_max: limit(&limits, "max-connections")?,
        channels_max: limit(&limits, "max-channels")?,
    };
    if limits != UserLimits::default() {
        let command = UserCommand::SetLimits { name: user, limits };
        planner.plan(CatalogCommand::User(command));
    }
    Ok(())
}

fn password(
    entry: &UserEntry,
    hashes_md5: bool,
    salt: &mut dyn FnMut() -> [u8; SALT_SIZE_BYTES],
) -> Result<Option<PasswordHash>, String> {
    if let Some(phc) = &entry.staunch_password_hash {
        return PasswordHash::new(HashAlgorithm::Argon2id, phc.clone().into_bytes())
            .map(Some)
            .map_err(|error| error.to_string());
    }
    let algorithm = match &entry.hashing_algorithm {
        Some(name) => HashAlgorithm::from_name(name)
            .ok_or_else(|| format!("unknown hashing_algorithm '{name}'"))?,
        None if hashes_md5 => HashAlgorithm::Md5,
        None => HashAlgorithm::default(),
    };
    if let Some(hash) = entry.password_hash.as_deref().filter(|it| !it.is_empty()) {
        let bytes = BASE64
            .decode(hash)
            .map_err(|error| format!("password_hash is not base64: {error}"))?;
        return PasswordHash::new(algorithm, bytes)
            .map(Some)
            .map_err(|error| error.to_string());
    }
    let plain = entry.password.as_deref().filter(|it| !it.is_empty());
    Ok(plain.map(|plain| PasswordHash::hash(algorithm, plain.as_bytes(), &salt())))
}

fn vhost(planner: &mut Planner<'_>, entry: VhostEntry) -> Outcome {
    let vhost = name(&entry.name)?;
    planner.plan(CatalogCommand::CreateVhost {
        vhost: vhost.clone(),
    });
    let metadata = metadata(planner, entry.metadata.or(entry.legacy))?;
    if metadata != VhostMetadata::default() {
        let vhost = vhost.clone();
        let command = VhostCommand::SetMetadata { vhost, metadata };
        planner.plan(CatalogCommand::Vhost(command));
    }
    vhost_limits(planner, vhost, entry.limits)
}

fn metadata(planner: &mut Planner<'_>, entry: MetadataEntry) -> Result<VhostMetadata, String> {
    let kind = entry.default_queue_type.as_deref();
    let default_queue_type = kind.and_then(QueueKind::from_name);
    // RabbitMQ 3.12 wrote `undefined` where there was none.
    let ignored = kind.filter(|kind| default_queue_type.is_none() && *kind != "undefined");
    if let Some(kind) = ignored {
        planner.warn(&format!("default queue type '{kind}' is not supported"));
    }
    Ok(VhostMetadata {
        description: entry.description.unwrap_or_default(),
        tags: names(&entry.tags.unwrap_or_default().into_list())?,
        default_queue_type,
        tracing: entry.tracing.unwrap_or(false),
        protected_from_deletion: entry.protected_from_deletion.unwrap_or(false),
    })
}

fn vhost_limits(planner: &mut Planner<'_>, vhost: Name, limits: Pairs) -> Outcome {
    let limits = limits.into_object()?;
    let limits = VhostLimits {
        connections_max: limit(&limits, "max-connections")?,
        queues_max: limit(&limits, "max-queues")?,
    };
    if limits != VhostLimits::default() {
        let command = VhostCommand::SetLimits { vhost, limits };
        planner.plan(CatalogCommand::Vhost(command));
    }
    Ok(())
}

fn permission(planner: &mut Planner<'_>, entry: PermissionEntry) -> Outcome {
    planner.plan(CatalogCommand::Permission(PermissionCommand::Set {
        user: name(&entry.user)?,
        vhost: name(&entry.vhost)?,
        patterns: PermissionPatterns {
            configure: entry.configure,
            write: entry.write,
            read: entry.read,
        },
    }));
    Ok(())
}

fn topic_permission(planner: &mut Planner<'_>, entry: TopicPermissionEntry) -> Outcome {
    planner.plan(CatalogCommand::Permission(PermissionCommand::SetTopic {
        user: name(&entry.user)?,
        vhost: name(&entry.vhost)?,
        exchange: name(&entry.exchange)?,
        patterns: TopicPatterns {
            write: entry.write,
            read: entry.read,
        },
    }));
    Ok(())
}

fn exchange(planner: &mut Planner<'_>, entry: &ExchangeEntry) -> Outcome {
    planner.plan(CatalogCommand::DeclareExchange {
        vhost: planner.vhost(entry.vhost.as_deref())?,
        name: name(&entry.name)?,
        options: ExchangeOptions {
            kind: name(&entry.kind)?,
            durable: entry.durable,
            auto_delete: entry.auto_delete,
            internal: entry.internal,
            arguments: table(&entry.arguments)?,
        },
        // As with the id of a queue.
        delay_queue: QueueId(0),
        placement: Placement::HERE,
    });
    Ok(())
}

fn global_parameter(planner: &mut Planner<'_>, entry: &GlobalParameterEntry) -> Outcome {
    let value = parameter_value(&entry.value)?;
    let name = name(&entry.name)?;
    let command = ParameterCommand::SetGlobal { name, value };
    planner.plan(CatalogCommand::Parameter(command));
    Ok(())
}

fn parameter_value(value: &Json) -> Result<ParameterValue, String> {
    let mut copied = None;
    with_value(value, &mut |value| {
        copied = Some(ParameterValue::new(value));
    })
    .map_err(|error| error.to_string())?;
    copied.ok_or_else(|| "no value".to_owned())
}

fn policy(planner: &mut Planner<'_>, entry: PolicyEntry) -> Outcome {
    let vhost = planner.vhost(entry.vhost.as_deref())?;
    set_policy(
        planner,
        PolicyScope::User,
        (vhost, name(&entry.name)?),
        entry.body,
    )
}

fn set_policy(
    planner: &mut Planner<'_>,
    scope: PolicyScope,
    (vhost, name): (Name, Name),
    body: PolicyBody,
) -> Outcome {
    let apply_to = body.apply_to.as_deref().unwrap_or("all");
    let apply_to = ApplyTo::from_name(apply_to).ok_or_else(|| {
        format!(
            "apply-to '{apply_to}' unrecognised; should be one of: 'queues', 'classic_queues', \
             'quorum_queues', 'streams', 'exchanges', or 'all'"
        )
    })?;
    planner.plan(CatalogCommand::Policy(PolicyCommand::Set {
        scope,
        vhost,
        name,
        policy: Policy {
            pattern: body.pattern,
            apply_to,
            priority: body.priority,
            definition: table(&body.definition.into_object()?)?,
        },
    }));
    Ok(())
}

fn parameter(planner: &mut Planner<'_>, entry: ParameterEntry) -> Outcome {
    let vhost = planner.vhost(entry.vhost.as_deref())?;
    let called = name(&entry.name)?;
    let scope = match entry.component.as_str() {
        "vhost-limits" => return vhost_limits(planner, vhost, Pairs(entry.value)),
        "operator_policy" => PolicyScope::Operator,
        "policy" => PolicyScope::User,
        component => {
            planner.plan(CatalogCommand::Parameter(ParameterCommand::Set {
                vhost,
                component: name(component)?,
                name: called,
                value: parameter_value(&entry.value)?,
            }));
            return Ok(());
        }
    };
    let body = Pairs(entry.value).into_object()?;
    let body = serde_json::from_value(Json::Object(body)).map_err(|error| error.to_string())?;
    set_policy(planner, scope, (vhost, called), body)
}

fn queue(planner: &mut Planner<'_>, mut entry: QueueEntry) -> Outcome {
    if let Some(kind) = entry.kind {
        let key = "x-queue-type".to_owned();
        entry.arguments.entry(key).or_insert(Json::String(kind));
    }
    planner.plan(CatalogCommand::DeclareQueue {
        vhost: planner.vhost(entry.vhost.as_deref())?,
        name: name(&entry.name)?,
        // The node that applies the command knows the next id.
        id: QueueId(0),
        server_named: entry.name.starts_with("amq."),
        options: QueueOptions {
            durable: entry.durable,
            exclusive: false,
            auto_delete: entry.auto_delete,
            arguments: table(&entry.arguments)?,
        },
        owner: None,
        placement: Placement::HERE,
        partitions: Vec::new(),
    });
    Ok(())
}

fn binding(planner: &mut Planner<'_>, entry: &BindingEntry) -> Outcome {
    let destination = name(&entry.destination)?;
    let destination = match entry.destination_type.as_str() {
        "queue" => Destination::Queue(destination),
        "exchange" => Destination::Exchange(destination),
        other => return Err(format!("unknown destination_type '{other}'")),
    };
    let binding = Binding {
        source: name(&entry.source)?,
        destination,
        routing_key: name(&entry.routing_key)?,
        arguments: table(&entry.arguments)?,
    };
    let vhost = planner.vhost(entry.vhost.as_deref())?;
    planner.plan(CatalogCommand::Bind { vhost, binding });
    Ok(())
}
