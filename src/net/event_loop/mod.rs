//! A worker's event loop: its sockets, tasks and deadlines, all on one thread.
//!
//! Owns the worker's epoll, the readiness of every socket, the tasks and when each is polled. Must not know connections or
//! their bytes. It is a general runtime without the parts that a balancer does not need: a task is polled when anything
//! happens to a socket that it waits for, or at the earliest deadline that it has set, and finds out itself what happened.
//! So no allocation, lock or counter is needed for a socket or a timer, and no work at all for each message.
//!
//! Invariants: sockets are registered once, edge-triggered (epoll(7)), and for writing only after they were full once;
//! readiness means that a call may succeed, and only the call itself clears it; all events of one epoll_wait are recorded
//! before any task is polled, so an event never reaches a socket that reuses the index of a closed one.

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

/// Most events that one epoll_wait returns.
const MAX_EVENTS: usize = 256;
/// If many tasks are queued, one task that has yielded runs for each of this many others.
const TASKS_PER_TURN: usize = 8;
/// The token of the notifier's events; no source has it.
const NOTIFIER: u64 = u64::MAX;
/// The key of no task.
const NO_TASK: u32 = u32::MAX;
/// Longest wait: epoll_wait(2) counts milliseconds in 32 bits. After an early wake-up the loop simply waits again.
const MAX_WAIT: Duration = Duration::from_secs(3600);
/// Size of the worker's buffer, in bytes.
pub const BUFFER: usize = 64 * 1024;

type TaskFuture = Pin<Box<dyn Future<Output = ()>>>;

struct Task {
    /// `None` while it is polled.
    future: Option<TaskFuture>,
    queued: bool,
    /// It has yielded its turn: events do not queue it before its next turn.
    yielded: bool,
}

/// The event loop of one thread; clones are handles to the same loop.
#[derive(Clone)]
pub struct EventLoop(Rc<Core>);

struct Core {
    epoll: OwnedFd,
    notifier: Arc<Notifier>,
    waker: Waker,
    sources: RefCell<Slab<Rc<EventSource>>>,
    tasks: RefCell<Slab<Task>>,
    /// Tasks to poll before the next epoll_wait.
    queue: RefCell<Vec<u32>>,
    /// Tasks that have yielded, in the order of their next turns.
    yielded: RefCell<VecDeque<u32>>,
    deadlines: RefCell<Deadlines>,
    buffer: RefCell<Box<[u8]>>,
    now: Cell<Instant>,
    /// The task being polled.
    running: Cell<u32>,
    /// The earliest deadline that the running task has set.
    next_deadline: Cell<Option<Instant>>,
    generations: Cell<u32>,
    /// Number of events of the last epoll_wait.
    event_count: Cell<usize>,
}

impl EventLoop {
    /// An event loop without tasks.
    ///
    /// # Errors
    ///
    /// The errors of epoll_create(2), eventfd(2) and epoll_ctl(2).
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let notifier = Arc::new(Notifier::new()?);
        let token = EventData::new_u64(NOTIFIER);
        epoll::add(&epoll, &notifier.descriptor, token, EventFlags::IN)?;
        Ok(Self(Rc::new(Core {
            epoll,
            waker: notifier.clone().into(),
            notifier,
            sources: RefCell::default(),
            tasks: RefCell::default(),
            queue: RefCell::default(),
            yielded: RefCell::default(),
            deadlines: RefCell::default(),
            buffer: RefCell::new(vec![0; BUFFER].into()),
            now: Cell::new(Instant::now()),
            running: Cell::new(NO_TASK),
            next_deadline: Cell::new(None),
            generations: Cell::new(0),
            event_count: Cell::new(0),
        })))
    }

    /// The handle by which other threads wake or stop this loop.
    #[must_use]
    pub fn notifier(&self) -> &Arc<Notifier> {
        &self.0.notifier
    }

    /// The time of the last epoll_wait, which is the clock of all tasks.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.0.now.get()
    }

    /// Spawns a task; it is polled before the next epoll_wait.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        let task = Task {
            future: Some(Box::pin(future)),
            queued: true,
            yielded: false,
        };
        let key = key_of(self.0.tasks.borrow_mut().insert(task));
        self.0.queue.borrow_mut().push(key);
    }

    /// Yields the turn of the running task: it is polled again after the tasks that yielded before it. One of these runs
    /// after each epoll_wait and, if many tasks are queued, one more for every eight of them.
    pub fn yield_turn(&self) {
        let key = self.0.running.get();
        if let Some(task) = self.0.tasks.borrow_mut().get_mut(key as usize)
            && !std::mem::replace(&mut task.yielded, true)
        {
            self.0.yielded.borrow_mut().push_back(key);
        }
    }

    /// Whether the last epoll_wait returned at most one event.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.0.event_count.get() <= 1
    }

    /// Ready once `deadline` has passed; otherwise the running task is polled then or earlier.
    pub fn poll_deadline(&self, deadline: Instant) -> Poll<()> {
        if deadline <= self.now() {
            return Poll::Ready(());
        }
        let set = self.0.next_deadline.get();
        let earliest = set.map_or(deadline, |set| set.min(deadline));
        self.0.next_deadline.set(Some(earliest));
        Poll::Pending
    }

    /// Waits for `duration`.
    pub async fn sleep(&self, duration: Duration) {
        let deadline = self.now() + duration;
        poll_fn(|_| self.poll_deadline(deadline)).await;
    }

    /// The output of `future`, or `None` if `deadline` passes first. The future is borrowed, because it would be stored twice
    /// otherwise.
    pub async fn timeout_at<F: Future>(
        &self,
        deadline: Instant,
        mut future: Pin<&mut F>,
    ) -> Option<F::Output> {
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => self.poll_deadline(deadline).map(|()| None),
        })
        .await
    }

    /// Lends the buffer that the worker's tasks share; its contents do not survive an await.
    pub fn with_buffer<T>(&self, f: impl FnOnce(&mut [u8]) -> T) -> T {
        f(&mut self.0.buffer.borrow_mut())
    }

    /// Runs until every task has ended, or until [`Notifier::stop`] is called, which drops the remaining tasks.
    ///
    /// # Errors
    ///
    /// The error of epoll_wait(2); no peer can cause one.
    pub fn run(&self) -> io::Result<()> {
        let result = self.0.run();
        // Tasks own sockets of this loop, so they are dropped while it exists and while nothing is borrowed.
        let remaining = std::mem::take(&mut *self.0.tasks.borrow_mut());
        drop(remaining);
        result
    }

    /// Registers `descriptor` for the events in `flags`; the source must be passed to [`EventLoop::deregister`] at the end.
    fn register(&self, descriptor: &impl AsFd, flags: EventFlags) -> io::Result<Rc<EventSource>> {
        let generation = self.0.generations.get().wrapping_add(1);
        self.0.generations.set(generation);
        let mut sources = self.0.sources.borrow_mut();
        let entry = sources.vacant_entry();
        let source = Rc::new(EventSource::new(key_of(entry.key()), generation));
        let token = EventData::new_u64(source.token());
        epoll::add(&self.0.epoll, descriptor, token, flags)?;
        entry.insert(source.clone());
        Ok(source)
    }

    /// Changes the events that it is registered for; events that are already pending are reported again.
    fn reregister(
        &self,
        descriptor: &impl AsFd,
        source: &EventSource,
        flags: EventFlags,
    ) -> io::Result<()> {
        let token = EventData::new_u64(source.token());
        Ok(epoll::modify(&self.0.epoll, descriptor, token, flags)?)
    }

    /// Removes the source. Closing the last descriptor of a socket removes it from the epoll (epoll(7), question 6).
    fn deregister(&self, source: &EventSource) {
        self.0.sources.borrow_mut().remove(source.index as usize);
    }

    /// Ready if any of `bits` is set; otherwise the running task is polled at the next event of this source.
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
        let mut events = Vec::with_capacity(MAX_EVENTS);
        loop {
            self.run_queued();
            if self.tasks.borrow().is_empty() || self.notifier.is_stopped() {
                return Ok(());
            }
            self.poll_events(&mut events)?;
        }
    }

    /// Polls the sockets, waiting if no task is queued, and queues the tasks that have something to do.
    fn poll_events(&self, events: &mut Vec<Event>) -> io::Result<()> {
        let count = self.wait(events)?;
        self.event_count.set(count);
        self.now.set(Instant::now());
        for event in events.drain(..) {
            let Event { flags, data, .. } = event;
            self.dispatch(data.u64(), flags);
        }
        while let Some(task) = self.deadlines.borrow_mut().pop_due(self.now.get()) {
            self.queue(task);
        }
        let turns = 1 + self.queue.borrow().len() / TASKS_PER_TURN;
        for _ in 0..turns {
            let Some(next) = self.yielded.borrow_mut().pop_front() else {
                break;
            };
            if let Some(task) = self.tasks.borrow_mut().get_mut(next as usize) {
                task.yielded = false;
            }
            self.queue(next);
        }
        Ok(())
    }

    fn wait(&self, events: &mut Vec<Event>) -> io::Result<usize> {
        let timeout = if self.yielded.borrow().is_empty() {
            let next = self.deadlines.borrow().next();
            next.map(|next| {
                // Rounded up to whole milliseconds, so that the wait never ends before the deadline.
                let left = next.saturating_duration_since(Instant::now());
                let left = left.min(MAX_WAIT) + Duration::from_nanos(999_999);
                Duration::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
            })
        } else {
            Some(Duration::ZERO)
        };
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        events.clear();
        let room = rustix::buffer::spare_capacity(events);
        match epoll::wait(&self.epoll, room, timeout.as_ref()) {
            Ok(count) => Ok(count),
            Err(Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Records an event, and queues the task that waits for it.
    fn dispatch(&self, token: u64, flags: EventFlags) {
        if token == NOTIFIER {
            if self.notifier.acknowledge() {
                self.queue_all();
            }
            return;
        }
        let sources = self.sources.borrow();
        let known = sources.get(event_source::index_of(token));
        if let Some(source) = known.filter(|source| source.token() == token) {
            source.record(flags);
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
            self.queue_task(key_of(key), task);
        }
    }

    fn queue_task(&self, key: u32, task: &mut Task) {
        if !task.yielded && !std::mem::replace(&mut task.queued, true) {
            self.queue.borrow_mut().push(key);
        }
    }

    /// Polls the queued tasks, and those that these queue.
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
        self.next_deadline.set(None);
        // A panic drops the task while unwinding, so that destructors can see it; other tasks are not affected.
        let polled = catch_unwind(AssertUnwindSafe(move || {
            let mut cx = Context::from_waker(&self.waker);
            let polled = future.as_mut().poll(&mut cx);
            polled.is_pending().then_some(future)
        }));
        let pending = polled.unwrap_or_else(|_| {
            tracing::error!(target: "lyncpin::reactor", "a task panicked");
            None
        });
        self.running.set(NO_TASK);
        match pending {
            Some(future) => {
                if let Some(task) = self.tasks.borrow_mut().get_mut(key as usize) {
                    task.future = Some(future);
                }
                if let Some(deadline) = self.next_deadline.get() {
                    self.deadlines.borrow_mut().bring_forward(key, deadline);
                }
            }
            None => {
                self.tasks.borrow_mut().remove(key as usize);
                self.deadlines.borrow_mut().remove(key);
            }
        }
    }
}

fn key_of(index: usize) -> u32 {
    u32::try_from(index).expect("a worker has fewer than 2^32 sockets and tasks")
}

#[cfg(test)]
mod tests;
