//! The JSON type of each field of an event.
//!
//! Owns the list; `docs/log.md` is tested against it. Must not know events. Invariant: a field name has one JSON type, in
//! events and in access lines; a value of another type is converted or left out.

use std::fmt;

/// The JSON type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// A number.
    Number,
    /// `true` or `false`.
    Flag,
    /// An array of strings.
    List,
}

impl Kind {
    /// The name in `docs/log.md`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "number",
            Self::Flag => "true or false",
            Self::List => "list",
        }
    }
}

/// The fields of access lines that are not text.
pub const ACCESS_NUMBERS: &[&str] = &[
    "bytes_to_backend",
    "bytes_to_client",
    "hello_ms",
    "connect_ms",
    "duration_ms",
    "tries",
];

/// The fields that an event may have, besides the common ones, in alphabetical order.
pub const EVENT_FIELDS: &[(&str, Kind)] = &[
    ("action", Kind::Text),
    ("address", Kind::Text),
    ("addresses", Kind::List),
    ("allowed", Kind::Number),
    ("at", Kind::Text),
    ("backend", Kind::Text),
    ("before", Kind::Text),
    ("by", Kind::Text),
    ("cause", Kind::Text),
    ("check", Kind::Text),
    ("client", Kind::Text),
    ("connections", Kind::Number),
    ("descriptors", Kind::Number),
    ("detail", Kind::Text),
    ("drain_seconds", Kind::Number),
    ("drained", Kind::Number),
    ("error", Kind::Text),
    ("expired", Kind::Number),
    ("falls", Kind::Number),
    ("fault", Kind::Text),
    ("file", Kind::Text),
    ("from", Kind::Text),
    ("group", Kind::Text),
    ("left", Kind::Text),
    ("limit", Kind::Number),
    ("listener", Kind::Text),
    ("lost", Kind::Number),
    ("name", Kind::Text),
    ("no_room", Kind::Number),
    ("other_keys", Kind::Number),
    ("passed", Kind::Flag),
    ("pid", Kind::Number),
    ("pins", Kind::Number),
    ("pins_used", Kind::Number),
    ("pipes", Kind::Number),
    ("pool", Kind::Text),
    ("program", Kind::Text),
    ("seconds", Kind::Number),
    ("sessions", Kind::Number),
    ("set_aside", Kind::Text),
    ("state", Kind::Text),
    ("status", Kind::Number),
    ("to", Kind::Text),
    ("unknown", Kind::Number),
    ("why", Kind::Text),
    ("workers", Kind::Number),
];

/// The type of a field; `None` for a field that is not listed, such as one of a library.
pub(super) fn kind(name: &str) -> Option<Kind> {
    let index = EVENT_FIELDS
        .binary_search_by_key(&name, |(known, _)| known)
        .ok()?;
    Some(EVENT_FIELDS[index].1)
}

/// Values of a list field: `addresses = ?List(&addresses)`.
pub struct List<'a, T>(pub &'a [T]);

impl<T: fmt::Display> fmt::Debug for List<'_, T> {
    /// `{:?}` is for people, `{:#?}` is JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
            let json = serde_json::to_string(&texts).map_err(|_| fmt::Error)?;
            return f.write_str(&json);
        }
        f.write_str("[")?;
        for (index, value) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{value}")?;
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::log::{access, event};

    #[test]
    fn a_field_has_one_type_in_every_line() {
        let names: Vec<&str> = EVENT_FIELDS.iter().map(|(name, _)| *name).collect();
        assert!(names.is_sorted_by(|one, next| one < next), "{names:?}");
        for (name, kind) in EVENT_FIELDS {
            assert!(!event::FIELDS.contains(name), "{name}");
            if access::FIELDS.contains(name) {
                let number = ACCESS_NUMBERS.contains(name);
                assert_eq!(*kind == Kind::Number, number, "{name}");
            }
        }
        assert!(
            ACCESS_NUMBERS
                .iter()
                .all(|name| access::FIELDS.contains(name))
        );
    }

    #[test]
    fn a_list_is_text_or_json() {
        let list = List(&["a\"b", "c"]);
        assert_eq!(format!("{list:?}"), "[a\"b, c]");
        assert_eq!(format!("{list:#?}"), r#"["a\"b","c"]"#);
    }
}
