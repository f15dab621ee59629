use std::sync::mpsc;

use metrics::Counter;
use tokio::io::AsyncReadExt;

use super::*;
use crate::backend::Availability;
use crate::config;
use crate::log::{Sink, Writer};
use crate::socket::Patience;

/// How long anything may take that is bound to happen.
const SOON: Duration = Duration::from_secs(20);

/// One `tcp` listener whose pool has nobody, so that whoever is accepted is reset.
fn shared() -> (Arc<Shared>, Writer) {
    let yaml = "listeners: { tcp: { bind: [\"127.0.0.1:1\"], protocol: tcp, pool: web } }\n\
                pools: { web: { backends: [fe01.invalid], port: 1 } }";
    let config = config::read(yaml, "test").unwrap().config;
    let registry = Registry::default();
    let nowhere = std::fs::File::options().write(true).open("/dev/null");
    let (sink, writer) =
        Sink::start(nowhere.unwrap().into(), config.log.format, Counter::noop()).unwrap();
    let log = Arc::new(Log::new(config.log, sink));
    let availability = Arc::new(Availability::new(0));
    let shared = Shared {
        snapshot: ArcSwap::from_pointee(Snapshot::build(config, &registry, &availability)),
        log,
        limits: Arc::new(Limits::new(100, None, None)),
        registry,
        stop: CancellationToken::new(),
        complained: AtomicU64::new(0),
        started: Instant::now(),
    };
    (Arc::new(shared), writer)
}

/// Lets the runtime look at its sockets once, and comes back before any other task does.
async fn one_look_at_the_sockets() {
    let mut looked = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut looked, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

async fn is_accepted(address: SocketAddr) {
    let mut client = TcpStream::connect(address).await.unwrap();
    let ended = tokio::time::timeout(SOON, client.read(&mut [0])).await;
    assert!(ended.expect("it is accepted").is_err(), "it is reset");
}

/// The worker sees that its socket has hung up, and comes to look only when it listens again: what it was told of the
/// socket stays so for good, and to believe it would be to look for connections without end, and without a pause in
/// which anyone else could run.
#[test]
fn a_port_that_closes_and_opens_in_a_moment_freezes_no_worker() {
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .event_interval(1)
            .build()
            .unwrap();
        runtime.block_on(async {
            let patience = Patience {
                keepalive: SOON,
                user: SOON,
            };
            // The second one: the first, whose port the kernel chose, would come back on another (bind(2)).
            let listening = Listening::bind("127.0.0.1:0".parse().unwrap(), 2, patience)
                .unwrap()
                .remove(1);
            listening.open().unwrap();
            let (shared, _writer) = shared();
            let (state, gate) = watch::channel(Gate::Open(1));
            let sessions = TaskTracker::new();
            tokio::spawn(accept(
                listening.clone(),
                "tcp".into(),
                shared.clone(),
                gate,
                sessions,
            ));
            is_accepted(listening.address()).await;
            for opening in 2..10 {
                listening.close().unwrap();
                one_look_at_the_sockets().await;
                state.send_replace(Gate::Closed);
                listening.open().unwrap();
                state.send_replace(Gate::Open(opening));
                is_accepted(listening.address()).await;
            }
            done.send(()).unwrap();
        });
    });
    assert_eq!(ended.recv_timeout(SOON * 2), Ok(()), "the worker is frozen");
}
