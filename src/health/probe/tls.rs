//! Owns the `tls` check: a handshake that gets as far as the server's certificate, from TLS 1.0 to 1.3.
//!
//! Must not know HTTP. Invariant: up to TLS 1.2 nothing but a ClientHello is ever sent, and what comes is read by
//! [`crate::protocol::tls::server_hello`]; a TLS stack is asked only where a server speaks nothing below TLS 1.3.

use std::net::SocketAddr;
use std::time::SystemTime;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{CLOSED, Observation, ProbeError, TimeLimit, certificate, modern_tls};
use crate::protocol::tls::client_hello::ProtocolVersion;
use crate::protocol::tls::server_hello::{
    FlightProgress, FlightReader, Identity, ServerAlert, client_hello,
};
use crate::types::host_name::HostName;

/// How a server answered a ClientHello for up to TLS 1.2.
enum TlsAnswer {
    Certificate(Box<Identity>),
    Alert(ServerAlert),
}

/// Asks the server at `address` for its certificate.
pub(super) async fn ask(
    address: SocketAddr,
    name: Option<&HostName>,
    within: TimeLimit,
) -> Result<Observation, ProbeError> {
    match greet(address, name, within).await? {
        TlsAnswer::Certificate(identity) => Ok(seen(identity.hello.version, &identity.leaf)),
        // So refuses a server that speaks only TLS 1.3 (RFC 8446 section 4.1.3 and appendix D.2).
        TlsAnswer::Alert(
            alert @ (ServerAlert::PROTOCOL_VERSION
            | ServerAlert::HANDSHAKE_FAILURE
            | ServerAlert::INSUFFICIENT_SECURITY),
        ) => match modern_tls::leaf(address, name, within).await {
            Ok(leaf) => Ok(seen(ProtocolVersion::TLS1_3, &leaf)),
            Err(ProbeError::Server(_)) => Err(refused(alert)),
            Err(local @ ProbeError::Local(_)) => Err(local),
        },
        TlsAnswer::Alert(alert) => Err(refused(alert)),
    }
}

/// The certificate of a server that speaks TLS 1.2 or less; `None` for another, whatever the reason.
pub(super) async fn identity(
    address: SocketAddr,
    name: Option<&HostName>,
    within: TimeLimit,
) -> Option<Box<Identity>> {
    match greet(address, name, within).await {
        Ok(TlsAnswer::Certificate(identity)) => Some(identity),
        Ok(TlsAnswer::Alert(_)) | Err(_) => None,
    }
}

fn seen(version: ProtocolVersion, leaf: &[u8]) -> Observation {
    let certificate_expiry = certificate::expiry(leaf);
    let certificate = match certificate_expiry {
        Some(expiry) => certificate::remaining(expiry, SystemTime::now()),
        None => "certificate that cannot be read".into(),
    };
    Observation {
        wanted: true,
        detail: format!("{version}, {certificate}"),
        certificate_expiry,
    }
}

fn refused(alert: ServerAlert) -> ProbeError {
    ProbeError::Server(format!("the server refused with the alert {alert}"))
}

async fn greet(
    address: SocketAddr,
    name: Option<&HostName>,
    within: TimeLimit,
) -> Result<TlsAnswer, ProbeError> {
    let mut stream = within.connect(address).await?;
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
                    return Ok(TlsAnswer::Certificate(identity.clone()));
                }
                FlightProgress::Alert(alert) => return Ok(TlsAnswer::Alert(*alert)),
                FlightProgress::NoCertificate(_) => {
                    return Err(ProbeError::server("the server shows no certificate"));
                }
                FlightProgress::Fault(fault) => return Err(ProbeError::Server(fault.to_string())),
            }
        }
    };
    within.run("connected, but ", exchange).await
}
