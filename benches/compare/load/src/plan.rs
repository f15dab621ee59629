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

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(load: &str) -> Vec<(Kind, usize)> {
        let plan = Plan::named(load).expect(load);
        let there = plan.clients.into_iter().filter(|&(_, number)| number > 0);
        there.collect()
    }

    #[test]
    fn a_name_says_who_does_what() {
        assert_eq!(clients("ping-50"), [(Kind::Ping, 50)]);
        assert_eq!(clients("down-4"), [(Kind::Down, 4)]);
        assert_eq!(clients("up-1"), [(Kind::Up, 1)]);
        assert_eq!(clients("idle-4000"), [(Kind::Still, 4000)]);
        assert_eq!(
            clients("polls-200+4"),
            [(Kind::Poll, 200), (Kind::Down, 2), (Kind::Up, 2)]
        );
        assert_eq!(clients("ping-1+1"), [(Kind::Ping, 1), (Kind::Up, 1)]);
    }

    #[test]
    fn connect_says_the_length_of_the_hello() {
        assert_eq!(clients("connect-517"), [(Kind::Once, CONNECTING)]);
        assert_eq!(clients("connect-1800x1"), [(Kind::Once, 1)]);
        assert_eq!(Plan::named("connect-1800x1").expect("known").hello, 1800);
        assert_eq!(Plan::named("ping-1").expect("known").hello, HELLO);
    }

    #[test]
    fn only_what_stays_silent_is_idle() {
        assert!(Plan::named("idle-3").expect("known").is_idle());
        assert!(!Plan::named("idle-3+2").expect("known").is_idle());
        assert!(!Plan::named("ping-1").expect("known").is_idle());
    }

    #[test]
    fn other_names_are_none() {
        for load in [
            "",
            "ping",
            "ping-",
            "ping-x",
            "pong-1",
            "down--1",
            "connect-517x",
        ] {
            assert!(Plan::named(load).is_none(), "{load}");
        }
    }
}
