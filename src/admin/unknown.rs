//! A name that nothing has, and the names that there are.
//!
//! Owns how that is said. Must not know what the names are of. Invariant: what is said stays one line and short, however
//! many names there are.

use std::fmt;

use crate::config::diagnostics::did_you_mean;

/// The most names that are shown.
const SHOWN: usize = 12;
/// The most names that are compared with the unknown one.
const COMPARED: usize = 500;

/// A name that nothing has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    name: String,
    known: Vec<String>,
}

impl Unknown {
    /// `name`, and the names that there are; each is shown once.
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

    /// What there is instead, to follow what is wrong: `; the pools are web, mail; did you mean `mail`?`.
    pub(super) fn instead<'a>(&'a self, what: &'a str) -> Suggestion<'a> {
        Suggestion {
            unknown: self,
            what,
        }
    }
}

/// A name of which is not known what there is instead.
impl From<&str> for Unknown {
    fn from(name: &str) -> Self {
        Self::new(name, [] as [String; 0])
    }
}

/// See [`Unknown::instead`].
pub(super) struct Suggestion<'a> {
    unknown: &'a Unknown,
    what: &'a str,
}

impl fmt::Display for Suggestion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unknown { name, known } = self.unknown;
        let what = self.what;
        match known.as_slice() {
            [] => return Ok(()),
            [only] => return write!(f, "; the only {what} is {only}"),
            _ => {}
        }
        let shown: Vec<&str> = known.iter().take(SHOWN).map(String::as_str).collect();
        write!(f, "; the {what}s are {}", shown.join(", "))?;
        if known.len() > SHOWN {
            write!(f, " and {} more", known.len() - SHOWN)?;
        }
        let near = known.iter().take(COMPARED).map(String::as_str);
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
    fn what_there_is_is_said_and_what_was_meant() {
        let said = |known: &[&str]| {
            let unknown = Unknown::new("wbe", known.iter().copied());
            unknown.instead("pool").to_string()
        };
        assert_eq!(said(&[]), "");
        assert_eq!(said(&["mail"]), "; the only pool is mail");
        assert_eq!(
            said(&["mail", "web", "mail"]),
            "; the pools are mail, web; did you mean `web`?"
        );
        assert_eq!(said(&["mail", "sip"]), "; the pools are mail, sip");
        let many: Vec<String> = (0..20).map(|number| format!("pool{number:02}")).collect();
        let unknown = Unknown::new("pool19x", many);
        let unknown = unknown.instead("pool").to_string();
        assert!(
            unknown.ends_with("pool10, pool11 and 8 more; did you mean `pool19`?"),
            "{unknown}"
        );
    }
}
