//! The configuration file of a command: named by the user, or found in a default location.
//!
//! Owns the search order. Invariant: if a file is named, that file is read and no other.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::failure::Failure;
use crate::config::model::AdminSettings;
use crate::config::{self, Loaded, MAX_FILE_BYTES};
use crate::system::files;

/// The environment variable that names the file if no option does.
const VARIABLE: &str = "LYNCPIN_CONFIG";
/// Default locations: the first existing one is read.
const LOCATIONS: [&str; 2] = ["balancer.yaml", "/etc/lyncpin/balancer.yaml"];

/// Which file to read.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ConfigFile {
    /// Configuration file [default: $LYNCPIN_CONFIG, else balancer.yaml here, else /etc/lyncpin/balancer.yaml]
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    file: Option<PathBuf>,
}

/// A file, and whether the environment variable named it.
#[derive(Debug, PartialEq, Eq)]
struct FoundFile {
    path: PathBuf,
    by_variable: bool,
}

impl ConfigFile {
    /// Whether a file was named.
    pub(super) fn is_named(&self) -> bool {
        self.file.is_some()
    }

    /// The path of the file.
    pub(super) fn find(&self) -> Result<PathBuf, Failure> {
        Ok(self.found()?.path)
    }

    /// Whether it is a regular file, which can be read more than once.
    pub(super) fn is_plain(&self) -> bool {
        let found = self
            .find()
            .and_then(|path| std::fs::metadata(path).map_err(|error| Failure::from_error(&error)));
        found.is_ok_and(|found| found.is_file())
    }

    /// Reads and validates it.
    pub(super) fn read(&self) -> Result<Loaded, Failure> {
        let (name, bytes) = self.bytes()?;
        config::read_bytes(&bytes, &name).map_err(|errors| Failure::invalid_configuration(&errors))
    }

    /// Reads the settings of the admin listener, whatever errors the rest of the file has; also returns its directory.
    pub(super) fn read_admin(&self) -> Result<(AdminSettings, PathBuf), Failure> {
        let (name, bytes) = self.bytes()?;
        let admin = config::read_admin(&bytes, &name).map_err(|errors| {
            Failure::invalid_configuration(&errors).with_line(
                "use `--admin ADDRESS` to reach the running balancer without the configuration",
            )
        })?;
        let directory = Path::new(&name).parent().unwrap_or(Path::new(""));
        Ok((admin, directory.into()))
    }

    fn found(&self) -> Result<FoundFile, Failure> {
        let variable = std::env::var_os(VARIABLE);
        choose(self.file.as_deref(), variable, &LOCATIONS).ok_or_else(|| {
            let [here, system] = LOCATIONS;
            Failure::usage(format!(
                "no configuration found: neither {here} in this directory nor {system} exists"
            ))
            .with_line(format!("name one with `-c FILE` or ${VARIABLE}"))
        })
    }

    fn bytes(&self) -> Result<(String, Vec<u8>), Failure> {
        let FoundFile { path, by_variable } = self.found()?;
        let name = path.display().to_string();
        let bytes = files::read_limited(&path, MAX_FILE_BYTES).map_err(|error| {
            let origin = if by_variable {
                format!(", named by ${VARIABLE}")
            } else {
                String::new()
            };
            Failure::usage(format!("cannot read the configuration {name}{origin}"))
                .caused_by(&error)
        })?;
        Ok((name, bytes))
    }
}

/// The file to read: the named one, else the one in the variable, else the first existing location. A location that cannot
/// be examined counts as existing, so that reading it reports the reason.
fn choose(
    named: Option<&Path>,
    variable: Option<OsString>,
    locations: &[&str],
) -> Option<FoundFile> {
    let found = |path: &Path, by_variable| FoundFile {
        path: path.into(),
        by_variable,
    };
    if let Some(named) = named {
        return Some(found(named, false));
    }
    if let Some(variable) = variable.filter(|variable| !variable.is_empty()) {
        return Some(found(Path::new(&variable), true));
    }
    let is_missing = |error: io::Error| {
        matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
        )
    };
    let mut locations = locations.iter().map(Path::new);
    let existing = locations.find(|path| !std::fs::metadata(path).is_err_and(is_missing));
    existing.map(|path| found(path, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_file_wins_then_the_variable_then_the_first_existing_location() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        let (here, system, missing) = (at("here"), at("system"), at("missing"));
        let path = |choice: Option<FoundFile>| choice.map(|found| found.path.display().to_string());
        let locations = [&*here, &*system];
        assert_eq!(path(choose(None, None, &locations)), None);
        std::fs::write(&system, "").unwrap();
        assert_eq!(path(choose(None, None, &locations)), Some(system.clone()));
        std::fs::write(&here, "").unwrap();
        assert_eq!(path(choose(None, None, &locations)), Some(here.clone()));
        // A named file is read whether it exists or not; an empty variable names none.
        let variable = Some(OsString::from(&missing));
        assert_eq!(
            path(choose(None, variable.clone(), &locations)),
            Some(missing)
        );
        let named = choose(Some(Path::new("named")), variable, &locations);
        assert_eq!(path(named).as_deref(), Some("named"));
        let empty = choose(None, Some(OsString::new()), &locations);
        assert_eq!(path(empty), Some(here));
    }
}
