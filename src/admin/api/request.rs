//! A request, as a handler sees it.
//!
//! Owns how names in the path, parameters of the query and bodies are read, and the limits of a body. Must not know
//! endpoints. Invariant: what is unknown, duplicate or malformed is an error, never ignored.

use std::net::IpAddr;
use std::time::Instant;

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::ApiError;
use crate::admin::connections::{ConnectionProgress, Step};
use crate::admin::{AdminSite, Control, target};

/// The largest body of a request.
const MAX_BODY: usize = 16 << 10;

/// A request that has passed the guard.
pub(super) struct ApiRequest<'a> {
    pub(super) site: &'a AdminSite,
    /// When its head had arrived.
    pub(super) received: Instant,
    /// What the names in the endpoint's path stand for.
    pub(super) names: Vec<(&'static str, &'a str)>,
    pub(super) parts: &'a Parts,
    pub(super) body: Incoming,
}

impl<'a> ApiRequest<'a> {
    pub(super) fn control(&self) -> &'a dyn Control {
        &*self.site.control
    }

    /// What a name in the endpoint's path stands for.
    pub(super) fn name(&self, name: &str) -> Result<&'a str, ApiError> {
        let found = self.names.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let error = format!("the endpoint has no {name} in its path");
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error)
        })
    }

    /// The values of the query parameters that an endpoint knows, in the order of `known`. Each may occur once.
    pub(super) fn parameters<const COUNT: usize>(
        &self,
        known: [&str; COUNT],
    ) -> Result<[Option<String>; COUNT], ApiError> {
        let pairs = target::pairs(self.parts.uri.query().unwrap_or_default())
            .ok_or_else(|| ApiError::bad_request("the query is not valid percent-encoding"))?;
        let mut values = [const { None }; COUNT];
        for (key, value) in pairs {
            let index = known
                .iter()
                .position(|known| *known == key)
                .ok_or_else(|| ApiError::bad_request(format!("unknown parameter {key:?}")))?;
            if values[index].replace(value).is_some() {
                let error = format!("duplicate parameter {key:?}");
                return Err(ApiError::bad_request(error));
            }
        }
        Ok(values)
    }

    /// The body, from JSON.
    pub(super) async fn body<T: DeserializeOwned>(&mut self) -> Result<T, ApiError> {
        let progress = self.parts.extensions.get::<ConnectionProgress>();
        let enter = |step| {
            if let Some(progress) = progress {
                progress.enter(step);
            }
        };
        enter(Step::Receiving);
        let read = Limited::new(&mut self.body, MAX_BODY).collect();
        let read = tokio::time::timeout(self.site.limits.body_timeout, read).await;
        enter(Step::Processing);
        let body = match read {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let error = format!("the body is larger than {MAX_BODY} bytes");
                return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, error));
            }
            Ok(Err(_)) => return Err(ApiError::bad_request("the body is incomplete")),
            Err(_) => {
                let error = "the body did not arrive in time";
                return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, error));
            }
        };
        serde_json::from_slice(&body)
            .map_err(|error| ApiError::bad_request(format!("invalid body: {error}")))
    }
}

/// A parameter that an endpoint requires.
pub(super) fn required(key: &str, value: Option<String>) -> Result<String, ApiError> {
    value.ok_or_else(|| ApiError::bad_request(format!("missing parameter {key:?}")))
}

/// A parameter that has to be an address; an IPv4-mapped address is its IPv4 address.
pub(super) fn address(key: &str, value: Option<String>) -> Result<IpAddr, ApiError> {
    let value = required(key, value)?;
    let address: IpAddr = value
        .parse()
        .map_err(|_| ApiError::bad_request(format!("the {key} {value:?} is not an IP address")))?;
    Ok(address.to_canonical())
}

/// A parameter or field that may be absent but not empty: an empty value is a mistake, such as a variable of a script that
/// was never set, and not a filter that matches everything.
pub(super) fn not_empty(key: &str, value: Option<String>) -> Result<Option<String>, ApiError> {
    match value {
        Some(value) if value.is_empty() => {
            Err(ApiError::bad_request(format!("the {key} is empty")))
        }
        value => Ok(value),
    }
}
