//! The channel between a process and its successor: packets over a pair of Unix sockets.
//!
//! Owns what is sent and received at once, descriptors included (SCM_RIGHTS, unix(7)), and how long that may take: on a
//! thread that may block, or with [`AsyncChannel`] on one that may not. Knows nothing of what packets mean. SOCK_SEQPACKET keeps their bounds, so that a packet comes whole with its descriptors or not
//! at all. Invariants: a packet that was cut is an error; descriptors that arrive are close-on-exec and closed if nobody
//! takes them.

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
use tokio::io::Interest;
use tokio::net::UnixStream;

/// The largest packet, in bytes; well below what a socket's buffer takes by default (net.core.wmem_default).
pub const LARGEST: usize = 64 << 10;
/// The first byte of a packet that has pins.
pub(super) const IS_PINS: u8 = b'p';
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
            return Err(too_large());
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
        let wait = || self.wait_no_longer_than(Timeout::Recv, deadline);
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

    /// Sends a packet without descriptors if there is room for it now; [`WireError::Late`] where there is none.
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

    /// Receives a packet if one is there; [`WireError::Late`] where none is.
    ///
    /// # Errors
    ///
    /// See [`WireError`].
    pub fn try_receive(&self) -> Result<Packet, WireError> {
        self.receive_with(RecvFlags::DONTWAIT, || Ok(()))
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

fn too_large() -> WireError {
    WireError::Malformed("it is too large to be sent".into())
}

/// An end for a thread that must not block: it waits as a task. To be made on a runtime, when nothing else uses this end any
/// more in another way.
#[derive(Debug)]
pub struct AsyncChannel {
    channel: Channel,
    /// The same socket as the runtime watches it, which asks for no more than when it is ready.
    watched: UnixStream,
}

impl AsyncChannel {
    /// The same end.
    ///
    /// # Errors
    ///
    /// When the runtime cannot watch it.
    pub fn new(channel: Channel) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&channel.0, true)?;
        let watched = std::os::unix::net::UnixStream::from(channel.0.try_clone()?);
        let watched = UnixStream::from_std(watched)?;
        Ok(Self { channel, watched })
    }

    /// See [`Channel::try_send`].
    ///
    /// # Errors
    ///
    /// See [`WireError`].
    pub fn try_send(&self, bytes: &[u8]) -> Result<(), WireError> {
        self.channel.try_send(bytes)
    }

    /// Sends a packet as soon as there is room for it. A future that is dropped has sent nothing.
    ///
    /// # Errors
    ///
    /// See [`WireError`].
    pub async fn send(&self, bytes: &[u8]) -> Result<(), WireError> {
        loop {
            self.watched.writable().await.map_err(WireError::Io)?;
            let sent = || self.try_send(bytes);
            if let Some(sent) = self.when_ready(Interest::WRITABLE, sent) {
                return sent;
            }
        }
    }

    /// Receives the next packet. A future that is dropped has taken nothing.
    ///
    /// # Errors
    ///
    /// See [`WireError`].
    pub async fn receive(&self) -> Result<Packet, WireError> {
        loop {
            self.watched.readable().await.map_err(WireError::Io)?;
            let received = || self.channel.try_receive();
            if let Some(received) = self.when_ready(Interest::READABLE, received) {
                return received;
            }
        }
    }

    /// What came of it, unless it has to be waited for again.
    fn when_ready<T>(
        &self,
        interest: Interest,
        act: impl FnOnce() -> Result<T, WireError>,
    ) -> Option<Result<T, WireError>> {
        let done = self.watched.try_io(interest, || match act() {
            Err(WireError::Late) => Err(io::ErrorKind::WouldBlock.into()),
            done => Ok(done),
        });
        done.ok()
    }

    /// The same end once more.
    ///
    /// # Errors
    ///
    /// What dup(2) says.
    pub fn try_clone(&self) -> io::Result<Channel> {
        self.channel.try_clone()
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
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

    #[tokio::test]
    async fn one_that_waits_as_a_task_gets_what_comes_and_hears_the_end() {
        let (one, other) = Channel::pair().unwrap();
        let one = AsyncChannel::new(one).unwrap();
        assert!(matches!(other.try_receive(), Err(WireError::Late)));
        let waiting = tokio::time::timeout(Duration::from_millis(20), one.receive());
        assert!(waiting.await.is_err());
        other.try_send(b"first").unwrap();
        assert_eq!(one.receive().await.unwrap().bytes, b"first");
        one.send(b"second").await.unwrap();
        assert_eq!(other.try_receive().unwrap().bytes, b"second");
        // Until there is no room, and then as soon as there is.
        while one.try_send(&[7; 4096]).is_ok() {}
        assert!(matches!(one.try_send(&[7; 4096]), Err(WireError::Late)));
        let (sent, received) = tokio::join!(one.send(&[8; 4096]), async {
            (0..10_000).find_map(|_| {
                other
                    .try_receive()
                    .ok()
                    .filter(|packet| packet.bytes[0] == 8)
            })
        });
        sent.unwrap();
        if received.is_none() {
            while other.receive(soon()).unwrap().bytes[0] != 8 {}
        }
        drop(other);
        assert!(matches!(one.receive().await, Err(WireError::Gone)));
        assert!(matches!(one.send(b"?").await, Err(WireError::Gone)));
    }

    #[test]
    fn only_a_socket_of_this_kind_is_a_channel() {
        let (stream, _) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(Channel::from_descriptor(stream.into()).is_err());
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(Channel::from_descriptor(file.into()).is_err());
    }
}
