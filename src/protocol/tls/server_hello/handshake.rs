//! Owns handshake headers: extracts the messages from the fragments of handshake records, however they are split.
//!
//! Must not know the contents of a message, nor the order of messages.
//!
//! Invariant: at most one message is held, only one that is needed, and never more than its own length, which is at most
//! [`MAX_MESSAGE`].

use super::ServerHelloError;

/// Longest handshake message by its own length field: a chain of some forty certificates.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// Length of a handshake header: type, and a length of three bytes (RFC 5246 section 7.4).
const HEADER: usize = 4;

/// Handshake types (RFC 5246 section 7.4; RFC 5077 section 3.3, RFC 6066 section 8, RFC 4680 section 2).
pub(super) mod kind {
    pub(in super::super) const HELLO_REQUEST: u8 = 0;
    pub(in super::super) const SERVER_HELLO: u8 = 2;
    pub(in super::super) const NEW_SESSION_TICKET: u8 = 4;
    pub(in super::super) const CERTIFICATE: u8 = 11;
    pub(in super::super) const SERVER_KEY_EXCHANGE: u8 = 12;
    pub(in super::super) const CERTIFICATE_REQUEST: u8 = 13;
    pub(in super::super) const SERVER_HELLO_DONE: u8 = 14;
    pub(in super::super) const CERTIFICATE_STATUS: u8 = 22;
    pub(in super::super) const SUPPLEMENTAL_DATA: u8 = 23;
}

/// How the body of a message is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyHandling {
    /// Held until it is complete.
    Buffer,
    /// Not held.
    Skip,
}

/// A complete message.
#[derive(Debug)]
pub(super) struct HandshakeMessage {
    /// Its handshake type.
    pub(super) kind: u8,
    /// The bytes after its header; empty if it was skipped.
    pub(super) body: Vec<u8>,
}

/// Extracts messages from fragments incrementally. Not used again after an error.
#[derive(Debug)]
pub(super) struct Messages {
    /// The first `header_len` bytes of the header; the others have no meaning.
    header: [u8; HEADER],
    header_len: usize,
    /// Number of missing bytes of the body, once the header is complete.
    left: usize,
    handling: BodyHandling,
    body: Vec<u8>,
}

impl Messages {
    /// At the start of a connection.
    pub(super) fn new() -> Self {
        Self {
            header: [0; HEADER],
            header_len: 0,
            left: 0,
            handling: BodyHandling::Skip,
            body: Vec::new(),
        }
    }

    /// Reads `part` up to the end of a message and returns that; `None` once all of `part` is read. `handling` decides by type and
    /// length how the body is handled, as soon as the header is complete.
    pub(super) fn next<F>(
        &mut self,
        part: &mut &[u8],
        handling: F,
    ) -> Result<Option<HandshakeMessage>, ServerHelloError>
    where
        F: Fn(u8, usize) -> Result<BodyHandling, ServerHelloError>,
    {
        while self.header_len < HEADER {
            let Some((&byte, after)) = part.split_first() else {
                return Ok(None);
            };
            *part = after;
            self.header[self.header_len] = byte;
            self.header_len += 1;
            if self.header_len == HEADER {
                let [kind, high, middle, low] = self.header;
                self.left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                if self.left > MAX_MESSAGE {
                    return Err(ServerHelloError::TooLarge);
                }
                self.handling = handling(kind, self.left)?;
            }
        }
        let (body, after) = part.split_at(part.len().min(self.left));
        *part = after;
        if self.handling == BodyHandling::Buffer {
            self.buffer(body);
        }
        self.left -= body.len();
        if self.left > 0 {
            return Ok(None);
        }
        self.header_len = 0;
        Ok(Some(HandshakeMessage {
            kind: self.header[0],
            body: std::mem::take(&mut self.body),
        }))
    }

    /// Whether no message is incomplete.
    pub(super) fn is_between(&self) -> bool {
        self.header_len == 0
    }

    /// Bytes allocated for the body of a message.
    pub(super) fn held(&self) -> usize {
        self.body.capacity()
    }

    /// Capacity is doubled, so that a message in tiny pieces is not copied for each of them, but never beyond the length of the
    /// message. It is not allocated all at once, because the length is only a claim.
    fn buffer(&mut self, bytes: &[u8]) {
        if self.body.capacity() - self.body.len() < bytes.len() {
            let more = self.body.len().max(bytes.len()).min(self.left);
            self.body.reserve_exact(more);
        }
        self.body.extend_from_slice(bytes);
    }
}
