//! The options that every command has that speaks with a node.

use std::{env, fs, path::PathBuf, time::Duration};

use clap::Args;

use crate::cli::{
    contexts::{Context, Contexts},
    failure::Failure,
    target::{Credentials, Target},
};

/// Where a node is unless somebody says otherwise.
const DEFAULT_NODE: &str = "http://localhost:15672";
/// Time for a request and its answer, in seconds.
const TIMEOUT_SECONDS: u64 = 120;
/// The virtual host unless somebody names one.
const DEFAULT_VHOST: &str = "/";

/// Variables that say what options leave open.
const NODE_VARIABLE: &str = "STAUNCH_CLI_NODE";
const CONTEXT_VARIABLE: &str = "STAUNCH_CLI_CONTEXT";
const USER_VARIABLE: &str = "STAUNCH_CLI_USER";
const PASSWORD_VARIABLE: &str = "STAUNCH_CLI_PASSWORD";

/// Where the node is, who asks, and how answers are shown.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "The node")]
pub(crate) struct Options {
    /// Its HTTP interface: http://user:password@host:port; also https [env: `STAUNCH_CLI_NODE`]
    /// [default: <http://localhost:15672>].
    #[arg(long, visible_alias = "url", value_name = "URL", global = true)]
    node: Option<String>,
    /// A context of `staunch context` [env: `STAUNCH_CLI_CONTEXT`].
    #[arg(long, value_name = "NAME", global = true)]
    context: Option<String>,
    /// Who asks [env: `STAUNCH_CLI_USER`] [default: guest].
    #[arg(long, global = true)]
    user: Option<String>,
    /// The password, which other users of this machine can see; better the environment
    /// [env: `STAUNCH_CLI_PASSWORD`].
    #[arg(long, global = true, conflicts_with = "password_file")]
    password: Option<String>,
    /// A file that holds the password.
    #[arg(long, value_name = "FILE", global = true)]
    password_file: Option<PathBuf>,
    /// The virtual host [default: `/`, for lists all].
    #[arg(short = 'p', long, value_name = "NAME", global = true)]
    vhost: Option<String>,
    /// Authorities that may vouch for the node, as PEM [default: the system's].
    #[arg(long, value_name = "FILE", global = true)]
    ca: Option<PathBuf>,
    /// Where it speaks AMQP: <amqp://host:port> [default: what its HTTP interface says].
    #[arg(long, value_name = "URL", global = true)]
    amqp: Option<String>,
    /// Longest wait for an answer, in seconds [default: 120].
    #[arg(long, value_name = "SECONDS", global = true)]
    timeout: Option<u64>,
    /// Prints JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// Options with what the environment and the context add.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// Where the HTTP interface is, without user and password.
    pub(crate) node: String,
    pub(crate) credentials: Credentials,
    pub(crate) vhost: Option<String>,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) amqp: Option<String>,
    pub(crate) timeout: Duration,
}

impl Options {
    /// The node that these options name.
    pub(crate) fn target(&self) -> Result<Target, Failure> {
        Target::new(self.resolved()?)
    }

    /// The virtual host, if one is named.
    pub(crate) fn vhost_named(&self) -> Result<Option<String>, Failure> {
        if self.vhost.is_some() {
            return Ok(self.vhost.clone());
        }
        Ok(self.context()?.and_then(|context| context.vhost))
    }

    /// Options of a command that asks no node.
    pub(crate) fn printing(json: bool) -> Self {
        Self {
            json,
            ..Self::default()
        }
    }

    /// Options for that node unless the environment or a context names one, as that user.
    pub(crate) fn of_node(node: Option<String>, login: Option<(String, String)>) -> Self {
        let is_named = variable(NODE_VARIABLE).is_some() || variable(CONTEXT_VARIABLE).is_some();
        let (user, password) = login.unzip();
        Self {
            node: node.filter(|_| !is_named),
            user,
            password,
            ..Self::default()
        }
    }

    /// Options for that node, whatever the environment says, as that user.
    pub(crate) fn at(node: String, login: Option<(String, String)>) -> Self {
        let (user, password) = login.unzip();
        Self {
            node: Some(node),
            user,
            password,
            ..Self::default()
        }
    }

    /// With the authorities that another target trusts.
    pub(crate) fn with_ca_of(mut self, target: &Target) -> Self {
        self.ca.clone_from(&target.resolved.ca);
        self
    }

    pub(crate) fn resolved(&self) -> Result<Resolved, Failure> {
        let context = self.context()?;
        let given = self.node.clone();
        let from_context = context.as_ref().map(|context| context.node.clone());
        let node = given.or(from_context).or_else(|| variable(NODE_VARIABLE));
        let node = node.unwrap_or_else(|| DEFAULT_NODE.to_owned());
        let (node, in_url) = Credentials::split(&node)?;
        let context = context.unwrap_or_default();
        let credentials = self.credentials(in_url, &context)?;
        Ok(Resolved {
            node,
            credentials,
            vhost: self.vhost.clone().or(context.vhost),
            ca: self.ca.clone().or(context.ca),
            amqp: self.amqp.clone().or(context.amqp),
            timeout: Duration::from_secs(self.timeout.unwrap_or(TIMEOUT_SECONDS)),
        })
    }

    /// The context in force: none if the node is named, else the one that is named here, in the
    /// environment (unless that names a node) or in the file.
    fn context(&self) -> Result<Option<Context>, Failure> {
        if self.node.is_some() {
            return Ok(None);
        }
        if let Some(name) = &self.context {
            return Contexts::load()?.named(name).map(Some);
        }
        if variable(NODE_VARIABLE).is_some() {
            return Ok(None);
        }
        let contexts = Contexts::load()?;
        match variable(CONTEXT_VARIABLE).or_else(|| contexts.current.clone()) {
            Some(name) => contexts.named(&name).map(Some),
            None => Ok(None),
        }
    }

    fn credentials(
        &self,
        in_url: Option<Credentials>,
        context: &Context,
    ) -> Result<Credentials, Failure> {
        let in_file = |file: &Option<PathBuf>| file.as_ref().map(read_password).transpose();
        let given = match in_file(&self.password_file)? {
            Some(password) => Some(password),
            None => self.password.clone(),
        };
        let in_context = match in_file(&context.password_file)? {
            Some(password) => Some(password),
            None => context.password.clone(),
        };
        let (user_in_url, password_in_url) = in_url
            .map(|it| (it.user, it.password))
            .map_or((None, None), |(user, password)| {
                (Some(user), Some(password))
            });
        let user = self.user.clone().or(user_in_url);
        let user = user.or_else(|| context.user.clone());
        let user = user.or_else(|| variable(USER_VARIABLE));
        let password = given.or(password_in_url).or(in_context);
        let password = password.or_else(|| variable(PASSWORD_VARIABLE));
        match (user, password) {
            (None, None) => Ok(Credentials::guest()),
            (None, Some(password)) => Ok(Credentials {
                password,
                ..Credentials::guest()
            }),
            (Some(user), Some(password)) => Ok(Credentials { user, password }),
            (Some(user), None) if user == Credentials::guest().user => Ok(Credentials::guest()),
            (Some(user), None) => Err(Failure::usage(format!("no password for user '{user}'"))
                .with_hint(format!("--password-file FILE, or {PASSWORD_VARIABLE}"))),
        }
    }
}

impl Resolved {
    /// The virtual host that names without one are in.
    pub(crate) fn vhost(&self) -> &str {
        self.vhost.as_deref().unwrap_or(DEFAULT_VHOST)
    }
}

/// A variable that is set and not empty.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn read_password(file: &PathBuf) -> Result<String, Failure> {
    let text = fs::read_to_string(file)
        .map_err(|error| Failure::usage(format!("password file {}: {error}", file.display())))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
