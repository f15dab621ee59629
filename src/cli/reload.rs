//! `reload`: another configuration in the running process.

use std::time::Duration;

use hyper::StatusCode;

use super::ask::{AdminArguments, block_on};
use super::failure::Failure;
use super::{answer, warn};
use crate::admin::ReloadError;
use crate::admin::client::{Client, ClientError};
use crate::admin::view::Reloaded;

/// From an answer that an upgrade cost to the next question.
const A_MOMENT: Duration = Duration::from_secs(1);

/// `lyncpin reload`
#[derive(Debug, clap::Args)]
pub(super) struct Reload {
    #[command(flatten)]
    ask: AdminArguments,
}

impl Reload {
    pub(super) fn run(&self) -> Result<(), Failure> {
        // A file with errors is the balancer's to reject, so that it counts and logs what it was asked to load.
        let client = self.ask.client_or_without_token().map_err(|error| {
            let is_of_configuration = error.is_of_configuration();
            let error = error.rejected();
            if is_of_configuration {
                error.also("the running balancer was not asked")
            } else {
                error
            }
        })?;
        // Nor is a token that cannot be read for this command to reject: the running balancer may want none, or another.
        let (client, unread) = client;
        let reloaded = match block_on(async { Ok(reload(&client).await) })? {
            Ok(reloaded) => reloaded,
            Err(error @ ClientError::Refused(StatusCode::UNAUTHORIZED, _)) => {
                let failure = Failure::from(error);
                return Err(match unread {
                    Some(unread) => Failure::answer(unread.text())
                        .also(
                            "the running balancer was asked without a token, and has not reloaded",
                        )
                        .also(failure.text()),
                    None => failure,
                });
            }
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

/// Asks once more where an upgrade may be why there is no answer: then the new process has it.
async fn reload(client: &Client) -> Result<Reloaded, ClientError> {
    let answer = client.reload().await;
    let again = match &answer {
        Err(ClientError::Broken(..)) => true,
        Err(ClientError::Refused(status, why)) => {
            *status == StatusCode::SERVICE_UNAVAILABLE || *why == ReloadError::Upgrading.to_string()
        }
        _ => false,
    };
    if !again {
        return answer;
    }
    tokio::time::sleep(A_MOMENT).await;
    client.reload().await
}
