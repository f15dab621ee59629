//! A certificate authority and server certificates, generated at run time.
//!
//! Owns keys that exist only in memory. Must not know the servers that use them. Invariant: a
//! [`ServerCertificate`] holds the key that its chain's first certificate certifies.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

/// Tolerance for clocks that are behind.
const BACKDATED: Duration = Duration::from_secs(24 * 3600);
/// The maximum that browsers accept.
const LIFETIME: Duration = Duration::from_secs(397 * 24 * 3600);
/// The maximum length of a common name (RFC 5280, ub-common-name).
const COMMON_NAME_MAX: usize = 64;

/// Why a certificate could not be generated or used.
#[derive(Debug)]
pub enum CertificateError {
    /// A key or certificate could not be generated, for example because of an invalid name.
    Make(rcgen::Error),
    /// The TLS library rejected it.
    Use(rustls::Error),
}

impl std::fmt::Display for CertificateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Make(_) => "cannot generate a demo certificate",
            Self::Use(_) => "cannot use a demo certificate for TLS",
        })
    }
}

impl std::error::Error for CertificateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Make(cause) => Some(cause),
            Self::Use(cause) => Some(cause),
        }
    }
}

/// The certificate authority of the demo.
pub struct DemoCa {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl std::fmt::Debug for DemoCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DemoCa").finish_non_exhaustive()
    }
}

impl DemoCa {
    /// Generates a new one.
    ///
    /// # Errors
    ///
    /// If the system provides no randomness.
    pub fn new() -> Result<Self, CertificateError> {
        let mut params = params_for(&[], "lyncpin demo CA", SystemTime::now() + LIFETIME)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(CertificateError::Make)?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(CertificateError::Make)?;
        Ok(Self { issuer })
    }

    /// The authority's certificate, for `curl --cacert` and the like.
    #[must_use]
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// The authority's certificate.
    #[must_use]
    pub fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// Certifies a new key for `names`, the first of which becomes the subject.
    ///
    /// # Errors
    ///
    /// If a name is neither a DNS name nor an IP address.
    pub fn issue(&self, names: &[String]) -> Result<ServerCertificate, CertificateError> {
        self.issue_until(names, SystemTime::now() + LIFETIME)
    }

    /// The same with another expiry date, which may be in the past.
    ///
    /// # Errors
    ///
    /// See [`DemoCa::issue`].
    pub fn issue_until(
        &self,
        names: &[String],
        until: SystemTime,
    ) -> Result<ServerCertificate, CertificateError> {
        let subject = names.first().filter(|name| name.len() <= COMMON_NAME_MAX);
        let mut params = params_for(names, subject.map_or("lyncpin demo", String::as_str), until)?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().map_err(CertificateError::Make)?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(CertificateError::Make)?;
        Ok(ServerCertificate {
            chain: vec![certificate.der().clone(), self.issuer.der().clone()],
            chain_pem: certificate.pem() + &self.issuer.pem(),
            key: Arc::new(key),
        })
    }
}

/// A certificate with its chain and key.
#[derive(Clone)]
pub struct ServerCertificate {
    chain: Vec<CertificateDer<'static>>,
    chain_pem: String,
    key: Arc<KeyPair>,
}

impl std::fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerCertificate").finish_non_exhaustive()
    }
}

impl ServerCertificate {
    /// The server's certificate and its authority's, for servers that read files.
    #[must_use]
    pub fn chain_pem(&self) -> &str {
        &self.chain_pem
    }

    /// The private key, for servers that read files.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// TLS 1.2 and 1.3 with this certificate, whatever name the client sends, as IIS on 4443.
    pub(super) fn acceptor(&self) -> Result<TlsAcceptor, CertificateError> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .and_then(|builder| {
                    builder
                        .with_no_client_auth()
                        .with_single_cert(self.chain.clone(), key)
                })
                .map_err(CertificateError::Use)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn params_for(
    names: &[String],
    subject: &str,
    until: SystemTime,
) -> Result<CertificateParams, CertificateError> {
    let mut params = CertificateParams::new(names).map_err(CertificateError::Make)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    params.not_before = (SystemTime::now().min(until) - BACKDATED).into();
    params.not_after = until.into();
    Ok(params)
}
