//! The line of a connection that has ended.
//!
//! Owns the names and the order of its fields; `docs/log.md` is tested against them. Must not know where the values come
//! from. Invariant: every line has every field, in the same order, however the connection ended.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use super::line::Line;
use crate::config::model::{ClientAddress, SourcePrefix};
use crate::protocol::tls::client_hello::ProtocolVersion;
use crate::types::outcome::Outcome;
use crate::types::timestamp::Timestamp;

/// The fields of an access line, in order.
pub const FIELDS: &[&str] = &[
    "time",
    "level",
    "target",
    "listener",
    "client",
    "name",
    "pool",
    "backend",
    "pick",
    "bytes_to_backend",
    "bytes_to_client",
    "hello_ms",
    "connect_ms",
    "duration_ms",
    "tls_offered",
    "tries",
    "outcome",
    "by",
    "phase",
    "detail",
    "unique_id",
];

/// The `target` of an access line.
pub const TARGET: &str = "access";

/// The prefix that counts as one client if there is no pool: an IPv4 address, an IPv6 /64.
const DEFAULT_PREFIX: SourcePrefix = SourcePrefix { ipv4: 32, ipv6: 64 };

/// A connection that has ended.
#[derive(Debug, Clone, Copy)]
pub struct AccessRecord<'a> {
    /// When it ended.
    pub time: SystemTime,
    /// The listener.
    pub listener: &'a str,
    /// The client: the address of the socket, or the one in a PROXY header.
    pub client: SocketAddr,
    /// The affinity prefix of its pool; `None` without a pool.
    pub prefix: Option<SourcePrefix>,
    /// The requested name, as sent; `None` if there was none, or none that could be read.
    pub name: Option<&'a [u8]>,
    /// The pool of its route.
    pub pool: Option<&'a str>,
    /// The backend that it was connected to, or the last one tried.
    pub backend: Option<&'a str>,
    /// Why this backend, as one word.
    pub pick: Option<&'static str>,
    /// Bytes from the client that reached the backend's socket, the hello included.
    pub bytes_to_backend: u64,
    /// Bytes from the backend that reached the client's socket.
    pub bytes_to_client: u64,
    /// Time from accept to the end of the ClientHello or of the request's head.
    pub hello: Option<Duration>,
    /// Time from the first attempt to connect until a backend accepted.
    pub connect: Option<Duration>,
    /// Time from accept to the end.
    pub duration: Duration,
    /// The highest TLS version that the client offered.
    pub tls_offered: Option<ProtocolVersion>,
    /// Number of attempts to connect to a backend.
    pub tries: u32,
    /// How it ended; includes who ended it, and in which phase.
    pub outcome: Outcome,
    /// Why it was rejected, beyond the outcome.
    pub detail: Option<&'a str>,
    /// The identifier that the backend got in a PROXY header.
    pub unique_id: Option<Uuid>,
}

impl AccessRecord<'_> {
    pub(super) fn write(&self, client_address: ClientAddress, line: &mut Line<'_>) {
        line.plain("time", &Timestamp(self.time).ascii());
        line.plain("level", b"info");
        line.plain("target", TARGET.as_bytes());
        line.text("listener", self.listener);
        let client = self.shown_client(client_address);
        line.displayed("client", format_args!("{client}"));
        match self.name {
            Some(name) => line.foreign("name", name),
            None => line.absent("name"),
        }
        optional(line, "pool", self.pool);
        optional(line, "backend", self.backend);
        optional(line, "pick", self.pick);
        line.number("bytes_to_backend", self.bytes_to_backend);
        line.number("bytes_to_client", self.bytes_to_client);
        duration(line, "hello_ms", self.hello);
        duration(line, "connect_ms", self.connect);
        duration(line, "duration_ms", Some(self.duration));
        optional(line, "tls_offered", self.tls_offered.map(version));
        line.number("tries", self.tries.into());
        line.plain("outcome", self.outcome.as_str().as_bytes());
        line.plain("by", self.outcome.by().as_str().as_bytes());
        line.plain("phase", self.outcome.phase().as_str().as_bytes());
        optional(line, "detail", self.detail);
        match self.unique_id {
            Some(id) => line.displayed("unique_id", format_args!("{id}")),
            None => line.absent("unique_id"),
        }
    }

    /// The client, as much of it as may be logged.
    pub(super) fn shown_client(&self, client_address: ClientAddress) -> ShownClient {
        match client_address {
            ClientAddress::Full => ShownClient::Full(self.client),
            ClientAddress::Prefix => {
                let prefix = self.prefix.unwrap_or(DEFAULT_PREFIX);
                let (network, length) = network(self.client.ip(), prefix);
                ShownClient::Prefix(network, length)
            }
        }
    }
}

/// A client, as much of it as may be logged.
pub(super) enum ShownClient {
    Full(SocketAddr),
    Prefix(IpAddr, u8),
}

impl fmt::Display for ShownClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(client) => client.fmt(f),
            Self::Prefix(network, length) => write!(f, "{network}/{length}"),
        }
    }
}

/// The network of `source` with this prefix, and the length of the prefix.
fn network(source: IpAddr, prefix: SourcePrefix) -> (IpAddr, u8) {
    match source {
        IpAddr::V4(source) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.ipv4.min(32)));
            let bits = source.to_bits() & mask.unwrap_or(0);
            (IpAddr::V4(bits.into()), prefix.ipv4)
        }
        IpAddr::V6(source) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.ipv6.min(128)));
            let bits = source.to_bits() & mask.unwrap_or(0);
            (IpAddr::V6(bits.into()), prefix.ipv6)
        }
    }
}

fn optional(line: &mut Line<'_>, key: &str, value: Option<&str>) {
    match value {
        Some(value) => line.text(key, value),
        None => line.absent(key),
    }
}

/// A version as OpenSSL, HAProxy and nginx write it: one word.
fn version(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::SSL2 => "SSLv2",
        ProtocolVersion::SSL3 => "SSLv3",
        ProtocolVersion::TLS1_0 => "TLSv1.0",
        ProtocolVersion::TLS1_1 => "TLSv1.1",
        ProtocolVersion::TLS1_2 => "TLSv1.2",
        ProtocolVersion::TLS1_3 => "TLSv1.3",
        _ => "unknown",
    }
}

fn duration(line: &mut Line<'_>, key: &str, value: Option<Duration>) {
    match value {
        Some(value) => line.milliseconds(key, value),
        None => line.absent(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::LogFormat;

    fn record() -> AccessRecord<'static> {
        AccessRecord {
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_433_367_042),
            listener: "https",
            client: "192.0.2.77:50123".parse().unwrap(),
            prefix: Some(SourcePrefix { ipv4: 24, ipv6: 56 }),
            name: Some(b"LyncWeb.contoso.com"),
            pool: Some("external-web"),
            backend: Some("fe01"),
            pick: Some("pinned"),
            bytes_to_backend: 517,
            bytes_to_client: 123_456,
            hello: Some(Duration::from_micros(1_234)),
            connect: Some(Duration::from_micros(456)),
            duration: Duration::from_millis(180_000),
            tls_offered: Some(ProtocolVersion::TLS1_3),
            tries: 1,
            outcome: Outcome::ClientClosed,
            detail: None,
            unique_id: None,
        }
    }

    fn line(record: &AccessRecord<'_>, format: LogFormat, address: ClientAddress) -> String {
        let mut out = Vec::new();
        let mut line = Line::begin(format, &mut out);
        record.write(address, &mut line);
        line.end();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_is_key_value_pairs() {
        assert_eq!(
            line(&record(), LogFormat::Text, ClientAddress::Full),
            "time=2026-11-23T11:29:27.042Z level=info target=access listener=https \
             client=192.0.2.77:50123 name=\"LyncWeb.contoso.com\" pool=external-web backend=fe01 \
             pick=pinned bytes_to_backend=517 bytes_to_client=123456 hello_ms=1.234 connect_ms=0.456 \
             duration_ms=180000.000 tls_offered=TLSv1.3 tries=1 outcome=client_closed by=client phase=relay detail=- unique_id=-\n"
        );
    }

    #[test]
    fn json_has_the_same_fields_in_the_same_order() {
        let json = line(&record(), LogFormat::Json, ClientAddress::Full);
        let read: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&json).unwrap();
        assert_eq!(read.len(), FIELDS.len());
        let mut rest = json.as_str();
        for field in FIELDS {
            let position = rest.find(&format!("\"{field}\":")).expect(field);
            rest = &rest[position..];
        }
        assert_eq!(read["bytes_to_client"], 123_456);
        assert_eq!(read["duration_ms"], 180_000.0);
    }

    #[test]
    fn a_rejected_connection_has_every_field_too() {
        let rejected = AccessRecord {
            name: None,
            pool: None,
            backend: None,
            pick: None,
            hello: None,
            connect: None,
            tls_offered: None,
            outcome: Outcome::Denied,
            ..record()
        };
        let json = line(&rejected, LogFormat::Json, ClientAddress::Full);
        let read: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&json).unwrap();
        assert_eq!(read.len(), FIELDS.len());
        assert!(read["name"].is_null() && read["connect_ms"].is_null());
        let text = line(&rejected, LogFormat::Text, ClientAddress::Full);
        assert_eq!(text.split(' ').count(), FIELDS.len());
    }

    #[test]
    fn a_prefix_hides_the_rest_of_the_address() {
        let of = |client: &str, prefix| {
            let record = AccessRecord {
                client: client.parse().unwrap(),
                prefix,
                ..record()
            };
            let text = line(&record, LogFormat::Text, ClientAddress::Prefix);
            let client = text.split("client=").nth(1).unwrap();
            client.split(' ').next().unwrap().to_owned()
        };
        let prefix = |ipv4, ipv6| Some(SourcePrefix { ipv4, ipv6 });
        assert_eq!(of("192.0.2.77:1", prefix(24, 56)), "192.0.2.0/24");
        assert_eq!(of("192.0.2.77:1", prefix(0, 0)), "0.0.0.0/0");
        assert_eq!(of("192.0.2.77:1", prefix(32, 128)), "192.0.2.77/32");
        assert_eq!(
            of("[2001:db8:1:2ff:3::4]:1", prefix(24, 56)),
            "2001:db8:1:200::/56"
        );
        assert_eq!(of("[2001:db8::4]:1", prefix(0, 0)), "::/0");
        assert_eq!(of("[2001:db8::4]:1", None), "2001:db8::/64");
    }
}
