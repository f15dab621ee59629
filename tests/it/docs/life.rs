//! The page on the life of a connection has the same stages as the code, in the same order.

use lyncpin::telemetry::metrics::definitions;
use lyncpin::types::outcome::{Outcome, Phase};

use super::blocks::{Kind, of, root};
use super::{column, page, plain, table};

/// The stages on the page, and the phase of the outcomes of each. All but the first are functions that `session::run` calls.
const STAGES: [(&str, Option<Phase>); 8] = [
    ("accept", Some(Phase::Accept)),
    ("read", Some(Phase::Hello)),
    ("route", Some(Phase::Route)),
    ("pick", Some(Phase::Pick)),
    ("connect", Some(Phase::Connect)),
    ("send", None),
    ("relay", Some(Phase::Relay)),
    ("close", None),
];

fn rows() -> Vec<Vec<String>> {
    table(&page("life-of-a-connection.md"), "## The stages")
}

fn names() -> Vec<&'static str> {
    STAGES.iter().map(|(name, _)| *name).collect()
}

/// The functions that `run` calls by their bare names, without methods and functions of other modules.
fn calls_of_run() -> Vec<String> {
    let code = std::fs::read_to_string(root().join("src/proxy/session.rs")).unwrap();
    let (_, body) = code.split_once("async fn run(").unwrap();
    let (body, _) = body.split_once("\n}\n").unwrap();
    let mut calls = Vec::new();
    for (at, _) in body.match_indices('(') {
        let before = &body[..at];
        let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
        let start = before.trim_end_matches(is_name).len();
        let is_bare = before[..start].ends_with([' ', '(']);
        if start < at && is_bare {
            calls.push(before[start..].to_owned());
        }
    }
    calls
}

#[test]
fn the_stages_are_the_lines_of_the_session() {
    let expected = &names()[1..];
    assert_eq!(calls_of_run(), expected);
    let page = page("life-of-a-connection.md");
    let listed = expected.iter().map(|name| format!("`{name}`"));
    let listed = listed.collect::<Vec<_>>().join(", ");
    assert!(page.replace('\n', " ").contains(&listed), "{listed}");
}

#[test]
fn the_table_and_the_picture_have_the_same_stages() {
    assert_eq!(column(&rows(), 0), names());
    let picture = of(&[Kind::Picture]);
    let picture = picture
        .iter()
        .find(|block| block.page() == "docs/life-of-a-connection.md")
        .unwrap();
    // The left margin has the kernel and then the stages.
    let margin = picture
        .text
        .lines()
        .filter_map(|line| line.strip_prefix(' '));
    let first = margin.filter_map(|line| line.split(' ').next());
    let drawn: Vec<&str> = first.filter(|word| !word.is_empty()).collect();
    assert_eq!(drawn[0], "kernel");
    assert_eq!(drawn[1..], names());
    for file in picture
        .text
        .split_whitespace()
        .filter(|file| file.ends_with(".rs"))
    {
        assert!(root().join("src").join(file).exists(), "there is no {file}");
    }
}

#[test]
fn each_stage_has_its_files_outcomes_and_series() {
    for (row, (name, phase)) in rows().iter().zip(STAGES) {
        for file in plain(&row[1]).split(", ") {
            assert!(root().join("src").join(file).exists(), "{name}: {file}");
        }
        let known = Outcome::ALL
            .iter()
            .filter(|known| Some(known.phase()) == phase);
        let known: Vec<&str> = known.map(|known| known.as_str()).collect();
        let plain_outcomes = plain(&row[4]);
        let outcomes: Vec<&str> = plain_outcomes
            .split(", ")
            .filter(|word| !word.is_empty())
            .collect();
        assert_eq!(outcomes, known, "{name}");
        // Each series after the first can be shortened to the end of its name.
        for series in row[5].split('`').skip(1).step_by(2) {
            let exists = definitions::ALL
                .iter()
                .any(|known| known.name.ends_with(series));
            assert!(exists, "{name}: {series}");
        }
    }
}
