//! A relay between two pairs of loopback sockets, on its own thread.

mod ends;
mod slow;
mod transfer;
mod urgent;

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rustix::net::SendFlags;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use super::*;
use crate::config::model;
use crate::net::event_loop::EventLoop;
use crate::net::socket::reset_on_close;
use crate::telemetry::metrics::{BackendMetrics, Registry, definitions};
use crate::upstream::backend::{Availability, Backend, BackendPermit};

/// Limit for everything that must happen.
const SOON: Duration = Duration::from_secs(20);
/// A timeout so short that a test can wait for it.
const SHORT: Duration = Duration::from_millis(150);
const LONG: Duration = Duration::from_secs(3600);
const NO_TIMEOUTS: Timeouts = timeouts(LONG, LONG);

const fn timeouts(idle: Duration, half_close: Duration) -> Timeouts {
    Timeouts {
        client_hello: LONG,
        connect: LONG,
        idle,
        half_close,
        drain: LONG,
        shutdown: LONG,
        tcp_keepalive: LONG,
        tcp_user: LONG,
    }
}

/// A running relay and the far ends of both connections.
struct Rig {
    client: TcpStream,
    backend: TcpStream,
    relayed: oneshot::Receiver<(End, ByteCounts)>,
    pauser: UnboundedSender<Pause>,
    server: Arc<Backend>,
    registry: Registry,
}

/// A connected pair over loopback, the far end first.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (far, near) = tokio::join!(TcpStream::connect(address), listener.accept());
    let near = near.unwrap().0;
    // Inherited from the listening socket in production.
    let inherited = socket2::SockRef::from(&near).set_out_of_band_inline(true);
    inherited.unwrap();
    (far.unwrap(), near)
}

fn server(registry: &Registry, availability: &Arc<Availability>) -> Arc<Backend> {
    let configured = model::BackendConfig {
        name: "fe01".into(),
        address: model::ServerAddress {
            host: model::ServerHost::Address("192.0.2.1".parse().unwrap()),
            port: 4443,
        },
        weight: 1,
        check_ports: BTreeMap::new(),
    };
    let metrics = BackendMetrics::new(registry, &"web".into(), &"fe01".into());
    let availability = availability.clone();
    Arc::new(Backend::new(
        "web".into(),
        configured,
        None,
        metrics,
        availability,
    ))
}

/// Signals that the worker is paused, and when it may continue.
type Pause = (mpsc::Sender<()>, mpsc::Receiver<()>);

async fn pause_worker(mut pauses: UnboundedReceiver<Pause>) {
    while let Some((reached, released)) = pauses.recv().await {
        reached.send(()).unwrap();
        // Nothing is sent: this returns when the other end is dropped.
        let _ = released.recv();
    }
}

/// Relays on its own thread, as a worker does, and resets both sockets unless the end is orderly.
fn spawn_relay(
    near: (TcpStream, TcpStream),
    unsent: Vec<u8>,
    permit: BackendPermit,
    timeouts: Timeouts,
    availability: Arc<Availability>,
    pauses: UnboundedReceiver<Pause>,
) -> oneshot::Receiver<(End, ByteCounts)> {
    let (done, ended) = oneshot::channel();
    let [client, backend] = [near.0, near.1].map(|stream| stream.into_std().unwrap());
    for stream in [&client, &backend] {
        // Set on the listening socket and before the connect in production.
        let stream = socket2::SockRef::from(stream);
        stream.set_out_of_band_inline(true).unwrap();
    }
    std::thread::spawn(move || {
        let event_loop = EventLoop::new().unwrap();
        availability.register_worker(event_loop.notifier().clone().into());
        event_loop.spawn(pause_worker(pauses));
        let own = event_loop.clone();
        event_loop.spawn(async move {
            let client = Stream::accepted(&own, client.into()).unwrap();
            let backend = Stream::accepted(&own, backend.into()).unwrap();
            let mut moved = ByteCounts::default();
            let context = RelayContext {
                timeouts: &timeouts,
                metrics: &permit.backend().metrics,
                disconnect: &|| permit.disconnect_reason(),
                observer: None,
            };
            let end = relay(&client, &backend, unsent, context, &mut moved).await;
            if !matches!(end, End::Closed(_)) {
                reset_on_close(&client);
                reset_on_close(&backend);
            }
            drop((client, backend, permit));
            done.send((end, moved)).unwrap();
        });
        event_loop.run().unwrap();
    });
    ended
}

impl Rig {
    async fn start(unsent: &[u8], timeouts: Timeouts) -> Self {
        Self::start_with(unsent, timeouts, |_| {}).await
    }

    /// `before` runs after the permit is acquired and before the relay starts.
    async fn start_with(
        unsent: &[u8],
        timeouts: Timeouts,
        before: impl FnOnce(&Arc<Backend>),
    ) -> Self {
        let (client, near_client) = pair().await;
        let (backend, near_backend) = pair().await;
        let registry = Registry::default();
        let availability = Arc::new(Availability::default());
        let server = server(&registry, &availability);
        let permit = server.try_acquire().unwrap();
        before(&server);
        let near = (near_client, near_backend);
        let (pauser, pauses) = unbounded_channel();
        let relayed = spawn_relay(
            near,
            unsent.to_vec(),
            permit,
            timeouts,
            availability,
            pauses,
        );
        Self {
            client,
            backend,
            relayed,
            pauser,
            server,
            registry,
        }
    }

    /// How the relay ended; no permit is held afterwards.
    async fn end(self) -> (End, ByteCounts) {
        let ended = timeout(SOON, self.relayed).await.unwrap().unwrap();
        assert_eq!(self.server.in_flight(), 0);
        ended
    }

    /// Waits until this many bytes are counted: the worker counts after sending.
    async fn wait_counted(&self, direction: &str, path: &str, wanted: u64) {
        let counted = async {
            while self.bytes(direction, path) != wanted {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(SOON, counted).await.expect("counted in time");
    }

    /// Calls `f` while the worker is paused, so that the relay sees all effects at once.
    fn at_once(&self, f: impl FnOnce()) {
        let ((reached, reach), (release, released)) = (mpsc::channel(), mpsc::channel());
        self.pauser.send((reached, released)).unwrap();
        reach.recv().unwrap();
        f();
        drop(release);
    }

    fn bytes(&self, direction: &str, path: &str) -> u64 {
        self.registry
            .counter_value(&definitions::BYTES, &["web", "fe01", direction, path])
    }
}

/// Pseudorandom bytes and numbers: xorshift.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let words = std::iter::repeat_with(|| self.next().to_le_bytes());
        words.flatten().take(len).collect()
    }
}

async fn read_all(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut all = Vec::new();
    timeout(SOON, stream.read_to_end(&mut all))
        .await
        .expect("an end in time")
        .expect("an orderly end");
    all
}

async fn read_exactly(stream: &mut TcpStream, len: usize) -> Vec<u8> {
    let mut read = vec![0; len];
    timeout(SOON, stream.read_exact(&mut read))
        .await
        .expect("bytes in time")
        .expect("bytes");
    read
}

fn is_reset(read: &io::Result<usize>) -> bool {
    read.as_ref()
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

async fn next_read(stream: &mut TcpStream) -> io::Result<usize> {
    let mut buffer = [0; 1];
    timeout(SOON, stream.read(&mut buffer))
        .await
        .expect("a result in time")
}

fn reset(stream: TcpStream) {
    reset_on_close(&stream);
    drop(stream);
}

/// Writes until nothing was accepted for a while.
async fn fill(stream: &mut TcpStream) {
    let block = vec![b'x'; 64 * 1024];
    while timeout(Duration::from_millis(100), stream.write(&block))
        .await
        .is_ok_and(|written| written.is_ok())
    {}
}

/// Writes in pieces of many sizes, sometimes with a pause, and closes.
async fn write_in_pieces(mut stream: impl AsyncWriteExt + Unpin, bytes: Vec<u8>, mut noise: Noise) {
    let mut left = &bytes[..];
    while !left.is_empty() {
        let most = if noise.below(4) == 0 { 100_000 } else { 3_000 };
        let (piece, after) = left.split_at((1 + noise.below(most)).min(left.len()));
        stream.write_all(piece).await.unwrap();
        left = after;
        match noise.below(16) {
            0 => sleep(Duration::from_millis(1)).await,
            1..4 => yield_now().await,
            _ => {}
        }
    }
    stream.shutdown().await.unwrap();
}

/// Reads in pieces of many sizes, sometimes slowly, to the end.
async fn read_in_pieces(mut stream: impl AsyncReadExt + Unpin, mut noise: Noise) -> Vec<u8> {
    let (mut received, mut buffer) = (Vec::new(), vec![0; 200_000]);
    loop {
        let most = 1 + noise.below(buffer.len());
        match stream.read(&mut buffer[..most]).await.unwrap() {
            0 => return received,
            read => received.extend_from_slice(&buffer[..read]),
        }
        if noise.below(24) == 0 {
            sleep(Duration::from_millis(2)).await;
        }
    }
}
