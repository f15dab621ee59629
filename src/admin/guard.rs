//! Who may ask the admin listener.
//!
//! Owns the two rules against browsers that are led astray: by a name that is made to resolve to us (DNS rebinding), and
//! by a page of another site. Knows no endpoint but whether it is open. Invariant: what cannot be told to be ours is
//! foreign.

use std::net::IpAddr;

use hyper::header::{HOST, HeaderName, ORIGIN};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{Method, Version};

use crate::types::host_name::HostName;

/// From where the listener can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exposure {
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
pub(super) fn check_host(
    parts: &Parts,
    reach: Exposure,
    access: Access,
    further: &[HostName],
) -> Result<(), HostFault> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Some(host.to_str().map_err(|_| HostFault::Foreign)?),
        (None, _) if parts.version < Version::HTTP_11 => None,
        (None | Some(_), _) => return Err(HostFault::Missing),
    };
    let target = parts.uri.authority().map(Authority::as_str);
    if reach == Exposure::UnixSocket || (reach == Exposure::Network && access == Access::Open) {
        return Ok(());
    }
    let foreign = |host: &str| !is_ours(host, reach, further);
    if host.is_some_and(foreign) || target.is_some_and(foreign) {
        return Err(HostFault::Foreign);
    }
    Ok(())
}

/// Whether `host`, with or without a port, can only be us, or is one of the names that the configuration adds.
fn is_ours(host: &str, reach: Exposure, further: &[HostName]) -> bool {
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
    if further
        .iter()
        .any(|known| known.as_str().eq_ignore_ascii_case(name))
    {
        return true;
    }
    name.eq_ignore_ascii_case("localhost") || (reach == Exposure::Network && is_this_machine(name))
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

    fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[track_caller]
    fn check(host: &str, reach: Exposure, access: Access, expected: Result<(), HostFault>) {
        let parts = request("GET", "/", &[("host", host)]);
        assert_eq!(check_host(&parts, reach, access, &[]), expected, "{host}");
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
                Err(HostFault::Foreign),
            );
            check(
                host,
                Exposure::Loopback,
                Access::Open,
                Err(HostFault::Foreign),
            );
            check(host, Exposure::UnixSocket, Access::Guarded, Ok(()));
        }
    }

    #[test]
    fn the_network_may_use_this_machines_name_and_any_for_probes() {
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
            Err(HostFault::Foreign),
        );
        check(
            "evil.example",
            Exposure::Network,
            Access::Guarded,
            Err(HostFault::Foreign),
        );
        check("lb.contoso.com", Exposure::Network, Access::Open, Ok(()));
    }

    #[test]
    fn names_of_the_configuration_are_ours_wherever_it_is_bound() {
        let further = [HostName::parse(b"lb.contoso.com").unwrap()];
        for reach in [Exposure::Loopback, Exposure::Network] {
            for (host, expected) in [
                ("lb.contoso.com", Ok(())),
                ("LB.Contoso.com.:9900", Ok(())),
                ("localhost", Ok(())),
                ("lb.contoso.com.evil.example", Err(HostFault::Foreign)),
                ("evil.lb.contoso.com", Err(HostFault::Foreign)),
                ("lb.contoso.com@evil.example", Err(HostFault::Foreign)),
                ("contoso.com", Err(HostFault::Foreign)),
                ("", Err(HostFault::Foreign)),
            ] {
                let parts = request("GET", "/", &[("host", host)]);
                let checked = check_host(&parts, reach, Access::Guarded, &further);
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
