//! A running node that the other commands ask over its HTTP interface.

use std::time::Duration;

use anyhow::{Context, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Where a node is unless the user says otherwise.
pub(crate) const DEFAULT_URL: &str = "http://guest:guest@localhost:15672";

/// Largest answer that is read, in bytes: definitions of millions of queues.
const ANSWER_SIZE_BYTES_MAX: u64 = 1 << 30;
/// Time for a request and its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(2);

/// Where requests go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Scheme, host and port, without what follows.
    base: String,
    /// The value of the `Authorization` header.
    authorization: String,
}

impl Target {
    /// Reads `http://user:password@host:port`; what follows is passed over.
    pub(crate) fn parse(url: &str) -> anyhow::Result<Self> {
        let rest = url
            .strip_prefix("http://")
            .with_context(|| format!("{url:?} does not begin with http://"))?;
        let rest = rest.split('/').next().unwrap_or(rest);
        let (user, host) = rest.rsplit_once('@').unwrap_or(("guest:guest", rest));
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        let plain = |text| percent_decode_str(text).collect::<Vec<u8>>();
        let credentials = [&plain(user)[..], b":", &plain(password)].concat();
        Ok(Self {
            base: format!("http://{host}"),
            authorization: format!("Basic {}", STANDARD.encode(credentials)),
        })
    }

    /// GET of a path below `/api`.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let request = agent().get(self.url(path));
        let request = request.header("Authorization", &self.authorization);
        body(request.call()?)
    }

    /// POST of JSON to a path below `/api`.
    pub(crate) fn post(&self, path: &str, json: &[u8]) -> anyhow::Result<Vec<u8>> {
        let request = agent().post(self.url(path));
        let request = request
            .header("Authorization", &self.authorization)
            .header("Content-Type", "application/json");
        body(request.send(json)?)
    }

    /// PUT without a body to a path below `/api`.
    pub(crate) fn put(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let request = agent().put(self.url(path));
        let request = request.header("Authorization", &self.authorization);
        body(request.send_empty()?)
    }

    /// DELETE of a path below `/api`.
    pub(crate) fn delete(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let request = agent().delete(self.url(path));
        let request = request.header("Authorization", &self.authorization);
        body(request.call()?)
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/{path}", self.base)
    }
}

/// A name as one segment of a path.
pub(crate) fn segment(name: &str) -> impl std::fmt::Display {
    utf8_percent_encode(name, NON_ALPHANUMERIC)
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(REQUEST_TIMEOUT))
        .build();
    config.into()
}

/// The body of a good answer; a bad one is an error with the node's reason.
fn body(mut response: ureq::http::Response<ureq::Body>) -> anyhow::Result<Vec<u8>> {
    let status = response.status();
    let limited = response
        .body_mut()
        .with_config()
        .limit(ANSWER_SIZE_BYTES_MAX);
    let body = limited.read_to_vec().context("read the answer")?;
    if !status.is_success() {
        bail!(
            "the node answers {status}: {}",
            String::from_utf8_lossy(&body)
        );
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let target = Target::parse("http://a%40b:c%3Ad@host:1/x").expect("a URL");
        assert_eq!(target.base, "http://host:1");
        let credentials = STANDARD.encode("a@b:c:d");
        assert_eq!(target.authorization, format!("Basic {credentials}"));
        let path = format!("definitions/{}", segment("/"));
        assert_eq!(target.url(&path), "http://host:1/api/definitions/%2F");
        let guest = Target::parse("http://localhost:15672").expect("a URL");
        assert_eq!(guest.authorization, "Basic Z3Vlc3Q6Z3Vlc3Q=");
        assert!(Target::parse("https://host").is_err());
    }
}
