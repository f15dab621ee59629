//! Reading the first bytes of a client until the parser has a result.
//!
//! Owns the reading and its time limit; the parsers own the meaning. Must not know routes. Invariant: every byte that was
//! read is in `received`, in order, whatever the result: `received` is sent to the backend.

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

/// Most bytes of one read: more than most hellos have.
const MAX_READ: usize = 16 * 1024;
/// How long a rejected client may read the response before the socket is closed; a reset would overtake the response.
const LINGER: Duration = Duration::from_secs(1);
/// Most bytes that are read and discarded meanwhile.
const MAX_DISCARDED: usize = 256 * 1024;

/// The first message of a client.
#[derive(Debug)]
pub enum Hello {
    /// On a `tls` listener.
    Tls(Box<ClientHello>),
    /// On an `http` listener.
    Http(HttpHead),
    /// On a `tcp` listener, which does not read it.
    Unread,
}

/// The name that a client requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestedName<'a> {
    /// A host name.
    Name(&'a HostName),
    /// An IP address, or characters that no host name has; no route can match it.
    NoHostName,
    /// No name.
    Absent,
}

impl Hello {
    /// The ClientHello; `None` on other listeners.
    #[must_use]
    pub fn tls(&self) -> Option<&ClientHello> {
        match self {
            Self::Tls(hello) => Some(hello),
            Self::Http(_) | Self::Unread => None,
        }
    }

    /// The requested name.
    #[must_use]
    pub fn requested_name(&self) -> RequestedName<'_> {
        match self {
            Self::Tls(hello) => match &hello.server_name {
                ServerName::Name(name) => RequestedName::Name(name),
                ServerName::NoHostName => RequestedName::NoHostName,
                ServerName::Absent => RequestedName::Absent,
            },
            Self::Http(head) => match &head.host {
                Host::Name(name) => RequestedName::Name(name),
                Host::NoHostName => RequestedName::NoHostName,
                Host::Absent => RequestedName::Absent,
            },
            Self::Unread => RequestedName::Absent,
        }
    }
}

/// Why the hello could not be read.
#[derive(Debug)]
pub enum PrereadError {
    /// The client closed before the hello was complete.
    Closed,
    /// The client reset, or the connection failed.
    Reset,
    /// No byte arrived in time.
    Silent,
    /// Part of the hello arrived in time, but not all of it.
    Timeout,
    /// The bytes are not TLS.
    NotTls(client_hello::NotTls),
    /// The bytes are not HTTP.
    NotHttp(http1::NotHttp),
    /// The bytes are TLS but not a valid ClientHello.
    MalformedTls(client_hello::MalformedHello),
    /// The bytes are HTTP but not a valid request head.
    MalformedHttp(http1::MalformedHead),
    /// The ClientHello is over the size limit.
    TooLargeTls(client_hello::TooLarge),
    /// The request head is over the size limit.
    TooLargeHttp,
}

impl fmt::Display for PrereadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the client closed before its hello was complete"),
            Self::Reset => f.write_str("the client reset before its hello was complete"),
            Self::Silent => f.write_str("the client sent nothing"),
            Self::Timeout => f.write_str("the hello was not complete in time"),
            Self::NotTls(why) => why.fmt(f),
            Self::NotHttp(why) => why.fmt(f),
            Self::MalformedTls(why) => why.fmt(f),
            Self::MalformedHttp(why) => why.fmt(f),
            Self::TooLargeTls(why) => why.fmt(f),
            Self::TooLargeHttp => write!(
                f,
                "the request head is larger than {} bytes",
                http1::MAX_HEAD
            ),
        }
    }
}

/// Reads until the hello is complete or `deadline` passes; appends every byte to `received`.
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
    let result = {
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
        client.event_loop().timeout_at(deadline, read).await
    };
    match result {
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
    mut parse: impl FnMut(&[u8]) -> Option<Result<Hello, PrereadError>>,
) -> Result<Hello, PrereadError> {
    loop {
        match read_some(client, received).await {
            Ok(0) => return Err(PrereadError::Closed),
            Ok(_) => {}
            Err(_) => return Err(PrereadError::Reset),
        }
        if let Some(result) = parse(received) {
            return result;
        }
    }
}

async fn read_some(client: &Stream, received: &mut Vec<u8>) -> io::Result<usize> {
    poll_fn(|_| {
        loop {
            ready!(client.poll_readable());
            let read = client.event_loop().with_buffer(|buffer| {
                let read = client.receive(&mut buffer[..MAX_READ])?;
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

/// Sends a response and closes in order, so that the client can read it.
pub async fn respond_and_close(client: &Stream, response: &[u8]) {
    let close = pin!(async {
        let mut unsent = response;
        while !unsent.is_empty() {
            poll_fn(|_| client.poll_writable()).await;
            unsent = &unsent[client.send(unsent)?..];
        }
        shutdown(client, Shutdown::Write)?;
        let mut discarded = Vec::new();
        let mut left = MAX_DISCARDED;
        while left > 0 {
            discarded.clear();
            match read_some(client, &mut discarded).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        Ok::<_, io::Error>(())
    });
    let event_loop = client.event_loop();
    // The result does not matter: the client had its time to read the response.
    let _ = event_loop
        .timeout_at(event_loop.now() + LINGER, close)
        .await;
}
