//! The HTTP API: the guard, and the dispatch of a request to its endpoint.
//!
//! Owns in which order a request is checked. Must not know where responses come from
//! ([`Control`](super::Control)). Invariant: every error is `{"error": "..."}` with the 4xx or 5xx that fits; only a
//! browser that requests the page without the token gets the page, which then asks for it.

mod affinity;
mod backend_state;
mod endpoints;
mod error;
mod lifecycle;
mod observe;
mod request;

use std::time::Instant;

use hyper::Request;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use tokio::sync::Semaphore;

use super::access::EndpointSet;
use super::caller::Caller;
use super::guard::{self, Access, Exposure, HostError};
use super::response::ApiResponse;
use super::site::AdminSite;
use super::{page, target};
use endpoints::{Pace, Route};
use error::ApiError;
use request::ApiRequest;

pub use endpoints::{ENDPOINTS, Endpoint};

/// Held while a response of a queued endpoint is made.
static QUEUE: Semaphore = Semaphore::const_new(1);

/// The response to a request that came over a connection from `peer`.
pub(super) async fn respond(
    site: &AdminSite,
    exposure: Exposure,
    peer: &str,
    request: Request<Incoming>,
) -> ApiResponse {
    let (parts, body) = request.into_parts();
    let caller = Caller::identify(&parts, peer);
    let handled = caller.scope(handle(site, exposure, &parts, body)).await;
    let mut response = match handled {
        Ok(response) => response,
        // The page holds no data, and asks for the token.
        Err(error)
            if error.status() == StatusCode::UNAUTHORIZED && page::is_requested_by(&parts) =>
        {
            let page = page::page(error.status());
            error.into_header_of(page)
        }
        Err(error) => error.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

async fn handle(
    site: &AdminSite,
    exposure: Exposure,
    parts: &Parts,
    body: Incoming,
) -> Result<ApiResponse, ApiError> {
    let received = Instant::now();
    let segments = target::segments(parts.uri.path())
        .ok_or_else(|| ApiError::bad_request("the path is not valid percent-encoding"))?;
    let route = Route::find(&segments);
    admit(site, exposure, route.access(), parts)?;
    let endpoint = route.endpoint(&parts.method)?;
    let _permit = match endpoint.pace {
        Pace::Queued | Pace::Rendered => {
            let permit = QUEUE.acquire().await.ok();
            if endpoint.pace == Pace::Queued || !site.rendered.has_begun_since(received) {
                // Other requests that have arrived are served first.
                tokio::task::yield_now().await;
            }
            permit
        }
        Pace::Immediate => None,
    };
    let request = ApiRequest {
        site,
        received,
        names: endpoint.names(&segments),
        parts,
        body,
    };
    (endpoint.handler)(request).await
}

/// Rejects a request that is not allowed. The Host is checked first: a foreign site does not learn even that a token is
/// required.
fn admit(
    site: &AdminSite,
    exposure: Exposure,
    access: Access,
    parts: &Parts,
) -> Result<(), ApiError> {
    let terms = site.access.now();
    guard::check_host(parts, exposure, access, &terms.hosts).map_err(|error| match error {
        HostError::Missing => {
            ApiError::bad_request("the request has no Host header, or more than one")
        }
        HostError::Foreign => ApiError::new(
            StatusCode::FORBIDDEN,
            "unknown host; to allow it, add it to `admin.hosts`",
        ),
    })?;
    if access == Access::Open {
        return Ok(());
    }
    if terms.served == EndpointSet::Probes {
        return Err(ApiError::no_such_path());
    }
    if guard::is_cross_site(parts) {
        let error = "changes from a page of another site are not allowed";
        return Err(ApiError::new(StatusCode::FORBIDDEN, error));
    }
    if let Some(token) = &terms.token
        && !token.is_sent_in(&parts.headers)
    {
        return Err(ApiError::unauthorized());
    }
    Ok(())
}
