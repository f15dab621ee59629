//! The path of the file, its lock, and the files that were set aside.
//!
//! Owns the names beside the file and the lock. Must not know the content. Invariant: a file that could not be read is never
//! overwritten: it is set aside first.

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
/// The most files that are set aside; then the oldest is removed.
const ASIDE_MOST: usize = 5;

/// Why the store cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// No file can be created beside it: the directory does not exist, or is not writable.
    Directory(PathBuf, io::Error),
    /// Another process has it open.
    Held(PathBuf),
    /// It is not a regular file.
    NotAFile(PathBuf),
    /// It can be neither read nor renamed.
    Aside(PathBuf, io::Error),
    /// The writing thread cannot be started.
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
            Self::Held(path) => write!(f, "another process uses {}", path.display()),
            Self::NotAFile(path) => {
                write!(f, "{} exists and is not a regular file", path.display())
            }
            Self::Aside(path, _) => {
                write!(f, "{} can be neither read nor set aside", path.display())
            }
            Self::Thread(_) => f.write_str("the writing thread cannot be started"),
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

/// The path of the file and of those beside it. Holds the lock until it is dropped.
#[derive(Debug)]
pub(super) struct StorePath {
    /// The file.
    pub(super) file: PathBuf,
    /// The next file, until it is complete.
    pub(super) draft: PathBuf,
    directory: PathBuf,
    _lock: Option<File>,
}

impl StorePath {
    /// Locks the file, if no other process has it.
    pub(super) fn lock(path: &Path) -> Result<Self, OpenError> {
        // A link is followed once, here: the file is replaced by rename, which must happen at the target.
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

    /// Makes a rename in the directory durable (fsync(2)).
    pub(super) fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }

    /// Renames the file, and returns the new path. Nothing writes to it any more.
    pub(super) fn set_aside(&self) -> Result<PathBuf, OpenError> {
        let now = Timestamp(SystemTime::now()).to_string().replace(':', "");
        let mut aside = beside(&self.file, &format!("unreadable-{now}"));
        // There is at most one a millisecond, so this ends.
        while aside.exists() {
            aside.as_mut_os_string().push("+");
        }
        fs::rename(&self.file, &aside)
            .and_then(|()| self.sync_directory())
            .map_err(|error| OpenError::Aside(self.file.clone(), error))?;
        self.remove_oldest();
        Ok(aside)
    }

    /// Removes all but the newest of the files that were set aside.
    fn remove_oldest(&self) {
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
                    "affinity store: the oldest of the files that were set aside was removed"
                ),
                Err(error) => tracing::warn!(
                    target: "lyncpin::store",
                    file = %old.display(),
                    %error,
                    "affinity store: could not remove a file that was set aside"
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

/// Locks `PATH.lock` (flock(2)), since the file itself is replaced all the time. `None` if the disk has no room for it or the
/// file system has no locks: the balancer serves without a lock then.
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
        // The file system has no locks.
        Err(_) => Ok(None),
    }
}

/// Whether the disk, a quota or the limit on file sizes is exhausted.
fn is_full(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_process_can_lock_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("affinity");
        let locked = StorePath::lock(&path).unwrap();
        assert!(matches!(StorePath::lock(&path), Err(OpenError::Held(_))));
        drop(locked);
        StorePath::lock(&path).unwrap();
    }

    #[test]
    fn a_path_that_cannot_be_a_file_is_rejected() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing/affinity");
        assert!(matches!(
            StorePath::lock(&missing),
            Err(OpenError::Directory(..))
        ));
        assert!(matches!(
            StorePath::lock(directory.path()),
            Err(OpenError::NotAFile(_))
        ));
        assert!(matches!(
            StorePath::lock(Path::new("/dev/null")),
            Err(OpenError::NotAFile(_))
        ));
    }

    #[test]
    fn a_link_is_followed_so_that_it_remains() {
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("real"), directory.path().join("link"));
        fs::write(&real, b"").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let locked = StorePath::lock(&link).unwrap();
        assert_eq!(locked.file, fs::canonicalize(&real).unwrap());
    }

    #[test]
    fn the_newest_files_set_aside_are_kept_and_none_is_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("affinity");
        let locked = StorePath::lock(&path).unwrap();
        let mut kept = Vec::new();
        for number in 0..ASIDE_MOST + 3 {
            fs::write(&path, number.to_string()).unwrap();
            kept.push(locked.set_aside().unwrap());
        }
        let left: Vec<&PathBuf> = kept.iter().filter(|path| path.exists()).collect();
        assert_eq!(left.len(), ASIDE_MOST);
        for (number, path) in kept.iter().enumerate().skip(3) {
            assert_eq!(fs::read_to_string(path).unwrap(), number.to_string());
        }
    }
}
