//! The tree of a file, and the errors of files that are not valid YAML.

use super::*;

fn scalar(text: &str, is: Inferred) -> NodeKind {
    NodeKind::Scalar(Scalar {
        text: text.to_owned(),
        is,
    })
}

fn value_of(text: &str) -> NodeKind {
    let NodeKind::Map(mut entries) = parse(text).unwrap().kind else {
        panic!("not a mapping")
    };
    entries.pop().unwrap().1.kind
}

fn error(text: &str) -> (usize, usize, String) {
    let diagnostic = parse(text).unwrap_err();
    (diagnostic.at.line, diagnostic.at.column, diagnostic.message)
}

#[test]
fn numbers_have_the_text_of_the_file() {
    assert_eq!(value_of("a: 0x10"), scalar("0x10", Inferred::Integer(16)));
    assert_eq!(value_of("a: 010"), scalar("010", Inferred::Text));
    assert_eq!(value_of("a: 1.50"), scalar("1.50", Inferred::Float));
    assert_eq!(value_of("a: \"5\""), scalar("5", Inferred::Text));
    assert_eq!(value_of("a: yes"), scalar("yes", Inferred::Text));
    assert_eq!(value_of("a: ~"), NodeKind::Null);
    assert_eq!(value_of("a:"), NodeKind::Null);
}

#[test]
fn locations_count_characters_and_lines_of_any_ending() {
    let NodeKind::Map(entries) = parse("a: 1\r\n\"é漢\": x\r\n").unwrap().kind else {
        panic!("not a mapping")
    };
    assert_eq!(entries[1].0.at, FileLocation { line: 2, column: 1 });
    assert_eq!(entries[1].1.at, FileLocation { line: 2, column: 7 });
}

#[test]
fn duplicate_keys_are_all_in_the_tree() {
    let NodeKind::Map(entries) = parse("a: 1\na: 2\n").unwrap().kind else {
        panic!("not a mapping")
    };
    assert_eq!(entries.len(), 2);
}

#[test]
fn aliases_repeat_and_own_keys_override_merged_ones() {
    let text = "x: &x {p: 1, q: 2}\ny:\n  <<: *x\n  p: 3\n";
    let NodeKind::Map(entries) = value_of(text) else {
        panic!("not a mapping")
    };
    let found: Vec<_> = entries
        .iter()
        .map(|(key, value)| (&key.kind, &value.kind))
        .collect();
    let (p, q) = (scalar("p", Inferred::Text), scalar("q", Inferred::Text));
    let (three, two) = (
        scalar("3", Inferred::Integer(3)),
        scalar("2", Inferred::Integer(2)),
    );
    assert_eq!(found, [(&p, &three), (&q, &two)]);
    assert_eq!(
        error("a:\n  <<: 5").2,
        "`<<` expects a mapping or a list of mappings"
    );
}

#[test]
fn an_empty_file_is_null() {
    for text in ["", "\n\n", "# nothing\n", "---\n"] {
        assert_eq!(parse(text).unwrap().kind, NodeKind::Null, "{text:?}");
    }
}

#[test]
fn limits_are_enforced() {
    assert_eq!(
        error(&"[".repeat(100_000)).2,
        "lists and mappings are nested deeper than 32 levels"
    );
    let deep = format!("{}{}", "[".repeat(33), "]".repeat(33));
    assert_eq!(
        error(&deep),
        (
            1,
            33,
            "lists and mappings are nested deeper than 32 levels".into()
        )
    );
    let block: String = (0..200).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    assert_eq!(
        error(&block).2,
        "lists and mappings are nested deeper than 32 levels"
    );

    let mut laugh = "a: &a [1,1,1,1,1,1,1,1,1,1]\n".to_owned();
    for (last, this) in "abcdefgh".chars().zip("bcdefghi".chars()) {
        laugh += &format!(
            "{this}: &{this} [{}]\n",
            vec![format!("*{last}"); 10].join(",")
        );
    }
    assert_eq!(
        error(&laugh).2,
        "the file has more than 200000 values, including aliases"
    );
    let many = "- 1\n".repeat(MAX_NODES);
    assert_eq!(
        error(&many).2,
        "the file has more than 200000 values, including aliases"
    );
    assert_eq!(
        error(&" ".repeat(MAX_FILE_BYTES + 1)).2,
        "the file is larger than 1 MiB"
    );
    assert_eq!(
        error("a: &a [*a]").2,
        "this alias is inside the value that it repeats"
    );
}

#[test]
fn an_error_in_the_yaml_has_a_location() {
    let found = error("a: 1\n---\nb: 2\n");
    assert_eq!(
        (found.0, found.2.as_str()),
        (3, "a second YAML document begins here")
    );
    assert_eq!(error("a: [1, 2\nb: 3\n").0, 2);
    assert_eq!(error("a:\n\tb: 1\n").0, 2);
    assert_eq!(error("a: \"x\nb: 2\n").0, 1);
}
