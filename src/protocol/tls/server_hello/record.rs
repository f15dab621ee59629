//! Owns TLS records: their headers, their types and the limit on all of them together.
//!
//! Must not know what is in a fragment, nor which record may follow which.
//!
//! Invariant: each byte is judged as it comes, so that a verdict never depends on how the bytes were cut; and nothing of
//! a fragment is held.

use super::ServerHelloError;

/// Most bytes that a server may take on the wire until it has said what is read here, record headers included.
pub const MAX_WIRE: usize = 128 * 1024;

/// Length of a record header: type, version, length (RFC 5246 section 6.2.1).
const HEADER: usize = 5;
/// Longest plaintext fragment (RFC 5246 section 6.2.1).
const MAX_FRAGMENT: usize = 1 << 14;
/// The major version in all record headers since SSL 3.
const MAJOR: u8 = 3;

/// What a record holds, as far as it is in clear (RFC 5246 section 6.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Type 20: all that follows is encrypted.
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

/// What the next bytes are.
#[derive(Debug)]
pub(super) enum Piece<'a> {
    /// A record of this type begins. Nothing of it but the type has been looked at.
    Begins(Content),
    /// As much of a record's fragment as there is; never empty.
    Fragment(Content, &'a [u8]),
}

/// Takes records apart as they come. After a fault it is not asked again.
#[derive(Debug)]
pub(super) struct Records {
    /// The type of the record that began last.
    content: Content,
    /// The bytes of a record header so far, the rest of no meaning.
    header: [u8; HEADER],
    header_len: usize,
    /// What is still to come of the record's fragment.
    fragment_left: usize,
    /// Bytes of records whose header is whole.
    wire_len: usize,
}

impl Records {
    /// Has seen nothing.
    pub(super) fn new() -> Self {
        Self {
            content: Content::Handshake,
            header: [0; HEADER],
            header_len: 0,
            fragment_left: 0,
            wire_len: 0,
        }
    }

    /// Takes the next piece off `bytes`; `None` once they are all taken.
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

    /// Whether the fragment that [`Records::next`] gave last was the end of its record.
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
