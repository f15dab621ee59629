//! Owns the `http` and `https` checks: one request, whose response counts by its status only.
//!
//! Must not know backends or pools. Invariant: at most [`MAX_BODY`] bytes of a body are read, and never past the time limit; the
//! body has no effect on the result.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use rustls::{AlertDescription, Error, PeerIncompatible};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::timeout_at;

use super::{
    CLOSED, Observation, ProbeError, ProbeTarget, TimeLimit, certificate, describe_io, modern_tls,
    server_name, tls,
};
use crate::config::model::{HttpCheck, ServerHost};
use crate::protocol::tls::client_hello::ProtocolVersion;
use crate::types::host_name::HostName;

/// Most bytes of a body that are read, so that the server can finish and logs no broken connection.
const MAX_BODY: usize = 64 * 1024;
/// The largest head of a response.
const MAX_HEAD: usize = 64 * 1024;

/// Most responses with a 1xx status before the final one (RFC 9110 section 15.2).
const MAX_INTERIM: usize = 16;

/// Identifies the check in the server's log.
const USER_AGENT: &str = concat!("lyncpin-health/", env!("CARGO_PKG_VERSION"));

/// A request, and the statuses that pass.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct HttpRequest {
    path: String,
    /// The value of the Host header.
    host: String,
    /// The TLS server name.
    name: Option<HostName>,
    status: Vec<u16>,
}

impl HttpRequest {
    /// The request of `check` to the server `host`. A configured host is sent without a port, as clients of the balancer send it;
    /// the backend's own host is sent with its port unless that is the usual one (RFC 9110 section 7.2).
    pub(super) fn new(check: &HttpCheck, host: &ServerHost, port: u16, usual_port: u16) -> Self {
        let header = match (&check.host, host) {
            (Some(name), _) => name.to_string(),
            (None, ServerHost::Name(name)) if port == usual_port => name.to_string(),
            (None, ServerHost::Name(name)) => format!("{name}:{port}"),
            (None, ServerHost::Address(ip)) => {
                let address = SocketAddr::new(*ip, port).to_string();
                let without_port = address.strip_suffix(&format!(":{usual_port}"));
                without_port.map_or(address.clone(), str::to_owned)
            }
        };
        Self {
            path: check.path.clone(),
            host: header,
            name: server_name(check.host.as_ref(), host),
            status: check.status.clone(),
        }
    }
}

/// Runs an `http` check.
pub(super) async fn check(
    target: ProbeTarget,
    request: &HttpRequest,
    within: TimeLimit,
) -> Result<Observation, ProbeError> {
    let stream = within.connect(target).await?;
    exchange(stream, request, within).await
}

/// Runs an `https` check, over TLS 1.2 or 1.3.
pub(super) async fn check_over_tls(
    target: ProbeTarget,
    request: &HttpRequest,
    within: TimeLimit,
) -> Result<Observation, ProbeError> {
    let stream = within.connect(target).await?;
    let stream = match modern_tls::start(stream, target, request.name.as_ref(), within).await? {
        Ok(stream) => stream,
        Err(error) => return explain(&error, target, request, within).await,
    };
    let certificate_expiry = modern_tls::leaf_of(&stream).and_then(certificate::expiry);
    let result = exchange(stream, request, within).await;
    let (passed, mut detail) = match result {
        Ok(seen) => (seen.passed, seen.detail),
        Err(ProbeError::Server(detail)) => (false, detail),
        Err(local @ ProbeError::Local(_)) => return Err(local),
    };
    if let Some(expiry) = certificate_expiry {
        detail += ", ";
        detail += &certificate::remaining(expiry, SystemTime::now());
    }
    Ok(Observation {
        passed,
        detail,
        certificate_expiry,
    })
}

/// Describes why the TLS handshake failed. An old server is contacted once more like in a `tls` check, to report its version and
/// the expiry of its certificate.
async fn explain(
    error: &Error,
    target: ProbeTarget,
    request: &HttpRequest,
    within: TimeLimit,
) -> Result<Observation, ProbeError> {
    let too_old = matches!(
        error,
        Error::AlertReceived(
            AlertDescription::ProtocolVersion
                | AlertDescription::HandshakeFailure
                | AlertDescription::InsufficientSecurity
        ) | Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        )
    );
    if !too_old {
        return Err(ProbeError::Server(format!("no TLS session: {error}")));
    }
    let Some(identity) = tls::identity(target, request.name.as_ref(), within).await else {
        return Err(ProbeError::Server(format!("no TLS session: {error}")));
    };
    let version = identity.hello.version;
    let unsupported = if version < ProtocolVersion::TLS1_2 {
        format!("the server supports only {version}")
    } else {
        format!("the server supports {version} only with old cipher suites")
    };
    Ok(Observation {
        passed: false,
        detail: format!("{unsupported}, which an https check does not support: use a tls check"),
        certificate_expiry: certificate::expiry(&identity.leaf),
    })
}

async fn exchange<S>(
    stream: S,
    request: &HttpRequest,
    within: TimeLimit,
) -> Result<Observation, ProbeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http_request = Request::get(&*request.path)
        .header(header::HOST, &*request.host)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| ProbeError::Server(format!("the request is invalid: {error}")))?;
    let (interim, too_many) = (AtomicUsize::new(0), Arc::new(Notify::new()));
    let notify = too_many.clone();
    hyper::ext::on_informational(&mut http_request, move |_| {
        if interim.fetch_add(1, Ordering::Relaxed) == MAX_INTERIM {
            notify.notify_one();
        }
    });
    let opened = http1::Builder::new()
        .title_case_headers(true)
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await;
    let (mut sender, connection) = opened.map_err(|error| ProbeError::Server(describe(&error)))?;
    let exchange = async {
        let response = within
            .run("connected, but ", sender.send_request(http_request))
            .await?;
        let seen = evaluate(&response, &request.status);
        // The body has no effect on the result.
        let _ = timeout_at(within.deadline, drain(response)).await;
        Ok(seen)
    };
    tokio::select! {
        biased;
        () = too_many.notified() => Err(ProbeError::Server(format!("more than {MAX_INTERIM} interim responses"))),
        seen = drive(exchange, connection) => seen,
    }
}

fn evaluate(response: &Response<Incoming>, expected: &[u16]) -> Observation {
    let status = response.status().as_u16();
    if expected.contains(&status) {
        return Observation::pass(format!("status {status}"));
    }
    let expected: Vec<String> = expected.iter().map(u16::to_string).collect();
    Observation {
        passed: false,
        detail: format!("status {status}, expected {}", expected.join(" or ")),
        certificate_expiry: None,
    }
}

async fn drain(response: Response<Incoming>) {
    let mut body = response.into_body();
    let mut left = MAX_BODY;
    while let Some(Ok(frame)) = body.frame().await {
        let len = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(len) {
            Some(less) => left = less,
            None => return,
        }
    }
}

/// Runs `work` while `connection` moves its bytes. The connection may end first; its data is still available.
async fn drive<T>(work: impl Future<Output = T>, connection: impl Future) -> T {
    let mut work = pin!(work);
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        done = &mut work => return done,
        _ = &mut connection => {}
    }
    work.await
}

impl From<hyper::Error> for ProbeError {
    fn from(error: hyper::Error) -> Self {
        Self::Server(describe(&error))
    }
}

fn describe(error: &hyper::Error) -> String {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return describe_io(io);
        }
        cause = inner.source();
    }
    if error.is_parse_too_large() {
        "the head of the response is too large".into()
    } else if error.is_parse() {
        "the response is not HTTP".into()
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        CLOSED.into()
    } else {
        error.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(configured: Option<&str>, host: &str, port: u16, expected: &str, name: Option<&str>) {
        let parse = |name: &str| HostName::parse(name.as_bytes()).unwrap();
        let configured_check = HttpCheck {
            path: "/".into(),
            host: configured.map(parse),
            status: vec![200],
        };
        let host = match host.parse() {
            Ok(ip) => ServerHost::Address(ip),
            Err(_) => ServerHost::Name(parse(host)),
        };
        let request = HttpRequest::new(&configured_check, &host, port, 443);
        assert_eq!(request.host, expected);
        assert_eq!(request.name.as_ref().map(HostName::as_str), name);
    }

    #[test]
    fn the_host_header_is_the_configured_name_or_the_backends_own() {
        let name = Some("lync.contoso.com");
        check(name, "fe01", 4443, "lync.contoso.com", name);
        check(None, "fe01", 443, "fe01", Some("fe01"));
        check(None, "fe01", 4443, "fe01:4443", Some("fe01"));
        check(None, "192.0.2.1", 4443, "192.0.2.1:4443", None);
        check(None, "192.0.2.1", 443, "192.0.2.1", None);
        check(None, "2001:db8::1", 443, "[2001:db8::1]", None);
        check(None, "2001:db8::1", 4443, "[2001:db8::1]:4443", None);
    }
}
