//! Whether the process that started this one lives.
//!
//! Owns the ways to find out. A closed channel is not one: a process that gives up an upgrade closes it too, keeps serving,
//! and kills its successor a moment later. Must not know the messages. Invariant: a process that lives is never reported as
//! ended.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, getppid, pidfd_open};

/// Time between two checks if the kernel has no process descriptors.
const CHECK_EVERY: Duration = Duration::from_millis(10);

/// The process that started this one in an upgrade.
#[derive(Debug)]
pub struct PredecessorProcess {
    pid: u32,
    watch: Watch,
}

/// How its end is detected.
#[derive(Debug)]
enum Watch {
    /// This becomes readable (pidfd_open(2)).
    Descriptor(OwnedFd),
    /// It is the parent of this process until then (getppid(2)): for kernels before 5.3.
    Parent(Pid),
    /// It had ended before this process could open it.
    Ended,
    /// It cannot be detected.
    Unknown,
}

impl PredecessorProcess {
    /// The process with this id, which must have started this one.
    #[must_use]
    pub fn new(pid: u32) -> Self {
        let known = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let watch = known.map_or(Watch::Unknown, |known| {
            match pidfd_open(known, PidfdFlags::empty()) {
                Ok(descriptor) => Watch::Descriptor(descriptor),
                Err(Errno::SRCH) => Watch::Ended,
                Err(_) if getppid() == Some(known) => Watch::Parent(known),
                Err(_) => Watch::Unknown,
            }
        });
        Self { pid, watch }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until it has ended, for at most `time`, and returns whether it has. Blocks.
    #[must_use]
    pub fn has_ended_within(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        match &self.watch {
            Watch::Ended => true,
            Watch::Unknown => false,
            Watch::Descriptor(descriptor) => wait_for(descriptor, until).unwrap_or(false),
            Watch::Parent(pid) => loop {
                if getppid() != Some(*pid) {
                    return true;
                }
                if Instant::now() >= until {
                    return false;
                }
                std::thread::sleep(CHECK_EVERY);
            },
        }
    }
}

fn wait_for(descriptor: &OwnedFd, until: Instant) -> io::Result<bool> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut watched = [PollFd::new(descriptor, PollFlags::IN)];
        match poll(&mut watched, Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(20);

    #[test]
    fn a_living_process_is_distinguished_from_one_that_has_ended() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let known = PredecessorProcess::new(child.id());
        assert!(!known.has_ended_within(MOMENT));
        child.kill().unwrap();
        // Even before it has been waited for.
        assert!(known.has_ended_within(Duration::from_secs(20)));
        child.wait().unwrap();
        assert!(known.has_ended_within(MOMENT));
        assert!(PredecessorProcess::new(child.id()).has_ended_within(MOMENT));
    }

    #[test]
    fn the_parent_lives_and_an_unknown_process_counts_as_living() {
        let parent = getppid().unwrap();
        let by_parent = PredecessorProcess {
            pid: 1,
            watch: Watch::Parent(parent),
        };
        assert!(!by_parent.has_ended_within(MOMENT));
        assert!(!PredecessorProcess::new(0).has_ended_within(MOMENT));
        assert!(!PredecessorProcess::new(u32::MAX).has_ended_within(MOMENT));
        let another = Pid::from_raw(parent.as_raw_pid() ^ 1).unwrap();
        let re_parented = PredecessorProcess {
            pid: 1,
            watch: Watch::Parent(another),
        };
        assert!(re_parented.has_ended_within(MOMENT));
    }
}
