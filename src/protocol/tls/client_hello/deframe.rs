//! Owns TLS records and the handshake header: extracts one ClientHello message from the bytes on the
//! wire.
//!
//! Must not know the contents of the message.
//!
//! Invariants: bytes are parsed in order, so that a result never depends on how they were split; a byte
//! is read a limited number of times, however small the pieces are.

use super::{
    ClientHello, ClientHelloError, HelloProgress, MalformedHello, NotTls, ProtocolVersion,
    TooLarge, message, sslv2,
};

/// Longest ClientHello by its own length field. Session tickets come close to this (RFC 5077
/// section 3.3: up to 2^16 - 1 bytes); post-quantum key shares need some 2 KiB.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// Most bytes of a hello on the wire, including record headers: twice the longest message. A hello of 21
/// KiB in records of one byte each is still accepted; one of 64 KiB is not.
pub const MAX_WIRE: usize = 128 * 1024;

/// Content type of handshake records (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;
/// The major version in all record headers since SSL 3.
const MAJOR: u8 = 3;
/// Length of a record header: type, version, length.
const RECORD_HEADER: usize = 5;
/// Longest plaintext fragment (RFC 8446 section 5.1).
const MAX_FRAGMENT: usize = 1 << 14;

/// Handshake type of a ClientHello (RFC 8446 section 4).
const CLIENT_HELLO: u8 = 1;
/// Length of a handshake header: type, and a length of three bytes.
const MESSAGE_HEADER: usize = 4;
/// Shortest ClientHello: version, random, an empty session id, one suite, one compression method
/// (RFC 5246 section 7.4.1.2).
const MIN_BODY: usize = 2 + 32 + 1 + (2 + 2) + (1 + 1);

/// Parses a client's first flight incrementally.
///
/// It remembers its position, so that all calls together take time in proportion to the bytes. A hello
/// in one record is parsed in place; only the fragments of a hello in several records are copied, once
/// they are complete.
#[derive(Debug, Default)]
pub struct ClientHelloParser {
    /// Start of the first record that is not in `message`.
    record: usize,
    /// The fragments of the records before that.
    message: Vec<u8>,
}

impl ClientHelloParser {
    /// A parser that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Parses `bytes`, which are *all* bytes received so far, from the first one.
    ///
    /// Any result except [`HelloProgress::NeedMore`] is final and is returned again for more bytes.
    pub fn advance(&mut self, bytes: &[u8]) -> HelloProgress {
        let result = match bytes.first() {
            None => Ok(None),
            Some(&first) if sslv2::begins(first) => {
                sslv2::parse(bytes).map_err(ClientHelloError::from)
            }
            Some(_) => self.deframe(bytes),
        };
        match result {
            Ok(None) => HelloProgress::NeedMore,
            Ok(Some(hello)) => HelloProgress::Hello(Box::new(hello)),
            Err(error) => error.into(),
        }
    }

    fn deframe(&mut self, bytes: &[u8]) -> Result<Option<ClientHello>, ClientHelloError> {
        loop {
            let Some(record) = PartialRecord::read(bytes, self.record)? else {
                return Ok(None);
            };
            if let Some(total) = message_len(&self.message, record.fragment)? {
                let missing = total - self.message.len();
                let fragment = self.record + RECORD_HEADER;
                if fragment + missing.min(record.len) > MAX_WIRE {
                    return Err(TooLarge::Wire.into());
                }
                if let Some(last) = record.fragment.get(..missing) {
                    return Ok(Some(self.finish(last, bytes, fragment + missing)?));
                }
            }
            if record.fragment.len() < record.len {
                return Ok(None);
            }
            self.message.extend_from_slice(record.fragment);
            self.record += RECORD_HEADER + record.len;
        }
    }

    /// Parses the message that ends with `last`, in place if that is all of it.
    fn finish(
        &mut self,
        last: &[u8],
        bytes: &[u8],
        wire_len: usize,
    ) -> Result<ClientHello, MalformedHello> {
        let record_version = ProtocolVersion(u16::from_be_bytes([bytes[1], bytes[2]]));
        let before = self.message.len();
        if before == 0 {
            return message::parse(&last[MESSAGE_HEADER..], record_version, wire_len);
        }
        self.message.extend_from_slice(last);
        let result = message::parse(&self.message[MESSAGE_HEADER..], record_version, wire_len);
        // The next call must find the parser in the same state.
        self.message.truncate(before);
        result
    }
}

/// A record whose header is complete.
struct PartialRecord<'a> {
    /// The length of its fragment by its header.
    len: usize,
    /// The part of the fragment that has arrived.
    fragment: &'a [u8],
}

impl<'a> PartialRecord<'a> {
    /// Reads the record that begins at `at`; `None` while its header is incomplete. Each byte of the
    /// header is checked as soon as it arrives; those of the first record decide whether this is TLS.
    fn read(bytes: &'a [u8], at: usize) -> Result<Option<Self>, ClientHelloError> {
        let rest = bytes.get(at..).unwrap_or_default();
        let first = at == 0;
        if rest.first().is_some_and(|&kind| kind != HANDSHAKE) {
            return Err(if first {
                NotTls::FirstByte.into()
            } else {
                MalformedHello::RecordType.into()
            });
        }
        if rest.get(1).is_some_and(|&major| major != MAJOR) {
            return Err(if first {
                NotTls::RecordVersion.into()
            } else {
                MalformedHello::RecordVersion.into()
            });
        }
        let Some((header, rest)) = rest.split_first_chunk::<RECORD_HEADER>() else {
            return Ok(None);
        };
        match usize::from(u16::from_be_bytes([header[3], header[4]])) {
            // RFC 8446 section 5.1: handshake fragments of length zero must not be sent.
            0 => Err(MalformedHello::EmptyRecord.into()),
            len if len > MAX_FRAGMENT => Err(TooLarge::Record.into()),
            len => Ok(Some(Self {
                len,
                fragment: &rest[..rest.len().min(len)],
            })),
        }
    }
}

/// The length of the handshake message that begins with `before` and continues with `fragment`,
/// including its header; `None` while the header is incomplete.
fn message_len(before: &[u8], fragment: &[u8]) -> Result<Option<usize>, ClientHelloError> {
    let mut header = before.iter().chain(fragment).map(|&byte| usize::from(byte));
    let Some(kind) = header.next() else {
        return Ok(None);
    };
    if kind != usize::from(CLIENT_HELLO) {
        return Err(MalformedHello::HandshakeType.into());
    }
    let (Some(high), Some(middle), Some(low)) = (header.next(), header.next(), header.next())
    else {
        return Ok(None);
    };
    match high << 16 | middle << 8 | low {
        len if len > MAX_MESSAGE => Err(TooLarge::Message.into()),
        len if len < MIN_BODY => Err(MalformedHello::TooShort.into()),
        len => Ok(Some(MESSAGE_HEADER + len)),
    }
}
