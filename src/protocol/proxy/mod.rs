//! The PROXY protocol, versions 1 and 2: how a proxy passes on the addresses of a client.
//!
//! Owns the bytes of the header. Knows no socket and no configuration. Source of every form here: "The PROXY protocol,
//! versions 1 & 2", HAProxy's `doc/proxy-protocol.txt` (revision of 2020-03-05; sections are named where they matter).
//! Invariant: a header that is written is at most [`MAX_WRITTEN`] bytes, so one send to a new socket takes it whole.

mod write;

pub use write::{MAX_WRITTEN, ProxiedConnection, write_local, write_proxied};

/// The form in which a header is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HeaderFormat {
    /// One line of text.
    V1,
    /// Binary, with these TLVs.
    V2(HeaderTlvs),
}

/// The TLVs (type-length-value fields, section 2.2) that a version 2 header carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HeaderTlvs {
    /// `PP2_TYPE_AUTHORITY`: the host name that the client asked for.
    pub authority: bool,
    /// `PP2_TYPE_UNIQUE_ID`: an identifier of the connection.
    pub unique_id: bool,
    /// `PP2_TYPE_CRC32C`: a checksum over the whole header.
    pub crc32c: bool,
}

impl HeaderTlvs {
    /// No TLVs.
    pub const NONE: Self = Self {
        authority: false,
        unique_id: false,
        crc32c: false,
    };
}
