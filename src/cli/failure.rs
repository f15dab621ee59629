//! Why a command failed, on stderr and as exit status.
//!
//! Invariant: one cause a line, lower case, no backtrace.

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;

use crate::config::ConfigErrors;
use crate::system::reserve;
use crate::telemetry::log::journal;

/// What to do where there are too few of them.
const FEW_DESCRIPTORS: &str = "this process may have too few descriptors: raise the limit of open files (`ulimit -n`, \
    `LimitNOFILE=` of systemd); fewer `workers` take fewer of them";

/// Why a command failed.
#[derive(Debug)]
pub(super) struct Failure {
    status: u8,
    causes: Vec<String>,
    /// Its causes are the faults of a configuration.
    of_configuration: bool,
}

impl Failure {
    /// It ran, and the answer is bad.
    pub(super) fn answer(cause: impl Into<String>) -> Self {
        Self {
            status: 1,
            causes: vec![cause.into()],
            of_configuration: false,
        }
    }

    /// It ended with this status and has said why already.
    pub(super) fn status(status: u8) -> Self {
        Self {
            status,
            causes: Vec::new(),
            of_configuration: false,
        }
    }

    /// It was asked in the wrong way, or the configuration is invalid.
    pub(super) fn usage(cause: impl Into<String>) -> Self {
        Self {
            status: 2,
            causes: vec![cause.into()],
            of_configuration: false,
        }
    }

    /// The configuration is invalid.
    pub(super) fn invalid(faults: &ConfigErrors) -> Self {
        Self {
            of_configuration: true,
            ..Self::usage(faults.to_string())
        }
    }

    /// Whether its causes are the errors of a configuration.
    pub(super) fn is_of_configuration(&self) -> bool {
        self.of_configuration
    }

    /// The same for a command that would bring the configuration into force: it ran, and the answer is bad.
    pub(super) fn rejected(mut self) -> Self {
        if std::mem::take(&mut self.of_configuration) {
            self.status = 1;
        }
        self
    }

    /// The same, with what stands behind the last cause.
    pub(super) fn because(mut self, error: &(dyn Error + 'static)) -> Self {
        if let Some(last) = self.causes.last_mut() {
            chain(last, Some(error));
        }
        self.if_exhausted(error)
    }

    /// The same, with what to do where descriptors are lacking.
    fn if_exhausted(self, error: &(dyn Error + 'static)) -> Self {
        if reserve::is_exhausted(error) {
            self.also(FEW_DESCRIPTORS)
        } else {
            self
        }
    }

    /// The same, and one more line.
    pub(super) fn also(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// An error and what stands behind it, as a bad answer.
    pub(super) fn from_error(error: &(dyn Error + 'static)) -> Self {
        let mut text = error.to_string();
        chain(&mut text, error.source());
        Self::answer(text).if_exhausted(error)
    }

    /// The same as wrong usage.
    pub(super) fn usage_error(error: &(dyn Error + 'static)) -> Self {
        Self {
            status: 2,
            ..Self::from_error(error)
        }
    }

    /// The causes, a line each.
    pub(super) fn text(&self) -> String {
        self.causes.join("\n")
    }

    /// Prints the causes and gives the exit status.
    pub(super) fn tell(&self) -> ExitCode {
        let mut text = String::new();
        for cause in &self.causes {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{cause}");
        }
        if journal::is_stderr() {
            text = journal::as_error(&text);
        }
        // Nobody is left to tell that stderr is closed.
        let _ = io::Write::write_all(&mut io::stderr(), text.as_bytes());
        ExitCode::from(self.status)
    }
}

/// Appends what stands behind an error, unless its text has said so already.
fn chain(text: &mut String, mut cause: Option<&(dyn Error + 'static)>) {
    while let Some(error) = cause {
        let said = match error.downcast_ref::<io::Error>() {
            Some(error) => io_cause(error),
            None => error.to_string(),
        };
        if !text.contains(&said) && !text.contains(&error.to_string()) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
}

/// What the kernel said, without its number and in lower case.
fn io_cause(error: &io::Error) -> String {
    let text = error.to_string();
    let text = match text.split_once(" (os error ") {
        Some((said, _)) => said,
        None => &text,
    };
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(characters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_told_in_lower_case() {
        let error = io::Error::from_raw_os_error(rustix::io::Errno::CONNREFUSED.raw_os_error());
        let failure = Failure::answer("the admin listener cannot be reached").because(&error);
        assert_eq!(
            failure.causes,
            ["the admin listener cannot be reached: connection refused"]
        );
    }

    #[test]
    fn a_cause_is_not_said_twice() {
        let error = io::Error::other("the path is there and is no socket");
        let failure = Failure::answer("no: the path is there and is no socket").because(&error);
        assert_eq!(failure.causes, ["no: the path is there and is no socket"]);
    }
}
