//! Serves an admin listener: the accept loop and its connections.
//!
//! Owns the time and the number of connections. Must not know endpoints. Invariants: slow, silent or numerous clients get
//! no more than the limits of the site, and never keep out a client that sends a request; a failing accept never spins.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::api;
use super::caller::PeerName;
use super::connections::{ConnectionProgress, Connections, Step};
use super::guard::Exposure;
use super::site::AdminSite;
use super::socket::{AdminListener, BoundSocket};
use crate::system::reserve;

/// The largest head of a request.
const MAX_HEAD: usize = 16 << 10;

/// How long a connection that has to end may take to finish the response that is being made.
const FINISH_PROCESSING: Duration = Duration::from_secs(5);
/// How long it may take to read a response that has been made.
const FINISH_READING: Duration = Duration::from_secs(1);

/// Pause after an accept that failed because this machine lacks a resource.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// Time between two log lines about such failures.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);
/// Connections to accept before those that are open are served.
const ACCEPT_BATCH: usize = 16;
/// Responses on one connection, so that a client that sends requests without end and reads nothing is served for a limited
/// time.
const MAX_RESPONSES: u32 = 100;

/// Accepts connections until the site is closed. Connections run as `tasks`, and end at `stop` at the latest.
///
/// # Errors
///
/// When the socket cannot be registered with the runtime; never later.
pub async fn serve(
    listener: AdminListener,
    site: AdminSite,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let exposure = listener.exposure();
    let context = RequestContext {
        site: Arc::new(site),
        exposure,
        stop,
        connections: Connections::default(),
    };
    match listener.socket {
        BoundSocket::Tcp(socket) => {
            let socket = TcpListener::from_std(socket)?;
            let next = |context: &mut Context<'_>| {
                socket.poll_accept(context).map_ok(|(stream, _)| stream)
            };
            accept_all(next, &context, tasks).await;
        }
        BoundSocket::Unix(socket, _file) => {
            let socket = UnixListener::from_std(socket)?;
            let next = |context: &mut Context<'_>| {
                socket.poll_accept(context).map_ok(|(stream, _)| stream)
            };
            accept_all(next, &context, tasks).await;
        }
    }
    Ok(())
}

/// What the connections of a listener share.
#[derive(Clone)]
struct RequestContext {
    site: Arc<AdminSite>,
    exposure: Exposure,
    stop: CancellationToken,
    connections: Connections,
}

impl RequestContext {
    /// Whether most of the allowed connections are in use.
    fn is_crowded(&self) -> bool {
        self.connections.count() > self.site.limits.connections / 4 * 3
    }
}

/// Accepts until the site is closed.
async fn accept_all<S: AsyncRead + AsyncWrite + PeerName + Unpin + Send + 'static>(
    next: impl Fn(&mut Context<'_>) -> Poll<std::io::Result<S>>,
    context: &RequestContext,
    tasks: &TaskTracker,
) {
    let mut warned = None;
    let mut accepted: usize = 0;
    let limit = context.site.limits.connections.max(1);
    let accepting = async {
        loop {
            match accept(&next, &context.connections).await {
                Ok(stream) => {
                    context.connections.make_room(limit).await;
                    spawn(stream, context, tasks);
                    accepted += 1;
                    // Open connections are served before the next ones are accepted.
                    if accepted.is_multiple_of(ACCEPT_BATCH) {
                        tokio::task::yield_now().await;
                    }
                }
                Err(error) => {
                    warn(&error, &mut warned);
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    };
    context.site.closed.run_until_cancelled(accepting).await;
}

/// The next connection. If clients of the balancer have used up the descriptors, it is accepted with the reserve.
async fn accept<S>(
    next: &impl Fn(&mut Context<'_>) -> Poll<std::io::Result<S>>,
    connections: &Connections,
) -> std::io::Result<S> {
    loop {
        match poll_fn(next).await {
            Err(error) if reserve::is_out_of_descriptors(&error) => {}
            accepted => return accepted,
        }
        // The listener's share of the reserve; a reload needs some of it, too.
        let share = usize::try_from(reserve::share_per_listener()).unwrap_or(usize::MAX);
        // Waits for new connections to have had their time.
        connections.make_room(share).await;
        // Closed connections release their descriptors when their tasks run next.
        tokio::task::yield_now().await;
        let tried = poll_fn(|context| {
            // For one call only: the rest of the process must not use the reserve.
            let _lifted = reserve::lift();
            Poll::Ready(next(context))
        });
        // Otherwise no connection was waiting: the kernel reserves a descriptor first.
        if let Poll::Ready(accepted) = tried.await {
            return accepted;
        }
    }
}

fn spawn<S: AsyncRead + AsyncWrite + PeerName + Unpin + Send + 'static>(
    stream: S,
    context: &RequestContext,
    tasks: &TaskTracker,
) {
    let entry = context.connections.enter();
    let number = entry.number();
    let own = context.clone();
    let task = tasks.spawn(async move {
        serve_connection(stream, &own, &entry.progress).await;
    });
    context.connections.set_task(number, task.abort_handle());
}

fn warn(error: &std::io::Error, last: &mut Option<Instant>) {
    if last.is_some_and(|last| last.elapsed() < WARNING_INTERVAL) {
        return;
    }
    *last = Some(Instant::now());
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "the admin listener could not accept a connection"
    );
}

async fn serve_connection<S: AsyncRead + AsyncWrite + PeerName + Unpin + Send + 'static>(
    stream: S,
    context: &RequestContext,
    progress: &ConnectionProgress,
) {
    let peer = stream.peer_name();
    let responses = AtomicU32::new(0);
    let service = service_fn(|mut request: Request<Incoming>| async {
        progress.enter(Step::Processing);
        // Other connections are served between pipelined requests.
        tokio::task::yield_now().await;
        request.extensions_mut().insert(progress.clone());
        let mut response = api::respond(&context.site, context.exposure, &peer, request).await;
        // When most connections are in use, each gets one response.
        if responses.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_RESPONSES || context.is_crowded() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        progress.enter(Step::Responded);
        Ok::<_, Infallible>(response)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(context.site.limits.head_timeout)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        // How it ended does not matter: the client is gone, or does not speak HTTP.
        _ = connection.as_mut() => return,
        () = context.stop.cancelled() => {}
        () = tokio::time::sleep(context.site.limits.lifetime) => {}
    }
    let last = match progress.step() {
        Step::Receiving => return,
        Step::Responded => FINISH_READING,
        Step::Processing => FINISH_PROCESSING,
    };
    connection.as_mut().graceful_shutdown();
    let _ = timeout(last, connection).await;
}
