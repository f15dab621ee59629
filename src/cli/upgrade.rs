//! `upgrade`: replaces the running process with a new one.

use super::admin::{AdminArguments, block_on};
use super::failure::Failure;
use super::print_result;
use super::table;
use std::time::Duration;

/// `lyncpin upgrade`
#[derive(Debug, clap::Args)]
pub(super) struct Upgrade {
    #[command(flatten)]
    admin: AdminArguments,
}

impl Upgrade {
    pub(super) fn run(&self) -> Result<(), Failure> {
        // If the errors of the file hide the address, the upgrade would fail with the same errors.
        let client = self.admin.client().map_err(Failure::rejected)?;
        let upgraded = block_on(async { Ok(client.upgrade().await?) })?;
        let drain = Duration::try_from_secs_f64(upgraded.drain_seconds).unwrap_or_default();
        print_result(&format!(
            "process {} has taken over; the old one has {}, for at most {}\n",
            upgraded.pid,
            table::pluralized(upgraded.connections, "connection"),
            table::short_duration(drain),
        ))
    }
}
