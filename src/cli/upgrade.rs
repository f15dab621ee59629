//! `upgrade`: a new process takes over from the running one.

use super::answer;
use super::ask::{AdminArguments, block_on};
use super::failure::Failure;
use super::table;
use std::time::Duration;

/// `lyncpin upgrade`
#[derive(Debug, clap::Args)]
pub(super) struct Upgrade {
    #[command(flatten)]
    ask: AdminArguments,
}

impl Upgrade {
    pub(super) fn run(&self) -> Result<(), Failure> {
        // Where the file has faults it does not say whom to ask; the new process would say the same.
        let client = self.ask.client().map_err(Failure::rejected)?;
        let upgraded = block_on(async { Ok(client.upgrade().await?) })?;
        let drain = Duration::try_from_secs_f64(upgraded.drain_seconds).unwrap_or_default();
        answer(&format!(
            "process {} has taken over; the old one has {} and {} for them\n",
            upgraded.pid,
            table::counted(upgraded.connections, "connection"),
            table::span(drain),
        ))
    }
}
