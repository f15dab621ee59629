//! `status`: prints the current state of the balancer, once or repeatedly.
//!
//! Owns the selection of pools and backends, and the choice between full, short and per-server output.

mod full;
mod overview;
mod servers;

use std::io::IsTerminal as _;
use std::time::Duration;

use super::admin::{AdminArguments, block_on};
use super::failure::Failure;
use super::table::printable;
use super::{OutputReader, print};
use crate::admin::client::Client;
use crate::admin::view::StatusView as View;
use crate::config::did_you_mean;

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
            if !is_known(wanted, &status) {
                return Err(Failure::operation(unknown_text(wanted, &status)));
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
                    .any(|wanted| matches(wanted, name, backend))
            };
            pool.backends.retain(|backend| wanted(&backend.name));
        }
        status.pools.retain(|pool| !pool.backends.is_empty());
        Ok(status)
    }
}

/// Whether an argument matches any backend.
fn is_known(wanted: &str, status: &View) -> bool {
    status.pools.iter().any(|pool| {
        let mut backends = pool.backends.iter();
        backends.any(|backend| matches(wanted, &pool.name, &backend.name))
    })
}

/// The error for an unknown pool or backend, with the nearest name or the existing ones.
fn unknown_text(wanted: &str, status: &View) -> String {
    /// Limits of the names that are listed, and of those that are compared.
    const LISTED: usize = 20;
    const COMPARED: usize = 2000;
    let pools: Vec<&str> = status.pools.iter().map(|pool| &*pool.name).collect();
    let mut backends: Vec<String> = Vec::new();
    let mut both: Vec<String> = Vec::new();
    for pool in &status.pools {
        for backend in &pool.backends {
            both.push(format!("{}/{}", pool.name, backend.name));
            backends.push(backend.name.clone());
        }
    }
    backends.sort_unstable();
    backends.dedup();
    let what = format!("no pool or backend {wanted:?}");
    let typed = wanted.trim().trim_matches('/');
    if typed != wanted && is_known(typed, status) {
        return format!("{what}; did you mean `{}`?", printable(typed));
    }
    let single = pools
        .iter()
        .copied()
        .chain(backends.iter().map(String::as_str));
    let all = single.chain(both.iter().map(String::as_str));
    if let Some(near) = did_you_mean(typed, all.take(COMPARED)) {
        return format!("{what}; {}", printable(&near));
    }
    // The pool of POOL/BACKEND may be known.
    let pool = wanted.split_once('/').map(|(pool, _)| pool);
    let of_pool = status.pools.iter().find(|known| Some(&*known.name) == pool);
    if let Some(pool) = of_pool {
        let names = pool.backends.iter().map(|backend| &*backend.name);
        let names = listed(&names.collect::<Vec<_>>(), LISTED);
        return format!(
            "{what}; the backends of pool {} are {names}",
            printable(&pool.name)
        );
    }
    let (pools, backends) = (
        listed(&pools, LISTED),
        listed(
            &backends.iter().map(String::as_str).collect::<Vec<_>>(),
            LISTED,
        ),
    );
    format!("{what}; the pools are {pools}; the backends are {backends}")
}

/// The names, at most `limit` of them.
fn listed(names: &[&str], limit: usize) -> String {
    let mut text = printable(&names[..names.len().min(limit)].join(", "));
    if names.len() > limit {
        text += &format!(" and {} more", names.len() - limit);
    }
    text
}

/// Whether an argument matches this backend of this pool. Names may contain a slash, so it is not split.
fn matches(wanted: &str, pool: &str, backend: &str) -> bool {
    let of_pool = wanted
        .strip_prefix(pool)
        .and_then(|rest| rest.strip_prefix('/'));
    wanted == pool || wanted == backend || of_pool == Some(backend)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_may_name_a_pool_a_backend_or_both() {
        for wanted in ["web", "fe01", "web/fe01"] {
            assert!(matches(wanted, "web", "fe01"), "{wanted}");
        }
        for wanted in ["we", "fe0", "web/", "mail/fe01", "web/fe02", ""] {
            assert!(!matches(wanted, "web", "fe01"), "{wanted}");
        }
        assert!(matches("web/a/b", "web", "a/b"));
    }
}
