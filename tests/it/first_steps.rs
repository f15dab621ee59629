//! The simplest cases: one exchange over IPv4, over IPv6, and as an unprivileged user.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::support::balancer::Balancer;

/// A server that responds to each connection's first bytes with `ok`; it ends when dropped.
fn server(at: &str) -> (TcpListener, SocketAddr) {
    let server = TcpListener::bind(at).unwrap();
    let address = server.local_addr().unwrap();
    let accepting = server.try_clone().unwrap();
    std::thread::spawn(move || {
        for mut stream in accepting.incoming().map_while(Result::ok) {
            let mut buffer = [0; 1024];
            if matches!(stream.read(&mut buffer), Ok(1..)) {
                let head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
                let _ = stream.write_all(head);
            }
        }
    });
    (server, address)
}

fn configuration(bind: &str, backend: SocketAddr) -> String {
    format!(
        "listeners: {{ http: {{ bind: [\"{bind}\"], protocol: http, \
         routes: [{{ names: [contoso.com], pool: web }}] }} }}\n\
         pools: {{ web: {{ backends: [{{ name: fe01, address: \"{backend}\" }}], \
         health: {{ interval: 100ms, timeout: 100ms, rise: 1, fall: 1 }} }} }}"
    )
}

fn exchange(at: SocketAddr) -> std::io::Result<String> {
    let mut client = TcpStream::connect(at)?;
    client.write_all(b"GET / HTTP/1.1\r\nHost: contoso.com\r\n\r\n")?;
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn one_exchange_is_relayed_logged_and_counted() {
    let (_server, backend) = server("127.0.0.1:0");
    let balancer = Balancer::start(&configuration("HOST:80", backend)).ready();
    let answer = exchange(balancer.at(80)).unwrap();
    assert!(answer.ends_with("ok"), "{answer}");
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

#[test]
fn an_ipv6_listener_is_ipv6_only_and_reaches_an_ipv6_backend() {
    let (_server, backend) = server("[::1]:0");
    let port = TcpListener::bind("[::1]:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let balancer = Balancer::start(&configuration(&format!("[::]:{port}"), backend)).ready();
    let answer = exchange(format!("[::1]:{port}").parse().unwrap()).unwrap();
    assert!(answer.ends_with("ok"), "{answer}");
    let refused = exchange(format!("127.0.0.1:{port}").parse().unwrap());
    assert_eq!(
        refused.map_err(|error| error.kind()),
        Err(std::io::ErrorKind::ConnectionRefused)
    );
    let line = balancer.ended("backend_closed");
    assert!(
        line["client"].as_str().unwrap().starts_with("[::1]:"),
        "{line}"
    );
}

/// Runs in its own network namespace, where port 80 needs no privilege at first but needs it later.
const WITHOUT_PRIVILEGE: &str = r#"
set -eu
cd "$1"
ip link set lo up
echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start
backend() { python3 -m http.server --bind 127.0.0.1 --directory . 8000 >backend.log 2>&1 & backend=$!; }
request() { curl -s -o body -m 5 -w '%{http_code} %{exitcode}' http://127.0.0.1/ || true; }
until_it_returns() {
    for _ in $(seq 300); do
        case "$(request)" in $1) return ;; esac
        sleep 0.1
    done
    echo "never returned $1: $(request)"; cat log; exit 1
}
trap 'kill $backend $balancer 2>/dev/null || true' EXIT
backend
setpriv --bounding-set=-all "$2" run -c balancer.yaml 2>log & balancer=$!
until_it_returns '200 0'
echo 1024 > /proc/sys/net/ipv4/ip_unprivileged_port_start
grep -q '^CapEff:\s*0*$' /proc/$balancer/status || { echo 'the balancer has privilege'; exit 1; }
if setpriv --bounding-set=-all "$2" run -c other.yaml 2>refusal; then echo 'port 81 was bound'; exit 1; fi
grep 'CAP_NET_BIND_SERVICE' refusal
for _ in 1 2; do
    kill $backend; wait $backend || true
    until_it_returns '000 7'
    until_it_returns '000 7'
    backend
    until_it_returns '200 0'
done
"#;

#[test]
fn a_port_below_1024_closes_and_reopens_without_privilege() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bind: &str, admin: u16| {
        let listener = format!("{{ bind: [\"127.0.0.1:{bind}\"], protocol: tcp, pool: web }}");
        let health = "{ interval: 100ms, timeout: 100ms, rise: 1, fall: 1 }";
        let pool = format!("{{ backends: [\"127.0.0.1:8000\"], health: {health} }}");
        let text = format!(
            "listeners: {{ web: {listener} }}\npools: {{ web: {pool} }}\nadmin: {{ bind: \"127.0.0.1:{admin}\" }}\n"
        );
        std::fs::write(directory.path().join(name), text).unwrap();
    };
    write("balancer.yaml", "80", 9900);
    write("other.yaml", "81", 9901);
    // A user other than root also needs a user namespace.
    let user = if rustix::process::geteuid().is_root() {
        "-n"
    } else {
        "-rn"
    };
    let output = std::process::Command::new("unshare")
        .args([user, "bash", "-c", WITHOUT_PRIVILEGE, "bash"])
        .args([
            directory.path().as_os_str(),
            env!("CARGO_BIN_EXE_lyncpin").as_ref(),
        ])
        .output()
        .expect("unshare is there (Debian package util-linux)");
    let printed = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{printed:#?}");
}
