//! The web site External Web.
//!
//! Owns the table of paths and the applications. Must not know connections. Invariants: every response names the Front End
//! in `X-MS-Server-Fqdn`; every request needs bounded memory.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http_body_util::BodyExt as _;
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;
use tokio_rustls::TlsAcceptor;

use super::DeploymentNames;
use super::applications::Applications;
use super::autodiscover::{self, Form};
use super::http::{WebResponse, discard, json_response, parameter, respond, status};
use super::pattern::Pattern;
use super::ucwa::{self, APPLICATIONS};

const SERVER_FQDN: HeaderName = HeaderName::from_static("x-ms-server-fqdn");
const ROOT: &str = "/autodiscover/autodiscoverservice.svc/root";
/// The maximum size of `/big` and `/upload`.
const LARGE_BODY_MAX: u64 = 64 << 30;

/// The scheme of a connection.
#[derive(Clone)]
pub(super) enum Scheme {
    Https(TlsAcceptor),
    Http,
}

/// The web site of one Front End.
#[derive(Debug)]
pub(super) struct WebSite {
    fqdn: String,
    fqdn_header: HeaderValue,
    names: DeploymentNames,
    applications: Applications,
    requests: AtomicU64,
}

impl WebSite {
    pub(super) fn new(fqdn: String, names: DeploymentNames, applications: Applications) -> Self {
        let fqdn_header =
            HeaderValue::from_str(&fqdn).unwrap_or(HeaderValue::from_static("unprintable"));
        Self {
            fqdn,
            fqdn_header,
            names,
            applications,
            requests: AtomicU64::new(0),
        }
    }

    pub(super) fn fqdn(&self) -> &str {
        &self.fqdn
    }

    pub(super) fn applications(&self) -> &Applications {
        &self.applications
    }

    /// Completed requests.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

/// Handles one request; adds the headers that every response has.
pub(super) async fn respond_to(
    site: Arc<WebSite>,
    scheme: Scheme,
    request: Request<Incoming>,
) -> Result<WebResponse, Infallible> {
    let mut response = route(&site, &scheme, request).await;
    response
        .headers_mut()
        .insert(SERVER_FQDN, site.fqdn_header.clone());
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    site.requests.fetch_add(1, Ordering::Relaxed);
    Ok(response)
}

/// Paths are matched without regard to case, as in IIS.
async fn route(site: &WebSite, scheme: &Scheme, request: Request<Incoming>) -> WebResponse {
    let path = request.uri().path().to_ascii_lowercase();
    let path = if path.len() > 1 {
        path.trim_end_matches('/')
    } else {
        &path
    };
    let get = matches!(*request.method(), Method::GET | Method::HEAD);
    let post = *request.method() == Method::POST;
    match (path, scheme) {
        ("/", _) if get && is_simple_url(site, &request) => page(site),
        ("/" | ROOT, _) if get => root(site, scheme, &request),
        ("/big", _) if get => big(&request),
        ("/upload", _) if post || *request.method() == Method::PUT => {
            upload(request.into_body()).await
        }
        (_, Scheme::Http) => status(StatusCode::NOT_FOUND),
        ("/autodiscover/autodiscoverservice.svc/root/oauth/user", _) if get => user(site, &request),
        ("/webticket/oauthtoken", _) if post => token(request.into_body()).await,
        (APPLICATIONS, _) if post => {
            ucwa::create_application(&site.applications, request.into_body()).await
        }
        (path, _) => match path
            .strip_prefix(APPLICATIONS)
            .and_then(|rest| rest.strip_prefix('/'))
        {
            Some(rest) => ucwa::application(&site.applications, rest, &request).await,
            None if get && is_simple_url(site, &request) => page(site),
            None => status(StatusCode::NOT_FOUND),
        },
    }
}

fn root(site: &WebSite, scheme: &Scheme, request: &Request<Incoming>) -> WebResponse {
    let form = form(request);
    let domain = autodiscover::original_domain(parameter(request, "sipuri"), host(request));
    let text = match scheme {
        Scheme::Https(_) => autodiscover::root(&site.names, &site.fqdn, domain.as_deref(), form),
        Scheme::Http => autodiscover::redirect(&site.names, domain.as_deref(), form),
    };
    respond(StatusCode::OK, form.content_type(), text)
}

/// Accepts any ticket.
fn user(site: &WebSite, request: &Request<Incoming>) -> WebResponse {
    if request.headers().contains_key(header::AUTHORIZATION) {
        let form = form(request);
        return respond(
            StatusCode::OK,
            form.content_type(),
            autodiscover::user(&site.names, &site.fqdn, form),
        );
    }
    let mut response = status(StatusCode::UNAUTHORIZED);
    if let Ok(challenge) = HeaderValue::from_str(&autodiscover::challenge(&site.names)) {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

async fn token(body: Incoming) -> WebResponse {
    if !discard(body).await {
        return status(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let ticket = json!({ "access_token": "cwt=demo", "expires_in": 28_800, "ms_rtc_identityscope": "local", "token_type": "Bearer" });
    json_response(StatusCode::OK, &ticket)
}

/// A body of the requested length, in which gaps and repetitions can be detected.
fn big(request: &Request<Incoming>) -> WebResponse {
    let count = parameter(request, "bytes")
        .and_then(|count| count.parse().ok())
        .filter(|count| *count <= LARGE_BODY_MAX);
    let Some(left) = count else {
        return status(StatusCode::BAD_REQUEST);
    };
    let mut response = Response::new(BoxBody::new(Pattern::new(left)));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    response
}

/// Counts the bytes of an upload.
async fn upload(mut body: Incoming) -> WebResponse {
    let mut count: u64 = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return status(StatusCode::BAD_REQUEST);
        };
        count = count.saturating_add(frame.data_ref().map_or(0, |data| data.len() as u64));
        if count > LARGE_BODY_MAX {
            return status(StatusCode::PAYLOAD_TOO_LARGE);
        }
    }
    json_response(StatusCode::OK, &json!({ "bytes": count }))
}

/// The page of the simple URLs (meet, dialin).
fn page(site: &WebSite) -> WebResponse {
    let fqdn = autodiscover::escape(&site.fqdn);
    let text = format!(
        "<!DOCTYPE html><html lang=\"en\"><title>{fqdn}</title><p>Served by <b id=\"server\">{fqdn}</b></p></html>\n"
    );
    respond(StatusCode::OK, "text/html; charset=utf-8", text)
}

fn is_simple_url(site: &WebSite, request: &Request<Incoming>) -> bool {
    let host = host(request).map(|host| host.split(':').next().unwrap_or(host));
    host.is_some_and(|host| {
        site.names
            .simple_urls
            .iter()
            .any(|name| name.eq_ignore_ascii_case(host))
    })
}

fn host(request: &Request<Incoming>) -> Option<&str> {
    request.headers().get(header::HOST)?.to_str().ok()
}

fn form(request: &Request<Incoming>) -> Form {
    Form::accepted_by(
        request
            .headers()
            .get(header::ACCEPT)
            .and_then(|accept| accept.to_str().ok())
            .unwrap_or_default(),
    )
}
