//! What stands on the command line of `rabbitmqctl` and `rabbitmq-diagnostics`.

use std::{collections::BTreeMap, env, process::ExitCode};

use crate::{
    cli::{
        failure::{Exit, Failure},
        options::Options,
        target::Target,
    },
    rabbit::exit,
};

/// Options that are followed by a value, by all their names.
const VALUED: &[(&str, &str)] = &[
    ("-n", "node"),
    ("--node", "node"),
    ("-p", "vhost"),
    ("--vhost", "vhost"),
    ("-t", "timeout"),
    ("--timeout", "timeout"),
    ("--formatter", "formatter"),
    ("--priority", "priority"),
    ("--apply-to", "apply-to"),
    ("--description", "description"),
    ("--tags", "tags"),
    ("--default-queue-type", "default-queue-type"),
    ("--address", "address"),
];

/// Options that stand alone.
const SWITCHES: &[(&str, &str)] = &[
    ("-q", "quiet"),
    ("--quiet", "quiet"),
    ("-s", "silent"),
    ("--silent", "silent"),
    ("-l", "longnames"),
    ("--longnames", "longnames"),
    ("--no-table-headers", "no-headers"),
    ("--if-empty", "if-empty"),
    ("-e", "if-empty"),
    ("--if-unused", "if-unused"),
    ("-u", "if-unused"),
    ("--online", "online"),
    ("--offline", "offline"),
    ("--local", "local"),
];

/// A command with its options.
#[derive(Debug, Default)]
pub(crate) struct Call {
    pub(crate) command: String,
    pub(crate) arguments: Vec<String>,
    options: BTreeMap<&'static str, String>,
}

/// What a command ends with, if it does not do what it should.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) code: u8,
    pub(crate) text: String,
}

impl Stop {
    pub(crate) fn new(code: u8, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { code, text }
    }

    /// Says it as RabbitMQ does.
    pub(crate) fn report(&self) -> ExitCode {
        if self.text.is_empty() {
            return ExitCode::from(self.code);
        }
        let is_error = [exit::SOFTWARE, exit::NO_USER].contains(&self.code);
        let begin = if is_error { "Error:\n" } else { "" };
        eprintln!("{begin}{}", self.text);
        ExitCode::from(self.code)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        let code = match failure.exit {
            Exit::Usage => exit::USAGE,
            Exit::NotFound => exit::DATA,
            Exit::Unreachable => exit::UNAVAILABLE,
            _ => exit::SOFTWARE,
        };
        let hint = failure.hint.map(|hint| format!("\nhint: {hint}"));
        let begin = if code == exit::UNAVAILABLE {
            "Error: "
        } else {
            ""
        };
        Self::new(
            code,
            format!("{begin}{}{}", failure.what, hint.unwrap_or_default()),
        )
    }
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<Failure>() {
            Ok(failure) => failure.into(),
            Err(error) => Self::new(exit::SOFTWARE, error.to_string()),
        }
    }
}

impl Call {
    pub(crate) fn parse(arguments: Vec<String>) -> Result<Self, Stop> {
        let mut call = Self::default();
        let mut words = Vec::new();
        let mut arguments = arguments.into_iter();
        let mut is_over = false;
        while let Some(word) = arguments.next() {
            if is_over || !word.starts_with('-') || word == "-" {
                words.push(word);
                continue;
            }
            if word == "--" {
                is_over = true;
                continue;
            }
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (word.as_str(), None),
            };
            let named = |table: &[(&str, &'static str)]| {
                let found = table.iter().find(|(known, _)| *known == name);
                found.map(|(_, key)| *key)
            };
            if let Some(key) = named(VALUED) {
                let value = value.or_else(|| arguments.next());
                let missing = || Stop::new(exit::USAGE, format!("{name} needs a value"));
                call.options.insert(key, value.ok_or_else(missing)?);
            } else if let Some(key) = named(SWITCHES) {
                call.options.insert(key, String::new());
            } else {
                let text = format!("Invalid options for this command:\n{name} : unknown option");
                return Err(Stop::new(exit::USAGE, text));
            }
        }
        let mut words = words.into_iter();
        call.command = words.next().unwrap_or_default();
        call.arguments = words.collect();
        Ok(call)
    }

    pub(crate) fn has(&self, option: &str) -> bool {
        self.options.contains_key(option)
    }

    pub(crate) fn option(&self, option: &str) -> Option<&str> {
        self.options.get(option).map(String::as_str)
    }

    /// Says what is being done, unless nobody wants to know.
    pub(crate) fn say(&self, text: &str) -> anyhow::Result<()> {
        if self.has("quiet") || self.has("silent") || self.option("formatter") == Some("json") {
            return Ok(());
        }
        crate::cli::output::text(&format!("{text}\n"))
    }

    pub(crate) fn vhost(&self) -> &str {
        self.option("vhost").unwrap_or("/")
    }

    /// An argument that must be there.
    pub(crate) fn argument(&self, at: usize) -> Result<&str, Stop> {
        let found = self.arguments.get(at).map(String::as_str);
        found.ok_or_else(|| Stop::new(exit::USAGE, "Error: not enough arguments."))
    }

    /// The node: that of `-n name@host` if nothing else names one.
    pub(crate) fn target(&self) -> Result<Target, Stop> {
        let host = self.option("node").and_then(|node| node.split_once('@'));
        let host = host
            .map(|(_, host)| host)
            .filter(|host| *host != "localhost");
        Ok(target(
            host.map(|host| format!("http://{host}:15672")),
            None,
        )?)
    }
}

/// The node that environment and context name, else the one given. In containers of RabbitMQ's the
/// environment also says who may log in.
pub(crate) fn target(
    node: Option<String>,
    user: Option<(String, String)>,
) -> Result<Target, Failure> {
    let is_set = |name: &str| env::var(name).ok().filter(|it| !it.is_empty());
    let login = || {
        Some((
            is_set("RABBITMQ_DEFAULT_USER")?,
            is_set("RABBITMQ_DEFAULT_PASS")?,
        ))
    };
    let own = is_set("STAUNCH_CLI_USER").map(|_| None);
    let user = user.or_else(|| own.unwrap_or_else(login));
    Options::of_node(node, user).target()
}
