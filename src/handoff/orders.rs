//! The messages between the serving process and the processes that drain after an upgrade.
//!
//! Owns the messages and their form, JSON. Each draining process has a channel of its own; its other end is passed from one
//! serving process to the next, so that no process relays for another. Must not know backends or pins. Invariant: a message
//! fits into a packet, however many backends there are.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::wire::{IS_PINS, LARGEST, Packet, WireError};
use crate::admin::{Caller, ForwardedChange};

/// Backends in one message of a report, so that it fits with the longest names.
const BACKENDS: usize = 64;

/// A message of the serving process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// This process is the serving one from now on.
    Serves {
        /// Its process id.
        pid: u32,
    },
    /// The serving process stops, and so must the receiver.
    Stops {
        /// Milliseconds until the remaining connections are reset.
        within: u64,
    },
    /// An administrator's order, which the receiver must carry out as well.
    Order {
        /// Returned with the result.
        id: u64,
        /// The order.
        order: ForwardedChange,
        /// Its origin, for the log.
        caller: Caller,
    },
}

/// A message of a draining process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderAnswer {
    /// Its state, every second and at each change.
    Report(Report),
    /// The result of an order.
    Done(Done),
}

/// The state of a draining process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Number of its connections.
    pub connections: u64,
    /// Milliseconds until it resets the remaining ones.
    pub left: u64,
    /// Whether it stays for as long as the balancer runs, as the first process of a container.
    pub stays: bool,
    /// The backends of its connections.
    pub backends: Vec<HeldAt>,
    /// More backends follow with the next report.
    pub more: bool,
}

/// Connections at one backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldAt {
    /// The pool's name.
    pub pool: String,
    /// The backend's name.
    pub backend: String,
    /// Number of connections.
    pub connections: u64,
}

/// The result of an order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The id of the order.
    pub id: u64,
    /// Connections affected: at the backend whose state was set, or with a pin that was moved or cleared.
    pub connections: u64,
    /// The reason if it was not carried out.
    pub error: Option<String>,
}

impl Report {
    /// Number of connections at one backend.
    #[must_use]
    pub fn at(&self, pool: &str, backend: &str) -> u64 {
        let held = self.backends.iter();
        let there = held.filter(|held| held.pool == pool && held.backend == backend);
        there.map(|held| held.connections).sum()
    }

    /// Whether it equals another, except for the time.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        (self.connections, &self.backends) == (other.connections, &other.backends)
    }

    /// Splits it into reports that each fit into a packet.
    #[must_use]
    pub fn parts(mut self) -> Vec<Self> {
        let backends = std::mem::take(&mut self.backends);
        let mut parts: Vec<Self> = backends
            .chunks(BACKENDS)
            .map(|backends| Self {
                backends: backends.to_vec(),
                more: true,
                ..self.clone()
            })
            .collect();
        match parts.last_mut() {
            Some(last) => last.more = false,
            None => parts.push(self),
        }
        parts
    }
}

/// Serialises a message.
///
/// # Errors
///
/// If it is too large for a packet.
pub fn packet(message: &impl Serialize) -> Result<Vec<u8>, WireError> {
    let malformed = |why: String| WireError::Malformed(why);
    let bytes = serde_json::to_vec(message).map_err(|error| malformed(error.to_string()))?;
    if bytes.len() > LARGEST {
        return Err(malformed("the packet is too large".into()));
    }
    Ok(bytes)
}

/// Parses a packet.
///
/// # Errors
///
/// If it is not a known message.
pub fn read<T: DeserializeOwned>(packet: &Packet) -> Result<T, WireError> {
    serde_json::from_slice(&packet.bytes).map_err(|error| WireError::Malformed(error.to_string()))
}

/// The pins in a packet, for [`super::pins::read`]: a draining process also sends the pins that its connections use.
#[must_use]
pub fn pins(packet: &Packet) -> Option<&[u8]> {
    match packet.bytes.split_first() {
        Some((&IS_PINS, pins)) => Some(pins),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::CallerKind;
    use crate::admin::view::PinFilter;
    use crate::types::backend_state::AdminState;

    fn again<T: Serialize + DeserializeOwned>(message: &T) -> T {
        let bytes = packet(message).unwrap();
        read(&Packet {
            bytes,
            descriptors: Vec::new(),
        })
        .unwrap()
    }

    #[test]
    fn orders_arrive_as_they_were_sent() {
        let filter = PinFilter {
            client: Some("192.0.2.0/24".parse().unwrap()),
            name: Some("lyncweb.contoso.com".into()),
            ..PinFilter::default()
        };
        for order in [
            ForwardedChange::State {
                pool: "web".into(),
                backend: "fe01".into(),
                state: AdminState::Drain,
                deadline: Some(900_000),
            },
            ForwardedChange::Move {
                filter: filter.clone(),
                to: "web/fe02".into(),
            },
            ForwardedChange::Clear { filter },
            ForwardedChange::Clear {
                filter: PinFilter::default(),
            },
        ] {
            let caller = Caller {
                by: CallerKind::Page,
                from: "192.0.2.1:50123".into(),
            };
            let call = Call::Order {
                id: 7,
                order,
                caller,
            };
            assert_eq!(again(&call), call);
        }
        assert_eq!(again(&Call::Serves { pid: 9 }), Call::Serves { pid: 9 });
    }

    #[test]
    fn a_report_of_many_backends_with_long_names_fits() {
        let held = |place: usize| HeldAt {
            pool: "p".repeat(253),
            backend: format!("{place:0>253}"),
            connections: u64::MAX,
        };
        let report = Report {
            connections: 12,
            backends: (0..1_000).map(held).collect(),
            ..Report::default()
        };
        let parts = report.clone().parts();
        let met: Vec<HeldAt> = parts
            .iter()
            .map(|part| again(&OrderAnswer::Report(part.clone())))
            .flat_map(|answer| match answer {
                OrderAnswer::Report(report) => report.backends,
                OrderAnswer::Done(_) => Vec::new(),
            })
            .collect();
        assert_eq!(met, report.backends);
        let (last, before) = parts.split_last().unwrap();
        assert!(!last.more && before.iter().all(|part| part.more));
        assert_eq!(Report::default().parts(), [Report::default()]);
    }
}
