//! `reload`: another configuration in the running process.

use super::ask::{Ask, block_on};
use super::failure::Failure;
use super::{answer, warn};

/// `lyncpin reload`
#[derive(Debug, clap::Args)]
pub(super) struct Reload {
    #[command(flatten)]
    ask: Ask,
}

impl Reload {
    pub(super) fn run(&self) -> Result<(), Failure> {
        // Where the file has faults it does not say whom to ask; whoever would be asked would say the same.
        let client = self.ask.client().map_err(Failure::rejected)?;
        let reloaded = block_on(async { Ok(client.reload().await?) })?;
        for warning in &reloaded.warnings {
            warn(&format!("warning: {warning}"));
        }
        let mut said = String::from("the configuration has been reloaded\n");
        for change in &reloaded.changes {
            said += &format!("  {change}\n");
        }
        if reloaded.changes.is_empty() {
            said += "  nothing has changed\n";
        }
        answer(&said)
    }
}
