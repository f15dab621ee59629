//! Affinity: which client is pinned to which backend.
//!
//! Owns the table. `shard` is one shard as a pure value; `table` shares the shards of a group between threads. Knows no pool.
//! Invariant: a pin in use neither expires nor makes room for another.

pub mod shard;
pub mod table;
