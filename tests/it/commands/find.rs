//! How a command finds the running balancer: from a configuration, valid or not, or by an address.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::admin::fake::{Fake, Running, token};
use lyncpin::admin::{EndpointSet, RequestLimits};

/// Runs a command in this directory, with the variable that names the configuration.
fn run_in(directory: &Path, variable: Option<&Path>, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lyncpin"));
    command.args(arguments).current_dir(directory);
    match variable {
        Some(file) => command.env("LYNCPIN_CONFIG", file),
        None => command.env_remove("LYNCPIN_CONFIG"),
    };
    let output: Output = command.stdin(Stdio::null()).output().unwrap();
    (
        output
            .status
            .code()
            .expect("the command was not killed by a signal"),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// An admin listener that requires a token, and a directory with the token file.
fn guarded() -> (Running, tempfile::TempDir) {
    let token = Some(token("s3cret"));
    let running = Running::start(
        Fake::new(),
        token,
        EndpointSet::All,
        RequestLimits::default(),
    );
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("token"), "s3cret\n").unwrap();
    (running, directory)
}

#[test]
fn errors_elsewhere_in_the_file_do_not_prevent_commands() {
    let (running, directory) = guarded();
    let file = directory.path().join("balancer.yaml");
    for wrong in [
        "",
        "frobnicate: yes\n",
        "pools: 1\nlisteners: { a: { bind: [nowhere] } }\n",
        "pools:\n\tweb: {}\n",
        "listeners: { a: { bind: [[::]:443] } }\npools: [\n",
    ] {
        for admin in [
            format!("admin: {{ bind: \"{}\", token_file: token }}\n", running.at),
            format!("admin:\n  bind: {}\n  token_file: token\n", running.at),
        ] {
            std::fs::write(&file, format!("{admin}{wrong}")).unwrap();
            let here = directory.path();
            let (status, out, err) = run_in(here, None, &["drain", "fe01"]);
            assert_eq!((status, &*err), (0, ""), "{wrong}");
            assert!(out.starts_with("web/fe01: drain, was ready"), "{out}");
            // In another directory the relative path of the token exists only beside the file.
            let elsewhere = tempfile::tempdir().unwrap();
            let named = ["status", "-c", file.to_str().unwrap()];
            let (status, _, err) = run_in(elsewhere.path(), None, &named);
            assert_eq!((status, &*err), (0, ""), "{wrong}");
            let by_variable = run_in(elsewhere.path(), Some(&file), &["status"]);
            assert_eq!(by_variable.0, 0, "{}", by_variable.2);
        }
    }
    assert_eq!(running.control.changes().len(), 10);
}

#[test]
fn an_error_in_the_admin_section_is_printed_with_a_workaround() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("balancer.yaml");
    std::fs::write(&file, "pools: 1\nadmin: { bind: nowhere }\n").unwrap();
    for command in [&["status"][..], &["ready", "fe01"], &["affinity", "list"]] {
        let (status, out, err) = run_in(directory.path(), None, command);
        assert_eq!((status, &*out), (2, ""));
        assert!(
            err.starts_with("balancer.yaml:2:16: `bind` expects "),
            "{err}"
        );
        assert!(
            err.contains("use `--admin ADDRESS` to reach the running balancer"),
            "{err}"
        );
        assert!(!err.contains("pools"), "{err}");
    }
}

#[test]
fn a_missing_file_is_reported_with_the_searched_locations() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let missing = here.join("missing.yaml");
    for command in [
        &["check"][..],
        &["expand"],
        &["run"],
        &["status"],
        &[
            "explain",
            "--offline",
            "--listener",
            "a",
            "--source",
            "192.0.2.7",
        ],
    ] {
        let (status, _, err) = run_in(here, Some(&missing), command);
        assert_eq!(status, 2);
        let expected = format!(
            "cannot read the configuration {}, named by $LYNCPIN_CONFIG: no such",
            missing.display()
        );
        assert!(err.starts_with(&expected), "{err}");
        if !Path::new("/etc/lyncpin/balancer.yaml").exists() {
            let (status, _, err) = run_in(here, None, command);
            assert_eq!(status, 2);
            assert_eq!(
                err,
                "no configuration found: neither balancer.yaml in this directory nor /etc/lyncpin/balancer.yaml exists\n\
                 name one with `-c FILE` or $LYNCPIN_CONFIG\n"
            );
        }
    }
}

#[test]
fn the_variable_precedes_the_directory_and_the_option_precedes_both() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let write = |name: &str, listener: &str| {
        let yaml = format!(
            "listeners: {{ {listener}: {{ bind: [\"127.0.0.1:1443\"], protocol: tcp, pool: web }} }}\n\
             pools: {{ web: {{ backends: [\"127.0.0.1:443\"] }} }}\n"
        );
        std::fs::write(here.join(name), yaml).unwrap();
    };
    write("balancer.yaml", "here");
    write("variable.yaml", "variable");
    write("option.yaml", "option");
    let variable = here.join("variable.yaml");
    for (variable, arguments, expected) in [
        (None, &["expand"][..], "  here:\n"),
        (Some(&*variable), &["expand"], "  variable:\n"),
        (
            Some(&*variable),
            &["expand", "-c", "option.yaml"],
            "  option:\n",
        ),
        (Some(Path::new("")), &["expand"], "  here:\n"),
    ] {
        let (status, out, err) = run_in(here, variable, arguments);
        assert_eq!(status, 0, "{err}");
        assert!(out.contains(expected), "{out}");
    }
}

#[test]
fn an_admin_listener_is_found_by_name() {
    let running = Running::plain();
    let port = running.tcp().port();
    let nowhere = Path::new("/");
    for at in [
        format!("localhost:{port}"),
        format!("LOCALHOST:{port}"),
        format!("127.0.0.1:{port}"),
    ] {
        let (status, _, err) = run_in(nowhere, None, &["status", "--admin", &at]);
        assert_eq!((status, &*err), (0, ""), "{at}");
    }
    let (status, _, err) = run_in(nowhere, None, &["status", "--admin", "localhost:1"]);
    assert_eq!(status, 1);
    assert_eq!(
        err,
        "the admin listener at localhost:1 cannot be reached: connection refused\n"
    );
    let (status, _, err) = run_in(
        nowhere,
        None,
        &["status", "--admin", &format!("http://localhost:{port}/")],
    );
    assert_eq!(status, 2);
    assert!(
        err.contains(&format!("leave out `http://`: `localhost:{port}`")),
        "{err}"
    );
}

#[test]
fn a_reload_to_a_token_file_that_is_missing_contacts_the_balancer_without_a_token() {
    for guarded in [false, true] {
        let token = guarded.then(|| token("s3cret"));
        let limits = RequestLimits::default();
        let running = Running::start(Fake::new(), token, EndpointSet::All, limits);
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path();
        let yaml = format!("admin: {{ bind: \"{}\", token_file: gone }}\n", running.at);
        std::fs::write(here.join("balancer.yaml"), yaml).unwrap();
        let (status, out, err) = run_in(here, None, &["reload"]);
        if guarded {
            assert_eq!((status, &*out), (1, ""), "{err}");
            assert!(err.starts_with("the token file "), "{err}");
            assert!(err.contains("contacted without a token"), "{err}");
        } else {
            assert!(
                out.starts_with("the configuration has been reloaded"),
                "{out}{err}"
            );
        }
        // Other commands need the token that the file names.
        let (status, _, err) = run_in(here, None, &["status"]);
        assert!(status == 2 && err.starts_with("the token file "), "{err}");
    }
}

#[test]
fn a_configuration_without_data_delays_commands_for_a_limited_time() {
    let directory = tempfile::tempdir().unwrap();
    crate::support::hang::stalls(&directory.path().join("balancer.yaml"));
    let here = directory.path();
    std::thread::scope(|scope| {
        for command in [
            &["status"][..],
            &["drain", "fe01"],
            &["reload"],
            &["upgrade"],
        ] {
            scope.spawn(move || {
                let (status, out, err) = run_in(here, None, command);
                assert_eq!((status, &*out), (2, ""), "{err}");
                assert!(err.contains("no data within 10 s"), "{err}");
                assert!(err.contains("`--admin ADDRESS`"), "{err}");
            });
        }
    });
}
