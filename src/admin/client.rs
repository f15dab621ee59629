//! Asks the admin listener, for the command line.
//!
//! Owns one request and its answer over TCP or a Unix socket. Knows no command. Invariant: it ends: connecting, asking
//! and the answer's size are bounded; and what went wrong is said with where.

mod affinity;
mod answer;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::task::JoinSet;

use answer::{AnswerProgress, WatchedStream};

use super::caller::COMMAND;
use super::target;
use super::token::Token;
use super::view::{
    ChangedEverywhere, ErrorBody, ExplainQuery, Explanation, Reached, Reloaded, StateChange,
    StateChanged, StatusView, Upgraded,
};
use crate::config::AdminAddress;
use crate::config::model::AdminBind;

/// From connecting to the end of the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The same for a reload, which may wait for the file system, names and sockets, and for a reload before it.
const RELOAD_PATIENCE: Duration = Duration::from_secs(60);

/// The same for an upgrade: longer than either process waits for the other.
const UPGRADE_PATIENCE: Duration = Duration::from_secs(90);

/// The largest answer that is read: some hundred thousand backends.
const MAX_ANSWER: usize = 64 << 20;

/// One who asks the admin listener at one place.
#[derive(Debug, Clone)]
pub struct Client {
    at: AdminAddress,
    token: Option<Token>,
    patience: Duration,
}

/// Why there is no answer, or not the wanted one.
#[derive(Debug)]
pub enum ClientError {
    /// Nobody can be connected to.
    Unreachable(AdminAddress, io::Error),
    /// The answer did not come in time.
    Late(AdminAddress),
    /// The connection broke, or the answer is too large.
    Broken(AdminAddress, Box<dyn std::error::Error + Send + Sync>),
    /// The answer is not the admin listener's.
    Strange(AdminAddress, String),
    /// The answer is an error, in its own words.
    Refused(StatusCode, String),
}

impl Client {
    /// For the listener that is bound at `bind`; one that is bound to every address is asked on loopback.
    #[must_use]
    pub fn new(bind: &AdminBind, token: Option<Token>) -> Self {
        Self::at(&AdminAddress::Bound(bind.clone()), token)
    }

    /// For the listener that is asked there; of a name, every address is tried.
    #[must_use]
    pub fn at(address: &AdminAddress, token: Option<Token>) -> Self {
        let at = match address {
            AdminAddress::Bound(AdminBind::Tcp(address)) => {
                AdminAddress::Bound(AdminBind::Tcp(reachable(*address)))
            }
            AdminAddress::Bound(AdminBind::Unix(_)) | AdminAddress::Named { .. } => address.clone(),
        };
        Self {
            at,
            token,
            patience: PATIENCE,
        }
    }

    /// The same with another patience.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// `GET /api/v1/status`.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn status(&self) -> Result<StatusView, ClientError> {
        self.ask(Method::GET, "/api/v1/status", Bytes::new()).await
    }

    /// `GET /api/v1/explain`.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn explain(&self, query: &ExplainQuery) -> Result<Explanation, ClientError> {
        let path = format!(
            "/api/v1/explain?listener={}&name={}&source={}",
            target::encode(&query.listener),
            target::encode(query.name.as_deref().unwrap_or_default()),
            target::encode(&query.source.to_string()),
        );
        self.ask(Method::GET, &path, Bytes::new()).await
    }

    /// `PUT /api/v1/pools/{pool}/backends/{backend}/state`.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn set_state(
        &self,
        pool: &str,
        backend: &str,
        change: &StateChange,
    ) -> Result<Reached<StateChanged>, ClientError> {
        let path = format!(
            "/api/v1/pools/{}/backends/{}/state",
            target::encode(pool),
            target::encode(backend),
        );
        let body = self.written(change)?;
        self.ask(Method::PUT, &path, body).await
    }

    /// `PUT /api/v1/backends/{backend}/state`: in every pool that has a backend of that name, or in none.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn set_state_everywhere(
        &self,
        backend: &str,
        change: &StateChange,
    ) -> Result<Vec<Reached<StateChanged>>, ClientError> {
        let path = format!("/api/v1/backends/{}/state", target::encode(backend));
        let body = self.written(change)?;
        let answer: ChangedEverywhere = self.ask(Method::PUT, &path, body).await?;
        Ok(answer.changed)
    }

    /// `POST /api/v1/reload`. Takes as long as a file system may.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn reload(&self) -> Result<Reloaded, ClientError> {
        let patience = match self.patience {
            PATIENCE => RELOAD_PATIENCE,
            other => other,
        };
        self.clone()
            .with_patience(patience)
            .ask(Method::POST, "/api/v1/reload", Bytes::new())
            .await
    }

    /// `POST /api/v1/upgrade`. Takes as long as the new process may.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn upgrade(&self) -> Result<Upgraded, ClientError> {
        self.clone()
            .with_patience(UPGRADE_PATIENCE)
            .ask(Method::POST, "/api/v1/upgrade", Bytes::new())
            .await
    }

    fn written(&self, body: &impl Serialize) -> Result<Bytes, ClientError> {
        serde_json::to_vec(body)
            .map(Bytes::from)
            .map_err(|error| ClientError::Broken(self.at.clone(), error.into()))
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let answered = tokio::time::timeout(self.patience, async {
            match &self.at {
                AdminAddress::Bound(AdminBind::Tcp(address)) => {
                    let connected = self.in_time(TcpStream::connect(address)).await;
                    self.exchange(connected, method, path, body).await
                }
                AdminAddress::Bound(AdminBind::Unix(file)) => {
                    let connected = self.in_time(UnixStream::connect(file)).await;
                    self.exchange(connected, method, path, body).await
                }
                AdminAddress::Named { host, port } => {
                    let connected = self.in_time(self.connect_to_any(host, *port)).await;
                    self.exchange(connected, method, path, body).await
                }
            }
        });
        let (status, answer) = answered
            .await
            .map_err(|_| ClientError::Late(self.at.clone()))??;
        if status.is_success() {
            return serde_json::from_slice(&answer)
                .map_err(|error| self.strange(error.to_string()));
        }
        match serde_json::from_slice::<ErrorBody>(&answer) {
            Ok(body) => Err(ClientError::Refused(status, body.error)),
            Err(_) => Err(self.strange(format!("it answers {status}"))),
        }
    }

    /// What is not the balancer's work, however long that may take: finding and connecting to it, and the way of an answer
    /// that has begun.
    fn way(&self) -> Duration {
        self.patience.min(PATIENCE)
    }

    async fn in_time<S>(&self, connecting: impl Future<Output = io::Result<S>>) -> io::Result<S> {
        let connected = tokio::time::timeout(self.way(), connecting).await;
        connected.unwrap_or_else(|_| {
            let seconds = self.way().as_secs();
            let why = format!("it does not answer within {seconds} s");
            Err(io::Error::new(io::ErrorKind::TimedOut, why))
        })
    }

    /// Connects to the first address of a name that takes it; each gets its share of the patience.
    async fn connect_to_any(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let found: Vec<SocketAddr> = lookup_host((host, port)).await?.collect();
        let share = self.way() / u32::try_from(found.len().max(1)).unwrap_or(u32::MAX);
        let mut last = io::Error::other("the name has no address");
        for address in found {
            match tokio::time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    }

    async fn exchange<S: AdminPeer>(
        &self,
        connected: io::Result<S>,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let stream = connected.map_err(|error| ClientError::Unreachable(self.at.clone(), error))?;
        let request = self.request(stream.host(), method, path, body)?;
        let progress = AnswerProgress::default();
        let stream = WatchedStream::new(stream, &progress);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.broken(error))?;
        // Ends with the set, at the latest when this function returns.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let answering = async {
            let answer: Response<Incoming> = sender
                .send_request(request)
                .await
                .map_err(|error| self.broken(error))?;
            progress.has_head();
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|error| ClientError::Broken(self.at.clone(), error))?;
            Ok((status, body.to_bytes()))
        };
        tokio::select! {
            answered = answering => answered,
            () = progress.takes_longer_than(self.way()) => Err(ClientError::Late(self.at.clone())),
        }
    }

    fn request(
        &self,
        host: String,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, host)
            .header(USER_AGENT, COMMAND);
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.token {
            let mut value = HeaderValue::try_from(token.authorization())
                .map_err(|error| ClientError::Broken(self.at.clone(), error.into()))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        request
            .body(Full::new(body))
            .map_err(|error| ClientError::Broken(self.at.clone(), error.into()))
    }

    fn broken(&self, error: hyper::Error) -> ClientError {
        // What answers in another protocol is told apart from a connection that broke.
        if answer::is_endless(&error) {
            return self.strange("the head of its answer has no end".to_owned());
        }
        if error.is_parse() || spoke_first(&error) {
            return self.strange("it does not speak HTTP".to_owned());
        }
        ClientError::Broken(self.at.clone(), error.into())
    }

    fn strange(&self, why: String) -> ClientError {
        ClientError::Strange(self.at.clone(), why)
    }
}

/// Who answers.
trait AdminPeer: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// What it is called in a request: its address, which is its own under any name.
    fn host(&self) -> String;
}

impl AdminPeer for TcpStream {
    fn host(&self) -> String {
        // Without the zone of an IPv6 address, which means nothing to others.
        let address = self
            .peer_addr()
            .map(|peer| SocketAddr::new(peer.ip(), peer.port()));
        address.map_or("localhost".to_owned(), |address| address.to_string())
    }
}

impl AdminPeer for UnixStream {
    fn host(&self) -> String {
        "localhost".to_owned()
    }
}

/// An address that can be connected to.
fn reachable(bind: SocketAddr) -> SocketAddr {
    let ip = match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, bind.port())
}

/// Whether the other end spoke before it was asked, as servers of other protocols do. hyper has no name for that, only
/// words.
fn spoke_first(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error);
    error.is_canceled()
        && cause.is_some_and(|cause| cause.to_string().contains("unexpected message"))
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(at, _) => write!(f, "the admin listener at {at} cannot be reached"),
            Self::Late(at) => write!(f, "the admin listener at {at} does not answer in time"),
            Self::Broken(at, _) => write!(f, "the connection to the admin listener at {at} broke"),
            Self::Strange(at, why) => {
                write!(
                    f,
                    "what answers at {at} is no admin listener of this version: {why}"
                )
            }
            Self::Refused(_, error) => f.write_str(error),
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreachable(_, error) => Some(error),
            Self::Broken(_, error) => Some(&**error),
            Self::Late(_) | Self::Strange(..) | Self::Refused(..) => None,
        }
    }
}
