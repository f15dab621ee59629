//! The modules that are fuzzed. They are of layer 0 and lean on nothing, so they are compiled alone here: the fuzzer
//! builds in seconds and instruments no dependency.

#[path = "../../../src/client_hello/mod.rs"]
pub mod client_hello;
#[path = "../../../src/host_name.rs"]
pub mod host_name;
#[path = "../../../src/http_head/mod.rs"]
pub mod http_head;
#[path = "../../../src/server_hello/mod.rs"]
pub mod server_hello;
