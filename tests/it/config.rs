//! Configuration files as operators write them, invalid and valid.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test may panic as the test may"
)]

use std::fmt::Write;
use std::path::{Path, PathBuf};

use lyncpin::config::{self, ConfigErrors, Loaded};
use proptest::prelude::*;

/// A folder of test files.
fn data(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/config")
        .join(folder)
}

/// The `*.yaml` files of a folder, in order.
fn files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(data(folder)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "yaml")
    });
    files.sort();
    files
}

fn load(path: &Path) -> Result<Loaded, ConfigErrors> {
    let name = path.file_name().unwrap().to_str().unwrap();
    config::read_bytes(&std::fs::read(path).unwrap(), name)
}

#[track_caller]
fn round_trips(loaded: &Loaded, of: &str) {
    let long_form = config::expand(&loaded.config);
    let again = match config::read(&long_form, "expanded") {
        Ok(again) => again,
        Err(errors) => panic!("{of}\n{errors}\n{long_form}"),
    };
    assert_eq!(again.config, loaded.config, "{of}\n{long_form}");
    assert_eq!(config::expand(&again.config), long_form, "{of}");
}

/// Compares the output with the `.expected` file of `path`; `UPDATE_EXPECTED=1` writes that file.
fn compare(path: &Path, printed: &str, failures: &mut String) {
    let expected_path = path.with_extension("expected");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&expected_path, printed).unwrap();
        return;
    }
    match std::fs::read_to_string(&expected_path) {
        Ok(expected) if expected == printed => {}
        Ok(expected) => {
            let _ = write!(
                failures,
                "\n{}: expected\n{expected}but found\n{printed}",
                path.display()
            );
        }
        Err(_) => {
            let _ = write!(failures, "\n{} is missing", expected_path.display());
        }
    }
}

#[test]
fn every_bad_file_is_rejected_with_the_expected_errors() {
    let mut failures = String::new();
    let mut kinds = std::collections::BTreeSet::new();
    for path in files("bad") {
        match load(&path) {
            Ok(_) => {
                let _ = write!(failures, "\n{} loads", path.display());
            }
            Err(errors) => {
                errors
                    .iter()
                    .for_each(|error| has_the_house_style(&error.message));
                kinds.extend(errors.iter().map(|error| kind_of(&error.message)));
                compare(&path, &format!("{errors}\n"), &mut failures);
            }
        }
    }
    assert!(failures.is_empty(), "{failures}");
    assert!(
        kinds.len() >= 45,
        "{} kinds of error: {kinds:#?}",
        kinds.len()
    );
}

/// Lower case, one line, no full stop.
#[track_caller]
fn has_the_house_style(message: &str) {
    let first = message.chars().next().unwrap();
    assert!(
        !first.is_uppercase() && !message.ends_with('.') && !message.contains('\n'),
        "{message}"
    );
}

/// A message without its quoted text, so that errors that differ only in quoted text are one kind.
fn kind_of(message: &str) -> String {
    message.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

#[test]
fn every_good_file_loads_and_is_unchanged_after_expand() {
    let mut failures = String::new();
    for path in files("good") {
        let name = path.display().to_string();
        let loaded = load(&path).unwrap_or_else(|errors| panic!("{name}\n{errors}"));
        round_trips(&loaded, &name);
        let lints: String = loaded
            .lints
            .iter()
            .map(|lint| format!("{lint}\n"))
            .collect();
        compare(
            &path,
            &format!("{lints}---\n{}", config::expand(&loaded.config)),
            &mut failures,
        );
    }
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn every_expected_file_belongs_to_a_yaml_file() {
    for folder in ["bad", "good"] {
        for entry in std::fs::read_dir(data(folder)).unwrap() {
            let path = entry.unwrap().path();
            let known = path
                .extension()
                .is_some_and(|end| end == "yaml" || end == "expected");
            assert!(known, "{}", path.display());
            assert!(path.with_extension("yaml").exists(), "{}", path.display());
        }
    }
}

/// A key without a parser would be accepted and ignored, so each key gets a value that is never valid.
#[test]
fn every_known_key_is_parsed() {
    for path in config::keys() {
        let mut text = String::new();
        let mut in_list = false;
        let parts: Vec<&str> = path.split('.').collect();
        for (depth, part) in parts.iter().enumerate() {
            let dash = if in_list { "- " } else { "" };
            let indent = "    ".repeat(depth);
            in_list = part.ends_with("[]");
            let _ = writeln!(text, "{indent}{dash}{}:", part.trim_end_matches("[]"));
        }
        let text = format!("{} [[nonsense]]\n", text.trim_end());
        let errors = config::read(&text, "f").unwrap_err();
        assert!(
            errors.iter().any(|error| error.line == parts.len()),
            "{path}\n{text}\n{errors}"
        );
        let unknown = errors
            .iter()
            .find(|error| error.message.contains("unknown key"));
        assert!(unknown.is_none(), "{path}\n{text}\n{errors}");
    }
}

#[test]
fn more_connections_than_descriptors_cause_a_warning() {
    let path = data("good").join("everything_else.yaml");
    let loaded = load(&path).unwrap();
    let enough = 2 * 1000 + config::DESCRIPTORS_RESERVED;
    assert_eq!(config::lint(&loaded, enough), loaded.lints);
    let lints = config::lint(&loaded, enough - 1);
    let expected = "everything_else.yaml:29:24: warning: 1000 connections need 2256 descriptors, but the process' \
                    limit is 2255\n  | limits: { connections: 1000, per_source: 10, new_per_source_per_second: 5 }\n  \
                    |                        ^ raise the limit (LimitNOFILE=, ulimit -n), or write `auto`";
    assert_eq!(lints.last().unwrap().to_string(), expected);
}

#[test]
fn a_low_descriptor_limit_causes_a_warning() {
    let loaded = load(&data("good").join("lync_minimal.yaml")).unwrap();
    assert_eq!(loaded.config.limits.connections, None);
    assert_eq!(config::lint(&loaded, 1024), loaded.lints);
    for descriptors in [0, 64, 300] {
        let lints = config::lint(&loaded, descriptors);
        let first = lints.first().unwrap().to_string();
        let expected = format!("the process' limit of {descriptors} descriptors allows only ");
        assert!(first.contains(&expected), "{first}");
        assert_eq!(lints.len(), loaded.lints.len() + 1);
    }
}

#[test]
fn the_number_of_listed_errors_is_limited() {
    let many: String = (0..5000).map(|n| format!("key{n}: 1\n")).collect();
    let errors = config::read(&many, "f").unwrap_err();
    assert_eq!(errors.iter().count(), ConfigErrors::MAX);
    assert!(errors.to_string().ends_with("and 4800 more"), "{errors}");
}

#[test]
fn a_large_configuration_loads() {
    let mut text = String::from("listeners:\n");
    for n in 0..200 {
        let _ = writeln!(
            text,
            "  l{n}:\n    bind: [\"192.0.2.1:{}\"]\n    protocol: tls\n    routes:",
            1000 + n
        );
        for m in 0..50 {
            let _ = writeln!(
                text,
                "      - {{ names: [n{m}.contoso.com, \"*.n{m}.contoso.com\"], pool: p{n} }}"
            );
        }
    }
    text += "pools:\n";
    for n in 0..200 {
        let _ = writeln!(text, "  p{n}:\n    backends: [\"192.0.2.{}:443\"]", n + 1);
    }
    let loaded = config::read(&text, "f").unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(loaded.config.listeners.len(), 200);
    assert_eq!(loaded.lints, []);
    round_trips(&loaded, "large");
}

fn supplied_file() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("balancer.yaml")).unwrap()
}

#[track_caller]
fn loads_without_a_warning(text: &str) -> Loaded {
    let loaded = config::read(text, "balancer.yaml").unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(
        loaded.lints,
        [],
        "{}",
        loaded
            .lints
            .iter()
            .map(ToString::to_string)
            .collect::<String>()
    );
    round_trips(&loaded, "balancer.yaml");
    loaded
}

#[test]
fn the_supplied_file_has_no_warning_as_it_is_and_with_all_lines_enabled() {
    let as_it_is = loads_without_a_warning(&supplied_file());
    let in_use: Vec<String> = supplied_file()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest)
                if rest.starts_with("  ") || rest.starts_with(|c: char| c.is_ascii_lowercase()) =>
            {
                rest.to_owned()
            }
            _ => line.to_owned(),
        })
        .collect();
    let in_use = in_use.join("\n");
    let all = loads_without_a_warning(&in_use);
    assert_eq!(
        all.config.listeners.len(),
        as_it_is.config.listeners.len() + 2
    );
    assert_eq!(all.config.timeouts, as_it_is.config.timeouts);
    assert_eq!(all.config.limits, as_it_is.config.limits);
    assert_eq!(all.config.admin, as_it_is.config.admin);
    assert_eq!(all.config.log, as_it_is.config.log);
}

#[test]
fn the_supplied_file_contains_every_key() {
    for path in config::keys() {
        let key = path.rsplit('.').next().unwrap_or_default();
        assert!(supplied_file().contains(&format!("{key}:")), "{path}");
    }
}

#[test]
fn every_key_is_documented_and_every_documented_key_exists() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    // A key is documented where it begins a row of a table.
    let rows = docs
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let documented: std::collections::BTreeSet<String> = rows.map(str::to_owned).collect();
    let known: std::collections::BTreeSet<String> = config::keys().into_iter().collect();
    let missing: Vec<_> = known.difference(&documented).collect();
    let unknown: Vec<_> = documented.difference(&known).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "missing: {missing:?}, unknown: {unknown:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_text_is_accepted_or_rejected_and_printed(text in any::<String>(), bytes in any::<Vec<u8>>()) {
        read_and_print(text.as_bytes());
        read_and_print(&bytes);
    }

    /// Nearly valid files reach more code than garbage.
    #[test]
    fn any_damaged_file_is_accepted_or_rejected_and_printed(
        which in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), "[\\PC\n\t]{0,3}", 0..6_usize), 1..5),
    ) {
        let good = files("good");
        let mut text: Vec<char> = std::fs::read_to_string(which.get(&good)).unwrap().chars().collect();
        for (at, inserted, removed) in damage {
            let at = at.index(text.len());
            let end = (at + removed).min(text.len());
            text.splice(at..end, inserted.chars());
        }
        read_and_print(text.into_iter().collect::<String>().as_bytes());
    }
}

fn read_and_print(bytes: &[u8]) {
    match config::read_bytes(bytes, "f") {
        Ok(loaded) => {
            let lints = config::lint(&loaded, 0);
            assert!(lints.iter().all(|lint| !lint.to_string().is_empty()));
            round_trips(&loaded, "damaged");
        }
        Err(errors) => {
            assert!(errors.iter().count() > 0);
            for error in &errors {
                assert!(error.line > 0 && error.column > 0, "{error}");
                let lines = error.to_string().lines().count();
                assert!((2..=3).contains(&lines), "{error}");
            }
        }
    }
}
