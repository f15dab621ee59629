//! From the configuration as written to the validated one.
//!
//! Owns what can be wrong only in view of the whole: references, repetitions, cycles, overlaps. Must not know how
//! values are spelled. Invariant: a [`Config`] that comes out without a fault keeps every promise of its types.

pub(super) mod admin;
mod listeners;
mod pools;

use std::collections::HashMap;
use std::sync::Arc;

use super::diagnostics::{ConfigErrors, Note, Notes, did_you_mean};
use super::model::{Config, PoolId};
use super::scalar::advice::synonym;
use super::written::{At, WrittenFile};

/// Resolves everything; what comes out is only good if no fault was noted.
pub(crate) fn resolve(written: &WrittenFile, notes: &mut Notes) -> Config {
    let names = PoolNames::new(written, notes);
    let listeners = listeners::resolve(written, &names, notes);
    let pools = pools::resolve(written, &names, notes);
    Config {
        listeners,
        pools,
        timeouts: written.timeouts.values,
        limits: written.limits.value.clone(),
        workers: written.workers,
        affinity_store: written.affinity_store.clone(),
        admin: admin::resolve(&written.admin, notes),
        log: written.log,
    }
}

/// The most pools whose names are compared with one that does not exist.
const MOST_COMPARED: usize = 500;

/// The pools by name.
struct PoolNames<'a> {
    ids: HashMap<&'a str, PoolId>,
    unread: &'a [Arc<str>],
}

impl<'a> PoolNames<'a> {
    fn new(written: &'a WrittenFile, notes: &mut Notes) -> Self {
        let mut ids: HashMap<&str, PoolId> = HashMap::new();
        for (index, pool) in written.pools.iter().enumerate() {
            let At { value: name, at } = &pool.name;
            if let Some(first) = ids.get(&**name) {
                let line = written.pools[first.0].name.at.line;
                let message = format!("pool `{name}` is also one that `lync` makes");
                let hint = format!("give it another name; `lync` is in line {line}");
                notes.fault(Note::new(*at, message).hint(hint));
            } else {
                ids.insert(name, PoolId(index));
            }
        }
        Self {
            ids,
            unread: &written.unread_pools,
        }
    }

    /// The pool of that name, or the first one and a fault; `or` are the words that the key takes beside such names.
    fn find(&self, name: &At<Arc<str>>, or: &[&'static str], notes: &mut Notes) -> PoolId {
        if let Some(id) = self.ids.get(&*name.value) {
            return *id;
        }
        if !self.unread.contains(&name.value) {
            // To look for a near name is the only work that grows with the faults times the pools.
            let looks = notes.faults.len() < ConfigErrors::MAX;
            let hint = looks.then(|| self.hint(&name.value, or)).flatten();
            let note = Note::new(name.at, format!("there is no pool `{}`", name.value));
            notes.fault(Note { hint, ..note });
        }
        PoolId(0)
    }

    fn hint(&self, name: &str, or: &[&'static str]) -> Option<String> {
        let by_meaning = || match synonym(name, or) {
            Some("none") => Some("for none leave the key out".to_owned()),
            Some(word) => Some(format!("did you mean `{word}`?")),
            None => None,
        };
        let mut known: Vec<&str> = self.ids.keys().copied().collect();
        known.sort_unstable();
        known.truncate(MOST_COMPARED);
        let words = or.iter().copied().filter(|word| *word != "none");
        let near = by_meaning().or_else(|| did_you_mean(name, known.iter().copied().chain(words)));
        near.or_else(|| match known.as_slice() {
            [] => Some("no pool is defined under `pools`".to_owned()),
            few if few.len() <= 6 => Some(format!("the pools are {}", few.join(", "))),
            _ => None,
        })
    }
}
