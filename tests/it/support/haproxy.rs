//! HAProxy as a server that requires PROXY headers and responds with their fields.

#![allow(clippy::unwrap_used, reason = "a test may end in a panic")]

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use super::eventually;
use super::nginx::ReservedPort;

/// A running HAProxy with one HTTP frontend. It responds with the fields of the PROXY header, one per line.
pub(crate) struct HaProxy {
    /// The address of the frontend.
    pub(crate) address: SocketAddr,
    process: Child,
    _directory: tempfile::TempDir,
    _port: ReservedPort,
}

impl HaProxy {
    /// Starts it and waits until its port accepts connections.
    pub(crate) fn start() -> Self {
        let port = ReservedPort::new();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("haproxy.cfg");
        std::fs::write(&file, config(port.address)).unwrap();
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let mut process = Command::new("haproxy")
            .env("PATH", path)
            // In the foreground, without the message about its version.
            .args(["-db", "-q", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .spawn()
            .expect("haproxy is installed (Debian package haproxy)");
        eventually("HAProxy listens", || {
            let ended = process.try_wait().unwrap();
            assert!(ended.is_none(), "HAProxy ended: {ended:?}");
            TcpStream::connect(port.address).ok()
        });
        Self {
            address: port.address,
            process,
            _directory: directory,
            _port: port,
        }
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn config(address: SocketAddr) -> String {
    format!(
        "global\n\
         \x20 maxconn 256\n\
         defaults\n\
         \x20 mode http\n\
         \x20 timeout client 20s\n\
         frontend echo\n\
         \x20 bind {address} accept-proxy\n\
         \x20 http-request return status 200 content-type text/plain lf-string \
         \"source %[src] %[src_port]\\ndestination %[dst] %[dst_port]\\n\
         authority %[fc_pp_authority]\\nunique_id %[fc_pp_unique_id]\\n\"\n"
    )
}
