//! Owns the building of ClientHello messages for tests: the bytes that clients of different kinds send.
//!
//! Must not know the parser, so that an error in one is not repeated in the other.
//!
//! Invariant: the hello is valid unless a test requests an error by name
//! ([`HelloBuilder::extension`], [`HelloBuilder::raw_server_name`], [`records`] with an empty
//! record).

#![allow(clippy::unwrap_used, reason = "a test may end in a panic")]

/// Contents of a ClientHello. Starts as a TLS 1.2 and 1.3 client without a name.
#[derive(Clone, Debug)]
pub(crate) struct HelloBuilder {
    record_version: u16,
    legacy_version: u16,
    session_id: Vec<u8>,
    suites: Vec<u16>,
    server_name: Option<Vec<u8>>,
    /// Type and content, in order.
    extensions: Vec<(u16, Vec<u8>)>,
    /// Length of the message in bytes, reached by a padding extension.
    message_len: Option<usize>,
    /// Payload lengths of the records; the last one is repeated. Empty: as few records as possible.
    record_lens: Vec<usize>,
}

/// `TLS_AES_128_GCM_SHA256` and `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`.
const SUITES: [u16; 2] = [0x1301, 0xc02f];
/// A value that RFC 8701 reserves so that servers learn to ignore the unknown.
const GREASE: u16 = 0x2a2a;
/// The longest fragment of a record (RFC 8446 section 5.1).
const MAX_FRAGMENT: usize = 1 << 14;

impl HelloBuilder {
    pub(crate) fn new() -> Self {
        Self {
            record_version: 0x0301,
            legacy_version: 0x0303,
            session_id: vec![0x5e; 32],
            suites: SUITES.to_vec(),
            server_name: None,
            extensions: Vec::new(),
            message_len: None,
            record_lens: Vec::new(),
        }
        .versions(&[0x0304, 0x0303])
    }

    /// A client without extensions, for example of TLS 1.0 or SSL 3.
    pub(crate) fn old(version: u16) -> Self {
        Self {
            record_version: version,
            legacy_version: version,
            session_id: Vec::new(),
            suites: vec![0x002f, 0x0035],
            extensions: Vec::new(),
            ..Self::new()
        }
    }

    /// A hello with the server name `name`.
    pub(crate) fn named(name: &str) -> Self {
        Self::new().name(name.as_bytes())
    }

    /// RFC 6066 section 3: a list of one entry of type host name. Nothing is checked.
    pub(crate) fn name(self, name: &[u8]) -> Self {
        let entry = [&[0][..], &vec16(name)].concat();
        self.raw_server_name(&vec16(&entry))
    }

    /// The content of the server name extension.
    pub(crate) fn raw_server_name(mut self, content: &[u8]) -> Self {
        self.server_name = Some(content.to_vec());
        self
    }

    /// Appends an extension to the list.
    pub(crate) fn extension(mut self, kind: u16, content: &[u8]) -> Self {
        self.extensions.push((kind, content.to_vec()));
        self
    }

    /// RFC 8446 section 4.2.1; none leaves the extension out, as clients up to TLS 1.2 do.
    pub(crate) fn versions(mut self, versions: &[u16]) -> Self {
        self.extensions.retain(|&(kind, _)| kind != 43);
        if versions.is_empty() {
            return self;
        }
        let list: Vec<u8> = versions
            .iter()
            .flat_map(|version| version.to_be_bytes())
            .collect();
        self.extension(43, &vec8(&list))
    }

    /// RFC 7301 section 3.1.
    pub(crate) fn alpn(self, protocols: &[&str]) -> Self {
        let list: Vec<u8> = protocols
            .iter()
            .flat_map(|name| vec8(name.as_bytes()))
            .collect();
        self.extension(16, &vec16(&list))
    }

    /// RFC 5077 section 3.2; an empty one requests a ticket.
    pub(crate) fn ticket(self, ticket: &[u8]) -> Self {
        self.extension(35, ticket)
    }

    /// RFC 8446 section 4.2.10.
    pub(crate) fn early_data(self) -> Self {
        self.extension(42, &[])
    }

    /// RFC 9849 section 5: an outer hello with `len` bytes of encrypted inner hello.
    pub(crate) fn ech(self, len: usize) -> Self {
        let suite = [0, 1, 0, 1];
        let content = [
            &[0][..],
            &suite,
            &[7],
            &vec16(&[0xec; 32]),
            &vec16(&vec![0xec; len]),
        ]
        .concat();
        self.extension(0xfe0d, &content)
    }

    /// A key share of X25519MLKEM768, 1,216 bytes, with which a hello exceeds one TCP segment.
    pub(crate) fn post_quantum(self) -> Self {
        let share = [&0x11ec_u16.to_be_bytes()[..], &vec16(&[0x9b; 1216])].concat();
        self.extension(10, &vec16(&[0x11, 0xec, 0, 29]))
            .extension(51, &vec16(&share))
    }

    /// RFC 8701: reserved values in the places where a server must ignore unknown values.
    pub(crate) fn grease(mut self) -> Self {
        self.suites.insert(0, GREASE);
        self.versions(&[GREASE, 0x0304, 0x0303])
            .extension(GREASE, &[])
            .extension(0x3a3a, &[0])
    }

    pub(crate) fn session_id(mut self, id: &[u8]) -> Self {
        self.session_id = id.to_vec();
        self
    }

    pub(crate) fn legacy_version(mut self, version: u16) -> Self {
        self.legacy_version = version;
        self
    }

    pub(crate) fn record_version(mut self, version: u16) -> Self {
        self.record_version = version;
        self
    }

    /// Pads the message, handshake header included, to `len` bytes (RFC 7685), which must leave
    /// room for the extension.
    pub(crate) fn message_len(mut self, len: usize) -> Self {
        self.message_len = Some(len);
        self
    }

    /// Cuts the message into records of these lengths; the last length is repeated.
    pub(crate) fn records(mut self, lens: &[usize]) -> Self {
        self.record_lens = lens.to_vec();
        self
    }

    /// The ClientHello message, handshake header included.
    pub(crate) fn message(&self) -> Vec<u8> {
        let unpadded = self.unpadded(&[]);
        let Some(len) = self.message_len else {
            return unpadded;
        };
        let padding = extension(21, &vec![0; len - unpadded.len() - 4]);
        self.unpadded(&padding)
    }

    /// The message with `last` appended to its extensions.
    fn unpadded(&self, last: &[u8]) -> Vec<u8> {
        let suites: Vec<u8> = self
            .suites
            .iter()
            .flat_map(|suite| suite.to_be_bytes())
            .collect();
        let mut body = self.legacy_version.to_be_bytes().to_vec();
        body.extend([0xa5; 32]);
        body.extend(vec8(&self.session_id));
        body.extend(vec16(&suites));
        body.extend(vec8(&[0]));

        let name = self.server_name.iter().map(|content| extension(0, content));
        let others = self
            .extensions
            .iter()
            .map(|(kind, content)| extension(*kind, content));
        let block: Vec<u8> = name
            .chain(others)
            .flatten()
            .chain(last.iter().copied())
            .collect();
        if !block.is_empty() {
            body.extend(vec16(&block));
        }
        let [_, len @ ..] = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[1][..], &len, &body].concat()
    }

    /// The bytes on the wire.
    pub(crate) fn build(&self) -> Vec<u8> {
        let lens = if self.record_lens.is_empty() {
            &[MAX_FRAGMENT][..]
        } else {
            &self.record_lens
        };
        records(&self.message(), self.record_version, lens)
    }
}

/// Handshake bytes as TLS records of these payload lengths; the last length is repeated, and none
/// must be zero if it is the last.
pub(crate) fn records(handshake: &[u8], version: u16, lens: &[usize]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(handshake.len() + 5);
    let mut rest = handshake;
    let mut lens = lens.iter();
    let mut len = MAX_FRAGMENT;
    while !rest.is_empty() {
        len = *lens.next().unwrap_or(&len);
        let (fragment, after) = rest.split_at(len.min(rest.len()));
        wire.push(22);
        wire.extend(version.to_be_bytes());
        wire.extend(vec16(fragment));
        rest = after;
    }
    wire
}

/// A ClientHello in the format of SSL 2 (RFC 5246 appendix E.2) that offers up to `version`.
pub(crate) fn sslv2_hello(version: u16, session_id: &[u8], challenge: &[u8]) -> Vec<u8> {
    // SSL_RSA_WITH_3DES_EDE_CBC_SHA as a suite of three bytes, and SSL 2's own RC4.
    let suites = [0, 0, 0x0a, 1, 0, 0x80];
    let mut body = vec![1];
    body.extend(version.to_be_bytes());
    for part in [&suites[..], session_id, challenge] {
        body.extend(u16::try_from(part.len()).unwrap().to_be_bytes());
    }
    body.extend([&suites[..], session_id, challenge].concat());
    let header = 0x8000 | u16::try_from(body.len()).unwrap();
    [&header.to_be_bytes()[..], &body].concat()
}

/// One extension: type, length, content.
pub(crate) fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vec16(content)].concat()
}

/// A vector with a length of one byte.
pub(crate) fn vec8(content: &[u8]) -> Vec<u8> {
    [&[u8::try_from(content.len()).unwrap()][..], content].concat()
}

/// A vector with a length of two bytes.
pub(crate) fn vec16(content: &[u8]) -> Vec<u8> {
    [
        &u16::try_from(content.len()).unwrap().to_be_bytes()[..],
        content,
    ]
    .concat()
}
