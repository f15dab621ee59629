//! Lines of the log that the pages show have the fields of the log.

use lyncpin::log::{access, event};

use super::blocks::{Kind, of};

/// The keys of a line of text; a value in quotes may hold spaces.
fn keys(line: &str) -> Vec<&str> {
    let unquoted = line.split('"').step_by(2);
    let words = unquoted.flat_map(str::split_whitespace);
    words
        .filter_map(|word| Some(word.split_once('=')?.0))
        .collect()
}

#[test]
fn a_line_that_is_shown_has_the_fields_of_the_log() {
    for block in of(&[Kind::Log]) {
        for line in block.text.lines() {
            let keys = keys(line);
            if line.contains(" target=access ") {
                assert_eq!(keys, access::FIELDS, "{}", block.place);
            } else {
                let begins = keys.get(..event::FIELDS.len());
                assert_eq!(begins, Some(event::FIELDS), "{}", block.place);
            }
        }
    }
}
