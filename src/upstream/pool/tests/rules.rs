//! The rules of affinity, told as plainly as can be: whoever reads only this file should be able to say where a client
//! goes. No locks, no lists, no shards, and every question answered by looking at everything.

use std::collections::BTreeMap;

/// Pins, and sessions, that a table may hold.
pub(super) const BOUND: usize = 4;
pub(super) const TTL: u64 = 60_000;

pub(super) type Name = &'static str;

/// What one pool knows of one backend.
#[derive(Debug, Clone, Copy)]
pub(super) struct Server {
    pub(super) up: bool,
    pub(super) state: Wish,
    pub(super) in_flight: u32,
    pub(super) most: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Ready,
    Drain,
    /// A drain whose deadline is over.
    Drained,
    Maintain,
}

impl Server {
    pub(super) fn takes_pinned(&self) -> bool {
        self.up && matches!(self.state, Wish::Ready | Wish::Drain)
    }

    pub(super) fn is_full(&self) -> bool {
        self.in_flight >= self.most
    }

    /// Whether a client without a pin may be sent there.
    pub(super) fn takes_new(&self) -> bool {
        self.up && self.state == Wish::Ready && !self.is_full()
    }
}

/// A pin of a client or of a session.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pin {
    pub(super) leads: Option<Name>,
    pub(super) candidate: Option<Name>,
    pub(super) in_use: u32,
    pub(super) expires: u64,
    /// Of a session: who used it last.
    pub(super) client: u8,
}

impl Pin {
    pub(super) fn new(client: u8) -> Self {
        Self {
            leads: None,
            candidate: None,
            in_use: 0,
            expires: 0,
            client,
        }
    }
}

/// One table: pins by a client's or a session's number.
pub(super) type Table = BTreeMap<u8, Pin>;

pub(super) type Servers = BTreeMap<Name, Server>;

/// Where a connection is to go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum To {
    /// To this one, which its session or its pin led to.
    Session(Name),
    Pinned(Name),
    /// To this one, since others of its client have been sent there.
    Agreed(Name),
    /// Where the policy says.
    Policy,
}

/// Where it goes, and what it holds from then on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verdict {
    pub(super) to: To,
    pub(super) holds_pin: bool,
    pub(super) holds_session: bool,
    /// Its server is full: the pin stays, and is used for as long as it takes to see that.
    pub(super) passes_pin: bool,
}

fn verdict(to: To, holds_pin: bool, holds_session: bool) -> Verdict {
    Verdict {
        to,
        holds_pin,
        holds_session,
        passes_pin: false,
    }
}

/// Where a client goes that has this pin, of which the table has room, and resumes this session.
pub(super) fn judge(
    servers: &Servers,
    pin: Option<&Pin>,
    has_room: bool,
    session: Option<&Pin>,
) -> Verdict {
    // A session that leads where this pool cannot know of is no session.
    let session = session.and_then(|session| session.leads);
    let session = session.filter(|leads| servers.contains_key(leads));
    if let Some(leads) = session.filter(|leads| servers[leads].takes_pinned()) {
        if servers[leads].is_full() {
            return verdict(To::Policy, false, false);
        }
        // The pin of its address is only held where it leads to the same server, or nobody has said yet where.
        let beside = match pin {
            None => has_room,
            Some(pin) => pin.leads.or(pin.candidate).unwrap_or(leads) == leads,
        };
        return verdict(To::Session(leads), beside, true);
    }
    judge_by_pin(servers, pin, has_room, session.is_some())
}

fn judge_by_pin(
    servers: &Servers,
    pin: Option<&Pin>,
    has_room: bool,
    has_session: bool,
) -> Verdict {
    let elsewhere = verdict(To::Policy, false, false);
    let Some(pin) = pin else {
        // Without room it is nobody's, and says nothing of its session.
        return verdict(To::Policy, has_room, has_room && has_session);
    };
    for (leads, to) in [
        (pin.leads, To::Pinned as fn(Name) -> To),
        (pin.candidate, To::Agreed),
    ] {
        match leads.map(|leads| (leads, servers.get(leads))) {
            None => {}
            // Not this pool's: whoever has it may find out.
            Some((_, None)) => return elsewhere,
            Some((_, Some(server))) if !server.takes_pinned() => {}
            Some((_, Some(server))) if server.is_full() => {
                return Verdict {
                    passes_pin: true,
                    ..elsewhere
                };
            }
            Some((leads, Some(_))) => return verdict(to(leads), true, has_session),
        }
    }
    verdict(To::Policy, true, has_session)
}

/// Where it goes on to that could not reach what it has tried; `None` is wherever the policy says.
pub(super) fn judge_again(servers: &Servers, pin: Option<&Pin>, tried: &[Name]) -> Option<Name> {
    let pin = pin?;
    [pin.leads, pin.candidate]
        .into_iter()
        .flatten()
        .find(|leads| {
            let server = servers.get(leads);
            server.is_some_and(Server::takes_pinned) && !tried.contains(leads)
        })
}
