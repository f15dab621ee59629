//! Descriptors that connections cannot take, so that a balancer that has used up its own can still be asked and reloaded.
//!
//! Owns the soft limit of descriptors (setrlimit(2)) and how far it is below the hard one. Knows neither who uses
//! descriptors up nor for what. Invariant: while the limit is not lifted, the last [`of`] descriptors are free or belong to
//! those who lifted it.
//!
//! The kernel gives the lowest free number and refuses one at the soft limit, so the numbers above it are free until the
//! limit is lifted. Lifted, it is so for every thread; that lasts for a few system calls, and accept loops of clients take
//! no client meanwhile ([`is_lifted`]).

use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The most that is held back.
const MOST: u64 = 64;
/// Of so many descriptors one is held back.
const SHARE: u64 = 8;

/// How many use the reserve now. Nothing is held back before [`hold_back`].
static USERS: Mutex<Option<usize>> = Mutex::new(None);
/// Whether there are any.
static LIFTED: AtomicBool = AtomicBool::new(false);

/// How many of `descriptors` are held back.
#[must_use]
pub const fn of(descriptors: u64) -> u64 {
    let share = descriptors / SHARE;
    if share < MOST { share } else { MOST }
}

/// What each of two listeners may take of what is held back from this process: the rest is for a reload.
#[must_use]
pub fn share() -> u64 {
    let maximum = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    (of(maximum) * 3 / 8).max(1)
}

/// Raises the soft limit to the hard one, less what is held back from now on; says what there is in all.
pub fn hold_back() -> u64 {
    let mut users = lock();
    set(*users.get_or_insert(0));
    let limit = getrlimit(Resource::Nofile);
    limit.maximum.or(limit.current).unwrap_or(u64::MAX)
}

/// Uses the reserve until it is dropped.
#[must_use]
pub struct Lifted(());

/// Lifts the limit, after a call that failed for want of a descriptor. To be held for calls that do not wait.
pub fn lift() -> Lifted {
    change(|users| users + 1);
    Lifted(())
}

/// Whether somebody uses the reserve now, which means that there are no other descriptors.
pub fn is_lifted() -> bool {
    LIFTED.load(Ordering::Acquire)
}

impl Drop for Lifted {
    fn drop(&mut self) {
        change(|users| users.saturating_sub(1));
    }
}

/// Tries, and once more with the reserve if there was no descriptor.
///
/// # Errors
///
/// What the last try said.
pub fn retry<T, E: Error + 'static>(mut attempt: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    match attempt() {
        Err(error) if is_exhausted(&error) => {
            let _lifted = lift();
            attempt()
        }
        done => done,
    }
}

/// Whether it is for want of a descriptor of this process.
pub fn is_exhausted(error: &(dyn Error + 'static)) -> bool {
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

/// Where it cannot be set, what there was is still there.
fn set(users: usize) {
    LIFTED.store(users > 0, Ordering::Release);
    let Some(maximum) = getrlimit(Resource::Nofile).maximum else {
        return;
    };
    let held_back = if users == 0 { of(maximum) } else { 0 };
    let limit = Rlimit {
        current: Some(maximum - held_back),
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
    fn a_share_is_held_back_and_never_more_than_is_needed() {
        assert_eq!([of(16), of(96), of(1024), of(1 << 20)], [2, 12, 64, 64]);
    }

    #[test]
    fn want_of_a_descriptor_is_found_behind_another_error() {
        let exhausted = || io::Error::from(Errno::MFILE);
        assert!(is_exhausted(&exhausted()));
        assert!(!is_exhausted(&io::Error::from(Errno::NFILE)));
        let mut attempts = 0;
        let done = retry(|| {
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
