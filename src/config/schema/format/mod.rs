//! How single values are written: what a key expects, how its value is parsed and printed.
//!
//! Owns the kinds of values that several keys share. Must not know a key. Invariant: what a format prints it parses to an
//! equal value, and it accepts nothing outside of its range.

mod duration;
mod number;

use std::fmt::Debug;
use std::sync::Arc;

#[cfg(test)]
use proptest::prelude::*;

use super::page::text;
use crate::config::diagnostics::any_of;
use crate::config::scalar::{self, Parsed, hints};
use crate::config::source::tree::{Inferred, Scalar};
use crate::types::host_name::HostName;
pub(crate) use duration::{DurationRange, OrNone, OrZero, WholeSeconds};
pub(crate) use number::{Limit, NumberRange, OrAuto, Port};

/// What a key expects, and how its value is parsed.
pub(crate) trait ValueParser<T>: Sync {
    /// For messages: "a duration from 10ms to 24h".
    fn expects(&self) -> String;

    /// The value, or a hint on why the text is not one.
    fn parse(&self, scalar: &Scalar) -> Parsed<T>;
}

/// A parser that also prints.
pub(crate) trait ValueFormat<T>: ValueParser<T> {
    /// The value as YAML.
    fn print(&self, value: &T) -> String;

    /// Any value that is accepted.
    #[cfg(test)]
    fn any(&self) -> BoxedStrategy<T>;
}

/// A value that one function parses from the text.
pub(crate) struct Text<T> {
    /// What a key expects.
    pub expects: &'static str,
    /// The parser.
    pub parse: fn(&str) -> Parsed<T>,
}

impl<T> ValueParser<T> for Text<T> {
    fn expects(&self) -> String {
        self.expects.to_owned()
    }

    fn parse(&self, scalar: &Scalar) -> Parsed<T> {
        (self.parse)(&scalar.text)
    }
}

/// A value of one key alone.
pub(crate) struct Custom<F> {
    /// What the key expects.
    pub expects: String,
    /// The parser.
    pub parse: F,
}

impl<T, F: Fn(&Scalar) -> Parsed<T> + Sync> ValueParser<T> for Custom<F> {
    fn expects(&self) -> String {
        self.expects.clone()
    }

    fn parse(&self, scalar: &Scalar) -> Parsed<T> {
        (self.parse)(scalar)
    }
}

/// One of a few words, each with its value.
pub(crate) struct Choice<T: 'static>(pub &'static [(&'static str, T)]);

impl<T: Copy + Sync> ValueParser<T> for Choice<T> {
    fn expects(&self) -> String {
        any_of(&self.words())
    }

    fn parse(&self, scalar: &Scalar) -> Parsed<T> {
        let found = self.0.iter().find(|(word, _)| *word == scalar.text);
        found
            .map(|(_, value)| *value)
            .ok_or_else(|| hints::suggest_word(&scalar.text, &self.words()))
    }
}

impl<T> Choice<T> {
    fn words(&self) -> Vec<&'static str> {
        self.0.iter().map(|(word, _)| *word).collect()
    }
}

impl<T: Copy + Sync + PartialEq + Debug> ValueFormat<T> for Choice<T> {
    fn print(&self, value: &T) -> String {
        let found = self.0.iter().find(|(_, known)| known == value);
        debug_assert!(found.is_some(), "{value:?} has no word");
        found.map_or_else(String::new, |(word, _)| (*word).to_owned())
    }

    #[cfg(test)]
    fn any(&self) -> BoxedStrategy<T> {
        let values: Vec<T> = self.0.iter().map(|(_, value)| *value).collect();
        proptest::sample::select(values).boxed()
    }
}

/// `true` or `false`.
pub(crate) struct Boolean;

impl ValueParser<bool> for Boolean {
    fn expects(&self) -> String {
        "`true` or `false`".to_owned()
    }

    fn parse(&self, scalar: &Scalar) -> Parsed<bool> {
        match (scalar.is, scalar.text.as_str()) {
            (Inferred::Bool(value), _) => Ok(value),
            (_, "true" | "false") => Err(Some("write it without quotes".into())),
            (_, text) => Err(match text.to_ascii_lowercase().as_str() {
                "yes" | "on" | "y" | "true" | "1" => Some("write `true`".into()),
                "no" | "off" | "n" | "false" | "0" | "none" => Some("write `false`".into()),
                _ => None,
            }),
        }
    }
}

impl ValueFormat<bool> for Boolean {
    fn print(&self, value: &bool) -> String {
        value.to_string()
    }

    #[cfg(test)]
    fn any(&self) -> BoxedStrategy<bool> {
        proptest::bool::ANY.boxed()
    }
}

/// The name of a listener, pool, backend or group.
pub(crate) struct Label;

impl ValueParser<Arc<str>> for Label {
    fn expects(&self) -> String {
        scalar::LABEL.to_owned()
    }

    fn parse(&self, scalar: &Scalar) -> Parsed<Arc<str>> {
        scalar::label(&scalar.text)
    }
}

impl ValueFormat<Arc<str>> for Label {
    fn print(&self, value: &Arc<str>) -> String {
        text(value)
    }

    #[cfg(test)]
    fn any(&self) -> BoxedStrategy<Arc<str>> {
        let labels = "[A-Za-z0-9_.:-]{1,12}".prop_filter("reserved", |text| text != "refuse");
        labels.prop_map(Into::into).boxed()
    }
}

/// A host name.
pub(crate) struct HostNameFormat;

impl ValueParser<HostName> for HostNameFormat {
    fn expects(&self) -> String {
        scalar::HOST_NAME.to_owned()
    }

    fn parse(&self, scalar: &Scalar) -> Parsed<HostName> {
        scalar::host_name(&scalar.text)
    }
}

impl ValueFormat<HostName> for HostNameFormat {
    fn print(&self, value: &HostName) -> String {
        text(value)
    }

    #[cfg(test)]
    fn any(&self) -> BoxedStrategy<HostName> {
        let names = "([a-z0-9_-]{1,8}\\.){0,3}[a-z0-9-]{1,8}";
        let parse = |text: String| HostName::parse(text.as_bytes()).ok();
        names.prop_filter_map("an address", parse).boxed()
    }
}
