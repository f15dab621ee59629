//! What the new process of an upgrade gets from the old one.
//!
//! Owns what comes over the channel and the holds on pins for the old process's connections. Invariant: nothing is accepted,
//! opened or closed before the old process has said that it is time or has died; what the old process's connections use
//! counts as in use until it says otherwise or is gone.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::pin;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;

use super::holds::Holds;
use super::predecessors::Predecessors;
use crate::affinity::table::Secret;
use crate::config;
use crate::config::model::AdminBind;
use crate::handoff::{
    AsyncChannel, BackendRecord, Channel, HandoffMessage, KeptPredecessor, KeptReport, PREDECESSOR,
    PredecessorChannel, Received, VERSION, WireError,
};
use crate::net::socket::Listening;
use crate::proxy::acceptor::ProxyContext;
use crate::snapshot::Snapshot;
use crate::types::backend_state::{AdminState, Health};
use crate::upstream::backend::{Backend, Deadline};

/// What the old process gets to say each thing; it has a bound of its own for the whole.
const PATIENCE: Duration = Duration::from_secs(60);
/// From the end of the channel to the end of the old process, if that is why it has ended. One that gives up the upgrade
/// kills this process before.
const LAST_BREATH: Duration = Duration::from_secs(5);

/// What is still to be taken over.
pub(super) struct TakeOver {
    pub(super) handoff: Handoff,
    /// Addresses that are not configured any more.
    pub(super) unwanted: Vec<SocketAddr>,
}

/// What a process takes over from another one, and how it hears of it.
pub struct Handoff {
    channel: Channel,
    from: PredecessorChannel,
    pub(super) passed: Passed,
    holds: Holds,
    /// The old process has died, and this one goes on alone.
    alone: bool,
}

/// What there was but pins.
pub(super) struct Passed {
    pub(super) secret: Secret,
    pub(super) ports: Vec<(SocketAddr, Listening)>,
    pub(super) doors: Vec<(AdminBind, OwnedFd)>,
    pub(super) predecessors: Vec<(KeptPredecessor, OwnedFd)>,
    /// What these were last known to hold.
    reports: Vec<KeptReport>,
    backends: Vec<BackendRecord>,
}

/// Tells the old process that nothing will come of it.
pub struct HandoffRejection(Channel);

impl HandoffRejection {
    /// Says why.
    pub fn tell(&self, why: &str) {
        // If it is gone, nobody is left to care.
        let _ = self
            .0
            .tell(&HandoffMessage::failed(why), Instant::now() + PATIENCE);
    }
}

impl Handoff {
    /// Hears what the process that started this one has to say, if there is one; all but pins. `None` also where that
    /// process has died before it had passed every socket: then this one starts as if it had been the first.
    ///
    /// # Errors
    ///
    /// When it does not say what was agreed.
    pub fn from_environment() -> Result<Option<Self>, WireError> {
        let Some(pid) = std::env::var_os(PREDECESSOR) else {
            return Ok(None);
        };
        let pid = pid.to_str().and_then(|pid| pid.parse().ok());
        let from = PredecessorChannel::new(pid.unwrap_or(0));
        let stdin = std::io::stdin();
        let channel = stdin.as_fd().try_clone_to_owned().map_err(WireError::Io)?;
        let channel = Channel::from_descriptor(channel).map_err(WireError::Io)?;
        // So that the channel closes with the last who uses it.
        let nothing = std::fs::File::open("/dev/null").map_err(WireError::Io)?;
        rustix::stdio::dup2_stdin(&nothing)?;
        let passed = match Passed::hear(&channel) {
            Err(WireError::Gone) if from.has_ended_within(LAST_BREATH) => return Ok(None),
            passed => passed?,
        };
        Ok(Some(Self {
            channel,
            from,
            passed,
            holds: Holds::default(),
            alone: false,
        }))
    }

    /// For whoever finds that nothing will come of it.
    ///
    /// # Errors
    ///
    /// When there are no descriptors left.
    pub fn refusal(&self) -> Result<HandoffRejection, WireError> {
        self.channel
            .try_clone()
            .map(HandoffRejection)
            .map_err(WireError::Io)
    }

    /// Puts states, deadlines, health and pins as they are in the old process; what it told of them before it died, if it
    /// does. Blocks.
    pub(super) fn restore(&mut self, snapshot: &Snapshot) -> Result<(), WireError> {
        for kept in std::mem::take(&mut self.passed.backends) {
            restore_backend(&kept, snapshot);
        }
        let heard = loop {
            match self.channel.next(Instant::now() + PATIENCE) {
                Ok(Received::Message(HandoffMessage::Complete, _)) => return Ok(()),
                Ok(received) => self.holds.take(received, snapshot)?,
                Err(error) => break error,
            }
        };
        if !matches!(heard, WireError::Gone) || !self.from.has_ended_within(LAST_BREATH) {
            return Err(heard);
        }
        self.alone = true;
        Ok(())
    }

    /// Says that everything is ready, and waits until it is time: until the old process says so, or is no more.
    pub(super) async fn wait(
        self,
        unwanted: Vec<SocketAddr>,
        shared: &ProxyContext,
        predecessors: &Predecessors,
    ) -> Result<Follower, WireError> {
        let Self {
            channel,
            from,
            passed,
            holds,
            mut alone,
        } = self;
        for report in passed.reports {
            predecessors.learn(report);
        }
        let channel = AsyncChannel::new(channel).map_err(WireError::Io)?;
        let mut follower = Follower { channel, holds };
        let ready = HandoffMessage::Ready(unwanted).packet()?;
        let waiting = async {
            follower.channel.send(&ready).await?;
            follower.hear_commit(shared, predecessors).await
        };
        match waiting.await {
            _ if alone => {}
            Ok(()) => {}
            Err(WireError::Gone) => {
                let ended = tokio::task::spawn_blocking(move || from.has_ended_within(LAST_BREATH));
                alone = ended.await.unwrap_or(false);
                if !alone {
                    return Err(WireError::Gone);
                }
            }
            Err(error) => return Err(error),
        }
        if alone {
            tracing::warn!(target: "lyncpin::server", "the old process has died during the upgrade: this one serves with what it had passed on");
            super::service::tell_successor(std::process::id());
        }
        Ok(follower)
    }
}

/// Hears the old process out after it has been taken over from.
pub(super) struct Follower {
    channel: AsyncChannel,
    holds: Holds,
}

impl Follower {
    /// Says that clients are accepted.
    pub(super) fn tell_serving(&self) {
        // Ports are open: if the old process does not hear of it, it is gone.
        let packet = HandoffMessage::Serving.packet();
        let _ = packet.and_then(|packet| self.channel.try_send(&packet));
    }

    /// Follows what the old process's connections use, until it is gone, and gives them back. Tells when it has let go of what only one can
    /// have: once it says so or is gone, and also when it takes too long.
    pub(super) async fn follow(
        mut self,
        shared: &ProxyContext,
        let_go: &mpsc::UnboundedSender<()>,
    ) -> Holds {
        // Whoever does not listen any more is stopping.
        let tell = || {
            let _ = let_go.send(());
        };
        let mut waits = true;
        let mut patience = pin!(tokio::time::sleep(PATIENCE));
        loop {
            let received = tokio::select! {
                received = self.next() => received,
                () = &mut patience, if waits => {
                    waits = false;
                    tracing::warn!(target: "lyncpin::server", "the old process does not let go of the affinity store");
                    tell();
                    continue;
                }
            };
            let taken = match received {
                Ok(Received::Message(HandoffMessage::Farewell, _)) => {
                    waits = false;
                    tell();
                    continue;
                }
                Ok(received) => self.holds.take(received, &shared.snapshot.load_full()),
                Err(error) => Err(error),
            };
            if let Err(error) = taken {
                if waits {
                    tracing::warn!(target: "lyncpin::server", %error, "the old process is gone without a word");
                    tell();
                }
                return self.holds;
            }
        }
    }

    async fn hear_commit(
        &mut self,
        shared: &ProxyContext,
        predecessors: &Predecessors,
    ) -> Result<(), WireError> {
        loop {
            match self.next().await? {
                Received::Message(HandoffMessage::Commit, _) => return Ok(()),
                Received::Message(HandoffMessage::Reported(kept), _) => predecessors.learn(kept),
                received @ (Received::Message(..) | Received::Pins(_)) => {
                    let snapshot = shared.snapshot.load_full();
                    self.holds.take(received, &snapshot)?;
                }
            }
        }
    }

    async fn next(&self) -> Result<Received, WireError> {
        Received::of(self.channel.receive().await?)
    }
}

impl Holds {
    /// Takes in what is said of backends and pins.
    fn take(&mut self, received: Received, snapshot: &Snapshot) -> Result<(), WireError> {
        match received {
            Received::Message(HandoffMessage::Backend(kept), _) => restore_backend(&kept, snapshot),
            Received::Message(message, _) => return Err(out_of_turn(&message)),
            Received::Pins(bytes) => self.take_pins(&bytes, snapshot)?,
        }
        Ok(())
    }
}

impl Passed {
    fn hear(channel: &Channel) -> Result<Self, WireError> {
        let deadline = Instant::now() + PATIENCE;
        let HandoffMessage::Hello { version, program } = channel.next_message(deadline)? else {
            return Err(WireError::Malformed("it does not introduce itself".into()));
        };
        if version != VERSION {
            return Err(WireError::Malformed(format!(
                "the old process is {program} and speaks version {version} of the hand-over, this one version {VERSION}"
            )));
        }
        let HandoffMessage::Secret(secret) = channel.next_message(deadline)? else {
            return Err(WireError::Malformed("the secret is missing".into()));
        };
        let mut passed = Self {
            secret: Secret::from_bytes(secret),
            ports: Vec::new(),
            doors: Vec::new(),
            predecessors: Vec::new(),
            reports: Vec::new(),
            backends: Vec::new(),
        };
        loop {
            match channel.next(deadline)? {
                Received::Message(HandoffMessage::Ports(addresses), descriptors) => {
                    for (address, socket) in addresses.into_iter().zip(descriptors) {
                        let socket = Listening::inherit(socket).map_err(WireError::Io)?;
                        passed.ports.push((address, socket));
                    }
                }
                Received::Message(HandoffMessage::Admin(places), descriptors) => {
                    for (place, socket) in places.iter().zip(descriptors) {
                        let at = config::admin_bind(place).map_err(WireError::Malformed)?;
                        passed.doors.push((at, socket));
                    }
                }
                Received::Message(HandoffMessage::Predecessors(processes), descriptors) => {
                    let processes = processes.into_iter().zip(descriptors);
                    passed.predecessors.extend(processes);
                }
                Received::Message(HandoffMessage::Reported(kept), _) => passed.reports.push(kept),
                Received::Message(HandoffMessage::Backend(kept), _) => passed.backends.push(kept),
                Received::Message(HandoffMessage::Described, _) => return Ok(passed),
                Received::Message(other, _) => return Err(out_of_turn(&other)),
                Received::Pins(_) => {
                    return Err(WireError::Malformed("pins come out of turn".into()));
                }
            }
        }
    }
}

fn out_of_turn(message: &HandoffMessage) -> WireError {
    let text = format!("{message:?}");
    let word: String = text.chars().take_while(char::is_ascii_alphabetic).collect();
    WireError::Malformed(format!("{word:?} comes out of turn"))
}

fn restore_backend(kept: &BackendRecord, snapshot: &Snapshot) {
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

fn restore_state(kept: &BackendRecord, backend: &Backend) {
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
        let deadline = deadline.filter(|_| kept.state == AdminState::Drain);
        backend.set_state(kept.state, deadline);
    }
}
