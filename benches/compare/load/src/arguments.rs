//! The command line.

use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use crate::plan::Plan;

const USAGE: &str = "usage: load run LOAD --via ADDRESS --backend ADDRESS [--backend ADDRESS] [--pid PID ...] \
    [--warm SECONDS] [--seconds SECONDS] [--units N]\n       load floor --listen ADDRESS --to ADDRESS\n\
    loads: ping-N, connect-BYTES[xN], down-N, up-N, idle-N, polls-N[+STREAMS]";

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Command {
    Run(Job),
    Floor { listen: SocketAddr, to: SocketAddr },
}

/// One measurement.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) plan: Plan,
    /// Where clients go: a balancer, or a backend for the direct way.
    pub(crate) via: SocketAddr,
    /// Where backends listen.
    pub(crate) backends: Vec<SocketAddr>,
    /// The balancer's processes, whose time and memory count.
    pub(crate) pids: Vec<u32>,
    pub(crate) warm: Duration,
    pub(crate) seconds: Duration,
    /// Ends after so many messages or connections; `None`: after `seconds`.
    pub(crate) units: Option<u64>,
}

pub(crate) fn read(mut arguments: impl Iterator<Item = String>) -> io::Result<Command> {
    match arguments.next().as_deref() {
        Some("run") => run(arguments),
        Some("floor") => floor(arguments),
        _ => Err(io::Error::other(USAGE)),
    }
}

fn run(mut arguments: impl Iterator<Item = String>) -> io::Result<Command> {
    let load = arguments.next().ok_or_else(|| io::Error::other(USAGE))?;
    let plan = Plan::named(&load).ok_or_else(|| io::Error::other(USAGE))?;
    let (mut via, mut units) = (None, None);
    let (mut backends, mut pids) = (Vec::new(), Vec::new());
    let (mut warm, mut seconds) = (0.3, 1.0);
    while let Some(flag) = arguments.next() {
        let value = arguments.next();
        match flag.as_str() {
            "--via" => via = Some(parsed(value)?),
            "--backend" => backends.push(parsed(value)?),
            "--pid" => pids.push(parsed(value)?),
            "--warm" => warm = parsed(value)?,
            "--seconds" => seconds = parsed(value)?,
            "--units" => units = Some(parsed(value)?),
            _ => return Err(io::Error::other(USAGE)),
        }
    }
    let time = |seconds: f64| Duration::try_from_secs_f64(seconds).map_err(io::Error::other);
    Ok(Command::Run(Job {
        plan,
        via: via.ok_or_else(|| io::Error::other(USAGE))?,
        backends,
        pids,
        warm: time(warm)?,
        seconds: time(seconds)?,
        units,
    }))
}

fn floor(mut arguments: impl Iterator<Item = String>) -> io::Result<Command> {
    let (mut listen, mut to) = (None, None);
    while let Some(flag) = arguments.next() {
        match flag.as_str() {
            "--listen" => listen = Some(parsed(arguments.next())?),
            "--to" => to = Some(parsed(arguments.next())?),
            _ => return Err(io::Error::other(USAGE)),
        }
    }
    match (listen, to) {
        (Some(listen), Some(to)) => Ok(Command::Floor { listen, to }),
        _ => Err(io::Error::other(USAGE)),
    }
}

fn parsed<T: FromStr>(value: Option<String>) -> io::Result<T> {
    value
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| io::Error::other(USAGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(line: &str) -> io::Result<Command> {
        read(line.split_whitespace().map(String::from))
    }

    #[test]
    fn a_run_takes_addresses_processes_and_times() {
        let line = "run ping-1 --via 127.0.0.1:1 --backend 127.0.0.1:2 --backend 127.0.0.1:3 --pid 4 --seconds 0.5 --units 6";
        let Ok(Command::Run(job)) = given(line) else {
            panic!("{line}");
        };
        assert_eq!(job.via.port(), 1);
        let ports: Vec<u16> = job.backends.iter().map(SocketAddr::port).collect();
        assert_eq!((ports, job.pids), (vec![2, 3], vec![4]));
        assert_eq!(job.seconds, Duration::from_millis(500));
        assert_eq!(job.warm, Duration::from_millis(300));
        assert_eq!(job.units, Some(6));
    }

    #[test]
    fn the_floor_takes_two_addresses() {
        let Ok(Command::Floor { listen, to }) =
            given("floor --to 127.0.0.1:2 --listen 127.0.0.1:1")
        else {
            panic!("not the floor");
        };
        assert_eq!((listen.port(), to.port()), (1, 2));
    }

    #[test]
    fn what_is_no_command_is_refused() {
        for line in [
            "",
            "walk",
            "run",
            "run ping",
            "run ping-1",
            "run ping-1 --via",
            "run ping-1 --via here",
            "run ping-1 --via 127.0.0.1:1 --seconds -1",
            "run ping-1 --via 127.0.0.1:1 --fast 1",
            "floor --listen 127.0.0.1:1",
        ] {
            assert!(given(line).is_err(), "{line}");
        }
    }
}
