//! Owns the making of one check: what is asked of a server, within which time, and what was found, in words.
//!
//! Must not know backends, pools or how results are judged. Invariant: a check ends within its timeout, reads no more than
//! [`metered`] allows and leaves no descriptor behind; what this machine lacks is never held against the server.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use rustix::io::Errno;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};

use crate::config::model::{BackendConfig, CheckConfig, CheckKind, HttpCheck, ServerHost};
use crate::types::host_name::HostName;
use metered::Metered;

pub(super) mod certificate;
mod http;
mod metered;
mod modern_tls;
mod tls;

/// One question to one server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Probe {
    /// Who is asked.
    pub(super) address: SocketAddr,
    /// Bound of the whole.
    pub(super) timeout: Duration,
    ask: ProbeRequest,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum ProbeRequest {
    Tcp,
    Tls { name: Option<HostName> },
    Http(http::HttpRequest),
    Https(http::HttpRequest),
}

/// What a check found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finding {
    /// Whether the server did what was wanted.
    pub(super) result: CheckResult,
    /// What was seen, in words.
    pub(super) detail: String,
    /// How long it took.
    pub(super) took: Duration,
    /// End of validity of the certificate that was seen.
    pub(super) certificate_expiry: Option<SystemTime>,
}

/// Whether the server did what was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CheckResult {
    /// It did.
    Pass,
    /// It did not.
    Fail,
    /// It was not asked, because this machine lacked a descriptor, a port or memory.
    Unmade,
}

/// What was seen of a server that answered, whether or not the answer was the wanted one.
#[derive(Debug)]
struct Observation {
    wanted: bool,
    detail: String,
    certificate_expiry: Option<SystemTime>,
}

impl Observation {
    /// A wanted answer that showed no certificate.
    fn pass(detail: impl Into<String>) -> Self {
        Self {
            wanted: true,
            detail: detail.into(),
            certificate_expiry: None,
        }
    }
}

/// Why there was no answer to judge.
#[derive(Debug)]
enum ProbeError {
    /// The server's fault, or the network's.
    Server(String),
    /// This machine's.
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
            _ => Self::Server(words(&error)),
        }
    }
}

/// I/O errors as a person would say them.
const WORDS: [(io::ErrorKind, &str); 8] = [
    (io::ErrorKind::ConnectionRefused, "connection refused"),
    (io::ErrorKind::ConnectionReset, "connection reset"),
    (io::ErrorKind::ConnectionAborted, "connection aborted"),
    (io::ErrorKind::BrokenPipe, CLOSED),
    (io::ErrorKind::UnexpectedEof, CLOSED),
    (io::ErrorKind::HostUnreachable, "host unreachable"),
    (io::ErrorKind::NetworkUnreachable, "network unreachable"),
    (io::ErrorKind::TimedOut, "connection timed out"),
];

fn words(error: &io::Error) -> String {
    let known = WORDS.iter().find(|(kind, _)| *kind == error.kind());
    known.map_or_else(|| error.to_string(), |(_, words)| (*words).to_owned())
}

const CLOSED: &str = "closed without an answer";

impl Probe {
    /// What `check` asks of `backend` while that is at `address`.
    pub(super) fn of(
        check: &CheckConfig,
        timeout: Duration,
        backend: &BackendConfig,
        address: IpAddr,
    ) -> Self {
        let port = check.port_of(backend);
        let http = |ask: &HttpCheck, usual_port| {
            http::HttpRequest::new(ask, &backend.address.host, port, usual_port)
        };
        Self {
            address: SocketAddr::new(address, port),
            timeout,
            ask: match &check.kind {
                CheckKind::Tcp => ProbeRequest::Tcp,
                CheckKind::Tls { name, .. } => ProbeRequest::Tls { name: name.clone() },
                CheckKind::Http(ask) => ProbeRequest::Http(http(ask, 80)),
                CheckKind::Https(ask) => ProbeRequest::Https(http(ask, 443)),
            },
        }
    }

    /// Asks, and says what came of it.
    pub(super) async fn make(&self) -> Finding {
        let start = Instant::now();
        let within = TimeLimit {
            deadline: start + self.timeout,
            timeout: self.timeout,
        };
        let outcome = match &self.ask {
            ProbeRequest::Tcp => tcp(self.address, within).await,
            ProbeRequest::Tls { name } => {
                Box::pin(tls::ask(self.address, name.as_ref(), within)).await
            }
            ProbeRequest::Http(ask) => Box::pin(http::ask(self.address, ask, within)).await,
            ProbeRequest::Https(ask) => {
                Box::pin(http::ask_over_tls(self.address, ask, within)).await
            }
        };
        let (result, detail, certificate_expiry) = match outcome {
            Ok(seen) if seen.wanted => (CheckResult::Pass, seen.detail, seen.certificate_expiry),
            Ok(seen) => (CheckResult::Fail, seen.detail, seen.certificate_expiry),
            Err(ProbeError::Server(detail)) => (CheckResult::Fail, detail, None),
            Err(ProbeError::Local(detail)) => (CheckResult::Unmade, detail, None),
        };
        Finding {
            result,
            detail,
            took: start.elapsed(),
            certificate_expiry,
        }
    }
}

/// To a server; what it may send is bounded.
type Connection = Metered<TcpStream>;

/// The time that a check has.
#[derive(Debug, Clone, Copy)]
struct TimeLimit {
    deadline: Instant,
    timeout: Duration,
}

impl TimeLimit {
    /// Runs one stage of a check; `stage` is what has been reached already, for the words of a timeout.
    async fn run<T, E: Into<ProbeError>>(
        self,
        stage: &str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, ProbeError> {
        match timeout_at(self.deadline, work).await {
            Ok(done) => done.map_err(Into::into),
            Err(_) => Err(ProbeError::Server(format!(
                "{stage}no answer within {:?}",
                self.timeout
            ))),
        }
    }

    /// A connection that ends with a reset when it is dropped. So neither side is left with a socket in TIME-WAIT for
    /// every check, and a TLS server in mid-handshake gets no alert that it would log (Schannel's event 36887).
    async fn connect(self, address: SocketAddr) -> Result<Connection, ProbeError> {
        let socket = socket(address)?;
        let stream = self.run("", socket.connect(address)).await?;
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

/// Whether a connection is taken.
///
/// The last packet of the three-way handshake is held back (TCP_QUICKACK off, tcp(7)), and the reset goes in its place:
/// the server's kernel has answered, and its application never hears of a client that has nothing to say. A busy machine
/// may send the acknowledgement first; then the application sees a connection that is reset.
async fn tcp(address: SocketAddr, within: TimeLimit) -> Result<Observation, ProbeError> {
    let socket = socket(address)?;
    rustix::net::sockopt::set_tcp_quickack(&socket, false).map_err(io::Error::from)?;
    within.run("", socket.connect(address)).await?;
    Ok(Observation::pass("connected"))
}

/// The server name that a request over TLS carries: what the check says, else the backend's own.
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
    fn what_this_machine_lacks_is_not_held_against_the_server() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL] {
            let fault = ProbeError::from(io::Error::from(errno));
            assert!(matches!(fault, ProbeError::Local(_)), "{fault:?}");
        }
        for errno in [Errno::CONNREFUSED, Errno::HOSTUNREACH, Errno::NETUNREACH] {
            let fault = ProbeError::from(io::Error::from(errno));
            assert!(matches!(fault, ProbeError::Server(_)), "{fault:?}");
        }
    }

    #[test]
    fn errors_are_said_in_plain_words() {
        let say = |errno: Errno| words(&io::Error::from(errno));
        assert_eq!(say(Errno::CONNREFUSED), "connection refused");
        assert_eq!(say(Errno::HOSTUNREACH), "host unreachable");
        assert_eq!(say(Errno::PIPE), CLOSED);
    }
}
