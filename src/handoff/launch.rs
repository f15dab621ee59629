//! Starts the successor.
//!
//! Owns the only code that starts a process. Must not know the messages. Invariant: the successor has the arguments and the
//! environment of this process, the channel as its standard input, and no other descriptors but stdout and stderr.
//!
//! The caller of [`launch`] must not be confined, since its child would be confined as well (Landlock and seccomp are
//! inherited and never lifted). Today the balancer does not confine itself. Before it does, it must fork a small process
//! that receives the successor's end of a channel and calls this.

use std::io;
use std::process::{Child, Command, Stdio};

use super::{Channel, PREDECESSOR, Program};

/// Starts `program` with the other end of a new channel.
///
/// # Errors
///
/// If the program cannot be started.
pub fn launch(program: &Program) -> io::Result<(Child, Channel)> {
    let (ours, theirs) = Channel::pair()?;
    let child = Command::new(&program.path)
        .args(&program.arguments)
        .env(PREDECESSOR, std::process::id().to_string())
        // It has the id of this process; the watchdog will be the successor's (sd_watchdog_enabled(3)).
        .env_remove("WATCHDOG_PID")
        .stdin(Stdio::from(theirs.into_descriptor()))
        .spawn()?;
    Ok((child, ours))
}
