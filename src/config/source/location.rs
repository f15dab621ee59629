//! Locations in the text of a configuration.
//!
//! Owns how lines and characters are counted. Must not know the text. Invariant: both are counted from 1.

/// A location in the file, in lines and characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FileLocation {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
}

impl FileLocation {
    /// The start of the file, for errors that concern the file as a whole.
    pub(crate) const START: Self = Self { line: 1, column: 1 };

    /// The hint of an error about a repetition, for the location of the first one.
    pub(crate) fn first_hint(self) -> String {
        format!("the first is on line {}", self.line)
    }
}

/// A value and its location.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Located<T> {
    /// The value.
    pub value: T,
    /// Its location.
    pub at: FileLocation,
}

impl<T> Located<T> {
    /// The value at a location.
    pub(crate) fn new(value: T, at: FileLocation) -> Self {
        Self { value, at }
    }
}
