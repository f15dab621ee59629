//! Looking up a name: the exact name, then the longest suffix.
//!
//! Owns the order of matches. Must not know pools or listeners: the caller chooses the type of the target. Invariant: a lookup
//! takes as many steps as the name has labels, however many routes there are.

use std::collections::HashMap;

use crate::config::model::NamePattern;
use crate::types::host_name::HostName;

/// Names and their targets.
#[derive(Debug, Clone)]
pub struct Routes<T> {
    exact: HashMap<HostName, T>,
    suffixes: HashMap<HostName, T>,
}

impl<T> Routes<T> {
    /// The table of these names. Of two equal names the later counts; a validated configuration never has those.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = (NamePattern, T)>) -> Self {
        let mut routes = Self {
            exact: HashMap::new(),
            suffixes: HashMap::new(),
        };
        for (pattern, target) in names {
            match pattern {
                NamePattern::Exact(name) => routes.exact.insert(name, target),
                NamePattern::Suffix(suffix) => routes.suffixes.insert(suffix, target),
            };
        }
        routes
    }

    /// The target of `name`.
    #[must_use]
    pub fn find(&self, name: &HostName) -> Option<&T> {
        if let Some(target) = self.exact.get(name) {
            return Some(target);
        }
        if self.suffixes.is_empty() {
            return None;
        }
        let mut rest = name.as_str();
        while let Some((_, suffix)) = rest.split_once('.') {
            if let Some(target) = self.suffixes.get(suffix) {
                return Some(target);
            }
            rest = suffix;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HostName {
        HostName::parse(text.as_bytes()).unwrap()
    }

    fn routes() -> Routes<u8> {
        Routes::new([
            (NamePattern::Exact(name("lyncdiscover.contoso.com")), 1),
            (NamePattern::Suffix(name("contoso.com")), 2),
            (NamePattern::Suffix(name("apps.contoso.com")), 3),
        ])
    }

    #[test]
    fn the_exact_name_wins_over_a_suffix() {
        assert_eq!(routes().find(&name("LyncDiscover.contoso.com.")), Some(&1));
    }

    #[test]
    fn the_longest_suffix_wins() {
        assert_eq!(routes().find(&name("a.apps.contoso.com")), Some(&3));
        assert_eq!(routes().find(&name("a.b.apps.contoso.com")), Some(&3));
        assert_eq!(routes().find(&name("meet.contoso.com")), Some(&2));
    }

    #[test]
    fn a_suffix_matches_only_with_one_more_label() {
        assert_eq!(routes().find(&name("apps.contoso.com")), Some(&2));
        assert_eq!(routes().find(&name("contoso.com")), None);
        assert_eq!(routes().find(&name("notcontoso.com")), None);
    }
}
