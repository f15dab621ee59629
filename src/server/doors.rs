//! The admin listeners: one for everything, and one for the probes where it is configured.
//!
//! Owns their sockets and tasks. Knows no endpoint. Invariant: they serve until the last connection of the balancer
//! has ended, so that a stop can be watched.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::StartError;
use crate::admin::{self, Bounds, Control, Served, Site, Token};
use crate::config::model;

/// Bound and not yet served.
pub(super) struct Doors {
    token: Option<Token>,
    bound: Vec<(admin::Listener, Served)>,
}

/// Served.
pub(super) struct Serving {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Doors {
    /// Reads the token and binds.
    pub(super) fn open(config: &model::Admin) -> Result<Self, StartError> {
        let token = config
            .token_file
            .as_deref()
            .map(Token::read)
            .transpose()
            .map_err(StartError::Token)?;
        let mut bound = vec![(
            admin::Listener::bind(&config.bind).map_err(StartError::Admin)?,
            Served::Everything,
        )];
        if let Some(at) = &config.metrics_bind {
            bound.push((
                admin::Listener::bind(at).map_err(StartError::Admin)?,
                Served::Probes,
            ));
        }
        Ok(Self { token, bound })
    }

    /// Serves `control` on the current runtime.
    pub(super) fn serve(self, control: &Arc<dyn Control>) -> Serving {
        let serving = Serving {
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        for (listener, served) in self.bound {
            let site = Site {
                control: control.clone(),
                token: self.token.clone(),
                served,
                bounds: Bounds::default(),
            };
            let (tasks, stop) = (serving.tasks.clone(), serving.stop.clone());
            serving.tasks.spawn(async move {
                let at = listener.at().clone();
                if let Err(error) = admin::serve(listener, site, &tasks, stop).await {
                    tracing::error!(target: "lyncpin::admin", %at, %error, "the admin listener cannot be served");
                }
            });
        }
        serving
    }
}

impl Serving {
    /// Ends every connection and task.
    pub(super) async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
