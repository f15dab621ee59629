//! The PROXY header of one connection.
//!
//! Owns which facts of a connection the header contains. Must not know how it is encoded or sent. Invariant: a connection
//! whose pool has no `send_proxy_protocol` costs no system call.

use std::net::SocketAddr;

use crate::net::event_loop::Stream;
use crate::net::socket;
use crate::protocol::proxy::{HeaderFormat, ProxiedConnection, write_proxied};
use crate::proxy::connection_record::ConnectionRecord;
use crate::proxy::preread::{Hello, RequestedName};
use crate::upstream::pool::Selection;

/// The header for the selected backend; empty if its pool sends none.
pub(super) fn header(
    client: &Stream,
    hello: &Hello,
    selection: &Selection,
    record: &mut ConnectionRecord,
) -> Vec<u8> {
    let Some(format) = selection.proxy_header() else {
        return Vec::new();
    };
    let wants_id = matches!(format, HeaderFormat::V2(tlvs) if tlvs.unique_id);
    let unique_id = wants_id.then(|| record.new_unique_id().to_string());
    let source = record.client();
    // It cannot fail for a connected socket (getsockname(2)).
    let destination = socket::local_address(client).unwrap_or(unknown(source));
    let connection = ProxiedConnection {
        source,
        destination,
        authority: match hello.requested_name() {
            RequestedName::Name(name) => Some(name.as_str()),
            RequestedName::NoHostName | RequestedName::Absent => None,
        },
        unique_id: unique_id.as_deref().map(str::as_bytes),
    };
    write_proxied(format, &connection)
}

/// An address of the same family that says nothing.
fn unknown(like: SocketAddr) -> SocketAddr {
    match like {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    }
}
