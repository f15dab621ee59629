//! Owns the lines of a head (RFC 9112 section 2.2), its size limit, and which lines name the host.
//!
//! Must not know the syntax of a host.
//!
//! Invariant: every byte is parsed once, in order and depending only on the bytes before it, so that a
//! result never depends on how the bytes were split.

use super::authority::Authority;
use super::request_line::RequestLine;
use super::{HeadError, HeadProgress, Host, HttpHead, MalformedHead, Method, NotHttp};

/// Largest head in bytes, including an empty line before it and the one at its end. Front Ends
/// themselves reject more than 16 KiB by default (`MaxRequestBytes` of HTTP.sys, KB 820129).
pub const MAX_HEAD: usize = 16 * 1024;

/// The preface of HTTP/2 (RFC 9113 section 3.4), up to the byte that distinguishes it from HTTP/1.x.
const HTTP2: &[u8] = b"PRI * HTTP/2";
/// First byte of a TLS handshake record (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// Parses the head of a client's first request incrementally.
///
/// It remembers its position, so that all calls together take time in proportion to the bytes. Only
/// the host is copied.
#[derive(Debug, Default)]
pub struct HttpHeadParser {
    /// The result, once there is one.
    result: HeadProgress,
    /// Number of parsed bytes.
    pub(super) at: usize,
    /// Start of the line with the next byte.
    line: usize,
    /// Position of the next byte in the grammar.
    position: HeadPosition,
    /// The parsed request line.
    request: Option<RequestLine>,
    /// The host of the Host field.
    field: Option<Host>,
}

/// The position of the next byte in the grammar.
#[derive(Clone, Copy, Debug, Default)]
enum HeadPosition {
    /// The very first byte.
    #[default]
    Begin,
    /// The LF of the one empty line that is allowed before a request (RFC 9112 section 2.2).
    LeadingLf,
    /// The first byte of the method.
    MethodBegin,
    /// The method or the space after it.
    Method,
    /// The rest of the request line, up to its CR.
    Request,
    /// The LF of the request line.
    RequestLf,
    /// The first byte of a field's line, or the CR of the last line.
    LineBegin,
    /// The name of a field or the colon after it.
    FieldName,
    /// The value of a field, up to the CR.
    FieldValue,
    /// The LF of a field's line.
    FieldLf,
    /// The LF of the empty line that ends the head.
    LastLf,
    /// After the head, where no byte is parsed.
    End,
}

impl HttpHeadParser {
    /// A parser that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Parses `bytes`, which are *all* bytes received so far, from the first one.
    ///
    /// Any result except [`HeadProgress::NeedMore`] is final and is returned again for more bytes.
    pub fn advance(&mut self, bytes: &[u8]) -> HeadProgress {
        let within = &bytes[..bytes.len().min(MAX_HEAD)];
        while self.result == HeadProgress::NeedMore
            && let Some(&byte) = within.get(self.at)
        {
            match self.parse_byte(byte, within) {
                Ok(HeadPosition::End) => self.result = HeadProgress::Head(self.head()),
                Ok(next) => self.position = next,
                Err(error) => self.result = error.into(),
            }
            self.at += 1;
        }
        if self.result == HeadProgress::NeedMore && self.at == MAX_HEAD {
            self.result = HeadProgress::TooLarge;
        }
        self.result.clone()
    }

    /// Parses the byte at `self.at` and returns the position of the one after it.
    fn parse_byte(&mut self, byte: u8, bytes: &[u8]) -> Result<HeadPosition, HeadError> {
        match self.position {
            HeadPosition::Begin if byte == b'\r' => Ok(HeadPosition::LeadingLf),
            HeadPosition::LeadingLf => lf(byte, HeadPosition::MethodBegin, NotHttp::FirstByte),
            HeadPosition::Begin | HeadPosition::MethodBegin => {
                self.line = self.at;
                begin_method(byte)
            }
            HeadPosition::Method => method(byte),
            HeadPosition::Request if bytes[self.line..=self.at] == *HTTP2 => {
                Err(NotHttp::Http2.into())
            }
            HeadPosition::Request => request(byte),
            HeadPosition::RequestLf => {
                let next = lf(byte, HeadPosition::LineBegin, MalformedHead::BareCr)?;
                self.request = Some(RequestLine::parse(&bytes[self.line..self.at - 1])?);
                Ok(next)
            }
            HeadPosition::LineBegin => {
                self.line = self.at;
                begin_line(byte)
            }
            HeadPosition::FieldName => field_name(byte),
            HeadPosition::FieldValue => field_value(byte),
            HeadPosition::FieldLf => {
                let next = lf(byte, HeadPosition::LineBegin, MalformedHead::BareCr)?;
                self.read_field(&bytes[self.line..self.at - 1])?;
                Ok(next)
            }
            HeadPosition::LastLf => lf(byte, HeadPosition::End, MalformedHead::BareCr),
            HeadPosition::End => Ok(HeadPosition::End),
        }
    }

    /// Reads the line of a field without its line end. It has a name and a colon.
    fn read_field(&mut self, line: &[u8]) -> Result<(), MalformedHead> {
        // `Host:` is five bytes long, and no other name of that length is equal.
        let Some((name, value)) = line.split_at_checked(5) else {
            return Ok(());
        };
        if !name.eq_ignore_ascii_case(b"host:") {
            return Ok(());
        }
        let host = match value.trim_ascii() {
            b"" => Host::Absent,
            value => Authority::parse(value).map_err(MalformedHead::Host)?.host,
        };
        match self.field.replace(host) {
            None => Ok(()),
            Some(_) => Err(MalformedHead::Hosts),
        }
    }

    /// The head that ends with the byte at `self.at`. An authority in the target wins over the Host
    /// field (RFC 9112 section 3.2.2).
    fn head(&mut self) -> HttpHead {
        let (method, target) = match self.request.take() {
            Some(request) => (request.method, request.host),
            None => (Method::Other, None),
        };
        HttpHead {
            host: target.or(self.field.take()).unwrap_or_default(),
            method,
            wire_len: self.at + 1,
        }
    }
}

/// A byte that must be LF.
fn lf(
    byte: u8,
    next: HeadPosition,
    otherwise: impl Into<HeadError>,
) -> Result<HeadPosition, HeadError> {
    match byte {
        b'\n' => Ok(next),
        _ => Err(otherwise.into()),
    }
}

fn begin_method(byte: u8) -> Result<HeadPosition, HeadError> {
    match byte {
        TLS_HANDSHAKE => Err(NotHttp::Tls.into()),
        _ if is_token(byte) => Ok(HeadPosition::Method),
        _ => Err(NotHttp::FirstByte.into()),
    }
}

fn method(byte: u8) -> Result<HeadPosition, HeadError> {
    match byte {
        b' ' => Ok(HeadPosition::Request),
        _ if is_token(byte) => Ok(HeadPosition::Method),
        _ => Err(NotHttp::Method.into()),
    }
}

/// Bytes above 0x7f are allowed, because old browsers send them in the target and Front Ends accept
/// them.
fn request(byte: u8) -> Result<HeadPosition, HeadError> {
    match byte {
        b'\r' => Ok(HeadPosition::RequestLf),
        _ if byte.is_ascii_control() => Err(control(byte)),
        _ => Ok(HeadPosition::Request),
    }
}

fn begin_line(byte: u8) -> Result<HeadPosition, HeadError> {
    match byte {
        b'\r' => Ok(HeadPosition::LastLf),
        b' ' | b'\t' => Err(MalformedHead::Fold.into()),
        _ if is_token(byte) => Ok(HeadPosition::FieldName),
        _ if byte.is_ascii_control() => Err(control(byte)),
        _ => Err(MalformedHead::FieldName.into()),
    }
}

fn field_name(byte: u8) -> Result<HeadPosition, HeadError> {
    match byte {
        b':' => Ok(HeadPosition::FieldValue),
        b' ' | b'\t' => Err(MalformedHead::SpaceBeforeColon.into()),
        b'\r' => Err(MalformedHead::FieldName.into()),
        _ if is_token(byte) => Ok(HeadPosition::FieldName),
        _ if byte.is_ascii_control() => Err(control(byte)),
        _ => Err(MalformedHead::FieldName.into()),
    }
}

/// The bytes of a value: RFC 9110 section 5.5, including bytes above 0x7f.
fn field_value(byte: u8) -> Result<HeadPosition, HeadError> {
    match byte {
        b'\r' => Ok(HeadPosition::FieldLf),
        b'\t' => Ok(HeadPosition::FieldValue),
        _ if byte.is_ascii_control() => Err(control(byte)),
        _ => Ok(HeadPosition::FieldValue),
    }
}

fn control(byte: u8) -> HeadError {
    match byte {
        b'\n' => MalformedHead::BareLf.into(),
        _ => MalformedHead::ControlByte.into(),
    }
}

/// Whether the byte may be part of a token (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
