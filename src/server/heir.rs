//! The new process in an upgrade.
//!
//! Owns what it gets from the old one and the holds on pins for that one's connections. Invariant: nothing is accepted,
//! opened or closed before the old process has said that it is time; what the old process's connections use counts as in
//! use until it says otherwise or is gone.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::backend::{Backend, Deadline};
use crate::config;
use crate::config::model::AdminBind;
use crate::pins::{Held, KeptKey, Pins, Secret};
use crate::snapshot::Snapshot;
use crate::socket::Listening;
use crate::state::{Health, State};
use crate::upgrade::pins::{self, Told};
use crate::upgrade::{Channel, KeptBackend, Message, PREDECESSOR, Received, VERSION, WireError};

/// What the old process gets to say each thing; it has a bound of its own for the whole.
const PATIENCE: Duration = Duration::from_secs(60);
/// After the old process has said goodbye, it speaks now and then only; it is gone when the channel closes.
const FOR_EVER: Duration = Duration::from_secs(366 * 24 * 3600);

/// One that is to take over from another process.
pub struct Heir {
    channel: Channel,
    pub(super) estate: Estate,
    held: HashMap<(Arc<str>, KeptKey), Held>,
}

/// What there was but pins.
pub(super) struct Estate {
    pub(super) secret: Secret,
    pub(super) ports: Vec<(SocketAddr, Listening)>,
    pub(super) doors: Vec<(AdminBind, OwnedFd)>,
    backends: Vec<KeptBackend>,
}

/// Tells the old process that nothing will come of it.
pub struct Refusal(Channel);

impl Refusal {
    /// Says why.
    pub fn tell(&self, why: &str) {
        // If it is gone, nobody is left to care.
        let _ = self
            .0
            .tell(&Message::failed(why), Instant::now() + PATIENCE);
    }
}

impl Heir {
    /// Hears what the process that started this one has to say, if there is one; all but pins.
    ///
    /// # Errors
    ///
    /// When it does not say what was agreed.
    pub fn from_environment() -> Result<Option<Self>, WireError> {
        if std::env::var_os(PREDECESSOR).is_none() {
            return Ok(None);
        }
        let stdin = std::io::stdin();
        let channel = stdin.as_fd().try_clone_to_owned().map_err(WireError::Io)?;
        let channel = Channel::from_descriptor(channel).map_err(WireError::Io)?;
        // So that the channel closes with the last who uses it.
        let nothing = std::fs::File::open("/dev/null").map_err(WireError::Io)?;
        rustix::stdio::dup2_stdin(&nothing)?;
        let estate = Estate::hear(&channel)?;
        Ok(Some(Self {
            channel,
            estate,
            held: HashMap::new(),
        }))
    }

    /// For whoever finds that nothing will come of it.
    ///
    /// # Errors
    ///
    /// When there are no descriptors left.
    pub fn refusal(&self) -> Result<Refusal, WireError> {
        self.channel.try_clone().map(Refusal).map_err(WireError::Io)
    }

    /// Puts states, deadlines, health and pins as they are in the old process.
    pub(super) fn restore(&mut self, snapshot: &Snapshot) -> Result<(), WireError> {
        for kept in std::mem::take(&mut self.estate.backends) {
            restore_backend(&kept, snapshot);
        }
        self.hear_until(&Message::Complete, snapshot)
    }

    /// Says that everything is ready, and waits until it is time.
    pub(super) fn wait(
        &mut self,
        unwanted: Vec<SocketAddr>,
        snapshot: &Snapshot,
    ) -> Result<(), WireError> {
        self.tell(&Message::Ready(unwanted))?;
        self.hear_until(&Message::Commit, snapshot)
    }

    /// Says that clients are accepted.
    pub(super) fn tell_serving(&self) -> Result<(), WireError> {
        self.tell(&Message::Serving)
    }

    /// Waits until the old process has let go of what only one can have.
    pub(super) fn hear_farewell(&mut self, snapshot: &Snapshot) -> Result<(), WireError> {
        self.hear_until(&Message::Farewell, snapshot)
    }

    /// Follows what the old process's connections use, until it is gone.
    pub(super) fn follow(mut self, snapshot: &Snapshot) {
        loop {
            match self.channel.next(Instant::now() + FOR_EVER) {
                Ok(Received::Pins(bytes)) if self.take_pins(&bytes, snapshot).is_ok() => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    fn tell(&self, message: &Message) -> Result<(), WireError> {
        self.channel.tell(message, Instant::now() + PATIENCE)
    }

    fn hear_until(&mut self, end: &Message, snapshot: &Snapshot) -> Result<(), WireError> {
        loop {
            match self.channel.next(Instant::now() + PATIENCE)? {
                Received::Pins(bytes) => self.take_pins(&bytes, snapshot)?,
                Received::Message(Message::Backend(kept), _) => restore_backend(&kept, snapshot),
                Received::Message(message, _) if message == *end => return Ok(()),
                Received::Message(message, _) => return Err(out_of_turn(&message)),
            }
        }
    }

    fn take_pins(&mut self, bytes: &[u8], snapshot: &Snapshot) -> Result<(), WireError> {
        let held = &mut self.held;
        let table = |group: &str| snapshot.group(group).cloned();
        pins::read(bytes, table, |pins, told| take_pin(held, pins, told))
    }
}

fn take_pin(held: &mut HashMap<(Arc<str>, KeptKey), Held>, pins: &Arc<Pins>, told: Told) {
    match told {
        Told::LetGo(key) => drop(held.remove(&(pins.group().clone(), key))),
        Told::Stands(kept) => {
            let of = (pins.group().clone(), kept.key.clone());
            if kept.in_use == 0 {
                held.remove(&of);
                pins.put(&kept);
            } else if let Some(held) = held.get(&of) {
                held.follow(&kept.backend);
            } else if let Some(new) = pins.put(&kept) {
                held.insert(of, new);
            }
        }
    }
}

impl Estate {
    fn hear(channel: &Channel) -> Result<Self, WireError> {
        let deadline = Instant::now() + PATIENCE;
        let Message::Hello { version, program } = channel.next_message(deadline)? else {
            return Err(WireError::Malformed("it does not introduce itself".into()));
        };
        if version != VERSION {
            return Err(WireError::Malformed(format!(
                "the old process is {program} and speaks version {version} of the hand-over, this one version {VERSION}"
            )));
        }
        let Message::Secret(secret) = channel.next_message(deadline)? else {
            return Err(WireError::Malformed("the secret is missing".into()));
        };
        let mut estate = Self {
            secret: Secret::from_bytes(secret),
            ports: Vec::new(),
            doors: Vec::new(),
            backends: Vec::new(),
        };
        loop {
            match channel.next(deadline)? {
                Received::Message(Message::Ports(addresses), descriptors) => {
                    for (address, socket) in addresses.into_iter().zip(descriptors) {
                        let socket = Listening::inherit(socket).map_err(WireError::Io)?;
                        estate.ports.push((address, socket));
                    }
                }
                Received::Message(Message::Admin(places), descriptors) => {
                    for (place, socket) in places.iter().zip(descriptors) {
                        let at = config::admin_bind(place).map_err(WireError::Malformed)?;
                        estate.doors.push((at, socket));
                    }
                }
                Received::Message(Message::Backend(kept), _) => estate.backends.push(kept),
                Received::Message(Message::Described, _) => return Ok(estate),
                Received::Message(other, _) => return Err(out_of_turn(&other)),
                Received::Pins(_) => {
                    return Err(WireError::Malformed("pins come out of turn".into()));
                }
            }
        }
    }
}

fn out_of_turn(message: &Message) -> WireError {
    let text = format!("{message:?}");
    let word: String = text.chars().take_while(char::is_ascii_alphabetic).collect();
    WireError::Malformed(format!("{word:?} comes out of turn"))
}

fn restore_backend(kept: &KeptBackend, snapshot: &Snapshot) {
    let pool = snapshot.pool(&kept.pool);
    let mut backends = pool.into_iter().flat_map(|pool| &pool.backends);
    let Some(backend) = backends.find(|backend| *backend.name == *kept.name) else {
        return;
    };
    restore_state(kept, backend);
    // What is known of another server says nothing of this one.
    if backend.configured().address.to_string() != kept.configured {
        return;
    }
    if let Some(address) = kept.address.filter(|&new| backend.address() != Some(new)) {
        backend.set_address(address);
    }
    if kept.health != Health::Unknown && kept.health != backend.health() {
        backend.set_health(kept.health, &kept.why);
    }
}

fn restore_state(kept: &KeptBackend, backend: &Backend) {
    let deadline = kept.deadline.map(|left| {
        let left = Duration::from_millis(left);
        Deadline {
            at: Instant::now() + left,
            shown: SystemTime::now() + left,
        }
    });
    let same_deadline = match (deadline, backend.deadline()) {
        (None, None) => true,
        (Some(new), Some(known)) => {
            let (early, late) = (new.at.min(known.at), new.at.max(known.at));
            late.duration_since(early) < Duration::from_secs(1)
        }
        (None, Some(_)) | (Some(_), None) => false,
    };
    if kept.state != backend.state() || !same_deadline {
        let deadline = deadline.filter(|_| kept.state == State::Drain);
        backend.set_state(kept.state, deadline);
    }
}

/// How many older processes have connections still; counts down by `Drop`.
#[derive(Debug, Clone, Default)]
pub(super) struct Elders(Arc<AtomicUsize>);

/// One of them.
pub(super) struct Elder(Elders);

impl Elders {
    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    pub(super) fn one_more(&self) -> Elder {
        self.0.fetch_add(1, Ordering::AcqRel);
        Elder(self.clone())
    }
}

impl Drop for Elder {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}
