//! The ClientHellos that clients send, and what a backend reads in them.
//!
//! A backend is told by the session identifier what it is asked for, so that one backend serves every load.

#[path = "../../../../tests/it/support/hello_builder.rs"]
#[allow(
    dead_code,
    reason = "the tests' builder can do more than is needed here"
)]
mod hello_builder;

use hello_builder::HelloBuilder;

/// The names that clients ask for, in turn.
pub(crate) const NAMES: [&str; 2] = ["one.bench.test", "two.bench.test"];

/// What a backend does after the hello. All but `Answer` greet first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// Gives back what comes.
    Echo,
    /// Sends an answer and closes.
    Answer,
    /// Sends all the time.
    Source,
    /// Throws away what comes.
    Sink,
    /// Sends 1 KiB for each request.
    Reply,
}

const SERVICES: [Service; 5] = [
    Service::Echo,
    Service::Answer,
    Service::Source,
    Service::Sink,
    Service::Reply,
];
/// The header of a record.
const RECORD: usize = 5;
/// Where the session identifier begins: behind the record's header, the handshake's, version, random and its length.
const SESSION: usize = RECORD + 4 + 2 + 32 + 1;
/// From here on a hello has a key share of a post-quantum group, 1,216 bytes.
const POST_QUANTUM: usize = 1400;

/// A hello of `len` bytes on the wire that asks for `service` by this name.
pub(crate) fn build(service: Service, name: &str, len: usize) -> Vec<u8> {
    let code = SERVICES.iter().position(|known| *known == service);
    let code = code.and_then(|code| u8::try_from(code).ok()).unwrap_or(0);
    let hello = HelloBuilder::named(name)
        .session_id(&[code; 32])
        .alpn(&["h2", "http/1.1"]);
    let hello = if len < POST_QUANTUM {
        hello
    } else {
        hello.post_quantum()
    };
    hello.message_len(len - RECORD).build()
}

/// What the beginning of a hello says: its length on the wire and what it asks for.
pub(crate) fn read(bytes: &[u8]) -> Option<(usize, Service)> {
    let len = u16::from_be_bytes([*bytes.get(3)?, *bytes.get(4)?]);
    let service = SERVICES.get(usize::from(*bytes.get(SESSION)?))?;
    Some((RECORD + usize::from(len), *service))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_reads_what_a_client_asked_for() {
        for service in SERVICES {
            for len in [517, 1800] {
                let hello = build(service, NAMES[0], len);
                assert_eq!(hello.len(), len);
                assert_eq!(read(&hello), Some((len, service)));
            }
        }
    }
}
