//! Watching the configuration file: a change triggers a reload.
//!
//! Owns the decision whether it has changed. Of the configuration it knows the token file only, which is watched as well.
//! Invariants: the content of the files decides, not the events around them. It is compared after the watch on the
//! directories has begun, so that no change between two comparisons is missed and no false change is seen. The control
//! thread never waits for the file system.
//!
//! Directories are watched, not files: a file that is replaced by a rename, or whose symbolic link is switched, as
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

use crate::config::MAX_FILE_BYTES;
use crate::proxy::acceptor::ProxyContext;
use crate::server::requests::{RequestOrigin, SupervisorHandle};
use crate::system::files;

/// Without another event for this long, the writer is done.
const QUIET: Duration = Duration::from_millis(200);
/// The files are compared after this long, however many events there are.
const MAX_SETTLE: Duration = Duration::from_secs(2);
/// The files are compared after this long without an event: not every file system reports changes.
const POLL_INTERVAL: Duration = Duration::from_secs(30);
/// A file system that does not respond for this long is logged.
const STALLED: Duration = Duration::from_secs(10);
/// Symbolic links in a path, after which it is a loop (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// A file that is watched.
#[derive(Debug, Clone)]
pub struct WatchedFile {
    file: PathBuf,
    /// The content of the files at the last comparison.
    seen: Arc<Mutex<HashMap<PathBuf, Vec<u8>>>>,
}

impl WatchedFile {
    /// Watches `file` for changes from its present content; to be called before the file is read.
    #[must_use]
    pub fn new(file: PathBuf) -> Self {
        let watched = Self {
            file,
            seen: Arc::default(),
        };
        watched.has_changed(None);
        watched
    }

    pub(in crate::server) fn file(&self) -> &Path {
        &self.file
    }

    /// Requests a reload after each change, until the balancer stops.
    pub(in crate::server) async fn watch(
        self,
        proxy: Arc<ProxyContext>,
        supervisor: SupervisorHandle,
    ) {
        let stop = proxy.stop.clone();
        stop.run_until_cancelled(async {
            loop {
                let token = proxy.snapshot.load().config.admin.token_file.clone();
                let watched = self.clone();
                let comparing = files::run_detached("watch", move || {
                    let events = subscribe(&watched.file, token.as_deref());
                    (watched.has_changed(token.as_deref()), events)
                });
                let compared = log_if_stalled(comparing, &self.file).await;
                let events = compared.and_then(|(changed, events)| {
                    if changed {
                        supervisor.request_reload(RequestOrigin::Watch);
                    }
                    Ok(DirectoryEvents(Receiver::from_owned_fd_unchecked(events?)?))
                });
                match events {
                    Ok(events) => events.settle().await,
                    Err(error) => {
                        tracing::warn!(target: "lyncpin::config", %error, "the directory of the configuration cannot be watched: the file is polled every {} seconds", POLL_INTERVAL.as_secs());
                        sleep(POLL_INTERVAL).await;
                    }
                }
            }
        })
        .await;
    }

    /// Whether the content of a file differs from the last comparison. A file that cannot be read is about to be replaced; one
    /// that was not compared before has not changed. A pipe gives its content once, and is left to the reload.
    fn has_changed(&self, token: Option<&Path>) -> bool {
        let mut changed = false;
        for path in [Some(self.file.as_path()), token].into_iter().flatten() {
            if !std::fs::metadata(path).is_ok_and(|found| found.is_file()) {
                continue;
            }
            let Ok(content) = files::read_limited(path, MAX_FILE_BYTES) else {
                continue;
            };
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let known = seen.insert(path.to_owned(), content.clone());
            changed |= known.is_some_and(|known| known != content);
        }
        changed
    }
}

/// Waits for a comparison, and logs once if the file system does not respond.
async fn log_if_stalled<T>(
    comparing: impl Future<Output = io::Result<T>>,
    file: &Path,
) -> io::Result<T> {
    let mut comparing = pin!(comparing);
    if let Ok(compared) = timeout(STALLED, &mut comparing).await {
        return compared;
    }
    tracing::warn!(target: "lyncpin::config", file = %file.display(), "the file system does not respond: changes of the configuration are not detected until it does");
    comparing.await
}

/// A descriptor for events in the directories of these files.
fn subscribe(file: &Path, token: Option<&Path>) -> io::Result<OwnedFd> {
    let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    let mut directories = directories(file);
    directories.extend(token.into_iter().flat_map(self::directories));
    let flags = WatchFlags::CREATE
        | WatchFlags::MOVED_TO
        | WatchFlags::MOVED_FROM
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::DELETE
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
        | WatchFlags::ONLYDIR;
    for directory in directories {
        // A directory that has just been removed is found again by an event of its parent, or at the next comparison.
        match inotify::add_watch(&events, &directory, flags) {
            Ok(_) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(events)
}

/// The events in the directories of files: the descriptor is read like a pipe (inotify(7)).
struct DirectoryEvents(Receiver);

impl DirectoryEvents {
    /// Waits for an event, and for quiet after it.
    async fn settle(&self) {
        if timeout(POLL_INTERVAL, self.next()).await.is_err() {
            return;
        }
        let end = Instant::now() + MAX_SETTLE;
        while Instant::now() < end && timeout(QUIET, self.next()).await.is_ok() {}
    }

    /// Waits for events and discards them: only their time matters.
    async fn next(&self) {
        let mut buffer = [0; 4096];
        loop {
            if self.0.readable().await.is_err() {
                return sleep(POLL_INTERVAL).await;
            }
            match self.0.try_read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}

/// Every directory in which a change can make `path` refer to another file: its own, and that of each link on the way.
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
        if links > MAX_LINKS {
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
    fn every_directory_of_a_link_on_the_way_is_watched() {
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
    fn only_a_change_of_content_is_a_change() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("balancer.yaml");
        std::fs::write(&file, "one").unwrap();
        let watched = WatchedFile::new(file.clone());
        assert!(!watched.has_changed(None));
        std::fs::remove_file(&file).unwrap();
        assert!(!watched.has_changed(None));
        std::fs::write(&file, "one").unwrap();
        assert!(!watched.has_changed(None));
        std::fs::write(&file, "two").unwrap();
        assert!(watched.has_changed(None));
        assert!(!watched.has_changed(None));
    }

    #[test]
    fn a_loop_of_links_ends() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("balancer.yaml");
        symlink(&file, &file).unwrap();
        assert!(!directories(&file).is_empty());
    }
}
