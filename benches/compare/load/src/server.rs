//! A backend's end of a connection.

use std::io;
use std::os::fd::OwnedFd;

use crate::hello::{self, Service};
use crate::socket::{receive, transmit, transmit_all};
use crate::tally::Tally;

/// What every service but `Answer` says after the hello.
pub(crate) const GREETING: [u8; 64] = [0x47; 64];
/// What `Answer` says: a ServerHello and a certificate chain, by size.
pub(crate) const ANSWER: [u8; 3_000] = [0x41; 3_000];
/// What `Reply` says for each request.
pub(crate) const REPLY: [u8; 1_024] = [0x52; 1_024];
/// What `Reply` is asked with.
pub(crate) const REQUEST: [u8; 200] = [0x51; 200];
/// One send of a source.
pub(crate) const CHUNK: usize = 128 * 1024;

pub(crate) struct Server {
    pub(crate) socket: OwnedFd,
    /// Bytes of the hello, or of the request, so far.
    have: usize,
    /// The length of the hello and what it asked for, once its beginning is there.
    asked: Option<(usize, Service)>,
    greeted: bool,
}

/// What is to become of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Stay,
    /// From now on it sends, or receives, without end.
    Stream(Service),
    Close,
}

impl Server {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            have: 0,
            asked: None,
            greeted: false,
        }
    }

    /// Takes what has come.
    pub(crate) fn serve(&mut self, buffer: &mut [u8]) -> io::Result<Next> {
        let read = match receive(&self.socket, buffer) {
            Ok(Some(read)) => read,
            Ok(None) => return Ok(Next::Stay),
            // Clients of a load that ends are gone without a word.
            Err(_) => return Ok(Next::Close),
        };
        if read == 0 {
            return Ok(Next::Close);
        }
        if !self.greeted {
            return self.hear(&buffer[..read]);
        }
        match self.asked {
            Some((_, Service::Echo)) => transmit_all(&self.socket, &buffer[..read])?,
            Some((_, Service::Reply)) => {
                self.have += read;
                if self.have >= REQUEST.len() {
                    self.have = 0;
                    transmit_all(&self.socket, &REPLY)?;
                }
            }
            _ => return Err(io::Error::other("bytes that nobody asked for")),
        }
        Ok(Next::Stay)
    }

    fn hear(&mut self, bytes: &[u8]) -> io::Result<Next> {
        if self.have == 0 {
            self.asked = hello::read(bytes);
        }
        self.have += bytes.len();
        let Some((len, service)) = self.asked else {
            return Err(io::Error::other("what came is no hello"));
        };
        if self.have < len {
            return Ok(Next::Stay);
        }
        self.have = 0;
        self.greeted = true;
        if service == Service::Answer {
            transmit_all(&self.socket, &ANSWER)?;
            return Ok(Next::Close);
        }
        transmit_all(&self.socket, &GREETING)?;
        Ok(match service {
            Service::Source | Service::Sink => Next::Stream(service),
            Service::Echo | Service::Reply | Service::Answer => Next::Stay,
        })
    }
}

/// One turn of an endless sender or receiver; `false` when its connection has ended.
pub(crate) fn stream(
    socket: &OwnedFd,
    sends: bool,
    buffer: &mut [u8],
    tally: &mut Tally,
) -> io::Result<bool> {
    let moved = if sends {
        transmit(socket, &buffer[..CHUNK])
    } else {
        crate::socket::discard(socket, buffer)
    };
    match moved {
        Ok(Some(0)) | Err(_) => Ok(false),
        Ok(Some(moved)) => {
            if !sends {
                tally.moved(moved);
            }
            Ok(true)
        }
        Ok(None) => Ok(true),
    }
}
