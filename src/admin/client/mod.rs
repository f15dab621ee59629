//! The client of the admin listener, for the commands.
//!
//! Owns one request and its response over TCP or a Unix socket. Must not know commands. Invariant: time to connect, time
//! to respond and size of the response are limited.

mod affinity;
mod error;
mod watched_stream;

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

pub use error::ClientError;
use watched_stream::{ResponseProgress, WatchedStream};

use super::caller::COMMAND;
use super::target;
use super::token::Token;
use super::view::{
    ChangedEverywhere, ErrorBody, ExplainQuery, Explanation, Reloaded, StateChange, StateChanged,
    StatusView, Upgraded, WithPredecessors,
};
use crate::config::AdminAddress;
use crate::config::model::AdminBind;

/// Time from connecting to the end of the response.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The same for a reload, which may wait for the file system, names, sockets and an earlier reload.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// The same for an upgrade: longer than either process waits for the other.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(90);

/// The largest response: a few hundred thousand backends.
const MAX_RESPONSE: usize = 64 << 20;

/// A client of the admin listener at one address.
#[derive(Debug, Clone)]
pub struct Client {
    at: AdminAddress,
    token: Option<Token>,
    timeout: Duration,
}

impl Client {
    /// For the listener that is bound to `bind`. If it is bound to every address, the client uses loopback.
    #[must_use]
    pub fn new(bind: &AdminBind, token: Option<Token>) -> Self {
        Self::at(&AdminAddress::Bound(bind.clone()), token)
    }

    /// For the listener at this address; every address of a name is tried.
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
            timeout: TIMEOUT,
        }
    }

    /// The same client with another timeout.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// `GET /api/v1/status`.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn status(&self) -> Result<StatusView, ClientError> {
        self.send(Method::GET, "/api/v1/status", Bytes::new()).await
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
        self.send(Method::GET, &path, Bytes::new()).await
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
    ) -> Result<WithPredecessors<StateChanged>, ClientError> {
        let path = format!(
            "/api/v1/pools/{}/backends/{}/state",
            target::encode(pool),
            target::encode(backend),
        );
        let body = self.serialized(change)?;
        self.send(Method::PUT, &path, body).await
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
    ) -> Result<Vec<WithPredecessors<StateChanged>>, ClientError> {
        let path = format!("/api/v1/backends/{}/state", target::encode(backend));
        let body = self.serialized(change)?;
        let response: ChangedEverywhere = self.send(Method::PUT, &path, body).await?;
        Ok(response.changed)
    }

    /// `POST /api/v1/reload`, with a longer default timeout.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn reload(&self) -> Result<Reloaded, ClientError> {
        let timeout = match self.timeout {
            TIMEOUT => RELOAD_TIMEOUT,
            other => other,
        };
        self.clone()
            .with_timeout(timeout)
            .send(Method::POST, "/api/v1/reload", Bytes::new())
            .await
    }

    /// `POST /api/v1/upgrade`, with the timeout of an upgrade.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn upgrade(&self) -> Result<Upgraded, ClientError> {
        self.clone()
            .with_timeout(UPGRADE_TIMEOUT)
            .send(Method::POST, "/api/v1/upgrade", Bytes::new())
            .await
    }

    fn serialized(&self, body: &impl Serialize) -> Result<Bytes, ClientError> {
        serde_json::to_vec(body)
            .map(Bytes::from)
            .map_err(|error| ClientError::Broken(self.at.clone(), error.into()))
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let exchange = tokio::time::timeout(self.timeout, async {
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
        let (status, body) = exchange
            .await
            .map_err(|_| ClientError::TimedOut(self.at.clone()))??;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| self.strange(error.to_string()));
        }
        match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(body) => Err(ClientError::ErrorResponse(status, body.error)),
            Err(_) => Err(self.strange(format!("unexpected status {status}"))),
        }
    }

    /// The time for everything but the balancer's own work: to connect, and to receive a response that has begun.
    fn network_timeout(&self) -> Duration {
        self.timeout.min(TIMEOUT)
    }

    async fn in_time<S>(&self, connecting: impl Future<Output = io::Result<S>>) -> io::Result<S> {
        let connected = tokio::time::timeout(self.network_timeout(), connecting).await;
        connected.unwrap_or_else(|_| {
            let seconds = self.network_timeout().as_secs();
            let why = format!("no connection within {seconds} s");
            Err(io::Error::new(io::ErrorKind::TimedOut, why))
        })
    }

    /// Connects to the first address of a name that accepts; each gets an equal share of the time.
    async fn connect_to_any(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let found: Vec<SocketAddr> = lookup_host((host, port)).await?.collect();
        let share = self.network_timeout() / u32::try_from(found.len().max(1)).unwrap_or(u32::MAX);
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
        let progress = ResponseProgress::default();
        let stream = WatchedStream::new(stream, &progress);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.broken(error))?;
        // The set aborts it when this function returns.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let responding = async {
            let response: Response<Incoming> = sender
                .send_request(request)
                .await
                .map_err(|error| self.broken(error))?;
            progress.head_is_complete();
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_RESPONSE)
                .collect()
                .await;
            let body = body.map_err(|error| ClientError::Broken(self.at.clone(), error))?;
            Ok((status, body.to_bytes()))
        };
        tokio::select! {
            responded = responding => responded,
            () = progress.takes_longer_than(self.network_timeout()) => Err(ClientError::TimedOut(self.at.clone())),
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
        // Another protocol is reported as such, not as a broken connection.
        if watched_stream::is_endless(&error) {
            return self.strange("the head of the response does not end".to_owned());
        }
        if error.is_parse() || spoke_first(&error) {
            return self.strange("not an HTTP server".to_owned());
        }
        ClientError::Broken(self.at.clone(), error.into())
    }

    fn strange(&self, why: String) -> ClientError {
        ClientError::NotAdminListener(self.at.clone(), why)
    }
}

/// A connected admin listener.
trait AdminPeer: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The Host of a request: the address, which the listener always accepts.
    fn host(&self) -> String;
}

impl AdminPeer for TcpStream {
    fn host(&self) -> String {
        // Without the zone of an IPv6 address, which only this machine knows.
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

/// The address to connect to.
fn reachable(bind: SocketAddr) -> SocketAddr {
    let ip = match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, bind.port())
}

/// Whether the server sent something before the request, as in other protocols. hyper reports that in the text of the error
/// only.
fn spoke_first(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error);
    error.is_canceled()
        && cause.is_some_and(|cause| cause.to_string().contains("unexpected message"))
}
