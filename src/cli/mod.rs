//! The command line.
//!
//! Owns arguments, output and the exit status: 0 success, 1 the operation failed, 2 usage or configuration error. Knows how
//! to call the server and how to send requests to a running balancer; must not know how either works. Invariant: results go
//! to stdout, everything else to stderr; a command that is not built yet fails.

mod admin;
mod affinity;
mod check;
mod demo;
mod explain;
mod failure;
mod file;
mod first_process;
mod packaging;
mod predecessors;
mod reload;
mod run;
mod signals;
mod state;
mod status;
mod table;
mod upgrade;
mod wait;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use failure::Failure;

/// The command line after the program's name.
#[derive(Debug, Parser)]
#[command(
    name = "lyncpin",
    version,
    about = "A layer-4 load balancer with TLS passthrough for Lync and Skype for Business Front Ends",
    after_help = "Exit status: 0 success; 1 the operation failed; 2 usage or configuration error."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the balancer in the foreground
    Run(run::Run),
    /// Validate a configuration: report all errors, and warn of settings that are probably unintended
    Check(check::CheckCommand),
    /// Print the long form that the `lync:` short form stands for
    Expand(check::Expand),
    /// Show which route, pool and backend a client gets, and why
    Explain(explain::Explain),
    /// Show listeners, pools and backends: state, health, connections, bytes and pins
    Status(status::Status),
    /// Stop sending new clients to a backend; pinned clients stay until the deadline
    Drain(state::Drain),
    /// Put a backend into maintenance: stop routing to it and reset its connections
    Maintain(state::Maintain),
    /// Put a backend back into service: end a drain or maintenance
    Ready(state::StateCommand),
    /// List, show, set, move and clear pins, which keep a client on its backend
    Affinity(affinity::AffinityCommands),
    /// Start simulated Front Ends and a balancer in front of them, all on loopback
    Demo(demo::Demo),
    /// Reload the configuration without restarting
    Reload(reload::Reload),
    /// Replace the running process with the installed binary without dropping connections
    Upgrade(upgrade::Upgrade),
    /// Write a configuration from a few answers (not built yet)
    Init(NotImplemented),
    /// Check a Lync deployment over the network (not built yet)
    Doctor(NotImplemented),
    /// Change the weight of a backend in the running process (not built yet)
    Weight(NotImplemented),
    /// Print a JSON schema of the configuration (not built yet)
    Schema(NotImplemented),
    /// Print shell completions
    Completions(packaging::Completions),
    /// Print a manual page
    Man(packaging::Man),
}

/// Accepts any arguments, so that the error is that the command is not built, not that an argument is wrong.
#[derive(Debug, clap::Args)]
struct NotImplemented {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl NotImplemented {
    fn fail(&self, command: &str) -> Result<(), Failure> {
        let _ = &self.arguments;
        Err(Failure::usage(format!(
            "`lyncpin {command}` is not built yet"
        )))
    }
}

/// Runs the command given on the command line.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version go to stdout; a closed stdout is not an error.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match dispatch(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(run) => run.run(),
        Command::Check(check) => check.run(),
        Command::Expand(expand) => expand.run(),
        Command::Explain(explain) => explain.run(),
        Command::Status(status) => status.run(),
        Command::Drain(drain) => drain.run(),
        Command::Maintain(maintain) => maintain.run(),
        Command::Ready(change) => change.ready(),
        Command::Affinity(affinity) => affinity.run(),
        Command::Demo(demo) => demo.run(),
        Command::Reload(reload) => reload.run(),
        Command::Upgrade(upgrade) => upgrade.run(),
        Command::Init(unbuilt) => unbuilt.fail("init"),
        Command::Doctor(unbuilt) => unbuilt.fail("doctor"),
        Command::Weight(unbuilt) => unbuilt.fail("weight"),
        Command::Schema(unbuilt) => unbuilt.fail("schema"),
        Command::Completions(completions) => completions.run(),
        Command::Man(man) => man.run(),
    }
}

/// Every command's name and its long options, for the test that compares them with `docs/commands.md`.
#[must_use]
pub fn commands() -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    collect_commands(&Arguments::command(), "", &mut found);
    found
}

/// Whether these words, after the program's name, are a valid command line; for the test of commands in the
/// documentation that it cannot run.
///
/// # Errors
///
/// The error text as it would be printed.
pub fn parse(words: &[String]) -> Result<(), String> {
    let program = std::iter::once("lyncpin");
    let all = program.chain(words.iter().map(String::as_str));
    let parsed = Arguments::try_parse_from(all);
    parsed.map(drop).map_err(|error| error.to_string())
}

/// Adds the subcommands of `parent`, except those that only group others.
fn collect_commands(parent: &clap::Command, prefix: &str, found: &mut Vec<(String, Vec<String>)>) {
    for command in parent.get_subcommands() {
        let name = format!("{prefix}{}", command.get_name());
        if command.has_subcommands() {
            collect_commands(command, &format!("{name} "), found);
            continue;
        }
        let options = command.get_arguments().filter_map(clap::Arg::get_long);
        found.push((name, options.map(|option| format!("--{option}")).collect()));
    }
}

/// Prints the result of a command. It is not an error if the reader has closed stdout.
fn print_result(text: &str) -> Result<(), Failure> {
    print(text).map(|_| ())
}

/// Whether stdout still has a reader.
#[derive(Debug, PartialEq, Eq)]
enum OutputReader {
    Present,
    Gone,
}

fn print(text: &str) -> Result<OutputReader, Failure> {
    use std::io::{ErrorKind, Write as _};
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        Ok(()) => Ok(OutputReader::Present),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(OutputReader::Gone),
        Err(error) => Err(Failure::operation("cannot write to standard output").caused_by(&error)),
    }
}

/// Prints a message to stderr; a closed stderr is ignored.
fn warn(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_definition_is_consistent() {
        Arguments::command().debug_assert();
    }
}
