//! The admin listeners: one for everything, and one for the probes where it is configured.
//!
//! Owns their sockets and tasks. Knows no endpoint. Invariants: they serve until the last connection of the balancer
//! has ended, so that a stop can be watched; one that stays where it is keeps its socket and its connections.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{self, BindError, Bounds, Control, Served, Site, Terms, Token, TokenError};
use crate::config::model::{self, AdminBind};

/// Why the admin listeners cannot be as they are configured.
#[derive(Debug)]
pub enum DoorFault {
    /// An address or a path.
    Bind(BindError),
    /// The token.
    Token(TokenError),
}

impl std::fmt::Display for DoorFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bind(error) => error.fmt(f),
            Self::Token(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DoorFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind(error) => error.source(),
            Self::Token(error) => error.source(),
        }
    }
}

/// Bound, as far as it was not before, and not yet served.
pub(super) struct Doors {
    token: Option<Token>,
    wanted: Vec<(AdminBind, Served)>,
    bound: Vec<admin::Listener>,
}

/// One that is served.
struct Door {
    /// As configured.
    bind: AdminBind,
    terms: Terms,
    stop: CancellationToken,
}

/// Served.
pub(super) struct Serving {
    doors: Vec<Door>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Doors {
    /// Reads the token and binds what is not `serving` yet.
    pub(super) fn open(
        config: &model::Admin,
        serving: Option<&Serving>,
    ) -> Result<Self, Vec<DoorFault>> {
        let mut faults = Vec::new();
        let token = config.token_file.as_deref().map(Token::read).transpose();
        let token = token.unwrap_or_else(|error| {
            faults.push(DoorFault::Token(error));
            None
        });
        let mut wanted = vec![(config.bind.clone(), Served::Everything)];
        wanted.extend(config.metrics_bind.clone().map(|at| (at, Served::Probes)));
        let mut known: Vec<&AdminBind> = serving
            .iter()
            .flat_map(|serving| &serving.doors)
            .map(|door| &door.bind)
            .collect();
        let mut bound = Vec::new();
        for (at, _) in &wanted {
            if let Some(place) = known.iter().position(|known| *known == at) {
                known.swap_remove(place);
                continue;
            }
            match admin::Listener::bind(at) {
                Ok(listener) => bound.push(listener),
                Err(error) => faults.push(DoorFault::Bind(error)),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self {
            token,
            wanted,
            bound,
        })
    }

    /// Serves `control` on the current runtime.
    pub(super) fn serve(self, control: &Arc<dyn Control>) -> Serving {
        let mut serving = Serving {
            doors: Vec::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        serving.replace(self, control);
        serving
    }
}

impl Serving {
    /// Serves `doors` from now on, and nothing else; who is being answered gets the answer.
    pub(super) fn replace(&mut self, doors: Doors, control: &Arc<dyn Control>) {
        let mut before = std::mem::take(&mut self.doors);
        let mut bound = doors.bound.into_iter();
        for (bind, served) in doors.wanted {
            let token = doors.token.clone();
            if let Some(place) = before.iter().position(|door| door.bind == bind) {
                let door = before.swap_remove(place);
                door.terms.change(token, served);
                self.doors.push(door);
            } else if let Some(listener) = bound.next() {
                let terms = Terms::new(token, served);
                self.serve(listener, bind, terms, control.clone());
            }
        }
        for door in before {
            door.stop.cancel();
        }
    }

    fn serve(
        &mut self,
        listener: admin::Listener,
        bind: AdminBind,
        terms: Terms,
        control: Arc<dyn Control>,
    ) {
        let site = Site {
            control,
            terms: terms.clone(),
            bounds: Bounds::default(),
        };
        let (tasks, stop) = (self.tasks.clone(), self.stop.child_token());
        self.doors.push(Door {
            bind,
            terms,
            stop: stop.clone(),
        });
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
