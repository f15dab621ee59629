//! Serves the admin listener: connections, and what bounds them.
//!
//! Owns the accept loop and the time and number of connections. Must not know endpoints. Invariants: nobody who is slow,
//! silent or many holds more than [`RequestLimits`] give, or keeps out one that has something to ask; an accept that fails never
//! spins.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::AccessTerms;
use super::caller::Peer;
use super::connections::{ConnectionProgress, Connections, Step};
use super::guard::Exposure;
use super::socket::{AdminListener, BoundSocket};
use super::{Control, api};
use crate::system::reserve;

/// What one who asks may take.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// Time to send a request's head, counted from the end of the one before.
    pub head: Duration,
    /// Time to send a request's body.
    pub body: Duration,
    /// Time from accept until the connection is told to end.
    pub life: Duration,
    /// Connections at once; the one that has kept the listener waiting longest gives way to the next.
    pub connections: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            body: Duration::from_secs(10),
            life: Duration::from_secs(300),
            connections: 64,
        }
    }
}

/// The largest head of a request.
const MAX_HEAD: usize = 16 << 10;

/// What a connection gets that is told to end while its answer is being made, and while it may still be reading one.
const LAST_ANSWER: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(1));

/// Rest after an accept that failed for want of something on this machine.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// Between two log lines about that.
const COMPLAINT_EVERY: Duration = Duration::from_secs(10);
/// An accept that has the reserve of descriptors finds somebody waiting at once.
const WITH_RESERVE: Duration = Duration::from_millis(10);

/// What stands behind a listener.
pub struct AdminSite {
    /// Answers.
    pub control: Arc<dyn Control>,
    /// What is asked for and what there is.
    pub terms: AccessTerms,
    /// What one who asks may take.
    pub bounds: RequestLimits,
    /// Cancelled when nobody else is to be accepted; who is connected stays.
    pub closed: CancellationToken,
}

/// Serves `listener` until `stop`; connections run as `tasks` and are told to end at `stop` too.
///
/// # Errors
///
/// When the runtime cannot take the socket; never later.
pub async fn serve(
    listener: AdminListener,
    site: AdminSite,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let reach = listener.reach();
    let task = RequestContext {
        site: Arc::new(site),
        reach,
        stop,
        connections: Connections::default(),
    };
    match listener.socket {
        BoundSocket::Tcp(socket) => {
            let socket = TcpListener::from_std(socket)?;
            let next = |context: &mut Context<'_>| {
                socket.poll_accept(context).map_ok(|(stream, _)| stream)
            };
            accept_all(next, &task, tasks).await;
        }
        BoundSocket::Unix(socket, _file) => {
            let socket = UnixListener::from_std(socket)?;
            let next = |context: &mut Context<'_>| {
                socket.poll_accept(context).map_ok(|(stream, _)| stream)
            };
            accept_all(next, &task, tasks).await;
        }
    }
    Ok(())
}

/// What every connection knows.
#[derive(Clone)]
struct RequestContext {
    site: Arc<AdminSite>,
    reach: Exposure,
    stop: CancellationToken,
    connections: Connections,
}

/// Accepts until the site is closed.
async fn accept_all<S: AsyncRead + AsyncWrite + Peer + Unpin + Send + 'static>(
    next: impl Fn(&mut Context<'_>) -> Poll<std::io::Result<S>>,
    asked: &RequestContext,
    tasks: &TaskTracker,
) {
    let mut complained = None;
    let most = asked.site.bounds.connections.max(1);
    let accepting = async {
        loop {
            match accept(&next, &asked.connections).await {
                Ok(stream) => {
                    asked.connections.make_room(most).await;
                    begin(stream, asked, tasks);
                    // Those that have come have their turn before the next.
                    tokio::task::yield_now().await;
                }
                Err(error) => {
                    complain(&error, &mut complained);
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    };
    asked.site.closed.run_until_cancelled(accepting).await;
}

/// The next connection. Where clients of the balancer have taken every descriptor, the reserve is there for it.
async fn accept<S>(
    next: &impl Fn(&mut Context<'_>) -> Poll<std::io::Result<S>>,
    connections: &Connections,
) -> std::io::Result<S> {
    let error = match poll_fn(next).await {
        Err(error) if reserve::is_exhausted(&error) => error,
        accepted => return accepted,
    };
    // The listener's part of the reserve; a reload needs some of it, too.
    let most = usize::try_from(reserve::share()).unwrap_or(usize::MAX);
    if let Err(wait) = connections.end_down_to(most.saturating_sub(1)) {
        // Too many came just now.
        tokio::time::sleep(wait).await;
        return Err(error);
    }
    // What has been ended gives its descriptor back in its turn.
    tokio::task::yield_now().await;
    let _lifted = reserve::lift();
    timeout(WITH_RESERVE, poll_fn(next))
        .await
        .unwrap_or(Err(error))
}

fn begin<S: AsyncRead + AsyncWrite + Peer + Unpin + Send + 'static>(
    stream: S,
    asked: &RequestContext,
    tasks: &TaskTracker,
) {
    let entry = asked.connections.enter();
    let number = entry.number();
    let own = asked.clone();
    let task = tasks.spawn(async move {
        answer_all(stream, &own, &entry.progress).await;
    });
    asked.connections.set_task(number, task.abort_handle());
}

fn complain(error: &std::io::Error, last: &mut Option<Instant>) {
    if last.is_some_and(|last| last.elapsed() < COMPLAINT_EVERY) {
        return;
    }
    *last = Some(Instant::now());
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "the admin listener cannot accept"
    );
}

async fn answer_all<S: AsyncRead + AsyncWrite + Peer + Unpin + Send + 'static>(
    stream: S,
    asked: &RequestContext,
    progress: &ConnectionProgress,
) {
    let from = stream.peer();
    let service = service_fn(|mut request: Request<Incoming>| async {
        progress.enter(Step::Working);
        // One that is sent behind another, without waiting for its answer, waits for others in between.
        tokio::task::yield_now().await;
        request.extensions_mut().insert(progress.clone());
        let answer = api::answer(&asked.site, asked.reach, &from, request).await;
        progress.enter(Step::Answered);
        Ok::<_, Infallible>(answer)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(asked.site.bounds.head)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        // How a connection of this kind ends interests nobody: a client that is gone, or no HTTP.
        _ = connection.as_mut() => return,
        () = asked.stop.cancelled() => {}
        () = tokio::time::sleep(asked.site.bounds.life) => {}
    }
    let last = match progress.step() {
        Step::Asking => return,
        Step::Answered => LAST_ANSWER.1,
        Step::Working => LAST_ANSWER.0,
    };
    connection.as_mut().graceful_shutdown();
    let _ = timeout(last, connection).await;
}
