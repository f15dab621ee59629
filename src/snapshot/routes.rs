//! From a name to where it leads: the exact name, then the longest suffix.
//!
//! Owns the order of matches. Knows neither pools nor listeners: what a name leads to is the caller's. Invariant: a
//! look costs as many steps as the name has labels, however many names are known.

use std::collections::HashMap;

use crate::config::model::NamePattern;
use crate::types::host_name::HostName;

/// Names and where they lead.
#[derive(Debug, Clone)]
pub struct Routes<T> {
    exact: HashMap<HostName, T>,
    suffixes: HashMap<HostName, T>,
}

impl<T> Routes<T> {
    /// The table of these names; of two equal ones the later counts, which a validated configuration never has.
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

    /// Where `name` leads.
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
    fn a_suffix_wants_one_label_more_at_least() {
        assert_eq!(routes().find(&name("apps.contoso.com")), Some(&2));
        assert_eq!(routes().find(&name("contoso.com")), None);
        assert_eq!(routes().find(&name("notcontoso.com")), None);
    }
}
