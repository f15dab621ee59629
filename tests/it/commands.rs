//! The command line as a process, against an admin listener with a fixed status.

mod affinity;
mod find;
mod last;
mod status;

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use lyncpin::admin::{EndpointSet, RequestLimits};
use lyncpin::types::backend_state::AdminState;

use crate::admin::fake::{Fake, Running, token};

struct CommandOutput {
    status: i32,
    out: String,
    err: String,
}

fn lyncpin(arguments: &[&str]) -> CommandOutput {
    let output: Output = Command::new(env!("CARGO_BIN_EXE_lyncpin"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    CommandOutput {
        status: output
            .status
            .code()
            .expect("the command was not killed by a signal"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn ask(running: &Running, arguments: &[&str]) -> CommandOutput {
    let at = running.at.to_string();
    let mut all = arguments.to_vec();
    all.extend(["--admin", &at]);
    lyncpin(&all)
}

#[test]
fn invalid_numbers_in_options_have_plain_errors() {
    for (arguments, message) in [
        (
            &["affinity", "list", "--limit", "x"][..],
            "expected a whole number from 1, such as `100`",
        ),
        (&["affinity", "list", "--limit", "-1"], ""),
        (
            &["affinity", "list", "--limit", "0"],
            "expected a whole number from 1; `--all` lists every pin",
        ),
        (
            &["demo", "--https", "x"],
            "expected a port, a whole number up to 65535",
        ),
        (
            &["demo", "--http", "70000"],
            "expected a port, a whole number up to 65535",
        ),
    ] {
        let output = lyncpin(arguments);
        assert_eq!(output.status, 2, "{arguments:?}");
        assert!(
            output.err.contains(message),
            "{arguments:?}: {}",
            output.err
        );
        assert!(!output.err.contains("invalid digit"), "{}", output.err);
    }
}

#[test]
fn a_command_that_is_not_built_yet_is_a_usage_error() {
    for arguments in [
        &["init"][..],
        &["doctor", "--json"],
        &["weight", "web/fe01", "2"],
        &["schema"],
    ] {
        let output = lyncpin(arguments);
        assert_eq!(
            (output.status, output.out.as_str()),
            (2, ""),
            "{arguments:?}"
        );
        assert!(
            output
                .err
                .starts_with(&format!("`lyncpin {}", arguments[0])),
            "{}",
            output.err
        );
        assert!(output.err.ends_with("is not built yet\n"), "{}", output.err);
    }
}

#[test]
fn every_command_has_a_manual_page_and_completions() {
    let main = lyncpin(&["man"]);
    assert_eq!((main.status, main.err.as_str()), (0, ""));
    assert!(main.out.contains(".TH lyncpin 1"), "{}", main.out);
    let bash = lyncpin(&["completions", "bash"]).out;
    for (name, options) in lyncpin::cli::commands() {
        let words: Vec<&str> = name.split(' ').collect();
        let parent = lyncpin(&[&["man"], &words[..words.len() - 1]].concat());
        let listed = format!("lyncpin\\-{}(1)", words.join("\\-"));
        assert!(parent.out.contains(&listed), "{name}: {}", parent.out);
        let page = lyncpin(&[&["man"], &words[..]].concat());
        assert_eq!((page.status, page.err.as_str()), (0, ""), "{name}");
        let title = format!(".TH lyncpin-{} 1", words.join("-"));
        assert!(page.out.contains(&title), "{}", page.out);
        assert!(
            page.out.contains(&format!("\\fBlyncpin {name}\\fR")),
            "{name}"
        );
        for option in options {
            let written = option.replace('-', "\\-");
            assert!(page.out.contains(&written), "{name} {option}");
            assert!(bash.contains(&option), "{name} {option}");
        }
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = lyncpin(&["completions", shell]);
        assert_eq!((script.status, script.err.as_str()), (0, ""), "{shell}");
        assert!(script.out.contains("drain"), "{shell}");
    }
}

#[test]
fn a_usage_error_is_exit_status_2() {
    for arguments in [
        &[][..],
        &["frobnicate"],
        &["status", "--admin", "somewhere"],
        &["drain"],
        &["drain", "fe01", "--deadline", "soon"],
        &["completions"],
        &["completions", "sh"],
        &["man", "frobnicate"],
        &["ready", "fe01", "--deadline", "15m"],
        &["explain", "--listener", "https", "--source", "somewhere"],
        &["check", "-c", "/nonexistent/balancer.yaml"],
        &["status", "-c", "/nonexistent/balancer.yaml"],
        &[
            "status",
            "--admin",
            "127.0.0.1:1",
            "--token-file",
            "/nonexistent/token",
        ],
    ] {
        let output = lyncpin(arguments);
        assert_eq!(
            (output.status, output.out.as_str()),
            (2, ""),
            "{arguments:?}"
        );
        assert!(!output.err.is_empty());
    }
}

#[test]
fn an_unreachable_admin_listener_is_a_failure_in_one_line() {
    let output = lyncpin(&["status", "--admin", "127.0.0.1:1"]);
    let expected = "the admin listener at 127.0.0.1:1 cannot be reached: connection refused\n";
    assert_eq!((output.status, output.err.as_str()), (1, expected));
    let output = lyncpin(&["status", "--admin", "unix:/nonexistent/admin.sock"]);
    assert!(
        output
            .err
            .ends_with("cannot be reached: no such file or directory\n"),
        "{}",
        output.err
    );
}

#[test]
fn the_admin_listener_and_its_token_are_found_in_the_configuration() {
    let running = Running::start(
        Fake::new(),
        Some(token("s3cret")),
        EndpointSet::All,
        RequestLimits::default(),
    );
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("token");
    std::fs::write(&secret, "s3cret\n").unwrap();
    let file = directory.path().join("balancer.yaml");
    let yaml = format!(
        "listeners: {{ a: {{ bind: [\"127.0.0.1:1443\"], protocol: tcp, pool: web }} }}\n\
         pools: {{ web: {{ backends: [\"127.0.0.1:443\"] }} }}\n\
         admin: {{ bind: \"{}\", token_file: \"{}\" }}\n",
        running.at,
        secret.display()
    );
    std::fs::write(&file, yaml).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(lyncpin(&["status", "-c", file]).status, 0);

    let output = ask(&running, &["status"]);
    assert_eq!(output.status, 1);
    let (first, hint) = output.err.split_once('\n').unwrap();
    assert_eq!(
        first,
        "this path requires the token as `Authorization: Bearer`"
    );
    assert!(
        hint.contains("`--token-file`") && hint.contains("SIGHUP"),
        "{hint}"
    );
    assert_eq!(
        ask(
            &running,
            &["status", "--token-file", secret.to_str().unwrap()]
        )
        .status,
        0
    );
}

#[test]
fn status_shows_every_part_without_control_characters() {
    let running = Running::plain();
    let output = ask(&running, &["status"]);
    assert_eq!((output.status, output.err.as_str()), (0, ""));
    for part in [
        "lyncpin 0.1.0: ready, 3 connections of at most 1000, 4 workers, up 2h1m\n",
        "https     tls       open            3  0.0.0.0:443 [::]:443\n",
        "pool web: least_connections, affinity group web, backup paired, can serve\n",
        "fe01     10.0.0.11:4443       1  drain, 12m18s left  down    2h1m        3/500     1.5 KiB    7.0 GiB     2  ",
        "  fe01: deciding check tcp:5061 fails for 2h1m: connection refused\n",
        "web                2  1000000\n",
    ] {
        assert!(
            output.out.contains(part),
            "{part:?} is not in\n{}",
            output.out
        );
    }
    assert!(output.out.chars().all(|c| c == '\n' || !c.is_control()));
}

#[test]
fn status_as_json_is_the_json_of_the_api() {
    let running = Running::plain();
    let output = ask(&running, &["status", "--json"]);
    let read: lyncpin::admin::view::StatusView = serde_json::from_str(&output.out).unwrap();
    assert_eq!(read, crate::admin::status());
}

#[test]
fn status_with_watch_repeats_until_its_reader_closes() {
    use std::io::{BufRead as _, BufReader};
    let running = Running::plain();
    let mut child = Command::new(env!("CARGO_BIN_EXE_lyncpin"))
        .args([
            "status",
            "--watch",
            "--json",
            "--admin",
            &running.at.to_string(),
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        let line = lines.next().unwrap().unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok());
    }
    drop(lines);
    let ended = crate::support::eventually("the command ends when its reader closes", || {
        child.try_wait().unwrap()
    });
    assert!(ended.success());
}

#[test]
fn a_closed_stdout_is_not_a_failure() {
    let running = Running::plain();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_lyncpin"))
        .args(["status", "--admin", &running.at.to_string()])
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
}

#[test]
fn states_are_set_in_the_named_pool_or_in_every_pool() {
    let running = Running::plain();
    let output = ask(&running, &["drain", "web/fe01", "--deadline", "1h30m"]);
    assert_eq!(output.status, 0, "{}", output.err);
    assert!(
        output.out.starts_with("web/fe01: drain until ")
            && output.out.ends_with(", was ready, 3 connections\n"),
        "{}",
        output.out
    );
    assert_eq!(
        ask(&running, &["maintain", "fe01"]).out,
        "web/fe01: maintain, was ready, 3 connections\n"
    );
    assert_eq!(ask(&running, &["ready", "fe01"]).status, 0);
    let expected = [
        (
            "web".to_owned(),
            "fe01".to_owned(),
            AdminState::Drain,
            Some(Duration::from_secs(5400)),
        ),
        (
            "web".to_owned(),
            "fe01".to_owned(),
            AdminState::Maintain,
            None,
        ),
        ("web".to_owned(), "fe01".to_owned(), AdminState::Ready, None),
    ];
    assert_eq!(running.control.changes(), expected);
}

#[test]
fn an_unknown_backend_is_a_failure() {
    let running = Running::plain();
    let output = ask(&running, &["drain", "fe9"]);
    assert_eq!(
        (output.status, output.err.as_str()),
        (1, "no pool has a backend \"fe9\"\n")
    );
    let output = ask(&running, &["drain", "smtp/fe01"]);
    assert_eq!(
        (output.status, output.err.as_str()),
        (1, "there is no pool \"smtp\"\n")
    );
    let output = ask(&running, &["drain", "web/fe9"]);
    assert_eq!(
        (output.status, output.err.as_str()),
        (1, "pool \"web\" has no backend \"fe9\"\n")
    );
}

#[test]
fn explain_prints_the_steps_and_the_result() {
    let running = Running::plain();
    let arguments = [
        "explain",
        "--listener",
        "https",
        "--name",
        "meet.contoso.com",
        "--source",
        "192.0.2.7",
    ];
    let output = ask(&running, &arguments);
    assert_eq!(
        output.out,
        "a client from 192.0.2.7 that requests meet.contoso.com on listener https:\n  \
         1. the name matches `*.contoso.com`\npool web, backend fe01, pinned\n"
    );
    let json = ask(&running, &[&arguments[..], &["--json"]].concat());
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&json.out).unwrap()["pick"],
        "pinned"
    );
    let unknown = ask(
        &running,
        &["explain", "--listener", "smtp", "--source", "192.0.2.7"],
    );
    assert_eq!(
        (unknown.status, unknown.err.as_str()),
        (1, "there is no listener \"smtp\"\n")
    );
}

#[test]
fn check_prints_every_error_and_the_output_of_expand_is_valid() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("balancer.yaml");
    let file = path.to_str().unwrap();
    std::fs::write(&path, "listeners: 1\nfoo: 2\n").unwrap();
    let output = lyncpin(&["check", "-c", file]);
    assert_eq!((output.status, output.out.as_str()), (2, ""));
    assert!(
        output.err.contains(&format!("{file}:1:12: "))
            && output.err.contains(&format!("{file}:2:1: ")),
        "{}",
        output.err
    );

    let yaml = "lync: { sip_domains: [contoso.com], external_web_fqdn: lyncweb.contoso.com, front_ends: [fe01.contoso.local] }\n";
    std::fs::write(&path, yaml).unwrap();
    assert_eq!(lyncpin(&["check", "-c", file]).status, 0);
    let long = lyncpin(&["expand", "-c", file]);
    assert_eq!(long.status, 0);
    std::fs::write(&path, &long.out).unwrap();
    assert_eq!(lyncpin(&["expand", "-c", file]).out, long.out);
}
