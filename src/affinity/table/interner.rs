//! The numbers of texts of the configuration.
//!
//! Owns both directions. Must not know what the texts are. Invariant: a number is never 0, and belongs to one text for as
//! long as the table exists.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Texts and their numbers.
#[derive(Debug, Default)]
pub(super) struct Interner {
    known: Mutex<InternedTexts>,
}

#[derive(Debug, Default)]
struct InternedTexts {
    numbers: HashMap<Arc<str>, u32>,
    texts: HashMap<u32, Arc<str>>,
}

impl Interner {
    /// The number of a text, counted from 1. Adds a text that is new.
    pub(super) fn of(&self, text: &str) -> u32 {
        let mut known = self.lock();
        let next = u32::try_from(known.texts.len() + 1).expect("fewer than 2^32 texts");
        known.number(text, next)
    }

    /// The number of a text, derived from the text, so that it is the same in another process. Adds a text that is new.
    pub(super) fn made_of(&self, text: &str) -> u32 {
        // FNV-1a: the texts are the administrator's, who does not cause collisions on purpose.
        let hash = text.bytes().fold(0x811c_9dc5, |hash: u32, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        self.lock().number(text, hash)
    }

    /// The number of a text that was added before.
    pub(super) fn known(&self, text: &str) -> Option<u32> {
        self.lock().numbers.get(text).copied()
    }

    /// The text of a number.
    pub(super) fn text(&self, number: u32) -> Option<Arc<str>> {
        self.lock().texts.get(&number).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, InternedTexts> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InternedTexts {
    /// The number of the text: `wanted`, or the next free one.
    fn number(&mut self, text: &str, wanted: u32) -> u32 {
        if let Some(&number) = self.numbers.get(text) {
            return number;
        }
        let mut number = wanted.max(1);
        while self.texts.contains_key(&number) {
            number = number.wrapping_add(1).max(1);
        }
        let text: Arc<str> = text.into();
        self.texts.insert(number, text.clone());
        self.numbers.insert(text, number);
        number
    }
}
