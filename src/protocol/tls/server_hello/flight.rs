//! Owns the order of messages in a server's first flight, up to the server's certificate.
//!
//! Must not know how records and messages are framed, nor the contents of a ServerHello or a Certificate message.
//!
//! Invariant: bytes are parsed in order, so that a result never depends on how they were split; at most one message of
//! [`MAX_MESSAGE`](super::MAX_MESSAGE) is held.

use super::alerts::Alerts;
use super::handshake::{BodyHandling, HandshakeMessage, Messages, kind};
use super::record::{Content, Piece, Records};
use super::{FlightProgress, Identity, ServerHello, ServerHelloError, message};
use crate::protocol::tls::client_hello::ProtocolVersion;

/// Reads a server's first flight incrementally.
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
    /// A reader at the start of a connection.
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

    /// Reads the bytes after those of the last call, and returns the result for all of them.
    pub fn read(&mut self, bytes: &[u8]) -> &FlightProgress {
        if self.progress == FlightProgress::NeedMore
            && let Err(result) = self.take(bytes)
        {
            self.progress = result;
        }
        &self.progress
    }

    /// The choice of the server, once it is known.
    #[must_use]
    pub fn server_hello(&self) -> Option<&ServerHello> {
        self.hello.as_ref()
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), FlightProgress> {
        while let Some(piece) = self
            .records
            .next(&mut bytes)
            .map_err(FlightProgress::Error)?
        {
            match piece {
                Piece::Begins(Content::Alert | Content::Handshake) => {}
                // A resumed session continues encrypted right after the ServerHello (RFC 5246 section 7.3).
                Piece::Begins(Content::ChangeCipherSpec) if self.messages.is_between() => {
                    return Err(self.without_certificate());
                }
                Piece::Begins(Content::ChangeCipherSpec)
                | Piece::Fragment(Content::ChangeCipherSpec, _) => {
                    return Err(FlightProgress::Error(ServerHelloError::Record));
                }
                Piece::Fragment(Content::Alert, part) => {
                    if let Some(alert) = self.alerts.read(part).map_err(FlightProgress::Error)? {
                        return Err(FlightProgress::Alert(alert));
                    }
                }
                Piece::Fragment(Content::Handshake, part) => self.take_handshake(part)?,
            }
        }
        Ok(())
    }

    fn take_handshake(&mut self, mut part: &[u8]) -> Result<(), FlightProgress> {
        let handling = |kind, _len| match kind {
            kind::SERVER_HELLO | kind::CERTIFICATE => Ok(BodyHandling::Buffer),
            _ => Ok(BodyHandling::Skip),
        };
        while let Some(message) = self
            .messages
            .next(&mut part, handling)
            .map_err(FlightProgress::Error)?
        {
            self.take_message(&message)?;
        }
        Ok(())
    }

    fn take_message(&mut self, message: &HandshakeMessage) -> Result<(), FlightProgress> {
        match (message.kind, &self.hello) {
            // Allowed at any time and ignored during a handshake (RFC 5246 section 7.4.1.1).
            (kind::HELLO_REQUEST, _) => Ok(()),
            (kind::SERVER_HELLO, None) => {
                let hello =
                    message::server_hello(&message.body).ok_or(ServerHelloError::ServerHello);
                let hello = self.hello.insert(hello.map_err(FlightProgress::Error)?);
                // Everything after it is encrypted, or it is a HelloRetryRequest, which is not answered.
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
                None => FlightProgress::Error(ServerHelloError::Certificate),
            }),
            (
                kind::NEW_SESSION_TICKET
                | kind::SERVER_KEY_EXCHANGE
                | kind::CERTIFICATE_REQUEST
                | kind::SERVER_HELLO_DONE,
                Some(_),
            ) => Err(self.without_certificate()),
            (kind::SERVER_HELLO, Some(_)) | (_, None) => {
                Err(FlightProgress::Error(ServerHelloError::Order))
            }
            // Supplemental data and the like come before the certificate (RFC 4680 section 2).
            (_, Some(_)) => Ok(()),
        }
    }

    fn without_certificate(&self) -> FlightProgress {
        match &self.hello {
            Some(hello) => FlightProgress::NoCertificate(Box::new(hello.clone())),
            None => FlightProgress::Error(ServerHelloError::Order),
        }
    }
}
