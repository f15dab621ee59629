//! The comparison's own tools: `load run`, which is clients and backends in one, and `load floor`, the barest relay.
//!
//! Owns the command line. `benches/compare/run` starts both; what they print is for it.

mod arguments;
mod bench;
mod floor;
mod hello;
mod meter;
mod plan;
mod poller;
mod server;
mod socket;
mod tally;

use std::process::ExitCode;

fn main() -> ExitCode {
    let done = arguments::read(std::env::args().skip(1)).and_then(|command| match command {
        arguments::Command::Run(job) => bench::run(&job).map(|report| println!("{report}")),
        arguments::Command::Floor { listen, to } => floor::run(listen, to),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}
