//! Health checks over real sockets: the result of each kind of check for each kind of server, and its effect on backends.

#![allow(clippy::unwrap_used, reason = "a test may end in a panic")]

mod checks;
mod floods;
mod servers;
mod states;
mod tls;
mod watch;
