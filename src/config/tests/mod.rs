//! Whole files: how long a bad one takes, and `admin` in a file that is otherwise invalid.

mod admin;

use std::time::{Duration, Instant};

use super::*;

/// Combining every error with its line took minutes for such files.
#[test]
fn a_file_with_tens_of_thousands_of_errors_is_rejected_within_seconds() {
    let entries = |between: &str| -> String {
        let pools = (0..20_000).map(|number| format!("p{number}: {{x: 1}}"));
        pools.collect::<Vec<_>>().join(between)
    };
    let lines = format!("pools:\n  {}\n", entries("\n  "));
    let one_line = format!("pools: {{{}}}\n", entries(", "));
    let keys = |letter: &str| -> String {
        (0..30_000)
            .map(|n| format!("{letter}{n}: 1, "))
            .collect::<String>()
    };
    let merged = format!("m: &m {{{}}}\nn: {{<<: *m, {}}}\n", keys("k"), keys("l"));
    let started = Instant::now();
    for text in [&lines, &one_line, &merged] {
        let errors = read(text, "f.yaml").unwrap_err();
        assert!(errors.iter().count() <= ConfigErrors::MAX);
    }
    let elapsed = started.elapsed();
    assert!(elapsed < Duration::from_secs(40), "{elapsed:?}");
}
