//! The reference pages document exactly the items of the code. The modules test the code blocks of the pages.

mod blocks;
mod commands;
mod configuration;
mod demo;
mod life;
mod links;
mod log;
mod operations;
mod prometheus;
mod stage;

use std::collections::BTreeSet;

use lyncpin::admin::view::{
    AffinityChange, ChangedEverywhere, ClientPin, ClientPins, ErrorBody, Explanation, PinPage,
    PinResult, PinnedKey, PinsChanged, PredecessorResult, StateChange, StateChanged,
    WithPredecessors,
};
use lyncpin::admin::{Access, ENDPOINTS};
use lyncpin::config::model::Balance;
use lyncpin::telemetry::log::{access, event};
use lyncpin::telemetry::metrics::definitions;
use lyncpin::telemetry::metrics::process;
use lyncpin::types::backend_state::AdminState;
use lyncpin::types::outcome::Outcome;
use lyncpin::upstream::pool::PickedBy;
use serde_json::Value;

use crate::admin::fake::pins::pin;

fn page(name: &str) -> String {
    std::fs::read_to_string(format!("{}/docs/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The rows of the first table under a heading, without its header row.
fn table(page: &str, heading: &str) -> Vec<Vec<String>> {
    let mut lines = page.lines().skip_while(|line| *line != heading);
    assert!(lines.next().is_some(), "there is no heading {heading:?}");
    let section = lines.take_while(|line| !line.starts_with('#'));
    let table = section.skip_while(|line| !line.starts_with('|'));
    let rows = table.take_while(|line| line.starts_with('|')).skip(2);
    let cells = |row: &str| {
        let inner = row.trim_matches('|').replace("\\|", "\u{0}");
        let cells = inner
            .split('|')
            .map(|cell| cell.trim().replace('\u{0}', "|"));
        cells.collect::<Vec<_>>()
    };
    rows.map(cells).collect()
}

fn plain(cell: &str) -> String {
    cell.replace('`', "")
}

fn column(rows: &[Vec<String>], index: usize) -> Vec<String> {
    rows.iter().map(|row| plain(&row[index])).collect()
}

#[track_caller]
fn assert_same(
    documented: impl IntoIterator<Item = String>,
    known: impl IntoIterator<Item = String>,
) {
    let documented: Vec<String> = documented.into_iter().collect();
    let once: BTreeSet<String> = documented.iter().cloned().collect();
    assert_eq!(
        documented.len(),
        once.len(),
        "something is documented twice"
    );
    let known: BTreeSet<String> = known.into_iter().collect();
    let missing: Vec<_> = known.difference(&once).collect();
    let stale: Vec<_> = once.difference(&known).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "missing: {missing:#?}\nstale: {stale:#?}"
    );
}

#[test]
fn metrics_are_documented_with_kind_labels_and_meaning() {
    let page = page("metrics.md");
    let documented = table(&page, "## Series");
    let documented = documented.iter().map(|row| plain(&row.join(" | ")));
    let known = definitions::ALL.iter().map(|known| {
        let labels = if known.labels.is_empty() {
            "none".to_owned()
        } else {
            known.labels.join(", ")
        };
        plain(&[known.name, known.kind.as_str(), &labels, known.help].join(" | "))
    });
    assert_same(documented, known);

    let documented = table(&page, "## Series of the process");
    let documented = documented.iter().map(|row| plain(&row.join(" | ")));
    let known = process::DEFINITIONS.iter();
    let known =
        known.map(|known| plain(&[known.name, known.kind.as_str(), known.help].join(" | ")));
    assert_same(documented, known);
}

#[test]
fn every_label_of_a_metric_has_its_values_documented() {
    let rows = table(&page("metrics.md"), "## Values of labels");
    let documented = column(&rows, 0).join(", ");
    for label in definitions::ALL.iter().flat_map(|known| known.labels) {
        let named = documented.split([',', ' ']).any(|word| word == *label);
        assert!(named || *label == "version", "{label}");
    }
}

#[test]
fn outcomes_are_documented_with_party_phase_and_meaning() {
    let page = page("outcomes.md");
    let rows = table(&page, "# Outcomes");
    assert!(rows.iter().all(|row| row.len() == 5 && !row[4].is_empty()));
    let documented = rows.iter().map(|row| plain(&row[..4].join(" | ")));
    let known = Outcome::ALL.iter().map(|known| {
        plain(
            &[
                known.as_str(),
                known.by().as_str(),
                known.phase().as_str(),
                known.meaning(),
            ]
            .join(" | "),
        )
    });
    assert_same(documented, known);

    let refused = table(&page, "## Responses to rejected clients");
    let names = column(&refused, 0).join(", ");
    for name in names.split(", ") {
        assert!(
            Outcome::ALL.iter().any(|known| known.as_str() == name),
            "{name}"
        );
    }
}

#[test]
fn log_fields_are_documented_in_order() {
    let page = page("log.md");
    assert_eq!(column(&table(&page, "## Access lines"), 0), access::FIELDS);
    assert_eq!(column(&table(&page, "## Events"), 0), event::FIELDS);
    let example = page
        .lines()
        .find(|line| line.contains("target=access "))
        .unwrap();
    let keys: Vec<&str> = example
        .split(' ')
        .map(|word| word.split('=').next().unwrap())
        .collect();
    assert_eq!(keys, access::FIELDS);
}

#[test]
fn reasons_of_a_selection_are_documented() {
    let policies = [
        Balance::LeastConnections,
        Balance::RoundRobin,
        Balance::RandomTwo,
        Balance::SourceHash,
    ];
    let mut known: Vec<PickedBy> = policies.map(PickedBy::Policy).into();
    known.extend([
        PickedBy::Pin,
        PickedBy::Session,
        PickedBy::Backup,
        PickedBy::Redispatch,
    ]);
    let documented = column(&table(&page("log.md"), "## Why a backend was picked"), 0);
    assert_same(
        documented,
        known.iter().map(|pick| pick.as_str().to_owned()),
    );
}

#[test]
fn endpoints_are_documented() {
    let rows = table(&page("api.md"), "## Endpoints");
    let documented = rows.iter().map(|row| plain(&row[..3].join(" ")));
    let known = ENDPOINTS.iter().map(|known| {
        let access = match known.access {
            Access::Open => "open",
            Access::Guarded => "guarded",
        };
        [known.method, known.path, access].join(" ")
    });
    assert_same(documented, known);
}

/// The paths of all values in a JSON document that are neither objects nor lists.
fn paths(value: &Value, prefix: &str) -> Vec<String> {
    match value {
        Value::Object(fields) => {
            let path = |key: &str| {
                if prefix.is_empty() {
                    key.to_owned()
                } else {
                    format!("{prefix}.{key}")
                }
            };
            fields
                .iter()
                .flat_map(|(key, value)| paths(value, &path(key)))
                .collect()
        }
        Value::Array(list) => {
            assert!(!list.is_empty(), "the sample has an empty list in {prefix}");
            list.iter()
                .flat_map(|value| paths(value, &format!("{prefix}[]")))
                .collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            vec![prefix.to_owned()]
        }
    }
}

#[test]
fn json_fields_are_documented() {
    let page = page("api.md");
    let check = |heading: &str, sample: Value| {
        assert_same(column(&table(&page, heading), 0), paths(&sample, ""));
    };
    check(
        "### Status",
        serde_json::to_value(crate::admin::status()).unwrap(),
    );
    check(
        "### Events",
        serde_json::to_value(crate::admin::events()).unwrap(),
    );
    let explanation = Explanation {
        listener: String::new(),
        name: None,
        source: std::net::Ipv4Addr::LOCALHOST.into(),
        route: None,
        pool: None,
        backend: None,
        address: None,
        pick: None,
        refused: None,
        pin: Some(pin(2)),
        steps: vec![String::new()],
    };
    check(
        "### Explanation",
        serde_json::to_value(explanation).unwrap(),
    );
    let change = StateChange {
        state: AdminState::Drain,
        deadline: Some("15m".into()),
        force: Some(false),
    };
    check("### StateChange", serde_json::to_value(change).unwrap());
    let changed = StateChanged {
        pool: String::new(),
        backend: String::new(),
        before: AdminState::Ready,
        state: AdminState::Drain,
        deadline: None,
        connections: 0,
    };
    let everywhere = ChangedEverywhere {
        changed: vec![WithPredecessors {
            result: changed.clone(),
            predecessors: Vec::new(),
        }],
    };
    check("### Changed", serde_json::to_value(changed).unwrap());
    check(
        "### ChangedEverywhere",
        serde_json::to_value(everywhere).unwrap(),
    );
    let answer = PredecessorResult {
        pid: 0,
        answered: true,
        connections: 0,
        error: None,
    };
    check("### Older processes", serde_json::to_value(answer).unwrap());
    let reloaded = crate::admin::reloaded();
    check("### Reloaded", serde_json::to_value(reloaded).unwrap());
    let error = ErrorBody {
        error: String::new(),
    };
    check("### Error", serde_json::to_value(error).unwrap());
}

#[test]
fn json_fields_of_pins_are_documented() {
    let page = page("api.md");
    let check = |heading: &str, samples: &[Value]| {
        let known = samples.iter().flat_map(|sample| paths(sample, ""));
        assert_same(column(&table(&page, heading), 0), known);
    };
    let pins = PinPage {
        entries: vec![pin(2)],
        cursor: None,
    };
    check("### PinPage", &[serde_json::to_value(&pins).unwrap()]);
    let client = ClientPins {
        client: std::net::Ipv4Addr::LOCALHOST.into(),
        name: None,
        pins: vec![ClientPin {
            pin: pin(2),
            sessions: 0,
        }],
    };
    check("### ClientPins", &[serde_json::to_value(&client).unwrap()]);
    let some = || Some("x".to_owned());
    let pin = AffinityChange::Pin {
        group: some(),
        client: some(),
        name: some(),
        backend: String::new(),
    };
    let moving = AffinityChange::Move {
        group: some(),
        client: some(),
        name: some(),
        pool: some(),
        backend: some(),
        to: String::new(),
    };
    check(
        "### AffinityChange",
        &[
            serde_json::to_value(&pin).unwrap(),
            serde_json::to_value(&moving).unwrap(),
        ],
    );
    let pinned = PinResult {
        group: String::new(),
        backend: String::new(),
        pins: vec![PinnedKey {
            client: None,
            name: None,
            before: None,
        }],
    };
    check("### Pinned", &[serde_json::to_value(&pinned).unwrap()]);
    check(
        "### Touched",
        &[serde_json::to_value(PinsChanged::default()).unwrap()],
    );
}

#[test]
fn commands_and_their_options_are_documented() {
    let page = page("commands.md");
    let unbuilt: Vec<String> = column(&table(&page, "## Not built yet"), 0);
    let sections = page
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .filter(|title| title.starts_with("lyncpin "));
    let documented = sections.map(str::to_owned).chain(unbuilt.clone());
    let commands = lyncpin::cli::commands();
    assert_same(
        documented,
        commands.iter().map(|(name, _)| format!("lyncpin {name}")),
    );
    for (name, options) in commands {
        let title = format!("lyncpin {name}");
        if unbuilt.contains(&title) {
            continue;
        }
        let documented = column(&table(&page, &format!("## {title}")), 0);
        assert_same(documented, options);
    }
}
