//! `drain`, `maintain` and `ready`: change the administrative state of a backend.
//!
//! Invariant: without `--force`, the last backend in service of a pool stays in service.

use std::time::{Duration, SystemTime};

use hyper::StatusCode;

use super::admin::{AdminArguments, block_on};
use super::failure::Failure;
use super::{predecessors, print_result, table, wait};
use crate::admin::client::ClientError;
use crate::admin::view::{StateChange, StateChanged};
use crate::config;
use crate::types::backend_state::AdminState;

/// `lyncpin ready`
#[derive(Debug, clap::Args)]
pub(super) struct StateCommand {
    /// The backend: in one pool, or in every pool that has a backend of that name
    #[arg(value_name = "[POOL/]BACKEND")]
    backend: String,
    #[command(flatten)]
    admin: AdminArguments,
}

/// `lyncpin maintain`
#[derive(Debug, clap::Args)]
pub(super) struct Maintain {
    #[command(flatten)]
    change: StateCommand,
    #[command(flatten)]
    force: Force,
}

/// `lyncpin drain`
#[derive(Debug, clap::Args)]
pub(super) struct Drain {
    #[command(flatten)]
    change: StateCommand,
    /// How long pinned clients stay, such as 15m [default: timeouts.drain]
    #[arg(long, value_name = "DURATION")]
    deadline: Option<String>,
    /// Show remaining connections and pins until none are left or the deadline has passed
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    force: Force,
}

/// Whether the last backend in service of a pool may be taken out of service.
#[derive(Debug, Clone, Copy, clap::Args)]
struct Force {
    /// Take it out of service even if it is the last backend in service of a pool
    #[arg(long)]
    force: bool,
}

/// Whether a command ends with the change or waits for the drain to complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AfterChange {
    End,
    Wait,
}

impl StateCommand {
    pub(super) fn ready(self) -> Result<(), Failure> {
        let change = StateChange {
            state: AdminState::Ready,
            deadline: None,
            force: None,
        };
        self.set(&change, AfterChange::End)
    }

    fn set(self, change: &StateChange, then: AfterChange) -> Result<(), Failure> {
        let client = self.admin.client()?;
        let (pool, backend) = match self.backend.split_once('/') {
            Some((pool, backend)) => (Some(pool), backend),
            None => (None, self.backend.as_str()),
        };
        block_on(async {
            let changed = match pool {
                Some(pool) => client
                    .set_state(pool, backend, change)
                    .await
                    .map(|changed| vec![changed]),
                None => client.set_state_everywhere(backend, change).await,
            };
            let changed = changed.map_err(|error| failure(error, change))?;
            let mut reached = Ok(());
            for changed in &changed {
                print_result(&changed_text(changed))?;
                print_result(&predecessors::reached_text(&changed.predecessors))?;
                reached = reached.and(predecessors::all_reached(&changed.predecessors));
            }
            reached?;
            if then == AfterChange::End {
                return Ok(());
            }
            let pools: Vec<String> = changed.iter().map(|changed| changed.pool.clone()).collect();
            wait::wait(&client, &pools, backend).await
        })
    }
}

/// The error of a change. If the backend is the last one in service, it suggests `--force`.
fn failure(error: ClientError, change: &StateChange) -> Failure {
    let is_last = change.force == Some(false)
        && matches!(&error, ClientError::ErrorResponse(status, _) if *status == StatusCode::CONFLICT);
    let failure = Failure::from(error);
    if is_last {
        failure.with_line("nothing was changed; use --force to do it anyway")
    } else {
        failure
    }
}

impl Maintain {
    pub(super) fn run(self) -> Result<(), Failure> {
        let change = StateChange {
            state: AdminState::Maintain,
            deadline: None,
            force: Some(self.force.force),
        };
        self.change.set(&change, AfterChange::End)
    }
}

impl Drain {
    pub(super) fn run(self) -> Result<(), Failure> {
        if let Some(text) = &self.deadline {
            config::deadline(text).map_err(Failure::usage)?;
        }
        let change = StateChange {
            state: AdminState::Drain,
            deadline: self.deadline,
            force: Some(self.force.force),
        };
        let then = if self.wait {
            AfterChange::Wait
        } else {
            AfterChange::End
        };
        self.change.set(&change, then)
    }
}

fn changed_text(changed: &StateChanged) -> String {
    let state = match changed.deadline {
        Some(deadline) => {
            let left = deadline.0.duration_since(SystemTime::now());
            // To the nearest second: the response has taken some time.
            let left = left.unwrap_or_default() + Duration::from_millis(500);
            format!(
                "drain until {deadline} (for {})",
                table::short_duration(left)
            )
        }
        None => changed.state.as_str().to_owned(),
    };
    format!(
        "{}/{}: {state}, was {}, {}\n",
        table::printable(&changed.pool),
        table::printable(&changed.backend),
        changed.before.as_str(),
        table::pluralized(changed.connections, "connection")
    )
}
