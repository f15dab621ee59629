//! The endpoints: one match on method and path.
//!
//! Owns what is asked for and how answers and errors look. Must not know where answers come from ([`Control`]).
//! Invariant: every answer that is an error is `{"error": "..."}`, with the fitting 4xx or 5xx; only a browser that
//! asks for the page without the token gets a page that asks for it.

mod affinity;
mod state;

use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::caller::Caller;
use super::connections::{ConnectionProgress, Step};
use super::guard::{self, Access, Exposure, HostFault};
use super::response::{ApiResponse, typed};
use super::view::{ErrorBody, ExplainQuery, StateChange};
use super::{AdminSite, Control, ReloadError, Served, UpgradeError, page, target};
use crate::telemetry::metrics::process;

/// One thing that can be asked. HEAD goes wherever GET does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// The method.
    pub method: &'static str,
    /// The path, with names in braces for what varies.
    pub path: &'static str,
    /// Who may ask.
    pub access: Access,
    /// Whether it does anything yet; one that does not answers 501 and says so.
    pub built: bool,
}

const fn endpoint(method: &'static str, path: &'static str, access: Access) -> Endpoint {
    let built = true;
    Endpoint {
        method,
        path,
        access,
        built,
    }
}

/// All of them; `docs/api.md` lists them.
pub const ENDPOINTS: &[Endpoint] = &[
    endpoint("GET", "/metrics", Access::Open),
    endpoint("GET", "/healthz", Access::Open),
    endpoint("GET", "/readyz", Access::Open),
    endpoint("GET", "/", Access::Guarded),
    endpoint("GET", "/api/v1/status", Access::Guarded),
    endpoint("GET", "/api/v1/events", Access::Guarded),
    endpoint("GET", "/api/v1/explain", Access::Guarded),
    endpoint(
        "PUT",
        "/api/v1/pools/{pool}/backends/{backend}/state",
        Access::Guarded,
    ),
    endpoint("PUT", "/api/v1/backends/{backend}/state", Access::Guarded),
    endpoint("GET", "/api/v1/affinity", Access::Guarded),
    endpoint("GET", "/api/v1/affinity/client", Access::Guarded),
    endpoint("PUT", "/api/v1/affinity", Access::Guarded),
    endpoint("DELETE", "/api/v1/affinity", Access::Guarded),
    endpoint("POST", "/api/v1/reload", Access::Guarded),
    endpoint("POST", "/api/v1/upgrade", Access::Guarded),
];

/// The largest body of a request.
const MAX_BODY: usize = 16 << 10;

/// Why a request gets an error.
struct ApiError {
    status: StatusCode,
    error: String,
    header: Option<(HeaderName, &'static str)>,
}

impl ApiError {
    fn new(status: StatusCode, error: impl Into<String>) -> Self {
        let error = error.into();
        Self {
            status,
            error,
            header: None,
        }
    }

    fn wrong(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    fn not_allowed(allow: &'static str) -> Self {
        let error = format!("this path takes {allow} alone");
        Self {
            header: Some((header::ALLOW, allow)),
            ..Self::new(StatusCode::METHOD_NOT_ALLOWED, error)
        }
    }
}

pub(super) async fn answer(
    site: &AdminSite,
    reach: Exposure,
    from: &str,
    request: Request<Incoming>,
) -> ApiResponse {
    let (parts, body) = request.into_parts();
    let caller = Caller::of(&parts, from);
    let mut answer = match caller.scope(respond(site, reach, &parts, body)).await {
        Ok(answer) => answer,
        Err(refusal) => {
            // Whoever looks at the page without the token gets what asks for it, and holds nothing else.
            let mut answer =
                if refusal.status == StatusCode::UNAUTHORIZED && page::is_wanted(&parts) {
                    page::page(refusal.status)
                } else {
                    let error = refusal.error;
                    json(refusal.status, &ErrorBody { error })
                };
            if let Some((name, value)) = refusal.header {
                answer
                    .headers_mut()
                    .insert(name, HeaderValue::from_static(value));
            }
            answer
        }
    };
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    answer
}

async fn respond(
    site: &AdminSite,
    reach: Exposure,
    parts: &Parts,
    body: Incoming,
) -> Result<ApiResponse, ApiError> {
    let segments = target::segments(parts.uri.path())
        .ok_or_else(|| ApiError::new(StatusCode::BAD_REQUEST, "the path does not decode"))?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let access = match segments.as_slice() {
        ["metrics" | "healthz" | "readyz"] => Access::Open,
        _ => Access::Guarded,
    };
    admit(site, reach, access, parts)?;
    let control = &*site.control;
    let get = matches!(parts.method, Method::GET | Method::HEAD);
    let asked = Instant::now();
    let _turn = match segments.as_slice() {
        ["metrics"] if get => {
            let turn = TURN.acquire().await.ok();
            // One rendering answers all who waited for it.
            if let Some(series) = site.rendered.known_since(asked) {
                return Ok(metrics(series));
            }
            tokio::task::yield_now().await;
            turn
        }
        ["api", "v1", "status" | "events" | "explain" | "affinity"] if get => turn().await,
        _ => None,
    };
    match (&parts.method, segments.as_slice()) {
        (_, ["metrics"]) if get => Ok(metrics(site.rendered.since(asked, || {
            let mut series = control.metrics();
            process::render(&mut series);
            series
        }))),
        (_, ["healthz"]) if get => Ok(text(StatusCode::OK, "ok\n")),
        (_, ["readyz"]) if get => readyz(control),
        (_, []) if get => Ok(page::page(StatusCode::OK)),
        (_, ["api", "v1", "status"]) if get => Ok(json(StatusCode::OK, &control.status())),
        (_, ["api", "v1", "events"]) if get => Ok(json(StatusCode::OK, &control.events())),
        (_, ["api", "v1", "explain"]) if get => explain(control, parts),
        (&Method::PUT, ["api", "v1", "pools", pool, "backends", backend, "state"]) => {
            let change: StateChange = read_body(site, parts, body).await?;
            state::set_in_pool(control, pool, backend, &change).await
        }
        (&Method::PUT, ["api", "v1", "backends", backend, "state"]) => {
            let change: StateChange = read_body(site, parts, body).await?;
            state::set_everywhere(control, backend, &change).await
        }
        (_, ["api", "v1", "affinity"]) if get => affinity::list(control, parts),
        (_, ["api", "v1", "affinity", "client"]) if get => affinity::show(site, parts).await,
        (&Method::PUT, ["api", "v1", "affinity"]) => {
            let change = read_body(site, parts, body).await?;
            affinity::change(site, change).await
        }
        (&Method::DELETE, ["api", "v1", "affinity"]) => affinity::clear(site, parts).await,
        (&Method::POST, ["api", "v1", "reload"]) => reload(control).await,
        (&Method::POST, ["api", "v1", "upgrade"]) => upgrade(control).await,

        (
            _,
            ["metrics" | "healthz" | "readyz"]
            | []
            | ["api", "v1", "status" | "events" | "explain"]
            | ["api", "v1", "affinity", "client"],
        ) => Err(ApiError::not_allowed("GET, HEAD")),
        (
            _,
            ["api", "v1", "pools", _, "backends", _, "state"]
            | ["api", "v1", "backends", _, "state"],
        ) => Err(ApiError::not_allowed("PUT")),
        (_, ["api", "v1", "affinity"]) => Err(ApiError::not_allowed("GET, HEAD, PUT, DELETE")),
        (_, ["api", "v1", "reload" | "upgrade"]) => Err(ApiError::not_allowed("POST")),
        _ => Err(ApiError::new(
            StatusCode::NOT_FOUND,
            "there is no such path",
        )),
    }
}

static TURN: Semaphore = Semaphore::const_new(1);

/// Answers that take their time are made one after another, and whatever else is due has its turn before each.
async fn turn() -> Option<SemaphorePermit<'static>> {
    let turn = TURN.acquire().await.ok();
    tokio::task::yield_now().await;
    turn
}

/// Lets in who may ask. Foreign hosts come first: they are told nothing, not even that a token is wanted.
fn admit(site: &AdminSite, reach: Exposure, access: Access, parts: &Parts) -> Result<(), ApiError> {
    guard::check_host(parts, reach, access, &site.terms.now().hosts).map_err(
        |fault| match fault {
            HostFault::Missing => ApiError::new(
                StatusCode::BAD_REQUEST,
                "the request names no host, or more than one",
            ),
            HostFault::Foreign => ApiError::new(
                StatusCode::FORBIDDEN,
                "the request names another host; `admin.hosts` can name this one",
            ),
        },
    )?;
    if access == Access::Open {
        return Ok(());
    }
    let terms = site.terms.now();
    if terms.served == Served::Probes {
        return Err(ApiError::new(
            StatusCode::NOT_FOUND,
            "there is no such path",
        ));
    }
    if guard::is_cross_site(parts) {
        let error = "a page of another site may change nothing here";
        return Err(ApiError::new(StatusCode::FORBIDDEN, error));
    }
    if let Some(token) = &terms.token
        && !token.is_shown_in(&parts.headers)
    {
        let error = "this path wants the token as `Authorization: Bearer`";
        return Err(ApiError {
            header: Some((header::WWW_AUTHENTICATE, "Bearer realm=\"lyncpin\"")),
            ..ApiError::new(StatusCode::UNAUTHORIZED, error)
        });
    }
    Ok(())
}

fn metrics(series: Bytes) -> ApiResponse {
    typed(
        StatusCode::OK,
        "text/plain; version=0.0.4; charset=utf-8",
        series,
    )
}

fn readyz(control: &dyn Control) -> Result<ApiResponse, ApiError> {
    let unready = |error: &str| Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error));
    if control.stopping() {
        unready("the balancer is stopping")
    } else if control.can_serve() {
        Ok(text(StatusCode::OK, "ready\n"))
    } else {
        unready("no listener can serve")
    }
}

fn explain(control: &dyn Control, parts: &Parts) -> Result<ApiResponse, ApiError> {
    let [listener, name, source] = parameters(parts, ["listener", "name", "source"])?;
    let query = ExplainQuery {
        source: address("source", source)?,
        listener: listener.ok_or_else(|| missing("listener"))?,
        name: name.filter(|name| !name.is_empty()),
    };
    match control.explain(&query) {
        Ok(explanation) => Ok(json(StatusCode::OK, &explanation)),
        Err(error) => Err(ApiError::new(StatusCode::NOT_FOUND, error.to_string())),
    }
}

/// The values of the parameters that a path knows, each at most once.
fn parameters<const COUNT: usize>(
    parts: &Parts,
    known: [&str; COUNT],
) -> Result<[Option<String>; COUNT], ApiError> {
    let pairs = target::pairs(parts.uri.query().unwrap_or_default())
        .ok_or_else(|| ApiError::wrong("the query does not decode"))?;
    let mut values = [const { None }; COUNT];
    for (key, value) in pairs {
        let place = known
            .iter()
            .position(|known| *known == key)
            .ok_or_else(|| ApiError::wrong(format!("there is no parameter {key:?}")))?;
        if values[place].replace(value).is_some() {
            return Err(ApiError::wrong(format!(
                "the parameter {key:?} comes twice"
            )));
        }
    }
    Ok(values)
}

fn missing(key: &str) -> ApiError {
    ApiError::wrong(format!("the parameter {key:?} is missing"))
}

/// The address that a parameter has to hold.
fn address(key: &str, value: Option<String>) -> Result<IpAddr, ApiError> {
    let value = value.ok_or_else(|| missing(key))?;
    let address: IpAddr = value
        .parse()
        .map_err(|_| ApiError::wrong(format!("the {key} {value:?} is no address")))?;
    Ok(address.to_canonical())
}

async fn read_body<T: DeserializeOwned>(
    site: &AdminSite,
    parts: &Parts,
    body: Incoming,
) -> Result<T, ApiError> {
    let enter = |step| {
        if let Some(progress) = parts.extensions.get::<ConnectionProgress>() {
            progress.enter(step);
        }
    };
    enter(Step::Asking);
    let read = Limited::new(body, MAX_BODY).collect();
    let read = tokio::time::timeout(site.bounds.body, read).await;
    enter(Step::Working);
    let body = match read {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let error = format!("the body is larger than {MAX_BODY} bytes");
            return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, error));
        }
        Ok(Err(_)) => return Err(ApiError::new(StatusCode::BAD_REQUEST, "the body is cut")),
        Err(_) => {
            return Err(ApiError::new(
                StatusCode::REQUEST_TIMEOUT,
                "the body did not come in time",
            ));
        }
    };
    serde_json::from_slice(&body).map_err(|error| {
        ApiError::new(
            StatusCode::BAD_REQUEST,
            format!("the body is not what is wanted: {error}"),
        )
    })
}

async fn reload(control: &dyn Control) -> Result<ApiResponse, ApiError> {
    match control.reload().await {
        Ok(reloaded) => Ok(json(StatusCode::OK, &reloaded)),
        Err(error) => {
            let status = match error {
                ReloadError::Rejected(_) => StatusCode::UNPROCESSABLE_ENTITY,
                ReloadError::NoFile | ReloadError::Upgrading => StatusCode::CONFLICT,
                ReloadError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            };
            Err(ApiError::new(status, error.to_string()))
        }
    }
}

async fn upgrade(control: &dyn Control) -> Result<ApiResponse, ApiError> {
    match control.upgrade().await {
        Ok(upgraded) => Ok(json(StatusCode::OK, &upgraded)),
        Err(error) => {
            let status = match error {
                UpgradeError::Failed(_) => StatusCode::UNPROCESSABLE_ENTITY,
                UpgradeError::UnderWay
                | UpgradeError::NoProgram
                | UpgradeError::UnknownProgram(_) => StatusCode::CONFLICT,
                UpgradeError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            };
            Err(ApiError::new(status, error.to_string()))
        }
    }
}

fn text(status: StatusCode, text: &'static str) -> ApiResponse {
    typed(status, "text/plain; charset=utf-8", text)
}

fn json(status: StatusCode, value: &impl Serialize) -> ApiResponse {
    match serde_json::to_vec(value) {
        Ok(mut body) => {
            body.push(b'\n');
            typed(status, "application/json", body)
        }
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "an answer cannot be written"
            );
            let body = "{\"error\":\"the answer cannot be written\"}\n";
            typed(StatusCode::INTERNAL_SERVER_ERROR, "application/json", body)
        }
    }
}
