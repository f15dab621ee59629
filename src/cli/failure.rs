//! How a failed command reports its error: text on stderr and an exit status.
//!
//! Invariant: one cause per line, lower case, no backtrace.

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;

use crate::config::ConfigErrors;
use crate::system::reserve;
use crate::telemetry::log::journal;

/// Advice if descriptors are exhausted.
const FEW_DESCRIPTORS: &str = "this process may have too few descriptors: raise the limit of open files (`ulimit -n`, \
    `LimitNOFILE=` of systemd); fewer `workers` need fewer";

/// Why a command failed.
#[derive(Debug)]
pub(super) struct Failure {
    status: u8,
    causes: Vec<String>,
    /// Whether the causes are errors of a configuration.
    of_configuration: bool,
}

impl Failure {
    /// The operation failed: exit status 1.
    pub(super) fn operation(cause: impl Into<String>) -> Self {
        Self {
            status: 1,
            causes: vec![cause.into()],
            of_configuration: false,
        }
    }

    /// An exit status alone; the reason has been reported already.
    pub(super) fn status(status: u8) -> Self {
        Self {
            status,
            causes: Vec::new(),
            of_configuration: false,
        }
    }

    /// A usage or configuration error: exit status 2.
    pub(super) fn usage(cause: impl Into<String>) -> Self {
        Self {
            status: 2,
            causes: vec![cause.into()],
            of_configuration: false,
        }
    }

    /// The configuration is invalid.
    pub(super) fn invalid_configuration(errors: &ConfigErrors) -> Self {
        Self {
            of_configuration: true,
            ..Self::usage(errors.to_string())
        }
    }

    /// Whether the causes are errors of a configuration.
    pub(super) fn is_of_configuration(&self) -> bool {
        self.of_configuration
    }

    /// The same for a command that applies a configuration: an invalid one is then a failed operation, with status 1.
    pub(super) fn rejected(mut self) -> Self {
        if std::mem::take(&mut self.of_configuration) {
            self.status = 1;
        }
        self
    }

    /// Appends an error and its sources to the last cause.
    pub(super) fn caused_by(mut self, error: &(dyn Error + 'static)) -> Self {
        if let Some(last) = self.causes.last_mut() {
            chain(last, Some(error));
        }
        self.with_descriptor_advice(error)
    }

    /// Adds advice if the error is a lack of descriptors.
    fn with_descriptor_advice(self, error: &(dyn Error + 'static)) -> Self {
        if reserve::is_out_of_descriptors(error) {
            self.with_line(FEW_DESCRIPTORS)
        } else {
            self
        }
    }

    /// Adds a line.
    pub(super) fn with_line(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// A failed operation from an error and its sources.
    pub(super) fn from_error(error: &(dyn Error + 'static)) -> Self {
        let mut text = error.to_string();
        chain(&mut text, error.source());
        Self::operation(text).with_descriptor_advice(error)
    }

    /// A usage error from an error and its sources.
    pub(super) fn usage_error(error: &(dyn Error + 'static)) -> Self {
        Self {
            status: 2,
            ..Self::from_error(error)
        }
    }

    /// The causes, one per line.
    pub(super) fn text(&self) -> String {
        self.causes.join("\n")
    }

    /// Prints the causes and returns the exit status.
    pub(super) fn report(&self) -> ExitCode {
        let mut text = String::new();
        for cause in &self.causes {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{cause}");
        }
        if journal::is_standard_error() {
            text = journal::format_error(&text);
        }
        // A closed stderr is ignored: there is no other place to report it.
        let _ = io::Write::write_all(&mut io::stderr(), text.as_bytes());
        ExitCode::from(self.status)
    }
}

/// Appends the sources of an error, unless its text contains them already.
fn chain(text: &mut String, mut cause: Option<&(dyn Error + 'static)>) {
    while let Some(error) = cause {
        let source = match error.downcast_ref::<io::Error>() {
            Some(error) => io_cause(error),
            None => error.to_string(),
        };
        if !text.contains(&source) && !text.contains(&error.to_string()) {
            text.push_str(": ");
            text.push_str(&source);
        }
        cause = error.source();
    }
}

/// The kernel's error text without its number, in lower case.
fn io_cause(error: &io::Error) -> String {
    let text = error.to_string();
    let text = match text.split_once(" (os error ") {
        Some((description, _)) => description,
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
    fn kernel_errors_are_printed_in_lower_case() {
        let error = io::Error::from_raw_os_error(rustix::io::Errno::CONNREFUSED.raw_os_error());
        let failure = Failure::operation("the admin listener cannot be reached").caused_by(&error);
        assert_eq!(
            failure.causes,
            ["the admin listener cannot be reached: connection refused"]
        );
    }

    #[test]
    fn a_cause_is_not_repeated() {
        let error = io::Error::other("the path exists and is not a socket");
        let failure =
            Failure::operation("no: the path exists and is not a socket").caused_by(&error);
        assert_eq!(failure.causes, ["no: the path exists and is not a socket"]);
    }
}
