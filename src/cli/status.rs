//! `status`: the balancer as it is now, once or again and again.

mod full;
mod overview;
mod servers;

use std::io::IsTerminal as _;
use std::time::Duration;

use super::ask::{AdminArguments, block_on};
use super::failure::Failure;
use super::table::printable;
use super::{OutputReader, print};
use crate::admin::client::Client;
use crate::admin::view::StatusView as View;
use crate::config::did_you_mean;

/// Between two looks with `--watch`.
const EVERY: Duration = Duration::from_secs(2);

/// Backends that are shown one by one unless something else is asked for.
const FEW: usize = 60;

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
    ask: AdminArguments,
}

impl Status {
    pub(super) fn run(self) -> Result<(), Failure> {
        let client = self.ask.client()?;
        block_on(async {
            let mut reader = print(&self.look(&client).await?)?;
            while self.watch && reader == OutputReader::Present {
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
        let whole = client.status().await?;
        let status = self.filtered(whole.clone())?;
        let json = |written: Result<String, serde_json::Error>| {
            let written = written
                .map_err(|error| Failure::answer("the answer cannot be written").because(&error));
            Ok(written? + "\n")
        };
        match (self.json, self.watch) {
            (true, true) => json(serde_json::to_string(&status)),
            (true, false) => json(serde_json::to_string_pretty(&status)),
            (false, false) => Ok(self.tables(&status, &whole)),
            (false, true) if std::io::stdout().is_terminal() => {
                // Home, and clear what is below (ECMA-48, CUP and ED).
                Ok(format!("\x1b[H\x1b[J{}", self.tables(&status, &whole)))
            }
            (false, true) => Ok(self.tables(&status, &whole) + "\n"),
        }
    }

    fn tables(&self, status: &View, whole: &View) -> String {
        let backends: usize = status.pools.iter().map(|pool| pool.backends.len()).sum();
        if self.by_server {
            servers::text(status, whole)
        } else if self.all || !self.only.is_empty() || backends <= FEW {
            full::text(status, whole)
        } else {
            overview::text(status)
        }
    }

    /// With the pools and backends alone that are asked for.
    fn filtered(&self, mut status: View) -> Result<View, Failure> {
        for wanted in &self.only {
            if !is_known(wanted, &status) {
                return Err(Failure::answer(unknown(wanted, &status)));
            }
        }
        if self.only.is_empty() {
            return Ok(status);
        }
        for pool in &mut status.pools {
            let name = &pool.name;
            let wanted = |backend: &str| self.only.iter().any(|wanted| is(wanted, name, backend));
            pool.backends.retain(|backend| wanted(&backend.name));
        }
        status.pools.retain(|pool| !pool.backends.is_empty());
        Ok(status)
    }
}

/// Whether what was typed means a backend.
fn is_known(wanted: &str, status: &View) -> bool {
    status.pools.iter().any(|pool| {
        let mut backends = pool.backends.iter();
        backends.any(|backend| is(wanted, &pool.name, &backend.name))
    })
}

/// What is said of a pool or backend that is not there: the nearest one, or those that are.
fn unknown(wanted: &str, status: &View) -> String {
    /// So many names are listed, and so many compared.
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
    // One half of POOL/BACKEND may be right.
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

/// The names, the first of them where there are many.
fn listed(names: &[&str], most: usize) -> String {
    let mut text = printable(&names[..names.len().min(most)].join(", "));
    if names.len() > most {
        text += &format!(" and {} more", names.len() - most);
    }
    text
}

/// Whether what was typed means this backend of this pool. Names may hold a slash, so that nothing is cut.
fn is(wanted: &str, pool: &str, backend: &str) -> bool {
    let of_pool = wanted
        .strip_prefix(pool)
        .and_then(|rest| rest.strip_prefix('/'));
    wanted == pool || wanted == backend || of_pool == Some(backend)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_a_backend_or_both_can_be_named() {
        for wanted in ["web", "fe01", "web/fe01"] {
            assert!(is(wanted, "web", "fe01"), "{wanted}");
        }
        for wanted in ["we", "fe0", "web/", "mail/fe01", "web/fe02", ""] {
            assert!(!is(wanted, "web", "fe01"), "{wanted}");
        }
        assert!(is("web/a/b", "web", "a/b"));
    }
}
