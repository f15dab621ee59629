//! The endpoints that only read: metrics, probes, the page, status, events and explain.
//!
//! Owns their parameters. Must not know where their values come from ([`Control`](crate::admin::Control)). Invariant:
//! none of them changes anything.

use hyper::StatusCode;

use super::error::ApiError;
use super::request::{ApiRequest, address, required};
use crate::admin::page as document;
use crate::admin::response::{ApiResponse, json, text, typed};
use crate::admin::view::ExplainQuery;
use crate::telemetry::metrics::process;

/// All requests that wait for the metrics at the same time get one rendering.
pub(super) async fn metrics(request: ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
    let rendered = request.site.rendered.since(request.received, || {
        let mut series = request.control().metrics();
        process::render(&mut series);
        series
    });
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    Ok(typed(StatusCode::OK, content_type, rendered))
}

pub(super) async fn healthz(_: ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
    Ok(text("ok\n"))
}

pub(super) async fn readyz(request: ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
    let not_ready = |error: &str| Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error));
    if request.control().is_stopping() {
        not_ready("the balancer is stopping")
    } else if request.control().can_serve() {
        Ok(text("ready\n"))
    } else {
        not_ready("no listener can serve")
    }
}

pub(super) async fn page(_: ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
    Ok(document::page(StatusCode::OK))
}

pub(super) async fn status(request: ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
    Ok(json(StatusCode::OK, &request.control().status()))
}

pub(super) async fn events(request: ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
    Ok(json(StatusCode::OK, &request.control().events()))
}

pub(super) async fn explain(request: ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
    let [listener, name, source] = request.parameters(["listener", "name", "source"])?;
    let query = ExplainQuery {
        source: address("source", source)?,
        listener: required("listener", listener)?,
        name: name.filter(|name| !name.is_empty()),
    };
    let explanation = request.control().explain(&query)?;
    Ok(json(StatusCode::OK, &explanation))
}
