//! What the successor receives from its predecessor.
//!
//! Owns the receiving side of the channel up to the predecessor's commit, and holds on the pins that its connections use.
//! Must not know how a port is opened. Invariant: nothing is accepted, opened or closed before the predecessor commits or
//! has died.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use super::follower::Follower;
use super::foreign_pins::ForeignPins;
use super::predecessors::Predecessors;
use super::restore::{out_of_order, restore_backend};
use crate::affinity::table::Secret;
use crate::config;
use crate::config::model::AdminBind;
use crate::handoff::{
    AsyncChannel, BackendRecord, Channel, DrainingProcess, DrainingReport, HandoffMessage,
    PREDECESSOR, PredecessorProcess, Received, VERSION, WireError,
};
use crate::net::socket::ListeningSocket;
use crate::proxy::acceptor::ProxyContext;
use crate::server::systemd;
use crate::snapshot::Snapshot;

/// For the predecessor to send each message; it has a bound of its own for the whole.
const MESSAGE_TIME: Duration = Duration::from_secs(60);
/// From the end of the channel to the end of the predecessor, if that is why the channel ended. A predecessor that cancels
/// the upgrade kills this process before.
const EXIT_TIME: Duration = Duration::from_secs(5);

/// What a process takes over from its predecessor, and the channel to it.
pub struct Handoff {
    channel: Channel,
    predecessor: PredecessorProcess,
    pub(in crate::server) passed: Passed,
    pins: ForeignPins,
    /// The predecessor has died, and this process goes on alone.
    is_alone: bool,
}

/// Everything but pins.
pub(in crate::server) struct Passed {
    pub(in crate::server) secret: Secret,
    pub(in crate::server) ports: Vec<(SocketAddr, ListeningSocket)>,
    pub(in crate::server) admin: Vec<(AdminBind, OwnedFd)>,
    /// Older processes that still have connections, and the channels to them.
    pub(in crate::server) predecessors: Vec<(DrainingProcess, OwnedFd)>,
    /// What these last reported.
    reports: Vec<DrainingReport>,
    backends: Vec<BackendRecord>,
}

/// Reports to the predecessor that this process does not take over.
pub struct HandoffRejection(Channel);

impl HandoffRejection {
    /// Sends the reason.
    pub fn send(&self, why: &str) {
        // An error means that the predecessor is gone.
        let deadline = Instant::now() + MESSAGE_TIME;
        let _ = self.0.send_message(&HandoffMessage::failed(why), deadline);
    }
}

impl Handoff {
    /// Receives everything but pins from the process that started this one, if there is one. Returns `None` also if that
    /// process died before it had passed every socket: this one then starts as if it were the first.
    ///
    /// # Errors
    ///
    /// A message that is malformed, out of order or of another version, or no message in time.
    pub fn from_environment() -> Result<Option<Self>, WireError> {
        let Some(pid) = std::env::var_os(PREDECESSOR) else {
            return Ok(None);
        };
        let pid = pid.to_str().and_then(|pid| pid.parse().ok());
        let predecessor = PredecessorProcess::new(pid.unwrap_or(0));
        let stdin = std::io::stdin();
        let channel = stdin.as_fd().try_clone_to_owned().map_err(WireError::Io)?;
        let channel = Channel::from_descriptor(channel).map_err(WireError::Io)?;
        // Standard input must not keep the channel open.
        let null = std::fs::File::open("/dev/null").map_err(WireError::Io)?;
        rustix::stdio::dup2_stdin(&null)?;
        let passed = match Passed::receive(&channel) {
            Err(WireError::Closed) if predecessor.has_ended_within(EXIT_TIME) => return Ok(None),
            passed => passed?,
        };
        Ok(Some(Self {
            channel,
            predecessor,
            passed,
            pins: ForeignPins::default(),
            is_alone: false,
        }))
    }

    /// A second handle on the channel, to report a failure of the start.
    ///
    /// # Errors
    ///
    /// When there are no descriptors left.
    pub fn rejection(&self) -> Result<HandoffRejection, WireError> {
        self.channel
            .try_clone()
            .map(HandoffRejection)
            .map_err(WireError::Io)
    }

    /// Restores states, deadlines, health and pins of the predecessor. If it dies meanwhile, what it has sent counts.
    /// Blocks.
    pub(in crate::server) fn restore(&mut self, snapshot: &Snapshot) -> Result<(), WireError> {
        for record in std::mem::take(&mut self.passed.backends) {
            restore_backend(&record, snapshot);
        }
        let error = loop {
            match self.channel.receive_packet(Instant::now() + MESSAGE_TIME) {
                Ok(Received::Message(HandoffMessage::Complete, _)) => return Ok(()),
                Ok(received) => self.pins.apply(received, snapshot)?,
                Err(error) => break error,
            }
        };
        if !matches!(error, WireError::Closed) || !self.predecessor.has_ended_within(EXIT_TIME) {
            return Err(error);
        }
        self.is_alone = true;
        Ok(())
    }

    /// Reports that everything is ready, and waits until the predecessor commits or has died.
    pub(super) async fn wait(
        self,
        unwanted: Vec<SocketAddr>,
        proxy: &ProxyContext,
        predecessors: &Predecessors,
    ) -> Result<Follower, WireError> {
        let Self {
            channel,
            predecessor,
            passed,
            pins,
            mut is_alone,
        } = self;
        for report in passed.reports {
            predecessors.restore_report(report);
        }
        let channel = AsyncChannel::new(channel).map_err(WireError::Io)?;
        let mut follower = Follower { channel, pins };
        let ready = HandoffMessage::Ready(unwanted).packet()?;
        let waiting = async {
            follower.channel.send(&ready).await?;
            follower.wait_for_commit(proxy, predecessors).await
        };
        match waiting.await {
            _ if is_alone => {}
            Ok(()) => {}
            Err(WireError::Closed) => {
                let exited =
                    tokio::task::spawn_blocking(move || predecessor.has_ended_within(EXIT_TIME));
                is_alone = exited.await.unwrap_or(false);
                if !is_alone {
                    return Err(WireError::Closed);
                }
            }
            Err(error) => return Err(error),
        }
        if is_alone {
            tracing::warn!(target: "lyncpin::server", "the old process died during the upgrade: this one serves with what it had received");
            systemd::notify_main_pid(std::process::id());
        }
        Ok(follower)
    }
}

impl Passed {
    fn receive(channel: &Channel) -> Result<Self, WireError> {
        let deadline = Instant::now() + MESSAGE_TIME;
        let HandoffMessage::Hello { version, program } = channel.receive_message(deadline)? else {
            return Err(WireError::Malformed(
                "the first message is not `hello`".into(),
            ));
        };
        if version != VERSION {
            return Err(WireError::Malformed(format!(
                "the old process (lyncpin {program}) uses version {version} of the handover protocol, this one version {VERSION}"
            )));
        }
        let HandoffMessage::Secret(secret) = channel.receive_message(deadline)? else {
            return Err(WireError::Malformed("the secret is missing".into()));
        };
        let mut passed = Self {
            secret: Secret::from_bytes(secret),
            ports: Vec::new(),
            admin: Vec::new(),
            predecessors: Vec::new(),
            reports: Vec::new(),
            backends: Vec::new(),
        };
        loop {
            match channel.receive_packet(deadline)? {
                Received::Message(HandoffMessage::Described, _) => return Ok(passed),
                Received::Message(message, descriptors) => passed.add(message, descriptors)?,
                Received::Pins(_) => {
                    return Err(WireError::Malformed("pins are out of order".into()));
                }
            }
        }
    }

    fn add(&mut self, message: HandoffMessage, descriptors: Vec<OwnedFd>) -> Result<(), WireError> {
        match message {
            HandoffMessage::Ports(addresses) => {
                for (address, socket) in addresses.into_iter().zip(descriptors) {
                    let socket = ListeningSocket::inherit(socket).map_err(WireError::Io)?;
                    self.ports.push((address, socket));
                }
            }
            HandoffMessage::Admin(binds) => {
                for (bind, socket) in binds.iter().zip(descriptors) {
                    let bind = config::admin_bind(bind).map_err(WireError::Malformed)?;
                    self.admin.push((bind, socket));
                }
            }
            HandoffMessage::Predecessors(processes) => {
                self.predecessors
                    .extend(processes.into_iter().zip(descriptors));
            }
            HandoffMessage::Reported(report) => self.reports.push(report),
            HandoffMessage::Backend(record) => self.backends.push(record),
            other @ (HandoffMessage::Hello { .. }
            | HandoffMessage::Secret(_)
            | HandoffMessage::Described
            | HandoffMessage::Complete
            | HandoffMessage::Ready(_)
            | HandoffMessage::Failed(_)
            | HandoffMessage::Commit
            | HandoffMessage::Serving
            | HandoffMessage::Farewell) => return Err(out_of_order(&other)),
        }
        Ok(())
    }
}
