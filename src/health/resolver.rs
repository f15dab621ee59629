//! Owns how a backend's name is resolved and kept current.
//!
//! Must not know backends or checks. Invariant: the address in use stays in use while it is among the results, so that a name
//! server that rotates its records moves no backend.

use std::io;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::schedule::{CheckEvent, jittered};
use crate::types::host_name::HostName;

/// Time between two lookups.
const REFRESH: Duration = Duration::from_secs(30);
/// The first pause while a name has never been resolved; it doubles each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Time limit of one lookup. The system resolver gives up well before that (resolv.conf(5): 5 s for each of at most three
/// servers, twice).
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(40);

/// Concurrent lookups. With a dead name server each of them blocks a thread for long, and the pool of 512 threads has other
/// work too.
static LOOKUPS: Semaphore = Semaphore::const_new(256);

/// Replaces the system resolver in tests and tools.
pub type LookupFn = dyn Fn(&HostName) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// Resolves names, and how often.
#[derive(Clone)]
pub struct Resolver {
    source: ResolverSource,
    refresh: Duration,
}

#[derive(Clone)]
enum ResolverSource {
    System,
    Custom(Arc<LookupFn>),
}

impl Resolver {
    /// The system's resolver (`/etc/hosts`, DNS), every 30 seconds.
    #[must_use]
    pub fn system() -> Self {
        Self {
            source: ResolverSource::System,
            refresh: REFRESH,
        }
    }

    /// `resolve` instead, every `refresh`.
    pub fn custom(
        refresh: Duration,
        resolve: impl Fn(&HostName) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            source: ResolverSource::Custom(Arc::new(resolve)),
            refresh,
        }
    }

    /// The address of `name` to use first, if it has one.
    pub async fn first_address(&self, name: &HostName) -> Option<IpAddr> {
        choose(None, &self.lookup(name).await.ok()?)
    }

    /// The addresses of `name`, at least one, or why there is none.
    async fn lookup(&self, name: &HostName) -> Result<Vec<IpAddr>, String> {
        let result = match &self.source {
            ResolverSource::Custom(resolve) => resolve(name),
            ResolverSource::System => system_lookup(name).await,
        };
        match result {
            Ok(addresses) if addresses.is_empty() => Err("it has no address".to_owned()),
            Ok(addresses) => Ok(addresses),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Blocks a thread of tokio's pool for as long as the resolver takes, even after the time limit.
async fn system_lookup(name: &HostName) -> io::Result<Vec<IpAddr>> {
    let permit = LOOKUPS.acquire().await.map_err(io::Error::other)?;
    let name = name.as_str().to_owned();
    let lookup = spawn_blocking(move || {
        let found = (name, 0).to_socket_addrs();
        drop(permit);
        found
    });
    let found = timeout(LOOKUP_TIMEOUT, lookup)
        .await
        .map_err(|_| io::ErrorKind::TimedOut)?
        .map_err(io::Error::other)??;
    Ok(found.map(|address| address.ip().to_canonical()).collect())
}

/// Resolves `name` periodically, and sends every result.
pub(super) async fn follow(name: HostName, resolver: Resolver, events: mpsc::Sender<CheckEvent>) {
    let mut pauses = first_pauses(resolver.refresh);
    let mut resolved = false;
    loop {
        let result = resolver.lookup(&name).await;
        resolved |= result.is_ok();
        let name = name.clone();
        if events
            .send(CheckEvent::Resolved { name, result })
            .await
            .is_err()
        {
            return;
        }
        let pause = if resolved { None } else { pauses.next() };
        sleep(jittered(pause.unwrap_or(resolver.refresh))).await;
    }
}

/// The pauses while a name has never been resolved, up to `refresh`: at boot the process may start before the name server is
/// available.
fn first_pauses(refresh: Duration) -> impl Iterator<Item = Duration> {
    std::iter::successors(Some(FIRST_RETRY), |pause| pause.checked_mul(2))
        .take_while(move |pause| *pause < refresh)
}

/// Which of the addresses to use.
pub(super) fn choose(current: Option<IpAddr>, addresses: &[IpAddr]) -> Option<IpAddr> {
    current
        .filter(|current| addresses.contains(current))
        .or_else(|| addresses.first().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn the_address_in_use_stays_while_it_is_among_the_results() {
        assert_eq!(choose(None, &[ip(1), ip(2)]), Some(ip(1)));
        assert_eq!(choose(Some(ip(2)), &[ip(1), ip(2)]), Some(ip(2)));
        assert_eq!(choose(Some(ip(3)), &[ip(1), ip(2)]), Some(ip(1)));
        assert_eq!(choose(Some(ip(3)), &[]), None);
    }

    #[test]
    fn an_unresolved_name_is_retried_at_growing_intervals() {
        let pauses = |refresh| -> Vec<u64> {
            first_pauses(Duration::from_secs(refresh))
                .map(|pause| pause.as_secs())
                .collect()
        };
        assert_eq!(pauses(30), [1, 2, 4, 8, 16]);
        assert_eq!(pauses(1), [0; 0]);
    }
}
