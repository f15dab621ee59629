//! `lync`: the short form for a pool of Lync or Skype for Business Front Ends.
//!
//! Owns its keys. Must not know what it expands to, except for the ports and the name prefix of its defaults. Invariant:
//! a parsed short form expands without an error.

pub(super) mod expansion;
pub(super) mod front_end;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use self::front_end::{BACKUP_FRONT_ENDS, FRONT_ENDS, FrontEndSettings};
use super::format::{Custom, HostNameFormat, Port, Text};
use super::mapping::{Mapping, MappingKey::Special};
use super::section::{Section, SectionEntry};
use crate::config::bind_overlap::Binds;
use crate::config::diagnostics::{Diagnostic, Diagnostics, FileLocation};
use crate::config::scalar;
use crate::config::source::location::Located;
use crate::config::source::tree::Scalar;
use crate::types::host_name::HostName;

/// The keys of `lync`.
pub(crate) static LYNC: Mapping = Mapping {
    path: "lync",
    keys: &[
        Special("sip_domains"),
        Special("external_web_fqdn"),
        Special("simple_urls"),
        Special("front_ends"),
        Special("listen"),
        Special("backup_front_ends"),
        Special("ports"),
    ],
};

/// The keys of `ports`.
pub(crate) static PORTS: Mapping = Mapping {
    path: "lync.ports",
    keys: &[
        Special("https"),
        Special("http"),
        Special("https_direct"),
        Special("http_direct"),
    ],
};

/// The port of the web site External Web over TLS.
const HTTPS: u16 = 4443;
/// The port of External Web without TLS.
const HTTP: u16 = 8080;
/// The port of SIP, which decides whether a Front End gets web traffic.
const SIP: u16 = 5061;

/// The prefix under which clients look up the web services of a SIP domain.
const LYNCDISCOVER: &str = "lyncdiscover.";

const SIMPLE_URLS: Text<HostName> = Text {
    expects: "host names",
    parse: scalar::host_name,
};
const ADDRESSES: Text<IpAddr> = Text {
    expects: "addresses such as `0.0.0.0` or `[::]`",
    parse: scalar::listen_address,
};

/// The short form as parsed, valid by itself.
#[derive(Debug, Clone)]
pub(crate) struct ParsedLync {
    /// The location of `lync`.
    pub at: FileLocation,
    /// `lyncdiscover.` in each SIP domain, at the location of the domain.
    pub lyncdiscover: Vec<Located<HostName>>,
    /// The external web FQDN.
    pub external_web_fqdn: Located<HostName>,
    /// meet, dialin and the like.
    pub simple_urls: Vec<Located<HostName>>,
    /// At least one; their names are unique.
    pub front_ends: Vec<FrontEndSettings>,
    /// Those of the paired pool.
    pub backup_front_ends: Vec<FrontEndSettings>,
    /// The addresses of the VIP; they do not overlap.
    pub listen: Vec<IpAddr>,
    /// The ports on which clients connect, all different.
    pub ports: LyncPorts,
}

impl ParsedLync {
    /// Every name that is routed.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Located<HostName>> {
        let external = std::iter::once(&self.external_web_fqdn);
        self.lyncdiscover
            .iter()
            .chain(external)
            .chain(&self.simple_urls)
    }
}

/// The ports on which clients connect.
#[derive(Debug, Clone)]
pub(crate) struct LyncPorts {
    /// 443: clients.
    pub https: Located<u16>,
    /// 80: clients that start without TLS.
    pub http: Located<u16>,
    /// 4443: Front Ends of other pools.
    pub https_direct: Located<u16>,
    /// 8080: phones that download root certificates.
    pub http_direct: Located<u16>,
}

impl LyncPorts {
    /// The ports of Microsoft's table, at the location of `lync`.
    fn default(at: FileLocation) -> Self {
        let port = |number| Located::new(number, at);
        Self {
            https: port(443),
            http: port(80),
            https_direct: port(HTTPS),
            http_direct: port(HTTP),
        }
    }
}

/// Parses the short form; `None` if it has an error, so that its expansion does not repeat the error.
pub(super) fn parse(entry: SectionEntry<'_>, diagnostics: &mut Diagnostics) -> Option<ParsedLync> {
    let before = diagnostics.errors.len();
    let section = LYNC.open(entry.node, "`lync`", entry.at, diagnostics);
    for key in ["sip_domains", "external_web_fqdn", "front_ends"] {
        section.require(key, diagnostics);
    }
    let sip_domains = sip_domains(&section, diagnostics);
    let external = section.optional("external_web_fqdn", &HostNameFormat, diagnostics);
    let simple_urls = section.list("simple_urls", &SIMPLE_URLS, diagnostics);
    let listen = listen(&section, diagnostics);
    let front_ends = front_end::parse_list(&section, &FRONT_ENDS, diagnostics);
    let backup_front_ends = front_end::parse_list(&section, &BACKUP_FRONT_ENDS, diagnostics);
    let ports = ports(&section, entry, diagnostics);
    let lync = ParsedLync {
        at: entry.at,
        lyncdiscover: sip_domains.unwrap_or_default(),
        external_web_fqdn: external?,
        simple_urls: simple_urls.unwrap_or_default(),
        front_ends,
        backup_front_ends,
        listen: listen
            .unwrap_or_else(|| vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]),
        ports,
    };
    check_unique_names(&lync, diagnostics);
    (diagnostics.errors.len() == before).then_some(lync)
}

/// The Autodiscover name of each SIP domain.
fn sip_domains(
    section: &Section<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<Located<HostName>>> {
    let domains = Custom {
        expects: "SIP domains such as `contoso.com`".to_owned(),
        parse: |scalar: &Scalar| {
            let domain = scalar::host_name(&scalar.text)?;
            match domain.as_str().strip_prefix(LYNCDISCOVER) {
                Some(rest) => Err(Some(format!(
                    "write `{rest}`; `{LYNCDISCOVER}` is added automatically"
                ))),
                None => scalar::host_name(&format!("{LYNCDISCOVER}{domain}")),
            }
        },
    };
    section.non_empty_list("sip_domains", &domains, diagnostics)
}

/// Reports duplicate names, which would be routed twice.
fn check_unique_names(lync: &ParsedLync, diagnostics: &mut Diagnostics) {
    let mut seen = HashMap::new();
    for name in lync.names() {
        if let Some(first) = seen.insert(&name.value, name.at) {
            let message = format!("`{}` is routed twice", name.value);
            diagnostics.error(Diagnostic::new(name.at, message).hint(first.first_hint()));
        }
    }
}

fn listen(section: &Section<'_>, diagnostics: &mut Diagnostics) -> Option<Vec<IpAddr>> {
    let found = section.non_empty_list("listen", &ADDRESSES, diagnostics)?;
    let mut binds = Binds::default();
    for ip in &found {
        // All ports are bound to each address, so any port shows an overlap.
        if let Some(first) = binds.add(SocketAddr::new(ip.value, 1), ip.at, "") {
            let first = first.address.ip();
            let diagnostic = if first == ip.value {
                Diagnostic::new(ip.at, format!("`listen` has `{first}` twice"))
            } else {
                Diagnostic::new(ip.at, format!("`{}` overlaps `{first}`", ip.value))
                    .hint("the unspecified address includes all others of its family")
            };
            diagnostics.error(diagnostic);
        }
    }
    Some(found.into_iter().map(|found| found.value).collect())
}

fn ports(
    section: &Section<'_>,
    lync: SectionEntry<'_>,
    diagnostics: &mut Diagnostics,
) -> LyncPorts {
    let mut ports = LyncPorts::default(lync.at);
    let Some(section) = PORTS.open_key(section, "ports", diagnostics) else {
        return ports;
    };
    let mut seen = HashMap::new();
    for (key, port) in [
        ("https", &mut ports.https),
        ("http", &mut ports.http),
        ("https_direct", &mut ports.https_direct),
        ("http_direct", &mut ports.http_direct),
    ] {
        if let Some(found) = section.optional(key, &Port, diagnostics) {
            *port = found;
        }
        if let Some((other, other_at)) = seen.insert(port.value, (key, port.at)) {
            let message = format!("`{key}` and `{other}` are both port {}", port.value);
            // One of the two may be a default, which has no location of its own.
            let at = if port.at == lync.at {
                other_at
            } else {
                port.at
            };
            diagnostics.error(Diagnostic::new(at, message).hint("use a different port for each"));
        }
    }
    ports
}
