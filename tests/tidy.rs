//! The house rules that no linter knows: which module may know which, and what no file may hold.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read the source has failed"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Every module, lowest first; a module may import those before it. `docs/architecture.md` draws the same table.
const LAYERS: &[(&str, &[&str])] = &[
    (
        "0 pure",
        &[
            "host_name",
            "timestamp",
            "state",
            "termination",
            "config",
            "affinity",
            "balance",
            "route",
            "client_hello",
            "http_head",
            "server_hello",
        ],
    ),
    (
        "1 live state",
        &[
            "metrics", "limits", "backend", "pins", "pool", "snapshot", "log",
        ],
    ),
    (
        "2 descriptors",
        &[
            "reserve", "files", "socket", "splice", "reactor", "hello", "connect", "relay",
        ],
    ),
    (
        "3 tasks",
        &[
            "account", "refusal", "session", "listener", "health", "admin", "store",
        ],
    ),
    ("4 assembly", &["upgrade", "server"]),
    // The simulated Front End stands beside the layers: only the command line knows it.
    ("5 command line", &["lync", "cli", "main", "lib"]),
];

/// The short form is a pure function that the configuration calls, and belongs to Lync all the same.
const EXCEPTIONS: &[(&str, &str)] = &[("config", "lync::preset")];

/// Modules of layer 0 are values: these words would be a clock, a socket or a runtime.
const NOT_PURE: &[&str] = &[
    "tokio::",
    "std::net::Tcp",
    "Instant::now",
    "SystemTime::now",
    "std::fs",
    "std::env::",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") {
            found.extend(files(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Each source file's module at the top level, its name below the root, and its text.
fn sources() -> Vec<(String, String, String)> {
    let src = root().join("src");
    let source = |path: PathBuf| {
        let below = path
            .strip_prefix(&src)
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let module = below
            .split('/')
            .next()
            .unwrap()
            .trim_end_matches(".rs")
            .to_owned();
        (module, below, std::fs::read_to_string(path).unwrap())
    };
    files(&src, ".rs").into_iter().map(source).collect()
}

fn rank() -> BTreeMap<&'static str, usize> {
    LAYERS
        .iter()
        .flat_map(|(_, modules)| *modules)
        .enumerate()
        .map(|(rank, module)| (*module, rank))
        .collect()
}

#[test]
fn every_module_has_its_layer_and_every_layer_its_modules() {
    let known: BTreeSet<String> = rank().keys().map(ToString::to_string).collect();
    let found: BTreeSet<String> = sources().into_iter().map(|(module, ..)| module).collect();
    assert_eq!(found, known);
}

/// The page's table has a row for each layer, with these modules in this order.
#[test]
fn the_architecture_page_has_the_same_table() {
    let page = std::fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let table = page.split("## The layers").nth(1).unwrap();
    let table = table.split("\n## ").next().unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| "));
    let rows = rows.map(|row| row.split(" | ").collect::<Vec<_>>());
    let drawn: Vec<(&str, Vec<&str>)> = rows
        .filter(|cells| cells[0] != "layer")
        .map(|cells| (cells[0], cells[1].split('`').skip(1).step_by(2).collect()))
        .collect();
    let known: Vec<(&str, Vec<&str>)> = LAYERS
        .iter()
        .map(|(layer, modules)| (*layer, modules.to_vec()))
        .collect();
    assert_eq!(drawn, known);
}

#[test]
fn imports_point_downward_only() {
    let rank = rank();
    let mut wrong = Vec::new();
    for (module, file, text) in sources() {
        for import in text.split("crate::").skip(1) {
            let path: String = import
                .chars()
                .take_while(|c| c.is_alphanumeric() || "_:".contains(*c))
                .collect();
            let imported = path.split("::").next().unwrap();
            let excepted = EXCEPTIONS
                .iter()
                .any(|(from, to)| *from == module && path.starts_with(to));
            let Some(&below) = rank.get(imported) else {
                continue;
            };
            if imported != module && below >= rank[&*module] && !excepted {
                wrong.push(format!("{file} imports crate::{path}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_pure_modules_know_no_clock_socket_or_runtime() {
    let pure = LAYERS[0].1;
    let mut wrong = Vec::new();
    for (module, file, text) in sources()
        .into_iter()
        .filter(|(module, ..)| pure.contains(&&**module))
    {
        let code = text.split("#[cfg(test)]").next().unwrap();
        let test = file.contains("tests") || file.contains("properties");
        for word in NOT_PURE
            .iter()
            .filter(|word| !test && code.contains(**word))
        {
            wrong.push(format!("{file} ({module}) says {word}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_data_path_has_never_heard_of_lync() {
    let beside = ["lync", "cli", "config", "main", "lib"];
    for (module, file, text) in sources() {
        let code: String = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect();
        assert!(
            beside.contains(&&*module) || !code.contains("lync::"),
            "{file} knows Lync"
        );
    }
}

#[test]
fn only_splice_rs_calls_splice_and_pipe() {
    for (_, file, text) in sources() {
        assert!(
            file == "splice.rs" || !text.contains("rustix::pipe"),
            "{file} uses rustix::pipe"
        );
    }
}

#[test]
fn every_module_opens_with_what_it_is() {
    for (_, file, text) in sources() {
        let inside =
            file.ends_with("tests.rs") || file.contains("tests/") || file.ends_with("_tests.rs");
        assert!(
            inside || text.starts_with("//!"),
            "{file} does not say what it owns"
        );
    }
}

#[test]
fn no_dependency_stands_without_its_reason() {
    let text = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (mut listed, mut before) = (false, "");
    for line in text.lines() {
        if line.starts_with('[') {
            listed = line.ends_with("dependencies]");
        } else if listed && line.contains('=') {
            assert!(before.starts_with('#'), "no reason above: {line}");
        }
        before = line;
    }
}

#[test]
fn nothing_is_ignored_and_nothing_is_left_to_do() {
    // Put together here, so that this file does not hold them.
    let forbidden = ["#[ign", "TO", "FIX", "unimpl"]
        .into_iter()
        .zip(["ore]", "DO:", "ME:", "emented!"]);
    let forbidden: Vec<String> = forbidden.map(|(a, b)| format!("{a}{b}")).collect();
    for directory in ["src", "tests"] {
        for path in files(&root().join(directory), ".rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            for word in &forbidden {
                assert!(!text.contains(word), "{} holds {word}", path.display());
            }
        }
    }
}
