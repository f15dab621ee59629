//! The admin listeners: one for everything, and one for the probes where it is configured.
//!
//! Owns their sockets and tasks. Knows no endpoint. Invariants: they serve until the last connection of the balancer has
//! ended, so that a stop can be observed; one whose address stays configured keeps its socket and its connections.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{
    self, AccessPolicy, AdminSite, BindError, Control, EndpointSet, RequestLimits, Token,
    TokenError,
};
use crate::config::model::{self, AdminBind};
use crate::system::reserve;
use crate::types::host_name::HostName;

/// Why the admin listeners cannot be opened as configured.
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

/// Admin listeners that are bound, unless they are being served already, and are not served yet.
pub(in crate::server) struct PreparedAdminListeners {
    token: Option<Token>,
    hosts: Vec<HostName>,
    wanted: Vec<(AdminBind, EndpointSet)>,
    bound: Vec<admin::AdminListener>,
}

/// One that is served.
struct ServedListener {
    /// As configured.
    bind: AdminBind,
    terms: AccessPolicy,
    /// A second handle on the served socket: for another process, and to accept again after a pause.
    spare: admin::AdminListener,
    /// Ends accepting and every connection.
    stop: CancellationToken,
    /// Ends accepting only.
    pause: CancellationToken,
}

/// The admin listeners that are served.
pub(in crate::server) struct AdminListeners {
    control: Arc<dyn Control>,
    served: Vec<ServedListener>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl PreparedAdminListeners {
    /// Reads the token and binds what is not `served` yet. Sockets that are `inherited` are taken from there. Waits for the
    /// file system, so it must not run on the control thread.
    pub(in crate::server) fn open(
        config: &model::AdminSettings,
        served: &[AdminBind],
        inherited: &mut Vec<(AdminBind, OwnedFd)>,
    ) -> Result<Self, Vec<AdminListenerError>> {
        let mut errors = Vec::new();
        let token = config.token_file.as_deref().map(Token::read).transpose();
        let token = token.unwrap_or_else(|error| {
            errors.push(AdminListenerError::Token(error));
            None
        });
        let mut wanted = vec![(config.bind.clone(), EndpointSet::All)];
        wanted.extend(
            config
                .metrics_bind
                .clone()
                .map(|bind| (bind, EndpointSet::Probes)),
        );
        let mut known: Vec<&AdminBind> = served.iter().collect();
        let mut bound = Vec::new();
        for (bind, _) in &wanted {
            if let Some(index) = known.iter().position(|known| *known == bind) {
                known.swap_remove(index);
                continue;
            }
            let index = inherited.iter().position(|(known, _)| known == bind);
            let listener = match index.map(|index| inherited.swap_remove(index)) {
                Some((bind, socket)) => admin::AdminListener::inherit(&bind, socket),
                None => reserve::retry_with_reserve(|| admin::AdminListener::bind(bind)),
            };
            match listener {
                Ok(listener) => bound.push(listener),
                Err(error) => errors.push(AdminListenerError::Bind(error)),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
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
    /// Serves nothing yet.
    pub(in crate::server) fn new(control: Arc<dyn Control>) -> Self {
        Self {
            control,
            served: Vec::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// The configured addresses.
    pub(in crate::server) fn binds(&self) -> Vec<AdminBind> {
        self.served.iter().map(|one| one.bind.clone()).collect()
    }

    /// Every socket, with its configured address.
    pub(in crate::server) fn sockets(
        &self,
    ) -> std::io::Result<Vec<(String, admin::AdminListener)>> {
        let served = self.served.iter();
        served
            .map(|one| Ok((one.bind.to_string(), one.spare.try_clone()?)))
            .collect()
    }

    /// Stops accepting; connections stay.
    pub(in crate::server) fn pause(&self) {
        for one in &self.served {
            one.pause.cancel();
        }
    }

    /// Accepts again after [`AdminListeners::pause`].
    pub(in crate::server) fn resume(&mut self) {
        for one in std::mem::take(&mut self.served) {
            self.serve(one.spare, one.bind, one.terms);
        }
    }

    /// Leaves socket files in place at the end: another process has the sockets too.
    pub(in crate::server) fn keep_files(&self) {
        for one in &self.served {
            one.spare.disown_file();
        }
    }

    /// Serves `prepared` from now on, and nothing else; requests that are being served get their response.
    pub(in crate::server) fn replace(&mut self, prepared: PreparedAdminListeners) {
        let mut before = std::mem::take(&mut self.served);
        let mut bound = prepared.bound.into_iter();
        for (bind, served) in prepared.wanted {
            let (token, hosts) = (prepared.token.clone(), prepared.hosts.clone());
            if let Some(index) = before.iter().position(|one| one.bind == bind) {
                let one = before.swap_remove(index);
                one.terms.replace(token, served, hosts);
                self.served.push(one);
            } else if let Some(listener) = bound.next() {
                self.serve(listener, bind, AccessPolicy::new(token, served, hosts));
            }
        }
        for one in before {
            one.stop.cancel();
        }
    }

    fn serve(&mut self, listener: admin::AdminListener, bind: AdminBind, terms: AccessPolicy) {
        let (tasks, stop) = (self.tasks.clone(), self.stop.child_token());
        let pause = stop.child_token();
        let site = AdminSite {
            rendered: admin::RenderedMetrics::default(),
            control: self.control.clone(),
            access: terms.clone(),
            limits: RequestLimits::default(),
            closed: pause.clone(),
        };
        match reserve::retry_with_reserve(|| listener.try_clone()) {
            Ok(spare) => self.served.push(ServedListener {
                bind,
                terms,
                spare,
                stop: stop.clone(),
                pause,
            }),
            Err(error) => {
                tracing::error!(target: "lyncpin::admin", at = %bind, %error, "the admin listener cannot be served");
            }
        }
        self.tasks.spawn(async move {
            let at = listener.address().clone();
            if let Err(error) = admin::serve(listener, site, &tasks, stop).await {
                tracing::error!(target: "lyncpin::admin", %at, %error, "the admin listener cannot be served");
            }
        });
    }

    /// Ends every connection and task, and closes the sockets.
    pub(in crate::server) async fn stop(&mut self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.served.clear();
    }
}
