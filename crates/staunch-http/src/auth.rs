//! Who asks, and what its tags let it do (RabbitMQ's management plugin).

use std::{net::SocketAddr, time::Instant};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{Method, header, request::Parts},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use staunch_broker::{Access, PasswordHash};
use staunch_types::{Name, Resource};

use crate::{Api, error::ApiError, page_session};

/// Slow password checks at once: each takes a processor and some memory.
pub(crate) const VERIFICATIONS_MAX: usize = 2;

/// Somebody who has logged in and may use the interface at all.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) name: Name,
    pub(crate) tags: Vec<Name>,
}

impl FromRequestParts<Api> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        // A part of a stream, whose caller has just been looked at.
        if let Some(caller) = parts.extensions.get::<Self>() {
            return Ok(caller.clone());
        }
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let is_near = peer.is_some_and(|peer| peer.0.ip().to_canonical().is_loopback());
        let Some(header) = parts.headers.get(header::AUTHORIZATION) else {
            return Self::of_session(parts, api, is_near).await;
        };
        let (name, password) = basic(header.as_bytes())?;
        let name = Name::new(&name).map_err(|_| ApiError::LoginFailed)?;
        let (caller, _) = Self::log_in(api, name, password, is_near).await?;
        Ok(caller)
    }
}

impl Caller {
    /// Whoever has this password; and that as it is kept.
    pub(crate) async fn log_in(
        api: &Api,
        name: Name,
        password: Vec<u8>,
        is_near: bool,
    ) -> Result<(Self, PasswordHash), ApiError> {
        let (hash, tags) = find(api, &name, is_near).await?.unwrap_or_default();
        let hash = hash.unwrap_or_else(|| api.decoy.as_ref().clone());
        if !verify(api, hash.clone(), password).await? {
            return Err(ApiError::LoginFailed);
        }
        Ok((Self { name, tags }.admitted()?, hash))
    }

    /// Whoever opened the session that a cookie names, if the password is still the same.
    async fn of_session(parts: &Parts, api: &Api, is_near: bool) -> Result<Self, ApiError> {
        let token = page_session::token_of(&parts.headers, &api.cookie_name);
        let token = token.ok_or(ApiError::LoginMissing)?;
        let session = api.sessions.find(&token, Instant::now());
        let session = session.ok_or(ApiError::LoginMissing)?;
        let user = find(api, &session.user, is_near).await?;
        let same = |hash: &PasswordHash| *hash.as_bytes() == *session.password;
        let Some((_, tags)) = user.filter(|(hash, _)| hash.as_ref().is_some_and(same)) else {
            api.sessions.end(&token);
            return Err(ApiError::LoginMissing);
        };
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            session.check_csrf(&parts.headers)?;
        }
        let name = session.user;
        Self { name, tags }.admitted()
    }

    fn admitted(self) -> Result<Self, ApiError> {
        if !self.is_anybody(&["management", "monitoring", "policymaker", "administrator"]) {
            return Err(ApiError::NotAuthorized("Not management user".to_owned()));
        }
        Ok(self)
    }

    /// Everything.
    pub(crate) fn administrator(&self) -> Result<(), ApiError> {
        self.require(&["administrator"], "Not administrator user")
    }

    /// Must see everything.
    pub(crate) fn monitor(&self) -> Result<(), ApiError> {
        self.require(&["monitoring", "administrator"], "Not monitor user")
    }

    /// Sees everything.
    pub(crate) fn is_monitor(&self) -> bool {
        self.is_anybody(&["monitoring", "administrator"])
    }

    /// Policies and parameters.
    pub(crate) fn policymaker(&self) -> Result<(), ApiError> {
        self.require(
            &["policymaker", "administrator"],
            "User not authorised to access object",
        )
    }

    /// The virtual host, which must be there, and must let the caller in.
    pub(crate) async fn enter(&self, api: &Api, vhost: &Name) -> Result<(), ApiError> {
        let (user, vhost) = (self.name.clone(), vhost.clone());
        let (is_there, may_enter) = api
            .node
            .read(move |catalog| {
                let is_there = catalog.check_vhost(&vhost).is_ok();
                (is_there, catalog.may_enter(&user, &vhost))
            })
            .await?;
        match (is_there, may_enter || self.is_anybody(&["administrator"])) {
            (false, _) => Err(ApiError::NotFound),
            (true, true) => Ok(()),
            (true, false) => Err(ApiError::NotAuthorized(
                "User not authorised to access virtual host".to_owned(),
            )),
        }
    }

    /// The virtual hosts that let the caller in.
    pub(crate) async fn vhosts(&self, api: &Api) -> Result<Vec<Name>, ApiError> {
        self.vhosts_if(api, false).await
    }

    /// The virtual hosts that the caller sees: monitors see all, but not what is in them.
    pub(crate) async fn vhosts_seen(&self, api: &Api) -> Result<Vec<Name>, ApiError> {
        self.vhosts_if(api, self.is_monitor()).await
    }

    async fn vhosts_if(&self, api: &Api, sees_all: bool) -> Result<Vec<Name>, ApiError> {
        let user = self.name.clone();
        api.node
            .read(move |catalog| {
                let names = catalog.vhost_names();
                let seen = names.filter(|name| sees_all || catalog.may_enter(&user, name));
                seen.cloned().collect()
            })
            .await
    }

    /// What messaging permissions say about a queue or exchange, as over AMQP.
    pub(crate) async fn may(
        &self,
        api: &Api,
        vhost: &Name,
        wanted: Vec<(Access, Resource, Name)>,
    ) -> Result<(), ApiError> {
        self.enter(api, vhost).await?;
        let (user, inside) = (self.name.clone(), vhost.clone());
        let refused = api.node.read(move |catalog| {
            wanted.into_iter().find(|(access, resource, name)| {
                !catalog.authorize(&user, &inside, *access, (*resource, name))
            })
        });
        match refused.await? {
            None => Ok(()),
            Some((access, resource, name)) => Err(ApiError::NotAuthorized(format!(
                "ACCESS_REFUSED - {} access to {} '{name}' in vhost '{vhost}' refused for user '{}'",
                access.verb(),
                resource.noun(),
                self.name
            ))),
        }
    }

    /// What topic permissions say about leading messages with this key out of an exchange.
    pub(crate) async fn may_bind(
        &self,
        api: &Api,
        vhost: &Name,
        exchange: &Name,
        key: &Name,
    ) -> Result<(), ApiError> {
        let (user, inside) = (self.name.clone(), vhost.clone());
        let asked = (exchange.clone(), key.clone());
        let is_allowed = api.node.read(move |catalog| {
            catalog.authorize_topic(&user, &inside, &asked.0, Access::Read, &asked.1)
        });
        if is_allowed.await? {
            return Ok(());
        }
        Err(ApiError::NotAuthorized(format!(
            "ACCESS_REFUSED - read access to topic '{key}' in exchange '{exchange}' in vhost \
             '{vhost}' refused for user '{}'",
            self.name
        )))
    }

    /// Whether that is the caller's name.
    pub(crate) fn is_called(&self, user: &Value) -> bool {
        user.as_str() == Some(&self.name.to_string())
    }

    pub(crate) fn is_anybody(&self, tags: &[&str]) -> bool {
        let is = |tag: &Name| tags.iter().any(|wanted| **tag == *wanted.as_bytes());
        self.tags.iter().any(is)
    }

    fn require(&self, tags: &[&str], otherwise: &str) -> Result<(), ApiError> {
        if self.is_anybody(tags) {
            Ok(())
        } else {
            Err(ApiError::NotAuthorized(otherwise.to_owned()))
        }
    }
}

/// What is kept of a user's password, and its tags.
type Known = (Option<PasswordHash>, Vec<Name>);

/// What is known of a user.
///
/// # Errors
/// [`ApiError::LoginFailed`] if it may log in from this machine only, and is not there.
async fn find(api: &Api, name: &Name, is_near: bool) -> Result<Option<Known>, ApiError> {
    if !is_near && api.settings.loopback_users.contains(name) {
        return Err(ApiError::LoginFailed);
    }
    let asked = name.clone();
    let user = api.node.read(move |catalog| catalog.user(&asked).cloned());
    Ok(user.await?.map(|user| (user.password, user.tags)))
}

/// User and password of `Authorization: Basic` (RFC 7617).
///
/// # Errors
/// [`ApiError::LoginFailed`] for another scheme, [`ApiError::LoginMalformed`].
fn basic(header: &[u8]) -> Result<(Vec<u8>, Vec<u8>), ApiError> {
    let (scheme, encoded) = match header.iter().position(|byte| *byte == b' ') {
        Some(space) => (&header[..space], &header[space + 1..]),
        None => (header, &[] as &[u8]),
    };
    if !scheme.eq_ignore_ascii_case(b"Basic") {
        return Err(ApiError::LoginFailed);
    }
    let decoded = STANDARD.decode(encoded.trim_ascii());
    let decoded = decoded.map_err(|_| ApiError::LoginMalformed)?;
    let colon = decoded.iter().position(|byte| *byte == b':');
    let colon = colon.ok_or(ApiError::LoginMalformed)?;
    Ok((decoded[..colon].to_vec(), decoded[colon + 1..].to_vec()))
}

/// Checks a password, a slow one on a thread of its own.
async fn verify(api: &Api, hash: PasswordHash, password: Vec<u8>) -> Result<bool, ApiError> {
    if password.is_empty() {
        return Ok(false);
    }
    if !hash.is_slow() {
        return Ok(hash.verify(&password));
    }
    let turn = api.verifying.acquire().await;
    let _turn = turn.map_err(|_| ApiError::Unavailable)?;
    tokio::task::spawn_blocking(move || hash.verify(&password))
        .await
        .map_err(|_| ApiError::Unavailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials_are_split_at_the_first_colon() {
        let header = |text: &str| basic(format!("Basic {}", STANDARD.encode(text)).as_bytes()).ok();
        let split = |user: &str, password: &str| Some((user.into(), password.into()));
        assert_eq!(header("guest:guest"), split("guest", "guest"));
        assert_eq!(header("a:b:c"), split("a", "b:c"));
        assert_eq!(header(":"), split("", ""));
        assert_eq!(header("nobody"), None);
        for other in ["", "Bearer abc", "Basicguest"] {
            let error = basic(other.as_bytes());
            assert!(matches!(error, Err(ApiError::LoginFailed)), "{other}");
        }
        for wrong in ["Basic", "Basic ", "Basic ???"] {
            let error = basic(wrong.as_bytes());
            assert!(matches!(error, Err(ApiError::LoginMalformed)), "{wrong}");
        }
    }
}
