//! Limits: connections, sources, networks and descriptors.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::balancer::Balancer;
use crate::support::peers::{connect_from, raise_descriptors};
use crate::support::raw::{
    AdminLine, Answer, SERVED, all_ended, connect, counted, echo, echoed, exchange, hear,
    say_and_hear, served, served_hello, ticks,
};
use crate::support::{eventually, own_address};

const TLS: u16 = 443;

/// A balancer with one `tls` listener and an echo backend; `listener` are keys of the listener, `global` top-level keys.
fn start(listener: &str, global: &str) -> Balancer {
    start_with(listener, global, |_| {})
}

fn start_with(listener: &str, global: &str, prepare: impl FnOnce(&mut Command)) -> Balancer {
    let yaml = format!(
        r#"
listeners:
  tls: {{ bind: ["HOST:{TLS}"], protocol: tls, routes: [{{ names: [{SERVED}], pool: web }}]{listener} }}
pools: {{ web: {{ backends: [{{ name: fe01, address: "{}" }}] }} }}
{global}
"#,
        echo()
    );
    Balancer::start_with(&yaml, prepare).ready()
}

/// A served connection from this source.
fn served_from(source: IpAddr, to: SocketAddr) -> TcpStream {
    let stream = connect_from(source, to).unwrap();
    echoed(&stream, &served_hello()).unwrap();
    stream
}

/// Asserts that a connection from this source is reset before a byte arrives.
fn assert_reset_from(source: IpAddr, to: SocketAddr) {
    match connect_from(source, to) {
        Ok(stream) => {
            say_and_hear(&stream, &served_hello()).must_be(Answer::Reset, "from the source");
        }
        // The reset may arrive before connect(2) returns.
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

fn assert_outcomes(balancer: &Balancer, outcome: &str, expected: u32) {
    let label = format!("outcome=\"{outcome}\"");
    counted(
        balancer,
        "lyncpin_connections_total",
        &[&label],
        expected.into(),
    );
    let lines = || {
        balancer
            .access()
            .iter()
            .filter(|line| line["outcome"] == outcome)
            .count()
    };
    eventually("an access line for each of them", || {
        (lines() == expected as usize).then_some(())
    });
}

#[test]
fn connections_above_the_limit_are_reset_until_one_ends() {
    let balancer = start("", "limits: { connections: 3 }");
    let to = balancer.at(TLS);
    let source = own_address();
    let mut held: Vec<TcpStream> = (0..3).map(|_| served(to)).collect();
    for _ in 0..5 {
        assert_reset_from(source, to);
    }
    assert_outcomes(&balancer, "limit_connections", 5);
    for stream in &held {
        echoed(stream, b"not disturbed").unwrap();
    }
    held.pop();
    eventually("a new connection is accepted", || exchange(to).ok());
    drop(held);
    all_ended(&balancer);
}

#[test]
fn one_source_cannot_exceed_its_limit() {
    let balancer = start("", "limits: { per_source: 2 }");
    let to = balancer.at(TLS);
    let (greedy, modest) = (own_address(), own_address());
    let mut held = vec![served_from(greedy, to), served_from(greedy, to)];
    assert_reset_from(greedy, to);
    assert_reset_from(greedy, to);
    assert_outcomes(&balancer, "limit_per_source", 2);
    held.push(served_from(modest, to));
    drop(held.remove(0));
    eventually("the source may connect again", || {
        let stream = connect_from(greedy, to).ok()?;
        echoed(&stream, &served_hello()).ok()
    });
    drop(held);
    all_ended(&balancer);
}

#[test]
fn a_source_that_connects_too_fast_is_reset_and_others_are_not() {
    let balancer = start("", "limits: { new_per_source_per_second: 5 }");
    let to = balancer.at(TLS);
    let (hasty, other) = (own_address(), own_address());
    let mut held: Vec<TcpStream> = Vec::new();
    let mut rejected = 0;
    // Faster than five a second on any machine: some must be rejected, and at most five may pass at once.
    for _ in 0..40 {
        let Ok(stream) = connect_from(hasty, to) else {
            rejected += 1;
            continue;
        };
        match echoed(&stream, &served_hello()) {
            Ok(()) => held.push(stream),
            Err(_) => rejected += 1,
        }
    }
    assert!(
        rejected > 0 && held.len() >= 5,
        "{rejected} rejected, {} served",
        held.len()
    );
    assert_outcomes(&balancer, "limit_rate", rejected);
    drop(served_from(other, to));
    eventually("the source may connect again", || {
        let stream = connect_from(hasty, to).ok()?;
        echoed(&stream, &served_hello()).ok()
    });
    drop(held);
    all_ended(&balancer);
}

/// A network of this many bits around an address.
fn network(address: IpAddr, bits: u8) -> String {
    format!("{address}/{bits}")
}

#[test]
fn deny_wins_over_allow_and_both_accept_networks() {
    let (allowed, denied, stranger) = (own_address(), own_address(), IpAddr::from([127, 1, 2, 3]));
    let [first, second, ..] = match allowed {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(_) => unreachable!("own addresses are of 127/8"),
    };
    let balancer = start(
        &format!(
            ", allow: [\"{first}.{second}.0.0/16\"], deny: [\"{}\"]",
            network(denied, 32)
        ),
        "",
    );
    let to = balancer.at(TLS);
    drop(served_from(allowed, to));
    assert_reset_from(denied, to);
    assert_reset_from(stranger, to);
    assert_outcomes(&balancer, "denied", 2);
    all_ended(&balancer);
}

/// Runs the balancer with a hard limit of `count` descriptors.
fn with_descriptors(count: u32) -> impl FnOnce(&mut Command) {
    move |command| {
        let mut limited = Command::new("prlimit");
        limited
            .arg(format!("--nofile={count}:{count}"))
            .arg(command.get_program())
            .args(command.get_args())
            .stderr(Stdio::piped())
            .stdout(Stdio::null());
        *command = limited;
    }
}

fn logs_accept_error(balancer: &Balancer) {
    eventually("the accept error is logged", || {
        balancer
            .log()
            .iter()
            .find(|line| {
                line["message"]
                    .as_str()
                    .is_some_and(|text| text.starts_with("cannot accept"))
            })
            .cloned()
    });
}

#[test]
fn without_free_descriptors_it_uses_no_cpu_keeps_its_clients_and_recovers() {
    raise_descriptors();
    let balancer = start_with(
        "",
        "limits: { connections: 1000 }\ntimeouts: { client_hello: 60s }\nworkers: 1",
        with_descriptors(90),
    );
    let to = balancer.at(TLS);
    let old = served(to);
    let crowd: Vec<TcpStream> = (0..200).map(|_| connect(to)).collect();
    logs_accept_error(&balancer);
    let before = ticks(&balancer);
    // It must use almost no CPU during this time.
    std::thread::sleep(Duration::from_secs(2));
    let spent = ticks(&balancer) - before;
    assert!(spent < 40, "{spent} ticks in two seconds");
    for _ in 0..50 {
        echoed(&old, &[1; 20_000]).unwrap();
    }
    drop(crowd);
    eventually("new clients are served", || exchange(to).ok());
    echoed(&old, b"the old one, too").unwrap();
    let errors = balancer.metric(
        "lyncpin_accept_errors_total",
        &["reason=\"descriptors_of_process\""],
    );
    assert!((1.0..100.0).contains(&errors), "{errors}");
    drop(old);
    all_ended(&balancer);
    let warned = |line: &serde_json::Value| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.contains("exceeds what the descriptor limit allows"))
    };
    assert!(balancer.log().iter().any(warned));
}

/// The fields of the warnings with this text.
fn warnings(balancer: &Balancer, text: &str) -> Vec<serde_json::Value> {
    let has_text = |line: &serde_json::Value| {
        let message = line["message"].as_str().unwrap_or_default();
        line["level"] == "warn" && message.contains(text)
    };
    balancer.log().into_iter().filter(has_text).collect()
}

#[test]
fn few_descriptors_are_used_for_connections_before_pipes_and_the_number_is_logged() {
    const FEW: &str = "allows few connections";
    raise_descriptors();
    for (descriptors, least) in [(64, 8), (128, 20), (300, 60), (500, 130)] {
        let balancer = start_with("", "workers: 2", with_descriptors(descriptors));
        let warning = eventually("the warning is logged", || warnings(&balancer, FEW).pop());
        let number = |line: &serde_json::Value, field: &str| {
            let text = line[field].to_string();
            text.trim_matches('"').parse::<usize>().unwrap()
        };
        assert_eq!(number(&warning, "descriptors"), descriptors as usize);
        let allowed = number(&warning, "allowed");
        assert!(allowed >= least, "{allowed} with {descriptors} descriptors");
        let to = balancer.at(TLS);
        let mut held: Vec<TcpStream> = (0..allowed).map(|_| served(to)).collect();
        assert_reset_from(own_address(), to);
        // Streams and the admin listener work with or without pipes.
        for stream in &held {
            echoed(stream, &[1; 60_000]).unwrap();
        }
        assert_eq!(balancer.get("/api/v1/status").status, 200);
        held.pop();
        eventually("a new connection is accepted", || exchange(to).ok());
        let failed = balancer.metric("lyncpin_accept_errors_total", &[]);
        assert_eq!(failed, 0.0, "with {descriptors} descriptors");
        drop(held);
        all_ended(&balancer);
    }
}

#[test]
fn a_reload_redistributes_the_descriptors_and_logs_how_many_connections_they_allow() {
    raise_descriptors();
    let echo = echo();
    let yaml = |limits: &str| {
        format!(
            r#"
listeners: {{ tls: {{ bind: ["HOST:{TLS}"], protocol: tls, routes: [{{ names: [{SERVED}], pool: web }}] }} }}
pools: {{ web: {{ backends: [{{ name: fe01, address: "{echo}" }}] }} }}
limits: {{ {limits} }}
workers: 2
"#
        )
    };
    let balancer = Balancer::start_with(&yaml("connections: 5"), with_descriptors(300)).ready();
    assert!(warnings(&balancer, "descriptors").is_empty());
    balancer.reloaded(&yaml("connections: auto"));
    let assert_logged = |text: &str| {
        eventually("the warning is logged", || {
            let warnings = warnings(&balancer, text);
            (warnings.len() == 1).then_some(())
        });
    };
    assert_logged("allows few connections");
    balancer.reloaded(&yaml("connections: 80"));
    assert_logged("few pipes");
    let to = balancer.at(TLS);
    let held: Vec<TcpStream> = (0..80).map(|_| served(to)).collect();
    for stream in &held {
        echoed(stream, &[1; 60_000]).unwrap();
    }
    assert_reset_from(own_address(), to);
    drop(held);
    all_ended(&balancer);
    balancer.reloaded(&yaml("connections: 1000"));
    assert_logged("exceeds what the descriptor limit allows");
}

#[test]
fn administration_and_reload_work_with_all_descriptors_used_by_clients() {
    raise_descriptors();
    for count in [90, 300] {
        let global = "limits: { connections: 1000 }\ntimeouts: { client_hello: 60s }\nworkers: 2";
        let balancer = start_with("", global, with_descriptors(count));
        let to = balancer.at(TLS);
        let _old = served(to);
        let _crowd: Vec<TcpStream> = (0..400).map(|_| connect(to)).collect();
        logs_accept_error(&balancer);
        let file = std::fs::read_to_string(balancer.file()).unwrap();
        for round in 0..5 {
            for path in ["/healthz", "/readyz", "/metrics", "/api/v1/status"] {
                assert_eq!(balancer.get(path).status, 200, "{count} {path}");
            }
            balancer.write_raw(
                &file
                    .replace("443\"", &format!("443\", \"HOST:{}\"", 1000 + round))
                    .replace("HOST", &balancer.address.to_string()),
            );
            let output = balancer.said(&["reload"]);
            assert_eq!(output.status, 0, "{count} {output:?}");
            let output = balancer.said(&["drain", "web/fe01", "--force"]);
            assert_eq!(output.status, 0, "{count} {output:?}");
            assert_eq!(balancer.said(&["ready", "web/fe01"]).status, 0);
            // Idle connections use up the reserve for administration too.
            let _idle: Vec<TcpStream> = (0..70).map(|_| connect(balancer.at(9900))).collect();
            assert_eq!(balancer.get("/readyz").status, 200, "{count}");
        }
    }
}

#[test]
fn a_port_that_opens_without_descriptors_is_served_once_there_are_some() {
    raise_descriptors();
    let yaml = format!(
        r#"
listeners:
  tls: {{ bind: ["HOST:{TLS}"], protocol: tls, routes: [{{ names: [{SERVED}], pool: web }}] }}
  other: {{ bind: ["HOST:444"], protocol: tls, routes: [{{ names: [{SERVED}], pool: other }}] }}
pools:
  web: {{ backends: [{{ name: fe01, address: "{}" }}] }}
  other: {{ backends: [{{ name: fe01, address: "{}" }}] }}
limits: {{ connections: 1000 }}
timeouts: {{ client_hello: 60s }}
workers: 2
"#,
        echo(),
        echo()
    );
    let balancer = Balancer::start_with(&yaml, with_descriptors(100)).ready();
    let to = balancer.at(TLS);
    let mut admin = AdminLine::open(&balancer);
    admin.set_state("web", "fe01", "maintain");
    eventually("the port refuses", || TcpStream::connect(to).err());
    let crowd: Vec<TcpStream> = (0..200).map(|_| connect(balancer.at(444))).collect();
    logs_accept_error(&balancer);
    admin.set_state("web", "fe01", "ready");
    eventually("the port listens", || TcpStream::connect(to).ok());
    drop(crowd);
    // Connections from the kernel's queue have used and released a descriptor too.
    let crowd = "listener=\"other\"";
    counted(&balancer, "lyncpin_connections_total", &[crowd], 200.0);
    all_ended(&balancer);
    // The kernel distributes these connections over both workers.
    for _ in 0..40 {
        exchange(to).unwrap();
    }
    all_ended(&balancer);
}

#[test]
fn every_way_of_ending_a_connection_releases_the_limits() {
    let balancer = start(
        "",
        "limits: { connections: 4 }\ntimeouts: { client_hello: 300ms }",
    );
    let to = balancer.at(TLS);
    for round in 0..6 {
        let streams: Vec<TcpStream> = (0..4).map(|_| connect(to)).collect();
        for (number, stream) in streams.into_iter().enumerate() {
            match number {
                0 => crate::support::peers::reset(stream),
                1 => drop(hear(&stream)),
                2 => drop(say_and_hear(&stream, b"garbage")),
                _ => drop(stream),
            }
        }
        all_ended(&balancer);
        // A rejected client counts until its socket is closed.
        eventually(
            &format!("all four are served again after round {round}"),
            || {
                let held: Vec<TcpStream> = (0..4)
                    .map_while(|_| {
                        let stream = TcpStream::connect(to).ok()?;
                        echoed(&stream, &served_hello()).ok()?;
                        Some(stream)
                    })
                    .collect();
                (held.len() == 4).then_some(())
            },
        );
        all_ended(&balancer);
    }
}

/// Clients use all descriptors, and idle connections fill both admin listeners.
#[test]
fn the_admin_listeners_respond_quickly_under_load_without_free_descriptors() {
    raise_descriptors();
    for count in [64, 128, 300] {
        let global = "admin: { bind: \"HOST:9900\", metrics_bind: \"HOST:9901\" }\n\
             limits: { connections: 5000 }\ntimeouts: { client_hello: 60s }\nworkers: 2";
        let balancer = start_with("", global, with_descriptors(count));
        let _clients: Vec<TcpStream> = (0..600).map(|_| connect(balancer.at(TLS))).collect();
        logs_accept_error(&balancer);
        let mut idle: Vec<TcpStream> = Vec::new();
        let mut times = Vec::new();
        for round in 0..20 {
            for port in [9900, 9901] {
                let at = balancer.at(port);
                let connections = if round == 0 { 100 } else { 5 };
                idle.extend((0..connections).filter_map(|_| TcpStream::connect(at).ok()));
                let path = ["/healthz", "/readyz", "/metrics"][round % 3];
                let begun = Instant::now();
                let response = http_get(at, path);
                times.push(begun.elapsed());
                assert!(
                    response.starts_with("HTTP/1.1 200"),
                    "{count} descriptors, {path} after {:?}: {response}",
                    begun.elapsed()
                );
            }
        }
        times.sort();
        // One second, plus a margin for a busy machine.
        assert!(
            times[times.len() / 2] < Duration::from_secs(1),
            "{count}: {times:?}"
        );
        assert!(
            times[times.len() - 1] < Duration::from_secs(5),
            "{count}: {times:?}"
        );
    }
}

fn http_get(at: std::net::SocketAddr, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut response = String::new();
    let mut send = || {
        let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n"
        )?;
        stream.read_to_string(&mut response)
    };
    match send() {
        Ok(_) => response,
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_start_with_too_few_descriptors_fails_with_a_message() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("balancer.yaml");
    let yaml = "pools: { web: { backends: [\"192.0.2.1:80\"], health: none } }\n\
         listeners: { web: { bind: [\"127.0.0.1:1\"], protocol: tcp, pool: web } }\n\
         admin: { bind: \"127.0.0.1:2\" }\nworkers: 8\n";
    std::fs::write(&file, yaml).unwrap();
    for count in [16, 20, 24, 32] {
        // With enough descriptors it runs until the timeout.
        let mut command = Command::new("timeout");
        command.args(["5", env!("CARGO_BIN_EXE_lyncpin"), "run", "-c"]);
        command.arg(&file);
        with_descriptors(count)(&mut command);
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            count > 24 || stderr.contains("too many open files"),
            "{count}: {stderr}"
        );
        if stderr.contains("too many open files") {
            assert!(
                stderr.contains("ulimit -n") && stderr.contains("workers"),
                "{count}: {stderr}"
            );
        }
        assert!(!stderr.contains("uncategorized"), "{count}: {stderr}");
    }
}
