//! Owns the `tls` check: a handshake that gets as far as the server's certificate, from TLS 1.0 to 1.3.
//!
//! Must not know HTTP. Invariant: up to TLS 1.2 nothing but a ClientHello is ever sent, and what comes is read by
//! [`crate::server_hello`]; a TLS stack is asked only where a server speaks nothing below TLS 1.3.

use std::net::SocketAddr;
use std::time::SystemTime;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{CLOSED, Fault, Seen, Within, certificate, modern_tls};
use crate::client_hello::ProtocolVersion;
use crate::host_name::HostName;
use crate::server_hello::{Alert, FlightReader, Identity, Progress, client_hello};

/// How a server answered a ClientHello for up to TLS 1.2.
enum Answer {
    Certificate(Box<Identity>),
    Alert(Alert),
}

/// Asks the server at `address` for its certificate.
pub(super) async fn ask(
    address: SocketAddr,
    name: Option<&HostName>,
    within: Within,
) -> Result<Seen, Fault> {
    match greet(address, name, within).await? {
        Answer::Certificate(identity) => Ok(seen(identity.hello.version, &identity.leaf)),
        // So refuses a server that speaks only TLS 1.3 (RFC 8446 section 4.1.3 and appendix D.2).
        Answer::Alert(
            alert @ (Alert::PROTOCOL_VERSION
            | Alert::HANDSHAKE_FAILURE
            | Alert::INSUFFICIENT_SECURITY),
        ) => match modern_tls::leaf(address, name, within).await {
            Ok(leaf) => Ok(seen(ProtocolVersion::TLS1_3, &leaf)),
            Err(Fault::Server(_)) => Err(refused(alert)),
            Err(local @ Fault::Local(_)) => Err(local),
        },
        Answer::Alert(alert) => Err(refused(alert)),
    }
}

/// The certificate of a server that speaks TLS 1.2 or less; `None` for another, whatever the reason.
pub(super) async fn identity(
    address: SocketAddr,
    name: Option<&HostName>,
    within: Within,
) -> Option<Box<Identity>> {
    match greet(address, name, within).await {
        Ok(Answer::Certificate(identity)) => Some(identity),
        Ok(Answer::Alert(_)) | Err(_) => None,
    }
}

fn seen(version: ProtocolVersion, leaf: &[u8]) -> Seen {
    let certificate_expiry = certificate::expiry(leaf);
    let certificate = match certificate_expiry {
        Some(expiry) => certificate::remaining(expiry, SystemTime::now()),
        None => "certificate that cannot be read".into(),
    };
    Seen {
        wanted: true,
        detail: format!("{version}, {certificate}"),
        certificate_expiry,
    }
}

fn refused(alert: Alert) -> Fault {
    Fault::Server(format!("the server refused with the alert {alert}"))
}

async fn greet(
    address: SocketAddr,
    name: Option<&HostName>,
    within: Within,
) -> Result<Answer, Fault> {
    let mut stream = within.connect(address).await?;
    let hello = client_hello(name, &modern_tls::random()?);
    let exchange = async {
        stream.write_all(&hello).await?;
        let mut reader = FlightReader::new();
        let mut buffer = vec![0; 4096];
        loop {
            let len = stream.read(&mut buffer).await?;
            if len == 0 {
                return Err(Fault::server(CLOSED));
            }
            match reader.read(&buffer[..len]) {
                Progress::NeedMore => {}
                Progress::Certificate(identity) => {
                    return Ok(Answer::Certificate(identity.clone()));
                }
                Progress::Alert(alert) => return Ok(Answer::Alert(*alert)),
                Progress::NoCertificate(_) => {
                    return Err(Fault::server("the server shows no certificate"));
                }
                Progress::Fault(fault) => return Err(Fault::Server(fault.to_string())),
            }
        }
    };
    within.run("connected, but ", exchange).await
}
