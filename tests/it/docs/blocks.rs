//! The fenced code blocks of README.md and docs/. Each has a kind, and a test for that kind.
//!
//! Owns the syntax of a block's first line. Invariant: a block without a language, or with an unknown keyword,
//! fails; no block is skipped silently.
//!
//! | first line | test |
//! |---|---|
//! | `yaml` | `configuration.rs`: loads as a whole file |
//! | `yaml fragment` | `configuration.rs`: loads together with the required keys |
//! | `sh` | `commands.rs`: runs beside a running balancer |
//! | `sh stage=demo` | `demo.rs`: runs beside `lyncpin demo` |
//! | `sh serves` | `commands.rs`, `demo.rs`: one command, which runs until it is stopped |
//! | `sh not-run="why"` | `commands.rs`: only parsed |
//! | `json answer="PATH"` | `commands.rs`: equals the response of a running balancer, except for numbers |
//! | `text picture` | none, except for the picture in `life.rs` |
//! | `text log` | `log.rs`: has the fields of the log |
//! | `text said-in="FILE"` | `commands.rs`: a test in that file has the same text |

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use Kind::{Answer, Demo, Fragment, Log, NotRun, Picture, Run, Said, Serves, Whole};

/// The kind of a block, which selects its test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Whole,
    Fragment,
    Run,
    Demo,
    Serves,
    NotRun,
    Answer,
    Picture,
    Log,
    Said,
}

/// One fenced block.
#[derive(Debug)]
pub(super) struct Block {
    /// `docs/page.md:7`
    pub(super) location: String,
    pub(super) kind: Kind,
    /// The value of its keyword, such as the reason why it is not run; otherwise empty.
    pub(super) value: String,
    pub(super) text: String,
}

impl Block {
    /// The page that contains it.
    pub(super) fn page(&self) -> &str {
        self.location.split(':').next().unwrap()
    }
}

pub(super) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// README.md and every page under docs/: path from the root, and text.
pub(super) fn pages() -> Vec<(String, String)> {
    fn under(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                under(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    let mut found = vec![root().join("README.md")];
    under(&root().join("docs"), &mut found);
    found.sort();
    let page = |path: PathBuf| {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        (name, std::fs::read_to_string(path).unwrap())
    };
    found.into_iter().map(page).collect()
}

/// Every block of every page, in order.
pub(super) fn all() -> Vec<Block> {
    let blocks = pages()
        .into_iter()
        .flat_map(|(name, text)| blocks_of(&name, &text));
    blocks.collect()
}

/// The blocks of these kinds.
pub(super) fn of(kinds: &[Kind]) -> Vec<Block> {
    let mut blocks = all();
    blocks.retain(|block| kinds.contains(&block.kind));
    assert!(!blocks.is_empty(), "no block is of {kinds:?}");
    blocks
}

/// The text of a page outside of its blocks.
pub(super) fn prose(text: &str) -> String {
    let mut inside = false;
    let mut prose = String::new();
    for line in text.lines() {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        if !inside && !fence {
            prose += line;
        }
        prose.push('\n');
    }
    prose
}

/// The inline code of a page, by paragraph, so that a missing backtick is detected.
pub(super) fn spans(page: &str, text: &str) -> Vec<String> {
    let mut spans = Vec::new();
    for paragraph in prose(text).split("\n\n") {
        let parts: Vec<&str> = paragraph.split('`').collect();
        assert!(
            parts.len() % 2 == 1,
            "{page}: a backtick is missing\n{paragraph}"
        );
        let inside = parts.iter().skip(1).step_by(2);
        spans.extend(inside.map(|span| span.replace('\n', " ")));
    }
    spans
}

fn blocks_of(page: &str, text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        let location = format!("{page}:{number}");
        assert!(!line.trim_start().starts_with("~~~"), "{location}: use ```");
        let Some(info) = line.trim_start().strip_prefix("```") else {
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        let mut text = String::new();
        loop {
            let (line, _) = lines.next().unwrap_or_else(|| panic!("{location}: no end"));
            if line.trim() == "```" {
                break;
            }
            text += line.get(indent..).unwrap_or("");
            text.push('\n');
        }
        let (kind, value) = kind_of(info).unwrap_or_else(|why| panic!("{location}: {why}"));
        blocks.push(Block {
            location,
            kind,
            value,
            text,
        });
    }
    blocks
}

fn kind_of(info: &str) -> Result<(Kind, String), String> {
    let (language, rest) = info.split_once(' ').unwrap_or((info, ""));
    let (word, value) = match rest.split_once('=') {
        Some((word, value)) => (word, value.trim_matches('"')),
        None => (rest, ""),
    };
    let kind = match (language, word, value.is_empty()) {
        ("yaml", "", true) => Kind::Whole,
        ("yaml", "fragment", true) => Kind::Fragment,
        ("sh", "", true) => Kind::Run,
        ("sh", "stage", false) if value == "demo" => Kind::Demo,
        ("sh", "serves", true) => Kind::Serves,
        ("sh", "not-run", false) => Kind::NotRun,
        ("json", "answer", false) => Kind::Answer,
        ("text", "picture", true) => Kind::Picture,
        ("text", "log", true) => Kind::Log,
        ("text", "said-in", false) => Kind::Said,
        _ => return Err(format!("no test handles a block {info:?}; see {}", file!())),
    };
    Ok((kind, value.to_owned()))
}

/// The number of blocks of each kind on each page. Adding a block requires a change here, which shows the test for it.
#[rustfmt::skip]
const COUNTS: &[(&str, &[(Kind, usize)])] = &[
    ("README.md", &[(Whole, 1), (Serves, 2), (NotRun, 1), (Picture, 1)]),
    ("docs/api.md", &[(Run, 2), (Answer, 1)]),
    ("docs/architecture.md", &[(Picture, 1)]),
    ("docs/commands.md", &[(Run, 1), (Said, 1)]),
    ("docs/configuration.md", &[(Whole, 3)]),
    ("docs/decisions/0005-affinity-table.md", &[(NotRun, 1)]),
    ("docs/life-of-a-connection.md", &[(Picture, 1)]),
    ("docs/log.md", &[(Fragment, 1), (Log, 3)]),
    ("docs/lync-guide.md", &[(Whole, 2)]),
    ("docs/operations.md", &[(Fragment, 1), (Run, 10), (NotRun, 1)]),
    ("docs/performance.md", &[(NotRun, 3)]),
    ("docs/quick-start.md", &[(Whole, 1), (Fragment, 1), (Run, 6), (Demo, 1), (Serves, 2), (NotRun, 2)]),
];

#[test]
fn every_block_has_a_kind_and_is_counted() {
    let mut found: BTreeMap<String, BTreeMap<Kind, usize>> = BTreeMap::new();
    for block in all() {
        let page = found.entry(block.page().to_owned()).or_default();
        *page.entry(block.kind).or_default() += 1;
    }
    let mut known = BTreeMap::new();
    for (page, kinds) in COUNTS {
        known.insert((*page).to_owned(), kinds.iter().copied().collect());
    }
    for (page, kinds) in &found {
        let kinds: Vec<_> = kinds.iter().collect();
        println!("(\"{page}\", &{kinds:?}),");
    }
    assert_eq!(found, known);
}

#[test]
fn a_block_without_a_known_kind_is_an_error() {
    for info in [
        "",
        "yml",
        "sh not-run",
        "sh not-run=\"\"",
        "sh stage=moon",
        "text",
    ] {
        assert!(kind_of(info).is_err(), "{info}");
    }
    let (kind, why) = kind_of("sh not-run=\"it takes minutes\"").unwrap();
    assert_eq!((kind, why.as_str()), (Kind::NotRun, "it takes minutes"));
}
