//! `run --watch`: only a change of the content of the file triggers a reload.

use std::os::unix::fs::symlink;
use std::path::Path;

use super::{reloads, routed, routes_to, server};
use crate::support::balancer::Balancer;
use crate::support::eventually;
use crate::support::peers::Backend;
use crate::support::raw::counted;

fn start(backends: &[Backend]) -> Balancer {
    let yaml = routed("a", backends);
    let watching = |command: &mut std::process::Command| {
        command.arg("--watch");
    };
    Balancer::start_with(&yaml, watching).ready()
}

/// Switches `link` to `target` in one step.
fn relink(target: &str, link: &Path) {
    let new = link.with_file_name("relinked");
    symlink(target, &new).unwrap();
    std::fs::rename(new, link).unwrap();
}

#[test]
fn a_file_that_is_replaced_or_written_is_reloaded() {
    let backends = Backend::several(3);
    let balancer = start(&backends);
    assert_eq!(server(&balancer), "a");
    balancer.write(&routed("b", &backends));
    routes_to(&balancer, "b");
    let written = std::fs::read_to_string(balancer.file()).unwrap();
    std::fs::write(balancer.file(), written.replace("pool: b", "pool: c")).unwrap();
    routes_to(&balancer, "c");
    let taken = reloads(&balancer, "accepted");
    // Changes to other files, and the same content again, trigger no reload.
    std::fs::write(balancer.directory().join("notes"), "b").unwrap();
    balancer.write(&routed("c", &backends));
    balancer.write(&routed("b", &backends));
    routes_to(&balancer, "b");
    assert_eq!(reloads(&balancer, "accepted"), taken + 1.0);
}

#[test]
fn a_file_with_errors_is_logged_and_the_next_one_is_accepted() {
    let backends = Backend::several(2);
    let balancer = start(&backends);
    balancer.write(&routed("nowhere", &backends));
    counted(
        &balancer,
        "lyncpin_config_reloads_total",
        &["result=\"rejected\""],
        1.0,
    );
    eventually("the error is logged", || {
        let rejected = |line: &serde_json::Value| line["by"] == "watch";
        balancer.log().iter().any(rejected).then_some(())
    });
    assert_eq!(server(&balancer), "a");
    std::fs::remove_file(balancer.file()).unwrap();
    balancer.write(&routed("b", &backends));
    routes_to(&balancer, "b");
}

/// As Kubernetes mounts a ConfigMap: the file is a link through `..data`, which is switched.
#[test]
fn a_directory_whose_link_is_swapped_is_reloaded() {
    let backends = Backend::several(3);
    let balancer = start(&backends);
    let mount = balancer.directory();
    for (directory, pool) in [("..1", "b"), ("..2", "c"), ("..3", "a")] {
        balancer.write(&routed(pool, &backends));
        std::fs::create_dir(mount.join(directory)).unwrap();
        std::fs::rename(balancer.file(), mount.join(directory).join("balancer.yaml")).unwrap();
    }
    relink("..1", &mount.join("..data"));
    relink("..data/balancer.yaml", &balancer.file());
    routes_to(&balancer, "b");
    for (directory, server) in [("..2", "c"), ("..3", "a"), ("..1", "b")] {
        relink(directory, &mount.join("..data"));
        routes_to(&balancer, server);
    }
}

#[test]
fn a_changed_token_is_accepted() {
    let backends = Backend::several(1);
    let balancer = start(&backends);
    let token = balancer.directory().join("token");
    std::fs::write(&token, "another-token").unwrap();
    eventually("the previous token is rejected", || {
        (balancer.get("/api/v1/status").status == 401).then_some(())
    });
}
