//! Clients and servers that exchange raw bytes, and assertions about received bytes and ends of connections.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::balancer::Balancer;
use super::hello_builder::{HelloBuilder, records};
use super::{at, eventually, own_address, peers};

/// The name that the balancers of these tests serve.
pub(crate) const SERVED: &str = "served.test";

/// The end of a connection as seen from one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Closed,
    Reset,
    /// It did not end within [`PATIENCE`].
    Open,
}

/// The bytes that a client received, and the end of its connection.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) bytes: Vec<u8>,
    pub(crate) how: How,
}

/// The response that a rejected client must receive.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    /// A fatal alert in one record of this version, and an orderly close.
    Alert([u8; 2], u8),
    /// An HTTP response with this status, and an orderly close.
    Status(u16),
    /// An orderly close without any bytes.
    Nothing,
    /// A reset.
    Reset,
}

/// Versions of records.
pub(crate) const TLS1_2: [u8; 2] = [3, 3];
pub(crate) const TLS1_0: [u8; 2] = [3, 1];

impl Heard {
    /// Asserts that exactly this response was received.
    #[track_caller]
    pub(crate) fn must_be(&self, answer: Answer, what: &str) {
        let (bytes, how) = match answer {
            Answer::Alert([major, minor], code) => {
                (vec![21, major, minor, 0, 2, 2, code], How::Closed)
            }
            Answer::Status(status) => {
                let text = String::from_utf8_lossy(&self.bytes);
                assert!(
                    text.starts_with(&format!("HTTP/1.1 {status} ")),
                    "{what}: {text}"
                );
                let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
                assert!(
                    head.contains(&format!("Content-Length: {}", body.len())),
                    "{what}: {text}"
                );
                (self.bytes.clone(), How::Closed)
            }
            Answer::Nothing => (vec![], How::Closed),
            Answer::Reset => (vec![], How::Reset),
        };
        assert_eq!((&self.bytes, self.how), (&bytes, how), "{what}");
    }
}

/// A backend that echoes all bytes until its client has closed, with one thread for each connection.
pub(crate) fn echo() -> SocketAddr {
    let listener = TcpListener::bind(at(own_address(), 7)).expect("an address of its own");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || echo_one(&stream));
        }
    });
    address
}

fn echo_one(mut stream: &TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
}

/// A closed port: an address on which nothing listens.
pub(crate) fn unused_address() -> SocketAddr {
    at(own_address(), 9)
}

pub(crate) fn connect(to: SocketAddr) -> TcpStream {
    peers::connect(to).expect("the listener accepts")
}

/// Reads to the end of the connection.
pub(crate) fn hear(mut stream: &TcpStream) -> Heard {
    let mut bytes = Vec::new();
    let how = match stream.read_to_end(&mut bytes) {
        Ok(_) => How::Closed,
        Err(error) if is_reset(&error) => How::Reset,
        Err(_) => How::Open,
    };
    Heard { bytes, how }
}

/// Sends the bytes and reads to the end of the connection; a reset while sending counts as a reset.
pub(crate) fn say_and_hear(mut stream: &TcpStream, bytes: &[u8]) -> Heard {
    let sent = stream.write_all(bytes);
    let received = hear(stream);
    match sent {
        Err(error) if is_reset(&error) => Heard {
            how: How::Reset,
            ..received
        },
        _ => received,
    }
}

pub(crate) fn is_reset(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// A hello for [`SERVED`].
pub(crate) fn served_hello() -> Vec<u8> {
    HelloBuilder::named(SERVED).build()
}

/// A hello of 70,000 bytes, in full.
pub(crate) fn oversized_hello() -> Vec<u8> {
    let mut message = HelloBuilder::named(SERVED).message();
    message.resize(70_000 + 4, 0);
    message[1..4].copy_from_slice(&70_000_u32.to_be_bytes()[1..]);
    records(&message, 0x0301, &[16_384])
}

/// Sends bytes to an echo backend and waits until they return.
pub(crate) fn echoed(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes)?;
    let mut echo = vec![0; bytes.len()];
    stream.read_exact(&mut echo)?;
    if echo == bytes {
        Ok(())
    } else {
        Err(io::Error::other("the echo differs"))
    }
}

/// An open connection through a `tls` listener to an echo backend.
pub(crate) fn served(to: SocketAddr) -> TcpStream {
    let stream = connect(to);
    echoed(&stream, &served_hello()).expect("the hello is echoed");
    stream
}

/// A complete connection through a `tls` listener to an echo backend, from connect to close.
pub(crate) fn exchange(to: SocketAddr) -> io::Result<()> {
    let mut stream = peers::connect(to)?;
    echoed(&stream, &served_hello())?;
    echoed(&stream, &[7; 3_000])?;
    stream.shutdown(Shutdown::Write)?;
    match stream.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::other(
            "expected the end of the stream, got bytes",
        )),
    }
}

/// A well-behaved client beside the bad ones, which connects repeatedly.
pub(crate) struct Neighbour {
    stop: Arc<AtomicBool>,
    /// `None` once it is joined.
    thread: Option<JoinHandle<(usize, Duration, Option<String>)>>,
}

/// Stops the client also if the test fails: its connections would use up the ports of other tests.
impl Drop for Neighbour {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Neighbour {
    pub(crate) fn start(to: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut times, mut longest) = (0, Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) {
                let begun = Instant::now();
                if let Err(error) = exchange(to) {
                    return (times, longest, Some(error.to_string()));
                }
                times += 1;
                longest = longest.max(begun.elapsed());
            }
            (times, longest, None)
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// Asserts that every exchange succeeded in time; returns their number.
    pub(crate) fn noticed_nothing(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it is joined only once");
        let (times, longest, error) = thread.join().expect("it does not panic");
        assert_eq!(error, None, "after {times} exchanges");
        assert!(
            times > 0 && longest < Duration::from_secs(10),
            "{times} exchanges, {longest:?}"
        );
        times
    }
}

/// The access line of the only connection from this source address. The address must be unique to the connection, and
/// the port is no key: the kernel gives concurrent connections from one address to different ports the same source port.
pub(crate) fn line_of(balancer: &Balancer, source: IpAddr) -> serde_json::Value {
    let from_source = |line: &serde_json::Value| {
        let client = line["client"].as_str().and_then(|text| text.parse().ok());
        client.is_some_and(|client: SocketAddr| client.ip() == source)
    };
    eventually(&format!("the access line of {source}"), || {
        balancer.access().into_iter().find(from_source)
    })
}

/// Waits until a metric has this sum.
pub(crate) fn counted(balancer: &Balancer, name: &str, labels: &[&str], wanted: f64) {
    let what = format!("{name} {labels:?} is {wanted}");
    eventually(&what, || {
        (balancer.metric(name, labels) == wanted).then_some(())
    });
}

/// Waits until no connection is active.
pub(crate) fn all_ended(balancer: &Balancer) {
    counted(balancer, "lyncpin_connections_active", &[], 0.0);
}

/// Waits until the backend of this pool has this health.
pub(crate) fn is_health(balancer: &Balancer, pool: &str, health: &str) {
    eventually(&format!("{pool} is {health}"), || {
        let status = balancer.status();
        let pools = status["pools"].as_array()?.clone();
        let found = pools.into_iter().find(|known| known["name"] == pool)?;
        (found["backends"][0]["health"] == health).then_some(())
    });
}

/// Clock ticks of processor time that the process has used.
pub(crate) fn ticks(balancer: &Balancer) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", balancer.pid()))
        .expect("the process lives");
    // The name may contain any character; the state and then numbers follow it (proc_pid_stat(5)).
    let fields: Vec<&str> = stat[stat.rfind(')').expect("a name") + 2..]
        .split(' ')
        .collect();
    let number = |place: usize| fields[place].parse::<u64>().expect("a number");
    number(11) + number(12)
}

/// One connection to the admin listener for several requests, usable even without descriptors for another connection.
pub(crate) struct AdminLine(TcpStream);

impl AdminLine {
    pub(crate) fn open(balancer: &Balancer) -> Self {
        Self(connect(balancer.at(9900)))
    }

    /// Sets the state of a backend and waits for the response. Reconnects if the listener closes the connection.
    pub(crate) fn set_state(&mut self, pool: &str, backend: &str, state: &str) {
        let body = format!("{{\"state\":\"{state}\"}}");
        let request = format!(
            "PUT /api/v1/pools/{pool}/backends/{backend}/state HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer test-token\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.0.peer_addr().expect("connected"),
            body.len()
        );
        let at = self.0.peer_addr().expect("connected");
        self.0
            .write_all(request.as_bytes())
            .expect("the request is sent");
        let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            let read = self.0.read(&mut buffer).expect("a response");
            assert_ne!(read, 0, "the admin listener closed the connection");
            received.extend_from_slice(&buffer[..read]);
            let text = String::from_utf8_lossy(&received).to_ascii_lowercase();
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let len = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .expect("a length");
            if body.len() >= len.parse().expect("a number") {
                assert!(head.starts_with("http/1.1 200"), "{text}");
                if head.contains("connection: close") {
                    self.0 = connect(at);
                }
                return;
            }
        }
    }
}
