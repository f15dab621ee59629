//! The locks and counts that workers share.
//!
//! Owns which ones they are: the standard library's, or, where the build says `--cfg lyncpin_shuttle`, those of a checker
//! that runs threads in thousands of orders, one step of one thread at a time (`tests/threads`). Invariant: what workers
//! share of a group's tables is locked and counted with nothing else.

#[cfg(lyncpin_shuttle)]
pub(super) use shuttle::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicUsize},
};
pub(super) use std::sync::PoisonError;
pub(super) use std::sync::atomic::Ordering;
#[cfg(not(lyncpin_shuttle))]
pub(super) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicUsize},
};
