//! The descriptor reserve: descriptors that connections cannot use, so that a balancer without free descriptors can still be
//! queried and reloaded.
//!
//! Owns the soft limit of descriptors (setrlimit(2)) and its distance from the hard limit. Must not know the users of
//! descriptors. Invariant: while the limit is not lifted, the descriptors of the reserve are free, or were opened while it
//! was lifted.
//!
//! The kernel assigns the lowest free number, and none from the soft limit on, so the numbers above are free until the limit is
//! lifted. It is then lifted for every thread. That lasts for a few system calls; meanwhile the acceptors accept no client
//! ([`is_lifted`]).

use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The largest reserve.
const MAX: u64 = 64;
/// One of this many descriptors is reserved.
const DIVISOR: u64 = 8;

/// The current users of the reserve; `None` until the reserve is established.
static USERS: Mutex<Option<usize>> = Mutex::new(None);
/// Whether there are users.
static LIFTED: AtomicBool = AtomicBool::new(false);

/// The reserve for this number of descriptors.
#[must_use]
pub const fn size_for(descriptors: u64) -> u64 {
    let reserve = descriptors / DIVISOR;
    if reserve < MAX { reserve } else { MAX }
}

/// The part of this process's reserve that each of the two admin listeners may use. The rest is for a reload.
#[must_use]
pub fn share_per_listener() -> u64 {
    let maximum = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    (size_for(maximum) * 3 / 8).max(1)
}

/// Raises the soft limit to the hard limit minus the reserve, and returns the hard limit.
pub fn establish() -> u64 {
    let mut users = lock();
    set(*users.get_or_insert(0));
    let limit = getrlimit(Resource::Nofile);
    limit.maximum.or(limit.current).unwrap_or(u64::MAX)
}

/// Allows the use of the reserve until it is dropped.
#[must_use]
pub struct LiftedLimit(());

/// Lifts the limit, after a call that failed because no descriptor was free. Hold the result only for calls that do not block.
pub fn lift() -> LiftedLimit {
    change(|users| users + 1);
    LiftedLimit(())
}

/// Whether the reserve is in use, which means that no other descriptor is free.
pub fn is_lifted() -> bool {
    LIFTED.load(Ordering::Acquire)
}

impl Drop for LiftedLimit {
    fn drop(&mut self) {
        change(|users| users.saturating_sub(1));
    }
}

/// Calls `attempt`, and if no descriptor was free, once more with the reserve.
///
/// # Errors
///
/// The error of the last attempt.
pub fn retry_with_reserve<T, E: Error + 'static>(
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    match attempt() {
        Err(error) if is_out_of_descriptors(&error) => {
            let _lifted = lift();
            attempt()
        }
        done => done,
    }
}

/// Whether the cause of an error is that this process has no free descriptor.
pub fn is_out_of_descriptors(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && Errno::from_io_error(error) == Some(Errno::MFILE)
        {
            return true;
        }
        next = error.source();
    }
    false
}

fn change(count: impl FnOnce(usize) -> usize) {
    if let Some(users) = &mut *lock() {
        *users = count(*users);
        set(*users);
    }
}

/// If this fails, the previous limit stays.
fn set(users: usize) {
    LIFTED.store(users > 0, Ordering::Release);
    let Some(maximum) = getrlimit(Resource::Nofile).maximum else {
        return;
    };
    let reserved = if users == 0 { size_for(maximum) } else { 0 };
    let limit = Rlimit {
        current: Some(maximum - reserved),
        maximum: Some(maximum),
    };
    let _ = setrlimit(Resource::Nofile, limit);
}

fn lock() -> MutexGuard<'static, Option<usize>> {
    USERS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_a_share_with_a_maximum() {
        assert_eq!(
            [
                size_for(16),
                size_for(96),
                size_for(1024),
                size_for(1 << 20)
            ],
            [2, 12, 64, 64]
        );
    }

    #[test]
    fn a_missing_descriptor_is_found_behind_another_error() {
        let exhausted = || io::Error::from(Errno::MFILE);
        assert!(is_out_of_descriptors(&exhausted()));
        assert!(!is_out_of_descriptors(&io::Error::from(Errno::NFILE)));
        let mut attempts = 0;
        let done = retry_with_reserve(|| {
            attempts += 1;
            if attempts == 1 {
                Err(exhausted())
            } else {
                Ok(())
            }
        });
        assert!(done.is_ok() && attempts == 2);
    }
}
