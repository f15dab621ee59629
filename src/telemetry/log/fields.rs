//! The JSON type of each field of an event.
//!
//! Owns the list; `docs/log.md` is tested against it. Must not know events. Invariant: a field name has one JSON type, in
//! events and in access lines; a value of another type is converted or left out.

use std::fmt;

/// The JSON type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// A string.
    Text,
    /// A number.
    Number,
    /// `true` or `false`.
    Flag,
    /// An array of strings.
    List,
}

impl FieldType {
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
pub const EVENT_FIELDS: &[(&str, FieldType)] = &[
    ("action", FieldType::Text),
    ("address", FieldType::Text),
    ("addresses", FieldType::List),
    ("allowed", FieldType::Number),
    ("at", FieldType::Text),
    ("backend", FieldType::Text),
    ("before", FieldType::Text),
    ("by", FieldType::Text),
    ("cause", FieldType::Text),
    ("check", FieldType::Text),
    ("client", FieldType::Text),
    ("connections", FieldType::Number),
    ("descriptors", FieldType::Number),
    ("detail", FieldType::Text),
    ("drain_seconds", FieldType::Number),
    ("drained", FieldType::Number),
    ("error", FieldType::Text),
    ("expired", FieldType::Number),
    ("falls", FieldType::Number),
    ("fault", FieldType::Text),
    ("file", FieldType::Text),
    ("from", FieldType::Text),
    ("group", FieldType::Text),
    ("left", FieldType::Text),
    ("limit", FieldType::Number),
    ("listener", FieldType::Text),
    ("lost", FieldType::Number),
    ("name", FieldType::Text),
    ("no_room", FieldType::Number),
    ("other_keys", FieldType::Number),
    ("passed", FieldType::Flag),
    ("pid", FieldType::Number),
    ("pins", FieldType::Number),
    ("pins_used", FieldType::Number),
    ("pipes", FieldType::Number),
    ("pool", FieldType::Text),
    ("program", FieldType::Text),
    ("seconds", FieldType::Number),
    ("sessions", FieldType::Number),
    ("set_aside", FieldType::Text),
    ("state", FieldType::Text),
    ("status", FieldType::Number),
    ("to", FieldType::Text),
    ("unknown", FieldType::Number),
    ("why", FieldType::Text),
    ("workers", FieldType::Number),
];

/// The type of a field; `None` for a field that is not listed, such as one of a library.
pub(super) fn kind(name: &str) -> Option<FieldType> {
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
                assert_eq!(*kind == FieldType::Number, number, "{name}");
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
