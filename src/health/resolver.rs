//! Owns how a backend's name becomes an address, and stays current.
//!
//! Must not know backends or checks. Invariant: while the address in use is among the answers it stays in use, so that a
//! name server that rotates its answers moves nobody.

use std::io;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::schedule::CheckEvent;
use super::schedule::about;
use crate::types::host_name::HostName;

/// From one answer to the next question.
const REFRESH: Duration = Duration::from_secs(30);
/// The first pause while a name has never been resolved; it doubles.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Bound of one question. The system's resolver gives up by itself well before (resolv.conf(5): 5 s for each of at most
/// three servers, twice).
const PATIENCE: Duration = Duration::from_secs(40);

/// Questions at once. With a name server that is dead each of them holds a thread for long, and the pool (of 512) has other
/// work, too.
static LOOKUPS: Semaphore = Semaphore::const_new(256);

/// Answers for tests and tools, in the place of the system's.
pub type TestResolver = dyn Fn(&HostName) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// Who is asked for the address of a name, and how often.
#[derive(Clone)]
pub struct Resolver {
    source: ResolverSource,
    refresh: Duration,
}

#[derive(Clone)]
enum ResolverSource {
    System,
    Told(Arc<TestResolver>),
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

    /// `answer` in its place, every `refresh`.
    pub fn told(
        refresh: Duration,
        answer: impl Fn(&HostName) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            source: ResolverSource::Told(Arc::new(answer)),
            refresh,
        }
    }

    /// An address of `name`, if it has one.
    pub async fn first(&self, name: &HostName) -> Option<IpAddr> {
        choose(None, &self.ask(name).await.ok()?)
    }

    /// The addresses of `name`, at least one, or why there is none.
    async fn ask(&self, name: &HostName) -> Result<Vec<IpAddr>, String> {
        let answer = match &self.source {
            ResolverSource::Told(answer) => answer(name),
            ResolverSource::System => lookup(name).await,
        };
        match answer {
            Ok(addresses) if addresses.is_empty() => Err("it has no address".to_owned()),
            Ok(addresses) => Ok(addresses),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Takes a thread of tokio's pool for as long as the resolver takes, whether or not anybody waits for it still.
async fn lookup(name: &HostName) -> io::Result<Vec<IpAddr>> {
    let permit = LOOKUPS.acquire().await.map_err(io::Error::other)?;
    let name = name.as_str().to_owned();
    let asking = spawn_blocking(move || {
        let found = (name, 0).to_socket_addrs();
        drop(permit);
        found
    });
    let found = timeout(PATIENCE, asking)
        .await
        .map_err(|_| io::ErrorKind::TimedOut)?
        .map_err(io::Error::other)??;
    Ok(found.map(|address| address.ip().to_canonical()).collect())
}

/// Asks for `name` for ever, and passes every answer on.
pub(super) async fn follow(name: HostName, resolver: Resolver, news: mpsc::Sender<CheckEvent>) {
    let mut pauses = first_pauses(resolver.refresh);
    let mut resolved = false;
    loop {
        let answer = resolver.ask(&name).await;
        resolved |= answer.is_ok();
        let name = name.clone();
        if news
            .send(CheckEvent::Resolved { name, answer })
            .await
            .is_err()
        {
            return;
        }
        let pause = if resolved { None } else { pauses.next() };
        sleep(about(pause.unwrap_or(resolver.refresh))).await;
    }
}

/// The pauses while a name has never been resolved, up to the usual one: what starts with the machine may be ahead of
/// its name server.
fn first_pauses(refresh: Duration) -> impl Iterator<Item = Duration> {
    std::iter::successors(Some(FIRST_RETRY), |pause| pause.checked_mul(2))
        .take_while(move |pause| *pause < refresh)
}

/// Which of the answers to use.
pub(super) fn choose(current: Option<IpAddr>, answers: &[IpAddr]) -> Option<IpAddr> {
    current
        .filter(|current| answers.contains(current))
        .or_else(|| answers.first().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn address_in_use_stays_while_it_is_among_the_answers() {
        assert_eq!(choose(None, &[ip(1), ip(2)]), Some(ip(1)));
        assert_eq!(choose(Some(ip(2)), &[ip(1), ip(2)]), Some(ip(2)));
        assert_eq!(choose(Some(ip(3)), &[ip(1), ip(2)]), Some(ip(1)));
        assert_eq!(choose(Some(ip(3)), &[]), None);
    }

    #[test]
    fn unresolved_name_is_asked_again_at_growing_pauses() {
        let pauses = |refresh| -> Vec<u64> {
            first_pauses(Duration::from_secs(refresh))
                .map(|pause| pause.as_secs())
                .collect()
        };
        assert_eq!(pauses(30), [1, 2, 4, 8, 16]);
        assert_eq!(pauses(1), [0; 0]);
    }
}
