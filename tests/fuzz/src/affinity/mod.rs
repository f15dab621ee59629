//! The form of a pin outside the table, and what it needs of a shard.

#[path = "../../../../src/affinity/record/mod.rs"]
pub mod record;
pub mod shard;
