//! What the parsers need of `types`.

#[path = "../../../src/types/host_name.rs"]
pub mod host_name;
