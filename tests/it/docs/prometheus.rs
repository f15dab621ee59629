//! The series on the pages exist, and the expressions are valid PromQL.

use std::fmt::Write as _;

use lyncpin::telemetry::metrics::{definitions, process};

use super::blocks::pages;
use super::{column, page, table};
use crate::support::programs::feed;

fn is_known(name: &str) -> bool {
    let known = definitions::ALL.iter().map(|known| known.name);
    let mut known = known.chain(process::DEFINITIONS.iter().map(|known| known.name));
    let of_histogram = ["_bucket", "_sum", "_count"];
    let bare = of_histogram.iter().find_map(|end| name.strip_suffix(end));
    known.any(|known| known == name || Some(known) == bare)
}

#[test]
fn every_series_on_a_page_exists() {
    let mut seen = 0;
    for (page, text) in pages() {
        // Names with colons are recording rules, which are tested with the rules.
        let names = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
        for name in
            names.filter(|name| name.starts_with("lyncpin_") || name.starts_with("process_"))
        {
            seen += 1;
            assert!(is_known(name), "{page}: there is no series {name}");
        }
    }
    assert!(seen > 50, "{seen} names");
}

#[test]
fn promtool_accepts_every_expression() {
    let questions = table(&page("metrics.md"), "## Questions and their expressions");
    let mut rules = String::from("groups:\n  - name: questions\n    rules:\n");
    for (expression, number) in column(&questions, 1).iter().zip(1..) {
        let quoted = expression.replace('\'', "''");
        let _ = writeln!(
            rules,
            "      - {{ record: 'question:{number}', expr: '{quoted}' }}"
        );
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rules.yml");
    std::fs::write(&file, &rules).unwrap();
    let path = file.to_str().unwrap();
    let output = feed("promtool", "prometheus", &["check", "rules", path], "");
    let counted = format!("{} rules found", questions.len());
    assert!(
        output.status.success() && output.has(&counted),
        "{output:?}\n{rules}"
    );
}
