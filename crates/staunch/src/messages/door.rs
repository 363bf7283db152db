//! The way in for messages: where the node speaks AMQP.

use std::net::IpAddr;

use staunch_client::{ChannelNumber, ClientError, ConnectOptions, Connection};

use crate::cli::{
    failure::{Exit, Failure},
    target::Target,
};

/// What the HTTP interface calls the protocol.
const PROTOCOL: &str = "amqp";

/// A connection with one open channel.
pub(crate) struct Door {
    pub(crate) connection: Connection,
    pub(crate) channel: ChannelNumber,
}

impl Door {
    /// Connects as the options say; `purpose` is what the node's lists show.
    pub(crate) fn open(target: &Target, purpose: &str) -> Result<Self, Failure> {
        let mut options = options(target)?;
        options.connection_name = format!("staunch {purpose}");
        let mut connection = Connection::open(&options).map_err(failed)?;
        let channel = connection.open_channel().map_err(failed)?;
        Ok(Self {
            connection,
            channel,
        })
    }

    /// Says goodbye. What was done is done, whatever becomes of that.
    pub(crate) fn close(self) {
        drop(self.connection.close());
    }
}

/// What went wrong, with what to do about it.
#[expect(clippy::needless_pass_by_value, reason = "errors are mapped with it")]
pub(crate) fn failed(error: ClientError) -> Failure {
    let exit = match (&error, error.reply_code()) {
        (ClientError::Io { .. } | ClientError::Timeout { .. }, _) => Exit::Unreachable,
        (_, Some(403 | 530)) => Exit::Denied,
        (_, Some(404)) => Exit::NotFound,
        (_, Some(405 | 406)) => Exit::Conflict,
        (ClientError::Url { .. }, _) => Exit::Usage,
        _ => Exit::Failed,
    };
    let failure = Failure::new(exit, error.to_string());
    match exit {
        Exit::Unreachable => failure.with_hint("--amqp amqp://HOST:PORT says where AMQP is spoken"),
        Exit::Denied => failure.with_hint("staunch permission ls shows who may do what"),
        _ => failure,
    }
}

fn options(target: &Target) -> Result<ConnectOptions, Failure> {
    let resolved = &target.resolved;
    let mut options = match &resolved.amqp {
        Some(url) => ConnectOptions::from_url(url).map_err(|_| {
            // The address may hold a password.
            Failure::usage("--amqp is not amqp://host:port")
                .with_hint("AMQP over TLS is not spoken")
        })?,
        None => announced(target)?,
    };
    let has_user = resolved.amqp.as_ref().is_some_and(|url| url.contains('@'));
    if !has_user {
        options.user.clone_from(&resolved.credentials.user);
        options.password.clone_from(&resolved.credentials.password);
    }
    resolved.vhost().clone_into(&mut options.vhost);
    options.timeout = resolved.timeout;
    Ok(options)
}

/// What the HTTP interface says; a listener on every address is where that interface is.
fn announced(target: &Target) -> Result<ConnectOptions, Failure> {
    let overview = target.get("overview?columns=listeners")?;
    let listeners = overview["listeners"].as_array().into_iter().flatten();
    let mut found = listeners.filter(|listener| listener["protocol"] == PROTOCOL);
    let listener = found.next().ok_or_else(|| {
        Failure::new(
            Exit::Unreachable,
            "the node says of no place where it speaks AMQP",
        )
        .with_hint("--amqp amqp://HOST:PORT; AMQP over TLS is not spoken here")
    })?;
    let address = listener["ip_address"].as_str().unwrap_or_default();
    let host = match address.parse::<IpAddr>() {
        Ok(address) if !address.is_unspecified() && !address.is_loopback() => address.to_string(),
        _ => http_host(&target.resolved.node).to_owned(),
    };
    let port = listener["port"].as_u64().unwrap_or_default();
    Ok(ConnectOptions {
        host,
        port: u16::try_from(port).unwrap_or_default(),
        ..ConnectOptions::default()
    })
}

/// The host in `http://host:port`.
fn http_host(node: &str) -> &str {
    let rest = node.split_once("://").map_or(node, |(_, rest)| rest);
    let host = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => host,
        _ => rest,
    };
    host.trim_start_matches('[').trim_end_matches(']')
}

#[test]
fn a_host_is_found() {
    for (node, host) in [
        ("http://h:1", "h"),
        ("https://h", "h"),
        ("http://[::1]:2", "::1"),
        ("http://[::1]", "::1"),
    ] {
        assert_eq!(http_host(node), host);
    }
}
