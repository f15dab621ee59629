//! The modules that are fuzzed. They are values and lean on nothing, so they are compiled alone here: the fuzzer builds in
//! seconds and instruments no dependency.

pub mod affinity;
pub mod config;
#[path = "../../../src/protocol/mod.rs"]
pub mod protocol;
pub mod types;
