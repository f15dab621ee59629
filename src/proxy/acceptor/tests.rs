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

/// How long anything may take that is bound to happen.
const SOON: Duration = Duration::from_secs(20);

/// One `tcp` listener whose pool has nobody, so that whoever is accepted is reset.
fn shared() -> (Arc<ProxyContext>, Writer) {
    let yaml = "listeners: { tcp: { bind: [\"127.0.0.1:1\"], protocol: tcp, pool: web } }\n\
                pools: { web: { backends: [fe01.invalid], port: 1 } }";
    let config = config::read(yaml, "test").unwrap().config;
    let registry = Registry::default();
    let nowhere = std::fs::File::options().write(true).open("/dev/null");
    let (sink, writer) =
        Sink::start(nowhere.unwrap().into(), config.log.format, Counter::noop()).unwrap();
    let log = Arc::new(Log::new(config.log, sink));
    let availability = Arc::new(Availability::default());
    let shared = ProxyContext {
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
        complained: AtomicU64::new(0),
        started: Instant::now(),
    };
    (Arc::new(shared), writer)
}

/// Connects from another thread, and is reset once it has been accepted.
fn is_accepted(address: SocketAddr) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(SOON)).unwrap();
        let ended = client.read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(ended, Err(io::ErrorKind::ConnectionReset));
    })
}

/// The worker sees that its socket has hung up, and comes to look only when it listens again: to believe what it was
/// told of the socket would be to look for connections without end, and without a pause in which anyone else could run.
#[test]
fn a_port_that_closes_and_opens_in_a_moment_freezes_no_worker() {
    // The second one: the first, whose port the kernel chose, would come back on another (bind(2)).
    let listening = Listening::bind("127.0.0.1:0".parse().unwrap(), 2)
        .unwrap()
        .remove(1);
    listening.open().unwrap();
    let address = listening.address();
    let (shared, _writer) = shared();
    let stop = shared.stop.clone();
    let (state, gate) = watch::channel(ListenState::Open(1));
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || {
        let reactor = EventLoop::new().unwrap();
        let own = reactor.clone();
        let configured = "127.0.0.1:1".parse().unwrap();
        reactor.spawn(accept(own, listening.clone(), configured, shared, gate));
        let own = reactor.clone();
        reactor.spawn(async move {
            for opening in 2..10 {
                listening.close().unwrap();
                // One look at the sockets, while the accept loop has not heard of it.
                own.sleep(Duration::from_millis(1)).await;
                state.send_replace(ListenState::Closed);
                listening.open().unwrap();
                state.send_replace(ListenState::Open(opening));
                let accepted = is_accepted(address);
                while !accepted.is_finished() {
                    own.sleep(Duration::from_millis(1)).await;
                }
                accepted.join().unwrap();
            }
            stop.cancel();
        });
        reactor.run().unwrap();
        done.send(()).unwrap();
    });
    assert_eq!(ended.recv_timeout(SOON * 2), Ok(()), "the worker is frozen");
}

#[test]
fn who_waits_where_another_process_accepts_is_left_to_it() {
    let listening = Listening::bind("127.0.0.1:0".parse().unwrap(), 1)
        .unwrap()
        .remove(0);
    listening.open().unwrap();
    let _waits = TcpStream::connect(listening.address()).unwrap();
    let (shared, _writer) = shared();
    let (_state, gate) = watch::channel(ListenState::Left);
    let own = listening.clone();
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || {
        let reactor = EventLoop::new().unwrap();
        let configured = "127.0.0.1:1".parse().unwrap();
        reactor.spawn(accept(reactor.clone(), own, configured, shared, gate));
        reactor.run().unwrap();
        done.send(()).unwrap();
    });
    assert_eq!(ended.recv_timeout(SOON), Ok(()), "the loop does not end");
    assert!(
        listening.accept().is_ok(),
        "nobody has taken the one who waits"
    );
}

/// Thousands of sessions wait at once, so their size is looked after.
#[test]
fn a_session_takes_less_than_a_kibibyte() {
    let listening = Listening::bind("127.0.0.1:0".parse().unwrap(), 1)
        .unwrap()
        .remove(0);
    listening.open().unwrap();
    let _client = TcpStream::connect(listening.address()).unwrap();
    let (client, peer) = listening.accept().unwrap();
    let (shared, _writer) = shared();
    let reactor = EventLoop::new().unwrap();
    let client = Stream::accepted(&reactor, client).unwrap();
    let listener = shared.snapshot.load().listeners[0].clone();
    let account = ConnectionRecord::open(listener.clone(), shared.log.clone(), peer, reactor.now());
    let admission = shared.limits.admit(peer.ip(), reactor.now()).unwrap();
    let session = session::serve(client, listener, account, admission);
    let size = size_of_val(&session);
    assert!(size < 1024, "{size} bytes");
}
