//! A plain model of the affinity rules: this file alone says where a client goes. No locks, lists or shards; every lookup is a
//! full scan.

use std::collections::BTreeMap;

/// Most pins, and most sessions, of a table.
pub(super) const MAX_ENTRIES: usize = 4;
pub(super) const TTL: u64 = 60_000;

pub(super) type Name = &'static str;

/// One backend in one pool.
#[derive(Debug, Clone, Copy)]
pub(super) struct ModelServer {
    pub(super) up: bool,
    pub(super) state: ModelState,
    pub(super) in_flight: u32,
    pub(super) most: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ModelState {
    Ready,
    Drain,
    /// Draining past its deadline.
    Drained,
    Maintain,
}

impl ModelServer {
    pub(super) fn takes_pinned(&self) -> bool {
        self.up && matches!(self.state, ModelState::Ready | ModelState::Drain)
    }

    pub(super) fn is_full(&self) -> bool {
        self.in_flight >= self.most
    }

    /// Whether it accepts clients without a pin.
    pub(super) fn takes_new(&self) -> bool {
        self.up && self.state == ModelState::Ready && !self.is_full()
    }
}

/// A pin of a client or of a session.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pin {
    pub(super) pinned_to: Option<Name>,
    pub(super) candidate: Option<Name>,
    pub(super) in_use: u32,
    pub(super) expires: u64,
    /// For a session: the client that used it last.
    pub(super) client: u8,
}

impl Pin {
    pub(super) fn new(client: u8) -> Self {
        Self {
            pinned_to: None,
            candidate: None,
            in_use: 0,
            expires: 0,
            client,
        }
    }
}

/// One table: pins by a client's or a session's number.
pub(super) type Table = BTreeMap<u8, Pin>;

pub(super) type Servers = BTreeMap<Name, ModelServer>;

/// Where a connection must go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum To {
    /// To the backend of its session or its pin.
    Session(Name),
    Pinned(Name),
    /// To the backend that other connections of its client were sent to.
    Agreed(Name),
    /// To any backend that the policy may choose.
    Policy,
}

/// Where a connection must go, and what it holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    pub(super) to: To,
    pub(super) holds_pin: bool,
    pub(super) holds_session: bool,
    /// Its backend is full: the pin stays and is only used for a moment.
    pub(super) touches_pin: bool,
}

fn expected(to: To, holds_pin: bool, holds_session: bool) -> Expected {
    Expected {
        to,
        holds_pin,
        holds_session,
        touches_pin: false,
    }
}

/// Where a client with this pin and this session must go; `has_room`: the table has room for a pin.
pub(super) fn expect(
    servers: &Servers,
    pin: Option<&Pin>,
    has_room: bool,
    session: Option<&Pin>,
) -> Expected {
    // A session of a backend that this pool lacks is ignored.
    let session = session.and_then(|session| session.pinned_to);
    let session = session.filter(|pinned_to| servers.contains_key(pinned_to));
    if let Some(pinned_to) = session.filter(|pinned_to| servers[pinned_to].takes_pinned()) {
        if servers[pinned_to].is_full() {
            return expected(To::Policy, false, false);
        }
        // The pin of its address is held only if it has the same backend, or none yet.
        let holds_pin = match pin {
            None => has_room,
            Some(pin) => pin.pinned_to.or(pin.candidate).unwrap_or(pinned_to) == pinned_to,
        };
        return expected(To::Session(pinned_to), holds_pin, true);
    }
    expect_by_pin(servers, pin, has_room, session.is_some())
}

fn expect_by_pin(
    servers: &Servers,
    pin: Option<&Pin>,
    has_room: bool,
    has_session: bool,
) -> Expected {
    let elsewhere = expected(To::Policy, false, false);
    let Some(pin) = pin else {
        // Without room the connection holds neither a pin nor its session.
        return expected(To::Policy, has_room, has_room && has_session);
    };
    for (pinned_to, to) in [
        (pin.pinned_to, To::Pinned as fn(Name) -> To),
        (pin.candidate, To::Agreed),
    ] {
        match pinned_to.map(|pinned_to| (pinned_to, servers.get(pinned_to))) {
            None => {}
            // A backend that this pool lacks: the pin is not touched.
            Some((_, None)) => return elsewhere,
            Some((_, Some(server))) if !server.takes_pinned() => {}
            Some((_, Some(server))) if server.is_full() => {
                return Expected {
                    touches_pin: true,
                    ..elsewhere
                };
            }
            Some((pinned_to, Some(_))) => return expected(to(pinned_to), true, has_session),
        }
    }
    expected(To::Policy, true, has_session)
}

/// Where a connection goes after failing at `tried`; `None` is any backend that the policy may choose.
pub(super) fn expect_redispatch(
    servers: &Servers,
    pin: Option<&Pin>,
    tried: &[Name],
) -> Option<Name> {
    let pin = pin?;
    [pin.pinned_to, pin.candidate]
        .into_iter()
        .flatten()
        .find(|pinned_to| {
            let server = servers.get(pinned_to);
            server.is_some_and(ModelServer::takes_pinned) && !tried.contains(pinned_to)
        })
}
