//! Where something is in the text of a configuration.
//!
//! Owns how lines and characters are counted. Knows no text. Invariant: both are counted from 1.

/// A place in the file, both counted from 1, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FileLocation {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

impl FileLocation {
    /// Where a file begins, for what concerns the file as a whole.
    pub(crate) const START: Self = Self { line: 1, column: 1 };
}
