//! The configuration file that a command is given, or finds.
//!
//! Owns where it is looked for. Invariant: a file that was named is the one that is read, and no other takes its place.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::failure::Failure;
use crate::config::model::AdminSettings;
use crate::config::{self, Loaded, MAX_FILE_BYTES};
use crate::system::files;

/// The variable that names the file where no option does.
const VARIABLE: &str = "LYNCPIN_CONFIG";
/// Where the file is looked for when it is not named: the first that is there is read.
const PLACES: [&str; 2] = ["balancer.yaml", "/etc/lyncpin/balancer.yaml"];

/// Which file to read.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ConfigFile {
    /// Configuration file [default: $LYNCPIN_CONFIG, else balancer.yaml here, else /etc/lyncpin/balancer.yaml]
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    file: Option<PathBuf>,
}

/// A file, and what it was named by.
#[derive(Debug, PartialEq, Eq)]
struct FoundFile {
    path: PathBuf,
    /// Named by the variable.
    by_variable: bool,
}

impl ConfigFile {
    /// Whether a file was named.
    pub(super) fn is_named(&self) -> bool {
        self.file.is_some()
    }

    /// Where it is.
    pub(super) fn find(&self) -> Result<PathBuf, Failure> {
        Ok(self.found()?.path)
    }

    /// Whether it is an ordinary file, which can be read more than once.
    pub(super) fn is_plain(&self) -> bool {
        let found = self
            .find()
            .and_then(|path| std::fs::metadata(path).map_err(|error| Failure::from_error(&error)));
        found.is_ok_and(|found| found.is_file())
    }

    /// Reads and validates it.
    pub(super) fn read(&self) -> Result<Loaded, Failure> {
        let (name, bytes) = self.bytes()?;
        config::read_bytes(&bytes, &name).map_err(|faults| Failure::invalid(&faults))
    }

    /// Reads what it says of the admin listener, whatever is wrong with the rest; and the directory that it is in.
    pub(super) fn read_admin(&self) -> Result<(AdminSettings, PathBuf), Failure> {
        let (name, bytes) = self.bytes()?;
        let admin = config::read_admin(&bytes, &name).map_err(|faults| {
            Failure::invalid(&faults)
                .also("`--admin ADDRESS` asks the running balancer without the configuration")
        })?;
        let directory = Path::new(&name).parent().unwrap_or(Path::new(""));
        Ok((admin, directory.into()))
    }

    fn found(&self) -> Result<FoundFile, Failure> {
        let variable = std::env::var_os(VARIABLE);
        choose(self.file.as_deref(), variable, &PLACES).ok_or_else(|| {
            let [here, system] = PLACES;
            Failure::usage(format!(
                "there is no configuration: neither {here} in this directory nor {system} is there"
            ))
            .also(format!("name one with `-c FILE` or in ${VARIABLE}"))
        })
    }

    fn bytes(&self) -> Result<(String, Vec<u8>), Failure> {
        let FoundFile { path, by_variable } = self.found()?;
        let name = path.display().to_string();
        let bytes = files::read(&path, MAX_FILE_BYTES).map_err(|error| {
            let of = if by_variable {
                format!(", which ${VARIABLE} names,")
            } else {
                String::new()
            };
            Failure::usage(format!("the configuration {name}{of} cannot be read")).because(&error)
        })?;
        Ok((name, bytes))
    }
}

/// The file to read: the one that is named, else by the variable, else the first of these places that is there. One that
/// cannot be looked at is taken for there, so that reading it says why.
fn choose(named: Option<&Path>, variable: Option<OsString>, places: &[&str]) -> Option<FoundFile> {
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
    let mut places = places.iter().map(Path::new);
    let there = places.find(|place| !std::fs::metadata(place).is_err_and(is_missing));
    there.map(|place| found(place, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_file_wins_then_the_variable_then_the_first_place_that_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name).display().to_string();
        let (here, system, missing) = (place("here"), place("system"), place("missing"));
        let path = |choice: Option<FoundFile>| choice.map(|found| found.path.display().to_string());
        let places = [&*here, &*system];
        assert_eq!(path(choose(None, None, &places)), None);
        std::fs::write(&system, "").unwrap();
        assert_eq!(path(choose(None, None, &places)), Some(system.clone()));
        std::fs::write(&here, "").unwrap();
        assert_eq!(path(choose(None, None, &places)), Some(here.clone()));
        // What is named is read, be it there or not; a variable that is empty names nothing.
        let variable = Some(OsString::from(&missing));
        assert_eq!(path(choose(None, variable.clone(), &places)), Some(missing));
        let named = choose(Some(Path::new("named")), variable, &places);
        assert_eq!(path(named).as_deref(), Some("named"));
        let empty = choose(None, Some(OsString::new()), &places);
        assert_eq!(path(empty), Some(here));
    }
}
