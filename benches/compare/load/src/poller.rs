//! epoll with tokens, as little of it as is needed.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

pub(crate) struct Poller {
    epoll: OwnedFd,
    events: Vec<Event>,
    most: usize,
}

impl Poller {
    /// One that gives at most so many events at a time.
    pub(crate) fn new(most: usize) -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(most),
            most,
        })
    }

    /// Another one that is watched by this one.
    pub(crate) fn nested(&self, most: usize, token: usize) -> io::Result<Self> {
        let inner = Self::new(most)?;
        self.add(&inner.epoll, token, EventFlags::IN)?;
        Ok(inner)
    }

    pub(crate) fn add(&self, fd: &impl AsFd, token: usize, flags: EventFlags) -> io::Result<()> {
        let data = EventData::new_u64(token as u64);
        Ok(epoll::add(&self.epoll, fd, data, flags)?)
    }

    pub(crate) fn remove(&self, fd: &impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, fd)?)
    }

    /// Waits for events, `None` without end; [`Poller::event`] gives them, by their number.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        self.events.clear();
        self.events.reserve(self.most);
        let room = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, room, timeout.as_ref()) {
            Ok(number) => Ok(number),
            Err(Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// The token and the flags of an event.
    pub(crate) fn event(&self, number: usize) -> (usize, EventFlags) {
        let Event { flags, data, .. } = self.events[number];
        (usize::try_from(data.u64()).unwrap_or(usize::MAX), flags)
    }
}
