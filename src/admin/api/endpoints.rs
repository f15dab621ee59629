//! The table of the endpoints.
//!
//! Owns the method, the path, the access and the handler of each endpoint, one row each; `docs/api.md` is tested against
//! it. Must not know what a handler does. Invariant: a request reaches a handler only through its row.

use std::pin::Pin;

use hyper::Method;

use super::error::ApiError;
use super::request::ApiRequest;
use super::{affinity, backend_state, lifecycle, observe};
use crate::admin::guard::Access;
use crate::admin::response::ApiResponse;

/// One endpoint. An endpoint for GET serves HEAD too.
pub struct Endpoint {
    /// The method.
    pub method: &'static str,
    /// The path; a segment in braces stands for a name.
    pub path: &'static str,
    /// Who may use it.
    pub access: Access,
    /// How its responses are made.
    pub(super) pace: Pace,
    /// Makes the response.
    pub(super) handler: Handler,
}

/// How the responses of an endpoint are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// As soon as the request has arrived.
    Immediate,
    /// One at a time over all listeners, because making one takes a while. Other requests are served before each.
    Queued,
    /// Queued, but one rendering of the metrics serves all requests that arrived before it began.
    Rendered,
}

type Handler = for<'a> fn(ApiRequest<'a>) -> HandlerFuture<'a>;
type HandlerFuture<'a> = Pin<Box<dyn Future<Output = Result<ApiResponse, ApiError>> + Send + 'a>>;

macro_rules! endpoints {
    ($($method:ident $path:literal $access:ident $pace:ident => $handler:path;)+) => {
        /// All endpoints.
        pub static ENDPOINTS: &[Endpoint] = &[$(Endpoint {
            method: stringify!($method),
            path: $path,
            access: Access::$access,
            pace: Pace::$pace,
            handler: |request| Box::pin($handler(request)),
        }),+];
    };
}

endpoints! {
    GET    "/metrics"                                       Open    Rendered  => observe::metrics;
    GET    "/healthz"                                       Open    Immediate => observe::healthz;
    GET    "/readyz"                                        Open    Immediate => observe::readyz;
    GET    "/"                                              Guarded Immediate => observe::page;
    GET    "/api/v1/status"                                 Guarded Queued    => observe::status;
    GET    "/api/v1/events"                                 Guarded Queued    => observe::events;
    GET    "/api/v1/explain"                                Guarded Queued    => observe::explain;
    PUT    "/api/v1/pools/{pool}/backends/{backend}/state"  Guarded Immediate => backend_state::set_in_pool;
    PUT    "/api/v1/backends/{backend}/state"               Guarded Immediate => backend_state::set_in_all_pools;
    GET    "/api/v1/affinity"                               Guarded Queued    => affinity::list;
    GET    "/api/v1/affinity/client"                        Guarded Immediate => affinity::show;
    PUT    "/api/v1/affinity"                               Guarded Immediate => affinity::change;
    DELETE "/api/v1/affinity"                               Guarded Immediate => affinity::clear;
    POST   "/api/v1/reload"                                 Guarded Immediate => lifecycle::reload;
    POST   "/api/v1/upgrade"                                Guarded Immediate => lifecycle::upgrade;
}

/// The endpoints at one path; none where the path does not exist.
pub(super) struct Route(Vec<&'static Endpoint>);

impl Route {
    /// The endpoints at the path with these decoded segments.
    pub(super) fn find(segments: &[String]) -> Self {
        let found = ENDPOINTS.iter();
        let found = found.filter(|endpoint| endpoint.has_path(segments));
        Self(found.collect())
    }

    /// Who may use this path, with any method. A path that does not exist is guarded.
    pub(super) fn access(&self) -> Access {
        self.0.first().map_or(Access::Guarded, |first| first.access)
    }

    /// The endpoint for a method.
    ///
    /// # Errors
    ///
    /// When the path does not exist, or not with this method.
    pub(super) fn endpoint(&self, method: &Method) -> Result<&'static Endpoint, ApiError> {
        if self.0.is_empty() {
            return Err(ApiError::no_such_path());
        }
        let method = match method.as_str() {
            "HEAD" => "GET",
            other => other,
        };
        let found = self.0.iter().find(|endpoint| endpoint.method == method);
        found
            .copied()
            .ok_or_else(|| ApiError::method_not_allowed(&self.allowed()))
    }

    fn allowed(&self) -> String {
        let methods = self.0.iter().map(|endpoint| match endpoint.method {
            "GET" => "GET, HEAD",
            other => other,
        });
        methods.collect::<Vec<_>>().join(", ")
    }
}

impl Endpoint {
    fn segments(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter(|segment| !segment.is_empty())
    }

    fn has_path(&self, segments: &[String]) -> bool {
        let own: Vec<&str> = self.segments().collect();
        let fits = |(own, segment): (&&str, &String)| name_of(own).is_some() || *own == segment;
        own.len() == segments.len() && own.iter().zip(segments).all(fits)
    }

    /// What the names in the path stand for.
    pub(super) fn names<'a>(&self, segments: &'a [String]) -> Vec<(&'static str, &'a str)> {
        let pairs = self.segments().zip(segments);
        let named = pairs.filter_map(|(own, segment)| Some((name_of(own)?, segment.as_str())));
        named.collect()
    }
}

/// The name that a segment of a row stands for; `None` for a segment that stands for itself.
fn name_of(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn route(path: &[&str]) -> Route {
        let segments: Vec<String> = path.iter().map(ToString::to_string).collect();
        Route::find(&segments)
    }

    #[test]
    fn every_row_is_reached_by_its_own_path_and_method() {
        let rows: BTreeSet<_> = ENDPOINTS.iter().map(|row| (row.path, row.method)).collect();
        assert_eq!(rows.len(), ENDPOINTS.len());
        for row in ENDPOINTS {
            let path: Vec<&str> = row.segments().collect();
            let method = row.method.parse().unwrap();
            let found = route(&path).endpoint(&method).ok().unwrap();
            assert_eq!((found.path, found.method), (row.path, row.method));
        }
    }

    #[test]
    fn a_name_is_any_one_segment() {
        let path = ["api", "v1", "pools", "a/b", "backends", "", "state"];
        let segments = path.map(ToOwned::to_owned);
        let found = Route::find(&segments).endpoint(&Method::PUT).ok().unwrap();
        assert_eq!(found.names(&segments), [("pool", "a/b"), ("backend", "")]);
        assert!(
            route(&["api", "v1", "pools", "a", "backends", "state"])
                .0
                .is_empty()
        );
    }

    #[test]
    fn only_open_paths_are_open_whatever_the_method_is() {
        assert_eq!(route(&["metrics"]).access(), Access::Open);
        for guarded in [
            &["api", "v1", "status"][..],
            &[],
            &["nothing"],
            &["metrics", ""],
        ] {
            assert_eq!(route(guarded).access(), Access::Guarded, "{guarded:?}");
        }
        for row in ENDPOINTS {
            let path: Vec<&str> = row.segments().collect();
            assert_eq!(route(&path).access(), row.access, "{}", row.path);
        }
    }
}
