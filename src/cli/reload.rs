//! `reload`: another configuration in the running process.

use super::ask::{AdminArguments, block_on};
use super::failure::Failure;
use super::{answer, warn};
use crate::admin::client::ClientError;

/// `lyncpin reload`
#[derive(Debug, clap::Args)]
pub(super) struct Reload {
    #[command(flatten)]
    ask: AdminArguments,
}

impl Reload {
    pub(super) fn run(&self) -> Result<(), Failure> {
        // A file with errors is the balancer's to reject, so that it counts and logs what it was asked to load.
        let client = self.ask.client().map_err(|error| {
            let is_of_configuration = error.is_of_configuration();
            let error = error.rejected();
            if is_of_configuration {
                error.also("the running balancer was not asked")
            } else {
                error
            }
        })?;
        let reloaded = match block_on(async { Ok(client.reload().await) })? {
            Ok(reloaded) => reloaded,
            Err(error @ ClientError::Refused(..)) => return Err(error.into()),
            // It cannot say what is wrong with the file.
            Err(error) => {
                return Err(match self.ask.errors() {
                    Some(errors) => errors.rejected().also(Failure::from(error).text()),
                    None => error.into(),
                });
            }
        };
        if let Some(errors) = self.ask.errors() {
            warn(&errors.text());
            warn("warning: the running balancer has loaded another file than this one");
        }
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
