//! The outermost form of the file: a preamble, then frames.
//!
//! Owns the checksums that show whether a piece of the file is whole. Must not know what is in a frame. Invariant: a payload
//! is returned only if its checksum is right; after the first wrong one, none is.
//!
//! ```text
//! preamble  magic (8 bytes), version (u32), CRC-32 of those twelve (u32)
//! frame     length of the payload (u32), CRC-32 of the payload (u32), CRC-32 of those eight (u32), payload
//! ```
//!
//! Numbers are little-endian; CRC-32 is that of IEEE 802.3.

use std::io::{self, Read};

/// The first bytes of the file.
const MAGIC: [u8; 8] = *b"lyncpin\0";
/// The version that is written, and the only one that is read.
pub(super) const VERSION: u32 = 1;
/// Bytes before the first frame.
pub(super) const PREAMBLE: usize = 16;
/// Bytes before a payload.
pub(super) const HEAD: usize = 12;
/// The largest payload. A longer one is not written, and counts as damage when it is read.
pub(super) const MOST: usize = 1 << 20;

/// Why a file cannot be read to its end.
#[derive(Debug)]
pub(super) enum FrameError {
    /// Its last frame is incomplete, as a crash in the middle of a write leaves it.
    Torn,
    /// A frame before its end has a wrong checksum.
    Damaged,
    /// It does not start like a file of the store.
    Foreign,
    /// It is of another version.
    Version(u32),
    /// The kernel returns an error.
    Io(io::Error),
}

/// The first bytes of a file.
pub(super) fn preamble() -> [u8; PREAMBLE] {
    preamble_of(VERSION)
}

fn preamble_of(version: u32) -> [u8; PREAMBLE] {
    let mut bytes = [0; PREAMBLE];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&version.to_le_bytes());
    let sum = crc32fast::hash(&bytes[..12]);
    bytes[12..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Appends a frame with this payload of at most [`MOST`] bytes.
pub(super) fn seal(payload: &[u8], into: &mut Vec<u8>) {
    let length = u32::try_from(payload.len()).expect("MOST is below 2^32");
    debug_assert!(payload.len() <= MOST);
    let mut head = [0; HEAD];
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[4..8].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
    let sum = crc32fast::hash(&head[..8]);
    head[8..].copy_from_slice(&sum.to_le_bytes());
    into.extend_from_slice(&head);
    into.extend_from_slice(payload);
}

/// Reads one frame after another.
pub(super) struct Frames<R> {
    from: R,
    /// Length of the preamble and of the valid frames.
    good: u64,
    length: u64,
    payload: Vec<u8>,
}

impl<R: Read> Frames<R> {
    /// Reads the preamble of a file of that length.
    pub(super) fn open(mut from: R, length: u64) -> Result<Self, FrameError> {
        let mut bytes = [0; PREAMBLE];
        let read = fill(&mut from, &mut bytes)?;
        let version = number(&bytes[8..]);
        if read < PREAMBLE || bytes[..8] != MAGIC || bytes != preamble_of(version) {
            return Err(FrameError::Foreign);
        }
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        Ok(Self {
            from,
            good: PREAMBLE as u64,
            length,
            payload: Vec::new(),
        })
    }

    /// The end of the last valid frame.
    pub(super) fn good(&self) -> u64 {
        self.good
    }

    /// The next payload; `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let mut head = [0; HEAD];
        match fill(&mut self.from, &mut head)? {
            0 => return Ok(None),
            HEAD => {}
            _ => return Err(FrameError::Torn),
        }
        let length = number(&head) as usize;
        if number(&head[8..]) != crc32fast::hash(&head[..8]) || length > MOST {
            return Err(self.damage(&head));
        }
        self.payload.resize(length, 0);
        let read = fill(&mut self.from, &mut self.payload)?;
        if read < length {
            return Err(FrameError::Torn);
        }
        let end = self.good + (HEAD + length) as u64;
        if number(&head[4..]) != crc32fast::hash(&self.payload) {
            return Err(if end >= self.length {
                FrameError::Torn
            } else {
                FrameError::Damaged
            });
        }
        self.good = end;
        Ok(Some(&self.payload))
    }

    /// Distinguishes damage from a torn write. A file system may have extended the file before the machine went down without
    /// writing the data: then zeros follow to the end.
    fn damage(&mut self, head: &[u8]) -> FrameError {
        let mut rest = [0; 4096];
        let mut all_zero = head.iter().all(|&byte| byte == 0);
        while all_zero {
            match fill(&mut self.from, &mut rest) {
                Ok(0) => return FrameError::Torn,
                Ok(read) => all_zero = rest[..read].iter().all(|&byte| byte == 0),
                Err(error) => return error,
            }
        }
        FrameError::Damaged
    }
}

/// Reads until `buffer` is full or the file ends. Returns the number of bytes.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> Result<usize, FrameError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FrameError::Io(error)),
        }
    }
    Ok(filled)
}

/// The first four bytes as a number.
fn number(bytes: &[u8]) -> u32 {
    let four: [u8; 4] = bytes[..4].try_into().expect("four bytes were taken");
    u32::from_le_bytes(four)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(payloads: &[&[u8]]) -> Vec<u8> {
        let mut bytes = preamble().to_vec();
        for payload in payloads {
            seal(payload, &mut bytes);
        }
        bytes
    }

    /// The payloads that are read, and how the file ends.
    fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, String) {
        let mut found = Vec::new();
        let mut frames = match Frames::open(bytes, bytes.len() as u64) {
            Ok(frames) => frames,
            Err(error) => return (found, format!("{error:?}")),
        };
        loop {
            match frames.next() {
                Ok(Some(payload)) => found.push(payload.to_vec()),
                Ok(None) => return (found, "end".into()),
                Err(error) => return (found, format!("{error:?}")),
            }
        }
    }

    const SAMPLE: [&[u8]; 3] = [b"one", b"", b"three and more"];

    #[test]
    fn frames_read_as_they_were_written() {
        let (found, end) = read(&file(&SAMPLE));
        assert_eq!((found, &*end), (SAMPLE.map(<[u8]>::to_vec).to_vec(), "end"));
    }

    #[test]
    fn every_truncation_is_an_end_or_torn() {
        let bytes = file(&SAMPLE);
        let ends = [16, 31, 43, bytes.len()];
        for length in PREAMBLE..bytes.len() {
            let (found, end) = read(&bytes[..length]);
            let whole = ends.iter().filter(|&&end| end <= length).count() - 1;
            assert_eq!(found, SAMPLE[..whole], "{length}");
            let expected = if ends.contains(&length) {
                "end"
            } else {
                "Torn"
            };
            assert_eq!(end, expected, "{length}");
        }
        for length in 0..PREAMBLE {
            assert_eq!(read(&bytes[..length]).1, "Foreign");
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let bytes = file(&SAMPLE);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let (found, end) = read(&flipped);
            assert_ne!(end, "end", "{bit}");
            assert_eq!(found, SAMPLE[..found.len()], "{bit}");
        }
    }

    #[test]
    fn zeros_after_the_last_frame_are_a_torn_write_and_other_bytes_are_damage() {
        let mut bytes = file(&SAMPLE);
        bytes.resize(bytes.len() + 9000, 0);
        assert_eq!(read(&bytes).1, "Torn");
        bytes.push(1);
        assert_eq!(read(&bytes).1, "Damaged");
    }

    #[test]
    fn another_version_is_reported() {
        let mut bytes = preamble_of(7).to_vec();
        bytes.extend([0xff; 100]);
        assert_eq!(read(&bytes).1, "Version(7)");
    }

    #[test]
    fn a_payload_over_the_limit_is_damage() {
        let mut bytes = preamble().to_vec();
        let mut head = [0; HEAD];
        head[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        let sum = crc32fast::hash(&head[..8]);
        head[8..].copy_from_slice(&sum.to_le_bytes());
        bytes.extend(head);
        assert_eq!(read(&bytes).1, "Damaged");
    }
}
