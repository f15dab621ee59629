//! The messages of an upgrade.
//!
//! Owns the messages, their order and their form: JSON, except for pins ([`super::pins`]), of which there are many. Must not
//! know what sockets and tables are used for. Invariant: the first message shows whether the other process has the same
//! version of the protocol.
//!
//! | from | message | when |
//! |---|---|---|
//! | old | `hello`, `secret`, `ports`, `admin`, `predecessors`, `reported`, `backend`, `described`, pins, `complete` | at once |
//! | new | `ready`, or `failed` instead of anything | it has built everything, and accepts nothing yet |
//! | old | `reported`, backends, pins that have changed since, `commit` | it has stopped accepting |
//! | new | `serving` | it accepts |
//! | old | `farewell` | it has released all that only one process can have |
//! | old | pins that its connections hold, and those that they no longer hold | until its last connection has ended |

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::orders::Report;
use super::wire::{Channel, IS_PINS, LARGEST, MOST_DESCRIPTORS, Packet, WireError};
use crate::types::backend_state::{AdminState, Health};

/// The version of the messages and of the bytes of pins. It grows when one side would misunderstand the other.
pub const VERSION: u32 = 3;

/// The longest reason of a failure, in bytes.
const LONGEST_REASON: usize = 16 << 10;

/// The first byte of a packet with a message.
const IS_MESSAGE: u8 = b'm';

/// A message, of all kinds but pins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandoffMessage {
    /// The old process introduces itself.
    Hello {
        /// See [`VERSION`].
        version: u32,
        /// The old program's own version.
        program: String,
    },
    /// The secret for hashes of TLS sessions.
    Secret([u8; 32]),
    /// Listening sockets, with a descriptor for each: their configured addresses.
    Ports(Vec<SocketAddr>),
    /// Sockets of admin listeners, with a descriptor for each: their configured addresses.
    Admin(Vec<String>),
    /// Processes that drain, the old one last, with a descriptor for each: its channel for orders ([`super::orders`]).
    Predecessors(Vec<DrainingProcess>),
    /// The last report of a process that drains.
    Reported(DrainingReport),
    /// A backend.
    Backend(BackendRecord),
    /// Everything but pins has been sent.
    Described,
    /// All pins have been sent.
    Complete,
    /// Everything is built. These addresses are no longer configured: the old process must accept what is queued there.
    Ready(Vec<SocketAddr>),
    /// The upgrade has failed, for this reason.
    Failed(String),
    /// The old process has stopped accepting; the new one must start.
    Commit,
    /// The new process accepts.
    Serving,
    /// The old process has released the affinity store and the service manager.
    Farewell,
}

/// The state of a backend in the old process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackendRecord {
    /// The pool's name.
    pub pool: String,
    /// The backend's name.
    pub name: String,
    /// Its administrative state.
    pub state: AdminState,
    /// Milliseconds until the drain's deadline; 0 if that has passed.
    pub deadline: Option<u64>,
    /// Its health.
    pub health: Health,
    /// The reason of its health.
    pub why: String,
    /// Its configured address: health is valid only for the same server.
    pub configured: String,
    /// Its resolved address.
    pub address: Option<SocketAddr>,
}

/// A process that has handed over, or does so now, and still has connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainingProcess {
    /// Its process id.
    pub pid: u32,
    /// When it handed over, in milliseconds since 1970.
    pub since: u64,
}

/// The last report of a process that drains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainingReport {
    /// Its process id.
    pub pid: u32,
    /// Milliseconds since the report.
    pub age: u64,
    /// The report. As with every report, more of its backends may follow.
    pub report: Report,
}

/// A received packet.
#[derive(Debug)]
pub enum Received {
    /// A message with its descriptors.
    Message(HandoffMessage, Vec<OwnedFd>),
    /// Pins, for [`super::pins::read`].
    Pins(Vec<u8>),
}

impl HandoffMessage {
    /// The bytes of its packet.
    ///
    /// # Errors
    ///
    /// If it cannot be serialised, which does not happen.
    pub fn packet(&self) -> Result<Vec<u8>, WireError> {
        let mut bytes = vec![IS_MESSAGE];
        serde_json::to_writer(&mut bytes, self)
            .map_err(|error| WireError::Malformed(error.to_string()))?;
        Ok(bytes)
    }

    /// How many descriptors come with it.
    fn descriptors(&self) -> usize {
        match self {
            Self::Ports(names) => names.len(),
            Self::Admin(names) => names.len(),
            Self::Predecessors(processes) => processes.len(),
            Self::Hello { .. }
            | Self::Secret(_)
            | Self::Reported(_)
            | Self::Backend(_)
            | Self::Described
            | Self::Complete
            | Self::Ready(_)
            | Self::Failed(_)
            | Self::Commit
            | Self::Serving
            | Self::Farewell => 0,
        }
    }

    /// A failure with a reason that fits into a packet.
    #[must_use]
    pub fn failed(reason: &str) -> Self {
        let mut end = reason.len().min(LONGEST_REASON);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        Self::Failed(reason[..end].to_owned())
    }
}

/// The packet of a [`super::pins::Batch`].
#[must_use]
pub fn pins_packet(batch: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(batch.len() + 1);
    bytes.push(IS_PINS);
    bytes.extend(batch);
    bytes
}

impl Received {
    /// Parses a packet.
    ///
    /// # Errors
    ///
    /// If its kind is unknown, or a descriptor is missing.
    pub fn of(packet: Packet) -> Result<Self, WireError> {
        let malformed = |why: &str| WireError::Malformed(why.to_owned());
        match packet.bytes.split_first() {
            Some((&IS_MESSAGE, json)) => {
                let message: HandoffMessage =
                    serde_json::from_slice(json).map_err(|error| malformed(&error.to_string()))?;
                if packet.descriptors.len() != message.descriptors() {
                    return Err(malformed("a descriptor is missing"));
                }
                Ok(Self::Message(message, packet.descriptors))
            }
            Some((&IS_PINS, pins)) => Ok(Self::Pins(pins.to_vec())),
            _ => Err(malformed("a packet of unknown kind")),
        }
    }
}

impl Channel {
    /// Sends a message.
    ///
    /// # Errors
    ///
    /// See [`WireError`].
    pub fn send_message(
        &self,
        message: &HandoffMessage,
        deadline: Instant,
    ) -> Result<(), WireError> {
        self.tell_with(message, &[], deadline)
    }

    fn tell_with(
        &self,
        message: &HandoffMessage,
        descriptors: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> Result<(), WireError> {
        self.send(&message.packet()?, descriptors, deadline)
    }

    /// Sends descriptors with their names, as many in a packet as possible.
    ///
    /// # Errors
    ///
    /// See [`WireError`].
    pub fn send_descriptors<N: Clone>(
        &self,
        descriptors: &[(N, impl AsFd)],
        message: impl Fn(Vec<N>) -> HandoffMessage,
        deadline: Instant,
    ) -> Result<(), WireError> {
        for batch in descriptors.chunks(MOST_DESCRIPTORS) {
            let names = batch.iter().map(|(name, _)| name.clone()).collect();
            let descriptors: Vec<_> = batch
                .iter()
                .map(|(_, descriptor)| descriptor.as_fd())
                .collect();
            self.tell_with(&message(names), &descriptors, deadline)?;
        }
        Ok(())
    }

    /// Sends a [`super::pins::Batch`].
    ///
    /// # Errors
    ///
    /// See [`WireError`].
    pub fn send_pins(&self, batch: &[u8], deadline: Instant) -> Result<(), WireError> {
        self.send(&pins_packet(batch), &[], deadline)
    }

    /// Waits for the next packet.
    ///
    /// # Errors
    ///
    /// See [`WireError`].
    pub fn receive_packet(&self, deadline: Instant) -> Result<Received, WireError> {
        Received::of(self.receive(deadline)?)
    }

    /// Waits for the next packet, which must be a message without descriptors.
    ///
    /// # Errors
    ///
    /// See [`WireError`]; any other packet is malformed.
    pub fn receive_message(&self, deadline: Instant) -> Result<HandoffMessage, WireError> {
        match self.receive_packet(deadline)? {
            Received::Message(message, _) => Ok(message),
            Received::Pins(_) => Err(WireError::Malformed("unexpected pins".into())),
        }
    }
}

/// The most bytes of pins in a packet.
pub(super) const PINS_LARGEST: usize = LARGEST - 1;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn messages_arrive_as_they_were_sent() {
        let (one, other) = Channel::pair().unwrap();
        let backend = BackendRecord {
            pool: "web".into(),
            name: "fe01".into(),
            state: AdminState::Drain,
            deadline: Some(9),
            health: Health::Up,
            why: "tcp: connected".into(),
            configured: "fe01.contoso.com:443".into(),
            address: Some("192.0.2.1:443".parse().unwrap()),
        };
        for message in [
            HandoffMessage::Hello {
                version: VERSION,
                program: "0.1.0".into(),
            },
            HandoffMessage::Secret([7; 32]),
            HandoffMessage::Backend(backend),
            HandoffMessage::Ready(vec!["192.0.2.2:443".parse().unwrap()]),
            HandoffMessage::failed("no: ümlaut"),
            HandoffMessage::Commit,
        ] {
            one.send_message(&message, soon()).unwrap();
            assert_eq!(other.receive_message(soon()).unwrap(), message);
        }
    }

    #[test]
    fn a_long_reason_is_cut() {
        let HandoffMessage::Failed(reason) = HandoffMessage::failed(&"ü".repeat(LARGEST)) else {
            panic!();
        };
        assert!(reason.len() <= LONGEST_REASON && reason.len() > LONGEST_REASON - 2);
    }

    #[test]
    fn more_sockets_than_fit_into_a_packet_are_sent_in_several() {
        let (one, other) = Channel::pair().unwrap();
        let count = MOST_DESCRIPTORS + 3;
        let things: Vec<(SocketAddr, Channel)> = (0..count)
            .map(|port| {
                let address = SocketAddr::from(([192, 0, 2, 1], u16::try_from(port).unwrap()));
                (address, one.try_clone().unwrap())
            })
            .collect();
        let things: Vec<_> = things
            .into_iter()
            .map(|(name, channel)| (name, channel.into_descriptor()))
            .collect();
        one.send_descriptors(&things, HandoffMessage::Ports, soon())
            .unwrap();
        let mut passed = 0;
        while passed < count {
            let Received::Message(HandoffMessage::Ports(names), descriptors) =
                other.receive_packet(soon()).unwrap()
            else {
                panic!();
            };
            assert_eq!(names.len(), descriptors.len());
            passed += names.len();
        }
        assert_eq!(passed, count);
    }

    #[test]
    fn an_invalid_message_is_an_error() {
        let (one, other) = Channel::pair().unwrap();
        for bytes in [
            &b"x"[..],
            b"m",
            b"m{\"unheard_of\":1}",
            b"m{\"ports\":[\"192.0.2.1:1\"]}",
        ] {
            one.send(bytes, &[], soon()).unwrap();
            assert!(matches!(
                other.receive_packet(soon()),
                Err(WireError::Malformed(_))
            ));
        }
    }
}
