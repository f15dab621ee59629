//! Serves the admin listener: connections, and what bounds them.
//!
//! Owns the accept loop and the time and number of connections. Must not know endpoints. Invariant: nobody who is slow,
//! silent or many holds more than [`Bounds`] give, and an accept that fails never spins.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::caller::Peer;
use super::guard::Reach;
use super::socket::{Bound, Listener};
use super::terms::Terms;
use super::{Control, api};

/// What one who asks may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Time to send a request's head, counted from the end of the one before.
    pub head: Duration,
    /// Time to send a request's body.
    pub body: Duration,
    /// Time from accept until the connection is told to end.
    pub life: Duration,
    /// Connections at once; more wait in the kernel's queue.
    pub connections: usize,
}

impl Default for Bounds {
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

/// What a connection that is told to end gets for the answer that it is waiting for.
const LAST_ANSWER: Duration = Duration::from_secs(5);

/// Rest after an accept that failed for want of something on this machine.
const ACCEPT_BACKOFF: Duration = Duration::from_secs(2);

/// What stands behind a listener.
pub struct Site {
    /// Answers.
    pub control: Arc<dyn Control>,
    /// What is asked for and what there is.
    pub terms: Terms,
    /// What one who asks may take.
    pub bounds: Bounds,
    /// Cancelled when nobody else is to be accepted; who is connected stays.
    pub closed: CancellationToken,
}

/// Serves `listener` until `stop`; connections run as `tasks` and are told to end at `stop` too.
///
/// # Errors
///
/// When the runtime cannot take the socket; never later.
pub async fn serve(
    listener: Listener,
    site: Site,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let reach = listener.reach();
    let closed = site.closed.clone();
    let slots = Arc::new(Semaphore::new(site.bounds.connections));
    let task = Asked {
        site: Arc::new(site),
        reach,
        stop: stop.clone(),
    };
    match listener.socket {
        Bound::Tcp(socket) => {
            let socket = TcpListener::from_std(socket)?;
            while let Some(slot) = next_slot(&slots, &closed).await {
                let accepted = async { socket.accept().await.map(|(stream, _)| stream) };
                accept(accepted, slot, &task, tasks).await;
            }
        }
        Bound::Unix(socket, _file) => {
            let socket = UnixListener::from_std(socket)?;
            while let Some(slot) = next_slot(&slots, &closed).await {
                let accepted = async { socket.accept().await.map(|(stream, _)| stream) };
                accept(accepted, slot, &task, tasks).await;
            }
        }
    }
    Ok(())
}

/// What every connection knows.
#[derive(Clone)]
struct Asked {
    site: Arc<Site>,
    reach: Reach,
    stop: CancellationToken,
}

async fn next_slot(
    slots: &Arc<Semaphore>,
    closed: &CancellationToken,
) -> Option<OwnedSemaphorePermit> {
    tokio::select! {
        () = closed.cancelled() => None,
        slot = slots.clone().acquire_owned() => slot.ok(),
    }
}

async fn accept<S: AsyncRead + AsyncWrite + Peer + Unpin + Send + 'static>(
    accepted: impl Future<Output = std::io::Result<S>>,
    slot: OwnedSemaphorePermit,
    asked: &Asked,
    tasks: &TaskTracker,
) {
    let accepted = tokio::select! {
        () = asked.site.closed.cancelled() => return,
        accepted = accepted => accepted,
    };
    match accepted {
        Ok(stream) => {
            let asked = asked.clone();
            tasks.spawn(async move {
                answer_all(stream, &asked).await;
                drop(slot);
            });
        }
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the admin listener cannot accept"
            );
            tokio::time::sleep(ACCEPT_BACKOFF).await;
        }
    }
}

async fn answer_all<S: AsyncRead + AsyncWrite + Peer + Unpin + Send + 'static>(
    stream: S,
    asked: &Asked,
) {
    let from = stream.peer();
    let service = service_fn(|request| async {
        Ok::<_, Infallible>(api::answer(&asked.site, asked.reach, &from, request).await)
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
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(LAST_ANSWER, connection).await;
}
