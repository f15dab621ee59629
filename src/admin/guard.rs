//! Who may ask the admin listener.
//!
//! Owns the token and the two rules against browsers that are led astray: by a name that is made to resolve to us (DNS
//! rebinding), and by a page of another site. Knows no endpoint but whether it is open. Invariant: the token is
//! compared in a time that does not depend on where it differs, and is never shown.

use std::fmt;
use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, ORIGIN};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{Method, Version};

/// The largest token file that is read.
const MAX_TOKEN: usize = 4096;

/// The secret that an administrator shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// Why there is no token.
#[derive(Debug)]
pub enum TokenError {
    /// The file cannot be read.
    Read(PathBuf, io::Error),
    /// It holds nothing but white space.
    Empty(PathBuf),
    /// It holds more than a token, or characters that no header can carry.
    Unsound(PathBuf),
}

impl Token {
    /// The token that a file holds, without the white space around it.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or holds no token.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let mut bytes = Vec::new();
        let bound = MAX_TOKEN as u64 + 1;
        File::open(path)
            .and_then(|file| file.take(bound).read_to_end(&mut bytes))
            .map_err(|error| TokenError::Read(path.into(), error))?;
        let token = bytes.trim_ascii();
        if token.is_empty() {
            return Err(TokenError::Empty(path.into()));
        }
        match str::from_utf8(token) {
            Ok(text) if bytes.len() <= MAX_TOKEN && token.iter().all(u8::is_ascii_graphic) => {
                Ok(Self(text.to_owned()))
            }
            Ok(_) | Err(_) => Err(TokenError::Unsound(path.into())),
        }
    }

    /// The value of the `Authorization` header that shows it (RFC 6750, section 2.1).
    pub(super) fn authorization(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Whether the request shows this token, once.
    pub(super) fn is_shown_in(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return false;
        };
        // The scheme's case does not count (RFC 9110, section 11.1).
        let Some((scheme, shown)) = value.as_bytes().split_at_checked(7) else {
            return false;
        };
        scheme.eq_ignore_ascii_case(b"bearer ") && same(shown.trim_ascii(), self.0.as_bytes())
    }
}

/// Looks at every byte, whatever the first ones are. The length is no secret.
fn same(shown: &[u8], secret: &[u8]) -> bool {
    if shown.len() != secret.len() {
        return false;
    }
    let differ = |sum: u8, (a, b): (&u8, &u8)| black_box(sum | (a ^ b));
    shown.iter().zip(secret).fold(0, differ) == 0
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, _) => write!(f, "the token file {} cannot be read", path.display()),
            Self::Empty(path) => write!(f, "the token file {} is empty", path.display()),
            Self::Unsound(path) => write!(
                f,
                "the token file {} holds more than one word of ASCII",
                path.display()
            ),
        }
    }
}

impl std::error::Error for TokenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(_, error) => Some(error),
            Self::Empty(_) | Self::Unsound(_) => None,
        }
    }
}

/// From where the listener can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// By those whom the file's mode lets in. No browser is among them.
    UnixSocket,
    /// From this machine.
    Loopback,
    /// From other machines.
    Network,
}

/// Whether an endpoint asks for the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody may ask.
    Open,
    /// The token, where one is set.
    Guarded,
}

/// What is wrong with the Host of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostFault {
    /// It has to name one host and does not (RFC 9112, section 3.2).
    Missing,
    /// It names another host.
    Foreign,
}

/// Whether the request means this listener, by every host that it names.
///
/// A page whose name was made to resolve to us sends that name; it cannot send an address. Probes that are bound to the
/// network answer to any name, because Prometheus and Kubernetes ask them by the names that machines have.
pub(super) fn check_host(parts: &Parts, reach: Reach, access: Access) -> Result<(), HostFault> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Some(host.to_str().map_err(|_| HostFault::Foreign)?),
        (None, _) if parts.version < Version::HTTP_11 => None,
        (None | Some(_), _) => return Err(HostFault::Missing),
    };
    let target = parts.uri.authority().map(Authority::as_str);
    if reach == Reach::UnixSocket || (reach == Reach::Network && access == Access::Open) {
        return Ok(());
    }
    let foreign = |host: &str| !is_ours(host, reach);
    if host.is_some_and(foreign) || target.is_some_and(foreign) {
        return Err(HostFault::Foreign);
    }
    Ok(())
}

/// Whether `host`, with or without a port, can only be us.
fn is_ours(host: &str, reach: Reach) -> bool {
    let name = match host.rsplit_once(':') {
        // The colon is inside an address without a port.
        Some((_, port)) if port.ends_with(']') => host,
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) => return false,
        None => host,
    };
    if let Some(inner) = name.strip_prefix('[') {
        let address = inner.strip_suffix(']').unwrap_or_default();
        return address.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6());
    }
    if name.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4()) {
        return true;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || (reach == Reach::Network && is_this_machine(name))
}

/// Whether `name` is this machine's, with or without a domain. Only for listeners that ask for a token: a domain can be
/// anybody's.
fn is_this_machine(name: &str) -> bool {
    let system = rustix::system::uname();
    let own = system.nodename().to_string_lossy();
    let first = name.split('.').next().unwrap_or_default();
    !own.is_empty() && (name.eq_ignore_ascii_case(&own) || first.eq_ignore_ascii_case(&own))
}

/// Whether a page of another site sends this change. What is no browser sends neither header.
///
/// `Sec-Fetch-Site` decides where it is sent (W3C Fetch Metadata, section 2.4), else `Origin` has to name this host
/// (RFC 6454, section 7).
pub(super) fn is_cross_site(parts: &Parts) -> bool {
    const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    if matches!(parts.method, Method::GET | Method::HEAD) {
        return false;
    }
    if let Some(site) = parts.headers.get(SEC_FETCH_SITE) {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = parts.headers.get(ORIGIN) else {
        return false;
    };
    let from = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"));
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    !matches!((from, host), (Some((_, from)), Some(host)) if from.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn token(content: &[u8]) -> Result<Token, TokenError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, content).unwrap();
        Token::read(&path)
    }

    fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn white_space_around_a_token_is_not_part_of_it() {
        let token = token(b" s3cret\r\n").unwrap();
        assert_eq!(token.authorization(), "Bearer s3cret");
    }

    #[test]
    fn files_without_a_sound_token_are_refused() {
        assert!(matches!(token(b""), Err(TokenError::Empty(_))));
        assert!(matches!(token(b" \n"), Err(TokenError::Empty(_))));
        for unsound in [&b"two words"[..], b"a\nb", b"\xff", &[b'x'; 4097]] {
            assert!(matches!(token(unsound), Err(TokenError::Unsound(_))));
        }
        let missing = Token::read(Path::new("/nonexistent/token"));
        assert!(matches!(missing, Err(TokenError::Read(..))));
    }

    #[test]
    fn only_the_whole_token_is_taken() {
        let token = token(b"s3cret").unwrap();
        let shows = |value: &str| {
            token.is_shown_in(&request("GET", "/", &[("authorization", value)]).headers)
        };
        assert!(shows("Bearer s3cret") && shows("bearer s3cret"));
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer s3cre",
            "Bearer s3crets",
            "Basic s3cret",
            "s3cret",
            "Bearer S3cret",
        ] {
            assert!(!shows(wrong), "{wrong}");
        }
        let twice = [
            ("authorization", "Bearer s3cret"),
            ("authorization", "Bearer x"),
        ];
        assert!(!token.is_shown_in(&request("GET", "/", &twice).headers));
    }

    #[track_caller]
    fn check(host: &str, reach: Reach, access: Access, expected: Result<(), HostFault>) {
        let parts = request("GET", "/", &[("host", host)]);
        assert_eq!(check_host(&parts, reach, access), expected, "{host}");
    }

    #[test]
    fn loopback_answers_to_addresses_and_localhost() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:9900",
            "10.0.0.1",
            "[::1]",
            "[::1]:9900",
            "localhost",
            "LOCALHOST:1",
            "localhost.",
        ] {
            check(host, Reach::Loopback, Access::Guarded, Ok(()));
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1:x",
            "[::1",
            "[10.0.0.1]",
            "a:b:1",
            "::1",
        ] {
            check(
                host,
                Reach::Loopback,
                Access::Guarded,
                Err(HostFault::Foreign),
            );
            check(host, Reach::Loopback, Access::Open, Err(HostFault::Foreign));
            check(host, Reach::UnixSocket, Access::Guarded, Ok(()));
        }
    }

    #[test]
    fn the_network_may_use_this_machines_name_and_any_for_probes() {
        let own = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        check(&own, Reach::Network, Access::Guarded, Ok(()));
        check(
            &format!("{own}:9900"),
            Reach::Network,
            Access::Guarded,
            Ok(()),
        );
        check(
            &own,
            Reach::Loopback,
            Access::Guarded,
            Err(HostFault::Foreign),
        );
        check(
            "evil.example",
            Reach::Network,
            Access::Guarded,
            Err(HostFault::Foreign),
        );
        check("lb.contoso.com", Reach::Network, Access::Open, Ok(()));
    }

    #[test]
    fn a_request_names_one_host() {
        let host = |target, headers: &[(&str, &str)], version| {
            let mut parts = request("GET", target, headers);
            parts.version = version;
            check_host(&parts, Reach::Loopback, Access::Guarded)
        };
        let twice = [("host", "localhost"), ("host", "localhost")];
        assert_eq!(host("/", &[], Version::HTTP_11), Err(HostFault::Missing));
        assert_eq!(host("/", &[], Version::HTTP_10), Ok(()));
        assert_eq!(host("/", &twice, Version::HTTP_11), Err(HostFault::Missing));
        let ours = [("host", "localhost")];
        assert_eq!(
            host("http://evil.example/", &ours, Version::HTTP_11),
            Err(HostFault::Foreign)
        );
    }

    #[test]
    fn changes_from_other_sites_are_told_by_their_headers() {
        let cross = |method, headers: &[(&str, &str)]| {
            let mut all = vec![("host", "127.0.0.1:9900")];
            all.extend(headers);
            is_cross_site(&request(method, "/", &all))
        };
        assert!(!cross("PUT", &[]));
        assert!(!cross("PUT", &[("origin", "http://127.0.0.1:9900")]));
        assert!(!cross("PUT", &[("sec-fetch-site", "same-origin")]));
        assert!(!cross("GET", &[("sec-fetch-site", "cross-site")]));
        assert!(cross("PUT", &[("origin", "http://evil.example")]));
        assert!(cross("POST", &[("origin", "null")]));
        assert!(cross("POST", &[("origin", "http://127.0.0.1:80")]));
        assert!(cross("DELETE", &[("sec-fetch-site", "cross-site")]));
        assert!(cross(
            "PUT",
            &[
                ("sec-fetch-site", "same-site"),
                ("origin", "http://127.0.0.1:9900")
            ]
        ));
    }
}
