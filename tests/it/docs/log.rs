//! Log lines on the pages have the fields of the log.

use std::collections::BTreeSet;

use lyncpin::telemetry::log::fields::{ACCESS_NUMBERS, EVENT_FIELDS};
use lyncpin::telemetry::log::{access, event};

use super::blocks::{Kind, of, root};
use super::{column, page, table};

/// The keys of a line of text; a quoted value can contain spaces.
fn keys(line: &str) -> Vec<&str> {
    let unquoted = line.split('"').step_by(2);
    let parts = unquoted.flat_map(str::split_whitespace);
    parts
        .filter_map(|part| Some(part.split_once('=')?.0))
        .collect()
}

#[test]
fn a_line_on_a_page_has_the_fields_of_the_log() {
    for block in of(&[Kind::Log]) {
        for line in block.text.lines() {
            let keys = keys(line);
            if line.contains(" target=access ") {
                assert_eq!(keys, access::FIELDS, "{}", block.location);
            } else {
                let begins = keys.get(..event::FIELDS.len());
                assert_eq!(begins, Some(event::FIELDS), "{}", block.location);
            }
        }
    }
}

#[test]
fn the_page_has_the_types_of_all_fields() {
    let rows = table(&page("log.md"), "### Fields of events");
    let known = |location: usize| -> Vec<String> {
        let of = |(name, kind): &(&str, lyncpin::telemetry::log::fields::FieldType)| {
            [(*name).to_owned(), kind.as_str().to_owned()][location].clone()
        };
        EVENT_FIELDS.iter().map(of).collect()
    };
    assert_eq!(column(&rows, 0), known(0));
    assert_eq!(column(&rows, 1), known(1));
    for row in table(&page("log.md"), "## Access lines") {
        let name = row[0].trim_matches('`');
        let number = ACCESS_NUMBERS.contains(&name);
        assert_eq!(row[1], if number { "number" } else { "text" }, "{name}");
    }
}

/// The fields in the macro of an event: `key = value`, `%key`, `?key`, or `key` alone, before the message.
fn fields_of(arguments: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let (mut depth, mut quoted, mut argument) = (0, false, String::new());
    let mut before = ' ';
    for character in arguments.chars().chain([',']) {
        match character {
            '"' if before != '\\' => quoted = !quoted,
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' | ']' | '}' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                let whole = std::mem::take(&mut argument);
                let whole = whole.trim();
                if whole.starts_with('"') || whole.is_empty() {
                    break;
                }
                let name = whole.split(['=', ':']).next().unwrap_or_default();
                fields.push(name.trim().trim_start_matches(['%', '?']).to_owned());
                before = character;
                continue;
            }
            _ => {}
        }
        argument.push(character);
        before = character;
    }
    fields.retain(|field| field != "target");
    fields
}

/// Every event in the code, as the arguments of its macro, except in tests.
fn events(folder: &std::path::Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            events(&path, found);
            continue;
        }
        let whole = std::fs::read_to_string(&path).unwrap();
        let code = whole.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for level in ["error!(", "warn!(", "info!(", "debug!("] {
            for (location, _) in code.match_indices(level) {
                let begins = code[..location].chars().next_back();
                if begins.is_some_and(|before| before.is_alphanumeric() || before == '_') {
                    continue;
                }
                let rest = &code[location + level.len()..];
                found.push((path.display().to_string(), inside(rest).to_owned()));
            }
        }
    }
}

/// The text before the closing parenthesis, ignoring parentheses within strings.
fn inside(text: &str) -> &str {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted && depth == 0 => return &text[..at],
            ')' if !quoted => depth -= 1,
            _ => {}
        }
    }
    panic!("a macro does not end: {text}");
}

#[test]
fn every_field_of_an_event_has_its_type() {
    let mut found = Vec::new();
    events(&root().join("src"), &mut found);
    assert!(found.len() > 60, "{}", found.len());
    let known: BTreeSet<&str> = EVENT_FIELDS.iter().map(|(name, _)| *name).collect();
    let mut used = BTreeSet::new();
    for (file, arguments) in &found {
        for field in fields_of(arguments) {
            assert!(
                known.contains(&*field),
                "{file}: {field:?} is not among EVENT_FIELDS of src/telemetry/log/fields.rs"
            );
            used.insert(field);
        }
    }
    let written: BTreeSet<&str> = used.iter().map(String::as_str).chain(["lost"]).collect();
    assert_eq!(written, known, "a field that no event has");
}
