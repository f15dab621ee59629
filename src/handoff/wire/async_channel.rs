//! An end of a channel on a thread that must not block.
//!
//! Owns waiting on the runtime. Must not know what packets mean. Invariant: a future that is dropped has sent and received
//! nothing.

use std::io;

use tokio::io::Interest;
use tokio::net::UnixStream;

use super::{Channel, Packet, WireError};

/// An end for a thread that must not block: waiting is async. Must be created on a runtime, when no other code uses this end
/// any more.
#[derive(Debug)]
pub struct AsyncChannel {
    channel: Channel,
    /// The same socket for the runtime, which only polls its readiness.
    watched: UnixStream,
}

impl AsyncChannel {
    /// Makes an end async.
    ///
    /// # Errors
    ///
    /// If the runtime cannot poll it.
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

    /// Receives the next packet. A future that is dropped has received nothing.
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

    /// The result; `None` if it must wait again.
    fn when_ready<T>(
        &self,
        interest: Interest,
        act: impl FnOnce() -> Result<T, WireError>,
    ) -> Option<Result<T, WireError>> {
        let done = self.watched.try_io(interest, || match act() {
            Err(WireError::Timeout) => Err(io::ErrorKind::WouldBlock.into()),
            done => Ok(done),
        });
        done.ok()
    }

    /// Duplicates this end.
    ///
    /// # Errors
    ///
    /// The error of dup(2).
    pub fn try_clone(&self) -> io::Result<Channel> {
        self.channel.try_clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[tokio::test]
    async fn an_async_end_receives_packets_and_the_end() {
        let (one, other) = Channel::pair().unwrap();
        let one = AsyncChannel::new(one).unwrap();
        assert!(matches!(other.try_receive(), Err(WireError::Timeout)));
        let waiting = tokio::time::timeout(Duration::from_millis(20), one.receive());
        assert!(waiting.await.is_err());
        other.try_send(b"first").unwrap();
        assert_eq!(one.receive().await.unwrap().bytes, b"first");
        one.send(b"second").await.unwrap();
        assert_eq!(other.try_receive().unwrap().bytes, b"second");
        // Until there is no room, and then as soon as there is.
        while one.try_send(&[7; 4096]).is_ok() {}
        assert!(matches!(one.try_send(&[7; 4096]), Err(WireError::Timeout)));
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
        assert!(matches!(one.receive().await, Err(WireError::Closed)));
        assert!(matches!(one.send(b"?").await, Err(WireError::Closed)));
    }
}
