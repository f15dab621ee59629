//! `affinity pin`, `move` and `clear`: change pins and print the result.
//!
//! Invariant: a command that changes nothing fails with the reason.

use super::{Clear, Move, PinClient};
use crate::admin::client::Client;
use crate::admin::view::{AffinityChange, PinFilter, PinResult, PinnedKey, PinsChanged};
use crate::cli::admin::block_on;
use crate::cli::failure::Failure;
use crate::cli::table::{pluralized, printable};
use crate::cli::{predecessors, print_result};

impl PinClient {
    pub(super) fn run(self) -> Result<(), Failure> {
        let client = self.admin.client()?;
        let change = AffinityChange::Pin {
            group: self.group,
            client: self.client.map(|client| client.to_string()),
            name: self.name,
            backend: self.backend,
        };
        let pinned = block_on(async { Ok(client.pin(&change).await?) })?;
        print_result(&pinned_text(&pinned))
    }
}

impl Move {
    pub(super) fn run(self) -> Result<(), Failure> {
        let admin = self.admin.client()?;
        let filter = self.filter.view();
        let change = AffinityChange::Move {
            group: filter.group.clone(),
            client: filter.client.map(|client| client.to_string()),
            name: filter.name.clone(),
            pool: filter.pool.clone(),
            backend: filter.backend.clone(),
            to: self.to.clone(),
        };
        let to = printable(&self.to);
        block_on(async {
            let changed = admin.move_pins(&change).await?;
            let reached = predecessors::all_reached(&changed.predecessors);
            let Some((what, connections)) = counts(&changed.result) else {
                reached?;
                return Err(nothing_moved(&admin, &filter, &to).await?);
            };
            print_result(&format!("{what} moved to {to}, {connections} reset\n"))?;
            reached
        })
    }
}

/// The error of a move without effect: no pin matches, or all matching pins already point to `to`. If the client has no pin,
/// the error suggests how to create one.
async fn nothing_moved(admin: &Client, filter: &PinFilter, to: &str) -> Result<Failure, Failure> {
    let mut cursor = None;
    loop {
        let page = admin.pins(filter, cursor.as_deref(), 1).await?;
        if !page.entries.is_empty() {
            let what = format!("all matching pins already point to {to}");
            return Ok(Failure::operation(what));
        }
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    let Some(client) = filter.client else {
        return Ok(Failure::operation("no pin matches"));
    };
    let option = |name: &str, value: &Option<String>| {
        let value = value.as_deref().map(printable);
        value.map_or(String::new(), |value| format!(" --{name} {value}"))
    };
    let client = match client.prefix_len() == client.max_prefix_len() {
        true => client.addr().to_string(),
        false => client.to_string(),
    };
    let (name, group) = (option("name", &filter.name), option("group", &filter.group));
    let none = Failure::operation(format!("{client} has no matching pin"));
    Ok(none.with_line(format!(
        "create one with `lyncpin affinity pin --client {client}{name}{group} {to}`"
    )))
}

impl Clear {
    pub(super) fn run(self) -> Result<(), Failure> {
        let client = self.admin.client()?;
        let filter = self.filter.view();
        if filter.is_empty() && !self.all {
            return Err(Failure::usage(
                "no pins are selected; use a filter option or `--all`",
            ));
        }
        let changed = block_on(async { Ok(client.clear_pins(&filter).await?) })?;
        let reached = predecessors::all_reached(&changed.predecessors);
        let Some((what, connections)) = counts(&changed.result) else {
            return reached.and_then(|()| Err(Failure::operation("no pin matches")));
        };
        print_result(&format!("{what} cleared, {connections} not affected\n"))?;
        reached
    }
}

fn pinned_text(pinned: &PinResult) -> String {
    let line = |key: &PinnedKey| {
        let before = match &key.before {
            Some(before) if *before == pinned.backend => "as before".to_owned(),
            Some(before) => format!("was {}", printable(before)),
            None => "had no pin".to_owned(),
        };
        format!(
            "{} is pinned to {}, {before}\n",
            pin_key(key.client.as_deref(), key.name.as_deref()),
            printable(&pinned.backend)
        )
    };
    pinned.pins.iter().map(line).collect()
}

/// The client and name of a pin as text.
fn pin_key(client: Option<&str>, name: Option<&str>) -> String {
    match (client, name) {
        (Some(client), Some(name)) => format!("{} for {}", printable(client), printable(name)),
        (Some(client), None) => printable(client),
        (None, Some(name)) => format!("every client for {}", printable(name)),
        (None, None) => "every client".to_owned(),
    }
}

/// The changed pins and sessions, and the connections, as text; `None` if nothing was changed.
fn counts(changed: &PinsChanged) -> Option<(String, String)> {
    if changed.pins == 0 && changed.sessions == 0 {
        return None;
    }
    let mut what = pluralized(changed.pins, "pin");
    if changed.sessions > 0 {
        what += &format!(" and {}", pluralized(changed.sessions, "TLS session"));
    }
    Some((what, pluralized(changed.connections, "connection")))
}
