//! `check` and `expand`: reading a configuration without running it.

use rustix::process::{Resource, getrlimit};

use super::failure::Failure;
use super::file::ConfigFile;
use super::{print_result, warn};
use crate::config;
use crate::system::reserve;

/// `lyncpin check`
#[derive(Debug, clap::Args)]
pub(super) struct CheckCommand {
    #[command(flatten)]
    file: ConfigFile,
}

impl CheckCommand {
    /// Warnings go to stderr, as errors do; they do not change the exit status.
    pub(super) fn run(&self) -> Result<(), Failure> {
        let loaded = self.file.read()?;
        // The balancer raises its own limit as far as it is allowed to.
        let descriptors = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        let descriptors = descriptors - reserve::size_for(descriptors);
        let lints = config::lint(&loaded, descriptors);
        for lint in &lints {
            warn(&lint.to_string());
        }
        let summary = match lints.len() {
            0 => "the configuration is valid".to_owned(),
            1 => "the configuration is valid, with one warning".to_owned(),
            more => format!("the configuration is valid, with {more} warnings"),
        };
        print_result(&format!("{summary}\n"))
    }
}

/// `lyncpin expand`
#[derive(Debug, clap::Args)]
pub(super) struct Expand {
    #[command(flatten)]
    file: ConfigFile,
}

impl Expand {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let loaded = self.file.read()?;
        print_result(&config::expand(&loaded.config))
    }
}
