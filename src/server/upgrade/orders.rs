//! A process that has handed over, as the serving process sees it.
//!
//! Owns the channel between the two: reports go out on it, orders and the pid of each serving process come in. Knows no
//! admin listener. Invariant: it answers orders for as long as this process lives, and reports every second.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::state_transfer::{SentPins, send_pins_in_use};
use crate::admin::view::PinsChanged;
use crate::admin::{AffinityError, AffinityErrorKind, Caller, ForwardedChange};
use crate::handoff::orders::{self, Call, Done, HeldAt, OrderAnswer, Report};
use crate::handoff::{AsyncChannel, WireError};
use crate::server::affinity;
use crate::server::control::states;
use crate::server::shared::SharedState;

/// Between two checks whether the report has changed.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// Between two reports that are alike.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The result of a handover for the process that has handed over.
pub(in crate::server) struct HandedOver {
    /// The channel on which the serving process, whichever it is, sends orders.
    pub(super) channel: AsyncChannel,
    /// The process that took over.
    pub(super) successor: u32,
}

/// What is known of the processes that have taken over since.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SuccessorStatus {
    /// Every process that has served since, the serving one last.
    pub serving: Vec<u32>,
    /// The serving one is stopping, and gives its connections this long to end.
    pub stopping_within: Option<Duration>,
    /// No process serves any more.
    pub gone: bool,
}

/// The balancer that orders change, while it has connections.
#[derive(Clone)]
pub(super) struct Draining {
    pub(super) state: Arc<SharedState>,
    /// When the remaining connections are reset.
    pub(super) until: Instant,
}

/// The task that reports and takes orders, and those that it spawns. They end when this is dropped.
pub(super) struct OrderTask {
    status: watch::Receiver<SuccessorStatus>,
    /// Has the task release the balancer.
    release: Option<oneshot::Sender<()>>,
    tasks: TaskTracker,
    stop: DropGuard,
}

impl OrderTask {
    /// Starts to report and to take orders. `stays` marks a process that lives for as long as any process serves.
    pub(super) fn start(over: HandedOver, draining: Option<Draining>, stays: bool) -> Self {
        let (status_sender, status) = watch::channel(SuccessorStatus {
            serving: vec![over.successor],
            ..SuccessorStatus::default()
        });
        let (release, released) = oneshot::channel();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let connection = ServingConnection {
            channel: over.channel,
            successor: over.successor,
            draining,
            status: status_sender,
            stays,
            tasks: tasks.clone(),
            stop: stop.clone(),
            sending_pins: None,
        };
        tasks.spawn(
            stop.clone()
                .run_until_cancelled_owned(connection.run(released)),
        );
        Self {
            status,
            release: Some(release),
            tasks,
            stop: stop.drop_guard(),
        }
    }

    pub(super) fn status(&self) -> watch::Receiver<SuccessorStatus> {
        self.status.clone()
    }

    /// Releases the balancer, whose last connection has ended. From then on orders find nothing to change.
    pub(super) fn release(&mut self) {
        // An error means that the task has ended.
        let _ = self.release.take().map(|release| release.send(()));
    }

    /// Ends the task and those that it has spawned.
    pub(super) async fn stop(self) {
        drop(self.stop);
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// The connection to the process that serves.
struct ServingConnection {
    channel: AsyncChannel,
    /// The process that took over from this one. It follows the pins in use on another channel.
    successor: u32,
    /// `None` once the balancer has no connection any more.
    draining: Option<Draining>,
    status: watch::Sender<SuccessorStatus>,
    stays: bool,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Ends the task that reports to a later process which pins connections here use.
    sending_pins: Option<CancellationToken>,
}

enum DrainEvent {
    Call(Result<Call, WireError>),
    /// The channel has closed.
    Closed,
    Check,
    /// The balancer has no connection any more.
    Released,
}

impl ServingConnection {
    async fn run(mut self, mut released: oneshot::Receiver<()>) {
        let mut checks = interval(CHECK_INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last: Option<(Instant, Report)> = None;
        loop {
            match self.next(&mut checks, &mut released).await {
                DrainEvent::Check => self.report_if_due(&mut last),
                DrainEvent::Released => self.draining = None,
                DrainEvent::Closed => {
                    self.status.send_modify(|status| status.gone = true);
                    return;
                }
                DrainEvent::Call(Ok(call)) => {
                    self.take(call).await;
                    last = None;
                }
                DrainEvent::Call(Err(error)) => {
                    tracing::warn!(target: "lyncpin::server", %error, "malformed message from the serving process");
                }
            }
        }
    }

    async fn next(
        &self,
        checks: &mut Interval,
        released: &mut oneshot::Receiver<()>,
    ) -> DrainEvent {
        tokio::select! {
            packet = self.channel.receive() => match packet {
                Ok(packet) => DrainEvent::Call(orders::read(&packet)),
                Err(_) => DrainEvent::Closed,
            },
            _ = checks.tick() => DrainEvent::Check,
            _ = &mut *released, if !released.is_terminated() => DrainEvent::Released,
        }
    }

    fn report_if_due(&self, last: &mut Option<(Instant, Report)>) {
        let report = self.report();
        let is_due = last
            .as_ref()
            .is_none_or(|(at, sent)| at.elapsed() >= REPORT_INTERVAL || !sent.is_like(&report));
        if is_due && self.send_report(report.clone()) {
            *last = Some((Instant::now(), report));
        }
    }

    async fn take(&mut self, call: Call) {
        match call {
            Call::Serves { pid } => {
                self.status.send_modify(|status| {
                    status.serving.retain(|known| *known != pid);
                    status.serving.push(pid);
                });
                if pid != self.successor {
                    self.send_pins();
                }
            }
            Call::Stops { within } => {
                let within = Duration::from_millis(within);
                self.status
                    .send_modify(|status| status.stopping_within = Some(within));
            }
            Call::Order { id, order, caller } => {
                let (connections, error) = match self.carry_out(order, caller).await {
                    Ok(connections) => (connections, None),
                    Err(error) => (0, Some(error)),
                };
                self.send(&OrderAnswer::Done(Done {
                    id,
                    connections,
                    error,
                }));
            }
        }
    }

    /// Carries out `order` on a thread that may block; returns how many connections it applies to.
    async fn carry_out(&self, order: ForwardedChange, caller: Caller) -> Result<u64, String> {
        let Some(draining) = self.draining.clone() else {
            return Ok(0);
        };
        let done =
            spawn_blocking(move || caller.scope_blocking(|| draining.carry_out(&order))).await;
        done.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Starts to report to the process that serves now which pins connections here use, all of them once more.
    fn send_pins(&mut self) {
        if let Some(earlier) = self.sending_pins.take() {
            earlier.cancel();
        }
        let Some(draining) = &self.draining else {
            return;
        };
        match self.channel.try_clone().and_then(AsyncChannel::new) {
            Ok(channel) => {
                let proxy = draining.state.proxy.clone();
                let sending = send_pins_in_use(SentPins::default(), channel, proxy);
                let stop = self.stop.child_token();
                self.sending_pins = Some(stop.clone());
                self.tasks.spawn(stop.run_until_cancelled_owned(sending));
            }
            Err(error) => {
                tracing::warn!(target: "lyncpin::server", %error, "could not send to the serving process");
            }
        }
    }

    fn report(&self) -> Report {
        let report = self.draining.as_ref().map(Draining::report);
        Report {
            stays: self.stays,
            ..report.unwrap_or_default()
        }
    }

    fn send_report(&self, report: Report) -> bool {
        let mut parts = report.parts().into_iter();
        parts.all(|part| self.send(&OrderAnswer::Report(part)))
    }

    /// A full channel means that the serving process hangs; it gets the next report once it goes on.
    fn send(&self, message: &OrderAnswer) -> bool {
        let packet = orders::packet(message);
        let sent = packet.and_then(|packet| self.channel.try_send(&packet));
        if let Err(error) = &sent
            && !matches!(error, WireError::Timeout | WireError::Closed)
        {
            tracing::warn!(target: "lyncpin::server", %error, "could not send to the serving process");
        }
        sent.is_ok()
    }
}

impl Draining {
    fn report(&self) -> Report {
        let left = self.until.saturating_duration_since(Instant::now());
        report(&self.state, left)
    }

    /// Carries out `order`; returns how many connections it applies to.
    fn carry_out(&self, order: &ForwardedChange) -> Result<u64, String> {
        let snapshot = self.state.proxy.snapshot.load_full();
        let changed = match order {
            ForwardedChange::State {
                pool,
                backend,
                state,
                deadline,
            } => {
                let held = self.report();
                let deadline = deadline.map(Duration::from_millis);
                // A backend that is unknown here has no connection here.
                let _ = states::set_draining(&snapshot, pool, backend, *state, deadline);
                return Ok(held.at(pool, backend));
            }
            ForwardedChange::Move { filter, to } => {
                affinity::move_draining(&snapshot, &self.state.availability, filter, to)
            }
            ForwardedChange::Clear { filter } => affinity::clear_pins(&snapshot, filter),
        };
        connections(changed)
    }
}

/// The connections of this process by backend; the remaining ones are reset after `left`.
pub(super) fn report(state: &SharedState, left: Duration) -> Report {
    let snapshot = state.proxy.snapshot.load();
    let lingering = state.lingering.backends();
    let backends = snapshot.backends().chain(&lingering);
    let mut held: Vec<HeldAt> = Vec::new();
    for backend in backends.filter(|backend| backend.in_flight() > 0) {
        let connections = u64::from(backend.in_flight());
        let (pool, name) = (&*backend.pool, &*backend.name);
        let mut known = held.iter_mut();
        // A backend that a reload replaced has the same name.
        match known.find(|known| known.pool == pool && known.backend == name) {
            Some(known) => known.connections += connections,
            None => held.push(HeldAt {
                pool: pool.to_owned(),
                backend: name.to_owned(),
                connections,
            }),
        }
    }
    Report {
        connections: state.proxy.limits.connections().into(),
        left: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
        backends: held,
        ..Report::default()
    }
}

/// What is unknown here holds no connection here.
fn connections(changed: Result<PinsChanged, AffinityError>) -> Result<u64, String> {
    match changed {
        Ok(changed) => Ok(changed.connections),
        Err(error) if error.kind() == AffinityErrorKind::NotFound => Ok(0),
        Err(error) => Err(error.to_string()),
    }
}
