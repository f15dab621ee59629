//! Owns the sessions that a server grants in its handshake, which a client may resume later.
//!
//! Up to TLS 1.2 the session id and the ticket are unencrypted (RFC 5246 section 7.3, RFC 5077 section 3.1). In a full
//! handshake the ticket comes in the server's second flight; in a resumed one, right after the ServerHello:
//!
//! ```text
//! full:     ServerHello .. ServerHelloDone    (the client's)    [NewSessionTicket] ChangeCipherSpec
//! resumed:  ServerHello [NewSessionTicket] ChangeCipherSpec
//! ```
//!
//! Sessions are granted at the server's ChangeCipherSpec, not before. In a full handshake that follows the client's Finished, so a
//! handshake that fails or is abandoned grants no session. Since TLS 1.3 tickets are encrypted, and nothing is learned.
//!
//! Must not know who relays the bytes, nor how a grant is used.
//!
//! Invariant: it never fails. Bytes that are not such a handshake grant nothing, and the grants do not depend on how the bytes
//! were split.

use super::alerts::Alerts;
use super::handshake::{BodyHandling, HandshakeMessage, Messages, kind};
use super::record::{Content, Piece, Records};
use super::{ServerHelloError, message};
use crate::protocol::tls::client_hello::{ProtocolVersion, SessionId};

/// The only content of a ChangeCipherSpec (RFC 5246 section 7.1).
const CHANGE_CIPHER_SPEC: &[u8] = &[1];

/// A session that a server grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant<'a> {
    /// The id of the ServerHello (RFC 5246 section 7.4.1.3); never empty. If there is a ticket too, most clients but not all
    /// will offer only that (RFC 5077 section 3.4).
    SessionId(&'a SessionId),
    /// A session ticket (RFC 5077 section 3.3) of 1 to 65,530 bytes, which the client sends back unchanged in its session ticket
    /// extension.
    Ticket(&'a [u8]),
}

/// Whether a reader needs more of the server's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReaderStatus {
    /// It does.
    Reading,
    /// It does not: nothing more can be learned.
    Done,
}

/// Reads the bytes of a server until it has granted a session or certainly will not.
///
/// It holds at most one message of [`MAX_MESSAGE`](super::MAX_MESSAGE) on the heap, only while a ServerHello or a ticket is
/// incomplete or the ticket waits for the ChangeCipherSpec. After [`MAX_WIRE`](super::MAX_WIRE) bytes it is done.
#[derive(Debug)]
pub struct GrantReader {
    records: Records,
    alerts: Alerts,
    messages: Messages,
    stage: Stage,
    /// The id that the client offers; after the ServerHello the id that the server would grant. Empty if there is none.
    id: SessionId,
    /// The body of the NewSessionTicket message; empty until it arrives.
    ticket: Vec<u8>,
}

/// The progress of the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The ServerHello has not arrived.
    Start,
    /// It has arrived, and nothing else.
    Hello,
    /// In the first flight of a full handshake.
    FirstFlight,
    /// The first flight of a full handshake is complete; the client is next.
    Done,
    /// The ticket of a full handshake has arrived.
    FullTicket,
    /// The ticket of a resumed session has arrived.
    ResumedTicket,
    /// Reading has ended.
    Over,
}

/// Why reading ends.
enum GrantEnd {
    /// The ChangeCipherSpec has arrived as expected.
    Commitment,
    /// The bytes are not a handshake that grants anything.
    Nothing,
}

impl From<ServerHelloError> for GrantEnd {
    fn from(_: ServerHelloError) -> Self {
        Self::Nothing
    }
}

impl GrantReader {
    /// A reader at the start of a connection. `offered` is the session id of the client's hello: an id that the server echoes
    /// means a resumed session or an accepted ticket (RFC 5077 section 3.4), and grants nothing.
    #[must_use]
    pub fn new(offered: SessionId) -> Self {
        Self {
            records: Records::new(),
            alerts: Alerts::default(),
            messages: Messages::new(),
            stage: Stage::Start,
            id: offered,
            ticket: Vec::new(),
        }
    }

    /// Reads the bytes after those of the last call, and passes the grants to `granted`: at most one id and then at most one
    /// ticket in total. Never fails; once it is done it ignores further bytes and holds no memory.
    pub fn read(&mut self, bytes: &[u8], granted: &mut impl FnMut(Grant<'_>)) -> ReaderStatus {
        if self.stage == Stage::Over {
            return ReaderStatus::Done;
        }
        match self.take(bytes) {
            Ok(()) => return ReaderStatus::Reading,
            Err(GrantEnd::Commitment) => self.grant(granted),
            Err(GrantEnd::Nothing) => {}
        }
        *self = Self {
            stage: Stage::Over,
            ..Self::new(SessionId::default())
        };
        ReaderStatus::Done
    }

    /// Number of bytes held on the heap, at most [`MAX_MESSAGE`](super::MAX_MESSAGE).
    #[must_use]
    pub fn held(&self) -> usize {
        self.messages.held() + self.ticket.capacity()
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), GrantEnd> {
        while let Some(piece) = self.records.next(&mut bytes)? {
            match piece {
                Piece::Begins(_) => {}
                Piece::Fragment(Content::Alert, part) => {
                    if self.alerts.read(part)?.is_some() {
                        return Err(GrantEnd::Nothing);
                    }
                }
                Piece::Fragment(Content::Handshake, part) => self.take_handshake(part)?,
                Piece::Fragment(Content::ChangeCipherSpec, part) => {
                    let sound = part == CHANGE_CIPHER_SPEC
                        && self.records.is_whole()
                        && self.messages.is_between();
                    return Err(if sound {
                        GrantEnd::Commitment
                    } else {
                        GrantEnd::Nothing
                    });
                }
            }
        }
        Ok(())
    }

    fn take_handshake(&mut self, mut part: &[u8]) -> Result<(), GrantEnd> {
        loop {
            let stage = self.stage;
            let handling = |kind, len| stage.handling(kind, len);
            let Some(message) = self.messages.next(&mut part, handling)? else {
                return Ok(());
            };
            self.take_message(message)?;
        }
    }

    fn take_message(&mut self, message: HandshakeMessage) -> Result<(), GrantEnd> {
        match message.kind {
            kind::SERVER_HELLO => self.take_hello(&message.body)?,
            kind::NEW_SESSION_TICKET => {
                message::ticket(&message.body).ok_or(GrantEnd::Nothing)?;
                self.ticket = message.body;
            }
            _ => {}
        }
        self.stage = self.stage.after(message.kind).ok_or(GrantEnd::Nothing)?;
        Ok(())
    }

    fn take_hello(&mut self, body: &[u8]) -> Result<(), GrantEnd> {
        let hello = message::server_hello(body).ok_or(GrantEnd::Nothing)?;
        // Since TLS 1.3 the id is an echo without meaning (RFC 8446 section 4.1.3) and the ChangeCipherSpec one too
        // (appendix D.4). A HelloRetryRequest has the form of a ServerHello of TLS 1.3 (section 4.1.4).
        if !(ProtocolVersion::SSL3..=ProtocolVersion::TLS1_2).contains(&hello.version) {
            return Err(GrantEnd::Nothing);
        }
        self.id = if hello.session_id == self.id {
            SessionId::default()
        } else {
            hello.session_id
        };
        Ok(())
    }

    fn grant(&self, granted: &mut impl FnMut(Grant<'_>)) {
        // An id in a resumed session that differs from the client's is not stored by the server.
        let full = matches!(self.stage, Stage::Done | Stage::FullTicket);
        if full && !self.id.as_bytes().is_empty() {
            granted(Grant::SessionId(&self.id));
        }
        let ticketed = matches!(self.stage, Stage::FullTicket | Stage::ResumedTicket);
        // A server that announced a ticket but does not issue one sends an empty ticket (RFC 5077 section 3.3).
        if ticketed
            && let Some(ticket) = message::ticket(&self.ticket)
            && !ticket.is_empty()
        {
            granted(Grant::Ticket(ticket));
        }
    }
}

impl Stage {
    /// How the body of the next message is handled.
    fn handling(self, kind: u8, len: usize) -> Result<BodyHandling, ServerHelloError> {
        self.after(kind).ok_or(ServerHelloError::Order)?;
        match kind {
            kind::SERVER_HELLO | kind::NEW_SESSION_TICKET => Ok(BodyHandling::Buffer),
            // These have no body (RFC 5246 sections 7.4.1.1 and 7.4.5).
            kind::HELLO_REQUEST | kind::SERVER_HELLO_DONE if len > 0 => {
                Err(ServerHelloError::Order)
            }
            _ => Ok(BodyHandling::Skip),
        }
    }

    /// The stage after a message, if it is allowed here (RFC 5246 section 7.3, RFC 5077 section 3.1). The order within the first
    /// flight is left to the client.
    fn after(self, kind: u8) -> Option<Self> {
        match (self, kind) {
            // Allowed at any time and ignored during a handshake (RFC 5246 section 7.4.1.1).
            (stage, kind::HELLO_REQUEST) => Some(stage),
            (Self::Start, kind::SERVER_HELLO) => Some(Self::Hello),
            (
                Self::Hello | Self::FirstFlight,
                kind::SUPPLEMENTAL_DATA
                | kind::CERTIFICATE
                | kind::CERTIFICATE_STATUS
                | kind::SERVER_KEY_EXCHANGE
                | kind::CERTIFICATE_REQUEST,
            ) => Some(Self::FirstFlight),
            (Self::Hello | Self::FirstFlight, kind::SERVER_HELLO_DONE) => Some(Self::Done),
            (Self::Hello, kind::NEW_SESSION_TICKET) => Some(Self::ResumedTicket),
            (Self::Done, kind::NEW_SESSION_TICKET) => Some(Self::FullTicket),
            _ => None,
        }
    }
}
