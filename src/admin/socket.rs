//! The socket of an admin listener: TCP or Unix.
//!
//! Owns binding, and the file of a Unix socket from creation to removal. Must not know HTTP. Invariants: a socket file that
//! another process listens on is never removed; clients cannot connect before the mode of the file is set.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

use super::guard::Exposure;
use crate::config::model::AdminBind;
use crate::net::socket::new_for_listening;

/// Owner and group may connect. Without a token the mode is the only protection of the socket (unix(7)).
const MODE: u32 = 0o660;

/// Connections in the queue of the kernel. If it is full, a client waits a second for its retry (tcp(7)). The kernel has a
/// limit of its own, `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// How long the removal of a socket file may take.
const REMOVAL_TIMEOUT: Duration = Duration::from_millis(500);

/// A bound listener.
#[derive(Debug)]
pub struct AdminListener {
    pub(super) socket: BoundSocket,
    at: AdminBind,
}

#[derive(Debug)]
pub(super) enum BoundSocket {
    Tcp(std::net::TcpListener),
    Unix(UnixListener, Arc<SocketFile>),
}

/// The file of a socket. `Drop` removes it, unless another process owns it.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
    /// Another process owns the file now.
    disowned: AtomicBool,
}

/// An admin listener cannot be bound.
#[derive(Debug)]
pub struct BindError {
    /// The address.
    pub address: AdminBind,
    source: io::Error,
}

impl AdminListener {
    /// Binds and listens.
    ///
    /// # Errors
    ///
    /// When the address is in use or not permitted; when another process listens on the path, or it is not a socket.
    pub fn bind(at: &AdminBind) -> Result<Self, BindError> {
        let failed = |source| BindError {
            address: at.clone(),
            source,
        };
        let (socket, at) = match at {
            AdminBind::Tcp(address) => {
                let listener = bind_tcp(*address).map_err(failed)?;
                let address = listener.local_addr().map_err(failed)?;
                (BoundSocket::Tcp(listener), AdminBind::Tcp(address))
            }
            AdminBind::Unix(path) => {
                let (listener, file) = bind_unix(path).map_err(failed)?;
                (BoundSocket::Unix(listener, Arc::new(file)), at.clone())
            }
        };
        Ok(Self { socket, at })
    }

    /// Takes over a listener that another process has bound at this address.
    ///
    /// # Errors
    ///
    /// When it is not a listening socket of that kind, or its file is gone.
    pub fn inherit(at: &AdminBind, socket: OwnedFd) -> Result<Self, BindError> {
        let failed = |source| BindError {
            address: at.clone(),
            source,
        };
        let (socket, at) = match at {
            AdminBind::Tcp(_) => {
                let listener = std::net::TcpListener::from(socket);
                let address = listener.local_addr().map_err(failed)?;
                (BoundSocket::Tcp(listener), AdminBind::Tcp(address))
            }
            AdminBind::Unix(path) => {
                let found = std::fs::symlink_metadata(path).map_err(failed)?;
                let file = SocketFile {
                    path: path.clone(),
                    identity: (found.dev(), found.ino()),
                    disowned: AtomicBool::new(false),
                };
                (BoundSocket::Unix(socket.into(), Arc::new(file)), at.clone())
            }
        };
        Ok(Self { socket, at })
    }

    /// Another handle to the same socket. Its file is removed with the last handle.
    ///
    /// # Errors
    ///
    /// See dup(2).
    pub fn try_clone(&self) -> io::Result<Self> {
        let socket = match &self.socket {
            BoundSocket::Tcp(listener) => BoundSocket::Tcp(listener.try_clone()?),
            BoundSocket::Unix(listener, file) => {
                BoundSocket::Unix(listener.try_clone()?, file.clone())
            }
        };
        let at = self.at.clone();
        Ok(Self { socket, at })
    }

    /// Leaves the file to another process, which owns the socket from now on.
    pub fn disown_file(&self) {
        if let BoundSocket::Unix(_, file) = &self.socket {
            file.disowned.store(true, Ordering::Relaxed);
        }
    }

    /// The address that it listens on, with the assigned port if port 0 was requested.
    #[must_use]
    pub fn address(&self) -> &AdminBind {
        &self.at
    }

    pub(super) fn exposure(&self) -> Exposure {
        match &self.at {
            AdminBind::Unix(_) => Exposure::UnixSocket,
            AdminBind::Tcp(address) if address.ip().to_canonical().is_loopback() => {
                Exposure::Loopback
            }
            AdminBind::Tcp(_) => Exposure::Network,
        }
    }
}

impl AsFd for AdminListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            BoundSocket::Tcp(listener) => listener.as_fd(),
            BoundSocket::Unix(listener, _) => listener.as_fd(),
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = new_for_listening(address)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Binds under another name first, so that the mode is set before clients find the socket. Renaming replaces a stale socket
/// atomically.
fn bind_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    check_not_in_use(path)?;
    // A short name, because the path may have the maximum length.
    let temporary = path.with_file_name(format!(".{}", std::process::id()));
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&temporary)?;
    let finish = || {
        std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(MODE))?;
        std::fs::rename(&temporary, path)?;
        let made = std::fs::symlink_metadata(path)?;
        Ok((made.dev(), made.ino()))
    };
    let identity = finish().inspect_err(|_: &io::Error| {
        // The first error is the one to report.
        let _ = std::fs::remove_file(&temporary);
    })?;
    listener.set_nonblocking(true)?;
    let path = path.to_owned();
    let disowned = AtomicBool::new(false);
    Ok((
        listener,
        SocketFile {
            path,
            identity,
            disowned,
        },
    ))
}

fn check_not_in_use(path: &Path) -> io::Result<()> {
    let found = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::other("the path exists and is not a socket"));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A blocking connect would wait for a process that does not accept.
    probe.set_nonblocking(true)?;
    let in_use = || io::Error::other("another process is listening on this path");
    match probe.connect(&SockAddr::unix(path)?) {
        // A stale file, left behind by a process that was killed.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::AGAIN) => Err(in_use()),
        Err(error) => Err(error),
        Ok(()) => Err(in_use()),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.disowned.load(Ordering::Relaxed) {
            return;
        }
        let (path, identity) = (std::mem::take(&mut self.path), self.identity);
        let (done, removed) = mpsc::channel::<()>();
        let removal = move || {
            let ours = std::fs::symlink_metadata(&path)
                .is_ok_and(|found| (found.dev(), found.ino()) == identity);
            if ours {
                // If that fails, the file is stale, and the next bind replaces it.
                let _ = std::fs::remove_file(&path);
            }
            drop(done);
        };
        // On another thread: a file system that hangs must not block the control thread.
        let thread = std::thread::Builder::new().name("unlink".into());
        if thread.spawn(removal).is_ok() {
            let _ = removed.recv_timeout(REMOVAL_TIMEOUT);
        }
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not bind the admin listener to {}", self.address)
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn unix(path: &Path) -> Result<AdminListener, BindError> {
        AdminListener::bind(&AdminBind::Unix(path.into()))
    }

    #[test]
    fn a_socket_file_has_its_mode_and_is_removed_with_the_listener() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let listener = unix(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, MODE);
        assert!(UnixStream::connect(&path).is_ok());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_that_is_in_use_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let first = unix(&path).unwrap();
        assert!(unix(&path).is_err());
        assert!(UnixStream::connect(&path).is_ok());
        drop(first);
    }

    #[test]
    fn a_socket_whose_process_does_not_accept_is_not_replaced_either() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        let address = SockAddr::unix(&path).unwrap();
        socket.bind(&address).unwrap();
        socket.listen(0).unwrap();
        let mut queued = Vec::new();
        loop {
            let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            let connected = client.connect(&address);
            queued.push(client);
            if connected.is_err() {
                break;
            }
        }
        // A blocking connect would never return.
        assert!(unix(&path).is_err());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_file_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let listener = unix(&path).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        drop(listener);

        std::fs::write(&path, "precious").unwrap();
        assert!(unix(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn the_socket_of_a_successor_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let first = unix(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let second = unix(&path).unwrap();
        drop(first);
        assert!(UnixStream::connect(&path).is_ok());
        drop(second);
    }

    #[test]
    fn a_socket_that_was_transferred_keeps_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let first = unix(&path).unwrap();
        let spare = first.try_clone().unwrap();
        drop(first);
        assert!(path.exists());
        let descriptor = spare.as_fd().try_clone_to_owned().unwrap();
        let next = AdminListener::inherit(spare.address(), descriptor).unwrap();
        spare.disown_file();
        drop(spare);
        assert!(UnixStream::connect(&path).is_ok());
        drop(next);
        assert!(!path.exists());
    }

    #[test]
    fn an_address_in_use_is_an_error_that_names_it() {
        let first = AdminListener::bind(&AdminBind::Tcp(([127, 0, 0, 1], 0).into())).unwrap();
        assert_eq!(first.exposure(), Exposure::Loopback);
        let error = AdminListener::bind(first.address()).unwrap_err();
        assert!(
            error.to_string().ends_with(&first.address().to_string()),
            "{error}"
        );
    }
}
