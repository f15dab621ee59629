//! The unencrypted part of TLS: the offer of a client and the response of a server.
//!
//! Owns the ClientHello and the server's first flights. Has no keys and decrypts nothing. Invariant: bytes that cannot be parsed are
//! an error, never "no name".

pub mod client_hello;
pub mod server_hello;
