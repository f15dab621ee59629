//! Owns TLS records, handshake headers and the order of messages in a server's first flight.
//!
//! Must not know what is inside a ServerHello or a Certificate message.
//!
//! Invariant: bytes are judged one after the other, so that a verdict never depends on how they were cut; and no more
//! than one message of [`MAX_MESSAGE`] and one record are ever held.

use super::{Alert, Fault, Identity, Progress, ServerHello, message};
use crate::client_hello::ProtocolVersion;

/// Longest handshake message by its own length field: a chain of some forty certificates.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// Most bytes that a first flight may take on the wire, record headers included.
pub const MAX_WIRE: usize = 128 * 1024;

/// Length of a record header: type, version, length (RFC 5246 section 6.2.1).
const RECORD_HEADER: usize = 5;
/// Longest plaintext fragment (RFC 5246 section 6.2.1).
const MAX_FRAGMENT: usize = 1 << 14;
/// The major version in all record headers since SSL 3.
const MAJOR: u8 = 3;
/// Length of a handshake header: type, and a length of three bytes (RFC 5246 section 7.4).
const MESSAGE_HEADER: usize = 4;

/// Content types (RFC 5246 section 6.2.1).
mod content {
    pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
    pub(super) const ALERT: u8 = 21;
    pub(super) const HANDSHAKE: u8 = 22;
}

/// Handshake types (RFC 5246 section 7.4, RFC 5077 section 3.3).
mod handshake {
    pub(super) const HELLO_REQUEST: u8 = 0;
    pub(super) const SERVER_HELLO: u8 = 2;
    pub(super) const NEW_SESSION_TICKET: u8 = 4;
    pub(super) const CERTIFICATE: u8 = 11;
    pub(super) const SERVER_KEY_EXCHANGE: u8 = 12;
    pub(super) const CERTIFICATE_REQUEST: u8 = 13;
    pub(super) const SERVER_HELLO_DONE: u8 = 14;
}

/// Reads a server's first flight as it comes.
#[derive(Debug)]
pub struct FlightReader {
    /// The bytes of a record header so far, the rest zero.
    header: [u8; RECORD_HEADER],
    header_len: usize,
    /// What is still to come of the record's fragment.
    fragment_left: usize,
    /// Bytes of records whose header is whole.
    wire_len: usize,
    /// The handshake message that has begun and is not whole.
    handshake: Vec<u8>,
    /// The level of an alert whose description has not come.
    alert_level: Option<u8>,
    hello: Option<ServerHello>,
    progress: Progress,
}

impl Default for FlightReader {
    fn default() -> Self {
        Self::new()
    }
}

impl FlightReader {
    /// A reader that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            header: [0; RECORD_HEADER],
            header_len: 0,
            fragment_left: 0,
            wire_len: 0,
            handshake: Vec::new(),
            alert_level: None,
            hello: None,
            progress: Progress::NeedMore,
        }
    }

    /// Takes the bytes that follow those of the last call, and says what all of them come to.
    pub fn read(&mut self, mut bytes: &[u8]) -> &Progress {
        while self.progress == Progress::NeedMore && !bytes.is_empty() {
            match self.step(bytes) {
                Ok(taken) => bytes = &bytes[taken..],
                Err(verdict) => self.progress = verdict,
            }
        }
        &self.progress
    }

    /// The server's choice, as soon as it is known.
    #[must_use]
    pub fn server_hello(&self) -> Option<&ServerHello> {
        self.hello.as_ref()
    }

    /// Takes one byte of a record header, or as much of a fragment as there is.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Progress> {
        if self.fragment_left == 0 {
            self.take_header(bytes[0])?;
            return Ok(1);
        }
        let part = &bytes[..bytes.len().min(self.fragment_left)];
        self.fragment_left -= part.len();
        match self.header[0] {
            content::ALERT => self.take_alerts(part)?,
            _ => self.take_handshake(part)?,
        }
        Ok(part.len())
    }

    fn take_header(&mut self, byte: u8) -> Result<(), Progress> {
        self.header[self.header_len] = byte;
        self.header_len += 1;
        let first = self.wire_len == 0;
        match self.header_len {
            1 => match byte {
                content::ALERT | content::HANDSHAKE => {}
                // A resumed session goes on encrypted right after the ServerHello (RFC 5246 section 7.3).
                content::CHANGE_CIPHER_SPEC if self.handshake.is_empty() => {
                    return Err(self.without_certificate());
                }
                _ if first => return Err(Progress::Fault(Fault::NotTls)),
                _ => return Err(Progress::Fault(Fault::Record)),
            },
            2 if byte != MAJOR && first => return Err(Progress::Fault(Fault::NotTls)),
            2 if byte != MAJOR => return Err(Progress::Fault(Fault::Record)),
            RECORD_HEADER => {
                let len = usize::from(u16::from_be_bytes([self.header[3], self.header[4]]));
                self.wire_len += RECORD_HEADER + len;
                if len == 0 {
                    return Err(Progress::Fault(Fault::Record));
                }
                if len > MAX_FRAGMENT || self.wire_len > MAX_WIRE {
                    return Err(Progress::Fault(Fault::TooLarge));
                }
                self.fragment_left = len;
                self.header_len = 0;
            }
            _ => {}
        }
        Ok(())
    }

    fn take_alerts(&mut self, part: &[u8]) -> Result<(), Progress> {
        for &byte in part {
            match self.alert_level.take() {
                None if matches!(byte, 1 | 2) => self.alert_level = Some(byte),
                None => return Err(Progress::Fault(Fault::Alert)),
                // Warnings such as unrecognized_name come before the ServerHello of some servers, and mean nothing.
                Some(1) if Alert(byte) != Alert::CLOSE_NOTIFY => {}
                Some(_) => return Err(Progress::Alert(Alert(byte))),
            }
        }
        Ok(())
    }

    fn take_handshake(&mut self, part: &[u8]) -> Result<(), Progress> {
        let mut held = std::mem::take(&mut self.handshake);
        held.extend_from_slice(part);
        let mut rest = held.as_slice();
        while let Some(&[kind, high, middle, low]) = rest.first_chunk::<MESSAGE_HEADER>() {
            let len = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            if len > MAX_MESSAGE {
                return Err(Progress::Fault(Fault::TooLarge));
            }
            let Some(body) = rest.get(MESSAGE_HEADER..MESSAGE_HEADER + len) else {
                break;
            };
            self.take_message(kind, body)?;
            rest = &rest[MESSAGE_HEADER + len..];
        }
        let taken = held.len() - rest.len();
        held.drain(..taken);
        self.handshake = held;
        Ok(())
    }

    fn take_message(&mut self, kind: u8, body: &[u8]) -> Result<(), Progress> {
        match (kind, &self.hello) {
            // May come at any time and is ignored during a handshake (RFC 5246 section 7.4.1.1).
            (handshake::HELLO_REQUEST, _) => Ok(()),
            (handshake::SERVER_HELLO, None) => {
                let hello = message::server_hello(body).ok_or(Fault::ServerHello);
                let hello = self.hello.insert(hello.map_err(Progress::Fault)?);
                // All that follows is encrypted, or is a HelloRetryRequest that nobody will answer.
                if hello.version >= ProtocolVersion::TLS1_3 {
                    return Err(self.without_certificate());
                }
                Ok(())
            }
            (handshake::CERTIFICATE, Some(hello)) => Err(match message::leaf(body) {
                Some(leaf) => Progress::Certificate(Box::new(Identity {
                    hello: hello.clone(),
                    leaf: leaf.to_vec(),
                })),
                None => Progress::Fault(Fault::Certificate),
            }),
            (
                handshake::NEW_SESSION_TICKET
                | handshake::SERVER_KEY_EXCHANGE
                | handshake::CERTIFICATE_REQUEST
                | handshake::SERVER_HELLO_DONE,
                Some(_),
            ) => Err(self.without_certificate()),
            (handshake::SERVER_HELLO, Some(_)) | (_, None) => Err(Progress::Fault(Fault::Order)),
            // Supplemental data and the like come before the certificate (RFC 4680 section 2).
            (_, Some(_)) => Ok(()),
        }
    }

    fn without_certificate(&self) -> Progress {
        match &self.hello {
            Some(hello) => Progress::NoCertificate(Box::new(hello.clone())),
            None => Progress::Fault(Fault::Order),
        }
    }
}
