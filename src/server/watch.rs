//! Looking after the configuration's file: a change is a reload.
//!
//! Owns when it has changed. Knows no configuration but the token's file, which is looked after with it. Invariant: what
//! counts is what the files hold, not what happened around them: it is compared after the directories are watched, so that
//! no change is missed between two looks, and none is seen where there is none; and the control thread never waits for the
//! file system.
//!
//! Directories are watched, not files: a file that is replaced by a rename, or whose link leads elsewhere in a moment, as
//! Kubernetes does with its `..data`, is another file, and the old one never changes.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe::Receiver;
use tokio::time::{Instant, sleep, timeout};

use super::requests::{Reloads, RequestOrigin};
use crate::config::MAX_FILE_BYTES;
use crate::proxy::acceptor::ProxyContext;
use crate::system::files;

/// Without another event, whoever writes is done.
const QUIET: Duration = Duration::from_millis(200);
/// However much happens there, one looks after so long.
const LONGEST: Duration = Duration::from_secs(2);
/// One looks without an event after so long: not every file system tells of changes.
const ANYWAY: Duration = Duration::from_secs(30);
/// A file system that has not answered for so long is told of.
const STALLED: Duration = Duration::from_secs(10);
/// Links in a path, after which it is a circle (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// A file that is looked after.
#[derive(Debug, Clone)]
pub struct WatchedFile {
    file: PathBuf,
    /// What the files held when they were last looked at.
    seen: Arc<Mutex<HashMap<PathBuf, Vec<u8>>>>,
}

impl WatchedFile {
    /// Looks after `file`, as it is now; to be made before it is read.
    #[must_use]
    pub fn new(file: PathBuf) -> Self {
        let watched = Self {
            file,
            seen: Arc::default(),
        };
        watched.look(None);
        watched
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Asks for a reload after each change, until the balancer stops.
    pub(super) async fn watch(self, shared: Arc<ProxyContext>, reloads: Reloads) {
        let stop = shared.stop.clone();
        stop.run_until_cancelled(async {
            loop {
                let token = shared.snapshot.load().config.admin.token_file.clone();
                let watched = self.clone();
                let looking = files::aside("watch", move || {
                    let events = subscribe(&watched.file, token.as_deref());
                    (watched.look(token.as_deref()), events)
                });
                let looked = unless_stalled(looking, &self.file).await;
                let events = looked.and_then(|(changed, events)| {
                    if changed {
                        reloads.request(RequestOrigin::Watch);
                    }
                    Ok(DirectoryEvents(Receiver::from_owned_fd_unchecked(events?)?))
                });
                match events {
                    Ok(events) => events.settle().await,
                    Err(error) => {
                        tracing::warn!(target: "lyncpin::config", %error, "the configuration's directory cannot be watched: it is looked at every {} seconds", ANYWAY.as_secs());
                        sleep(ANYWAY).await;
                    }
                }
            }
        })
        .await;
    }

    /// Whether a file holds something else than at the last look. One that cannot be read is about to be replaced, and one
    /// that was not looked at before has not changed. What is no file, such as a pipe, gives its content once, and that is
    /// for who loads it.
    fn look(&self, token: Option<&Path>) -> bool {
        let mut changed = false;
        for path in [Some(self.file.as_path()), token].into_iter().flatten() {
            if !std::fs::metadata(path).is_ok_and(|found| found.is_file()) {
                continue;
            }
            let Ok(held) = files::read(path, MAX_FILE_BYTES) else {
                continue;
            };
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let known = seen.insert(path.to_owned(), held.clone());
            changed |= known.is_some_and(|known| known != held);
        }
        changed
    }
}

/// Waits for a look, and says so once if the file system does not answer.
async fn unless_stalled<T>(
    looking: impl Future<Output = io::Result<T>>,
    file: &Path,
) -> io::Result<T> {
    let mut looking = pin!(looking);
    if let Ok(looked) = timeout(STALLED, &mut looking).await {
        return looked;
    }
    tracing::warn!(target: "lyncpin::config", file = %file.display(), "the file system does not answer: changes of the configuration are not seen until it does");
    looking.await
}

/// A descriptor that tells what happens in the directories of these files.
fn subscribe(file: &Path, token: Option<&Path>) -> io::Result<OwnedFd> {
    let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    let mut directories = directories(file);
    directories.extend(token.into_iter().flat_map(super::watch::directories));
    let flags = WatchFlags::CREATE
        | WatchFlags::MOVED_TO
        | WatchFlags::MOVED_FROM
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::DELETE
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
        | WatchFlags::ONLYDIR;
    for directory in directories {
        // One that has just gone is found again by its own directory's event, or at the next look.
        match inotify::add_watch(&events, &directory, flags) {
            Ok(_) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(events)
}

/// What happens in the directories of files: a descriptor that is read as a pipe is (inotify(7)).
struct DirectoryEvents(Receiver);

impl DirectoryEvents {
    /// Waits for an event, and for quiet after it.
    async fn settle(&self) {
        if timeout(ANYWAY, self.next()).await.is_err() {
            return;
        }
        let end = Instant::now() + LONGEST;
        while Instant::now() < end && timeout(QUIET, self.next()).await.is_ok() {}
    }

    /// Waits for events and takes them; what they say is of no interest.
    async fn next(&self) {
        let mut buffer = [0; 4096];
        loop {
            if self.0.readable().await.is_err() {
                return sleep(ANYWAY).await;
            }
            match self.0.try_read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}

/// Every directory in which a change can make `path` lead to another file: its own, and that of each link on the way.
fn directories(path: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut links = 0;
    let mut ahead: Vec<PathBuf> = parts(path);
    let mut here = if path.is_absolute() {
        PathBuf::from("/")
    } else {
        PathBuf::from(".")
    };
    while let Some(part) = ahead.pop() {
        let next = here.join(&part);
        if ahead.is_empty() {
            found.insert(here.clone());
        }
        let Ok(target) = std::fs::read_link(&next) else {
            here = next;
            continue;
        };
        found.insert(here.clone());
        links += 1;
        if links > MOST_LINKS {
            break;
        }
        if target.is_absolute() {
            here = PathBuf::from("/");
        }
        ahead.extend(parts(&target));
    }
    found
}

/// The steps of a path, the first one last.
fn parts(path: &Path) -> Vec<PathBuf> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(_) | Component::ParentDir => Some(PathBuf::from(part.as_os_str())),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    let mut parts: Vec<PathBuf> = parts.collect();
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_directory_of_a_link_on_the_way_counts() {
        let directory = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(directory.path()).unwrap();
        let mounted = root.join("mounted");
        std::fs::create_dir_all(mounted.join("..1")).unwrap();
        std::fs::write(mounted.join("..1/balancer.yaml"), "one").unwrap();
        symlink("..1", mounted.join("..data")).unwrap();
        symlink("..data/balancer.yaml", mounted.join("balancer.yaml")).unwrap();
        symlink(mounted.join("balancer.yaml"), root.join("link.yaml")).unwrap();
        let found = directories(&root.join("link.yaml"));
        assert_eq!(found, [root, mounted.clone(), mounted.join("..1")].into());
    }

    #[test]
    fn what_counts_is_what_the_file_holds() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("balancer.yaml");
        std::fs::write(&file, "one").unwrap();
        let watched = WatchedFile::new(file.clone());
        assert!(!watched.look(None));
        std::fs::remove_file(&file).unwrap();
        assert!(!watched.look(None));
        std::fs::write(&file, "one").unwrap();
        assert!(!watched.look(None));
        std::fs::write(&file, "two").unwrap();
        assert!(watched.look(None));
        assert!(!watched.look(None));
    }

    #[test]
    fn a_circle_of_links_ends() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("balancer.yaml");
        symlink(&file, &file).unwrap();
        assert!(!directories(&file).is_empty());
    }
}
