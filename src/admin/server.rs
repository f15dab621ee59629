//! Serves the admin listener: connections, and what bounds them.
//!
//! Owns the accept loop and the time and number of connections. Must not know endpoints. Invariants: nobody who is slow,
//! silent or many holds more than [`RequestLimits`] give, or keeps out one that has something to ask; an accept that fails never
//! spins.

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

use super::access::AccessTerms;
use super::caller::Peer;
use super::connections::{ConnectionProgress, Connections, Step};
use super::guard::Exposure;
use super::rendered::RenderedMetrics;
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
/// Connections that are accepted before those that are there have their turn.
const ACCEPTED_AT_ONCE: usize = 16;
/// Answers that a connection gets, so that one who asks without an end and reads nothing takes a bounded time.
const MOST_ANSWERS: u32 = 100;

/// What stands behind a listener.
pub struct AdminSite {
    /// Answers.
    pub control: Arc<dyn Control>,
    /// What is asked for and what there is.
    pub terms: AccessTerms,
    /// What one who asks may take.
    pub bounds: RequestLimits,
    /// What was last told of the metrics.
    pub rendered: RenderedMetrics,
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

impl RequestContext {
    /// Whether most places are taken.
    fn is_crowded(&self) -> bool {
        self.connections.count() > self.site.bounds.connections / 4 * 3
    }
}

/// Accepts until the site is closed.
async fn accept_all<S: AsyncRead + AsyncWrite + Peer + Unpin + Send + 'static>(
    next: impl Fn(&mut Context<'_>) -> Poll<std::io::Result<S>>,
    asked: &RequestContext,
    tasks: &TaskTracker,
) {
    let mut complained = None;
    let mut accepted: usize = 0;
    let most = asked.site.bounds.connections.max(1);
    let accepting = async {
        loop {
            match accept(&next, &asked.connections).await {
                Ok(stream) => {
                    asked.connections.make_room(most).await;
                    begin(stream, asked, tasks);
                    accepted += 1;
                    // Those that have come have their turn before the next ones.
                    if accepted.is_multiple_of(ACCEPTED_AT_ONCE) {
                        tokio::task::yield_now().await;
                    }
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
    loop {
        match poll_fn(next).await {
            Err(error) if reserve::is_exhausted(&error) => {}
            accepted => return accepted,
        }
        // The listener's part of the reserve; a reload needs some of it, too.
        let share = usize::try_from(reserve::share()).unwrap_or(usize::MAX);
        // Too many may have come just now: they have had their time in a moment.
        connections.make_room(share).await;
        // What has been ended gives its descriptor back in its turn.
        tokio::task::yield_now().await;
        let tried = poll_fn(|context| {
            // For one call: whatever else of this process wants a descriptor must not get one of these.
            let _lifted = reserve::lift();
            Poll::Ready(next(context))
        });
        // Else there was nobody: the kernel looks for a descriptor first.
        if let Poll::Ready(accepted) = tried.await {
            return accepted;
        }
    }
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
    let answered = AtomicU32::new(0);
    let service = service_fn(|mut request: Request<Incoming>| async {
        progress.enter(Step::Working);
        // One that is sent behind another, without waiting for its answer, waits for others in between.
        tokio::task::yield_now().await;
        request.extensions_mut().insert(progress.clone());
        let mut answer = api::answer(&asked.site, asked.reach, &from, request).await;
        // Where many wait for a place, one question is all that each has.
        if answered.fetch_add(1, Ordering::Relaxed) + 1 >= MOST_ANSWERS || asked.is_crowded() {
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(CONNECTION, close);
        }
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
