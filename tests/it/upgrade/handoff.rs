//! The new process of an upgrade, with the test in place of the old process.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lyncpin::handoff::{Channel, HandoffMessage, PREDECESSOR, VERSION};
use lyncpin::persistence::OpenedStore;
use rustix::process::Signal;

use crate::support::balancer::Balancer;
use crate::support::peers::{Backend, ask, connect_from, entries};
use crate::support::{PATIENCE, at, eventually, own_address};

const TCP: u16 = 5000;

/// The side of the old process, up to the commit.
struct Old {
    channel: Channel,
    _sockets: Vec<TcpListener>,
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

impl Old {
    /// Starts a new process that receives everything; `file` is its configuration.
    fn hand_over(command: &mut Command) -> (Self, std::thread::JoinHandle<()>) {
        let (ours, theirs) = Channel::pair().unwrap();
        command
            .env(PREDECESSOR, std::process::id().to_string())
            .stdin(Stdio::from(theirs.into_descriptor()));
        let old = Self {
            channel: ours,
            _sockets: Vec::new(),
        };
        let channel = old.channel.try_clone().unwrap();
        let telling = std::thread::spawn(move || {
            let send = |message: HandoffMessage| channel.send_message(&message, soon()).unwrap();
            send(HandoffMessage::Hello {
                version: VERSION,
                program: "0.1.0".into(),
            });
            send(HandoffMessage::Secret([7; 32]));
            send(HandoffMessage::Described);
            send(HandoffMessage::Complete);
            let ready = channel.receive_message(soon()).unwrap();
            assert!(matches!(ready, HandoffMessage::Ready(_)), "{ready:?}");
            send(HandoffMessage::Commit);
            assert_eq!(
                channel.receive_message(soon()).unwrap(),
                HandoffMessage::Serving
            );
        });
        (old, telling)
    }

    fn farewell(&self) {
        self.channel
            .send_message(&HandoffMessage::Farewell, soon())
            .unwrap();
    }
}

fn yaml(backends: &[Backend], store: &str) -> String {
    format!(
        "listeners:\n\
         \x20 tcp: {{ bind: [\"HOST:{TCP}\"], protocol: tcp, pool: web }}\n\
         affinity_store: {store}\n\
         pools:\n  web: {{ {}, health: none, affinity: {{ by: [source] }} }}",
        entries(backends)
    )
}

fn in_file(path: &Path) -> String {
    format!("{{ file: \"{}\" }}", path.display())
}

/// A new process, its predecessor that still holds the store, and that store.
fn taken_over(backends: &[Backend], file: &Path) -> (Balancer, Old, OpenedStore) {
    let held = OpenedStore::open(file).unwrap();
    let mut parts = None;
    let balancer = Balancer::start_with(&yaml(backends, &in_file(file)), |command| {
        parts = Some(Old::hand_over(command));
    });
    let (old, telling) = parts.unwrap();
    telling.join().unwrap();
    (balancer.ready(), old, held)
}

/// Files that a process has open below a directory.
fn open_below(balancer: &Balancer, directory: &Path) -> Vec<PathBuf> {
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", balancer.pid())).unwrap();
    descriptors
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter(|target| target.starts_with(directory))
        .collect()
}

fn expect_log(balancer: &Balancer, message: &str) {
    eventually(message, || {
        let log = balancer.log();
        log.iter()
            .any(|line| line["message"] == message)
            .then_some(())
    });
}

fn pin_one(balancer: &Balancer) -> String {
    let source = own_address();
    let client = connect_from(source, balancer.at(TCP)).unwrap();
    ask(&client, b"?").unwrap();
    source.to_string()
}

fn entries_of(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    entries.map(|entry| entry.path()).collect()
}

#[test]
fn a_store_named_by_a_reload_during_the_handoff_is_written() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (before, after) = (one.path().join("pins"), two.path().join("pins"));
    let backends = Backend::several(2);
    let (balancer, old, held) = taken_over(&backends, &before);
    balancer.reloaded(&yaml(&backends, &in_file(&after)));
    drop(held);
    old.farewell();
    // The same task responds to a later request, so the reload is complete.
    balancer.reloaded(&yaml(&backends, &in_file(&after)));
    let mut balancer = balancer;
    let source = pin_one(&balancer);
    assert!(open_below(&balancer, one.path()).is_empty());
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait().code(), Some(0));
    // The next process reads the pins that this one wrote.
    let again = Balancer::start(&yaml(&backends, &in_file(&after)));
    let pins = again.get("/api/v1/affinity").body;
    assert_ne!(source, "");
    let page: serde_json::Value = serde_json::from_str(&pins).unwrap();
    // Pins are stored by address, and the address of the balancer has changed.
    assert_eq!(page["entries"].as_array().unwrap().len(), 1, "{pins}");
}

#[test]
fn without_a_store_nothing_is_written_to_disk() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pins");
    let backends = Backend::several(2);
    let (balancer, old, held) = taken_over(&backends, &file);
    balancer.reloaded(&yaml(&backends, "memory"));
    drop(held);
    for path in entries_of(directory.path()) {
        std::fs::remove_file(path).unwrap();
    }
    old.farewell();
    balancer.reloaded(&yaml(&backends, "memory"));
    pin_one(&balancer);
    let mut balancer = balancer;
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait().code(), Some(0));
    assert_eq!(entries_of(directory.path()), Vec::<PathBuf>::new());
}

#[test]
fn a_reload_back_to_the_store_of_the_old_process_opens_it_once_it_is_released() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (before, between) = (one.path().join("pins"), two.path().join("pins"));
    let backends = Backend::several(2);
    let (balancer, old, held) = taken_over(&backends, &before);
    balancer.reloaded(&yaml(&backends, &in_file(&between)));
    balancer.reloaded(&yaml(&backends, &in_file(&before)));
    assert!(open_below(&balancer, two.path()).is_empty());
    drop(held);
    old.farewell();
    eventually("the new process has the store", || {
        (!open_below(&balancer, one.path()).is_empty()).then_some(())
    });
    assert!(OpenedStore::open(&before).is_err());
}

#[test]
fn an_old_process_that_exits_without_a_message_has_released_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pins");
    let backends = Backend::several(1);
    let (balancer, old, held) = taken_over(&backends, &file);
    drop((held, old));
    eventually("the new process has the store", || {
        (!open_below(&balancer, directory.path()).is_empty()).then_some(())
    });
    expect_log(&balancer, "the old process has exited");
}

/// An old process that has cancelled the upgrade continues to serve and kills its successor. Until then only one may serve.
#[test]
fn a_new_process_does_not_take_over_from_an_old_one_that_hangs() {
    let address = own_address();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("balancer.yaml");
    let yaml = format!(
        "listeners: {{ tcp: {{ bind: [\"{}\"], protocol: tcp, pool: web }} }}\n\
         pools: {{ web: {{ backends: [\"127.0.0.1:1\"], health: none }} }}\n\
         admin: {{ bind: \"{}\" }}\n",
        at(address, TCP),
        at(address, 9900),
    );
    std::fs::write(&file, yaml).unwrap();
    let socket = TcpListener::bind(at(address, TCP)).unwrap();
    socket.set_nonblocking(true).unwrap();
    // The connections in the accept queue belong to the old process.
    let mut waits = std::net::TcpStream::connect(at(address, TCP)).unwrap();
    waits.write_all(b"?").unwrap();
    for last in [
        HandoffMessage::Secret([7; 32]),
        HandoffMessage::Described,
        HandoffMessage::Complete,
    ] {
        let (ours, theirs) = Channel::pair().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_lyncpin"))
            .args(["run", "-c"])
            .arg(&file)
            .env(PREDECESSOR, std::process::id().to_string())
            .stdin(Stdio::from(theirs.into_descriptor()))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let hello = HandoffMessage::Hello {
            version: VERSION,
            program: "0.1.0".into(),
        };
        let ports = [(
            at(address, TCP),
            socket.as_fd().try_clone_to_owned().unwrap(),
        )];
        ours.send_message(&hello, soon()).unwrap();
        ours.send_message(&HandoffMessage::Secret([7; 32]), soon())
            .unwrap();
        if !matches!(last, HandoffMessage::Secret(_)) {
            ours.send_descriptors(&ports, HandoffMessage::Ports, soon())
                .unwrap();
            ours.send_message(&HandoffMessage::Described, soon())
                .unwrap();
        }
        if matches!(last, HandoffMessage::Complete) {
            ours.send_message(&HandoffMessage::Complete, soon())
                .unwrap();
            let ready = ours.receive_message(soon()).unwrap();
            assert!(matches!(ready, HandoffMessage::Ready(_)), "{ready:?}");
        }
        drop(ours);
        let begun = Instant::now();
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{last:?}: {err}");
        assert!(
            err.contains("the other process has closed the channel"),
            "{last:?}: {err}"
        );
        assert!(begun.elapsed() < PATIENCE + Duration::from_secs(1));
    }
    let (mut taken, _) = socket.accept().unwrap();
    taken.set_nonblocking(false).unwrap();
    let mut received = [0];
    taken.read_exact(&mut received).unwrap();
    assert_eq!(received, *b"?");
}

#[test]
fn a_new_process_that_is_stopped_before_the_commit_reports_it_and_exits() {
    let address = own_address();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("balancer.yaml");
    let yaml = format!(
        "listeners: {{ tcp: {{ bind: [\"{}\"], protocol: tcp, pool: web }} }}\n\
         pools: {{ web: {{ backends: [\"127.0.0.1:1\"], health: none }} }}\n\
         admin: {{ bind: \"{}\" }}\n",
        at(address, TCP),
        at(address, 9900),
    );
    std::fs::write(&file, yaml).unwrap();
    let (ours, theirs) = Channel::pair().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_lyncpin"))
        .args(["run", "-c"])
        .arg(&file)
        .env(PREDECESSOR, std::process::id().to_string())
        .stdin(Stdio::from(theirs.into_descriptor()))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let hello = HandoffMessage::Hello {
        version: VERSION,
        program: "0.1.0".into(),
    };
    for message in [
        hello,
        HandoffMessage::Secret([7; 32]),
        HandoffMessage::Described,
        HandoffMessage::Complete,
    ] {
        ours.send_message(&message, soon()).unwrap();
    }
    let ready = ours.receive_message(soon()).unwrap();
    assert!(matches!(ready, HandoffMessage::Ready(_)), "{ready:?}");
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let last = ours.receive_message(soon()).unwrap();
    assert_eq!(
        last,
        HandoffMessage::Failed("the new process was stopped".into())
    );
    let status = eventually("it ends", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}
