//! Affinity: which client is pinned to which backend.
//!
//! Owns the table: `shard` is one shard as a pure value, `record` is a pin outside the table, and `table` shares the shards
//! of a group between threads. Must not know pools. Invariant: a pin in use neither expires nor makes room for another.

pub mod record;
pub mod shard;
pub mod table;
