//! The configuration: from a YAML file to values that cannot be wrong.
//!
//! A file goes as written -> validated, and every fault is reported at once with its place. What comes out is
//! [`model::Config`]: references are resolved, durations are durations, names are names. Knows no socket and no
//! clock; reading the file itself is the caller's.

pub mod model;
