//! Where the admin listener is, out of a file that has errors elsewhere.
//!
//! Owns which lines of a file are looked at. Knows nothing of what is wrong with the others. Invariant: what comes out is
//! what the file would say of `admin` if all else were sound.

use super::model::Admin;
use super::{MAX_FILE_BYTES, read};

/// Sound, and nobody's.
const REST: &str = "\nlisteners: { l: { bind: [\"192.0.2.1:1\"], protocol: tcp, pool: p } }\n\
                    pools: { p: { backends: [\"192.0.2.2:1\"] } }\n";

/// The section `admin` of a file whose other sections may be wrong; its defaults where it is not there. `None` if it is
/// wrong itself.
#[must_use]
pub fn salvage_admin(bytes: &[u8]) -> Option<Admin> {
    let bytes = bytes.get(..MAX_FILE_BYTES).unwrap_or(bytes);
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let section = section(text);
    let loaded = read(&(section + REST), "").ok()?;
    Some(loaded.config.admin)
}

/// The lines from `admin:` up to the next that begins at the margin.
fn section(text: &str) -> String {
    let mut lines = text.lines().skip_while(|line| !opens(line));
    let Some(first) = lines.next() else {
        return String::new();
    };
    let more =
        lines.take_while(|line| line.is_empty() || line.starts_with([' ', '#', '}', ']', '\r']));
    std::iter::once(first)
        .chain(more)
        .collect::<Vec<&str>>()
        .join("\n")
}

fn opens(line: &str) -> bool {
    let rest = ["admin", "\"admin\"", "'admin'"]
        .iter()
        .find_map(|key| line.strip_prefix(key));
    rest.is_some_and(|rest| rest.trim_start().starts_with(':'))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[track_caller]
    fn check(text: &str, bind: Option<&str>, token: Option<&str>) {
        let admin = salvage_admin(text.as_bytes());
        assert_eq!(
            admin
                .as_ref()
                .map(|admin| admin.bind.to_string())
                .as_deref(),
            bind
        );
        let found = admin.and_then(|admin| admin.token_file);
        assert_eq!(found.as_deref(), token.map(Path::new));
    }

    #[test]
    fn errors_elsewhere_do_not_hide_the_admin_listener() {
        let (at, token) = (Some("127.0.0.1:9901"), Some("/run/token"));
        let inline = "admin: { bind: 127.0.0.1:9901, token_file: /run/token }\n";
        for text in [
            format!("listeners: [\n{inline}"),
            format!("{inline}\tpools: {{\n"),
            format!("a: &x 1\nb: *y\n{inline}pools: {{ p: {{ backends: [nowhere:0] }} }}\n"),
            "# first\n\"admin\":\n  # where\n  bind: 127.0.0.1:9901\n\n  token_file: /run/token\nlisteners: nothing\n".into(),
            format!("\u{feff}{inline}\u{0}"),
        ] {
            check(&text, at, token);
        }
        check("listeners: [", Some("127.0.0.1:9900"), None);
        check("admin: { bind: nowhere }\n", None, None);
    }
}
