//! A running balancer whose admin listeners are crowded: it answers, and soon.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::balancer::Balancer;
use crate::support::eventually;
use crate::support::peers::raise_descriptors;
use crate::support::raw::{echo, ticks};

/// The contract's second, and what a busy machine adds to it.
const SOON: Duration = Duration::from_secs(5);
/// Without any patience of the listener for those who ask nothing, most are answered in milliseconds.
const USUAL: Duration = Duration::from_secs(1);

fn start() -> Balancer {
    let yaml = format!(
        "listeners: {{ web: {{ bind: [\"HOST:80\"], protocol: tcp, pool: web }} }}\n\
         pools: {{ web: {{ backends: [{{ name: fe01, address: \"{}\" }}] }} }}\n\
         admin: {{ bind: \"HOST:9900\", metrics_bind: \"HOST:9901\" }}\n",
        echo()
    );
    Balancer::start(&yaml).ready()
}

/// The status of an answer, and how long it took.
fn ask(at: SocketAddr, path: &str) -> (u16, Duration) {
    let begun = Instant::now();
    let answer = || {
        let mut stream = TcpStream::connect_timeout(&at, SOON).ok()?;
        stream.set_read_timeout(Some(SOON)).ok()?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n"
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.get(9..12)?.parse().ok()
    };
    (answer().unwrap_or(0), begun.elapsed())
}

/// Every question is answered soon, and most of them as soon as usual.
fn answers(at: SocketAddr, crowd: &str) {
    let mut took = Vec::new();
    for _ in 0..5 {
        for path in ["/readyz", "/healthz", "/metrics"] {
            let (status, time) = ask(at, path);
            assert_eq!(status, 200, "{crowd}: {path} after {time:?}");
            took.push(time);
        }
    }
    took.sort();
    assert!(took[took.len() / 2] < USUAL, "{crowd}: {took:?}");
}

/// A client that comes back as soon as it is sent away, with `first` to say and no ear.
fn come_back(at: SocketAddr, first: &[u8], done: &AtomicBool, own: usize) {
    let mut held: Vec<Option<TcpStream>> = (0..own).map(|_| None).collect();
    while !done.load(Ordering::Relaxed) {
        for place in &mut held {
            let gone = place.as_ref().is_none_or(|stream: &TcpStream| {
                let _ = stream.set_nonblocking(true);
                match (&*stream).read(&mut [0; 1]) {
                    Ok(read) => read == 0,
                    Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
                }
            });
            if gone {
                *place = TcpStream::connect_timeout(&at, Duration::from_millis(200)).ok();
                if let Some(stream) = place {
                    let _ = stream.write_all(first);
                }
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn idle_slow_and_deaf_clients_that_stay_or_come_back_keep_nobody_out() {
    raise_descriptors();
    let balancer = start();
    let pipelined = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(200);
    for (crowd, first) in [
        ("silent", ""),
        ("in a head", "GET /readyz HTTP/1.1\r\nX: "),
        (
            "answered",
            "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ),
        ("deaf", pipelined.as_str()),
    ] {
        for port in [9900, 9901] {
            let at = balancer.at(port);
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| come_back(at, first.as_bytes(), &done, 250));
                }
                let outcome = std::panic::catch_unwind(|| {
                    std::thread::sleep(Duration::from_millis(300));
                    answers(at, crowd);
                });
                done.store(true, Ordering::Relaxed);
                if let Err(panic) = outcome {
                    std::panic::resume_unwind(panic);
                }
            });
        }
    }
}

#[test]
fn idle_clients_that_stay_cost_nothing() {
    raise_descriptors();
    let balancer = start();
    let _held: Vec<TcpStream> = (0..1_000)
        .filter_map(|_| TcpStream::connect(balancer.at(9900)).ok())
        .collect();
    answers(balancer.at(9900), "a thousand that stay");
    let before = ticks(&balancer);
    std::thread::sleep(Duration::from_secs(1));
    assert!(ticks(&balancer) - before < 30);
}

#[test]
fn a_unix_socket_is_crowded_in_vain_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let yaml = format!(
        "listeners: {{ web: {{ bind: [\"HOST:80\"], protocol: tcp, pool: web }} }}\n\
         pools: {{ web: {{ backends: [{{ name: fe01, address: \"{}\" }}] }} }}\n\
         admin: {{ bind: \"unix:{}\", metrics_bind: \"HOST:9900\" }}\n",
        echo(),
        path.display()
    );
    let balancer = Balancer::start(&yaml).ready();
    let _held: Vec<UnixStream> = (0..200)
        .map(|_| UnixStream::connect(&path).unwrap())
        .collect();
    for _ in 0..5 {
        let begun = Instant::now();
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(begun.elapsed() < SOON);
    }
    drop(balancer);
}

#[test]
fn a_stop_waits_for_no_client_of_the_admin_listener() {
    let mut balancer = start();
    let at = balancer.at(9900);
    let mut silent = TcpStream::connect(at).unwrap();
    let mut deaf = TcpStream::connect(at).unwrap();
    silent.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(400);
    deaf.set_nonblocking(true).unwrap();
    eventually("it has asked for more than it takes", || {
        deaf.write(request.as_bytes()).err()
    });
    balancer.signal(Signal::TERM);
    let told = Instant::now();
    assert_eq!(balancer.wait().code(), Some(0));
    assert!(told.elapsed() < SOON, "{:?}", told.elapsed());
}

/// Those who ask without an end and read nothing come faster than they can be answered.
#[test]
fn clients_that_pipeline_and_read_nothing_hold_up_no_probe_however_many_come() {
    raise_descriptors();
    let balancer = start();
    let pipelined = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2_000);
    let at = balancer.at(9900);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut held = std::collections::VecDeque::new();
            while !done.load(Ordering::Relaxed) {
                if let Ok(stream) = TcpStream::connect_timeout(&at, SOON) {
                    let _ = stream.set_nonblocking(true);
                    let _ = (&stream).write(pipelined.as_bytes());
                    held.push_back(stream);
                }
                if held.len() > 1_000 {
                    held.pop_front();
                }
                std::thread::sleep(Duration::from_millis(8));
            }
        });
        let outcome = std::panic::catch_unwind(|| {
            std::thread::sleep(Duration::from_secs(2));
            answers(at, "pipelining");
        });
        done.store(true, Ordering::Relaxed);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn many_who_want_the_metrics_at_once_and_read_slowly_hold_up_no_probe() {
    raise_descriptors();
    let balancer = start();
    let at = balancer.at(9900);
    let mut took = Vec::new();
    for _ in 0..5 {
        let _held: Vec<TcpStream> = (0..200)
            .map(|_| {
                let mut stream = TcpStream::connect(at).unwrap();
                write!(stream, "GET /metrics HTTP/1.1\r\nHost: {at}\r\n\r\n").unwrap();
                stream
            })
            .collect();
        let (status, time) = ask(at, "/healthz");
        assert_eq!(status, 200, "{time:?}");
        took.push(time);
    }
    took.sort();
    assert!(took[2] < USUAL, "{took:?}");
}

#[test]
fn a_connection_gets_a_bounded_number_of_answers() {
    let balancer = start();
    let mut stream = TcpStream::connect(balancer.at(9900)).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut all = String::new();
    for _ in 0..100 {
        write!(stream, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        while !all.ends_with("ok\n") {
            let mut some = [0; 4096];
            let read = stream.read(&mut some).unwrap();
            assert_ne!(read, 0);
            all += std::str::from_utf8(&some[..read]).unwrap();
        }
        all.push('.');
    }
    assert_eq!(all.matches("connection: close").count(), 1);
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
}
