//! A running balancer with crowded admin listeners responds in time.

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

/// The documented limit is one second; the rest allows for a busy machine.
const SOON: Duration = Duration::from_secs(5);
/// Most responses take milliseconds.
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

/// The status of a response, and how long it took.
fn ask(at: SocketAddr, path: &str) -> (u16, Duration) {
    let begun = Instant::now();
    let response = || {
        let mut stream = TcpStream::connect_timeout(&at, SOON).ok()?;
        stream.set_read_timeout(Some(SOON)).ok()?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n"
        )
        .ok()?;
        let mut response = String::new();
        stream.read_to_string(&mut response).ok()?;
        response.get(9..12)?.parse().ok()
    };
    (response().unwrap_or(0), begun.elapsed())
}

/// Every request gets a response in time, and most of them in the usual time.
fn responds_in_time(at: SocketAddr, crowd: &str) {
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

/// Clients that reconnect after each disconnect, send `first` and do not read.
fn reconnect(at: SocketAddr, first: &[u8], done: &AtomicBool, own: usize) {
    let mut held: Vec<Option<TcpStream>> = (0..own).map(|_| None).collect();
    while !done.load(Ordering::Relaxed) {
        for slot in &mut held {
            let gone = slot.as_ref().is_none_or(|stream: &TcpStream| {
                let _ = stream.set_nonblocking(true);
                match (&*stream).read(&mut [0; 1]) {
                    Ok(read) => read == 0,
                    Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
                }
            });
            if gone {
                *slot = TcpStream::connect_timeout(&at, Duration::from_millis(200)).ok();
                if let Some(stream) = slot {
                    let _ = stream.write_all(first);
                }
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn idle_slow_and_not_reading_clients_keep_no_other_client_out() {
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
        ("not reading", pipelined.as_str()),
    ] {
        for port in [9900, 9901] {
            let at = balancer.at(port);
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| reconnect(at, first.as_bytes(), &done, 250));
                }
                let outcome = std::panic::catch_unwind(|| {
                    std::thread::sleep(Duration::from_millis(300));
                    responds_in_time(at, crowd);
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
fn idle_clients_cost_no_cpu_time() {
    raise_descriptors();
    let balancer = start();
    let _held: Vec<TcpStream> = (0..1_000)
        .filter_map(|_| TcpStream::connect(balancer.at(9900)).ok())
        .collect();
    responds_in_time(balancer.at(9900), "a thousand idle");
    let before = ticks(&balancer);
    std::thread::sleep(Duration::from_secs(1));
    assert!(ticks(&balancer) - before < 30);
}

#[test]
fn a_crowded_unix_socket_still_responds() {
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
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        assert!(begun.elapsed() < SOON);
    }
    drop(balancer);
}

#[test]
fn a_stop_does_not_wait_for_clients_of_the_admin_listener() {
    let mut balancer = start();
    let at = balancer.at(9900);
    let mut silent = TcpStream::connect(at).unwrap();
    let mut not_reading = TcpStream::connect(at).unwrap();
    silent.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(400);
    not_reading.set_nonblocking(true).unwrap();
    eventually("the client has sent more requests than fit", || {
        not_reading.write(request.as_bytes()).err()
    });
    balancer.signal(Signal::TERM);
    let ordered = Instant::now();
    assert_eq!(balancer.wait().code(), Some(0));
    assert!(ordered.elapsed() < SOON, "{:?}", ordered.elapsed());
}

/// Requests arrive faster than they can be handled.
#[test]
fn clients_that_pipeline_and_do_not_read_do_not_delay_probes() {
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
            responds_in_time(at, "pipelining");
        });
        done.store(true, Ordering::Relaxed);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn many_slow_readers_of_the_metrics_do_not_delay_probes() {
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
fn a_connection_gets_a_limited_number_of_responses() {
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
