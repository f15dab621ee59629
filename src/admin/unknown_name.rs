//! A name that does not exist, and the names that do.
//!
//! Owns how an error suggests other names. Must not know what the names stand for. Invariant: a suggestion is one short
//! line, however many names there are.

use std::fmt;

use crate::config::diagnostics::did_you_mean;

/// The most names in a suggestion.
const MAX_SHOWN: usize = 12;
/// The most names that are compared with the unknown one.
const MAX_COMPARED: usize = 500;

/// A name that does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownName {
    name: String,
    known: Vec<String>,
}

impl UnknownName {
    /// `name`, and the names that exist; duplicates are shown once.
    pub fn new<T: Into<String>>(name: &str, known: impl IntoIterator<Item = T>) -> Self {
        let mut names: Vec<String> = Vec::new();
        for known in known {
            let known = known.into();
            if !names.contains(&known) {
                names.push(known);
            }
        }
        Self {
            name: name.into(),
            known: names,
        }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The names that exist, to follow the error: `; the pools are web, mail; did you mean `mail`?`.
    pub(super) fn suggestion<'a>(&'a self, what: &'a str) -> Suggestion<'a> {
        Suggestion {
            unknown: self,
            what,
        }
    }
}

/// Without the names that exist.
impl From<&str> for UnknownName {
    fn from(name: &str) -> Self {
        Self::new(name, [] as [String; 0])
    }
}

/// The names that exist, for an error text.
pub(super) struct Suggestion<'a> {
    unknown: &'a UnknownName,
    what: &'a str,
}

impl fmt::Display for Suggestion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UnknownName { name, known } = self.unknown;
        let what = self.what;
        match known.as_slice() {
            [] => return Ok(()),
            [only] => return write!(f, "; the only {what} is {only}"),
            _ => {}
        }
        let shown: Vec<&str> = known.iter().take(MAX_SHOWN).map(String::as_str).collect();
        write!(f, "; the {what}s are {}", shown.join(", "))?;
        if known.len() > MAX_SHOWN {
            write!(f, " and {} more", known.len() - MAX_SHOWN)?;
        }
        let near = known.iter().take(MAX_COMPARED).map(String::as_str);
        match did_you_mean(name, near) {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn existing_names_and_the_most_similar_one_are_suggested() {
        let suggested = |known: &[&str]| {
            let unknown = UnknownName::new("wbe", known.iter().copied());
            unknown.suggestion("pool").to_string()
        };
        assert_eq!(suggested(&[]), "");
        assert_eq!(suggested(&["mail"]), "; the only pool is mail");
        assert_eq!(
            suggested(&["mail", "web", "mail"]),
            "; the pools are mail, web; did you mean `web`?"
        );
        assert_eq!(suggested(&["mail", "sip"]), "; the pools are mail, sip");
        let many: Vec<String> = (0..20).map(|number| format!("pool{number:02}")).collect();
        let unknown = UnknownName::new("pool19x", many);
        let unknown = unknown.suggestion("pool").to_string();
        assert!(
            unknown.ends_with("pool10, pool11 and 8 more; did you mean `pool19`?"),
            "{unknown}"
        );
    }
}
