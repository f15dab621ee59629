//! A worker's event loop: its sockets, tasks and deadlines, all on one thread.
//!
//! Owns the worker's epoll, the readiness of every socket, the tasks and when each is polled. Knows no connection and
//! no byte. It is what a general runtime is, less what a balancer does not need: a task is polled whenever anything
//! happens to a socket that it has waited for, or at the earliest deadline that it has asked for, and looks for itself
//! what that was. So nothing is allocated, locked or counted for a socket or a timer, and nothing at all for each message.
//!
//! Invariants: sockets are registered once, edge-triggered (epoll(7)), and for writing only when they were first full;
//! readiness says that a call may find something, and only the call itself says otherwise; all events of one look are
//! noted before any task is polled, so an event never meets a socket that has taken a closed one's place.

mod deadlines;
mod event_source;
mod notifier;
mod stream;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use slab::Slab;

use deadlines::Deadlines;
use event_source::EventSource;
pub use notifier::Notifier;
pub use stream::{AcceptReadiness, Chunk, Stream};

/// Events that one look takes at most.
const EVENTS: usize = 256;
/// Tasks that are polled for every turn of one that has more to do, where so many are.
const OTHERS: usize = 8;
/// What the alarm's events are marked with, as no source is.
const ALARM: u64 = u64::MAX;
/// No task.
const NOBODY: u32 = u32::MAX;
/// epoll_wait(2) counts milliseconds in 32 bits; who wakes too early looks again.
const LONGEST: Duration = Duration::from_secs(3600);
/// What the worker's buffer holds, in bytes.
pub const BUFFER: usize = 64 * 1024;

type TaskFuture = Pin<Box<dyn Future<Output = ()>>>;

struct Task {
    /// `None` while it is polled.
    future: Option<TaskFuture>,
    queued: bool,
    /// It has had its turn and has more to do, so until the next one nothing queues it.
    waits: bool,
}

/// One thread's event loop; clones are handles to the same.
#[derive(Clone)]
pub struct EventLoop(Rc<Core>);

struct Core {
    epoll: OwnedFd,
    alarm: Arc<Notifier>,
    waker: Waker,
    sources: RefCell<Slab<Rc<EventSource>>>,
    tasks: RefCell<Slab<Task>>,
    /// To be polled before the next look at the sockets.
    queue: RefCell<Vec<u32>>,
    /// Who had its turn and has more to do, in the order in which the next turns come.
    again: RefCell<VecDeque<u32>>,
    deadlines: RefCell<Deadlines>,
    buffer: RefCell<Box<[u8]>>,
    now: Cell<Instant>,
    /// Who is being polled.
    running: Cell<u32>,
    /// The earliest deadline that the running task has asked for.
    wanted: Cell<Option<Instant>>,
    generations: Cell<u32>,
    /// How many events the last look brought.
    busy: Cell<usize>,
}

impl EventLoop {
    /// An event loop without a task.
    ///
    /// # Errors
    ///
    /// What epoll_create(2), eventfd(2) and epoll_ctl(2) say.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let alarm = Arc::new(Notifier::new()?);
        let mark = EventData::new_u64(ALARM);
        epoll::add(&epoll, &alarm.descriptor, mark, EventFlags::IN)?;
        Ok(Self(Rc::new(Core {
            epoll,
            waker: alarm.clone().into(),
            alarm,
            sources: RefCell::default(),
            tasks: RefCell::default(),
            queue: RefCell::default(),
            again: RefCell::default(),
            deadlines: RefCell::default(),
            buffer: RefCell::new(vec![0; BUFFER].into()),
            now: Cell::new(Instant::now()),
            running: Cell::new(NOBODY),
            wanted: Cell::new(None),
            generations: Cell::new(0),
            busy: Cell::new(0),
        })))
    }

    /// What ends or wakes this loop from another thread.
    #[must_use]
    pub fn alarm(&self) -> &Arc<Notifier> {
        &self.0.alarm
    }

    /// When the loop last looked at its sockets: the time by which its tasks go.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.0.now.get()
    }

    /// Starts a task; it is polled before the next look at the sockets.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        let task = Task {
            future: Some(Box::pin(future)),
            queued: true,
            waits: false,
        };
        let key = number(self.0.tasks.borrow_mut().insert(task));
        self.0.queue.borrow_mut().push(key);
    }

    /// Ends the running task's turn: it is polled again when those have been who waited before it, one for each look at
    /// the sockets or, where others are busy too, for every eight of those.
    pub fn again(&self) {
        let key = self.0.running.get();
        if let Some(task) = self.0.tasks.borrow_mut().get_mut(key as usize)
            && !std::mem::replace(&mut task.waits, true)
        {
            self.0.again.borrow_mut().push_back(key);
        }
    }

    /// Whether the last look at the sockets brought one event alone.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.0.busy.get() <= 1
    }

    /// Ready when `deadline` has come; else the running task is polled then, or before.
    pub fn poll_deadline(&self, deadline: Instant) -> Poll<()> {
        if deadline <= self.now() {
            return Poll::Ready(());
        }
        let wanted = self.0.wanted.get();
        let earliest = wanted.map_or(deadline, |wanted| wanted.min(deadline));
        self.0.wanted.set(Some(earliest));
        Poll::Pending
    }

    /// Waits.
    pub async fn sleep(&self, time: Duration) {
        let deadline = self.now() + time;
        poll_fn(|_| self.poll_deadline(deadline)).await;
    }

    /// What `future` gives, or `None` where `deadline` comes first. It is lent, for it would be held twice otherwise.
    pub async fn timeout_at<F: Future>(
        &self,
        deadline: Instant,
        mut future: Pin<&mut F>,
    ) -> Option<F::Output> {
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(given) => Poll::Ready(Some(given)),
            Poll::Pending => self.poll_deadline(deadline).map(|()| None),
        })
        .await
    }

    /// The buffer that the worker's tasks share; what stands in it is gone when the task waits.
    pub fn with_buffer<T>(&self, use_it: impl FnOnce(&mut [u8]) -> T) -> T {
        use_it(&mut self.0.buffer.borrow_mut())
    }

    /// Runs until every task has ended, or [`Notifier::end`] is called, which drops those that are left.
    ///
    /// # Errors
    ///
    /// What epoll_wait(2) says; nothing that a peer does brings it about.
    pub fn run(&self) -> io::Result<()> {
        let ran = self.0.run();
        // Their sockets are this reactor's, so they are dropped while it stands, and while nothing is borrowed.
        let left = std::mem::take(&mut *self.0.tasks.borrow_mut());
        drop(left);
        ran
    }

    /// Watches over `descriptor` for `flags`; its source is to be given back to [`EventLoop::forget`].
    fn register(&self, descriptor: &impl AsFd, flags: EventFlags) -> io::Result<Rc<EventSource>> {
        let generation = self.0.generations.get().wrapping_add(1);
        self.0.generations.set(generation);
        let mut sources = self.0.sources.borrow_mut();
        let entry = sources.vacant_entry();
        let source = Rc::new(EventSource::new(number(entry.key()), generation));
        let mark = EventData::new_u64(source.mark());
        epoll::add(&self.0.epoll, descriptor, mark, flags)?;
        entry.insert(source.clone());
        Ok(source)
    }

    /// Watches over it for other `flags`; what is there already is told as well.
    fn change(
        &self,
        descriptor: &impl AsFd,
        source: &EventSource,
        flags: EventFlags,
    ) -> io::Result<()> {
        let mark = EventData::new_u64(source.mark());
        Ok(epoll::modify(&self.0.epoll, descriptor, mark, flags)?)
    }

    /// Closing the last descriptor of a socket ends its registration (epoll(7), question 6).
    fn forget(&self, source: &EventSource) {
        self.0.sources.borrow_mut().remove(source.place as usize);
    }

    /// Ready when any of `bits` is set; else the running task is polled at the next event of this source.
    fn poll_source(&self, source: &EventSource, bits: u8) -> Poll<()> {
        if source.is(bits) {
            return Poll::Ready(());
        }
        source.task.set(self.0.running.get());
        Poll::Pending
    }
}

impl Core {
    fn run(&self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            self.run_queued();
            if self.tasks.borrow().is_empty() || self.alarm.is_ended() {
                return Ok(());
            }
            self.look(&mut events)?;
        }
    }

    /// Looks at the sockets, waits if there is nothing else to do, and queues whoever has to look.
    fn look(&self, events: &mut Vec<Event>) -> io::Result<()> {
        let busy = self.wait(events)?;
        self.busy.set(busy);
        self.now.set(Instant::now());
        for event in events.drain(..) {
            let Event { flags, data, .. } = event;
            self.note(data.u64(), flags);
        }
        while let Some(task) = self.deadlines.borrow_mut().pop_due(self.now.get()) {
            self.queue(task);
        }
        let turns = 1 + self.queue.borrow().len() / OTHERS;
        for _ in 0..turns {
            let Some(next) = self.again.borrow_mut().pop_front() else {
                break;
            };
            if let Some(task) = self.tasks.borrow_mut().get_mut(next as usize) {
                task.waits = false;
            }
            self.queue(next);
        }
        Ok(())
    }

    fn wait(&self, events: &mut Vec<Event>) -> io::Result<usize> {
        let time = if self.again.borrow().is_empty() {
            let next = self.deadlines.borrow().next();
            next.map(|next| {
                // A clock read before the tasks ran: at worst the loop looks once more. In whole milliseconds, and
                // never before the deadline.
                let left = next.saturating_duration_since(Instant::now());
                let left = left.min(LONGEST) + Duration::from_nanos(999_999);
                Duration::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
            })
        } else {
            Some(Duration::ZERO)
        };
        let time = time.and_then(|time| Timespec::try_from(time).ok());
        events.clear();
        let room = rustix::buffer::spare_capacity(events);
        match epoll::wait(&self.epoll, room, time.as_ref()) {
            Ok(brought) => Ok(brought),
            Err(Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes down what an event says, and queues who waits for it.
    fn note(&self, mark: u64, flags: EventFlags) {
        if mark == ALARM {
            if self.alarm.hear() {
                self.queue_all();
            }
            return;
        }
        let sources = self.sources.borrow();
        let known = sources.get(event_source::place_of(mark));
        if let Some(source) = known.filter(|source| source.mark() == mark) {
            source.note(flags);
            self.queue(source.task.get());
        }
    }

    fn queue(&self, key: u32) {
        if let Some(task) = self.tasks.borrow_mut().get_mut(key as usize) {
            self.queue_task(key, task);
        }
    }

    fn queue_all(&self) {
        for (key, task) in self.tasks.borrow_mut().iter_mut() {
            self.queue_task(number(key), task);
        }
    }

    fn queue_task(&self, key: u32, task: &mut Task) {
        if !task.waits && !std::mem::replace(&mut task.queued, true) {
            self.queue.borrow_mut().push(key);
        }
    }

    /// Polls who is queued, and who is queued by those.
    fn run_queued(&self) {
        let mut polled = 0;
        loop {
            let next = self.queue.borrow().get(polled).copied();
            let Some(task) = next else { break };
            polled += 1;
            self.run_one(task);
        }
        self.queue.borrow_mut().clear();
    }

    fn run_one(&self, key: u32) {
        let future = self
            .tasks
            .borrow_mut()
            .get_mut(key as usize)
            .and_then(|task| {
                task.queued = false;
                task.future.take()
            });
        let Some(mut future) = future else { return };
        self.running.set(key);
        self.wanted.set(None);
        // A panic drops the task while it unwinds, so that what the task owns sees it, and ends no other.
        let polled = catch_unwind(AssertUnwindSafe(move || {
            let mut cx = Context::from_waker(&self.waker);
            let polled = future.as_mut().poll(&mut cx);
            polled.is_pending().then_some(future)
        }));
        let pending = polled.unwrap_or_else(|_| {
            tracing::error!(target: "lyncpin::reactor", "a task panicked");
            None
        });
        self.running.set(NOBODY);
        match pending {
            Some(future) => {
                if let Some(task) = self.tasks.borrow_mut().get_mut(key as usize) {
                    task.future = Some(future);
                }
                if let Some(wanted) = self.wanted.get() {
                    self.deadlines.borrow_mut().bring_forward(key, wanted);
                }
            }
            None => {
                self.tasks.borrow_mut().remove(key as usize);
                self.deadlines.borrow_mut().remove(key);
            }
        }
    }
}

fn number(place: usize) -> u32 {
    u32::try_from(place).expect("a worker has fewer than 2^32 sockets and tasks")
}

#[cfg(test)]
mod tests;
