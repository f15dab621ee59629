//! The configuration: from a YAML file to values that cannot be wrong.
//!
//! A file goes as written -> validated, and every fault is reported at once with its place. What comes out is
//! [`model::Config`]: references are resolved, durations are durations, names are names. Knows no socket and no
//! clock; reading the file itself is the caller's.
//!
//! The way of a file: `tree` (YAML, with places), `walk` (keys, types, bounds), the short form's expansion
//! (`lync::preset`), `resolve` (what can be wrong only in view of the whole), `lint`; and back, [`expand`].

mod admin_alone;
mod capacity;
pub(crate) mod defaults;
pub(crate) mod diagnostics;
mod excerpt;
#[cfg(test)]
mod generate;
mod keys;
mod lint;
mod list;
mod location;
pub mod model;
mod overlap;
pub(crate) mod preset;
mod render;
mod resolve;
mod scalar;
mod section;
mod tree;
mod typed;
mod walk;
pub(crate) mod written;

use std::sync::Arc;

use diagnostics::{FileLocation, Note, Notes, SourceFile};
use model::Config;

pub use admin_alone::read_admin;
pub use capacity::{Capacity, DESCRIPTORS_PER_CONNECTION, FEW_CONNECTIONS, Uses};
pub(crate) use diagnostics::did_you_mean;
pub use diagnostics::{ConfigError, ConfigErrors, Lint};
pub use keys::keys;
pub use lint::{DESCRIPTORS_RESERVED, lint};
pub use model::AdminAddress;
pub use render::expand;
pub use tree::MAX_FILE_BYTES;
pub use typed::{address, admin_address, admin_bind, deadline, network as network_hint};

/// A configuration that was read without a fault.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// What it hardly means, in the order of the file; see also [`lint()`].
    pub lints: Vec<Lint>,
    source: SourceFile,
    connections_at: FileLocation,
}

/// Reads a configuration out of the text of a file, whose name is only printed.
///
/// # Errors
///
/// Every fault of the file.
pub fn read(text: &str, file: &str) -> Result<Loaded, ConfigErrors> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let source = SourceFile {
        file: file.into(),
        text: text.into(),
    };
    let root = tree::parse(text).map_err(|note| ConfigErrors::new(vec![note], &source))?;
    let mut notes = Notes::default();
    let written = walk::walk(&root, &mut notes);
    let config = resolve::resolve(&written, &mut notes);
    if !notes.faults.is_empty() {
        return Err(ConfigErrors::looked_at(
            notes.faults,
            &source,
            look_at_source,
        ));
    }
    lint::find(&written, &config, &mut notes);
    Ok(Loaded {
        config,
        lints: diagnostics::lints(notes.lints, &source),
        connections_at: written.limits.at,
        source,
    })
}

/// Gives a note a hint that only the source shows: YAML took for a list or a mapping what was meant as one value.
fn look_at_source(note: &mut Note, line: &str) {
    let is_value = ["not a list", "not a mapping"]
        .iter()
        .any(|end| note.message.ends_with(end));
    let is_key = note.message.contains(" has no key ") || note.message.ends_with("is no word");
    if is_key || is_value && note.hint.is_none() {
        let meant = scalar::advice::no_value(line, note.at.column - 1);
        note.hint = meant.or(note.hint.take());
    }
}

/// Reads a configuration out of the bytes of a file, which may not even be text.
///
/// # Errors
///
/// As [`read`]; a byte that is not UTF-8 is a fault at its place.
pub fn read_bytes(bytes: &[u8], file: &str) -> Result<Loaded, ConfigErrors> {
    if bytes.len() > MAX_FILE_BYTES {
        // Who reads within a bound has a piece of the file alone, which may end within a character.
        let source = SourceFile {
            file: file.into(),
            text: Arc::from(""),
        };
        return Err(ConfigErrors::new(vec![tree::too_large()], &source));
    }
    let error = match std::str::from_utf8(bytes) {
        Ok(text) => return read(text, file),
        Err(error) => error,
    };
    let file = file.into();
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        let note = Note::new(FileLocation::START, "the file is UTF-16").hint("save it as UTF-8");
        return Err(ConfigErrors::new(
            vec![note],
            &SourceFile {
                file,
                text: Arc::from(""),
            },
        ));
    }
    let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
    let last_line = before.rsplit(['\n', '\r']).next().unwrap_or_default();
    let line = before.replace("\r\n", "\n").matches(['\n', '\r']).count() + 1;
    let at = FileLocation {
        line,
        column: last_line.chars().count() + 1,
    };
    let note = Note::new(at, "this byte is not UTF-8").hint("save the file as UTF-8");
    let text = String::from_utf8_lossy(bytes).into();
    Err(ConfigErrors::new(vec![note], &SourceFile { file, text }))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Looking at each error's line took minutes where there are so many.
    #[test]
    fn a_file_with_tens_of_thousands_of_errors_is_judged_soon() {
        let entries = |between: &str| -> String {
            let pools = (0..20_000).map(|number| format!("p{number}: {{x: 1}}"));
            pools.collect::<Vec<_>>().join(between)
        };
        let lines = format!("pools:\n  {}\n", entries("\n  "));
        let one_line = format!("pools: {{{}}}\n", entries(", "));
        let merged = "m: &m {".to_owned()
            + &(0..30_000)
                .map(|n| format!("k{n}: 1, "))
                .collect::<String>()
            + "}\nn: {<<: *m, "
            + &(0..30_000)
                .map(|n| format!("l{n}: 1, "))
                .collect::<String>()
            + "}\n";
        let begun = Instant::now();
        for text in [&lines, &one_line, &merged] {
            let errors = read(text, "f.yaml").unwrap_err();
            assert!(errors.iter().count() <= ConfigErrors::MAX);
        }
        assert!(
            begun.elapsed() < Duration::from_secs(40),
            "{:?}",
            begun.elapsed()
        );
    }
}
