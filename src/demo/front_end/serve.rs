//! Accepts connections on a port and serves them until the port is closed.
//!
//! Owns the tasks of one port. Must not know the content of requests. Invariants: closing the port refuses new clients at
//! once and resets every connection; each connection holds a permit, which `Drop` releases.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::port::DemoPort;
use super::web::{self, Scheme, WebSite};

/// The maximum size of a request's head.
const HEAD_MAX: usize = 16 * 1024;
/// The maximum that a SIP client may send before it is disconnected.
const SIP_BYTES_MAX: usize = 64 * 1024;
/// Pause after a failed accept, mostly for lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The handler of a connection. It ends early, by a reset, when `closed` is cancelled.
pub(super) trait Serve: Send + Sync + 'static {
    fn serve(
        &self,
        stream: TcpStream,
        closed: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static;
}

/// A port and its connections.
#[derive(Debug)]
pub(super) struct Service {
    port: DemoPort,
    permits: Arc<Semaphore>,
    limit: usize,
    /// Cancelled while the port is closed.
    closed: Mutex<CancellationToken>,
}

impl Service {
    /// Starts closed. `permits` may be shared with other ports.
    pub(super) fn new(port: DemoPort, permits: Arc<Semaphore>) -> Self {
        let closed = CancellationToken::new();
        closed.cancel();
        Self {
            port,
            limit: permits.available_permits(),
            permits,
            closed: Mutex::new(closed),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Connections that hold a permit.
    pub(super) fn connections(&self) -> usize {
        self.limit - self.permits.available_permits()
    }

    /// Opens the port; does nothing if it is open.
    pub(super) fn open(&self, tasks: &TaskTracker, serve: impl Serve) -> io::Result<()> {
        let mut current = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        if !current.is_cancelled() {
            return Ok(());
        }
        let listener = self.port.open()?;
        let closed = CancellationToken::new();
        *current = closed.clone();
        tasks.spawn(accept(
            listener,
            self.permits.clone(),
            closed,
            tasks.clone(),
            serve,
        ));
        Ok(())
    }

    pub(super) fn close(&self) {
        self.closed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .cancel();
        self.port.close();
    }
}

async fn accept(
    listener: TcpListener,
    permits: Arc<Semaphore>,
    closed: CancellationToken,
    tasks: TaskTracker,
    serve: impl Serve,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = closed.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _client)) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(permit) = permits.clone().try_acquire_owned() else {
            reset_on_close(&stream);
            continue;
        };
        let connection = serve.serve(stream, closed.clone());
        tasks.spawn(async move {
            let _permit = permit;
            connection.await;
        });
    }
}

/// External Web, with or without TLS.
pub(super) struct WebService {
    pub(super) site: Arc<WebSite>,
    pub(super) scheme: Scheme,
    pub(super) idle: Duration,
}

impl Serve for WebService {
    fn serve(
        &self,
        stream: TcpStream,
        closed: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
        let Self { site, scheme, idle } = Self {
            site: self.site.clone(),
            scheme: self.scheme.clone(),
            idle: self.idle,
        };
        async move {
            let Scheme::Https(acceptor) = &scheme else {
                if let Some(stream) = requests(stream, site, scheme, idle, &closed).await {
                    reset_on_close(&stream);
                }
                return;
            };
            let Some(tls) = handshake(stream, acceptor, idle, &closed).await else {
                return;
            };
            if let Some(tls) = requests(tls, site, scheme, idle, &closed).await {
                reset_on_close(tls.get_ref().0);
            }
        }
    }
}

/// SIP as far as a health check sees it: takes a connection, shows its certificate, and listens.
pub(super) struct SipService {
    pub(super) acceptor: TlsAcceptor,
    pub(super) hold: Duration,
}

impl Serve for SipService {
    fn serve(
        &self,
        stream: TcpStream,
        closed: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (acceptor, hold) = (self.acceptor.clone(), self.hold);
        async move {
            let Some(mut tls) = handshake(stream, &acceptor, hold, &closed).await else {
                return;
            };
            tokio::select! {
                biased;
                () = closed.cancelled() => reset_on_close(tls.get_ref().0),
                _ = timeout(hold, discard(&mut tls)) => {}
            }
        }
    }
}

type TlsService = tokio_rustls::server::TlsStream<TcpStream>;

/// `None` if it failed, took too long or the port was closed; invalid data gets an alert.
async fn handshake(
    stream: TcpStream,
    acceptor: &TlsAcceptor,
    time_limit: Duration,
    closed: &CancellationToken,
) -> Option<TlsService> {
    let mut handshake = acceptor.accept(stream);
    let done = tokio::select! {
        biased;
        () = closed.cancelled() => None,
        done = timeout(time_limit, &mut handshake) => Some(done),
    };
    if done.is_none() {
        handshake.get_ref().inspect(|stream| reset_on_close(stream));
    }
    done?.ok()?.ok()
}

/// Serves requests until the client closes or is idle for too long. Returns the stream if the port was closed first.
async fn requests<S>(
    stream: S,
    site: Arc<WebSite>,
    scheme: Scheme,
    idle: Duration,
    closed: &CancellationToken,
) -> Option<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| web::respond_to(site.clone(), scheme.clone(), request));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        biased;
        () = closed.cancelled() => {}
        // The client reports errors of the connection itself.
        _ended = &mut connection => return None,
    }
    Some(connection.into_parts().io.into_inner())
}

/// Reads until the client closes or has sent too much.
async fn discard(stream: &mut TlsService) {
    let mut received = 0;
    let mut buffer = [0; 1024];
    while received < SIP_BYTES_MAX {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => received += count,
        }
    }
}

/// Makes the next close send a reset, without waiting data or a port in TIME-WAIT (socket(7), `SO_LINGER`).
fn reset_on_close(stream: &TcpStream) {
    // Fails only on a socket that has ended already.
    let _ended = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
