//! The locks and atomics that workers share.
//!
//! Owns their choice: the standard library's, or, in a build with `--cfg lyncpin_shuttle`, those of a checker that runs
//! threads in thousands of orders, one step of one thread at a time (`tests/threads`). Invariant: a group's tables use no
//! other locks and atomics.

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
