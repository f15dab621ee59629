//! The text of a configuration file.
//!
//! Owns YAML: the file as a tree of values with their locations, and the `admin` section of a file that is not valid YAML
//! as a whole. Must not know which keys there are. Invariant: depth and size of a tree are bounded, whatever the file
//! holds.

pub(crate) mod admin_section;
pub(crate) mod location;
pub(crate) mod tree;
