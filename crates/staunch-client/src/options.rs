//! Where to connect, and as whom.

use std::time::Duration;

use crate::error::ClientError;

/// How to connect to a server.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User.
    pub user: String,
    /// Password.
    pub password: String,
    /// Virtual host.
    pub vhost: String,
    /// Heartbeat interval in seconds; 0 turns heartbeats off. The server's wish is ignored.
    pub heartbeat_seconds: u16,
    /// Largest frame wished for, in bytes; the server may insist on less.
    pub frame_max: u32,
    /// How long connecting, and the answer to any synchronous method, may take.
    pub timeout: Duration,
    /// Shown by the server's management.
    pub connection_name: String,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 5672,
            user: "guest".to_owned(),
            password: "guest".to_owned(),
            vhost: "/".to_owned(),
            heartbeat_seconds: 0,
            frame_max: 131_072,
            timeout: Duration::from_secs(30),
            connection_name: "staunch-client".to_owned(),
        }
    }
}

impl ConnectOptions {
    /// Reads `amqp://user:password@host:port/vhost`; every part but the host may be left out.
    /// An empty vhost is `/`, so that both `amqp://host` and `amqp://host/` mean the default.
    ///
    /// # Errors
    /// [`ClientError::Url`].
    pub fn from_url(url: &str) -> Result<Self, ClientError> {
        let wrong = |why| ClientError::Url {
            url: url.to_owned(),
            why,
        };
        let rest = url
            .strip_prefix("amqp://")
            .ok_or(wrong("must start with amqp://"))?;
        let rest = rest.split('?').next().unwrap_or(rest);
        let (authority, vhost) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, address) = match authority.rsplit_once('@') {
            Some((credentials, address)) => (Some(credentials), address),
            None => (None, authority),
        };
        let mut options = Self::default();
        if let Some(credentials) = credentials {
            let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
            let decode = |part| percent_decoded(part).ok_or(wrong("bad percent encoding"));
            (options.user, options.password) = (decode(user)?, decode(password)?);
        }
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (address, None),
        };
        if let Some(port) = port {
            options.port = port
                .parse()
                .map_err(|_| wrong("the port is not a number"))?;
        }
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        if host.is_empty() {
            return Err(wrong("the host is missing"));
        }
        host.clone_into(&mut options.host);
        if !vhost.is_empty() {
            options.vhost = percent_decoded(vhost).ok_or(wrong("bad percent encoding"))?;
        }
        Ok(options)
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            out.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        out.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (url, expected) in [
            ("amqp://h", Some("guest:guest h:5672 /")),
            ("amqp://h/", Some("guest:guest h:5672 /")),
            ("amqp://h:1/%2f", Some("guest:guest h:1 /")),
            ("amqp://u:p%40@[::1]:7/v?heartbeat=5", Some("u:p@ ::1:7 v")),
            ("amqp://[::1]", Some("guest:guest ::1:5672 /")),
            ("http://h", None),
            ("amqp://", None),
            ("amqp://h:x", None),
            ("amqp://h/%zz", None),
        ] {
            let options = ConnectOptions::from_url(url).ok();
            let shown = options.map(|o| {
                format!(
                    "{}:{} {}:{} {}",
                    o.user, o.password, o.host, o.port, o.vhost
                )
            });
            assert_eq!(shown.as_deref(), expected, "{url}");
        }
    }
}
