//! From a parsed file to the validated configuration.
//!
//! Owns the errors that only the file as a whole shows: references, duplicates, cycles, overlaps. Must not know how
//! values are written. Invariant: without an error, the resulting [`Config`] satisfies every invariant of its types.

pub(super) mod admin;
mod listeners;
mod pools;

use std::collections::HashMap;
use std::sync::Arc;

use super::diagnostics::{ConfigErrors, Diagnostic, Diagnostics, FileLocation, did_you_mean};
use super::model::{Config, PoolId};
use super::scalar::hints::synonym;
use super::schema::ParsedFile;
use super::source::location::Located;

/// Validates everything. The result is only usable if no error was added.
pub(crate) fn validate(parsed: &ParsedFile, diagnostics: &mut Diagnostics) -> Config {
    let pool_names = PoolNames::new(parsed, diagnostics);
    let listeners = listeners::validate(parsed, &pool_names, diagnostics);
    let pools = pools::validate(&parsed.pools, &pool_names, diagnostics);
    Config {
        listeners,
        pools,
        timeouts: parsed.timeouts.values,
        limits: parsed.limits.values.clone(),
        workers: parsed.workers,
        affinity_store: parsed.affinity_store.clone(),
        admin: admin::validate(&parsed.admin, diagnostics),
        log: parsed.log,
    }
}

/// The maximum number of pools whose names are compared with an unknown one.
const MAX_COMPARED: usize = 500;

/// The pools by name.
struct PoolNames<'a> {
    ids: HashMap<&'a str, PoolId>,
    /// Pools of an invalid short form.
    missing: &'a [Arc<str>],
}

impl<'a> PoolNames<'a> {
    fn new(parsed: &'a ParsedFile, diagnostics: &mut Diagnostics) -> Self {
        let mut ids: HashMap<&str, PoolId> = HashMap::new();
        for (index, pool) in parsed.pools.iter().enumerate() {
            let name = &pool.config.name;
            if let Some(first) = ids.get(&**name) {
                let lync = parsed.pools[first.0].at;
                let what = format!("pool `{name}`");
                diagnostics.error(also_in_short_form(&what, pool.at, lync));
            } else {
                ids.insert(name, PoolId(index));
            }
        }
        Self {
            ids,
            missing: &parsed.missing_pools,
        }
    }

    /// The pool of that name, or the first pool and an error. `alternatives` are the words that the key accepts instead
    /// of a name.
    fn find(
        &self,
        name: &Located<Arc<str>>,
        alternatives: &[&'static str],
        diagnostics: &mut Diagnostics,
    ) -> PoolId {
        if let Some(id) = self.ids.get(&*name.value) {
            return *id;
        }
        if !self.missing.contains(&name.value) {
            // Finding a similar name is the only work that grows with errors times pools.
            let is_listed = diagnostics.errors.len() < ConfigErrors::MAX;
            let hint = is_listed.then(|| self.hint(&name.value, alternatives));
            let message = format!("there is no pool `{}`", name.value);
            diagnostics.error(Diagnostic::new(name.at, message).optional_hint(hint.flatten()));
        }
        PoolId(0)
    }

    fn hint(&self, name: &str, alternatives: &[&'static str]) -> Option<String> {
        match synonym(name, alternatives) {
            Some("none") => return Some("for none, leave the key out".to_owned()),
            Some(word) => return Some(format!("did you mean `{word}`?")),
            None => {}
        }
        let mut known: Vec<&str> = self.ids.keys().copied().collect();
        known.sort_unstable();
        known.truncate(MAX_COMPARED);
        let words = alternatives.iter().copied().filter(|word| *word != "none");
        let near = did_you_mean(name, known.iter().copied().chain(words));
        near.or_else(|| match known.as_slice() {
            [] => Some("no pool is defined under `pools`".to_owned()),
            few if few.len() <= 6 => Some(format!("the pools are {}", few.join(", "))),
            _ => None,
        })
    }
}

/// The error of a listener or pool of the long form whose name the short form uses. Other duplicates are duplicate keys,
/// which are found when the file is parsed.
fn also_in_short_form(what: &str, at: FileLocation, lync: FileLocation) -> Diagnostic {
    let hint = format!("rename it; `lync` is on line {}", lync.line);
    Diagnostic::new(at, format!("{what} is also defined by `lync`")).hint(hint)
}
