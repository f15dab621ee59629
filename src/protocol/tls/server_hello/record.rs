//! Owns TLS records: their headers, their types and the limit of all of them together.
//!
//! Must not know the contents of a fragment, nor the order of records.
//!
//! Invariant: each byte is parsed as it arrives, so that a result never depends on how the bytes were split; no part of a fragment
//! is held.

use super::ServerHelloError;

/// Most bytes of a server that are read, including record headers.
pub const MAX_WIRE: usize = 128 * 1024;

/// Length of a record header: type, version, length (RFC 5246 section 6.2.1).
const HEADER: usize = 5;
/// Longest plaintext fragment (RFC 5246 section 6.2.1).
const MAX_FRAGMENT: usize = 1 << 14;
/// The major version in all record headers since SSL 3.
const MAJOR: u8 = 3;

/// The content type of a record, if it is unencrypted (RFC 5246 section 6.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Type 20: everything after it is encrypted.
    ChangeCipherSpec,
    /// Type 21.
    Alert,
    /// Type 22.
    Handshake,
}

impl Content {
    fn of(kind: u8) -> Option<Self> {
        match kind {
            20 => Some(Self::ChangeCipherSpec),
            21 => Some(Self::Alert),
            22 => Some(Self::Handshake),
            _ => None,
        }
    }
}

/// The next part of the stream.
#[derive(Debug)]
pub(super) enum Piece<'a> {
    /// A record of this type begins. Only its type has been read.
    Begins(Content),
    /// The available part of a record's fragment; never empty.
    Fragment(Content, &'a [u8]),
}

/// Splits the stream into records incrementally. Not used again after an error.
#[derive(Debug)]
pub(super) struct Records {
    /// The type of the current record.
    content: Content,
    /// The first `header_len` bytes of the header; the others have no meaning.
    header: [u8; HEADER],
    header_len: usize,
    /// Number of missing bytes of the fragment.
    fragment_left: usize,
    /// Total length of the records whose header is complete.
    wire_len: usize,
}

impl Records {
    /// At the start of a connection.
    pub(super) fn new() -> Self {
        Self {
            content: Content::Handshake,
            header: [0; HEADER],
            header_len: 0,
            fragment_left: 0,
            wire_len: 0,
        }
    }

    /// Removes the next piece from `bytes`; `None` once they are all read.
    pub(super) fn next<'a>(
        &mut self,
        bytes: &mut &'a [u8],
    ) -> Result<Option<Piece<'a>>, ServerHelloError> {
        while let Some((&byte, after)) = bytes.split_first() {
            if self.fragment_left > 0 {
                let (part, after) = bytes.split_at(bytes.len().min(self.fragment_left));
                *bytes = after;
                self.fragment_left -= part.len();
                return Ok(Some(Piece::Fragment(self.content, part)));
            }
            *bytes = after;
            self.take_header(byte)?;
            if self.header_len == 1 {
                return Ok(Some(Piece::Begins(self.content)));
            }
        }
        Ok(None)
    }

    /// Whether the last fragment from [`Records::next`] was the end of its record.
    pub(super) fn is_whole(&self) -> bool {
        self.fragment_left == 0
    }

    fn take_header(&mut self, byte: u8) -> Result<(), ServerHelloError> {
        self.header[self.header_len] = byte;
        self.header_len += 1;
        let first = self.wire_len == 0;
        match self.header_len {
            1 => match Content::of(byte) {
                Some(content) => self.content = content,
                None if first => return Err(ServerHelloError::NotTls),
                None => return Err(ServerHelloError::Record),
            },
            2 if byte != MAJOR && first => return Err(ServerHelloError::NotTls),
            2 if byte != MAJOR => return Err(ServerHelloError::Record),
            HEADER => {
                let len = usize::from(u16::from_be_bytes([self.header[3], self.header[4]]));
                self.wire_len += HEADER + len;
                if len == 0 {
                    return Err(ServerHelloError::Record);
                }
                if len > MAX_FRAGMENT || self.wire_len > MAX_WIRE {
                    return Err(ServerHelloError::TooLarge);
                }
                self.fragment_left = len;
                self.header_len = 0;
            }
            _ => {}
        }
        Ok(())
    }
}
