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

use crate::client_hello::{self, ClientHello, ClientHelloParser, ServerName};
use crate::config::model::Protocol;
use crate::host_name::HostName;
use crate::http_head::{self, Host, HttpHead, HttpHeadParser};
use crate::reactor::Stream;

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
pub enum Asked<'a> {
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
    pub fn asked(&self) -> Asked<'_> {
        match self {
            Self::Tls(hello) => match &hello.server_name {
                ServerName::Name(name) => Asked::Name(name),
                ServerName::NoHostName => Asked::NoHostName,
                ServerName::Absent => Asked::Nothing,
            },
            Self::Http(head) => match &head.host {
                Host::Name(name) => Asked::Name(name),
                Host::NoHostName => Asked::NoHostName,
                Host::Absent => Asked::Nothing,
            },
            Self::Unread => Asked::Nothing,
        }
    }
}

/// Why there is no hello.
#[derive(Debug)]
pub enum HelloFault {
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
    NotHttp(http_head::NotHttp),
    /// It is TLS and breaks its rules.
    MalformedTls(client_hello::Malformed),
    /// It is HTTP and breaks its rules.
    MalformedHttp(http_head::Malformed),
    /// A ClientHello over the bound.
    TooLargeTls(client_hello::TooLarge),
    /// A head over the bound.
    TooLargeHttp,
}

impl fmt::Display for HelloFault {
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
            Self::TooLargeHttp => write!(f, "the head is over {} bytes", http_head::MAX_HEAD),
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
) -> Result<Hello, HelloFault> {
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
        None if received.is_empty() => Err(HelloFault::Silent),
        None => Err(HelloFault::Timeout),
    }
}

fn tls(progress: client_hello::Progress) -> Option<Result<Hello, HelloFault>> {
    use client_hello::Progress;
    Some(match progress {
        Progress::NeedMore => return None,
        Progress::Hello(hello) => Ok(Hello::Tls(hello)),
        Progress::NotTls(why) => Err(HelloFault::NotTls(why)),
        Progress::Malformed(why) => Err(HelloFault::MalformedTls(why)),
        Progress::TooLarge(why) => Err(HelloFault::TooLargeTls(why)),
    })
}

fn http(progress: http_head::Progress) -> Option<Result<Hello, HelloFault>> {
    use http_head::Progress;
    Some(match progress {
        Progress::NeedMore => return None,
        Progress::Head(head) => Ok(Hello::Http(head)),
        Progress::NotHttp(why) => Err(HelloFault::NotHttp(why)),
        Progress::Malformed(why) => Err(HelloFault::MalformedHttp(why)),
        Progress::TooLarge => Err(HelloFault::TooLargeHttp),
    })
}

async fn read_until(
    client: &Stream,
    received: &mut Vec<u8>,
    mut decide: impl FnMut(&[u8]) -> Option<Result<Hello, HelloFault>>,
) -> Result<Hello, HelloFault> {
    loop {
        match read_some(client, received).await {
            Ok(0) => return Err(HelloFault::Closed),
            Ok(_) => {}
            Err(_) => return Err(HelloFault::Reset),
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
