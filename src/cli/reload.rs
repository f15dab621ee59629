//! `reload`: reloads the configuration of the running balancer.
//!
//! Invariant: the balancer decides whether a file is valid, so that it counts and logs a rejected reload.

use std::time::Duration;

use hyper::StatusCode;

use super::admin::{AdminArguments, block_on};
use super::failure::Failure;
use super::{print_result, warn};
use crate::admin::ReloadError;
use crate::admin::client::{Client, ClientError};
use crate::admin::view::Reloaded;

/// Before a retry, if an upgrade may have lost the response.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// `lyncpin reload`
#[derive(Debug, clap::Args)]
pub(super) struct Reload {
    #[command(flatten)]
    admin: AdminArguments,
}

impl Reload {
    pub(super) fn run(&self) -> Result<(), Failure> {
        // An unreadable token is not an error yet: the running balancer may require none, or another one.
        let (client, unreadable) = self
            .admin
            .client_or_without_token()
            .map_err(not_contacted)?;
        let reloaded = block_on(async { Ok(reload(&client).await) })?;
        let reloaded = reloaded.map_err(|error| self.failure(error, unreadable))?;
        if let Some(errors) = self.admin.errors() {
            warn(&errors.text());
            warn("warning: the running balancer has loaded a different file");
        }
        for warning in &reloaded.warnings {
            warn(&format!("warning: {warning}"));
        }
        let mut text = String::from("the configuration has been reloaded\n");
        for change in &reloaded.changes {
            text += &format!("  {change}\n");
        }
        if reloaded.changes.is_empty() {
            text += "  no changes\n";
        }
        print_result(&text)
    }
    /// The error of a rejected or failed reload. `unreadable` is why the request had no token.
    fn failure(&self, error: ClientError, unreadable: Option<Failure>) -> Failure {
        match (error, unreadable) {
            (error @ ClientError::ErrorResponse(StatusCode::UNAUTHORIZED, _), Some(unreadable)) => {
                Failure::operation(unreadable.text())
                    .with_line(
                        "the running balancer was contacted without a token and has not reloaded",
                    )
                    .with_line(Failure::from(error).text())
            }
            (error @ ClientError::ErrorResponse(..), _) => error.into(),
            // The balancer cannot report what is wrong with the file.
            (error, _) => match self.admin.errors() {
                Some(errors) => errors.rejected().with_line(Failure::from(error).text()),
                None => error.into(),
            },
        }
    }
}

/// The error of a configuration that hides the address of the balancer.
fn not_contacted(error: Failure) -> Failure {
    let is_of_configuration = error.is_of_configuration();
    let error = error.rejected();
    if is_of_configuration {
        error.with_line("the running balancer was not contacted")
    } else {
        error
    }
}

/// Retries once if an upgrade may be the reason for the failure: then the new process responds.
async fn reload(client: &Client) -> Result<Reloaded, ClientError> {
    let reply = client.reload().await;
    let is_upgrade = match &reply {
        Err(ClientError::Broken(..)) => true,
        Err(ClientError::ErrorResponse(status, why)) => {
            *status == StatusCode::SERVICE_UNAVAILABLE
                || *why == ReloadError::UpgradeInProgress.to_string()
        }
        _ => false,
    };
    if !is_upgrade {
        return reply;
    }
    tokio::time::sleep(RETRY_DELAY).await;
    client.reload().await
}
