//! Owns one check: the request to a server, its time limit, and a description of the result.
//!
//! Must not know backends, pools or how results are weighed. Invariant: a check ends within its timeout, reads no more than
//! [`metered`] allows and leaves no descriptor open; a shortage on this machine never counts against the server.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use rustix::io::Errno;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};

use crate::config::model::{BackendConfig, CheckConfig, CheckKind, HttpCheck, ServerHost};
use crate::protocol::proxy::{HeaderFormat, write_local};
use crate::types::host_name::HostName;
use metered::Metered;

pub(super) mod certificate;
mod http;
mod metered;
mod modern_tls;
mod tls;

/// One request to one server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Probe {
    /// The server.
    pub(super) target: ProbeTarget,
    /// Time limit of the whole check.
    pub(super) timeout: Duration,
    request: ProbeRequest,
}

/// Where a check connects to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ProbeTarget {
    /// The server.
    pub(super) address: SocketAddr,
    /// The PROXY header that the server requires.
    proxy_header: Option<HeaderFormat>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum ProbeRequest {
    Tcp,
    Tls { name: Option<HostName> },
    Http(http::HttpRequest),
    Https(http::HttpRequest),
}

/// The result of a check, with its description.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finding {
    /// Whether the check passed.
    pub(super) result: CheckResult,
    /// A description of the result.
    pub(super) detail: String,
    /// Duration.
    pub(super) took: Duration,
    /// End of validity of the certificate that was seen.
    pub(super) certificate_expiry: Option<SystemTime>,
}

/// Whether the check passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CheckResult {
    /// The response was as expected.
    Pass,
    /// It was not, or there was none.
    Fail,
    /// The check could not be run: this machine was short of descriptors, ports or memory.
    NotRun,
}

/// The response of a server, expected or not.
#[derive(Debug)]
struct Observation {
    passed: bool,
    detail: String,
    certificate_expiry: Option<SystemTime>,
}

impl Observation {
    /// An expected response without a certificate.
    fn pass(detail: impl Into<String>) -> Self {
        Self {
            passed: true,
            detail: detail.into(),
            certificate_expiry: None,
        }
    }
}

/// Why there was no response.
#[derive(Debug)]
enum ProbeError {
    /// An error of the server or the network.
    Server(String),
    /// An error of this machine.
    Local(String),
}

impl ProbeError {
    fn server(detail: impl Into<String>) -> Self {
        Self::Server(detail.into())
    }
}

impl From<io::Error> for ProbeError {
    fn from(error: io::Error) -> Self {
        let local = [
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOBUFS,
            Errno::NOMEM,
            Errno::ADDRNOTAVAIL,
        ];
        match Errno::from_io_error(&error) {
            Some(errno) if local.contains(&errno) => Self::Local(error.to_string()),
            _ => Self::Server(describe_io(&error)),
        }
    }
}

/// Descriptions of I/O errors.
const DESCRIPTIONS: [(io::ErrorKind, &str); 8] = [
    (io::ErrorKind::ConnectionRefused, "connection refused"),
    (io::ErrorKind::ConnectionReset, "connection reset"),
    (io::ErrorKind::ConnectionAborted, "connection aborted"),
    (io::ErrorKind::BrokenPipe, CLOSED),
    (io::ErrorKind::UnexpectedEof, CLOSED),
    (io::ErrorKind::HostUnreachable, "host unreachable"),
    (io::ErrorKind::NetworkUnreachable, "network unreachable"),
    (io::ErrorKind::TimedOut, "connection timed out"),
];

fn describe_io(error: &io::Error) -> String {
    let known = DESCRIPTIONS.iter().find(|(kind, _)| *kind == error.kind());
    known.map_or_else(
        || error.to_string(),
        |(_, description)| (*description).to_owned(),
    )
}

/// How long a server has to close the connection of a `tcp` check that has sent it a PROXY header.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

const CLOSED: &str = "closed without a response";

impl Probe {
    /// The request of `check` to `backend` at `address`. `proxy_header` is that of the traffic, and is only sent to the port of
    /// the traffic.
    pub(super) fn new(
        check: &CheckConfig,
        timeout: Duration,
        backend: &BackendConfig,
        address: IpAddr,
        proxy_header: Option<HeaderFormat>,
    ) -> Self {
        let port = check.port_of(backend);
        let http = |check: &HttpCheck, usual_port| {
            http::HttpRequest::new(check, &backend.address.host, port, usual_port)
        };
        Self {
            target: ProbeTarget {
                address: SocketAddr::new(address, port),
                proxy_header: proxy_header.filter(|_| port == backend.address.port),
            },
            timeout,
            request: match &check.kind {
                CheckKind::Tcp => ProbeRequest::Tcp,
                CheckKind::Tls { name, .. } => ProbeRequest::Tls { name: name.clone() },
                CheckKind::Http(check) => ProbeRequest::Http(http(check, 80)),
                CheckKind::Https(check) => ProbeRequest::Https(http(check, 443)),
            },
        }
    }

    /// Runs the check.
    pub(super) async fn run(&self) -> Finding {
        let start = Instant::now();
        let within = TimeLimit {
            deadline: start + self.timeout,
            timeout: self.timeout,
        };
        let seen = match &self.request {
            ProbeRequest::Tcp => tcp(self.target, within).await,
            ProbeRequest::Tls { name } => {
                Box::pin(tls::check(self.target, name.as_ref(), within)).await
            }
            ProbeRequest::Http(request) => {
                Box::pin(http::check(self.target, request, within)).await
            }
            ProbeRequest::Https(request) => {
                Box::pin(http::check_over_tls(self.target, request, within)).await
            }
        };
        let (result, detail, certificate_expiry) = match seen {
            Ok(seen) if seen.passed => (CheckResult::Pass, seen.detail, seen.certificate_expiry),
            Ok(seen) => (CheckResult::Fail, seen.detail, seen.certificate_expiry),
            Err(ProbeError::Server(detail)) => (CheckResult::Fail, detail, None),
            Err(ProbeError::Local(detail)) => (CheckResult::NotRun, detail, None),
        };
        Finding {
            result,
            detail,
            took: start.elapsed(),
            certificate_expiry,
        }
    }
}

/// A connection to a server, with a limit on what it may send.
type Connection = Metered<TcpStream>;

/// The time limit of a check.
#[derive(Debug, Clone, Copy)]
struct TimeLimit {
    deadline: Instant,
    timeout: Duration,
}

impl TimeLimit {
    /// Runs one stage of a check; `stage` describes the progress so far, for the text of a timeout.
    async fn run<T, E: Into<ProbeError>>(
        self,
        stage: &str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, ProbeError> {
        match timeout_at(self.deadline, work).await {
            Ok(done) => done.map_err(Into::into),
            Err(_) => Err(ProbeError::Server(format!(
                "{stage}no response within {:?}",
                self.timeout
            ))),
        }
    }

    /// Opens a connection, with a PROXY header if the server requires one. It is reset when it is dropped. So neither side keeps a socket in TIME-WAIT for each check, and a
    /// TLS server in mid-handshake receives no alert that it would log (Schannel's event 36887).
    async fn connect(self, target: ProbeTarget) -> Result<Connection, ProbeError> {
        let socket = socket(target.address)?;
        let mut stream = self.run("", socket.connect(target.address)).await?;
        if let Some(format) = target.proxy_header {
            let header = write_local(format);
            self.run("connected, but ", stream.write_all(&header))
                .await?;
        }
        Ok(Metered::new(stream))
    }
}

fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_zero_linger()?;
    Ok(socket)
}

/// Whether the server accepts a connection.
///
/// The last packet of the three-way handshake is delayed (TCP_QUICKACK off, tcp(7)), and the reset is sent instead: the server's
/// kernel has responded, and its application never sees the connection. A busy machine may send the acknowledgement first; then
/// the application sees a connection that is reset.
///
/// A server that requires a PROXY header gets one, and a close that lets it read it.
async fn tcp(target: ProbeTarget, within: TimeLimit) -> Result<Observation, ProbeError> {
    let address = target.address;
    if target.proxy_header.is_some() {
        let mut stream = within.connect(target).await?;
        let _ = stream.shutdown().await;
        let mut buffer = [0; 64];
        let closed = stream.read(&mut buffer);
        let _ = timeout_at(within.deadline.min(Instant::now() + CLOSE_WITHIN), closed).await;
        return Ok(Observation::pass("connected"));
    }
    let socket = socket(address)?;
    rustix::net::sockopt::set_tcp_quickack(&socket, false).map_err(io::Error::from)?;
    within.run("", socket.connect(address)).await?;
    Ok(Observation::pass("connected"))
}

/// The server name of a request over TLS: the one of the check, else the backend's own.
fn server_name(configured: Option<&HostName>, host: &ServerHost) -> Option<HostName> {
    match (configured, host) {
        (Some(name), _) | (None, ServerHost::Name(name)) => Some(name.clone()),
        (None, ServerHost::Address(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_on_this_machine_does_not_count_against_the_server() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL] {
            let error = ProbeError::from(io::Error::from(errno));
            assert!(matches!(error, ProbeError::Local(_)), "{error:?}");
        }
        for errno in [Errno::CONNREFUSED, Errno::HOSTUNREACH, Errno::NETUNREACH] {
            let error = ProbeError::from(io::Error::from(errno));
            assert!(matches!(error, ProbeError::Server(_)), "{error:?}");
        }
    }

    #[test]
    fn io_errors_have_plain_descriptions() {
        let describe = |errno: Errno| describe_io(&io::Error::from(errno));
        assert_eq!(describe(Errno::CONNREFUSED), "connection refused");
        assert_eq!(describe(Errno::HOSTUNREACH), "host unreachable");
        assert_eq!(describe(Errno::PIPE), CLOSED);
    }
}
