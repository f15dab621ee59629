//! `status`: prints the current state of the balancer, once or repeatedly.
//!
//! Owns the selection of pools and backends, and the choice between full, short and per-server output.

mod checks;
mod full;
mod overview;
mod routing;
mod selection;
mod servers;

use std::io::IsTerminal as _;
use std::time::Duration;

use super::admin::{AdminArguments, block_on};
use super::failure::Failure;
use super::{OutputReader, print};
use crate::admin::client::Client;
use crate::admin::view::StatusView as View;

/// Between two refreshes with `--watch`.
const REFRESH_INTERVAL: Duration = Duration::from_secs(2);

/// With more backends than this, the default output is the overview.
const MAX_LISTED: usize = 60;

/// `lyncpin status`
#[derive(Debug, clap::Args)]
pub(super) struct Status {
    /// Show only these: a pool, a backend in all pools, or POOL/BACKEND
    #[arg(value_name = "POOL|[POOL/]BACKEND")]
    only: Vec<String>,
    /// Show every backend; without this option, a large site gets one line per pool and what is out of service
    #[arg(long, conflicts_with = "by_server")]
    all: bool,
    /// Show one line per server, over all pools that have a backend of that name
    #[arg(long)]
    by_server: bool,
    /// Refresh every two seconds until interrupted
    #[arg(long)]
    watch: bool,
    /// Print the JSON of the API, one line per refresh with --watch; overrides --by-server
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

impl Status {
    pub(super) fn run(self) -> Result<(), Failure> {
        let client = self.admin.client()?;
        block_on(async {
            let mut reader = print(&self.fetch(&client).await?)?;
            while self.watch && reader == OutputReader::Present {
                tokio::time::sleep(REFRESH_INTERVAL).await;
                // The balancer may be restarting.
                match self.fetch(&client).await {
                    Ok(text) => reader = print(&text)?,
                    Err(failure) => {
                        failure.report();
                    }
                }
            }
            Ok(())
        })
    }

    async fn fetch(&self, client: &Client) -> Result<String, Failure> {
        let whole = client.status().await?;
        let status = self.filtered(whole.clone())?;
        let json = |written: Result<String, serde_json::Error>| {
            let written = written.map_err(|error| {
                Failure::operation("cannot serialise the response").caused_by(&error)
            });
            Ok(written? + "\n")
        };
        match (self.json, self.watch) {
            (true, true) => json(serde_json::to_string(&status)),
            (true, false) => json(serde_json::to_string_pretty(&status)),
            (false, false) => Ok(self.tables(&status, &whole)),
            (false, true) if std::io::stdout().is_terminal() => {
                // Move to the top left corner and clear the screen (ECMA-48, CUP and ED).
                Ok(format!("\x1b[H\x1b[J{}", self.tables(&status, &whole)))
            }
            (false, true) => Ok(self.tables(&status, &whole) + "\n"),
        }
    }

    fn tables(&self, status: &View, whole: &View) -> String {
        let backends: usize = status.pools.iter().map(|pool| pool.backends.len()).sum();
        if self.by_server {
            servers::text(status, whole)
        } else if self.all || !self.only.is_empty() || backends <= MAX_LISTED {
            full::text(status, whole)
        } else {
            overview::text(status)
        }
    }

    /// Only the requested pools and backends.
    fn filtered(&self, mut status: View) -> Result<View, Failure> {
        for wanted in &self.only {
            if !selection::is_known(wanted, &status) {
                return Err(Failure::operation(selection::unknown_text(wanted, &status)));
            }
        }
        if self.only.is_empty() {
            return Ok(status);
        }
        for pool in &mut status.pools {
            let name = &pool.name;
            let wanted = |backend: &str| {
                self.only
                    .iter()
                    .any(|wanted| selection::matches(wanted, name, backend))
            };
            pool.backends.retain(|backend| wanted(&backend.name));
        }
        status.pools.retain(|pool| !pool.backends.is_empty());
        Ok(status)
    }
}
