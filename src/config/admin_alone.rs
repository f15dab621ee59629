//! What a file says of the admin listener, whatever is wrong with the rest of it.
//!
//! Owns how the section is found in a file that is no YAML as a whole, be it written in lines or in braces. Invariant: what comes out is what the whole file
//! would say once the rest is sound, or a fault.

use super::diagnostics::{ConfigErrors, Note, Notes, SourceFile};
use super::model::AdminSettings;
use super::{resolve, tree, walk};

/// The key that a section of the admin listener stands under.
const KEY: &str = "admin";

/// Reads `admin` out of the bytes of a file; what else is wrong there does not matter. Without such a section, the
/// defaults hold.
///
/// # Errors
///
/// The faults of the section; where the file is no YAML and the section cannot be told from the rest, what is wrong there.
pub fn read_admin(bytes: &[u8], file: &str) -> Result<AdminSettings, ConfigErrors> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let source = SourceFile {
        file: file.into(),
        text: text.into(),
    };
    let faulty = |notes: Vec<Note>| ConfigErrors::new(notes, &source);
    if bytes.contains(&0) {
        // Such a file may be UTF-16, in which no key is found.
        return super::read_bytes(bytes, file).map(|loaded| loaded.config.admin);
    }
    let root = match tree::parse(text) {
        Ok(root) => Some(root),
        Err(note) => match alone(text) {
            Alone::Section(section) => Some(tree::parse(&section).map_err(|_| faulty(vec![note]))?),
            Alone::Nothing => None,
            Alone::Unclear => return Err(faulty(vec![note])),
        },
    };
    let mut notes = Notes::default();
    let root = root.unwrap_or(tree::Node {
        at: super::diagnostics::FileLocation::START,
        kind: tree::NodeKind::Null,
    });
    let written = walk::walk_admin(&root, &mut notes);
    let admin = resolve::admin::resolve(&written, &mut notes);
    if notes.faults.is_empty() {
        Ok(admin)
    } else {
        Err(faulty(notes.faults))
    }
}

/// What of a file that is no YAML is the section.
#[derive(Debug, PartialEq, Eq)]
enum Alone {
    /// These lines, at their places.
    Section(String),
    /// The file does not speak of it.
    Nothing,
    /// It does, and not as a section of its own.
    Unclear,
}

/// The section of a file whose root is a mapping in lines or in braces.
fn alone(text: &str) -> Alone {
    let first = text
        .lines()
        .map(str::trim_start)
        .find(|line| is_content(line));
    match first {
        Some(line) if line.starts_with('{') => in_braces(text),
        Some(_) | None => in_lines(text),
    }
}

/// Whether a line, without its indentation, is one of a mapping.
fn is_content(line: &str) -> bool {
    !line.is_empty() && !line.starts_with(['#', '%']) && !line.starts_with("---")
}

/// The lines from a key at the margin to the next one, after as many empty lines as stand before it. The margin is where
/// the first key of the file is.
fn in_lines(text: &str) -> Alone {
    let is_first = |line: &&str| is_content(line.trim_start());
    let first = text.lines().find(is_first).unwrap_or_default();
    let margin = &first[..first.len() - first.trim_start_matches(' ').len()];
    let mut section = String::new();
    let (mut inside, mut found) = (false, 0);
    for line in text.lines() {
        // A line that is further to the left belongs to no key of the root.
        let rest = line.strip_prefix(margin).unwrap_or(line.trim_start());
        let is_margin = !rest.is_empty() && !rest.starts_with([' ', '\t', '#', '\r', '}', ']']);
        if is_margin {
            inside = is_key(rest);
            found += usize::from(inside);
        }
        if inside {
            section.push_str(line);
        }
        section.push('\n');
    }
    let speaks = || text.lines().any(mentions);
    match found {
        1 => Alone::Section(section),
        0 if !speaks() => Alone::Nothing,
        _ => Alone::Unclear,
    }
}

/// The key and its value in a mapping in braces, at their places: what comes before is blank.
fn in_braces(text: &str) -> Alone {
    let mut braces = Braces::default();
    let (mut section, mut found) = (String::new(), 0);
    let mut inside = false;
    for (at, c) in text.char_indices() {
        let begins = braces.is_at_key();
        let (depth, is_outside) = (braces.depth, braces.is_outside());
        braces.take(c);
        let ends = is_outside && depth == 1 && matches!(c, ',' | '}');
        if ends {
            inside = false;
        } else if begins && is_key(&text[at..]) {
            found += 1;
            inside = true;
        }
        match c {
            _ if inside => section.push(c),
            '\n' => section.push(c),
            // The mapping that holds the section, where it begins and where it ends.
            '{' if depth == 0 && section.trim().is_empty() => section.push('{'),
            _ if found == 0 => section.push(' '),
            _ => {}
        }
    }
    match found {
        1 => Alone::Section(format!("{section}}}")),
        0 if !text.lines().any(mentions) => Alone::Nothing,
        _ => Alone::Unclear,
    }
}

/// Where a reader is in a mapping in braces.
#[derive(Debug, Default)]
struct Braces {
    /// Braces and brackets that are open.
    depth: usize,
    quote: Option<char>,
    is_escaped: bool,
    is_comment: bool,
    /// Only spaces have come since the last `{` or `,` of the root.
    awaits_key: bool,
    /// The last character, for `#` begins a comment behind a space alone, and a quote a text behind a mark.
    last: char,
}

impl Braces {
    fn is_outside(&self) -> bool {
        self.quote.is_none() && !self.is_comment
    }

    fn is_at_key(&self) -> bool {
        self.is_outside() && self.depth == 1 && self.awaits_key
    }

    fn take(&mut self, c: char) {
        let last = std::mem::replace(&mut self.last, c);
        if self.is_comment {
            self.is_comment = c != '\n';
            return;
        }
        if let Some(quote) = self.quote {
            if self.is_escaped {
                self.is_escaped = false;
            } else if c == quote {
                self.quote = None;
            } else {
                self.is_escaped = quote == '"' && c == '\\';
            }
            return;
        }
        let is_behind_mark = last.is_whitespace() || matches!(last, '{' | '[' | ',' | ':' | '\0');
        match c {
            '#' if is_behind_mark => self.is_comment = true,
            '"' | '\'' if is_behind_mark => self.quote = Some(c),
            '{' | '[' => self.depth += 1,
            '}' | ']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.awaits_key = match c {
            '{' | ',' => self.depth == 1,
            _ => self.awaits_key && (c.is_whitespace() || c == '#'),
        };
    }
}

/// Whether a line at the margin begins the section.
fn is_key(line: &str) -> bool {
    let after = line
        .strip_prefix(KEY)
        .or_else(|| line.strip_prefix(&format!("\"{KEY}\"")))
        .or_else(|| line.strip_prefix(&format!("'{KEY}'")));
    after.is_some_and(|after| after.trim_start().starts_with(':'))
}

/// Whether a line says the key's word outside of a comment.
fn mentions(line: &str) -> bool {
    !line.trim_start().starts_with('#') && line.contains(KEY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::AdminBind;

    #[track_caller]
    fn bind(text: &str, expected: &str) {
        let admin =
            read_admin(text.as_bytes(), "f.yaml").unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(admin.bind.to_string(), expected, "{text}");
    }

    #[test]
    fn mistakes_elsewhere_do_not_matter() {
        for wrong in [
            "pools: 1\n",
            "frobnicate: yes\nlisteners: []\n",
            "listeners: { a: { bind: [\"nowhere\"], protocol: ftp } }\n",
            "pools: { a: 1 }\npools: { a: 2 }\n",
            "pools:\n\tweb: {}\n",
            "pools: [\n",
            "listeners: { a: { bind: [[::]:443] } }\n",
            "names: *.contoso.com\n",
            "a: b: c\n",
            "a: \"open\n",
            "lync:\n  sip_domains: [contoso.com\n  front_ends: [fe01]\n",
        ] {
            let section = "admin:\n  # where\n  bind: 127.0.0.2:9901\n\n  metrics_bind: null\n";
            bind(&format!("{wrong}{section}"), "127.0.0.2:9901");
            bind(&format!("{section}{wrong}"), "127.0.0.2:9901");
            let line = "admin: { bind: \"unix:/run/l.sock\" }\n";
            bind(&format!("# admin\n{wrong}{line}"), "unix:/run/l.sock");
            bind(&format!("{line}{wrong}"), "unix:/run/l.sock");
            bind(wrong, "127.0.0.1:9900");
        }
        bind("", "127.0.0.1:9900");
        let not_utf8 = [&b"pools: \xff\n"[..], b"admin: { bind: 127.0.0.2:9901 }\n"].concat();
        assert!(matches!(
            read_admin(&not_utf8, "f").unwrap().bind,
            AdminBind::Tcp(address) if address.port() == 9901
        ));
    }

    #[test]
    fn the_root_may_be_indented_or_in_braces() {
        for wrong in [
            "pools: [",
            "pools:\n    - a: b: c",
            "names: *.contoso.com",
            "a: \"open",
        ] {
            let wrong = wrong.replace('\n', "\n  ");
            let section = "  admin:\n    bind: 127.0.0.2:9901\n";
            bind(&format!("{section}  {wrong}\n"), "127.0.0.2:9901");
            bind(&format!("# admin\n  {wrong}\n{section}"), "127.0.0.2:9901");
            bind(&format!("---\n  {wrong}\n"), "127.0.0.1:9900");
        }
        let json =
            r#"{"admin": {"bind": "127.0.0.2:9901", "hosts": ["a", "b"]}, "pools": {"web": [}"#;
        bind(json, "127.0.0.2:9901");
        for wrong in [
            "pools: {web: a: b}",
            "names: [*.contoso.com]",
            "x: [[::]:443]",
        ] {
            let section = "admin: { bind: \"127.0.0.2:9901\" } # }\n";
            bind(&format!("{{ {wrong}, {section} }}\n"), "127.0.0.2:9901");
            bind(
                &format!("# admin\n{{\n  {section}, {wrong}\n}}\n"),
                "127.0.0.2:9901",
            );
            let elsewhere = "log: { format: \"admin: {\" }";
            bind(
                &format!("{{ {elsewhere}, {wrong}, 'admin': {{bind: \"127.0.0.2:9901\"}}"),
                "127.0.0.2:9901",
            );
            bind(&format!("{{ {wrong} }}"), "127.0.0.1:9900");
        }
        let text = "{ x: *.a,\n  admin: { bind: nowhere } }\n";
        let faults = read_admin(text.as_bytes(), "f.yaml")
            .unwrap_err()
            .to_string();
        assert!(faults.starts_with("f.yaml:2:18: "), "{faults}");
    }

    #[test]
    fn mistakes_in_the_section_are_faults_at_their_places() {
        for (text, place) in [
            ("pools: 1\nadmin: { bind: nowhere }\n", "f.yaml:2:16"),
            ("pools: [\nadmin:\n  bnd: 127.0.0.1:1\n", "f.yaml:3:3"),
            ("admin: { bind: 0.0.0.0:9900 }\n", "f.yaml:1:16"),
            ("admin: {}\nadmin: {}\n", "f.yaml:2:1"),
            ("admin: 1\n", "f.yaml:1:8"),
            ("{ pools: [, admin: { bind: 127.0.0.2:1 } }\n", "f.yaml:"),
            ("pools: [\nadmin: { bind: [\n", "f.yaml:"),
        ] {
            let faults = read_admin(text.as_bytes(), "f.yaml").unwrap_err();
            assert!(faults.to_string().starts_with(place), "{text}: {faults}");
        }
        let utf16: Vec<u8> = "admin: {}"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        assert!(read_admin(&[&[0xff, 0xfe][..], &utf16].concat(), "f").is_err());
    }
}
