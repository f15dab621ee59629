//! `reload`: another configuration in the running process.

use hyper::StatusCode;

use super::ask::{Ask, block_on};
use super::failure::Failure;
use super::{answer, warn};
use crate::admin::client::ClientError;

/// `lyncpin reload`
#[derive(Debug, clap::Args)]
pub(super) struct Reload {
    #[command(flatten)]
    ask: Ask,
}

impl Reload {
    pub(super) fn run(&self) -> Result<(), Failure> {
        // A file with errors is the balancer's to reject, so that it counts and logs what it was asked to load.
        let (client, errors) = match self.ask.client() {
            Ok(client) => (client, None),
            Err(errors) if errors.is_of_configuration() => {
                let Some(client) = self.ask.client_despite_errors() else {
                    let errors = errors.rejected();
                    return Err(errors.also("the running balancer was not asked, because the file does not say where: name its admin listener with --admin"));
                };
                (client, Some(errors))
            }
            Err(failure) => return Err(failure),
        };
        let reloaded = match (block_on(async { Ok(client.reload().await) })?, errors) {
            (Ok(reloaded), errors) => {
                if let Some(errors) = errors {
                    warn(&errors.text());
                    warn("warning: the running balancer has loaded another file than this one");
                }
                reloaded
            }
            // It has found the same.
            (Err(error @ ClientError::Refused(StatusCode::UNPROCESSABLE_ENTITY, _)), _)
            | (Err(error), None) => return Err(error.into()),
            (Err(error), Some(errors)) => {
                return Err(errors.rejected().also(Failure::from(error).text()));
            }
        };
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
