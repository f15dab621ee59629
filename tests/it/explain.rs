//! `explain` and `status` describe the current state.

use serde_json::Value;

use crate::support::balancer::Balancer;
use crate::support::peers::{Backend, ask, connect, connect_from, entries, request};
use crate::support::{eventually, own_address};

const HEALTH: &str = "health: { interval: 100ms, timeout: 100ms, rise: 1, fall: 1, damping: none }";

/// The steps for a client of `listener` that requests `name`, as one text.
fn steps(balancer: &Balancer, listener: &str, name: &str, source: &str) -> String {
    let path = format!("/api/v1/explain?listener={listener}&name={name}&source={source}");
    let explained: Value = serde_json::from_str(&balancer.get(&path).body).unwrap();
    let steps = explained["steps"].as_array().unwrap();
    let steps: Vec<&str> = steps.iter().map(|step| step.as_str().unwrap()).collect();
    steps.join("\n") + "\n"
}

#[track_caller]
fn contains_all(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn each_backend_that_is_not_chosen_has_a_reason() {
    let backends = Backend::several(7);
    let mut entries: Vec<String> = backends.iter().map(Backend::entry).collect();
    entries[3] = entries[3].replace(" }", ", weight: 0 }");
    let yaml = format!(
        "listeners: {{ http: {{ bind: [\"HOST:80\"], protocol: http, routes: [{{ names: [contoso.com], pool: web }}], no_name: web }} }}\n\
         pools: {{ web: {{ backends: [{}], balance: least_connections, affinity: none, {HEALTH} }} }}\n",
        entries.join(", ")
    );
    let balancer = Balancer::start(&yaml).ready();
    let all = balancer.status()["pools"][0]["backends"].clone();
    let name = |index: usize| all[index]["name"].as_str().unwrap().to_owned();
    eventually("all backends are up", || {
        let status = balancer.status();
        let backends = status["pools"][0]["backends"].as_array().unwrap();
        backends
            .iter()
            .all(|backend| backend["health"] == "up")
            .then_some(())
    });
    backends[0].stop();
    eventually("one backend is down", || {
        (balancer.status()["pools"][0]["backends"][0]["health"] == "down").then_some(())
    });
    assert_eq!(balancer.said(&["drain", &name(1)]).status, 0);
    assert_eq!(balancer.said(&["maintain", &name(2)]).status, 0);
    // Two connections, on two of the three remaining backends.
    let held: Vec<_> = (0..2)
        .map(|_| {
            let client = connect(balancer.at(80)).unwrap();
            ask(&client, &request("contoso.com")).unwrap();
            client
        })
        .collect();
    let text = steps(&balancer, "http", "contoso.com", "192.0.2.7");
    contains_all(
        &text,
        &[
            "Host contoso.com is in a route: pool \"web\"",
            "pool \"web\" has no affinity",
            &format!("not {}: down for ", name(0)),
            &format!("not {}: draining for ", name(1)),
            &format!("not {}: in maintenance", name(2)),
            &format!("not {}: its weight is 0", name(3)),
            "now: the lowest load for its weight, 0 connections (weight 1)",
        ],
    );
    assert_eq!(
        text.matches("a higher load for its weight, 1 connection (weight 1)")
            .count(),
        2,
        "{text}"
    );
    assert_eq!(text.matches("\nnot ").count(), 6, "{text}");
    let text = steps(&balancer, "http", "", "192.0.2.7");
    contains_all(
        &text,
        &["the client sends no Host: `no_name` routes to pool \"web\""],
    );
    drop(held);
    for index in 3..7 {
        assert_eq!(
            balancer.said(&["maintain", &name(index), "--force"]).status,
            0
        );
    }
    let text = steps(&balancer, "http", "contoso.com", "192.0.2.7");
    contains_all(
        &text,
        &[&format!("not {}: in maintenance", name(6)), "rejected: "],
    );
}

#[test]
fn other_pools_of_the_group_full_backends_and_backups_are_explained() {
    let web = Backend::several(2);
    let other = Backend::several(2);
    let backup = Backend::several(1);
    let named = |backends: &[Backend]| {
        let address = |backend: &Backend| {
            let entry = backend.entry();
            let address = entry.split("address: ").nth(1).unwrap();
            address.trim_end_matches(" }").trim_matches('"').to_owned()
        };
        let entry = |(number, backend)| {
            format!("{{ name: fe0{number}, address: \"{}\" }}", address(backend))
        };
        (1..)
            .zip(backends)
            .map(entry)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let yaml = format!(
        "listeners:\n\
         \x20 http: {{ bind: [\"HOST:80\"], protocol: http, unknown_name: web }}\n\
         pools:\n\
         \x20 web: {{ backends: [{}], max_connections: 1, affinity: {{ by: [source], group: all }}, backup: spare, {HEALTH} }}\n\
         \x20 other: {{ backends: [{}], affinity: {{ by: [source], group: all }}, {HEALTH} }}\n\
         \x20 spare: {{ {}, {HEALTH} }}\n",
        named(&web),
        named(&other),
        entries(&backup)
    );
    let balancer = Balancer::start(&yaml).ready();
    other[0].stop();
    eventually("the backend is down in the other pool", || {
        let status = balancer.status();
        let up =
            |pool: usize, index: usize| status["pools"][pool]["backends"][index]["health"] == "up";
        (!up(1, 0) && up(0, 0) && up(0, 1) && up(2, 0)).then_some(())
    });
    let text = steps(&balancer, "http", "contoso.com", "192.0.2.7");
    contains_all(
        &text,
        &[
            "Host contoso.com is in no route: `unknown_name` routes to pool \"web\"",
            "the client has no pin in affinity group \"all\"",
            "fe02: the only backend that can take the client",
            "not fe01: fe01 is up but not used: pool \"other\" of its affinity group cannot use it now",
        ],
    );
    let held: Vec<_> = (0..2)
        .map(|_| {
            let client = connect_from(own_address(), balancer.at(80)).unwrap();
            ask(&client, &request("contoso.com")).unwrap();
            client
        })
        .collect();
    let text = steps(&balancer, "http", "contoso.com", "192.0.2.7");
    contains_all(
        &text,
        &[
            "not fe01: full: `max_connections` (1) is reached",
            "not fe02: full: `max_connections` (1) is reached",
            "no backend of pool \"web\" can take the client: its backup \"spare\" is tried",
            "the only backend that can take the client",
        ],
    );
    let status = balancer.said(&["status"]).out;
    contains_all(&status, &["pool web: ", ", its backup serves\n"]);
    drop(held);
}

#[test]
fn a_moved_pin_is_explained_with_its_origin_and_age() {
    let backends = Backend::several(3);
    let yaml = format!(
        "listeners: {{ http: {{ bind: [\"HOST:80\"], protocol: http, routes: [{{ names: [contoso.com], pool: web }}] }} }}\n\
         pools: {{ web: {{ {}, affinity: {{ by: [source] }}, {HEALTH} }} }}\n",
        entries(&backends)
    );
    let balancer = Balancer::start(&yaml).ready();
    let source = own_address();
    let client = connect_from(source, balancer.at(80)).unwrap();
    ask(&client, &request("contoso.com")).unwrap();
    let source = source.to_string();
    let text = eventually("the client is pinned", || {
        let text = steps(&balancer, "http", "contoso.com", &source);
        text.contains("pinned to ").then_some(text)
    });
    contains_all(
        &text,
        &[
            ": chosen by the policy ",
            "in use by 1 connection, and does not expire meanwhile",
            "a pin takes precedence over the policy: ",
            " are not compared",
        ],
    );
    let status = balancer.status();
    let all = status["pools"][0]["backends"].as_array().unwrap();
    let target = all
        .iter()
        .find(|backend| backend["connections"] == 0)
        .unwrap();
    let target = target["name"].as_str().unwrap();
    let moved = balancer.said(&["affinity", "move", "--client", &source, "--to", target]);
    assert_eq!(moved.status, 0, "{}", moved.err);
    balancer.ended("pin_moved");
    let text = steps(&balancer, "http", "contoso.com", &source);
    contains_all(
        &text,
        &[
            &format!(
                "pinned to {target}: an administrator pinned or moved it there; the pin was made "
            ),
            "; it expires in ",
        ],
    );
    assert_eq!(balancer.said(&["maintain", target]).status, 0);
    let text = steps(&balancer, "http", "contoso.com", &source);
    contains_all(
        &text,
        &[&format!(
            "{target} cannot take the client now: in maintenance; the pin moves once another backend has responded"
        )],
    );
}

#[test]
fn offline_explain_lists_unknown_facts() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("balancer.yaml");
    std::fs::write(
        &file,
        "listeners: { http: { bind: [\"127.0.0.1:1080\"], protocol: http, deny: [192.0.2.0/24], unknown_name: web } }\n\
         pools: { web: { backends: [fe01.contoso.local, { name: fe02, address: fe02.contoso.local, weight: 0 }, fe03.contoso.local], port: 443 } }\n",
    )
    .unwrap();
    let explain = |source: &str| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_lyncpin"))
            .args([
                "explain",
                "--offline",
                "--listener",
                "http",
                "--name",
                "contoso.com",
                "--source",
                source,
                "-c",
            ])
            .arg(&file)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    contains_all(
        &explain("198.51.100.7"),
        &[
            "from the file only: health, states, connections and pins are not known",
            "not fe02: its weight is 0",
            "it can take the client as well; connections and turns decide",
        ],
    );
    contains_all(
        &explain("192.0.2.7"),
        &["192.0.2.7 is in `deny`: 192.0.2.0/24", "rejected, denied"],
    );
}

#[test]
fn reasons_and_progress_are_those_of_the_current_checks() {
    let backends = Backend::several(1);
    let yaml = |health: &str| {
        format!(
            "listeners: {{ http: {{ bind: [\"HOST:80\"], protocol: http, unknown_name: web }} }}\n\
             pools: {{ web: {{ {}, {health} }} }}\n",
            entries(&backends)
        )
    };
    let slow = |rise| {
        format!(
            "health: {{ interval: 300ms, timeout: 300ms, rise: {rise}, fall: 1000, damping: none }}"
        )
    };
    let balancer = Balancer::start(&yaml(&slow(1))).ready();
    let wait_until = |expectation: &str, is: &dyn Fn(&Value) -> bool| {
        eventually(expectation, || {
            let backend = balancer.status()["pools"][0]["backends"][0].clone();
            is(&backend).then_some(backend)
        })
    };
    let why = |backend: &Value| backend["why"].as_str().unwrap().to_owned();
    backends[0].stop();
    let failing = wait_until("its checks fail", &|backend| {
        backend["checks"][0]["against"].as_u64() >= Some(2)
    });
    assert_eq!(failing["health"], "up");
    assert!(
        why(&failing).contains(": failing ") && why(&failing).contains(" of 1000: "),
        "{failing}"
    );
    let text = balancer.said(&["status"]).out;
    assert!(
        text.contains(" of 1000 until it counts as failing: "),
        "{text}"
    );
    assert_eq!(
        balancer
            .said(&["maintain", "--force", failing["name"].as_str().unwrap()])
            .status,
        0
    );
    let maintained = wait_until("it is maintained", &|backend| {
        backend["state"] == "maintain" && backend["checks"][0]["counts"] == false
    });
    assert!(
        why(&maintained).starts_with("in maintenance, checks are ignored: "),
        "{maintained}"
    );
    assert_eq!(
        balancer
            .said(&["ready", failing["name"].as_str().unwrap()])
            .status,
        0
    );
    wait_until("the first result decides", &|backend| {
        backend["health"] == "down"
    });
    balancer.reloaded(&yaml(&slow(1000)));
    backends[0].start_again();
    let rising = wait_until("its checks pass", &|backend| {
        backend["checks"][0]["counts"] == false
            && backend["checks"][0]["against"].as_u64() >= Some(2)
    });
    assert!(
        why(&rising).contains(": passing ") && why(&rising).contains(" of 1000: "),
        "{rising}"
    );
    // After a reload with other checks, the removed checks are not shown.
    balancer.reloaded(&yaml("health: none"));
    let unchecked = wait_until("nothing is checked", &|backend| {
        backend["checks"].as_array().unwrap().is_empty()
    });
    assert!(!why(&unchecked).contains("tcp"), "{unchecked}");
}

#[test]
fn a_port_that_refuses_during_a_stop_is_not_shown_as_open() {
    let backends = Backend::several(1);
    let yaml = format!(
        "listeners: {{ http: {{ bind: [\"HOST:80\"], protocol: http, unknown_name: web }} }}\n\
         pools: {{ web: {{ {}, {HEALTH} }} }}\ntimeouts: {{ shutdown: 20s }}\n",
        entries(&backends)
    );
    let balancer = Balancer::start(&yaml).ready();
    let client = connect(balancer.at(80)).unwrap();
    ask(&client, &request("contoso.com")).unwrap();
    assert_eq!(balancer.status()["listeners"][0]["open"], true);
    balancer.signal(rustix::process::Signal::TERM);
    eventually("the stop has begun", || {
        balancer.status()["stopping"]
            .as_bool()
            .filter(|stopping| *stopping)
    });
    assert_eq!(balancer.status()["listeners"][0]["open"], false);
    eventually("the metric agrees", || {
        (balancer.metric("lyncpin_listener_open", &[]) == 0.0).then_some(())
    });
    let text = steps(&balancer, "http", "contoso.com", "192.0.2.7");
    assert!(
        text.starts_with("the balancer is stopping: its ports refuse connections"),
        "{text}"
    );
    let status = balancer.said(&["status"]).out;
    assert!(
        status.contains(": stopping, 1 connection of at most "),
        "{status}"
    );
    assert!(status.contains("  closed  "), "{status}");
}

#[test]
fn an_invalid_name_is_rejected_like_a_request_with_it() {
    let yaml = "listeners:\n\
         \x20 http: { bind: [\"HOST:80\"], protocol: http, routes: [{ names: [a.contoso.com], pool: web }], unknown_name: web }\n\
         \x20 tls: { bind: [\"HOST:443\"], protocol: tls, routes: [{ names: [a.contoso.com], pool: web }], unknown_name: web }\n\
         pools: { web: { backends: [\"127.0.0.1:9\"], health: none } }\n";
    let balancer = Balancer::start(yaml).ready();
    let explain = |listener: &str, name: &str| -> Value {
        let path = format!("/api/v1/explain?listener={listener}&name={name}&source=192.0.2.7");
        serde_json::from_str(&balancer.get(&path).body).unwrap()
    };
    for name in [
        "a.contoso.com:99999",
        "a.contoso.com:abc",
        "a.contoso.com:0",
        "a@a.contoso.com",
        "a%20b",
        "http://a.contoso.com",
        "a.contoso.com/x",
        "%2561.contoso.com",
        "2001:db8::1",
    ] {
        let sent = name.replace("%20", " ").replace("%25", "%");
        let answer = ask(&connect(balancer.at(80)).unwrap(), &request(&sent));
        assert!(
            answer.as_ref().is_ok_and(|answer| answer.contains("400")),
            "{name}: {answer:?}"
        );
        let explanation = explain("http", name);
        assert_eq!(explanation["refused"], "malformed", "{explanation}");
    }
    for name in [
        "a.contoso.com",
        "a.contoso.com:80",
        "a.contoso.com:",
        "A.contoso.com.",
    ] {
        assert_eq!(explain("http", name)["route"], "a.contoso.com", "{name}");
    }
    for name in ["[2001:db8::1]:80", "192.0.2.1", "a!b"] {
        assert_eq!(explain("http", name)["route"], "unknown_name", "{name}");
    }
    for name in ["a.contoso.com:99999", "a@a.contoso.com", "a%20b"] {
        assert!(explain("tls", name)["refused"].is_null(), "{name}");
    }
}

#[test]
fn a_client_pinned_to_a_backend_of_another_pool_has_one_explanation() {
    let pool = |backends: &str| {
        format!(
            "{{ backends: [{backends}], balance: least_connections, health: none, affinity: {{ by: [source], group: g }} }}"
        )
    };
    let entry =
        |name: &str, port: u16| format!("{{ name: {name}, address: \"127.0.0.1:{port}\" }}");
    let yaml = format!(
        "listeners:\n\
         \x20 one: {{ bind: [\"HOST:81\"], protocol: tcp, pool: one }}\n\
         \x20 two: {{ bind: [\"HOST:82\"], protocol: tcp, pool: two }}\n\
         pools:\n  one: {}\n  two: {}\n",
        pool(&entry("a", 9)),
        pool(&format!("{}, {}", entry("b", 19), entry("c", 29))),
    );
    let balancer = Balancer::start(&yaml).ready();
    let pinned = balancer.said(&["affinity", "pin", "--client", "192.0.2.7", "one/a"]);
    assert_eq!(pinned.status, 0, "{pinned:?}");
    let path = "/api/v1/explain?listener=two&name=&source=192.0.2.7";
    let explained: Value = serde_json::from_str(&balancer.get(path).body).unwrap();
    assert_eq!(explained["pick"], "source_hash", "{explained}");
    assert!(
        !explained.to_string().contains("least_connections"),
        "{explained}"
    );
}
