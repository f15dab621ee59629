//! The pools and backends named on the command line.
//!
//! Pure: matches names against the status. Invariant: an unknown name is an error that suggests known ones.

use crate::admin::view::StatusView;
use crate::cli::table::printable;
use crate::config::did_you_mean;

/// Maximum number of names in an error.
const LISTED: usize = 20;
/// Maximum number of names that a misspelt one is compared with.
const COMPARED: usize = 2000;

/// The names of a site.
struct Names<'a> {
    pools: Vec<&'a str>,
    /// Each once, sorted.
    backends: Vec<String>,
    /// `POOL/BACKEND`
    qualified: Vec<String>,
}

impl<'a> Names<'a> {
    fn of(status: &'a StatusView) -> Self {
        let mut names = Self {
            pools: status.pools.iter().map(|pool| &*pool.name).collect(),
            backends: Vec::new(),
            qualified: Vec::new(),
        };
        for pool in &status.pools {
            for backend in &pool.backends {
                names
                    .qualified
                    .push(format!("{}/{}", pool.name, backend.name));
                names.backends.push(backend.name.clone());
            }
        }
        names.backends.sort_unstable();
        names.backends.dedup();
        names
    }
}

/// Whether an argument matches any backend.
pub(super) fn is_known(wanted: &str, status: &StatusView) -> bool {
    status.pools.iter().any(|pool| {
        let mut backends = pool.backends.iter();
        backends.any(|backend| matches(wanted, &pool.name, &backend.name))
    })
}

/// Whether an argument matches this backend of this pool. Names may contain a slash, so it is not split.
pub(super) fn matches(wanted: &str, pool: &str, backend: &str) -> bool {
    let of_pool = wanted
        .strip_prefix(pool)
        .and_then(|rest| rest.strip_prefix('/'));
    wanted == pool || wanted == backend || of_pool == Some(backend)
}

/// The error for an unknown pool or backend, with the nearest name or the existing ones.
pub(super) fn unknown_text(wanted: &str, status: &StatusView) -> String {
    let Names {
        pools,
        backends,
        qualified,
    } = Names::of(status);
    let what = format!("no pool or backend {wanted:?}");
    let typed = wanted.trim().trim_matches('/');
    if typed != wanted && is_known(typed, status) {
        return format!("{what}; did you mean `{}`?", printable(typed));
    }
    let single = pools
        .iter()
        .copied()
        .chain(backends.iter().map(String::as_str));
    let all = single.chain(qualified.iter().map(String::as_str));
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
