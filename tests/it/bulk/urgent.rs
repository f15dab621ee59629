//! Urgent bytes in streams are forwarded as ordinary bytes in both directions and delay nothing.

use std::net::TcpStream;
use std::thread::scope;
use std::time::Duration;

use rustix::net::{SendFlags, send};

use super::start;
use crate::support::eventually;
use crate::support::pattern::{Pattern, Sum, read_sum};
use crate::support::peers::{close_write, pair};

/// Sends the stream in pieces, the last byte of each marked as urgent.
fn write_urgently(mut to: &TcpStream, pattern: Pattern, piece: usize) {
    let written = pattern.each(piece, |piece| {
        let (last, others) = piece.split_last().unwrap();
        std::io::Write::write_all(&mut to, others)?;
        // A blocking socket accepts the one byte or fails.
        assert_eq!(send(to, &[*last], SendFlags::OOB)?, 1);
        Ok(())
    });
    written.unwrap();
    close_write(to);
}

/// Transfers the stream to a reader that starts after `pause`.
fn transfer(
    from: &TcpStream,
    to: &TcpStream,
    pattern: Pattern,
    piece: usize,
    pause: Duration,
) -> Sum {
    scope(|threads| {
        threads.spawn(|| write_urgently(from, pattern, piece));
        std::thread::sleep(pause);
        read_sum(to, 1 << 20).unwrap()
    })
}

#[test]
fn urgent_bytes_in_streams_arrive_in_order_in_both_directions_and_delay_nothing() {
    const LENGTH: u64 = 8 << 20;
    let (server, balancer) = start();
    let mut sent = 0;
    for piece in [1 << 20, 300_000, 65_536, 16_384, 5_000] {
        for pause in [Duration::ZERO, Duration::from_millis(300)] {
            let (client, backend) = pair(balancer.at(5000), &server, b"?");
            let pattern = Pattern {
                seed: piece as u64,
                length: LENGTH,
            };
            let up = transfer(&client, &backend, pattern, piece, pause);
            assert_eq!(up, pattern.sum(), "up, in pieces of {piece}");
            let down = transfer(&backend, &client, pattern, piece, pause);
            assert_eq!(down, pattern.sum(), "down, in pieces of {piece}");
            sent += LENGTH;
        }
    }
    eventually("all connections have ended", || {
        (balancer.access().len() == 10).then_some(())
    });
    let outcomes = balancer.access();
    assert!(
        outcomes
            .iter()
            .all(|line| line["outcome"] == "client_closed")
    );
    let (all, _) = super::counted(&balancer, "to_client");
    assert_eq!(all, sent);
    // Between the urgent bytes the stream is spliced.
    let (client, backend) = pair(balancer.at(5000), &server, b"?");
    let (_, before) = super::counted(&balancer, "to_client");
    let pattern = Pattern {
        seed: 99,
        length: 64 << 20,
    };
    assert_eq!(
        transfer(&backend, &client, pattern, 8 << 20, Duration::ZERO),
        pattern.sum()
    );
    let (_, after) = super::counted(&balancer, "to_client");
    assert!(after - before > 32 << 20, "{} spliced", after - before);
}

/// The urgent bytes may arrive before the balancer reads the socket.
#[test]
fn no_byte_is_lost_if_the_first_bytes_of_a_side_are_urgent() {
    let (server, balancer) = start();
    for urgent in [&b"!?"[..], b"!", b"!?!?!?"] {
        let expected = [urgent, &[7; 100]].concat();
        for _ in 0..20 {
            let (client, backend) = pair(balancer.at(5000), &server, b"?");
            for (from, to) in [(&backend, &client), (&client, &backend)] {
                for byte in urgent {
                    assert_eq!(send(from, &[*byte], SendFlags::OOB).unwrap(), 1);
                }
                std::io::Write::write_all(&mut &*from, &[7; 100]).unwrap();
                close_write(from);
                let mut received = Vec::new();
                std::io::Read::read_to_end(&mut &*to, &mut received).unwrap();
                assert_eq!(received, expected);
            }
        }
    }
}
