//! Which requests of browsers an admin listener accepts.
//!
//! Owns the two rules that protect it from other sites: against names that were made to resolve to this address (DNS
//! rebinding), and against changes by a page of another site (CSRF). Must not know endpoints. Invariant: a host is foreign
//! unless it is certainly this listener's.

use std::net::IpAddr;

use hyper::header::{HOST, HeaderName, ORIGIN};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{Method, Version};

use crate::types::host_name::HostName;

/// Where clients of a listener can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exposure {
    /// On this machine, where the mode of the file allows it. Browsers cannot connect.
    UnixSocket,
    /// On this machine.
    Loopback,
    /// On other machines, too.
    Network,
}

/// Who may use an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everyone.
    Open,
    /// Clients that have the token, where one is set.
    Guarded,
}

/// Why the host of a request is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostError {
    /// The request does not name exactly one host (RFC 9112, section 3.2).
    Missing,
    /// The host is not this listener's.
    Foreign,
}

/// Checks that every host that the request names is this listener's.
///
/// A page whose name was made to resolve to this address sends that name; it cannot send an address. Open endpoints on the
/// network accept any name, because Prometheus and Kubernetes use the names that machines have.
pub(super) fn check_host(
    parts: &Parts,
    exposure: Exposure,
    access: Access,
    known: &[HostName],
) -> Result<(), HostError> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Some(host.to_str().map_err(|_| HostError::Foreign)?),
        (None, _) if parts.version < Version::HTTP_11 => None,
        (None | Some(_), _) => return Err(HostError::Missing),
    };
    let target = parts.uri.authority().map(Authority::as_str);
    if exposure == Exposure::UnixSocket || (exposure == Exposure::Network && access == Access::Open)
    {
        return Ok(());
    }
    let foreign = |host: &str| !is_ours(host, exposure, known);
    if host.is_some_and(foreign) || target.is_some_and(foreign) {
        return Err(HostError::Foreign);
    }
    Ok(())
}

/// Whether `host`, with or without a port, can only be this listener, or is one of the names in the configuration.
fn is_ours(host: &str, exposure: Exposure, known: &[HostName]) -> bool {
    let name = match host.rsplit_once(':') {
        // The colon belongs to an address without a port.
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
    if known
        .iter()
        .any(|known| known.as_str().eq_ignore_ascii_case(name))
    {
        return true;
    }
    name.eq_ignore_ascii_case("localhost")
        || (exposure == Exposure::Network && is_this_machine(name))
}

/// Whether `name` is this machine's, with or without a domain. For listeners with a token only: the domain can be anyone's.
fn is_this_machine(name: &str) -> bool {
    let system = rustix::system::uname();
    let own = system.nodename().to_string_lossy();
    let first = name.split('.').next().unwrap_or_default();
    !own.is_empty() && (name.eq_ignore_ascii_case(&own) || first.eq_ignore_ascii_case(&own))
}

/// Whether a page of another site sends this change. Clients other than browsers send neither header.
///
/// `Sec-Fetch-Site` decides if it is present (W3C Fetch Metadata, section 2.4), otherwise `Origin` has to name this
/// host (RFC 6454, section 7).
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
    let origin = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"));
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    !matches!((origin, host), (Some((_, origin)), Some(host)) if origin.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[track_caller]
    fn check(host: &str, exposure: Exposure, access: Access, expected: Result<(), HostError>) {
        let parts = request("GET", "/", &[("host", host)]);
        assert_eq!(
            check_host(&parts, exposure, access, &[]),
            expected,
            "{host}"
        );
    }

    #[test]
    fn loopback_accepts_addresses_and_localhost() {
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
            check(host, Exposure::Loopback, Access::Guarded, Ok(()));
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
                Exposure::Loopback,
                Access::Guarded,
                Err(HostError::Foreign),
            );
            check(
                host,
                Exposure::Loopback,
                Access::Open,
                Err(HostError::Foreign),
            );
            check(host, Exposure::UnixSocket, Access::Guarded, Ok(()));
        }
    }

    #[test]
    fn the_network_accepts_the_name_of_this_machine_and_for_probes_any_name() {
        let own = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        check(&own, Exposure::Network, Access::Guarded, Ok(()));
        check(
            &format!("{own}:9900"),
            Exposure::Network,
            Access::Guarded,
            Ok(()),
        );
        check(
            &own,
            Exposure::Loopback,
            Access::Guarded,
            Err(HostError::Foreign),
        );
        check(
            "evil.example",
            Exposure::Network,
            Access::Guarded,
            Err(HostError::Foreign),
        );
        check("lb.contoso.com", Exposure::Network, Access::Open, Ok(()));
    }

    #[test]
    fn names_in_the_configuration_are_accepted_wherever_it_is_bound() {
        let known = [HostName::parse(b"lb.contoso.com").unwrap()];
        for exposure in [Exposure::Loopback, Exposure::Network] {
            for (host, expected) in [
                ("lb.contoso.com", Ok(())),
                ("LB.Contoso.com.:9900", Ok(())),
                ("localhost", Ok(())),
                ("lb.contoso.com.evil.example", Err(HostError::Foreign)),
                ("evil.lb.contoso.com", Err(HostError::Foreign)),
                ("lb.contoso.com@evil.example", Err(HostError::Foreign)),
                ("contoso.com", Err(HostError::Foreign)),
                ("", Err(HostError::Foreign)),
            ] {
                let parts = request("GET", "/", &[("host", host)]);
                let checked = check_host(&parts, exposure, Access::Guarded, &known);
                assert_eq!(checked, expected, "{host}");
            }
        }
    }

    #[test]
    fn a_request_names_one_host() {
        let host = |target, headers: &[(&str, &str)], version| {
            let mut parts = request("GET", target, headers);
            parts.version = version;
            check_host(&parts, Exposure::Loopback, Access::Guarded, &[])
        };
        let twice = [("host", "localhost"), ("host", "localhost")];
        assert_eq!(host("/", &[], Version::HTTP_11), Err(HostError::Missing));
        assert_eq!(host("/", &[], Version::HTTP_10), Ok(()));
        assert_eq!(host("/", &twice, Version::HTTP_11), Err(HostError::Missing));
        let ours = [("host", "localhost")];
        assert_eq!(
            host("http://evil.example/", &ours, Version::HTTP_11),
            Err(HostError::Foreign)
        );
    }

    #[test]
    fn changes_from_other_sites_are_recognised_by_their_headers() {
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
