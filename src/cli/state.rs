//! `drain`, `maintain` and `ready`: the administrative state of a backend.

use std::time::{Duration, SystemTime};

use super::ask::{Ask, block_on};
use super::failure::Failure;
use super::{answer, predecessors, table, wait};
use crate::admin::client::Client;
use crate::admin::view::{Changed, StateChange};
use crate::config;
use crate::state::State;

/// `lyncpin maintain` and `lyncpin ready`
#[derive(Debug, clap::Args)]
pub(super) struct Change {
    /// The backend, in one pool or in every pool that has one of that name
    #[arg(value_name = "[POOL/]BACKEND")]
    backend: String,
    #[command(flatten)]
    ask: Ask,
}

/// `lyncpin drain`
#[derive(Debug, clap::Args)]
pub(super) struct Drain {
    #[command(flatten)]
    change: Change,
    /// How long its clients are kept, such as 15m [default: timeouts.drain]
    #[arg(long, value_name = "DURATION")]
    deadline: Option<String>,
    /// Show what is left, until that is nothing or the deadline is over
    #[arg(long)]
    wait: bool,
}

/// Whether a command ends with the change or looks on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    End,
    Wait,
}

impl Change {
    pub(super) fn run(self, state: State) -> Result<(), Failure> {
        let deadline = None;
        self.set(&StateChange { state, deadline }, Then::End)
    }

    fn set(self, change: &StateChange, then: Then) -> Result<(), Failure> {
        let client = self.ask.client()?;
        let (pool, backend) = match self.backend.split_once('/') {
            Some((pool, backend)) => (Some(pool), backend),
            None => (None, self.backend.as_str()),
        };
        block_on(async {
            let pools = pools(&client, pool, backend).await?;
            let mut reached = Ok(());
            for pool in &pools {
                let changed = client.set_state(pool, backend, change).await?;
                answer(&told(&changed.done))?;
                answer(&predecessors::told(&changed.predecessors))?;
                reached = reached.and(predecessors::all_reached(&changed.predecessors));
            }
            reached?;
            match then {
                Then::End => Ok(()),
                Then::Wait => wait::wait(&client, &pools, backend).await,
            }
        })
    }
}

impl Drain {
    pub(super) fn run(self) -> Result<(), Failure> {
        if let Some(text) = &self.deadline {
            config::deadline(text).map_err(Failure::usage)?;
        }
        let (state, deadline) = (State::Drain, self.deadline);
        let then = if self.wait { Then::Wait } else { Then::End };
        self.change.set(&StateChange { state, deadline }, then)
    }
}

/// The pools that are meant; at least one.
async fn pools(client: &Client, pool: Option<&str>, backend: &str) -> Result<Vec<String>, Failure> {
    if let Some(pool) = pool {
        return Ok(vec![pool.to_owned()]);
    }
    let status = client.status().await?;
    let mut pools = status.pools;
    pools.retain(|pool| pool.backends.iter().any(|known| known.name == backend));
    if pools.is_empty() {
        return Err(Failure::answer(format!(
            "no pool has a backend {backend:?}"
        )));
    }
    Ok(pools.into_iter().map(|pool| pool.name).collect())
}

fn told(changed: &Changed) -> String {
    let state = match changed.deadline {
        Some(deadline) => {
            let left = deadline.0.duration_since(SystemTime::now());
            // To the nearest second: the way of the answer is no part of what was asked for.
            let left = left.unwrap_or_default() + Duration::from_millis(500);
            format!("drain until {deadline} (for {})", table::span(left))
        }
        None => changed.state.as_str().to_owned(),
    };
    format!(
        "{}/{}: {state}, was {}, {} connections\n",
        table::printable(&changed.pool),
        table::printable(&changed.backend),
        changed.before.as_str(),
        changed.connections
    )
}
