//! Owns the ClientHello of a `tls` check: every server since Windows XP responds to it with its certificate.
//!
//! Must not know who sends it. Invariant: it offers at most TLS 1.2, so that the certificate is unencrypted. No handshake is
//! ever completed with it, so its weak suites do no harm.

use crate::protocol::tls::client_hello::ProtocolVersion;
use crate::types::host_name::HostName;

/// Suites by their numbers in the IANA registry, the best first. Some old servers support only RSA key exchange with AES-CBC,
/// 3DES and RC4.
const SUITES: &[u16] = &[
    0xc02f, 0xc02b, 0xc030, 0xc02c, // ECDHE, AES-GCM
    0xcca8, 0xcca9, // ECDHE, ChaCha20
    0x009e, 0x009f, 0xccaa, // DHE
    0xc027, 0xc023, 0xc028, 0xc024, // ECDHE, AES-CBC, SHA-2
    0xc013, 0xc009, 0xc014, 0xc00a, // ECDHE, AES-CBC, SHA-1
    0x0067, 0x006b, 0x0033, 0x0039, 0x0032, 0x0038, // DHE, AES-CBC
    0x009c, 0x009d, 0x003c, 0x003d, 0x002f, 0x0035, // RSA, AES
    0xc012, 0xc008, 0x0016, 0x0013, 0x000a, // 3DES
    0x0005, 0x0004, // RC4
    0x00ff, // no renegotiation, as a suite for servers that fail on extensions (RFC 5746 section 3.3)
];

/// Curves by their numbers: x25519, P-256, P-384, P-521.
const GROUPS: &[u16] = &[0x001d, 0x0017, 0x0018, 0x0019];

/// Signature algorithms: ECDSA, RSA-PSS, RSA, EdDSA, and SHA-1 for old servers.
const SIGNATURES: &[u16] = &[
    0x0403, 0x0503, 0x0603, 0x0807, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601, 0x0203, 0x0201,
    0x0202,
];

/// Extension types (RFC 6066, RFC 8422, RFC 5246, RFC 7627).
mod extension {
    pub(super) const SERVER_NAME: u16 = 0;
    pub(super) const SUPPORTED_GROUPS: u16 = 10;
    pub(super) const EC_POINT_FORMATS: u16 = 11;
    pub(super) const SIGNATURE_ALGORITHMS: u16 = 13;
    pub(super) const EXTENDED_MASTER_SECRET: u16 = 23;
}

/// The record to send: a ClientHello for up to TLS 1.2 that requests `name`, if any.
#[must_use]
pub fn client_hello(name: Option<&HostName>, random: &[u8; 32]) -> Vec<u8> {
    let mut body = ProtocolVersion::TLS1_2.0.to_be_bytes().to_vec();
    body.extend_from_slice(random);
    body.push(0); // no session to resume
    body.extend(vector::<2>(&numbers(SUITES)));
    body.extend([1, 0]); // no compression
    body.extend(vector::<2>(&extensions(name)));
    let mut message = vec![1]; // client_hello
    message.extend(vector::<3>(&body));
    let mut record = vec![22]; // handshake
    // The lowest supported version: old servers reject a record version above their own (RFC 5246 appendix E.1).
    record.extend(ProtocolVersion::TLS1_0.0.to_be_bytes());
    record.extend(vector::<2>(&message));
    record
}

fn extensions(name: Option<&HostName>) -> Vec<u8> {
    let mut extensions = Vec::new();
    if let Some(name) = name {
        let mut entry = vec![0]; // host_name
        entry.extend(vector::<2>(name.as_str().as_bytes()));
        extensions.extend(extension(extension::SERVER_NAME, &vector::<2>(&entry)));
    }
    let groups = vector::<2>(&numbers(GROUPS));
    let signatures = vector::<2>(&numbers(SIGNATURES));
    extensions.extend(extension(extension::SUPPORTED_GROUPS, &groups));
    extensions.extend(extension(extension::EC_POINT_FORMATS, &[1, 0])); // uncompressed
    extensions.extend(extension(extension::SIGNATURE_ALGORITHMS, &signatures));
    extensions.extend(extension(extension::EXTENDED_MASTER_SECRET, &[]));
    extensions
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    let mut extension = kind.to_be_bytes().to_vec();
    extension.extend(vector::<2>(content));
    extension
}

fn numbers(numbers: &[u16]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_be_bytes())
        .collect()
}

/// A vector with a length of `LEN` bytes (RFC 5246 section 4.3). The longest here is the hello, far below 2^16: a name has at
/// most 253 bytes.
fn vector<const LEN: usize>(content: &[u8]) -> Vec<u8> {
    let len = content.len().to_be_bytes();
    let mut vector = len[len.len() - LEN..].to_vec();
    vector.extend_from_slice(content);
    vector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: Option<&str>) {
        let configured = name.map(|name| HostName::parse(name.as_bytes()).unwrap());
        let hello = client_hello(configured.as_ref(), &[7; 32]);
        let mut acceptor = rustls::server::Acceptor::default();
        acceptor.read_tls(&mut hello.as_slice()).unwrap();
        let accepted = acceptor.accept().unwrap().expect("the hello is whole");
        let seen = accepted.client_hello();
        assert_eq!(seen.server_name(), name);
        assert_eq!(seen.cipher_suites().len(), SUITES.len());
        assert_eq!(seen.signature_schemes().len(), SIGNATURES.len());
    }

    #[test]
    fn another_implementation_accepts_the_hello() {
        check(Some("lyncdiscover.contoso.com"));
        check(Some(&format!("{}.{}", "a".repeat(63), "b".repeat(63))));
        check(None);
    }

    #[test]
    fn a_hello_without_a_name_avoids_the_length_range_that_hangs_old_devices() {
        // Some terminators hang on hellos of 256 to 511 bytes (RFC 7685 section 1).
        let hello = client_hello(None, &[0; 32]);
        assert!(hello.len() - 5 < 256, "{}", hello.len());
        assert_eq!(hello[..3], [22, 3, 1]);
        assert_eq!(hello[9..11], [3, 3]);
    }
}
