use std::time::Duration;

use socket2::SockRef;

use super::*;
use crate::net::socket::{PeerTimeouts, enable_keepalive};

fn bind() -> Vec<Arc<ListeningSocket>> {
    let sockets = ListeningSocket::bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
    sockets.iter().for_each(|socket| socket.open().unwrap());
    sockets
}

fn assert_in_use(address: SocketAddr) {
    let second = ListeningSocket::bind(address, 2);
    assert_eq!(
        second.map(drop).map_err(|error| error.kind()),
        Err(io::ErrorKind::AddrInUse)
    );
}

#[test]
fn a_second_instance_cannot_bind_a_port_that_is_open_closed_or_not_yet_opened() {
    let sockets = ListeningSocket::bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
    assert_in_use(sockets[0].address());
    for _ in 0..2 {
        for socket in &sockets {
            socket.open().unwrap();
        }
        assert_in_use(sockets[0].address());
        for socket in &sockets {
            socket.close().unwrap();
        }
        assert_in_use(sockets[0].address());
    }
}

#[test]
fn a_closed_port_refuses_connections_and_can_be_reopened() {
    let sockets = bind();
    let address = sockets[0].address();
    for _ in 0..3 {
        for socket in &sockets {
            socket.close().unwrap();
        }
        let refused = std::net::TcpStream::connect(address)
            .map(drop)
            .map_err(|error| error.kind());
        assert_eq!(refused, Err(io::ErrorKind::ConnectionRefused));
        for socket in &sockets {
            socket.open().unwrap();
        }
        for _ in 0..8 {
            std::net::TcpStream::connect(address).unwrap();
        }
    }
}

/// Leaves a connection in TIME_WAIT on this side, which is the one that closes first.
fn close_first(address: SocketAddr, accept: impl Fn() -> std::net::TcpStream) {
    let client = std::net::TcpStream::connect(address).unwrap();
    drop(accept());
    drop(client);
}

#[test]
fn a_port_with_connections_in_time_wait_can_be_bound_at_once() {
    let sockets = bind();
    let address = sockets[0].address();
    close_first(address, || {
        let accepted = sockets.iter().find_map(|socket| socket.accept().ok());
        accepted.unwrap().0.into()
    });
    drop(sockets);
    assert!(ListeningSocket::bind(address, 2).is_ok());

    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    close_first(address, || other.accept().unwrap().0);
    drop(other);
    let sockets = ListeningSocket::bind(address, 2).unwrap();
    for socket in &sockets {
        socket.open().unwrap();
    }
    assert_in_use(address);
}

#[test]
fn an_accepted_socket_has_nodelay_oobinline_and_the_configured_keepalive() {
    let sockets = bind();
    let _client = std::net::TcpStream::connect(sockets[0].address()).unwrap();
    let accepted = sockets
        .iter()
        .find_map(|socket| socket.accept().ok())
        .unwrap()
        .0;
    let timeouts = PeerTimeouts {
        keepalive: Duration::from_secs(45),
        user: Duration::from_millis(61_500),
    };
    enable_keepalive(&accepted, timeouts);
    let accepted = SockRef::from(&accepted);
    assert!(accepted.tcp_nodelay().unwrap() && accepted.keepalive().unwrap());
    assert!(accepted.out_of_band_inline().unwrap());
    assert_eq!(accepted.tcp_user_timeout().unwrap(), None);
    assert_eq!(accepted.tcp_keepalive_time().unwrap(), timeouts.keepalive);
    let interval = accepted.tcp_keepalive_interval().unwrap();
    let count = accepted.tcp_keepalive_retries().unwrap();
    assert_eq!((interval, count), (Duration::from_secs(5), 4));
}

#[test]
fn an_address_that_the_machine_does_not_have_can_be_bound() {
    assert!(ListeningSocket::bind("192.0.2.1:0".parse().unwrap(), 1).is_ok());
}
