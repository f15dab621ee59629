//! The last backend in service of a pool stays in service, unless `--force` is given.

use serde_json::{Value, json};

use crate::support::balancer::Balancer;
use crate::support::eventually;
use crate::support::peers::{Backend, entries};

const HEALTH: &str = "health: { interval: 100ms, timeout: 100ms, rise: 1, fall: 1, damping: none }";

/// Pools `web` and `other` with the same backends, and a pool `paired` with another backend.
fn start(backends: &[Backend], paired: &Backend, keys: &str) -> Balancer {
    let pool = format!("{}, {HEALTH}", entries(backends));
    let yaml = format!(
        "listeners:\n  \
         http: {{ bind: [\"HOST:80\"], protocol: http, routes: [{{ names: [contoso.com], pool: web }}, {{ names: [fabrikam.com], pool: other }}], unknown_name: paired }}\n\
         pools:\n  web: {{ {pool} {keys} }}\n  other: {{ {pool} }}\n  paired: {{ {}, affinity: none, {HEALTH} }}\n",
        entries(std::slice::from_ref(paired))
    );
    Balancer::start(&yaml).ready()
}

fn states(balancer: &Balancer) -> Vec<String> {
    let status = balancer.status();
    let pools = status["pools"].as_array().unwrap().iter().take(2);
    let backends = pools.flat_map(|pool| pool["backends"].as_array().unwrap().clone());
    let state = |backend: Value| backend["state"].as_str().unwrap().to_owned();
    backends.map(state).collect()
}

#[track_caller]
fn rejected(balancer: &Balancer, arguments: &[&str], why: &str) {
    let before = states(balancer);
    let output = balancer.said(arguments);
    assert_eq!((output.status, &*output.out), (1, ""), "{}", output.err);
    assert_eq!(
        output.err,
        format!("{why}\nnothing was changed; use --force to do it anyway\n")
    );
    assert_eq!(states(balancer), before);
}

#[track_caller]
fn succeeds(balancer: &Balancer, arguments: &[&str]) {
    let output = balancer.said(arguments);
    assert_eq!((output.status, &*output.err), (0, ""), "{arguments:?}");
}

#[test]
fn drain_and_maintain_leave_the_last_backend_in_every_pool() {
    let (backends, paired) = (Backend::several(2), Backend::start("z"));
    let balancer = start(&backends, &paired, ", backup: paired");
    succeeds(&balancer, &["drain", "other/a"]);
    // It is the last backend in one of two pools, so the command changes neither.
    for command in ["drain", "maintain"] {
        rejected(
            &balancer,
            &[command, "b"],
            "b is the last backend in service in pool other: a drains; the pool would serve no client",
        );
    }
    succeeds(&balancer, &["maintain", "web/b"]);
    rejected(
        &balancer,
        &["drain", "web/a"],
        "a is the last backend in service in pool web: b is in maintenance; only its backup pool paired would serve",
    );
    // The backend is already out of service: only the deadline changes.
    succeeds(&balancer, &["drain", "other/a", "--deadline", "1h"]);
    succeeds(&balancer, &["drain", "web/a", "--force"]);
    assert_eq!(states(&balancer), ["drain", "maintain", "drain", "ready"]);
    // Returning to service needs no force.
    succeeds(&balancer, &["ready", "a"]);
    succeeds(&balancer, &["maintain", "other/b"]);
}

#[test]
fn a_backend_that_is_down_does_not_count_as_another_one() {
    let (backends, paired) = (Backend::several(2), Backend::start("z"));
    let balancer = start(&backends, &paired, "");
    backends[1].stop();
    eventually("b is down", || {
        let status = balancer.status();
        let health = |pool: usize| status["pools"][pool]["backends"][1]["health"] == "down";
        (health(0) && health(1)).then_some(())
    });
    rejected(
        &balancer,
        &["maintain", "web/a"],
        "a is the last backend in service in pool web: b is down; the pool would serve no client",
    );
    // A backend that is down can be taken out while another can serve.
    succeeds(&balancer, &["maintain", "b"]);
    rejected(
        &balancer,
        &["maintain", "a"],
        "a is the last backend in service in pool web: b is in maintenance; the pool would serve no client; \
         a is the last backend in service in pool other: b is in maintenance; the pool would serve no client",
    );
    succeeds(&balancer, &["maintain", "a", "--force"]);
}

#[test]
fn the_api_protects_the_last_backend_only_on_request() {
    let (backends, paired) = (Backend::several(1), Backend::start("z"));
    let balancer = start(&backends, &paired, "");
    let set = |path: &str, body: Value| {
        let answer = balancer.ask("PUT", path, &body.to_string()).unwrap();
        (
            answer.status,
            serde_json::from_str::<Value>(&answer.body).unwrap(),
        )
    };
    let (one, all) = (
        "/api/v1/pools/web/backends/a/state",
        "/api/v1/backends/a/state",
    );
    for path in [one, all] {
        let (status, body) = set(path, json!({"state": "drain", "force": false}));
        assert_eq!(status, 409, "{body}");
        let error = body["error"].as_str().unwrap();
        assert!(
            error.starts_with("a is the last backend in service in pool web; "),
            "{error}"
        );
        let (status, _) = set(path, json!({"state": "ready", "force": false}));
        assert_eq!(status, 200);
    }
    let (status, body) = set(one, json!({"state": "maintain"}));
    assert_eq!((status, &body["pool"]), (200, &json!("web")));
    let (status, body) = set(all, json!({"state": "drain", "force": true}));
    assert_eq!(status, 200);
    assert_eq!(body["changed"][0]["before"], "maintain");
    assert_eq!(body["changed"][1]["pool"], "other");
    let (status, body) = set("/api/v1/backends/c/state", json!({"state": "ready"}));
    assert_eq!(
        (status, &body["error"]),
        (
            404,
            &json!("no pool has a backend \"c\"; the backends are a, z")
        )
    );
    let (status, _) = set(
        "/api/v1/pools/wbe/backends/a/state",
        json!({"state": "ready", "force": 1}),
    );
    assert_eq!(status, 400);
}

#[test]
fn an_unknown_name_is_reported_with_the_known_ones() {
    let (backends, paired) = (Backend::several(2), Backend::start("z"));
    let balancer = start(&backends, &paired, "");
    for (arguments, error) in [
        (
            &["drain", "x"][..],
            "no pool has a backend \"x\"; the backends are a, b, z\n",
        ),
        (
            &["drain", "wbe/a"],
            "there is no pool \"wbe\"; the pools are web, other, paired; did you mean `web`?\n",
        ),
        (
            &["ready", "web/c9"],
            "pool \"web\" has no backend \"c9\"; the backends are a, b\n",
        ),
        (
            &["explain", "--listener", "htpp", "--source", "192.0.2.7"],
            "there is no listener \"htpp\"; the only listener is http\n",
        ),
        (
            &["affinity", "list", "--group", "wbe"],
            "there is no affinity group \"wbe\"; the affinity groups are other, web; did you mean `web`?\n",
        ),
    ] {
        let output = balancer.said(arguments);
        assert_eq!((output.status, &*output.err), (1, error), "{arguments:?}");
    }
}
