//! TLS in clear text: what a client offers and what a server answers.
//!
//! Owns no key and decrypts nothing. Invariant: what cannot be parsed is an error, never "no name".

pub mod client_hello;
pub mod server_hello;
