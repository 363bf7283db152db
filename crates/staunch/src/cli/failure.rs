//! How commands fail: what happened, what to do about it, and with what the process ends.

use std::{fmt, process::ExitCode};

/// What the process ends with. `docs/cli.md` tells users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Something else went wrong, or what was asked about is not well.
    Failed = 1,
    /// The command line makes no sense. clap ends with it, too.
    Usage = 2,
    /// Some of it is done.
    Partial = 3,
    /// What was named is not there.
    NotFound = 4,
    /// Nobody known, a wrong password, or no right to it.
    Denied = 5,
    /// No node answers.
    Unreachable = 6,
    /// It is there already and different, in use, or not empty.
    Conflict = 7,
    /// There is something that a human must look at.
    Findings = 10,
}

impl Exit {
    pub(crate) fn code(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}

/// Why a command is not done.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) what: String,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self {
            exit,
            what: what.into(),
            hint: None,
        }
    }

    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    #[must_use]
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Failure {}

/// Says what was asked about, where the answer only says that it is not there.
pub(crate) trait About<T> {
    /// `thing` is such as `queue 'orders' in virtual host '/'`.
    fn about(self, thing: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T> About<T> for Result<T, Failure> {
    fn about(self, thing: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|failure| match failure.exit {
            Exit::NotFound => Failure {
                what: format!("there is no {}", thing()),
                ..failure
            },
            _ => failure,
        })
    }
}

/// Says where to look, where something is not there.
pub(crate) trait OrElse<T> {
    /// `hint` is given if there is none yet.
    fn or_see(self, hint: &str) -> Result<T, Failure>;
}

impl<T> OrElse<T> for Result<T, Failure> {
    fn or_see(self, hint: &str) -> Result<T, Failure> {
        self.map_err(|failure| match (failure.exit, &failure.hint) {
            (Exit::NotFound, None) => failure.with_hint(hint),
            _ => failure,
        })
    }
}

/// Prints an error with its hint and gives what the process ends with.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let is_pipe = |cause: &(dyn std::error::Error + 'static)| {
        let cause = cause.downcast_ref::<std::io::Error>();
        cause.is_some_and(|it| it.kind() == std::io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(is_pipe) {
        // Who reads has seen enough.
        return ExitCode::SUCCESS;
    }
    eprintln!("staunch: {error:#}");
    let Some(failure) = error.downcast_ref::<Failure>() else {
        return Exit::Failed.code();
    };
    if let Some(hint) = &failure.hint {
        eprintln!("   hint: {hint}");
    }
    failure.exit.code()
}
