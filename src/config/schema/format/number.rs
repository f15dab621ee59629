//! Whole numbers as values of keys: numbers, limits, ports.
//!
//! Owns the ranges that keys have. Must not know a key. Invariant: as in the parent module.

use std::fmt::{Debug, Display};

#[cfg(test)]
use proptest::prelude::*;

use super::{ValueFormat, ValueParser};
use crate::config::scalar::{Parsed, hints};
use crate::config::source::tree::{Inferred, Scalar};

/// A whole number within a range that the type can hold, both ends included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NumberRange {
    /// The smallest.
    pub min: u64,
    /// The largest.
    pub max: u64,
}

impl<T: TryFrom<u64>> ValueParser<T> for NumberRange {
    fn expects(&self) -> String {
        format!("a whole number from {} to {}", self.min, self.max)
    }

    fn parse(&self, scalar: &Scalar) -> Parsed<T> {
        T::try_from(integer(scalar, *self)?).map_err(|_| None)
    }
}

impl<T: TryFrom<u64, Error: Debug> + Display + Debug> ValueFormat<T> for NumberRange {
    fn print(&self, value: &T) -> String {
        value.to_string()
    }

    #[cfg(test)]
    fn any(&self) -> BoxedStrategy<T> {
        let range = self.min..=self.max;
        range.prop_map(|value| T::try_from(value).unwrap()).boxed()
    }
}

/// The largest limit: it has 32 bits.
const MAX_LIMIT: NumberRange = NumberRange {
    min: 0,
    max: u32::MAX as u64,
};

/// A limit; 0 is unlimited.
pub(crate) struct Limit;

impl ValueParser<Option<u32>> for Limit {
    fn expects(&self) -> String {
        ValueParser::<u32>::expects(&MAX_LIMIT)
    }

    fn parse(&self, scalar: &Scalar) -> Parsed<Option<u32>> {
        let limit: u32 = MAX_LIMIT.parse(scalar)?;
        Ok((limit != 0).then_some(limit))
    }
}

impl ValueFormat<Option<u32>> for Limit {
    fn print(&self, value: &Option<u32>) -> String {
        value.unwrap_or(0).to_string()
    }

    #[cfg(test)]
    fn any(&self) -> BoxedStrategy<Option<u32>> {
        proptest::option::of(1..=u32::MAX).boxed()
    }
}

/// `auto`, or a whole number within a range; where the range begins with 0, that is `auto` too.
pub(crate) struct OrAuto(pub NumberRange);

impl OrAuto {
    /// `auto`, or a limit.
    pub(crate) const LIMIT: Self = Self(MAX_LIMIT);
}

impl<T: TryFrom<u64>> ValueParser<Option<T>> for OrAuto {
    fn expects(&self) -> String {
        let NumberRange { min, max } = self.0;
        format!("`auto` or a whole number from {min} to {max}")
    }

    fn parse(&self, scalar: &Scalar) -> Parsed<Option<T>> {
        if scalar.text == "auto" {
            return Ok(None);
        }
        let number = integer(scalar, self.0);
        let number =
            number.map_err(|hint| hint.or_else(|| hints::suggest_word(&scalar.text, &["auto"])))?;
        match number {
            0 => Ok(None),
            number => T::try_from(number).map(Some).map_err(|_| None),
        }
    }
}

impl<T: TryFrom<u64, Error: Debug> + Display + Debug> ValueFormat<Option<T>> for OrAuto {
    fn print(&self, value: &Option<T>) -> String {
        let number = value.as_ref().map(ToString::to_string);
        number.unwrap_or_else(|| "auto".to_owned())
    }

    #[cfg(test)]
    fn any(&self) -> BoxedStrategy<Option<T>> {
        let range = self.0.min.max(1)..=self.0.max;
        let number = range.prop_map(|value| T::try_from(value).unwrap());
        proptest::option::of(number).boxed()
    }
}

/// A port.
pub(crate) struct Port;

impl ValueParser<u16> for Port {
    fn expects(&self) -> String {
        "a port from 1 to 65535".to_owned()
    }

    fn parse(&self, scalar: &Scalar) -> Parsed<u16> {
        let range = NumberRange { min: 1, max: 65535 };
        let number = integer(scalar, range).map_err(|hint| {
            let port = hints::port(&scalar.text);
            let port = port.filter(|port| port.to_string() != scalar.text);
            hint.or_else(|| port.map(|port| format!("write only the number: `{port}`")))
        });
        u16::try_from(number?).map_err(|_| None)
    }
}

/// A whole number within a range.
fn integer(scalar: &Scalar, range: NumberRange) -> Parsed<u64> {
    let fits = |value: &u64| (range.min..=range.max).contains(value);
    match scalar.is {
        Inferred::Integer(value) => u64::try_from(value).ok().filter(fits).ok_or(None),
        Inferred::Text | Inferred::Float => {
            let number = hints::number(&scalar.text).filter(fits);
            let how = if scalar.text.bytes().all(|byte| byte.is_ascii_digit()) {
                "write a number without quotes or leading zeros"
            } else {
                "write the number with digits only"
            };
            Err(number.map(|number| format!("{how}: `{number}`")))
        }
        Inferred::Bool(_) => Err(None),
    }
}
