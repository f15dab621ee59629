use std::io::Read;
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread::JoinHandle;

use metrics::Counter;

use super::*;
use crate::affinity::table::Secret;
use crate::config;
use crate::telemetry::log::{Sink, Writer};
use crate::upstream::backend::Availability;

/// Limit for everything that must happen.
const SOON: Duration = Duration::from_secs(20);

/// One `tcp` listener whose pool has no usable backend, so that every accepted connection is reset.
fn context() -> (Arc<ProxyContext>, Writer) {
    let yaml = "listeners: { tcp: { bind: [\"127.0.0.1:1\"], protocol: tcp, pool: web } }\n\
                pools: { web: { backends: [fe01.invalid], port: 1 } }";
    let config = config::read(yaml, "test").unwrap().config;
    let registry = Registry::default();
    let nowhere = std::fs::File::options().write(true).open("/dev/null");
    let (sink, writer) =
        Sink::start(nowhere.unwrap().into(), config.log.format, Counter::noop()).unwrap();
    let log = Arc::new(Log::new(config.log, sink));
    let availability = Arc::new(Availability::default());
    let context = ProxyContext {
        snapshot: ArcSwap::from_pointee(Snapshot::build(
            config,
            &registry,
            &availability,
            &Secret::random(),
        )),
        log,
        limits: Arc::new(ConnectionLimits::new(100, None, None)),
        registry,
        stop: CancellationToken::new(),
        accept_error_logged_at: AtomicU64::new(0),
        started: Instant::now(),
    };
    (Arc::new(context), writer)
}

/// Connects from another thread, and expects a reset, which shows that the connection was accepted.
fn connect(address: SocketAddr) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(SOON)).unwrap();
        let ended = client.read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(ended, Err(io::ErrorKind::ConnectionReset));
    })
}

/// The worker gets an event that its socket was shut down, but handles it only after the socket listens again. If it trusted
/// the event, it would try to accept in an endless loop without letting other tasks run.
#[test]
fn a_port_that_closes_and_opens_quickly_does_not_block_the_worker() {
    // The second socket: the first, whose port the kernel chose, would get another port when it is reopened (bind(2)).
    let listening = ListeningSocket::bind("127.0.0.1:0".parse().unwrap(), 2)
        .unwrap()
        .remove(1);
    listening.open().unwrap();
    let address = listening.address();
    let (context, _writer) = context();
    let stop = context.stop.clone();
    let (state, listen_state) = watch::channel(ListenState::Open(1));
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || {
        let event_loop = EventLoop::new().unwrap();
        let own = event_loop.clone();
        let configured = "127.0.0.1:1".parse().unwrap();
        event_loop.spawn(accept(
            own,
            listening.clone(),
            configured,
            context,
            listen_state,
        ));
        let own = event_loop.clone();
        event_loop.spawn(async move {
            for opening in 2..10 {
                listening.close().unwrap();
                // One epoll_wait before the accept loop sees the new state.
                own.sleep(Duration::from_millis(1)).await;
                state.send_replace(ListenState::Closed);
                listening.open().unwrap();
                state.send_replace(ListenState::Open(opening));
                let accepted = connect(address);
                while !accepted.is_finished() {
                    own.sleep(Duration::from_millis(1)).await;
                }
                accepted.join().unwrap();
            }
            stop.cancel();
        });
        event_loop.run().unwrap();
        done.send(()).unwrap();
    });
    assert_eq!(
        ended.recv_timeout(SOON * 2),
        Ok(()),
        "the worker is blocked"
    );
}

#[test]
fn queued_connections_are_left_to_the_process_that_has_taken_over() {
    let listening = ListeningSocket::bind("127.0.0.1:0".parse().unwrap(), 1)
        .unwrap()
        .remove(0);
    listening.open().unwrap();
    let _queued = TcpStream::connect(listening.address()).unwrap();
    let (context, _writer) = context();
    let (_state, listen_state) = watch::channel(ListenState::TakenOver);
    let own = listening.clone();
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || {
        let event_loop = EventLoop::new().unwrap();
        let configured = "127.0.0.1:1".parse().unwrap();
        event_loop.spawn(accept(
            event_loop.clone(),
            own,
            configured,
            context,
            listen_state,
        ));
        event_loop.run().unwrap();
        done.send(()).unwrap();
    });
    assert_eq!(ended.recv_timeout(SOON), Ok(()), "the loop does not end");
    assert!(
        listening.accept().is_ok(),
        "the queued connection was accepted here"
    );
}

/// Thousands of sessions wait at once, so their size matters.
#[test]
fn a_session_is_smaller_than_a_kibibyte() {
    let listening = ListeningSocket::bind("127.0.0.1:0".parse().unwrap(), 1)
        .unwrap()
        .remove(0);
    listening.open().unwrap();
    let _client = TcpStream::connect(listening.address()).unwrap();
    let (client, peer) = listening.accept().unwrap();
    let (context, _writer) = context();
    let event_loop = EventLoop::new().unwrap();
    let client = Stream::accepted(&event_loop, client).unwrap();
    let listener = context.snapshot.load().listeners[0].clone();
    let record = ConnectionRecord::new(
        listener.clone(),
        context.log.clone(),
        peer,
        event_loop.now(),
    );
    let admission = context.limits.admit(peer.ip(), event_loop.now()).unwrap();
    let session = session::serve(client, listener, record, admission);
    let size = size_of_val(&session);
    assert!(size < 1024, "{size} bytes");
}
