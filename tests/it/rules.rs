//! The rules for Prometheus query existing series, and their runbooks name existing sections of the operations page.

use std::collections::BTreeSet;

use lyncpin::telemetry::metrics::definitions::{self, SeriesKind};
use lyncpin::telemetry::metrics::process;

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The lines of a rules file without comments.
fn rules(name: &str) -> String {
    let text = read(&format!("deploy/prometheus/{name}.yaml"));
    let lines = text.lines().filter(|line| !line.trim().starts_with('#'));
    lines.map(|line| format!("{line}\n")).collect()
}

/// The values of all lines `key: value`.
fn values(text: &str, key: &str) -> Vec<String> {
    let key = format!("{key}: ");
    let lines = text
        .lines()
        .map(|line| line.trim().trim_start_matches("- "));
    let values = lines.filter_map(|line| line.strip_prefix(&key));
    values
        .map(|value| value.trim_matches('"').to_owned())
        .collect()
}

/// Every series that can be queried: those of the balancer, those of the process, and the parts of each histogram.
fn series() -> BTreeSet<String> {
    let own = definitions::ALL
        .iter()
        .map(|known| (known.name, known.kind));
    let process = process::DEFINITIONS
        .iter()
        .map(|known| (known.name, known.kind));
    own.chain(process)
        .flat_map(|(name, kind)| match kind {
            SeriesKind::Histogram(_) => ["_bucket", "_sum", "_count"]
                .map(|end| format!("{name}{end}"))
                .to_vec(),
            SeriesKind::Counter | SeriesKind::Gauge => vec![name.to_owned()],
        })
        .collect()
}

/// The names of series in an expression. Quoted text is the value of a label, so it is ignored.
fn queried(text: &str) -> BTreeSet<String> {
    let outside: String = text.split('"').step_by(2).collect();
    let words = outside.split(|c: char| !(c.is_alphanumeric() || "_:".contains(c)));
    let names = words.filter(|word| word.contains("lyncpin_") || word.contains("process_"));
    names.map(str::to_owned).collect()
}

#[test]
fn rules_query_only_existing_series() {
    let recording = rules("recording");
    let mut known = series();
    known.extend(values(&recording, "record"));
    let expressions = |text: &str| {
        let lines = text
            .lines()
            .filter(|line| !line.contains("summary: ") && !line.contains("runbook: "));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    let queried: BTreeSet<_> = [recording, rules("alerts")]
        .iter()
        .flat_map(|text| queried(&expressions(text)))
        .collect();
    assert!(queried.len() > 20, "{queried:?}");
    let unknown: Vec<_> = queried.difference(&known).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
}

#[test]
fn outcomes_in_rules_exist() {
    let known: Vec<_> = lyncpin::types::outcome::Outcome::ALL
        .iter()
        .map(|outcome| outcome.as_str())
        .collect();
    let text = rules("recording") + &rules("alerts");
    let lists: Vec<_> = text.split("outcome=~\"").skip(1).collect();
    assert!(lists.len() >= 3);
    for list in lists {
        for name in list.split('"').next().unwrap().split('|') {
            assert!(known.contains(&name), "{name}");
        }
    }
}

#[test]
fn every_alert_has_tests_and_a_section_of_the_operations_page() {
    let text = rules("alerts");
    let alerts = values(&text, "alert");
    assert!(alerts.len() > 15);
    let page = read("docs/operations.md");
    let headings: BTreeSet<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .filter(|heading| heading.starts_with("Lyncpin"))
        .collect();
    assert_eq!(headings, alerts.iter().map(String::as_str).collect());
    let runbooks = alerts.iter().map(|alert| {
        format!("/usr/share/doc/lyncpin/operations.md on the balancer, section {alert}")
    });
    assert_eq!(values(&text, "runbook"), runbooks.collect::<Vec<_>>());
    assert!(read("Cargo.toml").contains("[\"docs/*.md\", \"usr/share/doc/lyncpin/\", \"644\"]"));
    for page in ["README.md", "CHANGELOG.md", "docs/operations.md"] {
        let text = read(page).replace('\n', " ");
        for before in text
            .split(" alerts")
            .filter_map(|part| part.rsplit(' ').next())
        {
            let number = before.parse::<usize>();
            assert!(
                number.is_err() || number == Ok(alerts.len()),
                "{page}: {before} alerts"
            );
        }
    }
    let tests = read("tests/data/prometheus/alerts.yaml");
    let tested = tests.split("alertname: ").skip(1);
    let fired: BTreeSet<_> = tested
        .filter(|case| {
            case.lines()
                .nth(1)
                .is_some_and(|line| line.trim() == "exp_alerts:")
        })
        .map(|case| case.lines().next().unwrap())
        .collect();
    assert_eq!(fired, alerts.iter().map(String::as_str).collect());
}
