//! Project rules that no linter checks: which folder may import which, and text that no file may contain.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read the source has failed"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Every folder below `src`, lowest first; a folder may import those before it. `docs/architecture.md` has the same table.
const LAYERS: &[(&str, &[&str])] = &[
    ("0 values", &["types", "protocol", "config"]),
    (
        "1 live state",
        &["system", "telemetry", "affinity", "upstream", "snapshot"],
    ),
    ("2 data path", &["net", "proxy"]),
    ("3 tasks", &["persistence", "health", "admin", "handoff"]),
    ("4 assembly", &["server"]),
    ("5 command line", &["demo", "cli", "main", "lib"]),
];

/// Modules with pure values: no clock, no socket, no runtime, no file.
const PURE: &[&str] = &[
    "types",
    "protocol",
    "config",
    "affinity/shard",
    "affinity/record",
];

/// Paths that these modules must not use.
const NOT_PURE: &[&str] = &[
    "tokio::",
    "std::net::Tcp",
    "Instant::now",
    "SystemTime::now",
    "std::fs",
    "std::env::",
];

/// Type names that no reader would understand without a glossary. `docs/architecture.md`, Words, has the names to use instead.
const UNCLEAR_NAMES: &[&str] = &[
    "Door",
    "Doors",
    "Heir",
    "Teller",
    "Elders",
    "Estate",
    "Fate",
    "Vault",
    "Whereabouts",
    "Meant",
    "Leads",
    "Oversight",
    "Hearing",
    "Verdict",
    "Told",
    "Keeper",
    "Judge",
    "News",
    "Recall",
    "Alarm",
    "Fault",
    "Refusal",
    "Answer",
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

/// One source file.
struct Source {
    /// Below `src`, as `proxy/session.rs`.
    file: String,
    /// As `["proxy", "session"]`.
    module: Vec<String>,
    text: String,
}

impl Source {
    /// The folder below `src`.
    fn folder(&self) -> &str {
        self.module.first().map_or("lib", String::as_str)
    }

    fn is_test(&self) -> bool {
        let last = self.module.last().map_or("", String::as_str);
        self.module.iter().any(|part| part == "tests") || last.ends_with("_tests")
    }

    /// Without comments and without tests at the end of the file.
    fn code(&self) -> String {
        let text = self.text.split("#[cfg(test)]\nmod ").next().unwrap();
        let lines = text.lines().map(|line| line.split("//").next().unwrap());
        lines.collect::<Vec<_>>().join("\n")
    }
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let source = |path: PathBuf| {
        let file = path.strip_prefix(&src).unwrap();
        let file = file.to_string_lossy().into_owned();
        let module = file.trim_end_matches(".rs").trim_end_matches("/mod");
        Source {
            module: module.split('/').map(ToOwned::to_owned).collect(),
            text: std::fs::read_to_string(path).unwrap(),
            file,
        }
    };
    files(&src, ".rs").into_iter().map(source).collect()
}

fn rank() -> BTreeMap<&'static str, usize> {
    let folders = LAYERS.iter().flat_map(|(_, folders)| *folders);
    folders
        .enumerate()
        .map(|(rank, folder)| (*folder, rank))
        .collect()
}

/// Every path that starts at the crate, at the module itself or above it, as an absolute module path. Braces are expanded.
fn imports(source: &Source) -> BTreeSet<Vec<String>> {
    let code = source.code();
    let mut found = BTreeSet::new();
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(start) {
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || "_:".contains(c)) {
                continue;
            }
            for path in expand(&code[at..]) {
                let mut module = match path[0].as_str() {
                    "crate" => Vec::new(),
                    _ => source.module.clone(),
                };
                for part in path.iter().skip(usize::from(path[0] != "super")) {
                    if part == "super" {
                        module.pop();
                    } else {
                        module.push(part.clone());
                    }
                }
                found.insert(module);
            }
        }
    }
    found
}

/// The paths in a `use` tree: `a::{b, c::d}` has two.
fn expand(text: &str) -> Vec<Vec<String>> {
    let mut path = Vec::new();
    let mut rest = text;
    loop {
        let end = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        if end > 0 {
            path.push(rest[..end].to_owned());
        }
        rest = &rest[end..];
        let Some(after) = rest.strip_prefix("::") else {
            return vec![path];
        };
        rest = after;
        if let Some(inside) = rest.strip_prefix('{') {
            let mut paths = vec![path.clone()];
            for part in parts(inside) {
                for more in expand(part.trim()) {
                    paths.push(path.iter().cloned().chain(more).collect());
                }
            }
            return paths;
        }
    }
}

/// The parts between commas, up to the closing brace.
fn parts(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                found.push(&text[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}

#[test]
fn every_folder_is_in_a_layer_and_every_listed_folder_exists() {
    let known: BTreeSet<&str> = rank().keys().copied().collect();
    let sources = sources();
    let found: BTreeSet<&str> = sources.iter().map(Source::folder).collect();
    assert_eq!(found, known);
}

/// The page's table has a row for each layer, with these folders in this order.
#[test]
fn the_architecture_page_has_the_same_layers() {
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
        .map(|(layer, folders)| (*layer, folders.to_vec()))
        .collect();
    assert_eq!(drawn, known);
}

#[test]
fn imports_point_downward_only() {
    let rank = rank();
    let mut wrong = Vec::new();
    for source in sources() {
        for import in imports(&source) {
            let Some(folder) = import.first().map(String::as_str) else {
                continue;
            };
            let Some(&below) = rank.get(folder) else {
                continue;
            };
            if folder != source.folder() && below > rank[source.folder()] {
                wrong.push(format!("{} imports {}", source.file, import.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A file and the files of the modules that it declares are one unit, so those may import each other.
/// All other import cycles are rejected, also those through several files.
#[test]
fn no_two_files_import_each_other() {
    let sources: Vec<Source> = sources()
        .into_iter()
        .filter(|source| !source.is_test())
        .collect();
    let by_module: BTreeMap<&[String], usize> = sources
        .iter()
        .enumerate()
        .map(|(at, source)| (source.module.as_slice(), at))
        .collect();
    let file_of = |path: &[String]| {
        (1..=path.len())
            .rev()
            .find_map(|n| by_module.get(&path[..n]))
    };
    let is_unit =
        |a: &Source, b: &Source| a.module.starts_with(&b.module) || b.module.starts_with(&a.module);
    let edges: Vec<Vec<usize>> = sources
        .iter()
        .map(|source| {
            let files = imports(source);
            let files = files.iter().filter_map(|import| file_of(import).copied());
            let files: BTreeSet<usize> =
                files.filter(|&to| !is_unit(source, &sources[to])).collect();
            files.into_iter().collect()
        })
        .collect();
    let mut wrong = Vec::new();
    for from in 0..sources.len() {
        let (mut open, mut seen) = (edges[from].clone(), BTreeSet::new());
        while let Some(next) = open.pop() {
            if seen.insert(next) {
                open.extend(&edges[next]);
            }
        }
        if seen.contains(&from) {
            let direct = edges[from].iter().map(|&to| sources[to].file.as_str());
            let direct: Vec<&str> = direct.collect();
            wrong.push(format!("{} imports {direct:?}", sources[from].file));
        }
    }
    assert!(wrong.is_empty(), "import cycle: {wrong:#?}");
}

#[test]
fn values_use_no_clock_socket_or_runtime() {
    let mut wrong = Vec::new();
    for source in sources() {
        let file = &source.file;
        let pure = PURE.iter().any(|module| {
            file.starts_with(&format!("{module}/")) || *file == format!("{module}.rs")
        });
        let test = source.is_test() || file.contains("properties");
        let code = source.code();
        for path in NOT_PURE
            .iter()
            .filter(|path| pure && !test && code.contains(**path))
        {
            wrong.push(format!("{file} uses {path}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_data_path_does_not_depend_on_lync() {
    let allowed = ["cli", "config", "demo", "main", "lib"];
    for source in sources() {
        let code = source.code();
        let imports = code.contains("lync::");
        assert!(
            allowed.contains(&source.folder()) || !imports,
            "{} imports lync",
            source.file
        );
    }
}

#[test]
fn only_splice_rs_calls_splice_and_pipe() {
    for source in sources() {
        assert!(
            source.file == "net/splice.rs" || !source.text.contains("rustix::pipe"),
            "{} uses rustix::pipe",
            source.file
        );
    }
}

/// The names of the types that a file defines.
fn types(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for line in source.code().lines() {
        let line = line.trim_start();
        let line = line.strip_prefix("pub").unwrap_or(line);
        let line = match line.strip_prefix('(') {
            Some(rest) => rest.split_once(')').map_or("", |(_, rest)| rest),
            None => line,
        };
        let line = line.trim_start();
        for keyword in ["struct ", "enum ", "trait "] {
            if let Some(rest) = line.strip_prefix(keyword) {
                let name: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
                found.push(name);
            }
        }
    }
    found
}

#[test]
fn every_type_name_is_clear_and_unique() {
    let mut by_name: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        for name in types(source) {
            by_name.entry(name).or_default().push(source.file.clone());
        }
    }
    let unclear: Vec<_> = UNCLEAR_NAMES
        .iter()
        .filter_map(|name| by_name.get(*name).map(|files| (name, files)))
        .collect();
    assert!(unclear.is_empty(), "{unclear:#?}");
    let twice: Vec<_> = by_name
        .iter()
        .filter(|(_, files)| files.len() > 1)
        .collect();
    assert!(twice.is_empty(), "{twice:#?}");
}

#[test]
fn every_module_begins_with_a_doc_comment() {
    for source in sources() {
        assert!(
            source.is_test()
                || source.file.ends_with("properties.rs")
                || source.text.starts_with("//!"),
            "{} does not begin with a module comment",
            source.file
        );
    }
}

#[test]
fn every_dependency_has_a_reason() {
    let text = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (mut listed, mut before) = (false, "");
    for line in text.lines() {
        if line.starts_with('[') {
            listed = line.ends_with("dependencies]");
        } else if listed && line.contains('=') {
            assert!(
                before.starts_with('#'),
                "no reason in the line above: {line}"
            );
        }
        before = line;
    }
}

#[test]
fn no_test_is_ignored_and_no_work_is_left_open() {
    // Joined here, so that this file does not contain them.
    let forbidden = ["#[ign", "TO", "FIX", "unimpl"]
        .into_iter()
        .zip(["ore]", "DO:", "ME:", "emented!"]);
    let forbidden: Vec<String> = forbidden.map(|(a, b)| format!("{a}{b}")).collect();
    for directory in ["src", "tests"] {
        for path in files(&root().join(directory), ".rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            for marker in &forbidden {
                assert!(
                    !text.contains(marker),
                    "{} contains {marker}",
                    path.display()
                );
            }
        }
    }
}
