//! The configuration: from a YAML file to values that cannot be wrong.
//!
//! A file is parsed, then validated; all errors are reported at once with their locations. The result is a
//! [`model::Config`]: references are resolved, durations are durations, names are names. Must not know sockets or clocks;
//! the caller reads the file.
//!
//! In the order of a file's way through them: `source` (YAML as a tree with locations), `schema` (the mappings of the
//! file: keys, types, defaults, ranges, and the short form), `validate` (references and conflicts), [`model`] (the
//! result), `lint` (warnings). [`expand()`] prints a configuration as a file again. `scalar` parses single values,
//! `diagnostics` prints errors.

mod arguments;
mod bind_overlap;
mod capacity;
pub(crate) mod diagnostics;
mod expand;
mod lint;
pub mod model;
mod scalar;
mod schema;
mod source;
mod suggestion;
mod validate;

use std::sync::Arc;

use diagnostics::{Diagnostic, Diagnostics, FileLocation, SourceFile};
use model::{AdminSettings, Config};
use source::{admin_section, tree};

pub use arguments::{address, admin_address, admin_bind, deadline, network as network_hint};
pub use capacity::{Capacity, DESCRIPTORS_PER_CONNECTION, DescriptorUses, FEW_CONNECTIONS};
pub(crate) use diagnostics::did_you_mean;
pub use diagnostics::{ConfigError, ConfigErrors, Lint};
pub use expand::expand;
pub use lint::{DESCRIPTORS_RESERVED, lint};
pub use model::AdminAddress;
pub use schema::keys;
pub use tree::MAX_FILE_BYTES;

/// A valid configuration with its warnings.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The warnings that the file alone shows, in its order; see also [`lint()`].
    pub lints: Vec<Lint>,
    source: SourceFile,
    connections_at: FileLocation,
}

/// Reads a configuration from the text of a file. The file's name is only printed.
///
/// # Errors
///
/// All errors of the file.
pub fn read(text: &str, file: &str) -> Result<Loaded, ConfigErrors> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let source = SourceFile {
        file: file.into(),
        text: text.into(),
    };
    let root = tree::parse(text).map_err(|error| ConfigErrors::new(vec![error], &source))?;
    let mut diagnostics = Diagnostics::default();
    let parsed = schema::parse(&root, &mut diagnostics);
    let config = validate::validate(&parsed, &mut diagnostics);
    if !diagnostics.errors.is_empty() {
        return Err(ConfigErrors::new(diagnostics.errors, &source));
    }
    lint::find(&parsed, &config, &mut diagnostics);
    Ok(Loaded {
        config,
        lints: diagnostics::lints(diagnostics.lints, &source),
        connections_at: parsed.limits.connections_at,
        source,
    })
}

/// Reads a configuration from the bytes of a file, which may not even be text.
///
/// # Errors
///
/// As [`read`]; a byte that is not UTF-8 is an error with its location.
pub fn read_bytes(bytes: &[u8], file: &str) -> Result<Loaded, ConfigErrors> {
    let without_text = |error| {
        let source = SourceFile {
            file: file.into(),
            text: Arc::from(""),
        };
        Err(ConfigErrors::new(vec![error], &source))
    };
    if bytes.len() > MAX_FILE_BYTES {
        // A caller that reads up to this limit has only a part of the file, which may end within a character.
        return without_text(tree::too_large());
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        let error = Diagnostic::new(FileLocation::START, "the file is encoded in UTF-16");
        return without_text(error.hint("save it as UTF-8"));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => read(text, file),
        Err(error) => {
            let at = location_after(&String::from_utf8_lossy(&bytes[..error.valid_up_to()]));
            let error = Diagnostic::new(at, "this byte is not valid UTF-8");
            let source = SourceFile {
                file: file.into(),
                text: String::from_utf8_lossy(bytes).into(),
            };
            let error = error.hint("save the file as UTF-8");
            Err(ConfigErrors::new(vec![error], &source))
        }
    }
}

/// The location of the character after a text.
fn location_after(text: &str) -> FileLocation {
    let last_line = text.rsplit(['\n', '\r']).next().unwrap_or_default();
    FileLocation {
        line: text.replace("\r\n", "\n").matches(['\n', '\r']).count() + 1,
        column: last_line.chars().count() + 1,
    }
}

/// Reads `admin` from the bytes of a file. Errors elsewhere in the file are ignored; without `admin`, the defaults apply.
///
/// # Errors
///
/// The errors of the section. If the file is not valid YAML and the section cannot be separated from the rest, the YAML
/// error.
pub fn read_admin(bytes: &[u8], file: &str) -> Result<AdminSettings, ConfigErrors> {
    if bytes.contains(&0) {
        // Such a file may be UTF-16, in which no key is found.
        return read_bytes(bytes, file).map(|loaded| loaded.config.admin);
    }
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let source = SourceFile {
        file: file.into(),
        text: text.into(),
    };
    let invalid = |errors: Vec<Diagnostic>| ConfigErrors::new(errors, &source);
    let root = admin_section::parse(text).map_err(|error| invalid(vec![error]))?;
    let mut diagnostics = Diagnostics::default();
    let parsed = schema::parse_admin(&root, &mut diagnostics);
    let admin = validate::admin::validate(&parsed, &mut diagnostics);
    if diagnostics.errors.is_empty() {
        Ok(admin)
    } else {
        Err(invalid(diagnostics.errors))
    }
}

#[cfg(test)]
mod tests;
