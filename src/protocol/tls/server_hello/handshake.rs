//! Owns handshake headers: finds the messages in the fragments of handshake records, however they are split.
//!
//! Must not know what is inside a message, nor which may follow which.
//!
//! Invariant: no more than one message is held, only one that is wanted, and never more than its own length, which is at
//! most [`MAX_MESSAGE`].

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

/// What becomes of a message's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// It is held until it is whole.
    Kept,
    /// It passes, and nothing of it is held.
    Passed,
}

/// A message that is whole.
#[derive(Debug)]
pub(super) struct HandshakeMessage {
    /// Its handshake type.
    pub(super) kind: u8,
    /// What follows its header; empty where it was passed.
    pub(super) body: Vec<u8>,
}

/// Takes messages out of fragments as they come. After a fault it is not asked again.
#[derive(Debug)]
pub(super) struct Messages {
    /// The bytes of the header so far, the rest of no meaning.
    header: [u8; HEADER],
    header_len: usize,
    /// What is still to come of the body, once the header is whole.
    left: usize,
    wish: Body,
    body: Vec<u8>,
}

impl Messages {
    /// Has seen nothing.
    pub(super) fn new() -> Self {
        Self {
            header: [0; HEADER],
            header_len: 0,
            left: 0,
            wish: Body::Passed,
            body: Vec::new(),
        }
    }

    /// Takes `part` up to the end of a message, which is then given; `None` once all of `part` is taken. `judge` says of
    /// a type and the length of its body what becomes of it, as soon as both are known.
    pub(super) fn next<F>(
        &mut self,
        part: &mut &[u8],
        judge: F,
    ) -> Result<Option<HandshakeMessage>, ServerHelloError>
    where
        F: Fn(u8, usize) -> Result<Body, ServerHelloError>,
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
                self.wish = judge(kind, self.left)?;
            }
        }
        let (body, after) = part.split_at(part.len().min(self.left));
        *part = after;
        if self.wish == Body::Kept {
            self.keep(body);
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

    /// Whether no message has begun that is not whole.
    pub(super) fn is_between(&self) -> bool {
        self.header_len == 0
    }

    /// Bytes that are set aside for the body of a message.
    pub(super) fn held(&self) -> usize {
        self.body.capacity()
    }

    /// Room is made by doubling, so that a message in tiny pieces is not copied for each, and up to the message's length,
    /// so that no more is held; not all at once, as the length is only a claim.
    fn keep(&mut self, bytes: &[u8]) {
        if self.body.capacity() - self.body.len() < bytes.len() {
            let more = self.body.len().max(bytes.len()).min(self.left);
            self.body.reserve_exact(more);
        }
        self.body.extend_from_slice(bytes);
    }
}
