//! Notifications to systemd, and its watchdog (sd_notify(3), sd_watchdog_enabled(3)).
//!
//! Owns the messages and their times. Knows of the balancer only how many listeners and backends can serve, and the workers'
//! notifiers. Invariants: the watchdog is fed by the control runtime, and only if every worker's event loop has run since
//! the last time, so that it fires if either hangs; without `NOTIFY_SOCKET`, nothing is sent and no task wakes up.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::shared::SharedState;
use super::upgrade::role::Role;
use crate::net::event_loop::Notifier;
use crate::proxy::acceptor::ProxyContext;
use crate::system::reserve;
use crate::types::backend_state::Health;
use crate::upstream::backend::Backend;

/// Between two status messages, however often the status changes.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// Notifies systemd of readiness and status, and feeds the watchdog, until the balancer stops or has handed over.
pub(super) async fn run(
    state: Arc<SharedState>,
    notifiers: Vec<Arc<Notifier>>,
    mut role: watch::Receiver<Role>,
) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let decided = state
        .proxy
        .stop
        .run_until_cancelled(role.wait_for(|role| *role != Role::TakingOver));
    if !matches!(decided.await, Some(Ok(role)) if *role == Role::Serving) {
        return;
    }
    serve(&state, notifiers, &mut role).await;
    // Otherwise another process is the service, and sends its own messages.
    if *role.borrow() == Role::Serving {
        notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }
}

/// Notifies systemd for as long as this process serves.
async fn serve(
    state: &SharedState,
    notifiers: Vec<Arc<Notifier>>,
    role: &mut watch::Receiver<Role>,
) {
    let proxy: &ProxyContext = &state.proxy;
    let mut availability = state.availability.subscribe();
    let mut watchdog = sd_notify::watchdog_enabled()
        .filter(|within| !within.is_zero())
        .map(|within| Watchdog::new(within, notifiers));
    availability.borrow_and_update();
    notify(&[NotifyState::Ready, NotifyState::Status(&status(proxy))]);
    let mut next_status = Instant::now() + STATUS_INTERVAL;
    loop {
        let feeding = watchdog.as_ref().map(|watchdog| watchdog.next);
        let changed = async {
            // In this order: a future that is dropped half-way must not have consumed the change.
            sleep_until(next_status).await;
            availability.changed().await
        };
        tokio::select! {
            () = due(feeding) => if let Some(watchdog) = &mut watchdog {
                watchdog.feed(Instant::now());
            },
            changed = changed => {
                if changed.is_err() {
                    return;
                }
                availability.borrow_and_update();
                notify(&[NotifyState::Status(&status(proxy))]);
                next_status = Instant::now() + STATUS_INTERVAL;
            }
            () = proxy.stop.cancelled() => return,
            // An error means that the supervisor has ended.
            _ = role.wait_for(|role| *role != Role::Serving) => return,
        }
    }
}

/// Makes `pid` the main process of the service. The old process has to send this, since systemd accepts messages of the new
/// one only after it (`NotifyAccess=main`, systemd.service(5)). The new one sends it only if the old one has died, which
/// works with `NotifyAccess=all`.
pub(super) fn notify_main_pid(pid: u32) {
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        notify(&[NotifyState::MainPid(pid)]);
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Pings every worker when it is fed, and checks their replies when the next feeding is due.
struct Watchdog {
    /// Half of what systemd waits, as sd_watchdog_enabled(3) advises.
    every: Duration,
    next: Instant,
    /// Each worker, with its number of replies before the last ping.
    pinged: Vec<(Arc<Notifier>, u64)>,
    is_hanging: bool,
}

impl Watchdog {
    fn new(within: Duration, notifiers: Vec<Arc<Notifier>>) -> Self {
        let every = within / 2;
        let pinged = notifiers.into_iter().map(|notifier| (notifier, 0));
        let mut watchdog = Self {
            every,
            next: Instant::now() + every,
            pinged: pinged.collect(),
            is_hanging: false,
        };
        watchdog.ping();
        watchdog
    }

    fn ping(&mut self) {
        for (notifier, replies) in &mut self.pinged {
            *replies = notifier.wake_count();
            notifier.ping();
        }
    }

    fn feed(&mut self, now: Instant) {
        let hanging = self
            .pinged
            .iter()
            .filter(|(notifier, replies)| notifier.wake_count() == *replies)
            .count();
        if hanging == 0 {
            notify(&[NotifyState::Watchdog]);
            self.ping();
        } else if !self.is_hanging {
            tracing::error!(target: "lyncpin::server", workers = hanging, "a worker's event loop hangs: the watchdog is not fed");
        }
        self.is_hanging = hanging > 0;
        self.next = now + self.every;
    }
}

/// The status line of `systemctl status`.
fn status(proxy: &ProxyContext) -> String {
    let snapshot = proxy.snapshot.load();
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

fn notify(states: &[NotifyState<'_>]) {
    // Each message takes a descriptor, and a watchdog that is not fed ends the process.
    if let Err(error) = reserve::retry_with_reserve(|| sd_notify::notify(states)) {
        tracing::warn!(target: "lyncpin::server", %error, "could not notify systemd");
    }
}
