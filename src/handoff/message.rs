//! What a process and its successor tell each other.
//!
//! Owns the messages, their order and their form: JSON, but for pins ([`super::pins`]), of which there are many. Knows
//! neither sockets' use nor tables. Invariant: a successor of another version of this is told apart by its first message.
//!
//! | who | message | when |
//! |---|---|---|
//! | old | `hello`, `secret`, `ports`, `admin`, `predecessors`, `reported`, `backend`, `described`, pins, `complete` | at once |
//! | new | `ready`, or `failed` instead of anything | it has built everything, and accepts nothing yet |
//! | old | `reported`, backends, pins that have changed since, `commit` | it has stopped accepting |
//! | new | `serving` | it accepts |
//! | old | `farewell` | it has let go of all that only one can have |
//! | old | pins that its connections hold, and those that they hold no more | until its last connection has ended |

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::orders::Report;
use super::wire::{Channel, IS_PINS, LARGEST, MOST_DESCRIPTORS, Packet, WireError};
use crate::types::backend_state::{AdminState, Health};

/// Of the messages and of the bytes of pins; grows when an older process would misunderstand a newer one.
pub const VERSION: u32 = 2;

/// The longest reason that is told, in bytes.
const LONGEST_REASON: usize = 16 << 10;

/// The first byte of a packet.
const IS_MESSAGE: u8 = b'm';

/// Everything but pins.
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
    /// What hashes of TLS sessions are made with.
    Secret([u8; 32]),
    /// Listening sockets, a descriptor for each: the addresses as they are configured.
    Ports(Vec<SocketAddr>),
    /// Sockets of admin listeners, a descriptor for each: where they are configured to be.
    Admin(Vec<String>),
    /// Processes that drain, the old one last: a descriptor for each, where it takes orders ([`super::orders`]).
    Predecessors(Vec<KeptPredecessor>),
    /// What a process that drains was last known to hold.
    Reported(KeptReport),
    /// A backend.
    Backend(BackendRecord),
    /// That was all but pins.
    Described,
    /// Those were all pins.
    Complete,
    /// Everything is built. These addresses are not configured any more: the old process is to take what is queued there.
    Ready(Vec<SocketAddr>),
    /// Nothing will come of it.
    Failed(String),
    /// The old process accepts no more; the new one is to.
    Commit,
    /// The new process accepts.
    Serving,
    /// The old process has let go of the affinity store and of its place before the service manager.
    Farewell,
}

/// A backend as the old process knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackendRecord {
    /// The pool's name.
    pub pool: String,
    /// Its own.
    pub name: String,
    /// What the administrator wants.
    pub state: AdminState,
    /// Milliseconds until the drain's deadline; 0 where that is over.
    pub deadline: Option<u64>,
    /// What the checks say.
    pub health: Health,
    /// Why.
    pub why: String,
    /// Where it is configured to be: health counts only for the same server.
    pub configured: String,
    /// Where it is.
    pub address: Option<SocketAddr>,
}

/// A process that has handed over, or does so now, and has connections still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptPredecessor {
    /// Its process id.
    pub pid: u32,
    /// When it handed over, in milliseconds since 1970.
    pub since: u64,
}

/// What a process that drains was last known to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptReport {
    /// Its process id.
    pub pid: u32,
    /// Milliseconds since it said so.
    pub age: u64,
    /// What it said; as with every report, more of its backends may follow.
    pub report: Report,
}

/// What came, with its descriptors.
#[derive(Debug)]
pub enum Received {
    /// A message.
    Message(HandoffMessage, Vec<OwnedFd>),
    /// Pins, for [`super::pins::read`].
    Pins(Vec<u8>),
}

impl HandoffMessage {
    /// The bytes of its packet.
    ///
    /// # Errors
    ///
    /// When it cannot be written, which does not happen.
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

    /// A failure whose reason is short enough to be told.
    #[must_use]
    pub fn failed(reason: &str) -> Self {
        let mut end = reason.len().min(LONGEST_REASON);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        Self::Failed(reason[..end].to_owned())
    }
}

/// The packet of what [`super::pins::Batch`] has written.
#[must_use]
pub fn pins_packet(batch: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(batch.len() + 1);
    bytes.push(IS_PINS);
    bytes.extend(batch);
    bytes
}

impl Received {
    /// What a packet says.
    ///
    /// # Errors
    ///
    /// When it is of no known kind, or a descriptor is missing.
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
            _ => Err(malformed("a packet is of no known kind")),
        }
    }
}

impl Channel {
    /// Tells a message.
    ///
    /// # Errors
    ///
    /// See [`WireError`].
    pub fn tell(&self, message: &HandoffMessage, deadline: Instant) -> Result<(), WireError> {
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

    /// Passes things on with their names, as many at once as go.
    ///
    /// # Errors
    ///
    /// See [`WireError`].
    pub fn pass<N: Clone>(
        &self,
        things: &[(N, impl AsFd)],
        named: impl Fn(Vec<N>) -> HandoffMessage,
        deadline: Instant,
    ) -> Result<(), WireError> {
        for batch in things.chunks(MOST_DESCRIPTORS) {
            let names = batch.iter().map(|(name, _)| name.clone()).collect();
            let descriptors: Vec<_> = batch.iter().map(|(_, thing)| thing.as_fd()).collect();
            self.tell_with(&named(names), &descriptors, deadline)?;
        }
        Ok(())
    }

    /// Sends what [`super::pins::Batch`] has written.
    ///
    /// # Errors
    ///
    /// See [`WireError`].
    pub fn send_pins(&self, batch: &[u8], deadline: Instant) -> Result<(), WireError> {
        self.send(&pins_packet(batch), &[], deadline)
    }

    /// Waits for what comes next.
    ///
    /// # Errors
    ///
    /// See [`WireError`].
    pub fn next(&self, deadline: Instant) -> Result<Received, WireError> {
        Received::of(self.receive(deadline)?)
    }

    /// Waits for a message of those that come without pins and descriptors.
    ///
    /// # Errors
    ///
    /// See [`WireError`]; what else comes is malformed.
    pub fn next_message(&self, deadline: Instant) -> Result<HandoffMessage, WireError> {
        match self.next(deadline)? {
            Received::Message(message, _) => Ok(message),
            Received::Pins(_) => Err(WireError::Malformed("pins come out of turn".into())),
        }
    }
}

/// Room for pins in a packet.
pub(super) const PINS_LARGEST: usize = LARGEST - 1;

/// Milliseconds, as far as they can be told.
pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn messages_come_as_they_were_told() {
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
            one.tell(&message, soon()).unwrap();
            assert_eq!(other.next_message(soon()).unwrap(), message);
        }
    }

    #[test]
    fn a_reason_without_end_has_one() {
        let HandoffMessage::Failed(reason) = HandoffMessage::failed(&"ü".repeat(LARGEST)) else {
            panic!();
        };
        assert!(reason.len() <= LONGEST_REASON && reason.len() > LONGEST_REASON - 2);
    }

    #[test]
    fn more_sockets_than_go_at_once_are_passed_in_turns() {
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
        one.pass(&things, HandoffMessage::Ports, soon()).unwrap();
        let mut passed = 0;
        while passed < count {
            let Received::Message(HandoffMessage::Ports(names), descriptors) =
                other.next(soon()).unwrap()
            else {
                panic!();
            };
            assert_eq!(names.len(), descriptors.len());
            passed += names.len();
        }
        assert_eq!(passed, count);
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let (one, other) = Channel::pair().unwrap();
        for bytes in [
            &b"x"[..],
            b"m",
            b"m{\"unheard_of\":1}",
            b"m{\"ports\":[\"192.0.2.1:1\"]}",
        ] {
            one.send(bytes, &[], soon()).unwrap();
            assert!(matches!(other.next(soon()), Err(WireError::Malformed(_))));
        }
    }
}
