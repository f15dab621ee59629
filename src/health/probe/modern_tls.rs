//! Owns TLS 1.2 and 1.3 with rustls, for `https` checks and for servers that support only TLS 1.3.
//!
//! Must not know HTTP, and verifies no certificate: that is up to the clients, and an expired certificate takes no backend down.
//! Invariant: every session is a full handshake, so that the certificate is seen each time.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, DnsName, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme, SupportedProtocolVersion};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Connection, ProbeError, ProbeTarget, TimeLimit, describe_io};
use crate::types::host_name::HostName;

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
static ANY: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| config(rustls::ALL_VERSIONS));
static TLS13: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| config(&[&rustls::version::TLS13]));

fn config(versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(versions)
        .expect("ring has suites for TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// Random bytes for a ClientHello.
pub(super) fn random() -> Result<[u8; 32], ProbeError> {
    let mut bytes = [0; 32];
    match PROVIDER.secure_random.fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(_) => Err(ProbeError::Local("no random bytes".into())),
    }
}

/// The certificate of a server that supports TLS 1.3.
pub(super) async fn leaf(
    target: ProbeTarget,
    name: Option<&HostName>,
    within: TimeLimit,
) -> Result<Vec<u8>, ProbeError> {
    let stream = within.connect(target).await?;
    let session = handshake(&TLS13, stream, target.address, name);
    let stream = within
        .run("connected, but ", session)
        .await?
        .map_err(|error| ProbeError::Server(error.to_string()))?;
    match leaf_of(&stream) {
        Some(leaf) => Ok(leaf.to_vec()),
        None => Err(ProbeError::server("the server sent no certificate")),
    }
}

/// Starts a TLS session over `stream`; the inner error is that of the handshake.
pub(super) async fn start(
    stream: Connection,
    target: ProbeTarget,
    name: Option<&HostName>,
    within: TimeLimit,
) -> Result<Result<TlsStream<Connection>, Error>, ProbeError> {
    let session = handshake(&ANY, stream, target.address, name);
    within.run("connected, but ", session).await
}

/// The server's own certificate, as DER.
pub(super) fn leaf_of(stream: &TlsStream<Connection>) -> Option<&[u8]> {
    stream
        .get_ref()
        .1
        .peer_certificates()?
        .first()
        .map(|leaf| &**leaf)
}

async fn handshake(
    config: &Arc<ClientConfig>,
    stream: Connection,
    address: SocketAddr,
    name: Option<&HostName>,
) -> Result<Result<TlsStream<Connection>, Error>, ProbeError> {
    // rustls sends no server name for an address (RFC 6066 section 3).
    let name = match name {
        Some(name) => DnsName::try_from(name.as_str().to_owned())
            .map(ServerName::DnsName)
            .map_err(|_| ProbeError::Server(format!("`{name}` cannot be a TLS server name")))?,
        None => ServerName::IpAddress(address.ip().into()),
    };
    match TlsConnector::from(config.clone())
        .connect(name, stream)
        .await
    {
        Ok(stream) => Ok(Ok(stream)),
        Err(error) => match error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Error>())
        {
            Some(inner) => Ok(Err(inner.clone())),
            None => Err(ProbeError::Server(describe_io(&error))),
        },
    }
}

/// Accepts every certificate and signature: a check tests whether a server responds, not its identity.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ECDSA_NISTP521_SHA512,
            SignatureScheme::ED25519,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA512,
            SignatureScheme::RSA_PKCS1_SHA256,
            SignatureScheme::RSA_PKCS1_SHA384,
            SignatureScheme::RSA_PKCS1_SHA512,
            SignatureScheme::ECDSA_SHA1_Legacy,
            SignatureScheme::RSA_PKCS1_SHA1,
        ]
    }
}
