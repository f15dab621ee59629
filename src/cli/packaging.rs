//! `completions` and `man`: files for packages, generated from the definition of the command line.
//!
//! Invariant: nothing here is written by hand, so a page cannot differ from the command.

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use super::failure::Failure;
use super::{Arguments, print_result};

/// `lyncpin completions`
#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// The shell to print completions for
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let mut script = Vec::new();
        let mut described = Arguments::command();
        let name = described.get_name().to_owned();
        clap_complete::generate(self.shell, &mut described, name, &mut script);
        print_result(&String::from_utf8_lossy(&script))
    }
}

/// `lyncpin man`
#[derive(Debug, clap::Args)]
pub(super) struct Man {
    /// The command whose page to print [default: lyncpin itself]
    command: Vec<String>,
}

impl Man {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let mut whole = Arguments::command().disable_help_subcommand(true);
        whole.build();
        let command = self.command.iter().try_fold(&whole, page_of)?;
        let mut page = Vec::new();
        clap_mangen::Man::new(command.clone())
            .source(concat!("lyncpin ", env!("CARGO_PKG_VERSION")))
            .manual("lyncpin")
            .render(&mut page)
            .map_err(|error| {
                Failure::operation("cannot generate the manual page").caused_by(&error)
            })?;
        print_result(&String::from_utf8_lossy(&page))
    }
}

/// The command as a page of its own. Once built, its name is the one that man(1) uses, `lyncpin-drain`.
fn page_of<'a>(whole: &'a Command, name: &String) -> Result<&'a Command, Failure> {
    let found = whole.find_subcommand(name);
    found.ok_or_else(|| Failure::usage(format!("no such command: {name:?}")))
}
