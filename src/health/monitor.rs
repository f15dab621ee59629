//! Owns which checks run and which names are resolved, each once however many backends need it, and which backends get the
//! results.
//!
//! Must not know how a check runs or how results are weighed. Invariant: after every change, exactly the checks and names that
//! some backend needs are running and being resolved.

use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::net::IpAddr;
use std::time::Instant;

use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::events::HealthEvents;
use super::monitored::MonitoredBackend;
use super::probe::Finding;
use super::resolver::{self, Resolver};
use super::schedule::{self, CheckEvent, ScheduledCheck};
use super::{LOG, MonitoredPool};
use crate::types::host_name::HostName;

/// Capacity of the event queue; senders wait when it is full.
const EVENT_QUEUE: usize = 256;

/// A check that runs periodically.
struct RunningCheck {
    last: Option<Finding>,
    _stop: DropGuard,
}

/// A name that is resolved periodically.
struct WatchedName {
    address: Option<IpAddr>,
    /// Why the last lookup failed.
    error: Option<String>,
    _stop: DropGuard,
}

/// The only task that writes the monitored state of backends.
pub(super) struct HealthMonitor {
    backends: Vec<MonitoredBackend>,
    running: HashMap<ScheduledCheck, RunningCheck>,
    /// The users of a check: indexes in `backends`, and of the check there.
    users: HashMap<ScheduledCheck, Vec<(usize, usize)>>,
    names: HashMap<HostName, WatchedName>,
    resolver: Resolver,
    events: HealthEvents,
    tasks: TaskTracker,
    token: CancellationToken,
    sender: mpsc::Sender<CheckEvent>,
    receiver: mpsc::Receiver<CheckEvent>,
}

impl HealthMonitor {
    /// A monitor without backends.
    pub(super) fn new(
        resolver: Resolver,
        events: HealthEvents,
        tasks: TaskTracker,
        token: CancellationToken,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(EVENT_QUEUE);
        Self {
            backends: Vec::new(),
            running: HashMap::new(),
            users: HashMap::new(),
            names: HashMap::new(),
            resolver,
            events,
            tasks,
            token,
            sender,
            receiver,
        }
    }

    /// Monitors the pools that `pools` publishes, until the token is cancelled.
    pub(super) async fn run(
        mut self,
        mut pools: watch::Receiver<Vec<MonitoredPool>>,
        mut availability: watch::Receiver<u64>,
    ) {
        let token = self.token.clone();
        let first = pools.borrow_and_update().clone();
        self.replace(first);
        loop {
            tokio::select! {
                biased;
                () = token.cancelled() => return,
                () = changed(&mut pools) => {
                    let next = pools.borrow_and_update().clone();
                    self.replace(next);
                }
                () = changed(&mut availability) => self.reevaluate(),
                () = until(self.next_release()) => self.reevaluate(),
                // Never `None`: this task holds a sender itself.
                Some(event) = self.receiver.recv() => self.handle(event),
            }
        }
    }

    fn reevaluate(&mut self) {
        for monitored in &mut self.backends {
            monitored.reevaluate(&self.events);
        }
    }

    /// When flap damping next ends for a backend.
    fn next_release(&self) -> Option<Instant> {
        self.backends
            .iter()
            .filter_map(MonitoredBackend::held_out_until)
            .min()
    }

    fn handle(&mut self, event: CheckEvent) {
        match event {
            CheckEvent::Resolved { name, result } => self.resolved(&name, result),
            CheckEvent::Checked { check, finding } => {
                // The last result of a check that has been stopped may still arrive.
                let Some(running) = self.running.get_mut(&check) else {
                    return;
                };
                for &(backend, index) in self.users.get(&check).into_iter().flatten() {
                    self.backends[backend].record(index, &finding, &self.events);
                }
                running.last = Some(finding);
                // If this took down the last backend of a pool, one that is held out comes back at once.
                self.reevaluate();
            }
        }
    }

    /// Monitors `pools` instead of those before.
    fn replace(&mut self, pools: Vec<MonitoredPool>) {
        let mut before = std::mem::take(&mut self.backends);
        for pool in pools {
            for backend in &pool.backends {
                let known = before.iter().position(|known| known.monitors(backend));
                let known = known.map(|index| before.swap_remove(index));
                self.backends
                    .push(MonitoredBackend::new(backend, &pool, known));
            }
        }
        self.update_names();
        for monitored in &mut self.backends {
            let known = monitored.name().and_then(|name| self.names.get(name));
            if let Some(WatchedName { address, error, .. }) = known {
                match (address, error) {
                    (Some(address), error) => {
                        monitored.set_resolve_error(error.as_deref());
                        monitored.set_address(*address, &self.events);
                    }
                    (None, Some(error)) => monitored.set_unresolved(error, &self.events),
                    (None, None) => {}
                }
            }
            monitored.update_health(&self.events);
        }
        self.update_checks();
    }

    fn update_names(&mut self) {
        let wanted: HashSet<HostName> = self
            .backends
            .iter()
            .filter_map(MonitoredBackend::name)
            .cloned()
            .collect();
        self.names.retain(|name, _| wanted.contains(name));
        for name in wanted {
            if self.names.contains_key(&name) {
                continue;
            }
            let task = resolver::follow(name.clone(), self.resolver.clone(), self.sender.clone());
            let watched = WatchedName {
                address: None,
                error: None,
                _stop: self.spawn(task),
            };
            self.names.insert(name, watched);
        }
    }

    /// Starts and stops checks, so that exactly the needed ones run.
    fn update_checks(&mut self) {
        self.users.clear();
        for (backend, monitored) in self.backends.iter().enumerate() {
            for (index, check) in monitored.scheduled_checks() {
                self.users.entry(check).or_default().push((backend, index));
            }
        }
        self.running
            .retain(|check, _| self.users.contains_key(check));
        for (check, users) in &self.users {
            let Some(running) = self.running.get(check) else {
                let stop = self.spawn(schedule::run(check.clone(), self.sender.clone()));
                let running = RunningCheck {
                    last: None,
                    _stop: stop,
                };
                self.running.insert(check.clone(), running);
                continue;
            };
            // A new user of a running check gets its last result at once.
            for &(backend, index) in users {
                if let Some(finding) = &running.last {
                    self.backends[backend].record_first(index, finding, &self.events);
                }
            }
        }
    }

    fn resolved(&mut self, name: &HostName, result: Result<Vec<IpAddr>, String>) {
        match result {
            Ok(addresses) => self.lookup_succeeded(name, &addresses),
            Err(error) => self.lookup_failed(name, &error),
        }
    }

    fn lookup_succeeded(&mut self, name: &HostName, addresses: &[IpAddr]) {
        let Some(known) = self.names.get_mut(name) else {
            return;
        };
        let again = known.error.take().is_some();
        let before = known.address;
        let chosen = resolver::choose(before, addresses);
        known.address = chosen.or(before);
        if again {
            info!(target: LOG, %name, "name resolves again");
            self.for_each_named(name, |monitored, _| monitored.set_resolve_error(None));
        }
        let Some(address) = chosen.filter(|_| chosen != before) else {
            return;
        };
        match before {
            Some(before) => {
                info!(target: LOG, %name, %before, %address, "address of name has changed");
            }
            None => info!(target: LOG, %name, %address, "name resolved"),
        }
        self.for_each_named(name, |monitored, events| {
            monitored.set_address(address, events);
        });
        self.update_checks();
    }

    fn lookup_failed(&mut self, name: &HostName, error: &str) {
        let Some(known) = self.names.get_mut(name) else {
            return;
        };
        if known.error.replace(error.to_owned()).is_some() {
            return;
        }
        match known.address {
            Some(address) => {
                warn!(target: LOG, %name, %address, fault = error, "name no longer resolves, keeping its last address");
                self.for_each_named(name, |monitored, _| {
                    monitored.set_resolve_error(Some(error));
                });
            }
            None => {
                warn!(target: LOG, %name, fault = error, "name does not resolve");
                self.for_each_named(name, |monitored, events| {
                    monitored.set_unresolved(error, events);
                });
            }
        }
    }

    fn for_each_named(
        &mut self,
        name: &HostName,
        f: impl Fn(&mut MonitoredBackend, &HealthEvents),
    ) {
        for monitored in &mut self.backends {
            if monitored.name() == Some(name) {
                f(monitored, &self.events);
            }
        }
    }

    /// Runs `task` until the guard is dropped or the monitoring ends.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> DropGuard {
        let token = self.token.child_token();
        let until = token.clone();
        self.tasks.spawn(async move {
            until.run_until_cancelled(task).await;
        });
        token.drop_guard()
    }
}

/// Completes at that time; never if there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment.into()).await,
        None => pending().await,
    }
}

/// Completes at the next change; never once the sender is gone.
async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        pending::<()>().await;
    }
}
