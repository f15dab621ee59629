//! What is known of Lync and Skype for Business. It stands beside the balancer, not inside: the data path has never
//! heard of Lync.

pub mod front_end;
pub(crate) mod preset;
