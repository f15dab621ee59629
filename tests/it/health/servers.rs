//! Test servers with one fixed behaviour each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A server that handles every connection in the same way, until it is dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(super) async fn start<F, Done>(handle: F) -> Self
    where
        F: Fn(TcpStream) -> Done + Send + 'static,
        Done: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, handle)
    }

    pub(super) fn on<F, Done>(listener: TcpListener, handle: F) -> Self
    where
        F: Fn(TcpStream) -> Done + Send + 'static,
        Done: Future<Output = ()> + Send + 'static,
    {
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                open.spawn(handle(stream));
            }
        });
        Self {
            address,
            accepted,
            task,
        }
    }

    /// Number of connections accepted so far.
    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Accepts connections and sends nothing.
    pub(super) async fn silent() -> Self {
        Self::start(async |stream| {
            std::future::pending::<()>().await;
            drop(stream);
        })
        .await
    }

    /// Reads once and closes.
    pub(super) async fn closing() -> Self {
        Self::start(async |mut stream| {
            read_some(&mut stream).await;
        })
        .await
    }

    /// Reads once, responds with `bytes` and keeps the connection open.
    pub(super) async fn responding_with(bytes: &'static [u8]) -> Self {
        Self::start(async |mut stream| {
            read_some(&mut stream).await;
            let _ = stream.write_all(bytes).await;
            std::future::pending::<()>().await;
        })
        .await
    }

    /// Reads once, then sends `bytes` in a loop, one byte at a time.
    pub(super) async fn trickling(bytes: &'static [u8]) -> Self {
        Self::start(async |mut stream| {
            read_some(&mut stream).await;
            let mut pace = tokio::time::interval(Duration::from_millis(5));
            for byte in bytes.iter().cycle() {
                pace.tick().await;
                if stream.write_all(&[*byte]).await.is_err() {
                    return;
                }
            }
        })
        .await
    }

    /// Responds to HTTP requests with the current `status`.
    pub(super) async fn http(status: &Arc<AtomicU16>) -> Self {
        let status = status.clone();
        Self::start(move |stream| respond(stream, status.load(Ordering::SeqCst))).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_some(stream: &mut TcpStream) {
    let _ = stream.read(&mut [0; 4096]).await;
}

/// Reads a request and sends a response with this status.
pub(super) async fn respond(mut stream: TcpStream, status: u16) {
    read_some(&mut stream).await;
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    let _ = stream.write_all(head.as_bytes()).await;
}
