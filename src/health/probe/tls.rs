//! Owns the `tls` check: a handshake up to the server's certificate, from TLS 1.0 to 1.3.
//!
//! Must not know HTTP. Invariant: up to TLS 1.2 only a ClientHello is sent, and the response is read by
//! [`crate::protocol::tls::server_hello`]; a TLS stack is used only if a server supports only TLS 1.3.

use std::time::SystemTime;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{CLOSED, Observation, ProbeError, ProbeTarget, TimeLimit, certificate, modern_tls};
use crate::protocol::tls::client_hello::ProtocolVersion;
use crate::protocol::tls::server_hello::{
    FlightProgress, FlightReader, Identity, ServerAlert, client_hello,
};
use crate::types::host_name::HostName;

/// The response to a ClientHello for up to TLS 1.2.
enum TlsResponse {
    Certificate(Box<Identity>),
    Alert(ServerAlert),
}

/// Runs a `tls` check.
pub(super) async fn check(
    target: ProbeTarget,
    name: Option<&HostName>,
    within: TimeLimit,
) -> Result<Observation, ProbeError> {
    match send_hello(target, name, within).await? {
        TlsResponse::Certificate(identity) => Ok(seen(identity.hello.version, &identity.leaf)),
        // The response of a server that supports only TLS 1.3 (RFC 8446 section 4.1.3 and appendix D.2).
        TlsResponse::Alert(
            alert @ (ServerAlert::PROTOCOL_VERSION
            | ServerAlert::HANDSHAKE_FAILURE
            | ServerAlert::INSUFFICIENT_SECURITY),
        ) => match modern_tls::leaf(target, name, within).await {
            Ok(leaf) => Ok(seen(ProtocolVersion::TLS1_3, &leaf)),
            Err(ProbeError::Server(_)) => Err(rejected(alert)),
            Err(local @ ProbeError::Local(_)) => Err(local),
        },
        TlsResponse::Alert(alert) => Err(rejected(alert)),
    }
}

/// The certificate of a server that supports TLS 1.2 or older; `None` otherwise.
pub(super) async fn identity(
    target: ProbeTarget,
    name: Option<&HostName>,
    within: TimeLimit,
) -> Option<Box<Identity>> {
    match send_hello(target, name, within).await {
        Ok(TlsResponse::Certificate(identity)) => Some(identity),
        Ok(TlsResponse::Alert(_)) | Err(_) => None,
    }
}

fn seen(version: ProtocolVersion, leaf: &[u8]) -> Observation {
    let certificate_expiry = certificate::expiry(leaf);
    let certificate = match certificate_expiry {
        Some(expiry) => certificate::remaining(expiry, SystemTime::now()),
        None => "unreadable certificate".into(),
    };
    Observation {
        passed: true,
        detail: format!("{version}, {certificate}"),
        certificate_expiry,
    }
}

fn rejected(alert: ServerAlert) -> ProbeError {
    ProbeError::Server(format!(
        "the server rejected the handshake with the alert {alert}"
    ))
}

async fn send_hello(
    target: ProbeTarget,
    name: Option<&HostName>,
    within: TimeLimit,
) -> Result<TlsResponse, ProbeError> {
    let mut stream = within.connect(target).await?;
    let hello = client_hello(name, &modern_tls::random()?);
    let exchange = async {
        stream.write_all(&hello).await?;
        let mut reader = FlightReader::new();
        let mut buffer = vec![0; 4096];
        loop {
            let len = stream.read(&mut buffer).await?;
            if len == 0 {
                return Err(ProbeError::server(CLOSED));
            }
            match reader.read(&buffer[..len]) {
                FlightProgress::NeedMore => {}
                FlightProgress::Certificate(identity) => {
                    return Ok(TlsResponse::Certificate(identity.clone()));
                }
                FlightProgress::Alert(alert) => return Ok(TlsResponse::Alert(*alert)),
                FlightProgress::NoCertificate(_) => {
                    return Err(ProbeError::server("the server sent no certificate"));
                }
                FlightProgress::Error(error) => return Err(ProbeError::Server(error.to_string())),
            }
        }
    };
    within.run("connected, but ", exchange).await
}
