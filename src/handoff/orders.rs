//! What the serving process and the processes that drain say to each other after an upgrade.
//!
//! Owns the messages and their form, JSON. Each draining process has a channel of its own for it, whose other end passes on
//! from one serving process to the next, so that none of them stands between. Knows neither backends nor pins. Invariant: a
//! message fits into a packet, however many backends there are.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::wire::{IS_PINS, LARGEST, Packet, WireError};
use crate::admin::{Caller, Order};

/// Backends in one message of a report; names of any length that is met fit.
const BACKENDS: usize = 64;

/// What the serving process says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// This process serves from now on.
    Serves {
        /// Its process id.
        pid: u32,
    },
    /// The serving process has been told to stop, and so is whoever hears this.
    Stops {
        /// Milliseconds that its connections get to end.
        within: u64,
    },
    /// Something to be done here too.
    Order {
        /// Comes back with the answer.
        id: u64,
        /// What.
        order: Order,
        /// Who asked for it, for the log.
        caller: Caller,
    },
}

/// What a draining process says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderAnswer {
    /// How it is, every second and whenever that changes.
    Report(Report),
    /// An order was met.
    Done(Done),
}

/// How a draining process is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Connections that it has.
    pub connections: u64,
    /// Milliseconds until it resets what is left of them.
    pub left: u64,
    /// Whether it stays for as long as the balancer runs, as its first process.
    pub stays: bool,
    /// Backends that its connections are at.
    pub backends: Vec<HeldAt>,
    /// More backends follow with the next report.
    pub more: bool,
}

/// Connections at one backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldAt {
    /// The pool's name.
    pub pool: String,
    /// Its own.
    pub backend: String,
    /// How many.
    pub connections: u64,
}

/// What an order came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The order's.
    pub id: u64,
    /// Connections that were meant: at the backend whose state was set, or with a pin that was moved or forgotten.
    pub connections: u64,
    /// Why it was not done.
    pub error: Option<String>,
}

impl Report {
    /// Connections at one backend.
    #[must_use]
    pub fn at(&self, pool: &str, backend: &str) -> u64 {
        let held = self.backends.iter();
        let there = held.filter(|held| held.pool == pool && held.backend == backend);
        there.map(|held| held.connections).sum()
    }

    /// Whether it says the same as another, but for the time.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        (self.connections, &self.backends) == (other.connections, &other.backends)
    }

    /// The same in messages that each fit into a packet.
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

/// The bytes of a packet.
///
/// # Errors
///
/// When it would be too large.
pub fn packet(message: &impl Serialize) -> Result<Vec<u8>, WireError> {
    let malformed = |why: String| WireError::Malformed(why);
    let bytes = serde_json::to_vec(message).map_err(|error| malformed(error.to_string()))?;
    if bytes.len() > LARGEST {
        return Err(malformed("it is too large to be sent".into()));
    }
    Ok(bytes)
}

/// What a packet says.
///
/// # Errors
///
/// When it says nothing that is known.
pub fn read<T: DeserializeOwned>(packet: &Packet) -> Result<T, WireError> {
    serde_json::from_slice(&packet.bytes).map_err(|error| WireError::Malformed(error.to_string()))
}

/// The pins that a packet has, for [`super::pins::read`]: a draining process tells those too that its connections use.
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
    use crate::admin::Means;
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
    fn orders_come_as_they_were_given() {
        let filter = PinFilter {
            client: Some("192.0.2.0/24".parse().unwrap()),
            name: Some("lyncweb.contoso.com".into()),
            ..PinFilter::default()
        };
        for order in [
            Order::State {
                pool: "web".into(),
                backend: "fe01".into(),
                state: AdminState::Drain,
                deadline: Some(900_000),
            },
            Order::Move {
                filter: filter.clone(),
                to: "web/fe02".into(),
            },
            Order::Clear { filter },
            Order::Clear {
                filter: PinFilter::default(),
            },
        ] {
            let caller = Caller {
                by: Means::Page,
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
