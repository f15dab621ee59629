//! Owns what a server's handshake grants: the sessions by which a client may come back.
//!
//! Up to TLS 1.2 the session id and the ticket pass in clear (RFC 5246 section 7.3, RFC 5077 section 3.1). In a full
//! handshake the ticket comes in the server's second flight; in a resumed one, right after the ServerHello:
//!
//! ```text
//! full:     ServerHello .. ServerHelloDone    (the client's)    [NewSessionTicket] ChangeCipherSpec
//! resumed:  ServerHello [NewSessionTicket] ChangeCipherSpec
//! ```
//!
//! All is granted at the server's ChangeCipherSpec and nothing before. In a full handshake it answers the client's
//! Finished, so that a handshake that fails, or is given up, leaves no session behind that nobody will ever offer.
//! Since TLS 1.3 tickets are encrypted, and nothing is learned.
//!
//! Must not know who relays the bytes, nor what a grant is good for.
//!
//! Invariant: it never fails. What is no such handshake grants nothing, and what is granted does not depend on how the
//! bytes were cut.

use super::alerts::Alerts;
use super::handshake::{Body, HandshakeMessage, Messages, kind};
use super::record::{Content, Piece, Records};
use super::{ServerHelloError, message};
use crate::protocol::tls::client_hello::{ProtocolVersion, SessionId};

/// The only content of a ChangeCipherSpec (RFC 5246 section 7.1).
const CHANGE_CIPHER_SPEC: &[u8] = &[1];

/// A session that a server grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant<'a> {
    /// The id of the ServerHello (RFC 5246 section 7.4.1.3); never empty. Where a ticket comes too, most clients will
    /// offer that and drop the id (RFC 5077 section 3.4), but not all.
    SessionId(&'a SessionId),
    /// A session ticket (RFC 5077 section 3.3), of 1 to 65,530 bytes: what the client sends back as it is in its session
    /// ticket extension.
    Ticket(&'a [u8]),
}

/// What is left to be heard of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReaderStatus {
    /// More may come.
    Listening,
    /// Nothing more will be learned.
    Over,
}

/// Reads what a server sends, until it grants a session or is sure not to.
///
/// On the heap it holds no more than one message, [`MAX_MESSAGE`](super::MAX_MESSAGE), and that only while a ServerHello
/// or a ticket is there in part or the ticket waits for the ChangeCipherSpec. After [`MAX_WIRE`](super::MAX_WIRE) bytes
/// it hears no more.
#[derive(Debug)]
pub struct GrantReader {
    records: Records,
    alerts: Alerts,
    messages: Messages,
    stage: Stage,
    /// The id that the client offers; after the ServerHello the id that the server would grant. Empty where there is
    /// none.
    id: SessionId,
    /// The body of the NewSessionTicket message; empty before it came.
    ticket: Vec<u8>,
}

/// How far the handshake has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The ServerHello has not come.
    Start,
    /// It has, and nothing else.
    Hello,
    /// The first flight of a full handshake, which goes on.
    FirstFlight,
    /// The first flight of a full handshake is whole, and the client's turn has come.
    Done,
    /// The ticket of a full handshake has come.
    FullTicket,
    /// The ticket of a resumed session has come.
    ResumedTicket,
    /// Nothing more is read.
    Over,
}

/// Why reading ends.
enum GrantEnd {
    /// The ChangeCipherSpec has come as it should.
    Commitment,
    /// What came is no handshake that grants anything.
    Nothing,
}

impl From<ServerHelloError> for GrantEnd {
    fn from(_: ServerHelloError) -> Self {
        Self::Nothing
    }
}

impl GrantReader {
    /// A reader that has seen nothing. `offered` is the session id of the client's hello: an id that is merely echoed
    /// names a session that is resumed, or says that a ticket was taken (RFC 5077 section 3.4), and grants nothing.
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

    /// Takes the bytes that follow those of the last call, and gives what they grant to `granted`: at most one id and
    /// then at most one ticket in all. Never fails; once it is over it takes no more and holds nothing.
    pub fn read(&mut self, bytes: &[u8], granted: &mut impl FnMut(Grant<'_>)) -> ReaderStatus {
        if self.stage == Stage::Over {
            return ReaderStatus::Over;
        }
        match self.take(bytes) {
            Ok(()) => return ReaderStatus::Listening,
            Err(GrantEnd::Commitment) => self.grant(granted),
            Err(GrantEnd::Nothing) => {}
        }
        *self = Self {
            stage: Stage::Over,
            ..Self::new(SessionId::default())
        };
        ReaderStatus::Over
    }

    /// How many bytes are held on the heap, at most [`MAX_MESSAGE`](super::MAX_MESSAGE).
    #[must_use]
    pub fn held(&self) -> usize {
        self.messages.held() + self.ticket.capacity()
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), GrantEnd> {
        while let Some(piece) = self.records.next(&mut bytes)? {
            match piece {
                Piece::Begins(_) => {}
                Piece::Fragment(Content::Alert, part) => {
                    if self.alerts.take(part)?.is_some() {
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
            let judge = |kind, len| stage.judge(kind, len);
            let Some(message) = self.messages.next(&mut part, judge)? else {
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
        // An id that comes with a resumed session, and is not the client's, names nothing that the server keeps.
        let full = matches!(self.stage, Stage::Done | Stage::FullTicket);
        if full && !self.id.as_bytes().is_empty() {
            granted(Grant::SessionId(&self.id));
        }
        let ticketed = matches!(self.stage, Stage::FullTicket | Stage::ResumedTicket);
        // A server that said it would send a ticket, and then would rather not, sends an empty one (RFC 5077 section 3.3).
        if ticketed
            && let Some(ticket) = message::ticket(&self.ticket)
            && !ticket.is_empty()
        {
            granted(Grant::Ticket(ticket));
        }
    }
}

impl Stage {
    /// What becomes of a message that begins here.
    fn judge(self, kind: u8, len: usize) -> Result<Body, ServerHelloError> {
        self.after(kind).ok_or(ServerHelloError::Order)?;
        match kind {
            kind::SERVER_HELLO | kind::NEW_SESSION_TICKET => Ok(Body::Kept),
            // These have no body (RFC 5246 sections 7.4.1.1 and 7.4.5).
            kind::HELLO_REQUEST | kind::SERVER_HELLO_DONE if len > 0 => {
                Err(ServerHelloError::Order)
            }
            _ => Ok(Body::Passed),
        }
    }

    /// The stage that a message leads to, if it may come here (RFC 5246 section 7.3, RFC 5077 section 3.1). The order
    /// within the first flight is the client's to judge.
    fn after(self, kind: u8) -> Option<Self> {
        match (self, kind) {
            // May come at any time and is ignored during a handshake (RFC 5246 section 7.4.1.1).
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
