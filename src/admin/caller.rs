//! Who requested a change, for the log.
//!
//! Owns how the client of an admin connection is identified and named. Must not know requests. Invariant: it is for
//! information only; no access decision depends on it.

use std::fmt;

use hyper::header::{HeaderName, ORIGIN, USER_AGENT};
use hyper::http::request::Parts;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpStream, UnixStream};

/// The `User-Agent` of the commands.
pub(super) const COMMAND: &str = concat!("lyncpin/", env!("CARGO_PKG_VERSION"));

/// The program that requested a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallerKind {
    /// A command of this program.
    Command,
    /// The status page, or another page of this origin.
    Page,
    /// Anything else that speaks HTTP.
    Api,
}

impl CallerKind {
    /// The value of the log field `by`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Page => "page",
            Self::Api => "api",
        }
    }
}

/// Who requested a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The program.
    pub by: CallerKind,
    /// Its address: `192.0.2.1:50123`, or `unix:uid=1000,pid=4711`.
    pub from: String,
}

tokio::task_local! {
    static CALLER: Caller;
}

impl Caller {
    /// The caller of the request that is being handled.
    #[must_use]
    pub fn current() -> Self {
        let unknown = || Self {
            by: CallerKind::Api,
            from: "unknown".into(),
        };
        CALLER.try_with(Clone::clone).unwrap_or_else(|_| unknown())
    }

    /// The caller of a request that came over a connection from `from`.
    pub(super) fn identify(parts: &Parts, from: &str) -> Self {
        const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
        let is_command =
            |agent: &hyper::header::HeaderValue| agent.as_bytes().starts_with(b"lyncpin/");
        // Browsers send one of the two with every change (W3C Fetch Metadata, RFC 6454).
        let is_page =
            parts.headers.contains_key(SEC_FETCH_SITE) || parts.headers.contains_key(ORIGIN);
        let by = if is_page {
            CallerKind::Page
        } else if parts.headers.get(USER_AGENT).is_some_and(is_command) {
            CallerKind::Command
        } else {
            CallerKind::Api
        };
        Self {
            by,
            from: from.to_owned(),
        }
    }

    /// Runs `handler` with this caller as the current one.
    pub(super) async fn scope<T>(self, handler: impl Future<Output = T>) -> T {
        CALLER.scope(self, handler).await
    }

    /// The same for work on a blocking thread.
    pub(crate) fn scope_blocking<T>(self, work: impl FnOnce() -> T) -> T {
        CALLER.sync_scope(self, work)
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.by.as_str(), self.from)
    }
}

/// A connection whose other end has a name.
pub(super) trait PeerName {
    /// The other end, for the log.
    fn peer_name(&self) -> String;
}

impl PeerName for TcpStream {
    fn peer_name(&self) -> String {
        self.peer_addr().map_or_else(
            |_| "unknown".into(),
            |peer| std::net::SocketAddr::new(peer.ip().to_canonical(), peer.port()).to_string(),
        )
    }
}

impl PeerName for UnixStream {
    fn peer_name(&self) -> String {
        match self.peer_cred() {
            Ok(peer) => {
                let pid = peer
                    .pid()
                    .map_or(String::new(), |pid| format!(",pid={pid}"));
                format!("unix:uid={}{pid}", peer.uid())
            }
            Err(_) => "unix".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    #[track_caller]
    fn check(headers: &[(&str, &str)], by: CallerKind) {
        let mut request = Request::builder().method("POST").uri("/api/v1/reload");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        let caller = Caller::identify(&parts, "192.0.2.1:50123");
        assert_eq!((caller.by, &*caller.from), (by, "192.0.2.1:50123"));
    }

    #[test]
    fn commands_the_page_and_other_clients_are_distinguished() {
        check(&[("user-agent", COMMAND)], CallerKind::Command);
        check(&[("user-agent", "curl/8.0")], CallerKind::Api);
        check(&[], CallerKind::Api);
        check(
            &[
                ("sec-fetch-site", "same-origin"),
                ("user-agent", "Mozilla/5.0"),
            ],
            CallerKind::Page,
        );
        check(&[("origin", "http://192.0.2.1:9900")], CallerKind::Page);
    }

    #[tokio::test]
    async fn the_caller_is_current_while_its_request_is_handled() {
        let caller = Caller {
            by: CallerKind::Command,
            from: "unix:uid=0,pid=1".into(),
        };
        let seen = caller.clone().scope(async { Caller::current() }).await;
        assert_eq!(seen, caller);
        let there = caller.clone();
        let seen = tokio::task::spawn_blocking(|| there.scope_blocking(Caller::current)).await;
        assert_eq!(seen.unwrap(), caller);
        assert_eq!(Caller::current().from, "unknown");
    }
}
