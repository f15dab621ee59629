//! The addresses of servers that a new configuration adds, resolved before it comes into force so that they can be used at
//! once.
//!
//! Owns the time limit; `health` resolves the remaining names, as at the start. Must not know how names are resolved.
//! Invariant: a name that is resolved already keeps the address of its backends.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::config::model::{Config, ServerAddress, ServerHost};
use crate::health::Resolver;
use crate::snapshot::Snapshot;
use crate::types::host_name::HostName;

/// For all queries together.
const RESOLVE_TIME: Duration = Duration::from_secs(2);

/// The addresses of names, as far as they are known.
#[derive(Debug, Default)]
pub(super) struct PrefetchedNames(HashMap<HostName, IpAddr>);

impl PrefetchedNames {
    /// Resolves the servers of `config` that are not among those of `before`.
    pub(super) async fn find(config: &Config, before: &Snapshot, resolver: &Resolver) -> Self {
        let mut known = HashMap::new();
        for backend in before.backends() {
            if let (ServerHost::Name(name), Some(address)) =
                (&backend.configured().address.host, backend.address())
            {
                known.insert(name.clone(), address.ip());
            }
        }
        let backends = config.pools.iter().flat_map(|pool| &pool.backends);
        let names = backends.filter_map(|backend| match &backend.address.host {
            ServerHost::Name(name) if !known.contains_key(name) => Some(name.clone()),
            ServerHost::Name(_) | ServerHost::Address(_) => None,
        });
        let names: std::collections::HashSet<HostName> = names.collect();
        let mut queries = JoinSet::new();
        for name in names {
            let resolver = resolver.clone();
            queries.spawn(async move {
                let found = resolver.first_address(&name).await;
                found.map(|address| (name, address))
            });
        }
        let _ = timeout(RESOLVE_TIME, async {
            while let Some(found) = queries.join_next().await {
                known.extend(found.ok().flatten());
            }
        })
        .await;
        Self(known)
    }

    /// The address of a server, if it is known.
    pub(super) fn of(&self, server: &ServerAddress) -> Option<SocketAddr> {
        let address = match &server.host {
            ServerHost::Address(address) => Some(*address),
            ServerHost::Name(name) => self.0.get(name).copied(),
        };
        address.map(|address| SocketAddr::new(address, server.port))
    }
}
