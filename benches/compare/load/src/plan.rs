//! What the clients of a load do.

use crate::hello::Service;

/// What one client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Hello, one answer, close; then another one begins.
    Once,
    /// Sends a message when the last one has come back.
    Ping,
    /// Sends a small request at its time, and gets 1 KiB.
    Poll,
    /// Receives all the time.
    Down,
    /// Sends all the time.
    Up,
    /// Stays and is silent.
    Still,
}

impl Kind {
    pub(crate) fn service(self) -> Service {
        match self {
            Self::Once => Service::Answer,
            Self::Ping | Self::Still => Service::Echo,
            Self::Poll => Service::Reply,
            Self::Down => Service::Source,
            Self::Up => Service::Sink,
        }
    }
}

/// A load.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// How many clients there are of each kind.
    pub(crate) clients: Vec<(Kind, usize)>,
    /// Bytes of a hello.
    pub(crate) hello: usize,
}

/// Clients that connect at a time, unless the load says otherwise.
const CONNECTING: usize = 32;
/// Bytes of an ordinary hello.
const HELLO: usize = 517;

impl Plan {
    /// `ping-50`, `connect-1800`, `connect-517x1` (one at a time), `down-4`, `polls-200+4`, ...
    pub(crate) fn named(load: &str) -> Option<Self> {
        let (name, number) = load.split_once('-')?;
        let (number, beside) = match number.split_once(['x', '+']) {
            Some((number, beside)) => (number, Some(beside.parse().ok()?)),
            None => (number, None),
        };
        let number: usize = number.parse().ok()?;
        let kind = match name {
            "connect" => {
                let clients = vec![(Kind::Once, beside.unwrap_or(CONNECTING))];
                return Some(Self {
                    clients,
                    hello: number,
                });
            }
            "ping" => Kind::Ping,
            "down" => Kind::Down,
            "up" => Kind::Up,
            "idle" => Kind::Still,
            "polls" => Kind::Poll,
            _ => return None,
        };
        // Half of the streams beside run each way.
        let down = beside.unwrap_or(0) / 2;
        let up = beside.unwrap_or(0) - down;
        Some(Self {
            clients: vec![(kind, number), (Kind::Down, down), (Kind::Up, up)],
            hello: HELLO,
        })
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.clients
            .iter()
            .all(|&(kind, number)| kind == Kind::Still || number == 0)
    }
}
