//! Users: how they prove who they are, their tags and limits.

use std::collections::BTreeMap;

use staunch_types::{Name, Refusal};

use super::permissions::{PermissionCommand, Permissions, TopicPermissions};
use super::{Applied, Catalog, CatalogCommand, Change, Mode};
use crate::encoding::{DecodeError, Reader, Writer};
use crate::password::{HashAlgorithm, PasswordHash};

/// Most tags of a user or a virtual host.
pub const TAGS_MAX: usize = 64;

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// None: nobody logs in with a password.
    pub password: Option<PasswordHash>,
    /// What the user may do beside messaging, such as `administrator`; sorted, each once.
    pub tags: Vec<Name>,
    /// What the user may have at once.
    pub limits: UserLimits,
}

impl User {
    /// Whether the user has this tag.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|other| **other == *tag.as_bytes())
    }
}

/// Most things of one user; none is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserLimits {
    /// Connections (`max-connections`).
    pub connections_max: Option<u64>,
    /// Channels of all connections (`max-channels`).
    pub channels_max: Option<u64>,
}

/// A change of a user.
#[derive(Clone, Debug, PartialEq)]
pub enum UserCommand {
    /// Create the user, or give it this password and these tags; limits stay.
    Put {
        /// Its name.
        name: Name,
        /// What shows that it is that user.
        password: Option<PasswordHash>,
        /// Its tags; order and repetitions do not matter.
        tags: Vec<Name>,
    },
    /// Give the user these limits.
    SetLimits {
        /// Its name.
        name: Name,
        /// What it may have at once.
        limits: UserLimits,
    },
    /// Delete the user and its permissions; a missing one is no error.
    Delete {
        /// Its name.
        name: Name,
    },
}

/// A user and what it may do.
#[derive(Debug, Default)]
pub(super) struct UserEntry {
    pub(super) user: User,
    /// By virtual host.
    pub(super) permissions: BTreeMap<Name, Permissions>,
    /// By virtual host and exchange.
    pub(super) topic_permissions: BTreeMap<Name, BTreeMap<Name, TopicPermissions>>,
}

impl UserEntry {
    /// Calls `each` with the commands that make the user and its permissions again.
    pub(super) fn configuration(&self, name: &Name, each: &mut impl FnMut(CatalogCommand)) {
        let User {
            password,
            tags,
            limits,
        } = self.user.clone();
        each(CatalogCommand::User(UserCommand::Put {
            name: name.clone(),
            password,
            tags,
        }));
        if limits != UserLimits::default() {
            let name = name.clone();
            each(CatalogCommand::User(UserCommand::SetLimits {
                name,
                limits,
            }));
        }
        for (vhost, permissions) in &self.permissions {
            each(CatalogCommand::Permission(PermissionCommand::Set {
                user: name.clone(),
                vhost: vhost.clone(),
                patterns: permissions.patterns().clone(),
            }));
        }
        for (vhost, exchanges) in &self.topic_permissions {
            for (exchange, permissions) in exchanges {
                each(CatalogCommand::Permission(PermissionCommand::SetTopic {
                    user: name.clone(),
                    vhost: vhost.clone(),
                    exchange: exchange.clone(),
                    patterns: permissions.patterns().clone(),
                }));
            }
        }
    }
}

impl Catalog {
    /// A user.
    pub fn user(&self, name: &[u8]) -> Option<&User> {
        self.users.get(name).map(|entry| &entry.user)
    }

    /// Every user, by name.
    pub fn users(&self) -> impl Iterator<Item = (&Name, &User)> {
        self.users.iter().map(|(name, entry)| (name, &entry.user))
    }

    pub(super) fn apply_user(
        &mut self,
        command: &UserCommand,
        mode: Mode,
    ) -> Result<Applied, Refusal> {
        let change = match command {
            UserCommand::Put {
                name,
                password,
                tags,
            } => self.put_user(name, password.as_ref(), tags, mode)?,
            UserCommand::SetLimits { name, limits } => {
                let user = &mut self.user_entry(name)?.user;
                Change::of(std::mem::replace(&mut user.limits, *limits) != *limits)
            }
            UserCommand::Delete { name } => match self.users.remove(name) {
                Some(_) => Change::Deleted,
                None => Change::Unchanged,
            },
        };
        Ok(self.access_changed(change))
    }

    fn put_user(
        &mut self,
        name: &Name,
        password: Option<&PasswordHash>,
        tags: &[Name],
        mode: Mode,
    ) -> Result<Change, Refusal> {
        let is_new = !self.users.contains_key(name);
        if is_new && mode.is_new() {
            check_name("user", name)?;
        }
        if mode == Mode::Decide {
            self.check_user_limit(name)?;
        }
        let tags = sorted_tags(tags)?;
        let password = password.cloned();
        let user = &mut self.users.entry(name.clone()).or_default().user;
        if is_new {
            (user.password, user.tags) = (password, tags);
            return Ok(Change::Created);
        }
        let is_same = user.password == password && user.tags == tags;
        (user.password, user.tags) = (password, tags);
        Ok(Change::of(!is_same))
    }

    pub(super) fn user_entry(&mut self, name: &Name) -> Result<&mut UserEntry, Refusal> {
        let missing = || Refusal::Precondition(format!("user '{name}' does not exist"));
        self.users.get_mut(name).ok_or_else(missing)
    }

    /// The answer to a command about users and permissions; moves
    /// [`Catalog::access_version`](super::Catalog::access_version).
    pub(super) fn access_changed(&mut self, change: Change) -> Applied {
        if change != Change::Unchanged {
            self.access_version += 1;
        }
        Applied::new(change, true)
    }
}

/// Names of users, virtual hosts, policies and parameters are UTF-8 without control characters,
/// and not empty.
pub(super) fn check_name(what: &str, name: &Name) -> Result<(), Refusal> {
    if name.is_empty() || !super::arguments::is_valid_name(name) {
        return Err(Refusal::Precondition(format!(
            "{what} name '{name}' is empty, not UTF-8 or has control characters"
        )));
    }
    Ok(())
}

/// Tags in order, each once.
pub(super) fn sorted_tags(tags: &[Name]) -> Result<Vec<Name>, Refusal> {
    let mut sorted = tags.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() > TAGS_MAX {
        let text = format!("{} tags are more than {TAGS_MAX}", sorted.len());
        return Err(Refusal::LimitReached(text));
    }
    Ok(sorted)
}

impl UserCommand {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Put {
                name,
                password,
                tags,
            } => {
                out.put_u8(1);
                out.put_name(name);
                put_password(password.as_ref(), out);
                out.put_names(tags);
            }
            Self::SetLimits { name, limits } => {
                out.put_u8(2);
                out.put_name(name);
                out.put_optional_u64(limits.connections_max);
                out.put_optional_u64(limits.channels_max);
            }
            Self::Delete { name } => {
                out.put_u8(3);
                out.put_name(name);
            }
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = reader.u8()?;
        let name = reader.name()?;
        Ok(match kind {
            1 => Self::Put {
                name,
                password: read_password(reader)?,
                tags: reader.names()?,
            },
            2 => Self::SetLimits {
                name,
                limits: UserLimits {
                    connections_max: reader.optional_u64()?,
                    channels_max: reader.optional_u64()?,
                },
            },
            3 => Self::Delete { name },
            kind => return Err(DecodeError::UnknownKind { kind }),
        })
    }
}

/// Algorithm (u8; 0 is no password), size (u32), bytes.
fn put_password(password: Option<&PasswordHash>, out: &mut Vec<u8>) {
    let Some(password) = password else {
        return out.put_u8(0);
    };
    out.put_u8(match password.algorithm() {
        HashAlgorithm::Sha256 => 1,
        HashAlgorithm::Sha512 => 2,
        HashAlgorithm::Md5 => 3,
        HashAlgorithm::Argon2id => 4,
    });
    let bytes = password.as_bytes();
    out.put_u32(u32::try_from(bytes.len()).expect("a password hash is short"));
    out.extend_from_slice(bytes);
}

fn read_password(reader: &mut Reader<'_>) -> Result<Option<PasswordHash>, DecodeError> {
    let algorithm = match reader.u8()? {
        0 => return Ok(None),
        1 => HashAlgorithm::Sha256,
        2 => HashAlgorithm::Sha512,
        3 => HashAlgorithm::Md5,
        4 => HashAlgorithm::Argon2id,
        kind => return Err(DecodeError::UnknownKind { kind }),
    };
    let size = usize::try_from(reader.u32()?).map_err(|_| DecodeError::OutOfRange)?;
    let bytes = reader.bytes(size)?.to_vec();
    let hash = PasswordHash::new(algorithm, bytes).map_err(|_| DecodeError::PasswordHash)?;
    Ok(Some(hash))
}
