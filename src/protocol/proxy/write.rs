//! Writing a header.
//!
//! Owns the order of its fields. Must not know when it is sent. Invariant: both addresses of a header are of one family.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::{HeaderFormat, HeaderTlvs};

/// The most bytes that a header takes: version 2 over IPv6 with the longest TLVs (16 + 36 + 3 + 253 + 3 + 128 + 7).
pub const MAX_WRITTEN: usize = 446;

/// What opens a version 2 header (section 2.2).
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of a version 2 header before its addresses: signature, version and command, family, length.
const FIXED: usize = 16;
/// Version 2 with the command LOCAL: the proxy's own connection.
const LOCAL: u8 = 0x20;
/// Version 2 with the command PROXY: a connection on behalf of another.
const PROXY: u8 = 0x21;
/// No addresses.
const UNSPEC: u8 = 0x00;
/// TCP over IPv4.
const TCP4: u8 = 0x11;
/// TCP over IPv6.
const TCP6: u8 = 0x21;
const TYPE_AUTHORITY: u8 = 0x02;
const TYPE_CRC32C: u8 = 0x03;
const TYPE_UNIQUE_ID: u8 = 0x05;
/// The longest value of `PP2_TYPE_UNIQUE_ID` (section 2.2.5).
const MAX_UNIQUE_ID: usize = 128;
/// The longest host name (RFC 1035, section 2.3.4, without the root's dot).
const MAX_AUTHORITY: usize = 253;

/// A client's connection, as its header describes it.
#[derive(Debug, Clone, Copy)]
pub struct ProxiedConnection<'a> {
    /// The client's address.
    pub source: SocketAddr,
    /// The address that the client connected to.
    pub destination: SocketAddr,
    /// The host name that the client asked for, if it named one; at most 253 bytes are written.
    pub authority: Option<&'a str>,
    /// The identifier of the connection; at most 128 bytes are written.
    pub unique_id: Option<&'a [u8]>,
}

/// The header of a client's connection.
#[must_use]
pub fn write_proxied(format: HeaderFormat, connection: &ProxiedConnection<'_>) -> Vec<u8> {
    let (source, destination) = one_family(connection.source, connection.destination);
    match format {
        HeaderFormat::V1 => {
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            let (from, to) = (source.ip(), destination.ip());
            let (source, destination) = (source.port(), destination.port());
            format!("PROXY {family} {from} {to} {source} {destination}\r\n").into_bytes()
        }
        HeaderFormat::V2(tlvs) => {
            let mut header = open(PROXY, if source.is_ipv4() { TCP4 } else { TCP6 });
            push_address(&mut header, source.ip());
            push_address(&mut header, destination.ip());
            header.extend(source.port().to_be_bytes());
            header.extend(destination.port().to_be_bytes());
            if let Some(name) = connection.authority.filter(|_| tlvs.authority) {
                push_tlv(&mut header, TYPE_AUTHORITY, name.as_bytes(), MAX_AUTHORITY);
            }
            if let Some(id) = connection.unique_id.filter(|_| tlvs.unique_id) {
                push_tlv(&mut header, TYPE_UNIQUE_ID, id, MAX_UNIQUE_ID);
            }
            close(header, tlvs)
        }
    }
}

/// The header of a connection that the balancer makes for itself, such as a health check (UNKNOWN in version 1, LOCAL in
/// version 2). Receivers take the addresses of the socket.
#[must_use]
pub fn write_local(format: HeaderFormat) -> Vec<u8> {
    match format {
        HeaderFormat::V1 => b"PROXY UNKNOWN\r\n".to_vec(),
        HeaderFormat::V2(tlvs) => close(open(LOCAL, UNSPEC), tlvs),
    }
}

/// Both addresses in one family: an IPv4-mapped address is its IPv4 address, and where only one of the two is IPv4 it is
/// written as an IPv4-mapped address.
fn one_family(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let (from, to) = (source.ip().to_canonical(), destination.ip().to_canonical());
    let (from, to) = if from.is_ipv4() == to.is_ipv4() {
        (from, to)
    } else {
        (mapped(from).into(), mapped(to).into())
    };
    (
        SocketAddr::new(from, source.port()),
        SocketAddr::new(to, destination.port()),
    )
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// A version 2 header up to its length, which [`close`] fills in.
fn open(command: u8, family: u8) -> Vec<u8> {
    let mut header = Vec::with_capacity(MAX_WRITTEN);
    header.extend(SIGNATURE);
    header.extend([command, family, 0, 0]);
    header
}

fn push_address(header: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => header.extend(address.octets()),
        IpAddr::V6(address) => header.extend(address.octets()),
    }
}

fn push_tlv(header: &mut Vec<u8>, kind: u8, value: &[u8], most: usize) {
    let value = &value[..value.len().min(most)];
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    header.push(kind);
    header.extend(length.to_be_bytes());
    header.extend(value);
}

/// Adds the checksum, where it is wanted, and the length.
fn close(mut header: Vec<u8>, tlvs: HeaderTlvs) -> Vec<u8> {
    if tlvs.crc32c {
        push_tlv(&mut header, TYPE_CRC32C, &[0; 4], 4);
    }
    let length = u16::try_from(header.len() - FIXED).unwrap_or(u16::MAX);
    header[FIXED - 2..FIXED].copy_from_slice(&length.to_be_bytes());
    if tlvs.crc32c {
        // Over the whole header with four zeros in the place of the checksum (section 2.2.3).
        let checksum = crc32c::crc32c(&header).to_be_bytes();
        let at = header.len() - checksum.len();
        header[at..].copy_from_slice(&checksum);
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY_TLV: HeaderTlvs = HeaderTlvs {
        authority: true,
        unique_id: true,
        crc32c: true,
    };

    fn connection<'a>(source: &str, destination: &str) -> ProxiedConnection<'a> {
        ProxiedConnection {
            source: source.parse().expect("an address"),
            destination: destination.parse().expect("an address"),
            authority: Some("meet.contoso.com"),
            unique_id: Some(b"0123456789abcdef"),
        }
    }

    fn v1(source: &str, destination: &str) -> String {
        let header = write_proxied(HeaderFormat::V1, &connection(source, destination));
        String::from_utf8(header).expect("version 1 is text")
    }

    #[test]
    fn version_1_is_a_line_with_both_addresses() {
        assert_eq!(
            v1("192.0.2.7:50123", "198.51.100.1:443"),
            "PROXY TCP4 192.0.2.7 198.51.100.1 50123 443\r\n"
        );
        assert_eq!(
            v1("[2001:db8::7]:50123", "[2001:db8::1]:443"),
            "PROXY TCP6 2001:db8::7 2001:db8::1 50123 443\r\n"
        );
        assert_eq!(write_local(HeaderFormat::V1), b"PROXY UNKNOWN\r\n");
    }

    #[test]
    fn an_ipv4_mapped_address_is_written_as_ipv4() {
        assert_eq!(
            v1("[::ffff:192.0.2.7]:50123", "[::ffff:198.51.100.1]:443"),
            "PROXY TCP4 192.0.2.7 198.51.100.1 50123 443\r\n"
        );
    }

    #[test]
    fn addresses_of_two_families_are_written_as_ipv6() {
        assert_eq!(
            v1("192.0.2.7:50123", "[2001:db8::1]:443"),
            "PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 50123 443\r\n"
        );
    }

    #[test]
    fn version_2_has_the_bytes_of_the_specification() {
        let header = write_proxied(
            HeaderFormat::V2(HeaderTlvs::NONE),
            &connection("192.0.2.7:50123", "198.51.100.1:443"),
        );
        let mut expected =
            b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a\x21\x11\x00\x0c".to_vec();
        expected.extend([192, 0, 2, 7, 198, 51, 100, 1, 0xc3, 0xcb, 0x01, 0xbb]);
        assert_eq!(header, expected);

        let header = write_proxied(
            HeaderFormat::V2(HeaderTlvs::NONE),
            &connection("[2001:db8::7]:1", "[2001:db8::1]:2"),
        );
        assert_eq!(header[12..16], [0x21, 0x21, 0, 36]);
        assert_eq!(header.len(), 16 + 36);
    }

    #[test]
    fn local_has_no_addresses() {
        let header = write_local(HeaderFormat::V2(HeaderTlvs::NONE));
        assert_eq!(header[..12], SIGNATURE);
        assert_eq!(header[12..], [0x20, 0x00, 0, 0]);
    }

    #[test]
    fn the_checksum_covers_the_header_with_zeros_in_its_place() {
        for header in [
            write_local(HeaderFormat::V2(EVERY_TLV)),
            write_proxied(
                HeaderFormat::V2(EVERY_TLV),
                &connection("192.0.2.7:50123", "198.51.100.1:443"),
            ),
        ] {
            let (before, checksum) = header.split_at(header.len() - 4);
            let mut zeroed = before.to_vec();
            zeroed.extend([0; 4]);
            assert_eq!(checksum, crc32c_bit_by_bit(&zeroed).to_be_bytes());
        }
        // RFC 3720, B.4: 32 bytes of zeros.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
    }

    /// Castagnoli's polynomial, reflected, a bit at a time.
    fn crc32c_bit_by_bit(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ (0x82f6_3b78 & 0u32.wrapping_sub(crc & 1))
            })
        })
    }

    #[test]
    fn tlvs_are_written_where_wanted_and_known() {
        let with = |tlvs, connection: &ProxiedConnection<'_>| {
            write_proxied(HeaderFormat::V2(tlvs), connection)[FIXED + 12..].to_vec()
        };
        let known = connection("192.0.2.7:50123", "198.51.100.1:443");
        let authority = HeaderTlvs {
            authority: true,
            ..HeaderTlvs::NONE
        };
        assert_eq!(with(authority, &known), b"\x02\x00\x10meet.contoso.com");
        let unique_id = HeaderTlvs {
            unique_id: true,
            ..HeaderTlvs::NONE
        };
        assert_eq!(with(unique_id, &known), b"\x05\x00\x100123456789abcdef");
        let unknown = ProxiedConnection {
            authority: None,
            ..known
        };
        assert_eq!(with(authority, &unknown), b"");
    }

    #[test]
    fn the_longest_header_is_as_long_as_promised() {
        let name = "a".repeat(300);
        let longest = ProxiedConnection {
            authority: Some(&name),
            unique_id: Some(&[b'u'; 200]),
            ..connection("[2001:db8::7]:50123", "[2001:db8::1]:443")
        };
        let header = write_proxied(HeaderFormat::V2(EVERY_TLV), &longest);
        assert_eq!(header.len(), MAX_WRITTEN);
        let length = u16::from_be_bytes([header[14], header[15]]);
        assert_eq!(usize::from(length), MAX_WRITTEN - FIXED);
    }
}
