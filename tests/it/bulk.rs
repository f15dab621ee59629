//! Long streams arrive complete over listeners of every protocol, and their bytes are counted.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::thread::scope;
use std::time::Duration;

use socket2::SockRef;

mod pipes;
mod refused;
mod urgent;

use crate::support::balancer::Balancer;
use crate::support::hello_builder::HelloBuilder;
use crate::support::pattern::{Pattern, Sum, read_sum};
use crate::support::peers::{close_write, pair, request};
use crate::support::{PATIENCE, eventually, own_address};

const GIBIBYTE: u64 = 1 << 30;
/// Size of one read or write where it does not matter.
const LARGE: usize = 1 << 20;
const NAME: &str = "bulk.contoso.test";

/// The listening socket of a backend, from which the test accepts, and a balancer with a listener of each protocol.
fn start() -> (TcpListener, Balancer) {
    start_with(|_| {})
}

fn start_with(prepare: impl FnOnce(&mut Command)) -> (TcpListener, Balancer) {
    let server = TcpListener::bind((own_address(), 7000)).unwrap();
    let yaml = format!(
        "listeners:\n\
         \x20 tls: {{ bind: [\"HOST:443\"], protocol: tls, routes: [{{ names: [{NAME}], pool: bulk }}] }}\n\
         \x20 http: {{ bind: [\"HOST:80\"], protocol: http, routes: [{{ names: [{NAME}], pool: bulk }}] }}\n\
         \x20 tcp: {{ bind: [\"HOST:5000\"], protocol: tcp, pool: bulk }}\n\
         pools:\n  bulk: {{ backends: [{{ name: one, address: \"{}\" }}], health: none }}\n\
         workers: 2",
        server.local_addr().unwrap()
    );
    (server, Balancer::start_with(&yaml, prepare))
}

/// Bytes counted for one direction: in total and spliced.
fn counted(balancer: &Balancer, direction: &str) -> (u64, u64) {
    let direction = format!("direction=\"{direction}\"");
    let bytes = |labels: &[&str]| balancer.metric("lyncpin_bytes_total", labels);
    let all = bytes(&["pool=\"bulk\"", "backend=\"one\"", &direction]);
    let spliced = bytes(&[&direction, "path=\"spliced\""]);
    // Exact below 2^53.
    #[allow(clippy::cast_possible_truncation, reason = "counts of bytes")]
    (all as u64, spliced as u64)
}

fn assert_spliced(balancer: &Balancer, direction: &str, length: u64) {
    let (all, spliced) = counted(balancer, direction);
    assert_eq!(all, length, "{direction}");
    assert!(
        spliced > length / 10 * 9,
        "{direction}: {spliced} of {all} spliced"
    );
}

fn up() -> Pattern {
    Pattern {
        seed: 1,
        length: GIBIBYTE,
    }
}

fn down() -> Pattern {
    Pattern {
        seed: 2,
        length: GIBIBYTE,
    }
}

#[test]
fn a_gibibyte_in_each_direction_at_once_arrives_complete_and_is_counted() {
    let (server, balancer) = start();
    let hello = HelloBuilder::named(NAME).build();
    let (client, backend) = pair(balancer.at(443), &server, &hello);
    scope(|threads| {
        for (stream, pattern) in [(&client, up()), (&backend, down())] {
            threads.spawn(move || {
                pattern.write(stream, LARGE).unwrap();
                close_write(stream);
            });
        }
        let at_client = threads.spawn(|| read_sum(&client, LARGE).unwrap());
        let at_backend = threads.spawn(|| read_sum(&backend, LARGE).unwrap());
        assert_eq!(at_client.join().unwrap(), down().sum());
        assert_eq!(at_backend.join().unwrap(), up().sum());
    });
    let line = eventually("the connection ends", || balancer.access().pop());
    assert_eq!(line["phase"], "relay");
    assert_eq!(line["bytes_to_backend"], GIBIBYTE + hello.len() as u64);
    assert_eq!(line["bytes_to_client"], GIBIBYTE);
    assert_spliced(&balancer, "to_backend", GIBIBYTE + hello.len() as u64);
    assert_spliced(&balancer, "to_client", GIBIBYTE);
}

#[test]
fn a_gibibyte_reaches_a_client_that_has_half_closed() {
    let (server, balancer) = start();
    let first = request(NAME);
    let (client, backend) = pair(balancer.at(80), &server, &first);
    close_write(&client);
    assert_eq!((&backend).read(&mut [0]).unwrap(), 0);
    receive_after_close(&client, &backend, down());
    assert_eq!(balancer.ended("client_closed")["bytes_to_client"], GIBIBYTE);
    assert_spliced(&balancer, "to_client", GIBIBYTE);
}

#[test]
fn a_gibibyte_reaches_a_server_that_has_half_closed() {
    let (server, balancer) = start();
    let (client, backend) = pair(balancer.at(5000), &server, b"?");
    close_write(&backend);
    assert_eq!((&client).read(&mut [0]).unwrap(), 0);
    receive_after_close(&backend, &client, up());
    assert_eq!(
        balancer.ended("backend_closed")["bytes_to_backend"],
        GIBIBYTE + 1
    );
    assert_spliced(&balancer, "to_backend", GIBIBYTE + 1);
}

/// `from` sends everything and closes; `to` has already half-closed.
fn receive_after_close(to: &TcpStream, from: &TcpStream, pattern: Pattern) {
    scope(|threads| {
        threads.spawn(|| {
            pattern.write(from, LARGE).unwrap();
            close_write(from);
        });
        assert_eq!(read_sum(to, LARGE).unwrap(), pattern.sum());
    });
}

#[test]
fn pieces_of_odd_sizes_arrive_complete() {
    const LENGTH: u64 = 1_500_007;
    // Around the sizes of segments, messages, pipes and buffers.
    let sizes = [
        173, 1447, 16_383, 16_384, 16_385, 65_535, 65_537, 262_143, 262_145,
    ];
    let (server, balancer) = start();
    let mut sent = 0;
    for (number, &write) in (1..).zip(&sizes) {
        for (column, &read) in sizes.iter().enumerate() {
            let (client, backend) = pair(balancer.at(5000), &server, b"?");
            let seed = number * 100 + column as u64;
            let pattern = Pattern {
                seed,
                length: LENGTH,
            };
            let received = upload(&client, &backend, pattern, write, read);
            assert_eq!(received, pattern.sum(), "{write} written, {read} read");
            sent += LENGTH + 1;
        }
    }
    eventually("all connections have ended", || {
        (balancer.access().len() == sizes.len() * sizes.len()).then_some(())
    });
    assert_eq!(counted(&balancer, "to_backend").0, sent);
}

fn upload(from: &TcpStream, to: &TcpStream, pattern: Pattern, write: usize, read: usize) -> Sum {
    scope(|threads| {
        threads.spawn(move || {
            pattern.write(from, write).unwrap();
            close_write(from);
        });
        read_sum(to, read).unwrap()
    })
}

#[test]
fn a_slow_reader_receives_everything_without_memory_growth() {
    const LENGTH: u64 = 64 << 20;
    let (server, balancer) = start();
    let (client, backend) = pair(balancer.at(5000), &server, b"?");
    SockRef::from(&client)
        .set_recv_buffer_size(64 * 1024)
        .unwrap();
    let pattern = Pattern {
        seed: 3,
        length: LENGTH,
    };
    let before = balancer.resident_kib();
    scope(|threads| {
        threads.spawn(|| {
            pattern.write(&backend, LARGE).unwrap();
            close_write(&backend);
        });
        // No byte moves: every buffer on the path is full.
        let mut last = 0;
        eventually("the stream is stalled", || {
            std::thread::sleep(Duration::from_millis(100));
            let now = counted(&balancer, "to_client").0;
            (std::mem::replace(&mut last, now) == now && now > 0).then_some(())
        });
        let grown = balancer.resident_kib().saturating_sub(before);
        assert!(grown < 2048, "{grown} KiB");
        // Reads small pieces of odd sizes with pauses, to the end.
        let mut reader = SlowReader {
            from: &client,
            read: 0,
        };
        assert_eq!(read_sum(&mut reader, 70_001).unwrap(), pattern.sum());
    });
    drop(client);
    balancer.ended("backend_closed");
}

/// Pauses after every 16 MiB.
struct SlowReader<'a> {
    from: &'a TcpStream,
    read: usize,
}

impl Read for SlowReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.from.read(buffer)?;
        let before = self.read >> 24;
        self.read += read;
        if self.read >> 24 > before {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(read)
    }
}

#[test]
fn many_concurrent_streams_arrive_complete_at_the_right_end() {
    const STREAMS: u64 = 150;
    const LENGTH: u64 = 1 << 20;
    let (server, balancer) = start();
    let hello = HelloBuilder::named(NAME).build();
    let at = balancer.at(443);
    scope(|threads| {
        for number in 0..STREAMS {
            // The backend's stream depends on the client's number, so a mix-up is detected.
            let (up, down) = (stream(number), stream(number + STREAMS));
            let first = [&hello[..], &number.to_be_bytes()].concat();
            threads.spawn(move || {
                let client = crate::support::peers::connect(at).unwrap();
                (&client).write_all(&first).unwrap();
                both_ways(&client, up, down);
            });
            let (mut backend, _) = server.accept().unwrap();
            backend.set_read_timeout(Some(PATIENCE)).unwrap();
            let length = hello.len();
            threads.spawn(move || {
                let mut read = vec![0; length + 8];
                backend.read_exact(&mut read).unwrap();
                let number = u64::from_be_bytes(read[length..].try_into().unwrap());
                both_ways(&backend, stream(number + STREAMS), stream(number));
            });
        }
    });
    eventually("all connections have ended", || {
        (balancer.metric("lyncpin_connections_active", &[]) == 0.0).then_some(())
    });
    assert_eq!(counted(&balancer, "to_client").0, STREAMS * LENGTH);
    let uploaded = STREAMS * (LENGTH + hello.len() as u64 + 8);
    assert_eq!(counted(&balancer, "to_backend").0, uploaded);

    fn stream(seed: u64) -> Pattern {
        Pattern {
            seed: seed * 2 + 1,
            length: LENGTH,
        }
    }
}

/// Sends one stream and receives the other.
fn both_ways(stream: &TcpStream, send: Pattern, receive: Pattern) {
    scope(|threads| {
        threads.spawn(move || {
            send.write(stream, 60_001).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        assert_eq!(read_sum(stream, 50_021).unwrap(), receive.sum());
    });
}
