//! Reading what a client says first, until the parser has decided.
//!
//! Owns the reading and its bound in time; what the bytes mean is the parsers'. Knows no route. Invariant: every byte
//! that was read stands in `received`, in order, whatever the outcome: it is what the backend gets.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use rustix::net::{Shutdown, shutdown};

use crate::config::model::Protocol;
use crate::net::event_loop::Stream;
use crate::protocol::http1::{self, Host, HttpHead, HttpHeadParser};
use crate::protocol::tls::client_hello::{self, ClientHello, ClientHelloParser, ServerName};
use crate::types::host_name::HostName;

/// What one read takes at most, in bytes: more than most hellos.
const READ: usize = 16 * 1024;
/// How long a client gets to read a refusal before the socket is closed; a reset would overtake the answer.
const LINGER: Duration = Duration::from_secs(1);
/// What is read and thrown away meanwhile, in bytes.
const LINGER_BYTES: usize = 256 * 1024;

/// What a client says first.
#[derive(Debug)]
pub enum Hello {
    /// On a `tls` listener.
    Tls(Box<ClientHello>),
    /// On an `http` listener.
    Http(HttpHead),
    /// On a `tcp` listener, which does not ask.
    Unread,
}

/// The name that a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestedName<'a> {
    /// A name.
    Name(&'a HostName),
    /// An address, or characters that no host name has: nothing that a route can name.
    NoHostName,
    /// Nothing.
    Nothing,
}

impl Hello {
    /// What a TLS client says; `None` for others.
    #[must_use]
    pub fn tls(&self) -> Option<&ClientHello> {
        match self {
            Self::Tls(hello) => Some(hello),
            Self::Http(_) | Self::Unread => None,
        }
    }

    /// The name that the client asks for.
    #[must_use]
    pub fn asked(&self) -> RequestedName<'_> {
        match self {
            Self::Tls(hello) => match &hello.server_name {
                ServerName::Name(name) => RequestedName::Name(name),
                ServerName::NoHostName => RequestedName::NoHostName,
                ServerName::Absent => RequestedName::Nothing,
            },
            Self::Http(head) => match &head.host {
                Host::Name(name) => RequestedName::Name(name),
                Host::NoHostName => RequestedName::NoHostName,
                Host::Absent => RequestedName::Nothing,
            },
            Self::Unread => RequestedName::Nothing,
        }
    }
}

/// Why there is no hello.
#[derive(Debug)]
pub enum PrereadError {
    /// The client closed first.
    Closed,
    /// The client reset, or is gone.
    Reset,
    /// Nothing came in time.
    Silent,
    /// Something came, but not the whole in time.
    Timeout,
    /// It is not TLS.
    NotTls(client_hello::NotTls),
    /// It is not HTTP.
    NotHttp(http1::NotHttp),
    /// It is TLS and breaks its rules.
    MalformedTls(client_hello::MalformedHello),
    /// It is HTTP and breaks its rules.
    MalformedHttp(http1::MalformedHead),
    /// A ClientHello over the bound.
    TooLargeTls(client_hello::TooLarge),
    /// A head over the bound.
    TooLargeHttp,
}

impl fmt::Display for PrereadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the client closed before its hello was whole"),
            Self::Reset => f.write_str("the client reset before its hello was whole"),
            Self::Silent => f.write_str("the client sent nothing"),
            Self::Timeout => f.write_str("the hello was not whole in time"),
            Self::NotTls(why) => why.fmt(f),
            Self::NotHttp(why) => why.fmt(f),
            Self::MalformedTls(why) => why.fmt(f),
            Self::MalformedHttp(why) => why.fmt(f),
            Self::TooLargeTls(why) => why.fmt(f),
            Self::TooLargeHttp => write!(f, "the head is over {} bytes", http1::MAX_HEAD),
        }
    }
}

/// Reads until the hello is whole or `deadline` has come; `received` gets every byte.
///
/// # Errors
///
/// Why there is no hello.
pub async fn read(
    client: &Stream,
    protocol: Protocol,
    deadline: Instant,
    received: &mut Vec<u8>,
) -> Result<Hello, PrereadError> {
    let decided = {
        let read = pin!(async {
            match protocol {
                Protocol::Tls => {
                    let mut parser = ClientHelloParser::new();
                    read_until(client, received, |bytes| tls(parser.advance(bytes))).await
                }
                Protocol::Http => {
                    let mut parser = HttpHeadParser::new();
                    read_until(client, received, |bytes| http(parser.advance(bytes))).await
                }
                Protocol::Tcp => Ok(Hello::Unread),
            }
        });
        client.reactor().timeout_at(deadline, read).await
    };
    match decided {
        Some(read) => read,
        None if received.is_empty() => Err(PrereadError::Silent),
        None => Err(PrereadError::Timeout),
    }
}

fn tls(progress: client_hello::HelloProgress) -> Option<Result<Hello, PrereadError>> {
    use client_hello::HelloProgress;
    Some(match progress {
        HelloProgress::NeedMore => return None,
        HelloProgress::Hello(hello) => Ok(Hello::Tls(hello)),
        HelloProgress::NotTls(why) => Err(PrereadError::NotTls(why)),
        HelloProgress::Malformed(why) => Err(PrereadError::MalformedTls(why)),
        HelloProgress::TooLarge(why) => Err(PrereadError::TooLargeTls(why)),
    })
}

fn http(progress: http1::HeadProgress) -> Option<Result<Hello, PrereadError>> {
    use http1::HeadProgress;
    Some(match progress {
        HeadProgress::NeedMore => return None,
        HeadProgress::Head(head) => Ok(Hello::Http(head)),
        HeadProgress::NotHttp(why) => Err(PrereadError::NotHttp(why)),
        HeadProgress::Malformed(why) => Err(PrereadError::MalformedHttp(why)),
        HeadProgress::TooLarge => Err(PrereadError::TooLargeHttp),
    })
}

async fn read_until(
    client: &Stream,
    received: &mut Vec<u8>,
    mut decide: impl FnMut(&[u8]) -> Option<Result<Hello, PrereadError>>,
) -> Result<Hello, PrereadError> {
    loop {
        match read_some(client, received).await {
            Ok(0) => return Err(PrereadError::Closed),
            Ok(_) => {}
            Err(_) => return Err(PrereadError::Reset),
        }
        if let Some(decided) = decide(received) {
            return decided;
        }
    }
}

async fn read_some(client: &Stream, received: &mut Vec<u8>) -> io::Result<usize> {
    poll_fn(|_| {
        loop {
            ready!(client.poll_readable());
            let read = client.reactor().with_buffer(|buffer| {
                let read = client.receive(&mut buffer[..READ])?;
                Ok::<_, io::Error>(read.map(|chunk| {
                    received.extend_from_slice(&buffer[..chunk.len]);
                    chunk.len
                }))
            });
            if let Some(read) = read.transpose() {
                return Poll::Ready(read);
            }
        }
    })
    .await
}

/// Sends an answer and closes in order, so that the client can read it.
pub async fn answer_and_close(client: &Stream, answer: &[u8]) {
    let close = pin!(async {
        let mut rest = answer;
        while !rest.is_empty() {
            poll_fn(|_| client.poll_writable()).await;
            rest = &rest[client.send(rest)?..];
        }
        shutdown(client, Shutdown::Write)?;
        let mut thrown_away = Vec::new();
        let mut left = LINGER_BYTES;
        while left > 0 {
            thrown_away.clear();
            match read_some(client, &mut thrown_away).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        Ok::<_, io::Error>(())
    });
    let reactor = client.reactor();
    // The client has its second; what it does with it is its own affair.
    let _ = reactor.timeout_at(reactor.now() + LINGER, close).await;
}
