//! The shortest way through: one HTTP exchange.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::support::balancer::Balancer;

#[test]
fn one_exchange_goes_through_and_is_logged_and_counted() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in server.incoming().flatten() {
            let mut stream = stream;
            let mut buffer = [0; 1024];
            if matches!(stream.read(&mut buffer), Ok(1..)) {
                let _ = stream.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
                );
            }
        }
    });
    let balancer = Balancer::start(&format!(
        "listeners: {{ http: {{ bind: [\"HOST:80\"], protocol: http, routes: [{{ names: [contoso.com], pool: web }}] }} }}\n\
         pools: {{ web: {{ backends: [\"127.0.0.1:{port}\"] }} }}"
    ))
    .ready();
    let mut client = TcpStream::connect(balancer.at(80)).unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: contoso.com\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("ok"), "{answer}");
    drop(client);
    let line = balancer.ended("backend_closed");
    assert_eq!(
        (line["name"].as_str(), line["pool"].as_str()),
        (Some("contoso.com"), Some("web"))
    );
    assert_eq!(
        balancer.metric("lyncpin_connections_total", &["outcome=\"backend_closed\""]),
        1.0
    );
}
