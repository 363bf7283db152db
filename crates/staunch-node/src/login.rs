//! Who is at the other end of a connection: logging in, and entering a virtual host.
//!
//! A hash that is quick to check is checked here; a slow one (Argon2id) leaves as a job and comes
//! back as [`Input::Verified`](crate::Input::Verified). A user that does not exist costs what one
//! that does would cost, so that names cannot be found out by the time an answer takes.

use sha2::{Digest, Sha256};
use staunch_broker::{
    CatalogCommand, HashAlgorithm, PasswordHash, PermissionCommand, UserCommand, VhostCommand,
    VhostMetadata, password::SALT_SIZE_BYTES,
};
use staunch_types::{
    ConnectionId, Event, Name, Operation, Proof, Refusal, Secret, UnixMillis,
    request::{Login, Peer},
};

use crate::{access::Standing, input::Output, node::Node, session::SessionSlot};

/// Who has logged in on a session.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) user: Name,
    /// The connection's name, as RabbitMQ makes it of both addresses.
    pub(crate) name: String,
    pub(crate) peer: Peer,
    /// When it logged in.
    pub(crate) connected_at: UnixMillis,
    /// What the user may do, as far as it has been asked.
    pub(crate) standing: Standing,
}

/// Passwords that may wait to be checked, by all connections together: about as many as can be
/// checked in the time that a handshake may take.
pub const VERIFICATIONS_WAITING_MAX: usize = 1024;

/// A login whose password is being checked.
#[derive(Debug)]
pub(crate) struct Candidate {
    user: Name,
    loopback: bool,
    peer: Box<Peer>,
}

/// A password to be compared with a hash that takes tens of milliseconds.
#[derive(Debug)]
pub struct VerifyJob {
    hash: PasswordHash,
    password: Secret,
}

impl VerifyJob {
    /// Whether it is the password. To be run where it keeps nobody waiting.
    pub fn run(&self) -> bool {
        self.hash.verify(&self.password.0)
    }
}

impl Client {
    fn new(user: Name, peer: Peer, connected_at: UnixMillis) -> Self {
        let name = connection_name(&peer);
        Self {
            user,
            name,
            peer,
            connected_at,
            standing: Standing::default(),
        }
    }
}

/// `127.0.0.1:40000 -> 127.0.0.1:5672`.
pub(crate) fn connection_name(peer: &Peer) -> String {
    let print = |address: Option<std::net::SocketAddr>| {
        address.map_or_else(|| "unknown".to_owned(), |address| address.to_string())
    };
    format!("{} -> {}", print(peer.address), print(peer.local_address))
}

/// A hash that no password fits, for users that do not exist or have none: that of the empty
/// password, which is never right.
pub(crate) fn decoy(algorithm: HashAlgorithm, seed: u64) -> PasswordHash {
    PasswordHash::hash(algorithm, b"", &salt(seed, b"decoy"))
}

/// Random bytes for a hash, from the node's seed.
fn salt(seed: u64, purpose: &[u8]) -> [u8; SALT_SIZE_BYTES] {
    let mut digest = Sha256::new();
    digest.update(b"salt");
    digest.update(seed.to_be_bytes());
    digest.update(purpose);
    let mut salt = [0; SALT_SIZE_BYTES];
    salt.copy_from_slice(&digest.finalize()[..SALT_SIZE_BYTES]);
    salt
}

impl Node {
    /// Makes the user that a new node begins with.
    pub(crate) fn bootstrap(&mut self) {
        for command in &self.first_definitions() {
            let applied = self.apply_definition(command);
            assert!(applied.is_ok(), "an empty catalog takes its first user");
        }
    }

    /// What makes the first user.
    pub(crate) fn first_definitions(&self) -> Vec<CatalogCommand> {
        let Some(first) = self.config.first_user.clone() else {
            return Vec::new();
        };
        let salt = salt(self.config.seed, &first.name);
        let password = PasswordHash::hash(self.config.password_hashing, &first.password.0, &salt);
        vec![
            CatalogCommand::CreateVhost {
                vhost: first.vhost.clone(),
            },
            CatalogCommand::Vhost(VhostCommand::SetMetadata {
                vhost: first.vhost.clone(),
                // As RabbitMQ calls it.
                metadata: VhostMetadata {
                    description: "Default virtual host".to_owned(),
                    ..VhostMetadata::default()
                },
            }),
            CatalogCommand::User(UserCommand::Put {
                name: first.name.clone(),
                password: Some(password),
                tags: first.tags,
            }),
            CatalogCommand::Permission(PermissionCommand::Set {
                user: first.name,
                vhost: first.vhost,
                patterns: first.permissions,
            }),
        ]
    }

    pub(crate) fn login(&mut self, slot: SessionSlot, login: Login) {
        let Login {
            user,
            proof,
            loopback,
            peer,
        } = login;
        let mut candidate = Candidate {
            user,
            loopback,
            peer,
        };
        match (proof, self.config.anonymous_user.clone()) {
            (Proof::Password(password), _) => self.check_password(slot, candidate, password),
            (Proof::Certificate, _) => self.admit(slot, candidate),
            (Proof::Anonymous, None) => self.refuse_login(slot, &candidate),
            (Proof::Anonymous, Some(anonymous)) => {
                candidate.user = anonymous;
                self.admit(slot, candidate);
            }
        }
    }

    fn check_password(&mut self, slot: SessionSlot, candidate: Candidate, password: Secret) {
        let user = self.catalog.user(&candidate.user);
        let hash = user.and_then(|user| user.password.as_ref());
        let hash = hash.unwrap_or(&self.decoy);
        if hash.is_slow() {
            if self.verifications_waiting >= VERIFICATIONS_WAITING_MAX {
                let refusal = Refusal::ResourceError(format!(
                    "{VERIFICATIONS_WAITING_MAX} logins wait for their passwords to be checked"
                ));
                let operation = Operation::Login;
                let refused = Event::ConnectionRefused {
                    operation,
                    refusal: refusal.into(),
                };
                return self.sessions.push(slot, refused);
            }
            let hash = hash.clone();
            let Some(session) = self.sessions.get_mut(slot) else {
                return;
            };
            self.verifications_waiting += 1;
            session.candidate = Some(Box::new(candidate));
            let job = VerifyJob { hash, password };
            self.outputs.push_back(Output::Verify(session.id, job));
        } else if hash.verify(&password.0) {
            self.admit(slot, candidate);
        } else {
            self.refuse_login(slot, &candidate);
        }
    }

    /// A slow check has ended.
    pub(crate) fn handle_verified(&mut self, id: ConnectionId, is_good: bool) {
        self.verifications_waiting -= 1;
        let Some(slot) = self.sessions.find(id) else {
            return;
        };
        let session = self.sessions.get_mut(slot);
        let Some(candidate) = session.and_then(|session| session.candidate.take()) else {
            return;
        };
        if is_good {
            self.admit(slot, *candidate);
        } else {
            self.refuse_login(slot, &candidate);
        }
    }

    /// The proof is good: lets the user in, if it is still there and may come from where it does.
    fn admit(&mut self, slot: SessionSlot, candidate: Candidate) {
        let is_local_only = self.config.loopback_users.contains(&candidate.user);
        let is_there = self.catalog.user(&candidate.user).is_some();
        if !is_there || (is_local_only && !candidate.loopback) {
            return self.refuse_login(slot, &candidate);
        }
        self.notify_login(&candidate.user, &candidate.peer, None);
        let Candidate { user, peer, .. } = candidate;
        let now = self.wall_now();
        if let Some(session) = self.sessions.get_mut(slot) {
            let client = Client::new(user.clone(), *peer, now);
            session.client = Some(Box::new(client));
        }
        self.sessions.push(slot, Event::LoginAccepted { user });
    }

    fn refuse_login(&mut self, slot: SessionSlot, candidate: &Candidate) {
        let why = format!("user '{}' - invalid credentials", candidate.user);
        self.notify_login(&candidate.user, &candidate.peer, Some(&why));
        self.sessions.push(slot, Event::LoginRefused);
    }

    /// `connection.update-secret`: users of the catalog have no secrets that expire, so there is
    /// nothing to renew (RabbitMQ, `rabbit_auth_backend_internal:state_can_expire`).
    pub(crate) fn update_secret(&mut self, slot: SessionSlot) {
        self.sessions.push(slot, Event::SecretUpdated);
    }

    /// `connection.open`.
    pub(crate) fn open_vhost(&mut self, slot: SessionSlot, vhost: Name) {
        if let Err(refusal) = self.check_entry(slot, &vhost) {
            let event = Event::VhostRefused(Box::new(refusal));
            return self.sessions.push(slot, event);
        }
        if let Some(session) = self.sessions.get_mut(slot)
            && let Some(client) = &session.client
        {
            session.vhost = vhost;
            self.census.enter(&client.user, &session.vhost);
        }
        let is_own = self
            .sessions
            .get(slot)
            .is_some_and(|it| it.shadow_of.is_none());
        self.ledger.churn.connection_created += u64::from(is_own);
        self.notify_connection(slot);
        self.sessions.push(slot, Event::VhostOpened);
        if let Some(alarm) = self.alarms.event() {
            self.sessions.push(slot, alarm);
        }
    }

    fn check_entry(&self, slot: SessionSlot, vhost: &Name) -> Result<(), Refusal> {
        let client = self.sessions.get(slot).and_then(|it| it.client.as_deref());
        let user = client.map(|client| client.user.clone()).unwrap_or_default();
        self.check_connection_count(&user, vhost)?;
        if self.catalog.may_enter(&user, vhost) {
            return Ok(());
        }
        let text = format!("access to vhost '{vhost}' refused for user '{user}'");
        Err(Refusal::NotAllowed(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A user without a password is checked against the decoy too, so nothing may fit it: not
    /// even what it is made from.
    #[test]
    fn no_password_fits_the_decoy() {
        let decoy = decoy(HashAlgorithm::Sha256, 1);
        assert!(!decoy.verify(b""));
        assert!(!decoy.verify(&salt(1, b"decoy")));
    }
}
