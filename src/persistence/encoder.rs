//! From pins and states to frames.
//!
//! Owns how records are cut into frames. Must not know files or clocks. Invariant: a number is used only after the record
//! that defines it.

use super::clock::Stamp;
use super::frame::{self, MOST};
use super::records::{StateRecord, put_checkpoint_end};
use crate::affinity::record::codec::PinEncoder;
use crate::affinity::record::{PinChange, PinGroup, PinRecord};

/// A frame is closed when its payload has this many bytes: a lost frame costs little, and 12 bytes of head are nothing.
const FULL: usize = 64 * 1024;

/// The beginning of a file: the secret that hashes of sessions are made with, and the version that wrote it, for people.
pub(super) fn head(secret: &[u8; 32]) -> Vec<u8> {
    let mut payload = secret.to_vec();
    payload.extend(env!("CARGO_PKG_VERSION").bytes());
    let mut bytes = frame::preamble().to_vec();
    frame::seal(&payload, &mut bytes);
    bytes
}

/// Encodes the batches of one file.
pub(super) struct Encoder {
    pins: PinEncoder,
    stamp: Stamp,
    payload: Vec<u8>,
    frames: Vec<u8>,
}

impl Encoder {
    /// An encoder for the beginning of a file or the middle of one: its numbers start again.
    pub(super) fn new(stamp: Stamp) -> Self {
        Self {
            pins: PinEncoder::default(),
            stamp,
            payload: Vec::new(),
            frames: Vec::new(),
        }
    }

    /// Times of the records that follow are relative to this moment.
    pub(super) fn begin(&mut self, stamp: Stamp) {
        if stamp != self.stamp {
            self.close();
            self.stamp = stamp;
        }
        self.open();
    }

    /// The number of a group.
    pub(super) fn group(&mut self, group: &PinGroup) -> u32 {
        self.open();
        self.pins.group(&mut self.payload, group)
    }

    /// A change of a pin at the moment of the stamp.
    pub(super) fn change(&mut self, group: u32, change: &PinChange) {
        self.open();
        self.pins.change(&mut self.payload, group, change);
        self.close_if_full();
    }

    /// A pin at the moment of the stamp.
    pub(super) fn set(&mut self, group: u32, record: &PinRecord) {
        self.open();
        self.pins.set(&mut self.payload, group, record);
        self.close_if_full();
    }

    /// An administrative state at the moment of the stamp.
    pub(super) fn state(&mut self, state: &StateRecord) {
        self.open();
        state.put(&mut self.pins, &mut self.payload);
        self.close_if_full();
    }

    /// What was encoded so far is a whole checkpoint.
    pub(super) fn end_checkpoint(&mut self) {
        self.open();
        put_checkpoint_end(&mut self.payload);
    }

    /// Whether anything was encoded since the last [`Encoder::finish`].
    pub(super) fn has_records(&self) -> bool {
        !self.frames.is_empty() || self.payload.len() > Stamp::BYTES
    }

    /// Bytes that [`Encoder::finish`] would return.
    pub(super) fn waiting(&self) -> usize {
        self.frames.len() + self.payload.len()
    }

    /// The frames since the last call.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        self.close();
        std::mem::take(&mut self.frames)
    }

    fn open(&mut self) {
        if self.payload.is_empty() {
            self.stamp.put(&mut self.payload);
        }
    }

    fn close_if_full(&mut self) {
        debug_assert!(self.payload.len() <= MOST, "names are bounded");
        if self.payload.len() >= FULL {
            self.close();
        }
    }

    fn close(&mut self) {
        if !self.payload.is_empty() {
            frame::seal(&self.payload, &mut self.frames);
            self.payload.clear();
        }
    }
}
