//! The error of a request.
//!
//! Owns which status an error gets. Must not know requests. Invariant: the body is `{"error": "..."}`, and the status is
//! the 4xx or 5xx that fits.

use hyper::StatusCode;
use hyper::header::{self, HeaderName, HeaderValue};

use crate::admin::response::{ApiResponse, json};
use crate::admin::view::ErrorBody;
use crate::admin::{
    AffinityError, AffinityErrorKind, ExplainError, ReloadError, SetStateError, UpgradeError,
};

/// Why a request gets an error.
pub(super) struct ApiError {
    status: StatusCode,
    error: String,
    header: Option<(HeaderName, String)>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        let error = error.into();
        Self {
            status,
            error,
            header: None,
        }
    }

    pub(super) fn bad_request(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    pub(super) fn no_such_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is no such path")
    }

    pub(super) fn method_not_allowed(allow: &str) -> Self {
        let error = format!("this path accepts only {allow}");
        Self {
            header: Some((header::ALLOW, allow.to_owned())),
            ..Self::new(StatusCode::METHOD_NOT_ALLOWED, error)
        }
    }

    pub(super) fn unauthorized() -> Self {
        let error = "this path requires the token as `Authorization: Bearer`";
        Self {
            header: Some((header::WWW_AUTHENTICATE, "Bearer realm=\"lyncpin\"".into())),
            ..Self::new(StatusCode::UNAUTHORIZED, error)
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// The response in JSON.
    pub(super) fn into_response(self) -> ApiResponse {
        let mut response = json(self.status, &ErrorBody { error: self.error });
        add(self.header, &mut response);
        response
    }

    /// `response`, with the header of this error.
    pub(super) fn into_header_of(self, mut response: ApiResponse) -> ApiResponse {
        add(self.header, &mut response);
        response
    }
}

fn add(header: Option<(HeaderName, String)>, response: &mut ApiResponse) {
    // Every value above is ASCII.
    if let Some((name, value)) = header
        && let Ok(value) = HeaderValue::try_from(value)
    {
        response.headers_mut().insert(name, value);
    }
}

impl From<AffinityError> for ApiError {
    fn from(error: AffinityError) -> Self {
        let status = match error.kind() {
            AffinityErrorKind::Invalid => StatusCode::BAD_REQUEST,
            AffinityErrorKind::NotFound => StatusCode::NOT_FOUND,
            AffinityErrorKind::Conflict => StatusCode::CONFLICT,
        };
        Self::new(status, error.to_string())
    }
}

impl From<SetStateError> for ApiError {
    fn from(error: SetStateError) -> Self {
        let status = match error {
            SetStateError::UnknownPool(_) | SetStateError::UnknownBackend { .. } => {
                StatusCode::NOT_FOUND
            }
            SetStateError::LastInService(_) | SetStateError::UpgradeInProgress => {
                StatusCode::CONFLICT
            }
        };
        Self::new(status, error.to_string())
    }
}

impl From<ExplainError> for ApiError {
    fn from(error: ExplainError) -> Self {
        let status = match error {
            ExplainError::UnknownListener(_) => StatusCode::NOT_FOUND,
        };
        Self::new(status, error.to_string())
    }
}

impl From<ReloadError> for ApiError {
    fn from(error: ReloadError) -> Self {
        let status = match error {
            ReloadError::Rejected(_) => StatusCode::UNPROCESSABLE_ENTITY,
            ReloadError::NoFile | ReloadError::UpgradeInProgress => StatusCode::CONFLICT,
            ReloadError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

impl From<UpgradeError> for ApiError {
    fn from(error: UpgradeError) -> Self {
        let status = match error {
            UpgradeError::Failed(_) => StatusCode::UNPROCESSABLE_ENTITY,
            UpgradeError::InProgress
            | UpgradeError::NotUpgradable
            | UpgradeError::UnknownProgram(_) => StatusCode::CONFLICT,
            UpgradeError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}
