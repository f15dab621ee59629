//! The endpoints of reloads and upgrades.
//!
//! Owns nothing but the form of their responses. Must not know how they are done ([`Control`](crate::admin::Control)).
//! Invariant: the request does not say what is loaded or started.

use hyper::StatusCode;

use super::error::ApiError;
use super::request::ApiRequest;
use crate::admin::response::{ApiResponse, json};

pub(super) async fn reload(request: ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
    let reloaded = request.control().reload().await?;
    Ok(json(StatusCode::OK, &reloaded))
}

pub(super) async fn upgrade(request: ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
    let upgraded = request.control().upgrade().await?;
    Ok(json(StatusCode::OK, &upgraded))
}
