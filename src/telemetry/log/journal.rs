//! The priority of a line in the systemd journal.
//!
//! Owns the prefix `<N>` (sd-daemon(3)), which journald removes in both formats, and the check whether standard error is the
//! journal (`JOURNAL_STREAM`, systemd.exec(5)). Must not know lines. Invariant: no other reader gets a prefix.

use std::io;

use rustix::fs::fstat;
use tracing::Level;

/// The priority as syslog(3) numbers it.
pub(super) fn prefix(level: Level) -> &'static [u8] {
    match level {
        Level::ERROR => b"<3>",
        Level::WARN => b"<4>",
        Level::INFO => b"<6>",
        Level::DEBUG | Level::TRACE => b"<7>",
    }
}

/// Whether standard error is connected to the journal.
#[must_use]
pub fn is_standard_error() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    fstat(io::stderr()).is_ok_and(|stat| is_same_file(&stream, stat.st_dev, stat.st_ino))
}

/// An error text for the journal: each line with the priority of an error.
#[must_use]
pub fn format_error(text: &str) -> String {
    text.lines().map(|line| format!("<3>{line}\n")).collect()
}

/// Whether `stream`, the value of `JOURNAL_STREAM`, is the file with this device and inode.
fn is_same_file(stream: &str, device: u64, inode: u64) -> bool {
    let numbers = stream.split_once(':');
    let numbers = numbers.and_then(|(device, inode)| {
        Some((device.parse::<u64>().ok()?, inode.parse::<u64>().ok()?))
    });
    numbers == Some((device, inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_stream_is_the_journal() {
        assert!(is_same_file("9:4711", 9, 4711));
        for other in [
            "", "9", "9:", ":4711", "9:4712", "8:4711", "9:4711:0", "x:4711",
        ] {
            assert!(!is_same_file(other, 9, 4711), "{other}");
        }
    }

    #[test]
    fn every_line_of_an_error_has_its_priority() {
        assert_eq!(format_error("a\nb\n"), "<3>a\n<3>b\n");
    }
}
