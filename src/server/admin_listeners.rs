//! The admin listeners: one for everything, and one for the probes where it is configured.
//!
//! Owns their sockets and tasks. Knows no endpoint. Invariants: they serve until the last connection of the balancer
//! has ended, so that a stop can be watched; one that stays where it is keeps its socket and its connections.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{
    self, AccessTerms, AdminSite, BindError, Control, RequestLimits, Served, Token, TokenError,
};
use crate::config::model::{self, AdminBind};
use crate::system::reserve;
use crate::types::host_name::HostName;

/// Why the admin listeners cannot be as they are configured.
#[derive(Debug)]
pub enum AdminListenerError {
    /// An address or a path.
    Bind(BindError),
    /// The token.
    Token(TokenError),
}

impl std::fmt::Display for AdminListenerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bind(error) => error.fmt(f),
            Self::Token(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for AdminListenerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind(error) => error.source(),
            Self::Token(error) => error.source(),
        }
    }
}

/// Bound, as far as it was not before, and not yet served.
pub(super) struct PreparedAdminListeners {
    token: Option<Token>,
    hosts: Vec<HostName>,
    wanted: Vec<(AdminBind, Served)>,
    bound: Vec<admin::AdminListener>,
}

/// One that is served.
struct ServedListener {
    /// As configured.
    bind: AdminBind,
    terms: AccessTerms,
    /// The same socket as the served one, for another process or another time.
    spare: admin::AdminListener,
    stop: CancellationToken,
    /// Ends the accepting alone.
    closed: CancellationToken,
}

/// Served.
pub(super) struct AdminListeners {
    doors: Vec<ServedListener>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl PreparedAdminListeners {
    /// Reads the token and binds what is not among the `served` yet, unless it is `inherited`, which is taken from there.
    /// Waits for the file system, so it is no work for the control thread.
    pub(super) fn open(
        config: &model::AdminSettings,
        served: &[AdminBind],
        inherited: &mut Vec<(AdminBind, OwnedFd)>,
    ) -> Result<Self, Vec<AdminListenerError>> {
        let mut faults = Vec::new();
        let token = config.token_file.as_deref().map(Token::read).transpose();
        let token = token.unwrap_or_else(|error| {
            faults.push(AdminListenerError::Token(error));
            None
        });
        let mut wanted = vec![(config.bind.clone(), Served::Everything)];
        wanted.extend(config.metrics_bind.clone().map(|at| (at, Served::Probes)));
        let mut known: Vec<&AdminBind> = served.iter().collect();
        let mut bound = Vec::new();
        for (at, _) in &wanted {
            if let Some(place) = known.iter().position(|known| *known == at) {
                known.swap_remove(place);
                continue;
            }
            let place = inherited.iter().position(|(known, _)| known == at);
            let listener = match place.map(|place| inherited.swap_remove(place)) {
                Some((at, socket)) => admin::AdminListener::inherit(&at, socket),
                None => reserve::retry(|| admin::AdminListener::bind(at)),
            };
            match listener {
                Ok(listener) => bound.push(listener),
                Err(error) => faults.push(AdminListenerError::Bind(error)),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self {
            token,
            hosts: config.hosts.clone(),
            wanted,
            bound,
        })
    }
}

impl AdminListeners {
    /// Nothing yet.
    pub(super) fn none() -> Self {
        Self {
            doors: Vec::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Where they are configured to be.
    pub(super) fn binds(&self) -> Vec<AdminBind> {
        self.doors.iter().map(|door| door.bind.clone()).collect()
    }

    /// Every socket, and where it is configured to be.
    pub(super) fn sockets(&self) -> std::io::Result<Vec<(String, admin::AdminListener)>> {
        let doors = self.doors.iter();
        doors
            .map(|door| Ok((door.bind.to_string(), door.spare.try_clone()?)))
            .collect()
    }

    /// Accepts nobody else; who is connected stays.
    pub(super) fn pause(&self) {
        for door in &self.doors {
            door.closed.cancel();
        }
    }

    /// Accepts again.
    pub(super) fn resume(&mut self, control: &Arc<dyn Control>) {
        for door in std::mem::take(&mut self.doors) {
            self.serve(door.spare, door.bind, door.terms, control.clone());
        }
    }

    /// Leaves the sockets to another process, which has them too.
    pub(super) fn leave(&self) {
        for door in &self.doors {
            door.spare.leave_file();
        }
    }

    /// Serves `doors` from now on, and nothing else; who is being answered gets the answer.
    pub(super) fn replace(&mut self, doors: PreparedAdminListeners, control: &Arc<dyn Control>) {
        let mut before = std::mem::take(&mut self.doors);
        let mut bound = doors.bound.into_iter();
        for (bind, served) in doors.wanted {
            let (token, hosts) = (doors.token.clone(), doors.hosts.clone());
            if let Some(place) = before.iter().position(|door| door.bind == bind) {
                let door = before.swap_remove(place);
                door.terms.change(token, served, hosts);
                self.doors.push(door);
            } else if let Some(listener) = bound.next() {
                let terms = AccessTerms::new(token, served, hosts);
                self.serve(listener, bind, terms, control.clone());
            }
        }
        for door in before {
            door.stop.cancel();
        }
    }

    fn serve(
        &mut self,
        listener: admin::AdminListener,
        bind: AdminBind,
        terms: AccessTerms,
        control: Arc<dyn Control>,
    ) {
        let (tasks, stop) = (self.tasks.clone(), self.stop.child_token());
        let closed = stop.child_token();
        let site = AdminSite {
            rendered: admin::RenderedMetrics::default(),
            control,
            terms: terms.clone(),
            bounds: RequestLimits::default(),
            closed: closed.clone(),
        };
        match reserve::retry(|| listener.try_clone()) {
            Ok(spare) => self.doors.push(ServedListener {
                bind,
                terms,
                spare,
                stop: stop.clone(),
                closed,
            }),
            Err(error) => {
                tracing::error!(target: "lyncpin::admin", at = %bind, %error, "the admin listener cannot be served");
            }
        }
        self.tasks.spawn(async move {
            let at = listener.at().clone();
            if let Err(error) = admin::serve(listener, site, &tasks, stop).await {
                tracing::error!(target: "lyncpin::admin", %at, %error, "the admin listener cannot be served");
            }
        });
    }

    /// Ends every connection and task.
    pub(super) async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
