//! A relay between two pairs of sockets over loopback, on a thread of its own.

mod slow;
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

/// How long anything may take that is bound to happen.
const SOON: Duration = Duration::from_secs(20);
/// So short a bound that a test can wait for it.
const SHORT: Duration = Duration::from_millis(150);
const LONG: Duration = Duration::from_secs(3600);
const PATIENT: Timeouts = bounds(LONG, LONG);

const fn bounds(idle: Duration, half_close: Duration) -> Timeouts {
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

/// A relay with both of its far ends in the test's hand.
struct Rig {
    client: TcpStream,
    backend: TcpStream,
    relayed: oneshot::Receiver<(End, Moved)>,
    freezer: UnboundedSender<Freeze>,
    server: Arc<Backend>,
    registry: Registry,
}

/// A connected pair over loopback, far end first.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (far, near) = tokio::join!(TcpStream::connect(address), listener.accept());
    let near = near.unwrap().0;
    // As those of a listener inherit it.
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

/// Told when the worker stands still, and until when it shall.
type Freeze = (mpsc::Sender<()>, mpsc::Receiver<()>);

async fn freeze(mut freezes: UnboundedReceiver<Freeze>) {
    while let Some((reached, released)) = freezes.recv().await {
        reached.send(()).unwrap();
        // Nothing is sent: it ends when the other end is dropped.
        let _ = released.recv();
    }
}

/// Relays on a thread of its own, as a worker does, and resets what has not ended in order.
fn relayed(
    near: (TcpStream, TcpStream),
    rest: Vec<u8>,
    slot: BackendPermit,
    bounds: Timeouts,
    availability: Arc<Availability>,
    freezes: UnboundedReceiver<Freeze>,
) -> oneshot::Receiver<(End, Moved)> {
    let (done, ended) = oneshot::channel();
    let [client, backend] = [near.0, near.1].map(|stream| stream.into_std().unwrap());
    for stream in [&client, &backend] {
        // As the listening socket and the connect to a backend have it.
        let stream = socket2::SockRef::from(stream);
        stream.set_out_of_band_inline(true).unwrap();
    }
    std::thread::spawn(move || {
        let reactor = EventLoop::new().unwrap();
        availability.tell_of_recalls(reactor.alarm().clone().into());
        reactor.spawn(freeze(freezes));
        let own = reactor.clone();
        reactor.spawn(async move {
            let client = Stream::accepted(&own, client.into()).unwrap();
            let backend = Stream::accepted(&own, backend.into()).unwrap();
            let mut moved = Moved::default();
            let oversight = RelayContext {
                timeouts: &bounds,
                metrics: &slot.backend().metrics,
                recalled: &|| slot.recalled(),
                listen: None,
            };
            let end = relay(&client, &backend, rest, oversight, &mut moved).await;
            if !matches!(end, End::Closed(_)) {
                reset_on_close(&client);
                reset_on_close(&backend);
            }
            drop((client, backend, slot));
            done.send((end, moved)).unwrap();
        });
        reactor.run().unwrap();
    });
    ended
}

impl Rig {
    async fn start(rest: &[u8], bounds: Timeouts) -> Self {
        Self::start_with(rest, bounds, |_| {}).await
    }

    /// `before` comes between the taking of a place and the relay.
    async fn start_with(rest: &[u8], bounds: Timeouts, before: impl FnOnce(&Arc<Backend>)) -> Self {
        let (client, near_client) = pair().await;
        let (backend, near_backend) = pair().await;
        let registry = Registry::default();
        let availability = Arc::new(Availability::default());
        let server = server(&registry, &availability);
        let slot = server.enter().unwrap();
        before(&server);
        let near = (near_client, near_backend);
        let (freezer, freezes) = unbounded_channel();
        let relayed = relayed(near, rest.to_vec(), slot, bounds, availability, freezes);
        Self {
            client,
            backend,
            relayed,
            freezer,
            server,
            registry,
        }
    }

    /// How the relay ended; nothing is left at the backend afterwards.
    async fn end(self) -> (End, Moved) {
        let ended = timeout(SOON, self.relayed).await.unwrap().unwrap();
        assert_eq!(self.server.in_flight(), 0);
        ended
    }

    /// Waits until so many bytes are counted: the worker counts after it has sent.
    async fn has_counted(&self, direction: &str, path: &str, wanted: u64) {
        let counted = async {
            while self.bytes(direction, path) != wanted {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(SOON, counted).await.expect("counted in time");
    }

    /// Does it while the relay looks at nothing, so that it sees all of it at once.
    fn at_once(&self, what: impl FnOnce()) {
        let ((reached, reach), (release, released)) = (mpsc::channel(), mpsc::channel());
        self.freezer.send((reached, released)).unwrap();
        reach.recv().unwrap();
        what();
        drop(release);
    }

    fn bytes(&self, direction: &str, path: &str) -> u64 {
        self.registry
            .counted(&definitions::BYTES, &["web", "fe01", direction, path])
    }
}

/// Bytes that repeat nowhere near, and numbers that are different each time: xorshift.
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
        .expect("an answer in time")
}

fn reset(stream: TcpStream) {
    reset_on_close(&stream);
    drop(stream);
}

/// Writes until nothing has been taken for a while.
async fn fill(stream: &mut TcpStream) {
    let block = vec![b'x'; 64 * 1024];
    while timeout(Duration::from_millis(100), stream.write(&block))
        .await
        .is_ok_and(|written| written.is_ok())
    {}
}

/// Writes in pieces of every size, now and then with a rest between them, and closes.
async fn say(mut stream: impl AsyncWriteExt + Unpin, bytes: Vec<u8>, mut noise: Noise) {
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

/// Reads in pieces of every size, now and then slowly, to the end.
async fn listen(mut stream: impl AsyncReadExt + Unpin, mut noise: Noise) -> Vec<u8> {
    let (mut heard, mut buffer) = (Vec::new(), vec![0; 200_000]);
    loop {
        let most = 1 + noise.below(buffer.len());
        match stream.read(&mut buffer[..most]).await.unwrap() {
            0 => return heard,
            read => heard.extend_from_slice(&buffer[..read]),
        }
        if noise.below(24) == 0 {
            sleep(Duration::from_millis(2)).await;
        }
    }
}

#[tokio::test]
async fn bytes_arrive_whole_and_in_order_in_pieces_of_any_size_both_ways() {
    for seed in 1..=4 {
        let mut noise = Noise(seed * 0x9e37_79b9);
        let (up, down) = (noise.bytes(3_000_001), noise.bytes(4_000_003));
        let Rig {
            client,
            backend,
            relayed,
            ..
        } = Rig::start(b"hello", PATIENT).await;
        let (client_reads, client_writes) = client.into_split();
        let (backend_reads, backend_writes) = backend.into_split();
        let noises = || Noise(seed * 77 + 1);
        let (said_up, said_down) = (
            say(client_writes, up.clone(), noises()),
            say(backend_writes, down.clone(), noises()),
        );
        let all = async {
            tokio::join!(
                said_up,
                said_down,
                listen(backend_reads, noises()),
                listen(client_reads, noises())
            )
        };
        let ((), (), at_backend, at_client) = timeout(SOON * 2, all).await.unwrap();
        assert!(at_backend == [&b"hello"[..], &up].concat(), "seed {seed}");
        assert!(at_client == down, "seed {seed}");
        let (end, moved) = timeout(SOON, relayed).await.unwrap().unwrap();
        assert!(matches!(end, End::Closed(_)), "{end:?}");
        assert_eq!(
            (moved.to_backend, moved.to_client),
            (3_000_006, 4_000_003),
            "seed {seed}"
        );
    }
}

#[tokio::test]
async fn a_client_that_has_closed_its_half_still_gets_everything() {
    let mut rig = Rig::start(b"", PATIENT).await;
    rig.client.write_all(b"the request").await.unwrap();
    rig.client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut rig.backend).await, b"the request");
    let answer = Noise(5).bytes(2_000_000);
    let (reading, ()) = tokio::join!(read_all(&mut rig.client), async {
        rig.backend.write_all(&answer).await.unwrap();
        rig.backend.shutdown().await.unwrap();
    });
    assert!(reading == answer);
    assert!(matches!(rig.end().await.0, End::Closed(Side::Client)));
}

#[tokio::test]
async fn a_backend_that_has_closed_its_half_still_gets_everything() {
    let mut rig = Rig::start(b"", PATIENT).await;
    rig.backend.shutdown().await.unwrap();
    assert_eq!(read_all(&mut rig.client).await, b"");
    let upload = Noise(6).bytes(2_000_000);
    let (reading, ()) = tokio::join!(read_all(&mut rig.backend), async {
        rig.client.write_all(&upload).await.unwrap();
        rig.client.shutdown().await.unwrap();
    });
    assert!(reading == upload);
    assert!(matches!(rig.end().await.0, End::Closed(Side::Backend)));
}

#[tokio::test]
async fn a_reset_of_either_side_is_a_reset_of_the_other() {
    let mut rig = Rig::start(b"", PATIENT).await;
    rig.client.write_all(b"half a requ").await.unwrap();
    assert_eq!(read_exactly(&mut rig.backend, 11).await, b"half a requ");
    reset(std::mem::replace(&mut rig.client, pair().await.0));
    assert!(is_reset(&next_read(&mut rig.backend).await));
    assert!(matches!(rig.end().await.0, End::Reset(Side::Client)));

    let mut rig = Rig::start(b"", PATIENT).await;
    rig.backend.write_all(b"half an answ").await.unwrap();
    assert_eq!(read_exactly(&mut rig.client, 12).await, b"half an answ");
    reset(std::mem::replace(&mut rig.backend, pair().await.0));
    assert!(is_reset(&next_read(&mut rig.client).await));
    assert!(matches!(rig.end().await.0, End::Reset(Side::Backend)));
}

#[tokio::test]
async fn a_reset_is_seen_while_the_other_side_takes_nothing() {
    let mut rig = Rig::start(b"", PATIENT).await;
    fill(&mut rig.client).await;
    reset(std::mem::replace(&mut rig.client, pair().await.0));
    let (end, _) = rig.end().await;
    assert!(matches!(end, End::Reset(Side::Client)), "{end:?}");

    let mut rig = Rig::start(b"", PATIENT).await;
    fill(&mut rig.backend).await;
    reset(std::mem::replace(&mut rig.backend, pair().await.0));
    let (end, _) = rig.end().await;
    assert!(matches!(end, End::Reset(Side::Backend)), "{end:?}");
}

#[tokio::test]
async fn a_reset_of_the_side_that_takes_nothing_is_seen() {
    let mut rig = Rig::start(b"", PATIENT).await;
    fill(&mut rig.client).await;
    reset(std::mem::replace(&mut rig.backend, pair().await.0));
    let (end, _) = rig.end().await;
    assert!(matches!(end, End::Reset(Side::Backend)), "{end:?}");
}

#[tokio::test]
async fn a_reset_after_the_half_close_is_seen() {
    let mut rig = Rig::start(b"", PATIENT).await;
    rig.client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut rig.backend).await, b"");
    reset(std::mem::replace(&mut rig.client, pair().await.0));
    let (end, _) = rig.end().await;
    assert!(matches!(end, End::Reset(Side::Client)), "{end:?}");
}

/// The backend has closed its half and then resets; in the same moment the client closes in order. Its
/// last bytes never reached anyone, so it must not be told that all is well.
#[tokio::test]
async fn an_orderly_close_does_not_hide_a_reset_that_came_with_it() {
    let mut rig = Rig::start(b"", PATIENT).await;
    rig.backend.shutdown().await.unwrap();
    assert_eq!(read_all(&mut rig.client).await, b"");
    let spare = pair().await.0;
    let backend = std::mem::replace(&mut rig.backend, spare);
    rig.at_once(|| {
        reset(backend);
        socket2::SockRef::from(&rig.client)
            .shutdown(std::net::Shutdown::Write)
            .unwrap();
    });
    let (end, _) = rig.end().await;
    assert!(matches!(end, End::Reset(Side::Backend)), "{end:?}");
}

#[tokio::test]
async fn no_progress_ends_it_and_progress_puts_that_off() {
    let short = bounds(SHORT * 2, LONG);
    let mut rig = Rig::start(b"", short).await;
    for _ in 0..4 {
        sleep(SHORT).await;
        rig.client.write_all(b"x").await.unwrap();
        assert_eq!(read_exactly(&mut rig.backend, 1).await, b"x");
    }
    let rested = Instant::now();
    assert!(is_reset(&next_read(&mut rig.client).await));
    assert!(rested.elapsed() >= SHORT);
    let (end, moved) = rig.end().await;
    assert!(matches!(end, End::Idle), "{end:?}");
    assert_eq!(moved.to_backend, 4);
}

#[tokio::test]
async fn after_a_half_close_its_own_bound_counts_from_there() {
    let short = bounds(LONG, SHORT);
    let mut rig = Rig::start(b"", short).await;
    sleep(SHORT * 2).await;
    let closed = Instant::now();
    rig.client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut rig.backend).await, b"");
    let (end, _) = rig.end().await;
    assert!(matches!(end, End::HalfClosed(_)), "{end:?}");
    assert!(closed.elapsed() >= SHORT);

    // The other way round, a short `idle` has no say after a half-close.
    let short = bounds(SHORT, SHORT * 3);
    let mut rig = Rig::start(b"", short).await;
    let closed = Instant::now();
    rig.backend.shutdown().await.unwrap();
    let (end, _) = rig.end().await;
    assert!(matches!(end, End::HalfClosed(_)), "{end:?}");
    assert!(closed.elapsed() >= SHORT * 3);
}

#[tokio::test]
async fn a_recall_ends_it_also_one_from_before_the_first_byte() {
    let mut rig = Rig::start(b"", PATIENT).await;
    rig.client.write_all(b"x").await.unwrap();
    assert_eq!(read_exactly(&mut rig.backend, 1).await, b"x");
    rig.server.recall(Disconnect::Maintain);
    assert!(is_reset(&next_read(&mut rig.client).await));
    assert!(is_reset(&next_read(&mut rig.backend).await));
    let (end, _) = rig.end().await;
    assert!(
        matches!(end, End::Recalled(Disconnect::Maintain)),
        "{end:?}"
    );

    let rig = Rig::start_with(b"", PATIENT, |server| server.recall(Disconnect::Down)).await;
    let (end, _) = rig.end().await;
    assert!(matches!(end, End::Recalled(Disconnect::Down)), "{end:?}");
}

#[tokio::test]
async fn a_recall_ends_one_that_is_blocked() {
    let mut rig = Rig::start(b"", PATIENT).await;
    fill(&mut rig.client).await;
    rig.server.recall(Disconnect::Shutdown);
    let (end, _) = rig.end().await;
    assert!(
        matches!(end, End::Recalled(Disconnect::Shutdown)),
        "{end:?}"
    );
}

#[tokio::test]
async fn what_was_peeked_comes_first_however_long_it_is() {
    let (peeked, more) = (Noise(7).bytes(8_000_000), Noise(8).bytes(100_000));
    let mut rig = Rig::start(&peeked, PATIENT).await;
    rig.client.write_all(&more).await.unwrap();
    rig.client.shutdown().await.unwrap();
    let heard = read_all(&mut rig.backend).await;
    assert!(heard == [peeked, more].concat());
    rig.backend.shutdown().await.unwrap();
    assert_eq!(rig.end().await.1.to_backend, 8_100_000);
}

#[tokio::test]
async fn messages_are_copied_and_streams_are_spliced_and_each_can_follow_the_other() {
    let mut rig = Rig::start(b"", PATIENT).await;
    let mut sent = (0, 0);
    for round in 1..=3 {
        let before = rig.bytes("to_client", "spliced");
        let stream = Noise(round).bytes(4_000_000);
        let (heard, ()) = tokio::join!(read_exactly(&mut rig.client, stream.len()), async {
            rig.backend.write_all(&stream).await.unwrap();
        });
        assert!(heard == stream, "round {round}");
        assert!(
            rig.bytes("to_client", "spliced") > before + 1_000_000,
            "round {round}"
        );
        for _ in 0..20 {
            rig.backend.write_all(b"a message").await.unwrap();
            assert_eq!(read_exactly(&mut rig.client, 9).await, b"a message");
        }
        // The last one has been counted when the next one has been read.
        let spliced = rig.bytes("to_client", "spliced");
        let copied = sent.1 + 4_000_000 + 20 * 9 - spliced;
        rig.backend.write_all(b"a message").await.unwrap();
        assert_eq!(read_exactly(&mut rig.client, 9).await, b"a message");
        rig.has_counted("to_client", "copied", copied + 9).await;
        sent = (0, sent.1 + 4_000_000 + 21 * 9);
    }
    let counted = rig.bytes("to_client", "copied") + rig.bytes("to_client", "spliced");
    rig.backend.shutdown().await.unwrap();
    rig.client.shutdown().await.unwrap();
    let (_, moved) = rig.end().await;
    assert_eq!((moved.to_backend, moved.to_client), sent);
    assert_eq!(counted, sent.1);
}

#[tokio::test]
async fn the_end_of_a_stream_waits_for_what_the_pipe_holds() {
    let mut rig = Rig::start(b"", PATIENT).await;
    let stream = Noise(9).bytes(12_000_000);
    let said = stream.clone();
    let mut backend = std::mem::replace(&mut rig.backend, pair().await.0);
    // It closes as soon as the last byte has left it, while the client reads nothing.
    let saying = tokio::spawn(async move {
        backend.write_all(&said).await.unwrap();
        backend.shutdown().await.unwrap();
        backend
    });
    sleep(SHORT).await;
    let heard = read_all(&mut rig.client).await;
    assert!(heard == stream);
    rig.client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut saying.await.unwrap()).await, b"");
    assert!(matches!(rig.end().await.0, End::Closed(Side::Backend)));
}

#[tokio::test]
async fn the_kernel_watches_over_both_sockets_of_what_lives_on() {
    let timeouts = Timeouts {
        tcp_keepalive: Duration::from_secs(2),
        tcp_user: Duration::from_secs(3),
        ..PATIENT
    };
    let ((_client, near_client), (_backend, near_backend)) = (pair().await, pair().await);
    let near = (near_client, near_backend);
    let kept = [&near.0, &near.1].map(|stream| rustix::io::dup(stream).unwrap());
    let (registry, availability) = (Registry::default(), Arc::new(Availability::default()));
    let server = server(&registry, &availability);
    let (_freezer, freezes) = unbounded_channel();
    let slot = server.enter().unwrap();
    let _relayed = relayed(near, Vec::new(), slot, timeouts, availability, freezes);
    let options = || {
        kept.each_ref().map(|socket| {
            let socket = socket2::SockRef::from(socket);
            let probed = socket.keepalive().unwrap();
            probed.then(|| socket.tcp_keepalive_time().unwrap())
        })
    };
    assert_eq!(options(), [None; 2]);
    let watched = async {
        while options() != [Some(timeouts.tcp_keepalive); 2] {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, watched).await.expect("watched in time");
    server.recall(Disconnect::Shutdown);
}
