//! The time between two moments of two processes.
//!
//! Owns the clocks that the file is stamped with. Must not know pins. Invariants: time never runs backward, whatever the wall
//! clock does; within one boot of the machine the wall clock is not used.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use crate::affinity::record::bytes::{ByteReader, Malformed};

/// Random for each boot: random(4).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A moment that another process understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The boot of the machine; all zero if the kernel does not report it.
    pub(super) boot: [u8; 16],
    /// Milliseconds since that boot, sleep included (`CLOCK_BOOTTIME`, clock_gettime(2)).
    pub(super) since_boot: u64,
    /// Milliseconds since 1970 on the wall clock.
    pub(super) wall: u64,
}

impl Stamp {
    /// Its length in the file.
    pub(super) const BYTES: usize = 32;

    /// This moment.
    pub(super) fn now() -> Self {
        let boot = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(boot.tv_sec).unwrap_or(0);
        let nanoseconds = u64::try_from(boot.tv_nsec).unwrap_or(0);
        let wall = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            boot: boot_id(),
            since_boot: seconds * 1000 + nanoseconds / 1_000_000,
            wall: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Appends its [`Stamp::BYTES`].
    pub(super) fn put(&self, into: &mut Vec<u8>) {
        into.extend(self.boot);
        into.extend(self.since_boot.to_le_bytes());
        into.extend(self.wall.to_le_bytes());
    }

    /// Reads what [`Stamp::put`] wrote.
    pub(super) fn read(from: &mut ByteReader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            boot: from.array()?,
            since_boot: from.fixed()?,
            wall: from.fixed()?,
        })
    }

    /// The time from this moment to `now`: by the clock of the boot if it is the same boot, else by the wall clock; zero if
    /// that would be negative.
    pub(super) fn elapsed(&self, now: &Self) -> Duration {
        let same_boot = self.boot == now.boot && self.boot != [0; 16];
        Duration::from_millis(if same_boot {
            now.since_boot.saturating_sub(self.since_boot)
        } else {
            now.wall.saturating_sub(self.wall)
        })
    }
}

/// The id of this boot. It is read once: a process does not outlive its boot.
fn boot_id() -> [u8; 16] {
    static READ: std::sync::OnceLock<[u8; 16]> = std::sync::OnceLock::new();
    *READ.get_or_init(|| {
        std::fs::read_to_string(BOOT_ID)
            .ok()
            .and_then(|text| parse(&text))
            .unwrap_or_default()
    })
}

/// `d7a6c2a0-3b1c-4f5e-9a51-0f6e1f0c2b11`
fn parse(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.trim().chars().filter(|&c| c != '-').collect();
    (digits.len() == 32).then_some(())?;
    u128::from_str_radix(&digits, 16)
        .ok()
        .map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn stamp(boot: u8, since_boot: u64, wall: u64) -> Stamp {
        Stamp {
            boot: [boot; 16],
            since_boot,
            wall,
        }
    }

    #[track_caller]
    fn check(before: Stamp, now: Stamp, milliseconds: u64) {
        assert_eq!(before.elapsed(&now), Duration::from_millis(milliseconds));
    }

    #[test]
    fn within_one_boot_jumps_of_the_wall_clock_do_not_count() {
        let before = stamp(1, 5_000, 100 * HOUR);
        check(before, stamp(1, 9_000, 100 * HOUR), 4_000);
        check(before, stamp(1, 9_000, 0), 4_000);
        check(before, stamp(1, 9_000, 900 * HOUR), 4_000);
    }

    #[test]
    fn after_a_reboot_the_wall_clock_counts_if_it_goes_forward() {
        let before = stamp(1, 50 * HOUR, 100 * HOUR);
        check(before, stamp(2, 1_000, 101 * HOUR), HOUR);
        check(before, stamp(2, 60 * HOUR, 99 * HOUR), 0);
    }

    #[test]
    fn an_unknown_boot_is_never_the_same() {
        let before = stamp(0, 5_000, 100 * HOUR);
        check(before, stamp(0, 9_000, 102 * HOUR), 2 * HOUR);
    }

    #[test]
    fn a_boot_clock_that_runs_backward_counts_as_zero() {
        check(stamp(1, 5_000, 0), stamp(1, 4_000, HOUR), 0);
    }

    #[test]
    fn the_kernel_reports_its_boot() {
        let parsed = parse("d7a6c2a0-3b1c-4f5e-9a51-0f6e1f0c2b11\n").unwrap();
        assert_eq!(parsed[..4], [0xd7, 0xa6, 0xc2, 0xa0]);
        assert_eq!((parse(""), parse("d7a6")), (None, None));
        let (first, second) = (Stamp::now(), Stamp::now());
        assert_eq!(first.boot, second.boot);
        assert!(first.since_boot > 0 && first.elapsed(&second) < Duration::from_secs(60));
    }
}
