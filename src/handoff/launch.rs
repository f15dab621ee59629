//! Starts the successor.
//!
//! Owns the one place where a process is started. Knows nothing of what is said to it. Invariant: the successor has what
//! this process was started with, the channel as its standard input, and no other descriptor but stdout and stderr.
//!
//! Whoever calls [`launch`] must not be confined, for what it starts is confined with it (Landlock and seccomp are
//! inherited and never lifted). Today the balancer confines itself in no way. Once it does, it is to fork a small process
//! before it does so, which holds a channel of this kind, takes the successor's end from it and calls this; nothing else
//! here changes.

use std::io;
use std::process::{Child, Command, Stdio};

use super::{Channel, PREDECESSOR, Program};

/// Starts `program` with the channel's other end.
///
/// # Errors
///
/// When the program cannot be started.
pub fn launch(program: &Program) -> io::Result<(Child, Channel)> {
    let (ours, theirs) = Channel::pair()?;
    let child = Command::new(&program.path)
        .args(&program.arguments)
        .env(PREDECESSOR, std::process::id().to_string())
        // Names this process, while the watchdog will be the successor's (sd_watchdog_enabled(3)).
        .env_remove("WATCHDOG_PID")
        .stdin(Stdio::from(theirs.into_descriptor()))
        .spawn()?;
    Ok((child, ours))
}
