//! The channel between a process and its successor: packets over a pair of Unix sockets.
//!
//! Owns packets with their descriptors (SCM_RIGHTS, unix(7)), and time limits: on a thread that may block, or with
//! [`AsyncChannel`] on one that may not. Must not know what packets mean. SOCK_SEQPACKET preserves their boundaries: a packet
//! arrives whole with its descriptors, or not at all. Invariants: a cut packet is an error; received descriptors are
//! close-on-exec, and closed if they are not used.

mod async_channel;

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};

pub use async_channel::AsyncChannel;

/// The largest packet in bytes, well below the default size of a socket's buffer (net.core.wmem_default).
pub const LARGEST: usize = 64 << 10;
/// The first byte of a packet with pins.
pub(super) const IS_PINS: u8 = b'p';
/// The most descriptors in one packet; the kernel's limit is 253 (SCM_MAX_FD of Linux).
pub const MOST_DESCRIPTORS: usize = 128;

/// One end of a channel.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// One packet.
#[derive(Debug)]
pub struct Packet {
    /// Its content.
    pub bytes: Vec<u8>,
    /// Its descriptors.
    pub descriptors: Vec<OwnedFd>,
}

/// Why a packet could not be sent or received.
#[derive(Debug)]
pub enum WireError {
    /// The other process is gone.
    Closed,
    /// The time limit was reached.
    Timeout,
    /// A packet is too large, or not one that the other process can have sent.
    Malformed(String),
    /// The kernel returned an error.
    Io(io::Error),
}

impl Channel {
    /// Creates both ends.
    ///
    /// # Errors
    ///
    /// The error of socketpair(2).
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self(one), Self(other)))
    }

    /// The end that a process was started with.
    ///
    /// # Errors
    ///
    /// If it is not such a socket.
    pub fn from_descriptor(descriptor: OwnedFd) -> io::Result<Self> {
        match rustix::net::sockopt::socket_type(&descriptor)? {
            SocketType::SEQPACKET => Ok(Self(descriptor)),
            _ => Err(Errno::PROTOTYPE.into()),
        }
    }

    /// The descriptor, to start a process with it.
    #[must_use]
    pub fn into_descriptor(self) -> OwnedFd {
        self.0
    }

    /// Duplicates this end: one thread may send while another receives.
    ///
    /// # Errors
    ///
    /// The error of dup(2).
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Sends a packet with descriptors, which stay open here. Waits until `deadline` for room.
    ///
    /// # Errors
    ///
    /// See [`WireError`].
    pub fn send(
        &self,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> Result<(), WireError> {
        if bytes.len() > LARGEST || descriptors.len() > MOST_DESCRIPTORS {
            return Err(too_large());
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        loop {
            self.set_timeout(Timeout::Send, deadline)?;
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(descriptors));
            }
            let flags = SendFlags::NOSIGNAL;
            match sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, flags) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until `deadline` for a packet.
    ///
    /// # Errors
    ///
    /// See [`WireError`].
    pub fn receive(&self, deadline: Instant) -> Result<Packet, WireError> {
        let wait = || self.set_timeout(Timeout::Recv, deadline);
        self.receive_with(RecvFlags::empty(), wait)
    }

    fn receive_with(
        &self,
        flags: RecvFlags,
        before: impl Fn() -> Result<(), WireError>,
    ) -> Result<Packet, WireError> {
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        let mut bytes = vec![0; LARGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut reset = false;
        loop {
            before()?;
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut into = [IoSliceMut::new(&mut bytes)];
            let got = match recvmsg(&self.0, &mut into, &mut control, flags) {
                Ok(got) => got,
                Err(Errno::INTR) => continue,
                // It closed with our packets unread. Its last packets come after this error (`unix_release_sock` of Linux).
                Err(Errno::CONNRESET) if !reset => {
                    reset = true;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let mut descriptors = Vec::new();
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(received) = message {
                    descriptors.extend(received);
                }
            }
            if got
                .flags
                .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
            {
                let why = "a packet was cut; check the limit of descriptors (LimitNOFILE)";
                return Err(WireError::Malformed(why.into()));
            }
            if got.bytes == 0 {
                return Err(WireError::Closed);
            }
            bytes.truncate(got.bytes);
            return Ok(Packet { bytes, descriptors });
        }
    }

    /// Sends a packet without descriptors if there is room for it now; else the error is [`WireError::Timeout`].
    ///
    /// # Errors
    ///
    /// See [`WireError`].
    pub fn try_send(&self, bytes: &[u8]) -> Result<(), WireError> {
        if bytes.len() > LARGEST {
            return Err(too_large());
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        loop {
            match rustix::net::send(&self.0, bytes, flags) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Receives a packet if there is one; else the error is [`WireError::Timeout`].
    ///
    /// # Errors
    ///
    /// See [`WireError`].
    pub fn try_receive(&self) -> Result<Packet, WireError> {
        self.receive_with(RecvFlags::DONTWAIT, || Ok(()))
    }

    fn set_timeout(&self, which: Timeout, deadline: Instant) -> Result<(), WireError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(WireError::Timeout);
        }
        // Less than a microsecond would mean no limit (socket(7)).
        let left = left.max(Duration::from_millis(1));
        Ok(set_socket_timeout(self.0.as_fd(), which, Some(left))?)
    }
}

fn too_large() -> WireError {
    WireError::Malformed("the packet is too large".into())
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Errno> for WireError {
    fn from(error: Errno) -> Self {
        match error {
            Errno::AGAIN => Self::Timeout,
            Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => Self::Closed,
            other => Self::Io(other.into()),
        }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the other process has closed the channel"),
            Self::Timeout => f.write_str("the other process did not respond in time"),
            Self::Malformed(why) => {
                write!(f, "invalid packet from the other process: {why}")
            }
            Self::Io(_) => f.write_str("the channel to the other process failed"),
        }
    }
}

impl std::error::Error for WireError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Closed | Self::Timeout | Self::Malformed(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn packets_arrive_whole_in_order_and_with_their_descriptors() {
        let (one, other) = Channel::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        one.send(b"first", &[listener.as_fd()], soon()).unwrap();
        one.send(&vec![7; LARGEST], &[], soon()).unwrap();
        let first = other.receive(soon()).unwrap();
        assert_eq!(first.bytes, b"first");
        let address = listener.local_addr().unwrap();
        drop(listener);
        let [received] = <[OwnedFd; 1]>::try_from(first.descriptors).unwrap();
        let received = TcpListener::from(received);
        let client = TcpStream::connect(address).unwrap();
        let (_, peer) = received.accept().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        let second = other.receive(soon()).unwrap();
        assert_eq!((second.bytes.len(), second.descriptors.len()), (LARGEST, 0));
    }

    #[test]
    fn the_most_descriptors_arrive_and_no_more_are_sent() {
        let (one, other) = Channel::pair().unwrap();
        let many = vec![one.0.as_fd(); MOST_DESCRIPTORS];
        one.send(b"many", &many, soon()).unwrap();
        let received = other.receive(soon()).unwrap();
        assert_eq!(received.descriptors.len(), MOST_DESCRIPTORS);
        let more = vec![one.0.as_fd(); MOST_DESCRIPTORS + 1];
        assert!(one.send(b"more", &more, soon()).is_err());
        assert!(one.send(&vec![0; LARGEST + 1], &[], soon()).is_err());
    }

    #[test]
    fn a_closed_channel_is_distinguished_from_a_silent_one() {
        let (one, other) = Channel::pair().unwrap();
        let moment = Instant::now() + Duration::from_millis(20);
        assert!(matches!(one.receive(moment), Err(WireError::Timeout)));
        assert!(matches!(one.receive(moment), Err(WireError::Timeout)));
        drop(other);
        assert!(matches!(one.receive(soon()), Err(WireError::Closed)));
        assert!(matches!(
            one.send(b"?", &[], soon()),
            Err(WireError::Closed)
        ));
    }

    #[test]
    fn the_last_packet_of_a_process_that_ended_with_unread_packets_arrives() {
        let (one, other) = Channel::pair().unwrap();
        one.send(b"unheard", &[], soon()).unwrap();
        other.send(b"no", &[], soon()).unwrap();
        drop(other);
        assert_eq!(one.receive(soon()).unwrap().bytes, b"no");
        assert!(matches!(one.receive(soon()), Err(WireError::Closed)));
    }

    #[test]
    fn only_a_seqpacket_socket_is_a_channel() {
        let (stream, _) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(Channel::from_descriptor(stream.into()).is_err());
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(Channel::from_descriptor(file.into()).is_err());
    }
}
