//! Health over real sockets: what each kind of check says of each kind of server, and what that does to backends.

#![allow(clippy::unwrap_used, reason = "a test may end in a panic")]

mod checks;
mod floods;
mod servers;
mod states;
mod tls;
mod watch;
