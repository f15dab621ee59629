//! Owns the lines of a head (RFC 9112 section 2.2), the limit on its size, and which of its lines
//! name the host.
//!
//! Must not know what a host looks like.
//!
//! Invariant: every byte is judged once, in the order in which it came and by what came before it,
//! so that a verdict never depends on how much had come when it was asked for.

use super::authority::Authority;
use super::request_line::RequestLine;
use super::{HeadError, HeadProgress, Host, HttpHead, MalformedHead, Method, NotHttp};

/// Most bytes that a head may take, an empty line before it and the one at its end included. Front
/// Ends themselves refuse more than 16 KiB by default (`MaxRequestBytes` of HTTP.sys, KB 820129).
pub const MAX_HEAD: usize = 16 * 1024;

/// The preface of HTTP/2 (RFC 9113 section 3.4), up to the byte that tells it from HTTP/1.x.
const HTTP2: &[u8] = b"PRI * HTTP/2";
/// First byte of a TLS handshake record (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// Reads the head of a client's first request as it comes.
///
/// It remembers how far it has come, so that all calls together take time in proportion to the
/// bytes. Nothing is copied but the host.
#[derive(Debug, Default)]
pub struct HttpHeadParser {
    /// The verdict, once there is one.
    verdict: HeadProgress,
    /// How many bytes are judged.
    pub(super) at: usize,
    /// Where the line begins that holds the next byte.
    line: usize,
    /// Where in the grammar the next byte stands.
    place: HeadPosition,
    /// What the request line said.
    request: Option<RequestLine>,
    /// What the Host field said.
    field: Option<Host>,
}

/// What the next byte may belong to.
#[derive(Clone, Copy, Debug, Default)]
enum HeadPosition {
    /// The first byte of all.
    #[default]
    Begin,
    /// The LF of the one empty line that is let through before a request (RFC 9112 section 2.2).
    LeadingLf,
    /// The first byte of the method.
    MethodBegin,
    /// The method or the space behind it.
    Method,
    /// The rest of the request line, up to its CR.
    Request,
    /// The LF of the request line.
    RequestLf,
    /// The first byte of a field's line, or the CR of the last line.
    LineBegin,
    /// The name of a field or the colon behind it.
    FieldName,
    /// The value of a field, up to the CR.
    FieldValue,
    /// The LF of a field's line.
    FieldLf,
    /// The LF of the empty line that ends the head.
    LastLf,
    /// Behind the head, where no byte is judged.
    End,
}

impl HttpHeadParser {
    /// A parser that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says what `bytes` come to: *all* bytes received so far, from the first one.
    ///
    /// Once it has said anything but [`HeadProgress::NeedMore`] the answer stays, also with more bytes.
    pub fn advance(&mut self, bytes: &[u8]) -> HeadProgress {
        let within = &bytes[..bytes.len().min(MAX_HEAD)];
        while self.verdict == HeadProgress::NeedMore
            && let Some(&byte) = within.get(self.at)
        {
            match self.judge(byte, within) {
                Ok(HeadPosition::End) => self.verdict = HeadProgress::Head(self.head()),
                Ok(next) => self.place = next,
                Err(fault) => self.verdict = fault.into(),
            }
            self.at += 1;
        }
        if self.verdict == HeadProgress::NeedMore && self.at == MAX_HEAD {
            self.verdict = HeadProgress::TooLarge;
        }
        self.verdict.clone()
    }

    /// Judges the byte at `self.at` and says where the one after it stands.
    fn judge(&mut self, byte: u8, bytes: &[u8]) -> Result<HeadPosition, HeadError> {
        match self.place {
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

    /// Reads a field's line without its end, which has a name and a colon.
    fn read_field(&mut self, line: &[u8]) -> Result<(), MalformedHead> {
        // Of `Host:` five bytes are name and colon; no other name is as long and equal.
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

/// Bytes past 0x7f are let through, as old browsers send them in the target and Front Ends take
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

/// What a value may hold: RFC 9110 section 5.5, bytes past 0x7f included.
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

/// Whether a token may hold the byte (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
