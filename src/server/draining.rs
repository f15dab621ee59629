//! A process that has handed over: what it does for the process that serves.
//!
//! Owns the channel to it: reports go there, orders and the news of who serves come from there. Knows no admin listener.
//! Invariant: it answers for as long as this process lives, and says how it is every second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::affinity;
use super::control::Administration;
use super::lingering::LingeringBackends;
use super::telling::{self, HandoffTotals};
use crate::admin::view::PinsChanged;
use crate::admin::{AffinityError, AffinityErrorKind, Order};
use crate::handoff::orders::{self, Call, Done, HeldAt, OrderAnswer, Report};
use crate::handoff::{AsyncChannel, WireError};
use crate::proxy::acceptor::ProxyContext;

/// Between two looks for what has changed.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Between two reports, also when nothing has changed.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// What is left of a process that has handed over.
pub(super) struct HandedOver {
    /// Where the serving process speaks, whichever that is.
    pub(super) channel: AsyncChannel,
    /// The process that took over.
    pub(super) successor: u32,
}

/// What this process has heard of those that serve after it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// Every process that has served since, the serving one last.
    pub serving: Vec<u32>,
    /// The serving one has been told to stop, and gives its connections so long.
    pub stops: Option<Duration>,
    /// None serves any more.
    pub gone: bool,
}

/// Where orders are met, until the balancer's part of this process has ended.
type Balancer = Arc<Mutex<Option<Draining>>>;

/// What orders are about.
#[derive(Clone)]
pub(super) struct Draining {
    pub(super) control: Arc<Administration>,
    pub(super) retired: Arc<LingeringBackends>,
    /// When what is left is reset.
    pub(super) until: Instant,
}

/// The task that answers.
pub(super) struct Answering {
    balancer: Balancer,
    heard: watch::Receiver<Heard>,
    task: JoinHandle<()>,
}

impl Answering {
    /// Answers from now on; `stays` is a process that lives for as long as any serves.
    pub(super) fn start(over: HandedOver, draining: Option<Draining>, stays: bool) -> Self {
        let (tell, heard) = watch::channel(Heard {
            serving: vec![over.successor],
            ..Heard::default()
        });
        let balancer: Balancer = Arc::new(Mutex::new(draining));
        let task = DrainingTask {
            channel: over.channel,
            successor: over.successor,
            pins: None,
            balancer: balancer.clone(),
            heard: tell,
            stays,
        };
        Self {
            balancer,
            heard,
            task: tokio::spawn(task.run()),
        }
    }

    pub(super) fn heard(&self) -> watch::Receiver<Heard> {
        self.heard.clone()
    }

    /// Lets go of the balancer, which has ended: from now on there is nothing to be done here.
    pub(super) fn let_go(&self) {
        *lock(&self.balancer) = None;
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct DrainingTask {
    channel: AsyncChannel,
    /// The process that took over from this one, which hears of pins elsewhere.
    successor: u32,
    /// Tells a later one of the pins that connections here use.
    pins: Option<JoinHandle<()>>,
    balancer: Balancer,
    heard: watch::Sender<Heard>,
    stays: bool,
}

impl Drop for DrainingTask {
    fn drop(&mut self) {
        if let Some(pins) = &self.pins {
            pins.abort();
        }
    }
}

impl DrainingTask {
    async fn run(mut self) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last: Option<(Instant, Report)> = None;
        loop {
            let packet = tokio::select! {
                packet = self.channel.receive() => packet,
                _ = looks.tick() => {
                    let report = self.report();
                    let due = last.as_ref().is_none_or(|(at, known)| {
                        at.elapsed() >= REPORT_EVERY || !known.is_like(&report)
                    });
                    if due && self.tell_report(report.clone()) {
                        last = Some((Instant::now(), report));
                    }
                    continue;
                }
            };
            match packet {
                Ok(packet) => match orders::read(&packet) {
                    Ok(call) => {
                        self.take(call).await;
                        last = None;
                    }
                    Err(error) => {
                        tracing::warn!(target: "lyncpin::server", %error, "the serving process is not understood");
                    }
                },
                Err(_) => {
                    self.heard.send_modify(|heard| heard.gone = true);
                    return;
                }
            }
        }
    }

    /// Tells the process that serves now of the pins that connections here use, all of them once more.
    fn tell_pins(&mut self) {
        if let Some(before) = self.pins.take() {
            before.abort();
        }
        let draining = lock(&self.balancer).clone();
        let channel = self.channel.try_clone().and_then(AsyncChannel::new);
        self.pins = match (draining, channel) {
            (None, _) => None,
            (Some(draining), Ok(channel)) => {
                let shared = draining.control.shared.clone();
                let told = HandoffTotals::default();
                Some(tokio::spawn(telling::tell_uses(told, channel, shared)))
            }
            (Some(_), Err(error)) => {
                tracing::warn!(target: "lyncpin::server", %error, "the serving process cannot be told");
                None
            }
        };
    }

    async fn take(&mut self, call: Call) {
        match call {
            Call::Serves { pid } => {
                self.heard.send_modify(|heard| {
                    heard.serving.retain(|known| *known != pid);
                    heard.serving.push(pid);
                });
                if pid != self.successor {
                    self.tell_pins();
                }
            }
            Call::Stops { within } => {
                let within = Duration::from_millis(within);
                self.heard.send_modify(|heard| heard.stops = Some(within));
            }
            Call::Order { id, order, caller } => {
                let draining = lock(&self.balancer).clone();
                let met = spawn_blocking(move || {
                    caller.scope_here(|| draining.map(|draining| draining.meet(&order)))
                });
                let done = match met.await {
                    Ok(met) => met.unwrap_or(Ok(0)),
                    Err(error) => Err(error.to_string()),
                };
                let (connections, error) = match done {
                    Ok(connections) => (connections, None),
                    Err(error) => (0, Some(error)),
                };
                self.tell(&OrderAnswer::Done(Done {
                    id,
                    connections,
                    error,
                }));
            }
        }
    }

    fn report(&self) -> Report {
        let draining = lock(&self.balancer).clone();
        let report = draining.map(|draining| draining.report());
        Report {
            stays: self.stays,
            ..report.unwrap_or_default()
        }
    }

    fn tell_report(&self, report: Report) -> bool {
        let mut parts = report.parts().into_iter();
        parts.all(|part| self.tell(&OrderAnswer::Report(part)))
    }

    /// Where there is no room, the serving process hangs; it gets the next report when it does no more.
    fn tell(&self, answer: &OrderAnswer) -> bool {
        let packet = orders::packet(answer);
        let sent = packet.and_then(|packet| self.channel.try_send(&packet));
        if let Err(error) = &sent
            && !matches!(error, WireError::Late | WireError::Gone)
        {
            tracing::warn!(target: "lyncpin::server", %error, "the serving process cannot be told");
        }
        sent.is_ok()
    }
}

impl Draining {
    fn shared(&self) -> &ProxyContext {
        &self.control.shared
    }

    fn report(&self) -> Report {
        let left = self.until.saturating_duration_since(Instant::now());
        held(self.shared(), &self.retired, left)
    }

    /// Does what is ordered; says how many connections were meant.
    fn meet(&self, order: &Order) -> Result<u64, String> {
        let snapshot = self.shared().snapshot.load_full();
        let touched = match order {
            Order::State {
                pool,
                backend,
                state,
                deadline,
            } => {
                let deadline = deadline.map(Duration::from_millis);
                let held = self.report();
                // One that is not known here has no connection here.
                let _ = self.control.change_state(pool, backend, *state, deadline);
                return Ok(held.at(pool, backend));
            }
            Order::Move { filter, to } => {
                affinity::move_draining(&snapshot, &self.control.availability, filter, to)
            }
            Order::Clear { filter } => affinity::clear_pins(&snapshot, filter),
        };
        connections(touched)
    }
}

/// What this process holds, which is reset after `left`.
pub(super) fn held(shared: &ProxyContext, retired: &LingeringBackends, left: Duration) -> Report {
    let snapshot = shared.snapshot.load();
    let retired = retired.backends();
    let backends = snapshot.backends().chain(&retired);
    let mut held: Vec<HeldAt> = Vec::new();
    for backend in backends.filter(|backend| backend.in_flight() > 0) {
        let connections = u64::from(backend.in_flight());
        let (pool, name) = (&*backend.pool, &*backend.name);
        let mut known = held.iter_mut();
        // One that a reload replaced has the same name.
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
        connections: shared.limits.connections().into(),
        left: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
        backends: held,
        ..Report::default()
    }
}

/// What is not known here holds no connection here.
fn connections(touched: Result<PinsChanged, AffinityError>) -> Result<u64, String> {
    match touched {
        Ok(touched) => Ok(touched.connections),
        Err(error) if error.fault() == AffinityErrorKind::Missing => Ok(0),
        Err(error) => Err(error.to_string()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
