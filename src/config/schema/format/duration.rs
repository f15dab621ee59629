//! Durations as values of keys.
//!
//! Owns the ranges that keys have. Must not know a key. Invariant: as in the parent module.

use std::time::Duration;

#[cfg(test)]
use proptest::prelude::*;

use super::{ValueFormat, ValueParser};
use crate::config::scalar::{self, Parsed, hints, print_duration};
use crate::config::source::tree::Scalar;

/// A duration within a range, both ends included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DurationRange {
    /// The shortest.
    pub min: Duration,
    /// The longest.
    pub max: Duration,
}

impl DurationRange {
    /// From `min` milliseconds to `max` hours.
    pub(crate) const fn from_ms_to_hours(min: u64, max: u64) -> Self {
        Self {
            min: Duration::from_millis(min),
            max: Duration::from_secs(max * 3600),
        }
    }

    fn contains(&self, value: Duration) -> bool {
        (self.min..=self.max).contains(&value)
    }
}

impl ValueParser<Duration> for DurationRange {
    fn expects(&self) -> String {
        let (min, max) = (print_duration(self.min), print_duration(self.max));
        format!("a duration from {min} to {max}")
    }

    fn parse(&self, scalar: &Scalar) -> Parsed<Duration> {
        scalar::duration(&scalar.text, |value| self.contains(value))
    }
}

impl ValueFormat<Duration> for DurationRange {
    fn print(&self, value: &Duration) -> String {
        print_duration(*value)
    }

    #[cfg(test)]
    fn any(&self) -> BoxedStrategy<Duration> {
        let milliseconds = |value: Duration| u64::try_from(value.as_millis()).unwrap();
        let range = milliseconds(self.min)..=milliseconds(self.max);
        let unit = prop_oneof![Just(1), Just(1000), Just(60_000), Just(3_600_000)];
        let min = *range.start();
        let duration = (range, unit).prop_map(move |(value, unit)| {
            let rounded = value / unit * unit;
            Duration::from_millis(if rounded < min { value } else { rounded })
        });
        duration.boxed()
    }
}

/// A duration in whole seconds.
pub(crate) struct WholeSeconds(pub DurationRange);

impl ValueParser<Duration> for WholeSeconds {
    fn expects(&self) -> String {
        format!("{} in whole seconds", self.0.expects())
    }

    fn parse(&self, scalar: &Scalar) -> Parsed<Duration> {
        let is_whole = |value: Duration| value.subsec_nanos() == 0;
        scalar::duration(&scalar.text, |value| {
            self.0.contains(value) && is_whole(value)
        })
    }
}

impl ValueFormat<Duration> for WholeSeconds {
    fn print(&self, value: &Duration) -> String {
        self.0.print(value)
    }

    #[cfg(test)]
    fn any(&self) -> BoxedStrategy<Duration> {
        let range = self.0.min.as_secs()..=self.0.max.as_secs();
        range.prop_map(Duration::from_secs).boxed()
    }
}

/// `0s`, or a duration within a range.
pub(crate) struct OrZero(pub DurationRange);

impl ValueParser<Duration> for OrZero {
    fn expects(&self) -> String {
        format!("`0s`, or {}", self.0.expects())
    }

    fn parse(&self, scalar: &Scalar) -> Parsed<Duration> {
        let fits = |value: Duration| value.is_zero() || self.0.contains(value);
        scalar::duration(&scalar.text, fits)
    }
}

impl ValueFormat<Duration> for OrZero {
    fn print(&self, value: &Duration) -> String {
        self.0.print(value)
    }

    #[cfg(test)]
    fn any(&self) -> BoxedStrategy<Duration> {
        prop_oneof![Just(Duration::ZERO), self.0.any()].boxed()
    }
}

/// `none`, or a duration within a range.
pub(crate) struct OrNone(pub DurationRange);

impl ValueParser<Option<Duration>> for OrNone {
    fn expects(&self) -> String {
        format!("`none`, or {}", self.0.expects())
    }

    fn parse(&self, scalar: &Scalar) -> Parsed<Option<Duration>> {
        if scalar.text == "none" {
            return Ok(None);
        }
        let value = self.0.parse(scalar).map(Some);
        value.map_err(|hint| hints::suggest_word(&scalar.text, &["none"]).or(hint))
    }
}

impl ValueFormat<Option<Duration>> for OrNone {
    fn print(&self, value: &Option<Duration>) -> String {
        value.map_or_else(|| "none".to_owned(), print_duration)
    }

    #[cfg(test)]
    fn any(&self) -> BoxedStrategy<Option<Duration>> {
        proptest::option::of(self.0.any()).boxed()
    }
}
