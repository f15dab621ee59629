//! `status`: the balancer as it is now, once or again and again.

use std::io::IsTerminal as _;
use std::time::Duration;

use super::ask::{Ask, block_on};
use super::failure::Failure;
use super::{Reader, print, table};
use crate::admin::client::Client;

/// Between two looks with `--watch`.
const EVERY: Duration = Duration::from_secs(2);

/// `lyncpin status`
#[derive(Debug, clap::Args)]
pub(super) struct Status {
    /// Look again every two seconds, until interrupted
    #[arg(long)]
    watch: bool,
    /// Print the JSON of the API, on one line each time with --watch
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    ask: Ask,
}

impl Status {
    pub(super) fn run(self) -> Result<(), Failure> {
        let client = self.ask.client()?;
        block_on(async {
            let mut reader = print(&self.look(&client).await?)?;
            while self.watch && reader == Reader::Present {
                tokio::time::sleep(EVERY).await;
                // A balancer that is being restarted comes back.
                match self.look(&client).await {
                    Ok(text) => reader = print(&text)?,
                    Err(failure) => {
                        failure.tell();
                    }
                }
            }
            Ok(())
        })
    }

    async fn look(&self, client: &Client) -> Result<String, Failure> {
        let status = client.status().await?;
        let json = |written: Result<String, serde_json::Error>| {
            let written = written
                .map_err(|error| Failure::answer("the answer cannot be written").because(&error));
            Ok(written? + "\n")
        };
        match (self.json, self.watch) {
            (true, true) => json(serde_json::to_string(&status)),
            (true, false) => json(serde_json::to_string_pretty(&status)),
            (false, false) => Ok(table::status(&status)),
            (false, true) if std::io::stdout().is_terminal() => {
                // Home, and clear what is below (ECMA-48, CUP and ED).
                Ok(format!("\x1b[H\x1b[J{}", table::status(&status)))
            }
            (false, true) => Ok(table::status(&status) + "\n"),
        }
    }
}
