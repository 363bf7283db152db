//! Permissions: which names a user may configure, write to and read from, per virtual host
//! (RabbitMQ, `rabbit_auth_backend_internal`).

use std::collections::BTreeMap;

use staunch_types::{Name, Refusal, Resource};

use super::{Applied, Catalog, Change, Mode};
use crate::encoding::{DecodeError, Reader, Writer};
use crate::pattern::Pattern;

/// What the default exchange is called in permissions.
const DEFAULT_EXCHANGE_ALIAS: &[u8] = b"amq.default";

/// Most exchanges that one user has topic permissions for in one virtual host.
const TOPIC_PERMISSIONS_MAX: usize = 10_000;

/// What somebody wants to do with a queue or an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Declare or delete it.
    Configure,
    /// Publish to it, or lead messages into it.
    Write,
    /// Consume from it, or lead messages out of it.
    Read,
}

impl Access {
    /// The word in reply texts.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// Patterns of names; an empty one matches no name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PermissionPatterns {
    /// [`Access::Configure`].
    pub configure: String,
    /// [`Access::Write`].
    pub write: String,
    /// [`Access::Read`].
    pub read: String,
}

impl PermissionPatterns {
    /// Every name.
    pub fn everything() -> Self {
        let all = || ".*".to_owned();
        Self {
            configure: all(),
            write: all(),
            read: all(),
        }
    }
}

/// Patterns of routing keys at one topic exchange; an empty one matches the empty key only.
/// `{username}` and `{vhost}` stand for the names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicPatterns {
    /// Keys to publish with.
    pub write: String,
    /// Keys to bind with.
    pub read: String,
}

/// A change of what a user may do.
#[derive(Clone, Debug, PartialEq)]
pub enum PermissionCommand {
    /// Let the user into the virtual host, with these permissions and no others.
    Set {
        /// User.
        user: Name,
        /// Virtual host.
        vhost: Name,
        /// What it may do there.
        patterns: PermissionPatterns,
    },
    /// Keep the user out of the virtual host; a missing permission is no error.
    Clear {
        /// User.
        user: Name,
        /// Virtual host.
        vhost: Name,
    },
    /// Restrict the user's routing keys at a topic exchange.
    SetTopic {
        /// User.
        user: Name,
        /// Virtual host.
        vhost: Name,
        /// The exchange; it need not exist.
        exchange: Name,
        /// The keys it may use.
        patterns: TopicPatterns,
    },
    /// Lift such restrictions; missing ones are no error.
    ClearTopic {
        /// User.
        user: Name,
        /// Virtual host.
        vhost: Name,
        /// The exchange; none: all of the virtual host.
        exchange: Option<Name>,
    },
}

/// Compiled [`PermissionPatterns`].
#[derive(Debug)]
pub(super) struct Permissions {
    texts: PermissionPatterns,
    configure: Pattern,
    write: Pattern,
    read: Pattern,
}

/// Compiled [`TopicPatterns`].
#[derive(Debug)]
pub(super) struct TopicPermissions {
    texts: TopicPatterns,
    write: Pattern,
    read: Pattern,
}

impl Catalog {
    /// Whether the user may enter the virtual host at all (`connection.open`).
    pub fn may_enter(&self, user: &[u8], vhost: &[u8]) -> bool {
        self.permissions_of(user, vhost).is_some()
    }

    /// Whether the user may do this to the queue or exchange of that name; it need not exist.
    pub fn authorize(
        &self,
        user: &[u8],
        vhost: &[u8],
        access: Access,
        (resource, name): (Resource, &[u8]),
    ) -> bool {
        let Some(permissions) = self.permissions_of(user, vhost) else {
            return false;
        };
        let pattern = match access {
            Access::Configure => &permissions.configure,
            Access::Write => &permissions.write,
            Access::Read => &permissions.read,
        };
        match resource {
            Resource::Exchange if name.is_empty() => pattern.matches(DEFAULT_EXCHANGE_ALIAS),
            Resource::Exchange | Resource::Queue => pattern.matches(name),
        }
    }

    /// Whether the user may publish to (`Write`) or bind (`Read`) the exchange with this routing
    /// key; always true where it is no topic exchange or nothing restricts its keys.
    pub fn authorize_topic(
        &self,
        user: &[u8],
        vhost: &[u8],
        exchange: &[u8],
        access: Access,
        routing_key: &[u8],
    ) -> bool {
        let restricted = self
            .users
            .get(user)
            .and_then(|entry| entry.topic_permissions.get(vhost)?.get(exchange));
        let Some(permissions) = restricted else {
            return true;
        };
        let is_topic = self.vhosts.get(vhost).is_some_and(|inside| {
            let exchange = inside.exchanges.get(exchange);
            exchange.is_some_and(|exchange| *exchange.options.kind == *b"topic")
        });
        if !is_topic {
            return true;
        }
        match access {
            Access::Configure => true,
            Access::Write => permissions.write.matches(routing_key),
            Access::Read => permissions.read.matches(routing_key),
        }
    }

    /// Whether every answer about the user in this virtual host is yes, so that nothing needs to
    /// be asked until [`Catalog::access_version`] changes.
    pub fn is_unrestricted(&self, user: &[u8], vhost: &[u8]) -> bool {
        let restricts_topics = self
            .users
            .get(user)
            .is_some_and(|entry| entry.topic_permissions.contains_key(vhost));
        !restricts_topics
            && self.permissions_of(user, vhost).is_some_and(|permissions| {
                let Permissions {
                    configure,
                    write,
                    read,
                    ..
                } = permissions;
                [configure, write, read]
                    .into_iter()
                    .all(Pattern::is_everything)
            })
    }

    /// Changes whenever a user, a permission or the set of virtual hosts changes.
    pub fn access_version(&self) -> u64 {
        self.access_version
    }

    /// Every permission by user and virtual host.
    pub fn permissions(&self) -> impl Iterator<Item = (&Name, &Name, &PermissionPatterns)> {
        self.users.iter().flat_map(|(user, entry)| {
            let permissions = entry.permissions.iter();
            permissions.map(move |(vhost, permissions)| (user, vhost, &permissions.texts))
        })
    }

    /// Every topic permission by user, virtual host and exchange.
    pub fn topic_permissions(&self) -> impl Iterator<Item = (&Name, &Name, &Name, &TopicPatterns)> {
        self.users.iter().flat_map(|(user, entry)| {
            entry.topic_permissions.iter().flat_map(move |(vhost, of)| {
                of.iter()
                    .map(move |(exchange, topic)| (user, vhost, exchange, &topic.texts))
            })
        })
    }

    fn permissions_of(&self, user: &[u8], vhost: &[u8]) -> Option<&Permissions> {
        self.users.get(user)?.permissions.get(vhost)
    }

    pub(super) fn apply_permission(
        &mut self,
        command: &PermissionCommand,
        mode: Mode,
    ) -> Result<Applied, Refusal> {
        let change = match command {
            PermissionCommand::Set {
                user,
                vhost,
                patterns,
            } => {
                self.vhost(vhost)?;
                let permissions = Permissions::new(patterns)?;
                let entry = self.user_entry(user)?;
                let old = entry.permissions.insert(vhost.clone(), permissions);
                Change::of_set(old.map(|old| old.texts).as_ref(), patterns)
            }
            PermissionCommand::Clear { user, vhost } => {
                let entry = self.users.get_mut(user);
                Change::of_removal(entry.and_then(|entry| entry.permissions.remove(vhost)))
            }
            PermissionCommand::SetTopic {
                user,
                vhost,
                exchange,
                patterns,
            } => {
                self.vhost(vhost)?;
                let permissions = TopicPermissions::new(patterns, user, vhost)?;
                let of_vhost = &mut self.user_entry(user)?.topic_permissions;
                let of_vhost = of_vhost.entry(vhost.clone()).or_default();
                let is_new = !of_vhost.contains_key(exchange);
                if is_new && mode.is_new() && of_vhost.len() >= TOPIC_PERMISSIONS_MAX {
                    return Err(Refusal::LimitReached(format!(
                        "user '{user}' has topic permissions for {TOPIC_PERMISSIONS_MAX} exchanges \
                         in vhost '{vhost}' already"
                    )));
                }
                let old = of_vhost.insert(exchange.clone(), permissions);
                Change::of_set(old.map(|old| old.texts).as_ref(), patterns)
            }
            PermissionCommand::ClearTopic {
                user,
                vhost,
                exchange,
            } => match self.users.get_mut(user) {
                Some(entry) => {
                    let topics = &mut entry.topic_permissions;
                    clear_topic(topics, vhost, exchange.as_ref())
                }
                None => Change::Unchanged,
            },
        };
        Ok(self.access_changed(change))
    }
}

fn clear_topic(
    topics: &mut BTreeMap<Name, BTreeMap<Name, TopicPermissions>>,
    vhost: &Name,
    exchange: Option<&Name>,
) -> Change {
    let Some(exchange) = exchange else {
        return Change::of_removal(topics.remove(vhost));
    };
    let Some(of_vhost) = topics.get_mut(vhost) else {
        return Change::Unchanged;
    };
    let removed = of_vhost.remove(exchange);
    if of_vhost.is_empty() {
        topics.remove(vhost);
    }
    Change::of_removal(removed)
}

impl Permissions {
    pub(super) fn patterns(&self) -> &PermissionPatterns {
        &self.texts
    }

    fn new(texts: &PermissionPatterns) -> Result<Self, Refusal> {
        Ok(Self {
            texts: texts.clone(),
            configure: compile(&texts.configure)?,
            write: compile(&texts.write)?,
            read: compile(&texts.read)?,
        })
    }
}

impl TopicPermissions {
    pub(super) fn patterns(&self) -> &TopicPatterns {
        &self.texts
    }

    fn new(texts: &TopicPatterns, user: &Name, vhost: &Name) -> Result<Self, Refusal> {
        let expand = |text: &str| {
            let text = text.replace("{username}", &user.to_string());
            compile(&text.replace("{vhost}", &vhost.to_string()))
        };
        Ok(Self {
            texts: texts.clone(),
            write: expand(&texts.write)?,
            read: expand(&texts.read)?,
        })
    }
}

fn compile(text: &str) -> Result<Pattern, Refusal> {
    // An empty pattern grants nothing here; elsewhere every name matches it.
    let meant = if text.is_empty() { "^$" } else { text };
    Pattern::new(meant)
        .map_err(|error| Refusal::Precondition(format!("invalid regexp '{text}': {error}")))
}

impl PermissionCommand {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Set {
                user,
                vhost,
                patterns,
            } => {
                put_subject(1, user, vhost, out);
                out.put_text(&patterns.configure);
                out.put_text(&patterns.write);
                out.put_text(&patterns.read);
            }
            Self::Clear { user, vhost } => put_subject(2, user, vhost, out),
            Self::SetTopic {
                user,
                vhost,
                exchange,
                patterns,
            } => {
                put_subject(3, user, vhost, out);
                out.put_name(exchange);
                out.put_text(&patterns.write);
                out.put_text(&patterns.read);
            }
            Self::ClearTopic {
                user,
                vhost,
                exchange,
            } => {
                put_subject(4, user, vhost, out);
                out.put_bool(exchange.is_some());
                out.put_name(&exchange.clone().unwrap_or_default());
            }
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = reader.u8()?;
        let user = reader.name()?;
        let vhost = reader.name()?;
        Ok(match kind {
            1 => Self::Set {
                user,
                vhost,
                patterns: PermissionPatterns {
                    configure: reader.text()?,
                    write: reader.text()?,
                    read: reader.text()?,
                },
            },
            2 => Self::Clear { user, vhost },
            3 => Self::SetTopic {
                user,
                vhost,
                exchange: reader.name()?,
                patterns: TopicPatterns {
                    write: reader.text()?,
                    read: reader.text()?,
                },
            },
            4 => {
                let is_one = reader.bool()?;
                let exchange = reader.name()?;
                Self::ClearTopic {
                    user,
                    vhost,
                    exchange: is_one.then_some(exchange),
                }
            }
            kind => return Err(DecodeError::UnknownKind { kind }),
        })
    }
}

fn put_subject(kind: u8, user: &Name, vhost: &Name, out: &mut Vec<u8>) {
    out.put_u8(kind);
    out.put_name(user);
    out.put_name(vhost);
}
