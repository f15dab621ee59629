//! The log as programs read it: types of fields, priorities for the journal, the caller of a change, and the reason of a
//! closed port.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::balancer::Balancer;
use crate::support::peers::{Backend, ask, connect, entries, request};
use crate::support::{eventually, own_address};

const HEALTH: &str = "health: { interval: 100ms, timeout: 100ms, rise: 1, fall: 1, damping: none }";

fn yaml(backends: &[Backend]) -> String {
    format!(
        "listeners: {{ http: {{ bind: [\"HOST:80\"], protocol: http, routes: [{{ names: [contoso.com], pool: web }}] }} }}\n\
         pools: {{ web: {{ {}, affinity: {{ by: [source] }}, {HEALTH} }} }}\n",
        entries(backends)
    )
}

/// The first event whose message contains this text.
fn event(balancer: &Balancer, message: &str) -> Value {
    eventually(message, || {
        balancer.log().into_iter().find(|line| {
            line["message"]
                .as_str()
                .is_some_and(|text| text.contains(message))
        })
    })
}

#[test]
fn a_field_has_one_json_type_in_all_lines() {
    let backends = Backend::several(2);
    let balancer = Balancer::start(&yaml(&backends)).ready();
    let client = connect(balancer.at(80)).unwrap();
    ask(&client, &request("contoso.com")).unwrap();
    drop(client);
    balancer.ended("client_closed");
    let client = connect(balancer.at(80)).unwrap();
    ask(&client, &request("contoso.com")).unwrap();
    for backend in &backends {
        backend.stop();
    }
    event(&balancer, "backend is down");
    event(&balancer, "closed: no pool behind it can serve");
    backends[0].start_again();
    event(&balancer, "backend is up");
    assert_eq!(
        balancer
            .said(&["drain", "a", "--deadline", "1s", "--force"])
            .status,
        0
    );
    event(&balancer, "drained");
    assert_eq!(balancer.said(&["maintain", "b", "--force"]).status, 0);
    assert_eq!(
        balancer
            .said(&["affinity", "pin", "--client", "192.0.2.7", "nowhere"])
            .status,
        1
    );
    balancer.write_raw("nonsense");
    assert_eq!(balancer.said(&["reload"]).status, 1);
    event(&balancer, "the reload is rejected");
    let mut types: BTreeMap<String, &str> = BTreeMap::new();
    for line in balancer.log() {
        for (name, value) in line.as_object().expect("every line is an object") {
            let kind = match value {
                Value::Null => continue,
                Value::Bool(_) => "true or false",
                Value::Number(_) => "number",
                Value::String(_) => "text",
                Value::Array(_) => "list",
                Value::Object(_) => "object",
            };
            let known = *types.entry(name.clone()).or_insert(kind);
            assert_eq!(known, kind, "{name} in {line}");
        }
    }
    assert_eq!(types["connections"], "number");
    assert_eq!(types["addresses"], "list");
    let down = event(&balancer, "backend is down");
    assert!(
        down["action"].is_string() && down["connections"].is_u64(),
        "{down}"
    );
}

#[test]
fn a_change_is_logged_with_its_caller() {
    let backends = Backend::several(2);
    let balancer = Balancer::start(&yaml(&backends)).ready();
    let is = |line: &Value, by: &str| {
        assert_eq!(line["by"], by, "{line}");
        let from = line["from"].as_str().unwrap();
        let from: std::net::SocketAddr = from.parse().expect("an address");
        assert!(from.ip().is_loopback(), "{line}");
    };
    let names: Vec<String> = balancer.status()["pools"][0]["backends"]
        .as_array()
        .unwrap()
        .iter()
        .map(|backend| backend["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(balancer.said(&["drain", &names[0]]).status, 0);
    is(&event(&balancer, "administrative state"), "command");
    assert_eq!(
        balancer
            .said(&["affinity", "pin", "--client", "192.0.2.7", &names[0]])
            .status,
        0
    );
    is(&event(&balancer, "pinned a client"), "command");
    let moved = balancer.said(&[
        "affinity",
        "move",
        "--client",
        "192.0.2.7",
        "--to",
        &names[1],
    ]);
    assert_eq!(moved.status, 0, "{}", moved.err);
    is(&event(&balancer, "moved pins"), "command");
    let cleared = balancer
        .ask("DELETE", "/api/v1/affinity?all=true", "")
        .unwrap();
    assert_eq!(cleared.status, 200, "{}", cleared.body);
    is(&event(&balancer, "cleared pins"), "api");
    balancer.reloaded(&yaml(&backends));
    is(&event(&balancer, "has been reloaded"), "api");
    balancer.write_raw("nonsense");
    assert_eq!(balancer.said(&["upgrade"]).status, 1);
    is(&event(&balancer, "an upgrade begins"), "command");
    is(&event(&balancer, "the upgrade has failed"), "command");
}

#[test]
fn over_a_unix_socket_the_caller_is_user_and_process() {
    let backends = Backend::several(1);
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin.sock");
    let file = directory.path().join("balancer.yaml");
    let address = own_address();
    let whole = format!(
        "{}admin: {{ bind: \"unix:{}\" }}\nlog: {{ format: json }}\n",
        yaml(&backends).replace("HOST", &address.to_string()),
        socket.display()
    );
    std::fs::write(&file, whole).unwrap();
    let mut running = Running(
        Command::new(env!("CARGO_BIN_EXE_lyncpin"))
            .args(["run", "-c"])
            .arg(&file)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut lines = BufReader::new(running.0.stderr.take().unwrap()).lines();
    eventually("the socket exists", || socket.exists().then_some(()));
    let mut reload = Command::new(env!("CARGO_BIN_EXE_lyncpin"))
        .args(["reload", "-c"])
        .arg(&file)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let (pid, uid) = (reload.id(), directory.path().metadata().unwrap().uid());
    assert!(reload.wait().unwrap().success());
    let line = lines
        .find_map(|line| {
            let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
            (line["message"] == "the configuration has been reloaded").then_some(line)
        })
        .expect("the reload is in the log");
    assert_eq!(line["by"], "command");
    assert_eq!(line["from"], format!("unix:uid={uid},pid={pid}"));
}

/// Killed when dropped.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs with a standard error that matches `JOURNAL_STREAM` or not, and returns the first lines.
fn journal(is_stream: bool, format: &str) -> Vec<String> {
    let backends = Backend::several(1);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("balancer.yaml");
    let address = own_address();
    let whole = format!(
        "{}admin: {{ bind: \"{address}:9900\", token_file: \"{}\" }}\nlog: {{ format: {format} }}\n",
        yaml(&backends).replace("HOST", &address.to_string()),
        directory.path().join("token").display()
    );
    std::fs::write(directory.path().join("token"), "test-token\n").unwrap();
    std::fs::write(&file, whole).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let stat = rustix::fs::fstat(&writer).unwrap();
    let other = u64::from(!is_stream);
    let running = Running(
        Command::new(env!("CARGO_BIN_EXE_lyncpin"))
            .args(["run", "-c"])
            .arg(&file)
            .env(
                "JOURNAL_STREAM",
                format!("{}:{}", stat.st_dev, stat.st_ino + other),
            )
            .stderr(writer)
            .spawn()
            .unwrap(),
    );
    let mut lines = BufReader::new(reader).lines().map_while(Result::ok);
    let is_before = |line: &String| !line.contains("open");
    let mut seen: Vec<String> = lines.by_ref().take_while(is_before).collect();
    backends[0].stop();
    let is_before = |line: &String| !line.contains("backend is down");
    seen.extend(lines.by_ref().take_while(is_before));
    seen.push(lines.next().unwrap());
    drop(running);
    seen
}

#[test]
fn only_the_journal_gets_priorities() {
    for format in ["text", "json"] {
        let begins = if format == "json" { "{" } else { "time=" };
        for line in journal(true, format) {
            let priority = ["<3>", "<4>", "<6>"];
            let rest = priority
                .iter()
                .find_map(|priority| line.strip_prefix(priority));
            assert!(rest.is_some_and(|rest| rest.starts_with(begins)), "{line}");
            let level = if line.contains("warn") { "<4>" } else { "<6>" };
            assert!(line.starts_with(level), "{line}");
        }
        for line in journal(false, format) {
            assert!(line.starts_with(begins), "{line}");
        }
    }
}

#[test]
fn an_error_before_the_log_starts_has_a_priority_too() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let stat = rustix::fs::fstat(&writer).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_lyncpin"))
        .args(["run", "-c", "/nonexistent/balancer.yaml"])
        .env("JOURNAL_STREAM", format!("{}:{}", stat.st_dev, stat.st_ino))
        .stderr(writer)
        .spawn()
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
    assert!(text.starts_with("<3>"), "{text}");
}

#[test]
fn a_closed_port_is_logged_at_the_start_and_after_a_reload() {
    let backends = Backend::several(1);
    let yaml = |pool: &str| {
        format!(
            "listeners:\n\
             \x20 dead: {{ bind: [\"HOST:81\"], protocol: http, unknown_name: dead }}\n\
             \x20 live: {{ bind: [\"HOST:80\"], protocol: http, unknown_name: live }}\n\
             pools:\n\
             \x20 dead: {{ backends: [\"{pool}:443\"], {HEALTH} }}\n\
             \x20 live: {{ {}, {HEALTH} }}\n",
            entries(&backends)
        )
    };
    let balancer = Balancer::start(&yaml("fe01.invalid")).ready();
    let closed = |count: usize, name: &str| {
        let lines = eventually("the closed port is logged", || {
            let lines = balancer.log().into_iter().filter(|line| {
                line["message"]
                    .as_str()
                    .is_some_and(|text| text.starts_with("closed"))
            });
            let lines: Vec<Value> = lines.collect();
            (lines.len() >= count).then_some(lines)
        });
        assert_eq!(lines.len(), count, "{lines:#?}");
        let line = &lines[count - 1];
        assert_eq!(line["listener"], "dead");
        let why = line["why"].as_str().unwrap();
        assert!(why.starts_with(&format!("dead/{name}")), "{why}");
        assert!(why.contains("resolve"), "{why}");
    };
    closed(1, "fe01.invalid");
    balancer.reloaded(&yaml("fe01.invalid"));
    closed(2, "fe01.invalid");
    balancer.reloaded(&yaml("fe02.invalid"));
    closed(3, "fe02.invalid");
}
