//! Owns the `http` and `https` checks: one request, of whose answer only the status counts.
//!
//! Must not know backends or pools. Invariant: of a body at most [`MAX_BODY`] bytes are read, and never past the check's
//! time; whatever becomes of it, the status has decided.

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
    CLOSED, Observation, ProbeError, TimeLimit, certificate, modern_tls, server_name, tls, words,
};
use crate::config::model::{HttpCheck, ServerHost};
use crate::protocol::tls::client_hello::ProtocolVersion;
use crate::types::host_name::HostName;

/// How much of a body is read, so that the server can finish what it says and logs no broken connection.
const MAX_BODY: usize = 64 * 1024;
/// How large the head of an answer may be.
const MAX_HEAD: usize = 64 * 1024;

/// How many answers with a status of 1xx may come before the one that counts (RFC 9110 section 15.2).
const MAX_INTERIM: usize = 16;

/// Tells servers' logs who asks.
const USER_AGENT: &str = concat!("lyncpin-health/", env!("CARGO_PKG_VERSION"));

/// A request, and the statuses that pass.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct HttpRequest {
    path: String,
    /// As it stands in the header.
    host: String,
    /// Over TLS: the server name.
    name: Option<HostName>,
    status: Vec<u16>,
}

impl HttpRequest {
    /// What `check` asks of the server `host`. A configured host is written as clients write it who come to the balancer's
    /// port; the backend's own goes with its port, unless that is the usual one (RFC 9110 section 7.2).
    pub(super) fn new(check: &HttpCheck, host: &ServerHost, port: u16, usual_port: u16) -> Self {
        let written = match (&check.host, host) {
            (Some(name), _) => name.to_string(),
            (None, ServerHost::Name(name)) if port == usual_port => name.to_string(),
            (None, ServerHost::Name(name)) => format!("{name}:{port}"),
            (None, ServerHost::Address(ip)) => {
                let written = SocketAddr::new(*ip, port).to_string();
                let usual = written.strip_suffix(&format!(":{usual_port}"));
                usual.map_or(written.clone(), str::to_owned)
            }
        };
        Self {
            path: check.path.clone(),
            host: written,
            name: server_name(check.host.as_ref(), host),
            status: check.status.clone(),
        }
    }
}

/// Asks in clear.
pub(super) async fn ask(
    address: SocketAddr,
    ask: &HttpRequest,
    within: TimeLimit,
) -> Result<Observation, ProbeError> {
    let stream = within.connect(address).await?;
    exchange(stream, ask, within).await
}

/// Asks over TLS 1.2 or 1.3.
pub(super) async fn ask_over_tls(
    address: SocketAddr,
    ask: &HttpRequest,
    within: TimeLimit,
) -> Result<Observation, ProbeError> {
    let stream = within.connect(address).await?;
    let stream = match modern_tls::begin(stream, address, ask.name.as_ref(), within).await? {
        Ok(stream) => stream,
        Err(error) => return explain(&error, address, ask, within).await,
    };
    let certificate_expiry = modern_tls::leaf_of(&stream).and_then(certificate::expiry);
    let answer = exchange(stream, ask, within).await;
    let (wanted, mut detail) = match answer {
        Ok(seen) => (seen.wanted, seen.detail),
        Err(ProbeError::Server(detail)) => (false, detail),
        Err(local @ ProbeError::Local(_)) => return Err(local),
    };
    if let Some(expiry) = certificate_expiry {
        detail += ", ";
        detail += &certificate::remaining(expiry, SystemTime::now());
    }
    Ok(Observation {
        wanted,
        detail,
        certificate_expiry,
    })
}

/// Says why TLS did not come about. An old server is asked once more in the way of a `tls` check, so that the words, and
/// the end of its certificate, are right.
async fn explain(
    error: &Error,
    address: SocketAddr,
    ask: &HttpRequest,
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
    let Some(identity) = tls::identity(address, ask.name.as_ref(), within).await else {
        return Err(ProbeError::Server(format!("no TLS session: {error}")));
    };
    let version = identity.hello.version;
    let lack = if version < ProtocolVersion::TLS1_2 {
        format!("the server speaks only {version}")
    } else {
        format!("the server speaks {version} with old cipher suites alone")
    };
    Ok(Observation {
        wanted: false,
        detail: format!("{lack}, which an https check cannot: use a tls check"),
        certificate_expiry: certificate::expiry(&identity.leaf),
    })
}

async fn exchange<S>(
    stream: S,
    ask: &HttpRequest,
    within: TimeLimit,
) -> Result<Observation, ProbeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut request = Request::get(&*ask.path)
        .header(header::HOST, &*ask.host)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| ProbeError::Server(format!("the request cannot be written: {error}")))?;
    let (interim, too_many) = (AtomicUsize::new(0), Arc::new(Notify::new()));
    let tell = too_many.clone();
    hyper::ext::on_informational(&mut request, move |_| {
        if interim.fetch_add(1, Ordering::Relaxed) == MAX_INTERIM {
            tell.notify_one();
        }
    });
    let opened = http1::Builder::new()
        .title_case_headers(true)
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await;
    let (mut sender, connection) = opened.map_err(|error| ProbeError::Server(describe(&error)))?;
    let exchange = async {
        let answer = within
            .run("connected, but ", sender.send_request(request))
            .await?;
        let seen = judge(&answer, &ask.status);
        // Only the status counts.
        let _ = timeout_at(within.deadline, drain(answer)).await;
        Ok(seen)
    };
    tokio::select! {
        biased;
        () = too_many.notified() => Err(ProbeError::Server(format!("more than {MAX_INTERIM} interim responses"))),
        seen = beside(exchange, connection) => seen,
    }
}

fn judge(answer: &Response<Incoming>, wanted: &[u16]) -> Observation {
    let status = answer.status().as_u16();
    if wanted.contains(&status) {
        return Observation::pass(format!("status {status}"));
    }
    let wanted: Vec<String> = wanted.iter().map(u16::to_string).collect();
    Observation {
        wanted: false,
        detail: format!("status {status}, wanted {}", wanted.join(" or ")),
        certificate_expiry: None,
    }
}

async fn drain(answer: Response<Incoming>) {
    let mut body = answer.into_body();
    let mut left = MAX_BODY;
    while let Some(Ok(frame)) = body.frame().await {
        let len = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(len) {
            Some(less) => left = less,
            None => return,
        }
    }
}

/// Does `work` while `connection` moves its bytes. The connection may end first: what it brought is still there.
async fn beside<T>(work: impl Future<Output = T>, connection: impl Future) -> T {
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
            return words(io);
        }
        cause = inner.source();
    }
    if error.is_parse_too_large() {
        "the answer's head is too large".into()
    } else if error.is_parse() {
        "the answer is not HTTP".into()
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
        let asked = HttpCheck {
            path: "/".into(),
            host: configured.map(parse),
            status: vec![200],
        };
        let host = match host.parse() {
            Ok(ip) => ServerHost::Address(ip),
            Err(_) => ServerHost::Name(parse(host)),
        };
        let ask = HttpRequest::new(&asked, &host, port, 443);
        assert_eq!(ask.host, expected);
        assert_eq!(ask.name.as_ref().map(HostName::as_str), name);
    }

    #[test]
    fn host_header_is_the_configured_name_or_the_backends_own() {
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
