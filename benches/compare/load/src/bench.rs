//! Clients and backends of one load, on one thread.
//!
//! Owns every connection of both, and the window in which they are counted. Small messages go before streams: they
//! are looked for after each turn of a stream, so that what a message waits for is the balancer, not the bench.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;

use crate::arguments::Job;
use crate::hello::{self, NAMES, Service};
use crate::meter;
use crate::plan::Kind;
use crate::poller::Poller;
use crate::server::{ANSWER, GREETING, Next, REPLY, REQUEST, Server, stream};
use crate::socket::{Sources, accept, listen_on, receive, transmit_all};
use crate::tally::{Report, Tally};

/// One message of a ping-pong.
const MESSAGE: [u8; 64] = [0x50; 64];
/// Each poll asks so often.
const POLL_EVERY: Duration = Duration::from_millis(500);
/// Connections that are opened at a time before a load begins.
const OPENING: usize = 64;
/// What one read takes.
const BUFFER: usize = 1 << 20;
/// A hello longer than this comes in two segments, as it does on Ethernet.
const SEGMENT: usize = 1_400;
/// How long it may take until every client is there.
const PATIENCE: Duration = Duration::from_secs(20);
/// Nothing moving for so long, and for half of the window, is a balancer that hangs.
const STALL: Duration = Duration::from_secs(1);
/// Before memory is looked at.
const SETTLE: Duration = Duration::from_secs(1);
/// The token of the streams' poller.
const STREAMS: usize = usize::MAX;

enum End {
    Door(OwnedFd),
    Client(Client),
    Server(Server),
    /// Sends, or receives, without end.
    Stream {
        socket: OwnedFd,
        sends: bool,
    },
}

struct Client {
    socket: OwnedFd,
    kind: Kind,
    /// Bytes of the greeting or answer so far.
    have: usize,
    greeted: bool,
    /// When what is waited for was begun.
    since: Option<Instant>,
}

struct Bench<'a> {
    job: &'a Job,
    small: Poller,
    streams: Poller,
    ends: Vec<Option<End>>,
    free: Vec<usize>,
    sources: Sources,
    to_open: VecDeque<Kind>,
    opening: usize,
    opened: usize,
    /// Tokens of pings and polls.
    talkers: Vec<usize>,
    next_poll: Option<(Instant, usize)>,
    buffer: Vec<u8>,
    tally: Tally,
}

/// Runs a load and tells what was counted.
pub(crate) fn run(job: &Job) -> io::Result<String> {
    let mut bench = Bench::new(job)?;
    let mut report = Report::default();
    if job.plan.is_idle() {
        bench.measure_idle(&mut report)?;
    } else {
        bench.measure(&mut report)?;
    }
    Ok(report.finish())
}

impl<'a> Bench<'a> {
    fn new(job: &'a Job) -> io::Result<Self> {
        let small = Poller::new(256)?;
        let streams = small.nested(1, STREAMS)?;
        let mut bench = Self {
            job,
            small,
            streams,
            ends: Vec::new(),
            free: Vec::new(),
            sources: Sources::new(),
            to_open: VecDeque::new(),
            opening: 0,
            opened: 0,
            talkers: Vec::new(),
            next_poll: None,
            buffer: vec![0x42; BUFFER],
            tally: Tally::default(),
        };
        for address in &job.backends {
            let door = listen_on(*address)?;
            let token = bench.token();
            bench.small.add(&door, token, EventFlags::IN)?;
            bench.ends[token] = Some(End::Door(door));
        }
        for &(kind, number) in &job.plan.clients {
            bench.to_open.extend(std::iter::repeat_n(kind, number));
        }
        Ok(bench)
    }

    fn measure(&mut self, report: &mut Report) -> io::Result<()> {
        self.open_all()?;
        let now = Instant::now();
        for token in std::mem::take(&mut self.talkers) {
            self.begin(token, now)?;
        }
        self.run_until(now + self.job.warm, None)?;
        self.tally = Tally::default();
        let begun = Instant::now();
        let (time, own) = (self.processor_time()?, own_time()?);
        match self.job.units {
            Some(units) => self.run_until(begun + PATIENCE * 6, Some(units))?,
            None => self.run_until(begun + self.job.seconds, None)?,
        }
        self.check_progress(begun)?;
        let seconds = begun.elapsed().as_secs_f64();
        report.add("cpu_s", (self.processor_time()? - time).as_secs_f64());
        report.add("own_cpu_s", (own_time()? - own).as_secs_f64());
        report.add("seconds", seconds);
        self.tally.tell(report);
        Ok(())
    }

    /// What was counted is no figure where the balancer stood still.
    fn check_progress(&self, begun: Instant) -> io::Result<()> {
        let Tally { units, last, .. } = self.tally;
        if let Some(wanted) = self.job.units
            && units < wanted
        {
            let text = format!("only {units} of {wanted} messages or connections were served");
            return Err(io::Error::other(text));
        }
        let still = last.unwrap_or(begun).elapsed();
        if still > STALL.max(begun.elapsed() / 2) {
            let text = format!("nothing moved in the last {:.1} s", still.as_secs_f64());
            return Err(io::Error::other(text));
        }
        Ok(())
    }

    fn measure_idle(&mut self, report: &mut Report) -> io::Result<()> {
        let pids = &self.job.pids;
        let before = (meter::memory_kib(pids)?, meter::descriptors(pids)?);
        self.open_all()?;
        self.run_until(Instant::now() + SETTLE, None)?;
        report.add("units", self.opened);
        report.add(
            "memory_kib",
            meter::memory_kib(pids)?.cast_signed() - before.0.cast_signed(),
        );
        report.add("descriptors", meter::descriptors(pids)? - before.1);
        let (begun, time) = (Instant::now(), self.processor_time()?);
        self.run_until(begun + self.job.seconds, None)?;
        report.add("cpu_s", (self.processor_time()? - time).as_secs_f64());
        report.add("seconds", begun.elapsed().as_secs_f64());
        Ok(())
    }

    fn processor_time(&self) -> io::Result<Duration> {
        meter::processor_time(&self.job.pids)
    }

    /// Opens every connection and waits until the last one has been greeted; [`Kind::Once`] is never greeted.
    fn open_all(&mut self) -> io::Result<()> {
        let give_up = Instant::now() + PATIENCE;
        while !self.to_open.is_empty() || self.opening > 0 {
            while self.opening < OPENING {
                let Some(kind) = self.to_open.pop_front() else {
                    break;
                };
                self.open(kind)?;
            }
            if Instant::now() > give_up {
                return Err(io::Error::other("not every client was served"));
            }
            self.turn(Duration::from_millis(100))?;
        }
        Ok(())
    }

    fn open(&mut self, kind: Kind) -> io::Result<()> {
        let since = Some(Instant::now());
        let socket = self.sources.connect(self.job.via)?;
        let name = NAMES[self.opened % NAMES.len()];
        let hello = hello::build(kind.service(), name, self.job.plan.hello);
        for segment in hello.chunks(SEGMENT) {
            transmit_all(&socket, segment)?;
        }
        let token = self.token();
        self.small.add(&socket, token, EventFlags::IN)?;
        self.ends[token] = Some(End::Client(Client {
            socket,
            kind,
            have: 0,
            greeted: false,
            since,
        }));
        self.opened += 1;
        if kind != Kind::Once {
            self.opening += 1;
        }
        Ok(())
    }

    fn token(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.ends.push(None);
            self.ends.len() - 1
        })
    }

    fn run_until(&mut self, end: Instant, units: Option<u64>) -> io::Result<()> {
        loop {
            let now = Instant::now();
            if now >= end || units.is_some_and(|units| self.tally.units >= units) {
                return Ok(());
            }
            self.turn(end - now)?;
        }
    }

    /// What is small and ready, then one turn of one stream.
    fn turn(&mut self, longest: Duration) -> io::Result<()> {
        let now = Instant::now();
        self.ask_what_is_due(now)?;
        let wait = match self.next_poll {
            Some((due, _)) => longest.min(due.saturating_duration_since(now)),
            None => longest,
        };
        let mut streams = false;
        for number in 0..self.small.wait(Some(wait))? {
            match self.small.event(number).0 {
                STREAMS => streams = true,
                token => self.handle(token)?,
            }
        }
        if streams && self.streams.wait(Some(Duration::ZERO))? > 0 {
            self.handle(self.streams.event(0).0)?;
        }
        Ok(())
    }

    fn handle(&mut self, token: usize) -> io::Result<()> {
        let Some(end) = self.ends.get_mut(token).and_then(Option::as_mut) else {
            return Ok(());
        };
        match end {
            End::Door(door) => {
                if let Some(socket) = accept(door)? {
                    let token = self.token();
                    self.small.add(&socket, token, EventFlags::IN)?;
                    self.ends[token] = Some(End::Server(Server::new(socket)));
                }
            }
            End::Server(server) => match server.serve(&mut self.buffer[..1 << 16])? {
                Next::Stay => {}
                Next::Stream(service) => self.begin_stream(token, service == Service::Source)?,
                Next::Close => self.close(token),
            },
            End::Stream { socket, sends } => {
                if !stream(socket, *sends, &mut self.buffer, &mut self.tally)? {
                    return Err(io::Error::other("a stream was cut"));
                }
            }
            End::Client(_) => self.handle_client(token)?,
        }
        Ok(())
    }

    fn handle_client(&mut self, token: usize) -> io::Result<()> {
        let Some(Some(End::Client(client))) = self.ends.get_mut(token) else {
            return Ok(());
        };
        let Some(read) = receive(&client.socket, &mut self.buffer[..1 << 16])? else {
            return Ok(());
        };
        client.have += read;
        let wanted = match (client.greeted, client.kind) {
            (_, Kind::Once) => ANSWER.len(),
            (false, _) => GREETING.len(),
            (true, Kind::Poll) => REPLY.len(),
            (true, _) => MESSAGE.len(),
        };
        if client.kind == Kind::Once {
            if read > 0 {
                return Ok(());
            }
            if client.have != wanted {
                return Err(io::Error::other("an answer was cut"));
            }
            let took = client.since.take().map(|since| since.elapsed());
            self.tally.done(took.unwrap_or_default());
            self.close(token);
            return self.open(Kind::Once);
        }
        if read == 0 {
            return Err(io::Error::other("a connection was closed"));
        }
        if client.have < wanted {
            return Ok(());
        }
        client.have = 0;
        if !client.greeted {
            client.greeted = true;
            client.since = None;
            self.opening -= 1;
            match client.kind {
                Kind::Down => self.begin_stream(token, false)?,
                Kind::Up => self.begin_stream(token, true)?,
                Kind::Ping | Kind::Poll => self.talkers.push(token),
                Kind::Still | Kind::Once => {}
            }
            return Ok(());
        }
        let now = Instant::now();
        if let Some(since) = client.since.take() {
            self.tally.done(now - since);
        }
        if client.kind == Kind::Ping {
            client.since = Some(now);
            transmit_all(&client.socket, &MESSAGE)?;
        }
        Ok(())
    }

    /// Lets a ping or a poll begin.
    fn begin(&mut self, token: usize, now: Instant) -> io::Result<()> {
        let Some(Some(End::Client(client))) = self.ends.get_mut(token) else {
            return Ok(());
        };
        if client.kind == Kind::Ping {
            client.since = Some(now);
            return transmit_all(&client.socket, &MESSAGE);
        }
        self.talkers.push(token);
        self.next_poll = Some((now, 0));
        Ok(())
    }

    /// Polls take turns, so that they are spread evenly.
    fn ask_what_is_due(&mut self, now: Instant) -> io::Result<()> {
        let pace = POLL_EVERY / u32::try_from(self.talkers.len().max(1)).unwrap_or(u32::MAX);
        while let Some((due, turn)) = self.next_poll
            && due <= now
        {
            self.next_poll = Some((due + pace, turn + 1));
            let token = self.talkers[turn % self.talkers.len()];
            let Some(Some(End::Client(client))) = self.ends.get_mut(token) else {
                continue;
            };
            if client.since.is_some() {
                self.tally.late += 1;
                continue;
            }
            client.since = Some(Instant::now());
            transmit_all(&client.socket, &REQUEST)?;
        }
        Ok(())
    }

    fn begin_stream(&mut self, token: usize, sends: bool) -> io::Result<()> {
        let socket = match self.ends[token].take() {
            Some(End::Client(client)) => client.socket,
            Some(End::Server(server)) => server.socket,
            other => {
                self.ends[token] = other;
                return Ok(());
            }
        };
        self.small.remove(&socket)?;
        let flags = if sends {
            EventFlags::OUT
        } else {
            EventFlags::IN
        };
        self.streams.add(&socket, token, flags)?;
        self.ends[token] = Some(End::Stream { socket, sends });
        Ok(())
    }

    fn close(&mut self, token: usize) {
        self.ends[token] = None;
        self.free.push(token);
    }
}

fn own_time() -> io::Result<Duration> {
    meter::processor_time(&[std::process::id()])
}
