//! What systemd is told, and its watchdog (sd_notify(3), sd_watchdog_enabled(3)).
//!
//! Owns the messages and when they go. Knows nothing of how the balancer works, but for a count of what can serve and
//! the workers' alarms. Invariants: the watchdog is fed only after every worker's event loop has turned since it was fed
//! last, and by the control runtime, so either of them hanging lets it fire; where nobody listens for messages
//! (`NOTIFY_SOCKET`), nothing is sent and nothing wakes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::role::Role;
use crate::net::event_loop::Notifier;
use crate::proxy::acceptor::ProxyContext;
use crate::system::reserve;
use crate::types::backend_state::Health;
use crate::upstream::backend::Backend;

/// Between two messages of what can serve, however often that changes.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// Tells that everything is bound and served, then how it fares, and feeds the watchdog, until the balancer stops.
pub(super) async fn keep(
    shared: Arc<ProxyContext>,
    alarms: Vec<Arc<Notifier>>,
    mut availability: watch::Receiver<u64>,
    mut role: watch::Receiver<Role>,
) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let serves = shared
        .stop
        .run_until_cancelled(role.wait_for(|role| *role != Role::TakesOver));
    if !matches!(serves.await, Some(Ok(role)) if *role == Role::Serves) {
        return;
    }
    let mut watchdog = sd_notify::watchdog_enabled()
        .filter(|within| !within.is_zero())
        .map(|within| Watchdog::new(within, alarms));
    availability.borrow_and_update();
    tell(&[NotifyState::Ready, NotifyState::Status(&status(&shared))]);
    let mut next_status = Instant::now() + STATUS_EVERY;
    loop {
        let feeding = watchdog.as_ref().map(|watchdog| watchdog.next);
        let changed = async {
            // In this order, as what is dropped half-way must not have taken the change.
            sleep_until(next_status).await;
            availability.changed().await
        };
        tokio::select! {
            () = due(feeding) => if let Some(watchdog) = &mut watchdog {
                watchdog.turn(Instant::now());
            },
            changed = changed => {
                if changed.is_err() {
                    break;
                }
                availability.borrow_and_update();
                tell(&[NotifyState::Status(&status(&shared))]);
                next_status = Instant::now() + STATUS_EVERY;
            }
            () = shared.stop.cancelled() => break,
            // Nobody decides it any more after a stop, so that this may be seen first.
            _ = role.wait_for(|role| *role != Role::Serves) => break,
        }
    }
    // Else another process is the service, and has its own say.
    if *role.borrow() == Role::Serves {
        tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }
}

/// Tells which process is the service from now on. The old one has to say so: the new one is listened to only after that
/// (`NotifyAccess=main`, systemd.service(5)), or where every process is (`NotifyAccess=all`) and the old one has died.
pub(super) fn tell_successor(pid: u32) {
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        tell(&[NotifyState::MainPid(pid)]);
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Whether every worker still turns is asked at one feeding and looked at when the next is due.
struct Watchdog {
    /// Half of what systemd waits, as sd_watchdog_enabled(3) advises.
    every: Duration,
    next: Instant,
    /// With how often it had heard when it was asked.
    asked: Vec<(Arc<Notifier>, u64)>,
    hangs: bool,
}

impl Watchdog {
    fn new(within: Duration, alarms: Vec<Arc<Notifier>>) -> Self {
        let every = within / 2;
        let mut watchdog = Self {
            every,
            next: Instant::now() + every,
            asked: alarms.into_iter().map(|alarm| (alarm, 0)).collect(),
            hangs: false,
        };
        watchdog.ask();
        watchdog
    }

    fn ask(&mut self) {
        for (alarm, heard) in &mut self.asked {
            *heard = alarm.heard();
            alarm.ask();
        }
    }

    fn turn(&mut self, now: Instant) {
        let silent = self
            .asked
            .iter()
            .filter(|(alarm, heard)| alarm.heard() == *heard)
            .count();
        if silent == 0 {
            tell(&[NotifyState::Watchdog]);
        } else if !self.hangs {
            tracing::error!(target: "lyncpin::server", workers = silent, "a worker's event loop does not turn: the watchdog is not fed");
        }
        self.hangs = silent > 0;
        if silent == 0 {
            self.ask();
        }
        self.next = now + self.every;
    }
}

/// For people: `systemctl status` shows it.
fn status(shared: &ProxyContext) -> String {
    let snapshot = shared.snapshot.load();
    let up = |backend: &&Arc<Backend>| backend.health() == Health::Up;
    format!(
        "{} of {} listeners can serve, {} of {} backends are up",
        snapshot
            .listeners
            .iter()
            .filter(|listener| listener.can_serve())
            .count(),
        snapshot.listeners.len(),
        snapshot.backends().filter(up).count(),
        snapshot.backends().count(),
    )
}

fn tell(states: &[NotifyState<'_>]) {
    // Each message takes a descriptor, and a watchdog that is not fed ends the process.
    if let Err(error) = reserve::retry(|| sd_notify::notify(states)) {
        complain(&error);
    }
}

fn complain(error: &io::Error) {
    tracing::warn!(target: "lyncpin::server", %error, "systemd cannot be told");
}
