//! The channel between a process and its successor: packets over a pair of Unix sockets.
//!
//! Owns what is sent and received at once, descriptors included (SCM_RIGHTS, unix(7)), and how long that may take. Knows
//! nothing of what packets mean. SOCK_SEQPACKET keeps their bounds, so that a packet comes whole with its descriptors or not
//! at all. Invariants: a packet that was cut is an error; descriptors that arrive are close-on-exec and closed if nobody
//! takes them.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};

/// The largest packet, in bytes; well below what a socket's buffer takes by default (net.core.wmem_default).
pub const LARGEST: usize = 64 << 10;
/// Descriptors in one packet; the kernel takes 253 (SCM_MAX_FD of Linux).
pub const MOST_DESCRIPTORS: usize = 128;

/// One end.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// One packet.
#[derive(Debug)]
pub struct Packet {
    /// What it says.
    pub bytes: Vec<u8>,
    /// What came with it.
    pub descriptors: Vec<OwnedFd>,
}

/// Why nothing was sent or received.
#[derive(Debug)]
pub enum WireError {
    /// The other process is gone.
    Gone,
    /// It did not answer in time, or takes nothing.
    Late,
    /// A packet was larger than any that is sent, or is not what could have been sent.
    Malformed(String),
    /// What the kernel says.
    Io(io::Error),
}

impl Channel {
    /// Both ends.
    ///
    /// # Errors
    ///
    /// What socketpair(2) says.
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
    /// When that is no such socket.
    pub fn from_descriptor(descriptor: OwnedFd) -> io::Result<Self> {
        match rustix::net::sockopt::socket_type(&descriptor)? {
            SocketType::SEQPACKET => Ok(Self(descriptor)),
            _ => Err(Errno::PROTOTYPE.into()),
        }
    }

    /// For whoever starts a process with it.
    #[must_use]
    pub fn into_descriptor(self) -> OwnedFd {
        self.0
    }

    /// The same end once more: one thread may send while another receives.
    ///
    /// # Errors
    ///
    /// What dup(2) says.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Sends a packet with descriptors, which stay the sender's too. Waits until `deadline` for room.
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
            return Err(WireError::Malformed("it is too large to be sent".into()));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        loop {
            self.wait_no_longer_than(Timeout::Send, deadline)?;
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
        let mut bytes = vec![0; LARGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut reset = false;
        loop {
            self.wait_no_longer_than(Timeout::Recv, deadline)?;
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut into = [IoSliceMut::new(&mut bytes)];
            let got = match recvmsg(&self.0, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(got) => got,
                Err(Errno::INTR) => continue,
                // It went without hearing us out; its last words come after that news (`unix_release_sock` of Linux).
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
                let why = "a packet does not fit; are there descriptors left (LimitNOFILE)?";
                return Err(WireError::Malformed(why.into()));
            }
            if got.bytes == 0 {
                return Err(WireError::Gone);
            }
            bytes.truncate(got.bytes);
            return Ok(Packet { bytes, descriptors });
        }
    }

    fn wait_no_longer_than(&self, which: Timeout, deadline: Instant) -> Result<(), WireError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(WireError::Late);
        }
        // Less than a microsecond would be taken for no bound at all (socket(7)).
        let left = left.max(Duration::from_millis(1));
        Ok(set_socket_timeout(self.0.as_fd(), which, Some(left))?)
    }
}

impl From<Errno> for WireError {
    fn from(error: Errno) -> Self {
        match error {
            Errno::AGAIN => Self::Late,
            Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => Self::Gone,
            other => Self::Io(other.into()),
        }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the other process is gone"),
            Self::Late => f.write_str("the other process does not answer in time"),
            Self::Malformed(why) => {
                write!(f, "what the other process says is not understood: {why}")
            }
            Self::Io(_) => f.write_str("the channel to the other process is broken"),
        }
    }
}

impl std::error::Error for WireError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Gone | Self::Late | Self::Malformed(_) => None,
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
    fn packets_come_whole_in_order_and_with_their_descriptors() {
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
    fn as_many_descriptors_come_as_are_allowed_and_no_more_are_sent() {
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
    fn one_that_is_gone_or_silent_is_told_apart() {
        let (one, other) = Channel::pair().unwrap();
        let moment = Instant::now() + Duration::from_millis(20);
        assert!(matches!(one.receive(moment), Err(WireError::Late)));
        assert!(matches!(one.receive(moment), Err(WireError::Late)));
        drop(other);
        assert!(matches!(one.receive(soon()), Err(WireError::Gone)));
        assert!(matches!(one.send(b"?", &[], soon()), Err(WireError::Gone)));
    }

    #[test]
    fn the_last_words_of_one_that_did_not_hear_us_out_are_heard() {
        let (one, other) = Channel::pair().unwrap();
        one.send(b"unheard", &[], soon()).unwrap();
        other.send(b"no", &[], soon()).unwrap();
        drop(other);
        assert_eq!(one.receive(soon()).unwrap().bytes, b"no");
        assert!(matches!(one.receive(soon()), Err(WireError::Gone)));
    }

    #[test]
    fn only_a_socket_of_this_kind_is_a_channel() {
        let (stream, _) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(Channel::from_descriptor(stream.into()).is_err());
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(Channel::from_descriptor(file.into()).is_err());
    }
}
