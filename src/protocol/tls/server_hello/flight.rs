//! Owns the order of messages in a server's first flight, up to the server's certificate.
//!
//! Must not know how records and messages are framed, nor what is inside a ServerHello or a Certificate message.
//!
//! Invariant: bytes are judged one after the other, so that a verdict never depends on how they were cut; and no more
//! than one message of [`MAX_MESSAGE`](super::MAX_MESSAGE) is ever held.

use super::alerts::Alerts;
use super::handshake::{Body, HandshakeMessage, Messages, kind};
use super::record::{Content, Piece, Records};
use super::{FlightProgress, Identity, ServerHello, ServerHelloError, message};
use crate::protocol::tls::client_hello::ProtocolVersion;

/// Reads a server's first flight as it comes.
#[derive(Debug)]
pub struct FlightReader {
    records: Records,
    alerts: Alerts,
    messages: Messages,
    hello: Option<ServerHello>,
    progress: FlightProgress,
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
            records: Records::new(),
            alerts: Alerts::default(),
            messages: Messages::new(),
            hello: None,
            progress: FlightProgress::NeedMore,
        }
    }

    /// Takes the bytes that follow those of the last call, and says what all of them come to.
    pub fn read(&mut self, bytes: &[u8]) -> &FlightProgress {
        if self.progress == FlightProgress::NeedMore
            && let Err(verdict) = self.take(bytes)
        {
            self.progress = verdict;
        }
        &self.progress
    }

    /// The server's choice, as soon as it is known.
    #[must_use]
    pub fn server_hello(&self) -> Option<&ServerHello> {
        self.hello.as_ref()
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), FlightProgress> {
        while let Some(piece) = self
            .records
            .next(&mut bytes)
            .map_err(FlightProgress::Fault)?
        {
            match piece {
                Piece::Begins(Content::Alert | Content::Handshake) => {}
                // A resumed session goes on encrypted right after the ServerHello (RFC 5246 section 7.3).
                Piece::Begins(Content::ChangeCipherSpec) if self.messages.is_between() => {
                    return Err(self.without_certificate());
                }
                Piece::Begins(Content::ChangeCipherSpec)
                | Piece::Fragment(Content::ChangeCipherSpec, _) => {
                    return Err(FlightProgress::Fault(ServerHelloError::Record));
                }
                Piece::Fragment(Content::Alert, part) => {
                    if let Some(alert) = self.alerts.take(part).map_err(FlightProgress::Fault)? {
                        return Err(FlightProgress::Alert(alert));
                    }
                }
                Piece::Fragment(Content::Handshake, part) => self.take_handshake(part)?,
            }
        }
        Ok(())
    }

    fn take_handshake(&mut self, mut part: &[u8]) -> Result<(), FlightProgress> {
        let judge = |kind, _len| match kind {
            kind::SERVER_HELLO | kind::CERTIFICATE => Ok(Body::Kept),
            _ => Ok(Body::Passed),
        };
        while let Some(message) = self
            .messages
            .next(&mut part, judge)
            .map_err(FlightProgress::Fault)?
        {
            self.take_message(&message)?;
        }
        Ok(())
    }

    fn take_message(&mut self, message: &HandshakeMessage) -> Result<(), FlightProgress> {
        match (message.kind, &self.hello) {
            // May come at any time and is ignored during a handshake (RFC 5246 section 7.4.1.1).
            (kind::HELLO_REQUEST, _) => Ok(()),
            (kind::SERVER_HELLO, None) => {
                let hello =
                    message::server_hello(&message.body).ok_or(ServerHelloError::ServerHello);
                let hello = self.hello.insert(hello.map_err(FlightProgress::Fault)?);
                // All that follows is encrypted, or is a HelloRetryRequest that nobody will answer.
                if hello.version >= ProtocolVersion::TLS1_3 {
                    return Err(self.without_certificate());
                }
                Ok(())
            }
            (kind::CERTIFICATE, Some(hello)) => Err(match message::leaf(&message.body) {
                Some(leaf) => FlightProgress::Certificate(Box::new(Identity {
                    hello: hello.clone(),
                    leaf: leaf.to_vec(),
                })),
                None => FlightProgress::Fault(ServerHelloError::Certificate),
            }),
            (
                kind::NEW_SESSION_TICKET
                | kind::SERVER_KEY_EXCHANGE
                | kind::CERTIFICATE_REQUEST
                | kind::SERVER_HELLO_DONE,
                Some(_),
            ) => Err(self.without_certificate()),
            (kind::SERVER_HELLO, Some(_)) | (_, None) => {
                Err(FlightProgress::Fault(ServerHelloError::Order))
            }
            // Supplemental data and the like come before the certificate (RFC 4680 section 2).
            (_, Some(_)) => Ok(()),
        }
    }

    fn without_certificate(&self) -> FlightProgress {
        match &self.hello {
            Some(hello) => FlightProgress::NoCertificate(Box::new(hello.clone())),
            None => FlightProgress::Fault(ServerHelloError::Order),
        }
    }
}
