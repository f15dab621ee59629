//! `affinity`: lists and changes pins.
//!
//! Owns the options and the output of its subcommands. Invariant: without `--all`, only pins that match at least one filter
//! option are moved or cleared.

mod change;
mod show;

use std::net::IpAddr;

use ipnet::IpNet;

use super::admin::AdminArguments;
use super::failure::Failure;
use crate::admin::parse_client;
use crate::admin::view::PinFilter;

/// `lyncpin affinity`
#[derive(Debug, clap::Args)]
pub(super) struct AffinityCommands {
    #[command(subcommand)]
    command: AffinityCommand,
}

#[derive(Debug, clap::Subcommand)]
enum AffinityCommand {
    /// List the pins that match all options
    List(ListPins),
    /// Show all pins of one client
    Show(Show),
    /// Pin a client to a backend; existing connections are not moved
    Pin(PinClient),
    /// Move all matching pins to another backend and reset their connections
    Move(Move),
    /// Delete all matching pins; existing connections are not moved
    Clear(Clear),
}

/// The options of [`FilterArguments`].
const FILTERS: [&str; 5] = ["group", "client", "name", "pool", "backend"];

/// Selects the pins that match every option.
#[derive(Debug, clap::Args)]
struct FilterArguments {
    /// Pins of this affinity group
    #[arg(long, value_name = "GROUP", value_parser = non_empty)]
    group: Option<String>,
    /// Pins of this client, or of the clients in this network
    #[arg(long, value_name = "IP|CIDR", value_parser = parse_client)]
    client: Option<IpNet>,
    /// Pins for this requested name, or for a configured pattern
    #[arg(long, value_name = "NAME", value_parser = non_empty)]
    name: Option<String>,
    /// Pins to backends of this pool
    #[arg(long, value_name = "POOL", value_parser = non_empty)]
    pool: Option<String>,
    /// Pins to this backend
    #[arg(long, value_name = "[POOL/]BACKEND", value_parser = non_empty)]
    backend: Option<String>,
}

/// `lyncpin affinity list`
#[derive(Debug, clap::Args)]
struct ListPins {
    #[command(flatten)]
    filter: FilterArguments,
    /// Maximum number of pins to list
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = count)]
    limit: u64,
    /// List all matching pins
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Print the pages of the API as JSON, one per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

/// `lyncpin affinity show`
#[derive(Debug, clap::Args)]
struct Show {
    /// The client's address
    #[arg(long, value_name = "IP", value_parser = crate::config::address)]
    client: IpAddr,
    /// The requested name [default: every name]
    #[arg(long, value_name = "NAME", value_parser = non_empty)]
    name: Option<String>,
    /// The affinity group [default: every group]
    #[arg(long, value_name = "GROUP", value_parser = non_empty)]
    group: Option<String>,
    /// Print the JSON of the API
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

/// `lyncpin affinity pin`
#[derive(Debug, clap::Args)]
struct PinClient {
    /// The backend to pin the client to
    #[arg(value_name = "[POOL/]BACKEND", value_parser = non_empty)]
    backend: String,
    /// The client; omit it only for a group that pins by name alone
    #[arg(long, value_name = "IP|CIDR", value_parser = parse_client)]
    client: Option<IpNet>,
    /// The requested name, for a group that pins by name
    #[arg(long, value_name = "NAME", value_parser = non_empty)]
    name: Option<String>,
    /// The affinity group, if the backend is in more than one
    #[arg(long, value_name = "GROUP", value_parser = non_empty)]
    group: Option<String>,
    #[command(flatten)]
    admin: AdminArguments,
}

/// `lyncpin affinity move`
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").args(FILTERS).multiple(true).required(true))]
struct Move {
    #[command(flatten)]
    filter: FilterArguments,
    /// The backend to move the pins to
    #[arg(long, value_name = "[POOL/]BACKEND", value_parser = non_empty)]
    to: String,
    #[command(flatten)]
    admin: AdminArguments,
}

/// `lyncpin affinity clear`
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").args(FILTERS).arg("all").multiple(true).required(true))]
struct Clear {
    #[command(flatten)]
    filter: FilterArguments,
    /// Delete all pins of all groups
    #[arg(long, conflicts_with_all = FILTERS)]
    all: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

impl AffinityCommands {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.command {
            AffinityCommand::List(list) => list.run(),
            AffinityCommand::Show(show) => show.run(),
            AffinityCommand::Pin(pin) => pin.run(),
            AffinityCommand::Move(moving) => moving.run(),
            AffinityCommand::Clear(clear) => clear.run(),
        }
    }
}

impl FilterArguments {
    fn view(self) -> PinFilter {
        PinFilter {
            group: self.group,
            client: self.client,
            name: self.name,
            pool: self.pool,
            backend: self.backend,
        }
    }
}

/// A number of pins: at least one.
fn count(text: &str) -> Result<u64, String> {
    let number = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(0) => Err("expected a whole number from 1; `--all` lists every pin".into()),
        Ok(count) if number => Ok(count),
        Ok(_) | Err(_) => Err("expected a whole number from 1, such as `100`".into()),
    }
}

/// A value that is not empty. An empty one usually comes from an unset variable of a script.
fn non_empty(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("the value is empty".into());
    }
    Ok(text.into())
}
