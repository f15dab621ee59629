//! Reloads: who can request one, and which settings and sockets it changes or keeps.

mod kept;
mod load;
mod settings;
mod sockets;
mod stalled;
mod watch;

use std::process::Command;

use rustix::process::Signal;

use crate::support::balancer::Balancer;
use crate::support::eventually;
use crate::support::peers::{Backend, ask, connect, request};
use crate::support::raw::counted;

/// The port of the listener of every configuration here.
const WEB: u16 = 80;

/// One listener with one name, routed to `pool`; each backend has a pool of its own name.
fn routed(pool: &str, backends: &[Backend]) -> String {
    let pools: Vec<String> = backends
        .iter()
        .map(|backend| {
            format!(
                "  {}: {{ backends: [{}] }}\n",
                backend.name,
                backend.entry()
            )
        })
        .collect();
    format!(
        "listeners:\n  web: {{ bind: [\"HOST:{WEB}\"], protocol: http, routes: [{{ names: [www.test], pool: {pool} }}] }}\n\
         pools:\n{}",
        pools.concat()
    )
}

/// The name of the server that a new client of `www.test` gets.
fn server(balancer: &Balancer) -> String {
    let stream = connect(balancer.at(WEB)).unwrap();
    ask(&stream, &request("www.test")).unwrap()
}

fn routes_to(balancer: &Balancer, wanted: &str) {
    eventually(&format!("new clients go to {wanted}"), || {
        (server(balancer) == wanted).then_some(())
    });
}

fn reloads(balancer: &Balancer, result: &str) -> f64 {
    let result = format!("result=\"{result}\"");
    balancer.metric("lyncpin_config_reloads_total", &[&result])
}

#[test]
fn a_signal_the_command_and_the_api_reload_the_routes() {
    let backends = Backend::several(3);
    let balancer = Balancer::start(&routed("a", &backends)).ready();
    assert_eq!(server(&balancer), "a");
    let first = balancer.metric("lyncpin_config_last_reload_timestamp_seconds", &[]);

    balancer.reloaded(&routed("b", &backends));
    assert_eq!(server(&balancer), "b");
    let second = balancer.metric("lyncpin_config_last_reload_timestamp_seconds", &[]);
    assert!(second > first, "{first} {second}");

    balancer.write(&routed("c", &backends));
    let output = balancer.command(&["reload"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(
        text.starts_with("the configuration has been reloaded\n"),
        "{text}"
    );
    assert!(text.contains("listener \"web\" has changed"), "{text}");
    assert_eq!(server(&balancer), "c");

    balancer.write(&routed("a", &backends));
    balancer.signal(Signal::HUP);
    routes_to(&balancer, "a");
    counted(
        &balancer,
        "lyncpin_config_reloads_total",
        &["result=\"accepted\""],
        3.0,
    );
    assert_eq!(reloads(&balancer, "rejected"), 0.0);
}

/// Two errors, in the lines of the pools.
fn invalid(backends: &[Backend]) -> String {
    routed("nowhere", backends) + "timeouts: { idle: soon }\n"
}

#[test]
fn a_rejected_reload_keeps_the_routes_and_reports_every_error_to_the_caller() {
    let backends = Backend::several(2);
    let balancer = Balancer::start(&routed("a", &backends)).ready();
    let before = balancer.metric("lyncpin_config_last_reload_timestamp_seconds", &[]);
    let answer = balancer.reload(&invalid(&backends));
    assert_eq!(answer.status, 422);
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let error = body["error"].as_str().unwrap();
    for part in ["`nowhere`", "`idle`", "balancer.yaml:"] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(server(&balancer), "a");

    for named in [true, false] {
        let mut command = balancer.command(&["reload"]);
        if named {
            command.arg("-c").arg(balancer.file());
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            text.contains("`nowhere`") && text.contains("`idle`"),
            "{text}"
        );
    }

    balancer.signal(Signal::HUP);
    eventually("the log has both errors", || {
        let log = balancer.log();
        let of_file = |text: &str| {
            let mut lines = log
                .iter()
                .filter(|line| line["target"] == "lyncpin::config");
            lines.any(|line| line.to_string().contains(text) && line["at"].is_string())
        };
        let rejected = |line: &serde_json::Value| {
            let message = line["message"].as_str().unwrap_or_default();
            message.starts_with("the reload is rejected") && line["by"] == "signal"
        };
        (of_file("`nowhere`") && of_file("`idle`") && log.iter().any(rejected)).then_some(())
    });
    assert_eq!(server(&balancer), "a");
    assert_eq!(reloads(&balancer, "accepted"), 0.0);
    counted(
        &balancer,
        "lyncpin_config_reloads_total",
        &["result=\"rejected\""],
        // By the API, by the command without and with the invalid file, and by the signal.
        4.0,
    );
    let after = balancer.metric("lyncpin_config_last_reload_timestamp_seconds", &[]);
    assert_eq!(before, after);
}

#[test]
fn a_missing_file_changes_nothing_and_is_reported() {
    let backends = Backend::several(1);
    let balancer = Balancer::start(&routed("a", &backends)).ready();
    std::fs::remove_file(balancer.file()).unwrap();
    let answer = balancer.ask("POST", "/api/v1/reload", "").unwrap();
    assert_eq!(answer.status, 422, "{}", answer.body);
    assert!(answer.body.contains("cannot be read"), "{}", answer.body);
    let output = balancer.said(&["reload"]);
    assert!(output.err.contains("cannot be read"), "{output:?}");
    assert_eq!(output.status, 1);
    balancer.signal(Signal::HUP);
    counted(
        &balancer,
        "lyncpin_config_reloads_total",
        &["result=\"rejected\""],
        3.0,
    );
    assert_eq!(server(&balancer), "a");
}

/// `lyncpin reload -c FILE` as an operator types it: only the file has the admin address.
fn reload_by_file(balancer: &Balancer) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_lyncpin"))
        .args(["reload", "-c"])
        .arg(balancer.file())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), text)
}

#[test]
fn a_file_with_errors_found_by_the_command_is_a_rejected_reload_of_the_balancer() {
    let backends = Backend::several(1);
    let balancer = Balancer::start(&routed("a", &backends)).ready();
    let admin = std::fs::read_to_string(balancer.file()).unwrap();
    let admin = admin.lines().find(|line| line.starts_with("admin:"));
    let admin = admin.unwrap().to_owned();
    let rejected = "result=\"rejected\"";
    let is_counted = |times: f64| {
        counted(
            &balancer,
            "lyncpin_config_reloads_total",
            &[rejected],
            times,
        );
    };

    balancer.write(&invalid(&backends));
    let (status, text) = reload_by_file(&balancer);
    assert_eq!(status, Some(1), "{text}");
    assert!(
        text.contains("`nowhere`") && text.contains("`idle`"),
        "{text}"
    );
    is_counted(1.0);

    // Invalid YAML, except for the one line with the admin address.
    balancer.write_raw(&format!("listeners: [\n{admin}\n"));
    let (status, text) = reload_by_file(&balancer);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("balancer.yaml:"), "{text}");
    is_counted(2.0);

    // If even the address cannot be found, the error asks for `--admin`.
    balancer.write_raw("admin: { bind: nowhere }\n");
    let (status, text) = reload_by_file(&balancer);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("--admin"), "{text}");
    is_counted(2.0);
    assert_eq!(server(&balancer), "a");
}

#[test]
fn the_reload_of_the_unit_queries_the_balancer_before_it_checks() {
    let unit = include_str!("../../deploy/lyncpin.service");
    let lines: Vec<&str> = unit
        .lines()
        .filter_map(|line| line.strip_prefix("ExecReload="))
        .collect();
    let [first, then] = lines.as_slice() else {
        panic!("{lines:?}");
    };
    assert!(first.contains("kill -HUP"), "{first}");
    assert!(then.contains("lyncpin check"), "{then}");
}

#[test]
fn a_reload_without_a_running_balancer_exits_with_1() {
    let output = Command::new(env!("CARGO_BIN_EXE_lyncpin"))
        .args(["reload", "--admin", "127.0.0.1:1"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn a_stop_during_reloads_stops_the_balancer() {
    let backends = Backend::several(2);
    let mut balancer = Balancer::start(&routed("a", &backends)).ready();
    balancer.write(&routed("b", &backends));
    for _ in 0..10 {
        balancer.signal(Signal::HUP);
    }
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait().code(), Some(0));
}
