//! A running node that commands ask over its HTTP interface.

use std::{fs, path::Path, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::Value;
use ureq::{
    Agent,
    http::StatusCode,
    tls::{PemItem, RootCerts, TlsConfig, parse_pem},
};

use crate::cli::{
    failure::{Exit, Failure},
    options::Resolved,
};

/// Largest answer that is read, in bytes: definitions of millions of queues.
const ANSWER_SIZE_BYTES_MAX: u64 = 1 << 30;

/// What stays as it is in a part of a URL (RFC 3986, unreserved).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Where systems keep the authorities that they trust.
const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Who asks. Not shown in errors.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Whom every node knows at first.
    pub(crate) fn guest() -> Self {
        Self {
            user: "guest".to_owned(),
            password: "guest".to_owned(),
        }
    }

    /// Takes them out of `http://user:password@host:port/…`; of the rest, what follows the port is
    /// dropped.
    pub(crate) fn split(url: &str) -> Result<(String, Option<Self>), Failure> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        if !["http", "https"].contains(&scheme) {
            let what = format!("{scheme}://… is not http:// or https://");
            return Err(Failure::usage(what).with_hint("the HTTP interface, not AMQP, is meant"));
        }
        let rest = rest.split('/').next().unwrap_or(rest);
        let Some((user, host)) = rest.rsplit_once('@') else {
            return Ok((format!("{scheme}://{rest}"), None));
        };
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        let plain = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let credentials = Self {
            user: plain(user),
            password: plain(password),
        };
        Ok((format!("{scheme}://{host}"), Some(credentials)))
    }
}

/// What a PUT has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// It was not there.
    Created,
    /// It was there.
    Updated,
}

/// Where requests go.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) resolved: Resolved,
    authorization: String,
    agent: Agent,
}

impl Target {
    pub(crate) fn new(resolved: Resolved) -> Result<Self, Failure> {
        let Credentials { user, password } = &resolved.credentials;
        let authorization = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(resolved.timeout));
        if resolved.node.starts_with("https://") {
            config = config.tls_config(tls(resolved.ca.as_deref())?);
        }
        Ok(Self {
            authorization,
            agent: config.build().into(),
            resolved,
        })
    }

    /// The virtual host that names without one are in.
    pub(crate) fn vhost(&self) -> &str {
        self.resolved.vhost()
    }

    /// GET of a path below `/api`.
    pub(crate) fn get(&self, path: &str) -> Result<Value, Failure> {
        let bytes = self.get_bytes(path)?;
        serde_json::from_slice(&bytes).map_err(|error| {
            let what = format!("{} does not answer in JSON: {error}", self.resolved.node);
            Failure::new(Exit::Failed, what)
                .with_hint("is that the HTTP interface of a node? its port is 15672")
        })
    }

    /// GET of a list.
    pub(crate) fn get_list(&self, path: &str) -> Result<Vec<Value>, Failure> {
        match self.get(path)? {
            Value::Array(rows) => Ok(rows),
            mut page => match page.get_mut("items").map(Value::take) {
                Some(Value::Array(rows)) => Ok(rows),
                _ => Err(Failure::new(Exit::Failed, "the answer is no list")),
            },
        }
    }

    /// GET of anything.
    pub(crate) fn get_bytes(&self, path: &str) -> Result<Vec<u8>, Failure> {
        let request = self.agent.get(self.url(path));
        let request = request.header("Authorization", &self.authorization);
        self.answered(request.call()).map(|(_, body)| body)
    }

    /// GET of what goes on until it ends, or begins behind the event `last` if that is not empty.
    pub(crate) fn stream(
        &self,
        path: &str,
        last: &str,
    ) -> Result<ureq::BodyReader<'static>, Failure> {
        let request = self.agent.get(self.url(path)).config();
        let request = request
            .timeout_global(None)
            .timeout_connect(Some(self.resolved.timeout));
        let mut request = request
            .build()
            .header("Authorization", &self.authorization)
            .header("Accept", "text/event-stream");
        if !last.is_empty() {
            request = request.header("Last-Event-ID", last);
        }
        let response = request.call().map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if !status.is_success() {
            let mut body = response.into_body();
            let body = body
                .read_to_vec()
                .map_err(|error| self.unreachable(&error))?;
            return Err(self.refused(status, &body));
        }
        let body = response.into_body().into_with_config();
        Ok(body.limit(u64::MAX).reader())
    }

    /// GET of a check: whether it passed, and what it says.
    pub(crate) fn check(&self, path: &str) -> Result<(bool, Value), Failure> {
        let request = self.agent.get(self.url(path));
        let request = request.header("Authorization", &self.authorization);
        let (status, body) = self.read(request.call())?;
        if status.is_success() || status == StatusCode::SERVICE_UNAVAILABLE {
            let said = serde_json::from_slice(&body).unwrap_or(Value::Null);
            return Ok((status.is_success(), said));
        }
        Err(self.refused(status, &body))
    }

    /// PUT to a path below `/api`.
    pub(crate) fn put(&self, path: &str, json: &Value) -> Result<Put, Failure> {
        let request = self.agent.put(self.url(path));
        let request = request
            .header("Authorization", &self.authorization)
            .header("Content-Type", "application/json");
        let (status, _) = self.answered(request.send(json.to_string().as_bytes()))?;
        Ok(if status == StatusCode::CREATED {
            Put::Created
        } else {
            Put::Updated
        })
    }

    /// POST to a path below `/api`; the answer's body.
    pub(crate) fn post(&self, path: &str, json: &[u8]) -> Result<Vec<u8>, Failure> {
        let request = self.agent.post(self.url(path));
        let request = request
            .header("Authorization", &self.authorization)
            .header("Content-Type", "application/json");
        self.answered(request.send(json)).map(|(_, body)| body)
    }

    /// DELETE of a path below `/api`; the answer's body.
    pub(crate) fn delete(&self, path: &str) -> Result<Vec<u8>, Failure> {
        self.delete_saying(path, None)
    }

    /// DELETE with a reason for those whom it concerns.
    pub(crate) fn delete_saying(
        &self,
        path: &str,
        reason: Option<&str>,
    ) -> Result<Vec<u8>, Failure> {
        let request = self.agent.delete(self.url(path));
        let mut request = request.header("Authorization", &self.authorization);
        if let Some(reason) = reason {
            request = request.header("X-Reason", reason);
        }
        self.answered(request.call()).map(|(_, body)| body)
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/{path}", self.resolved.node)
    }

    /// A good answer; a bad one is an error with the node's reason.
    fn answered(
        &self,
        called: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<(StatusCode, Vec<u8>), Failure> {
        let (status, body) = self.read(called)?;
        if status.is_success() {
            return Ok((status, body));
        }
        Err(self.refused(status, &body))
    }

    fn read(
        &self,
        called: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<(StatusCode, Vec<u8>), Failure> {
        let mut response = called.map_err(|error| self.unreachable(&error))?;
        let limited = response.body_mut().with_config();
        let limited = limited.limit(ANSWER_SIZE_BYTES_MAX);
        let body = limited
            .read_to_vec()
            .map_err(|error| self.unreachable(&error))?;
        Ok((response.status(), body))
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let what = format!("no answer from {}: {error}", self.resolved.node);
        // TLS also fails as input and output do.
        let is_mistrusted = what.contains("certificate");
        let hint = match error {
            _ if is_mistrusted => "--ca FILE names the authority that vouches for the node",
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) => {
                "--ca FILE names the authority that vouches for the node"
            }
            ureq::Error::Timeout(_) => "--timeout SECONDS waits longer",
            _ => "is a node running there? `staunch server` starts one, --node URL names another",
        };
        Failure::new(Exit::Unreachable, what).with_hint(hint)
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> Failure {
        let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let reason = json["reason"].as_str().or(status.canonical_reason());
        let words: Vec<_> = reason.unwrap_or_default().split_whitespace().collect();
        let reason = words.join(" ");
        let what = format!("the node answers {}: {reason}", status.as_u16());
        let user = &self.resolved.credentials.user;
        match status.as_u16() {
            401 | 403 if reason.contains("Login failed") => {
                Failure::new(Exit::Denied, format!("login as '{user}' failed")).with_hint(
                    "--user and --password-file; guest may log in on its own machine only",
                )
            }
            401 | 403 => Failure::new(Exit::Denied, what).with_hint(format!(
                "what '{user}' may do: staunch user ls, staunch permission ls"
            )),
            404 => Failure::new(Exit::NotFound, what),
            400 if reason.contains("inequivalent arg") => Failure::new(Exit::Conflict, what)
                .with_hint("it is there already, with other properties"),
            400 if reason.contains("not empty") || reason.contains("in use") => {
                Failure::new(Exit::Conflict, what)
            }
            409 | 412 => Failure::new(Exit::Conflict, what),
            503 => Failure::new(Exit::Unreachable, what),
            _ => Failure::new(Exit::Failed, what),
        }
    }
}

/// Names as segments of a path below `/api`.
pub(crate) fn path(segments: &[&str]) -> String {
    let escaped = segments.iter();
    let escaped = escaped.map(|name| segment(name).to_string());
    escaped.collect::<Vec<_>>().join("/")
}

/// A name as one segment of a path.
pub(crate) fn segment(name: &str) -> impl std::fmt::Display {
    utf8_percent_encode(name, ESCAPED)
}

/// Trusts the authorities in a file.
fn tls(ca: Option<&Path>) -> Result<TlsConfig, Failure> {
    let system = || {
        SYSTEM_AUTHORITIES
            .iter()
            .map(Path::new)
            .find(|it| it.exists())
    };
    let file = ca.or_else(system).ok_or_else(|| {
        Failure::usage("this system has no list of authorities").with_hint("--ca FILE names one")
    })?;
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::usage(format!("authorities in {}: {error}", file.display()))
    };
    let pem = fs::read(file).map_err(|error| wrong(&error))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| wrong(&error))? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(wrong(&"no certificate in it"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&certificates))
        .unversioned_rustls_crypto_provider(provider)
        .build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let split = |url| Credentials::split(url).expect("a URL");
        let (node, credentials) = split("http://a%40b:c%3Ad@host:1/x");
        let expected = Credentials {
            user: "a@b".to_owned(),
            password: "c:d".to_owned(),
        };
        assert_eq!(
            (node.as_str(), credentials),
            ("http://host:1", Some(expected))
        );
        assert_eq!(split("host:15672"), ("http://host:15672".to_owned(), None));
        assert_eq!(split("https://h/"), ("https://h".to_owned(), None));
        let error = Credentials::split("amqp://u:secret@host").expect_err("no HTTP");
        assert!(!error.what.contains("secret"), "{error}");
        assert_eq!(path(&["queues", "/", "a b"]), "queues/%2F/a%20b");
    }
}
