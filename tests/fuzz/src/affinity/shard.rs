//! What the form of a pin needs of a shard.

#[path = "../../../../src/affinity/shard/key.rs"]
mod key;
#[path = "../../../../src/affinity/shard/origin.rs"]
mod origin;

pub use key::{Key, Keyed, Session, source_bits};
pub use origin::Origin;
