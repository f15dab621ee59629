//! The tables of keys: one for each mapping of the file.
//!
//! Owns what a key needs to be parsed, printed and generated from one line of a table. Must not know a mapping.
//! Invariant: a plain key cannot be forgotten in one of these, since all of them go through its table.

#[cfg(test)]
use std::sync::Arc as Shared;

#[cfg(test)]
use proptest::prelude::*;

use super::format::ValueFormat;
use super::page::YamlPage;
use super::section::{Section, SectionEntry, read_scalar};
use crate::config::diagnostics::{Diagnostics, FileLocation};
use crate::config::source::tree::Node;

/// The keys of one kind of mapping, whose plain keys are fields of `S`.
pub(crate) struct Mapping<S: 'static = ()> {
    /// Its path in the file: `pools.NAME.health`, with `[]` for the entries of a list.
    pub path: &'static str,
    /// Its keys, in the order of the documentation and of `expand`.
    pub keys: &'static [MappingKey<S>],
}

/// One key of a mapping.
pub(crate) enum MappingKey<S: 'static> {
    /// A single value, stored in one field; see [`plain!`].
    Plain(&'static dyn PlainKey<S>),
    /// A key with code of its own in the schema file.
    Special(&'static str),
}

impl<S> MappingKey<S> {
    fn name(&self) -> &'static str {
        match self {
            Self::Plain(key) => key.name(),
            Self::Special(name) => name,
        }
    }
}

impl<S> Mapping<S> {
    /// The names of all keys.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.keys.iter().map(MappingKey::name).collect()
    }

    /// The mapping in `node`, which is the value of the key at `at`; empty if the key has no value.
    pub(crate) fn open<'a>(
        &self,
        node: &'a Node,
        what: &str,
        at: FileLocation,
        diagnostics: &mut Diagnostics,
    ) -> Section<'a> {
        debug_assert!(
            super::is_listed(self.path),
            "schema::mappings lacks {}",
            self.path
        );
        Section::new(node, self.names(), what, at, diagnostics)
    }

    /// The mapping that is the value of a key.
    pub(crate) fn open_key<'a>(
        &self,
        section: &Section<'a>,
        key: &str,
        diagnostics: &mut Diagnostics,
    ) -> Option<Section<'a>> {
        let SectionEntry { at, node, .. } = section.get(key)?;
        Some(self.open(node, &format!("`{key}`"), at, diagnostics))
    }

    fn plain(&self) -> impl Iterator<Item = &'static dyn PlainKey<S>> {
        self.keys.iter().filter_map(|key| match key {
            MappingKey::Plain(key) => Some(*key),
            MappingKey::Special(_) => None,
        })
    }

    /// Sets the plain keys that the section has; `settings` holds the defaults.
    pub(crate) fn read(
        &self,
        section: &Section<'_>,
        settings: &mut S,
        diagnostics: &mut Diagnostics,
    ) -> Locations {
        let read =
            |key: &dyn PlainKey<S>| Some((key.name(), key.read(section, settings, diagnostics)?));
        Locations(self.plain().filter_map(read).collect())
    }

    /// Prints every key: the plain ones here, the others by `print_special`.
    pub(crate) fn print(
        &self,
        page: &mut YamlPage,
        depth: usize,
        settings: &S,
        mut print_special: impl FnMut(&mut YamlPage, &str),
    ) {
        for key in self.keys {
            match key {
                MappingKey::Plain(key) => page.entry(depth, key.name(), key.print(settings)),
                MappingKey::Special(name) => print_special(page, name),
            }
        }
    }

    /// Prints the plain keys for a mapping in braces: `ipv4: 32`.
    pub(crate) fn print_plain(&self, settings: &S) -> Vec<String> {
        let print = |key: &dyn PlainKey<S>| format!("{}: {}", key.name(), key.print(settings));
        self.plain().map(print).collect()
    }

    /// Settings of any value in every plain key.
    #[cfg(test)]
    pub(crate) fn any(&self, base: impl Strategy<Value = S> + 'static) -> BoxedStrategy<S>
    where
        S: std::fmt::Debug,
    {
        let keys: Vec<_> = self.plain().map(PlainKey::any).collect();
        let settings = (base, keys).prop_map(|(mut settings, set)| {
            set.iter().for_each(|set| (set.0)(&mut settings));
            settings
        });
        settings.boxed()
    }
}

/// The locations of plain keys' values; without those that are missing or invalid.
#[derive(Debug, Clone, Default)]
pub(crate) struct Locations(Vec<(&'static str, FileLocation)>);

impl Locations {
    /// The location of a key's value.
    pub(crate) fn of(&self, key: &str) -> Option<FileLocation> {
        let found = self.0.iter().find(|(name, _)| *name == key);
        found.map(|(_, at)| *at)
    }
}

/// A [`PlainField`], whatever the type of its value.
pub(crate) trait PlainKey<S>: Sync {
    /// The key.
    fn name(&self) -> &'static str;

    /// Sets the field if the section has the key; the location of a valid value.
    fn read(
        &self,
        section: &Section<'_>,
        settings: &mut S,
        diagnostics: &mut Diagnostics,
    ) -> Option<FileLocation>;

    /// The field as YAML.
    fn print(&self, settings: &S) -> String;

    /// Sets the field to any value.
    #[cfg(test)]
    fn any(&self) -> BoxedStrategy<SetField<S>>;
}

/// What a generated configuration does to one field.
#[cfg(test)]
pub(crate) struct SetField<S>(Shared<dyn Fn(&mut S)>);

#[cfg(test)]
impl<S> std::fmt::Debug for SetField<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SetField")
    }
}

/// A key, the format of its value, and the field that holds it.
pub(crate) struct PlainField<S, T, F> {
    /// The key.
    pub name: &'static str,
    /// How the value is written.
    pub format: F,
    /// Reads the field.
    pub get: fn(&S) -> &T,
    /// Changes the field.
    pub get_mut: fn(&mut S) -> &mut T,
}

impl<S: 'static, T: Clone + std::fmt::Debug + 'static, F: ValueFormat<T>> PlainKey<S>
    for PlainField<S, T, F>
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn read(
        &self,
        section: &Section<'_>,
        settings: &mut S,
        diagnostics: &mut Diagnostics,
    ) -> Option<FileLocation> {
        let entry = section.get(self.name)?;
        let found = read_scalar(entry.node, self.name, &self.format, diagnostics)?;
        *(self.get_mut)(settings) = found.value;
        Some(found.at)
    }

    fn print(&self, settings: &S) -> String {
        self.format.print((self.get)(settings))
    }

    #[cfg(test)]
    fn any(&self) -> BoxedStrategy<SetField<S>> {
        let get_mut = self.get_mut;
        let set = self.format.any().prop_map(move |value| {
            SetField(Shared::new(move |settings: &mut S| {
                *get_mut(settings) = value.clone();
            }))
        });
        set.boxed()
    }
}

/// `plain!(PoolConfig, slow_start: FORMAT)`: the key `slow_start`, which fills the field of that name.
macro_rules! plain {
    ($settings:ty, $field:ident: $format:expr) => {
        $crate::config::schema::mapping::MappingKey::Plain(
            &$crate::config::schema::mapping::PlainField {
                name: stringify!($field),
                format: $format,
                get: |settings: &$settings| &settings.$field,
                get_mut: |settings: &mut $settings| &mut settings.$field,
            },
        )
    };
}
pub(crate) use plain;
