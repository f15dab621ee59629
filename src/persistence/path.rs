//! Where the file is, who has it, and what becomes of one that cannot be read.
//!
//! Owns the names beside the file and the lock. Knows nothing of what is in it. Invariant: nothing that was found under
//! the file's name is ever overwritten unread: it is set aside first.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::types::timestamp::Timestamp;

/// Only the owner reads and writes: the file holds addresses and a secret.
pub(super) const MODE: u32 = 0o600;
/// So many files that could not be read are kept; the oldest then goes.
const ASIDE_MOST: usize = 5;

/// Why the store cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// A file beside it cannot be made: the directory is not there, or not writable.
    Directory(PathBuf, io::Error),
    /// Another process has it.
    Held(PathBuf),
    /// It is a directory, a device or the like.
    NotAFile(PathBuf),
    /// It can be neither read nor set aside.
    Aside(PathBuf, io::Error),
    /// The thread that writes it cannot be started.
    Thread(io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("affinity_store cannot be opened: ")?;
        match self {
            Self::Directory(path, _) => write!(
                f,
                "the directory of {} must exist and be writable",
                path.display()
            ),
            Self::Held(path) => write!(f, "another process has {}", path.display()),
            Self::NotAFile(path) => write!(f, "{} is there and is no file", path.display()),
            Self::Aside(path, _) => {
                write!(f, "{} can be neither read nor set aside", path.display())
            }
            Self::Thread(_) => f.write_str("its thread cannot be started"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Directory(_, error) | Self::Aside(_, error) | Self::Thread(error) => Some(error),
            Self::Held(_) | Self::NotAFile(_) => None,
        }
    }
}

/// The file's names, and the lock on them for as long as this lives.
#[derive(Debug)]
pub(super) struct StorePath {
    /// The file.
    pub(super) file: PathBuf,
    /// The next one, until it is whole.
    pub(super) draft: PathBuf,
    directory: PathBuf,
    _lock: Option<File>,
}

impl StorePath {
    /// Takes the place, if no other process has it.
    pub(super) fn take(path: &Path) -> Result<Self, OpenError> {
        // A link is followed once, here: the file is replaced by rename, and that is to happen where it leads.
        let file = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if fs::metadata(&file).is_ok_and(|found| !found.is_file()) {
            return Err(OpenError::NotAFile(file));
        }
        let directory = match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            Some(_) | None => PathBuf::from("."),
        };
        Ok(Self {
            _lock: lock(&file)?,
            draft: beside(&file, "new"),
            directory,
            file,
        })
    }

    /// Makes a rename in the directory last (fsync(2)).
    pub(super) fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }

    /// Gives the file another name, under which nothing touches it; says which.
    pub(super) fn set_aside(&self) -> Result<PathBuf, OpenError> {
        let now = Timestamp(SystemTime::now()).to_string().replace(':', "");
        let mut aside = beside(&self.file, &format!("unreadable-{now}"));
        // One a millisecond at most, so this ends.
        while aside.exists() {
            aside.as_mut_os_string().push("+");
        }
        fs::rename(&self.file, &aside)
            .and_then(|()| self.sync_directory())
            .map_err(|error| OpenError::Aside(self.file.clone(), error))?;
        self.forget_oldest();
        Ok(aside)
    }

    /// What remains of the files that were set aside is the newest.
    fn forget_oldest(&self) {
        let Some(name) = self.file.file_name() else {
            return;
        };
        let start = format!("{}.unreadable-", name.to_string_lossy());
        let entries = fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten();
        let mut aside: Vec<PathBuf> = entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&start))
            .map(|entry| entry.path())
            .collect();
        // Their names sort by time.
        aside.sort();
        for old in aside.iter().rev().skip(ASIDE_MOST) {
            match fs::remove_file(old) {
                Ok(()) => tracing::info!(
                    target: "lyncpin::store",
                    file = %old.display(),
                    "affinity store: the oldest of the files that were set aside is removed"
                ),
                Err(error) => tracing::warn!(
                    target: "lyncpin::store",
                    file = %old.display(),
                    %error,
                    "affinity store: a file that was set aside cannot be removed"
                ),
            }
        }
    }
}

/// `PATH.ENDING`
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// Holds `PATH.lock` (flock(2)): the file itself is replaced too often to be held. A disk without room for it is no
/// reason not to serve.
fn lock(file: &Path) -> Result<Option<File>, OpenError> {
    let opened = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(MODE)
        .open(beside(file, "lock"));
    let lock = match opened {
        Ok(lock) => lock,
        Err(error) if is_full(&error) => return Ok(None),
        Err(error) => return Err(OpenError::Directory(file.to_owned(), error)),
    };
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(lock)),
        Err(Errno::WOULDBLOCK) => Err(OpenError::Held(file.to_owned())),
        // A file system that has no locks.
        Err(_) => Ok(None),
    }
}

/// Whether a disk, a quota or the limit of a file's size is what is in the way.
fn is_full(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_had_by_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("affinity");
        let place = StorePath::take(&path).unwrap();
        assert!(matches!(StorePath::take(&path), Err(OpenError::Held(_))));
        drop(place);
        StorePath::take(&path).unwrap();
    }

    #[test]
    fn what_is_no_place_for_a_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing/affinity");
        assert!(matches!(
            StorePath::take(&missing),
            Err(OpenError::Directory(..))
        ));
        assert!(matches!(
            StorePath::take(directory.path()),
            Err(OpenError::NotAFile(_))
        ));
        assert!(matches!(
            StorePath::take(Path::new("/dev/null")),
            Err(OpenError::NotAFile(_))
        ));
    }

    #[test]
    fn a_link_is_followed_so_that_it_stays() {
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("real"), directory.path().join("link"));
        fs::write(&real, b"").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let place = StorePath::take(&link).unwrap();
        assert_eq!(place.file, fs::canonicalize(&real).unwrap());
    }

    #[test]
    fn the_newest_of_those_set_aside_are_kept_and_none_is_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("affinity");
        let place = StorePath::take(&path).unwrap();
        let mut kept = Vec::new();
        for number in 0..ASIDE_MOST + 3 {
            fs::write(&path, number.to_string()).unwrap();
            kept.push(place.set_aside().unwrap());
        }
        let left: Vec<&PathBuf> = kept.iter().filter(|path| path.exists()).collect();
        assert_eq!(left.len(), ASIDE_MOST);
        for (number, path) in kept.iter().enumerate().skip(3) {
            assert_eq!(fs::read_to_string(path).unwrap(), number.to_string());
        }
    }
}
