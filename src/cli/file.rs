//! The configuration file that a command is given.

use std::path::{Path, PathBuf};

use super::failure::Failure;
use crate::config::{self, Loaded};
use crate::files;

/// Read where no other file is named.
const DEFAULT: &str = "balancer.yaml";

/// Which file to read.
#[derive(Debug, clap::Args)]
pub(super) struct ConfigFile {
    /// The configuration [default: balancer.yaml]
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    file: Option<PathBuf>,
}

impl ConfigFile {
    /// Whether a file was named.
    pub(super) fn is_named(&self) -> bool {
        self.file.is_some()
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.file.as_deref().unwrap_or(Path::new(DEFAULT))
    }

    /// Reads and validates it.
    pub(super) fn read(&self) -> Result<Loaded, Failure> {
        let path = self.path();
        let name = path.display().to_string();
        let bytes = files::read(path, config::MAX_FILE_BYTES).map_err(|error| {
            Failure::usage(format!("the configuration {name} cannot be read")).because(&error)
        })?;
        config::read_bytes(&bytes, &name).map_err(|faults| Failure::invalid(&faults))
    }
}
