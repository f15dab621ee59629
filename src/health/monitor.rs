//! Owns which checks are made and which names are resolved, each once however many backends want it, and who hears of
//! what came of it.
//!
//! Must not know how a check is made or judged. Invariant: after every change, the rounds under way are exactly those
//! that some backend wants, and so are the names that are followed.

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
use super::{LOG, WatchedPool};
use crate::types::host_name::HostName;

/// How many news may wait; who brings more waits too.
const NEWS: usize = 256;

/// A check that is made again and again.
struct RunningCheck {
    last: Option<Finding>,
    _stop: DropGuard,
}

/// A name that is asked for again and again.
struct WatchedName {
    address: Option<IpAddr>,
    /// Why the last answer was none.
    fault: Option<String>,
    _stop: DropGuard,
}

/// The one task that writes what is known of backends.
pub(super) struct HealthMonitor {
    watched: Vec<MonitoredBackend>,
    rounds: HashMap<ScheduledCheck, RunningCheck>,
    /// Who hears of a round: places in `watched`, and of a check there.
    listeners: HashMap<ScheduledCheck, Vec<(usize, usize)>>,
    names: HashMap<HostName, WatchedName>,
    resolver: Resolver,
    events: HealthEvents,
    tasks: TaskTracker,
    token: CancellationToken,
    sender: mpsc::Sender<CheckEvent>,
    news: mpsc::Receiver<CheckEvent>,
}

impl HealthMonitor {
    /// A keeper that watches nothing yet.
    pub(super) fn new(
        resolver: Resolver,
        events: HealthEvents,
        tasks: TaskTracker,
        token: CancellationToken,
    ) -> Self {
        let (sender, news) = mpsc::channel(NEWS);
        Self {
            watched: Vec::new(),
            rounds: HashMap::new(),
            listeners: HashMap::new(),
            names: HashMap::new(),
            resolver,
            events,
            tasks,
            token,
            sender,
            news,
        }
    }

    /// Watches what `pools` says, until the token is cancelled.
    pub(super) async fn run(
        mut self,
        mut pools: watch::Receiver<Vec<WatchedPool>>,
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
                () = changed(&mut availability) => self.reconsider(),
                () = until(self.next_taken_back()) => self.reconsider(),
                // The keeper holds a sender, so that there is always a next one to wait for.
                Some(news) = self.news.recv() => self.hear(news),
            }
        }
    }

    fn reconsider(&mut self) {
        for watched in &mut self.watched {
            watched.reconsider(&self.events);
        }
    }

    /// When the first of those is taken back that are kept out for their falls.
    fn next_taken_back(&self) -> Option<Instant> {
        self.watched
            .iter()
            .filter_map(MonitoredBackend::kept_out_until)
            .min()
    }

    fn hear(&mut self, news: CheckEvent) {
        match news {
            CheckEvent::Resolved { name, answer } => self.resolved(&name, answer),
            CheckEvent::Found { round, finding } => {
                // A round that nobody wants any more may have had its last result on the way.
                let Some(under_way) = self.rounds.get_mut(&round) else {
                    return;
                };
                for &(backend, check) in self.listeners.get(&round).into_iter().flatten() {
                    self.watched[backend].take(check, &finding, &self.events);
                }
                under_way.last = Some(finding);
                // If that took the last of a pool down, one that is kept out is taken before anybody notices.
                self.reconsider();
            }
        }
    }

    /// Watches `pools` in the place of those before.
    fn replace(&mut self, pools: Vec<WatchedPool>) {
        let mut before = std::mem::take(&mut self.watched);
        for pool in pools {
            for backend in &pool.backends {
                let known = before.iter().position(|known| known.is(backend));
                let known = known.map(|place| before.swap_remove(place));
                self.watched
                    .push(MonitoredBackend::new(backend, &pool, known));
            }
        }
        self.follow_names();
        for watched in &mut self.watched {
            let followed = watched.name().and_then(|name| self.names.get(name));
            if let Some(WatchedName { address, fault, .. }) = followed {
                match (address, fault) {
                    (Some(address), fault) => {
                        watched.keep_address(fault.as_deref());
                        watched.move_to(*address, &self.events);
                    }
                    (None, Some(fault)) => watched.lost(fault, &self.events),
                    (None, None) => {}
                }
            }
            watched.settle(&self.events);
        }
        self.arrange();
    }

    fn follow_names(&mut self) {
        let wanted: HashSet<HostName> = self
            .watched
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
            let followed = WatchedName {
                address: None,
                fault: None,
                _stop: self.spawn(task),
            };
            self.names.insert(name, followed);
        }
    }

    /// Begins and ends rounds, so that those are under way that are wanted.
    fn arrange(&mut self) {
        self.listeners.clear();
        for (backend, watched) in self.watched.iter().enumerate() {
            for (check, round) in watched.rounds() {
                self.listeners
                    .entry(round)
                    .or_default()
                    .push((backend, check));
            }
        }
        self.rounds
            .retain(|round, _| self.listeners.contains_key(round));
        for (round, listeners) in &self.listeners {
            let Some(under_way) = self.rounds.get(round) else {
                let stop = self.spawn(schedule::make(round.clone(), self.sender.clone()));
                let under_way = RunningCheck {
                    last: None,
                    _stop: stop,
                };
                self.rounds.insert(round.clone(), under_way);
                continue;
            };
            // Who joins a round hears its last result at once.
            for &(backend, check) in listeners {
                if let Some(finding) = &under_way.last {
                    self.watched[backend].catch_up(check, finding, &self.events);
                }
            }
        }
    }

    fn resolved(&mut self, name: &HostName, answer: Result<Vec<IpAddr>, String>) {
        let Some(known) = self.names.get_mut(name) else {
            return;
        };
        match answer {
            Ok(addresses) => {
                let again = known.fault.take().is_some();
                let before = known.address;
                if again {
                    info!(target: LOG, %name, "name resolves again");
                    self.tell(name, |watched, _| watched.keep_address(None));
                }
                let chosen = resolver::choose(before, &addresses);
                let Some(address) = chosen.filter(|_| chosen != before) else {
                    return;
                };
                if let Some(known) = self.names.get_mut(name) {
                    known.address = Some(address);
                }
                match before {
                    Some(before) => {
                        info!(target: LOG, %name, %before, %address, "address of a name has changed");
                    }
                    None => info!(target: LOG, %name, %address, "name is resolved"),
                }
                self.tell(name, |watched, events| watched.move_to(address, events));
                self.arrange();
            }
            Err(fault) => {
                if known.fault.replace(fault.clone()).is_some() {
                    return;
                }
                match known.address {
                    Some(address) => {
                        warn!(target: LOG, %name, %address, fault, "name does not resolve any more, its last address is kept");
                        self.tell(name, |watched, _| watched.keep_address(Some(&fault)));
                    }
                    None => {
                        warn!(target: LOG, %name, fault, "name does not resolve");
                        self.tell(name, |watched, events| watched.lost(&fault, events));
                    }
                }
            }
        }
    }

    fn tell(&mut self, name: &HostName, news: impl Fn(&mut MonitoredBackend, &HealthEvents)) {
        for watched in &mut self.watched {
            if watched.name() == Some(name) {
                news(watched, &self.events);
            }
        }
    }

    /// Runs `task` until the guard is dropped or the watch ends.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> DropGuard {
        let token = self.token.child_token();
        let until = token.clone();
        self.tasks.spawn(async move {
            until.run_until_cancelled(task).await;
        });
        token.drop_guard()
    }
}

/// Completes at that moment; never, where there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment.into()).await,
        None => pending().await,
    }
}

/// Completes at the next change; never, once nobody can make one.
async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        pending::<()>().await;
    }
}
