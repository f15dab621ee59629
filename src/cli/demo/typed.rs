//! The commands that can be typed while the demo runs.
//!
//! Owns their syntax and their replies. Must not know the balancer. Invariant: an invalid command changes nothing.

use std::cell::Cell;
use std::convert::Infallible;
use std::io::BufRead as _;

use tokio::sync::mpsc;

use super::short_name;
use crate::cli::print_result;
use crate::demo::front_end::FrontEnd;

/// Runs the commands typed on standard input, forever, and sets `typed` after the first one.
pub(super) async fn run_typed_commands(front_ends: &[FrontEnd], typed: &Cell<bool>) -> Infallible {
    let (sender, mut lines) = mpsc::channel::<String>(1);
    // A separate thread, because reading from a terminal cannot be cancelled; it ends with the process.
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    while let Some(line) = lines.recv().await {
        let reply = match run_command(front_ends, &line) {
            Ok(None) => continue,
            Ok(Some(reply)) => {
                typed.set(true);
                reply
            }
            Err(error) => error,
        };
        // A closed standard output is ignored.
        let _ = print_result(&format!("{reply}\n"));
    }
    std::future::pending().await
}

/// Runs one typed command. Returns the reply, `None` for an empty line, or an error text.
fn run_command(front_ends: &[FrontEnd], line: &str) -> Result<Option<String>, String> {
    let usage = "usage: stop|start|close-sip|open-sip fe01|fe02|fe03";
    let mut words = line.split_whitespace();
    let Some(command) = words.next() else {
        return Ok(None);
    };
    let (Some(name), None) = (words.next(), words.next()) else {
        return Err(usage.into());
    };
    let front_end = front_ends
        .iter()
        .find(|front_end| short_name(front_end.fqdn()) == name || front_end.fqdn() == name)
        .ok_or(usage)?;
    let (done, now) = match command {
        "stop" => {
            front_end.stop();
            (Ok(()), "is stopped; its checks fail in a few seconds")
        }
        "start" => (front_end.restart(), "is running"),
        "close-sip" => {
            front_end.close_sip();
            (
                Ok(()),
                "has closed its SIP port; its checks fail in a few seconds",
            )
        }
        "open-sip" => (front_end.open_sip(), "has its SIP port open"),
        _ => return Err(usage.into()),
    };
    match done {
        Ok(()) => Ok(Some(format!("{name} {now}"))),
        Err(error) => Err(format!("{name}: {error}")),
    }
}
