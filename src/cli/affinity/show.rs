//! `affinity list` and `affinity show`: print pins as tables or JSON.
//!
//! Invariant: any number of pins is listed in bounded memory.

use std::time::Duration;

use super::{ListPins, Show};
use crate::admin::client::Client;
use crate::admin::view::{ClientPin, ClientPins, ClientQuery, PinEntry, PinFilter};
use crate::cli::admin::block_on;
use crate::cli::failure::Failure;
use crate::cli::table::{short_duration, table};
use crate::cli::{OutputReader, print, print_result, warn};

/// Pins per request, and lines of one table.
const PAGE: u64 = 10_000;

const HEADS: [&str; 8] = [
    "GROUP",
    "CLIENT",
    "NAME",
    "BACKEND",
    "ORIGIN",
    "AGE",
    "CONNECTIONS",
    "EXPIRES IN",
];

impl ListPins {
    pub(super) fn run(self) -> Result<(), Failure> {
        let client = self.admin.client()?;
        let filter = self.filter.view();
        let limit = if self.all { u64::MAX } else { self.limit };
        block_on(async {
            if self.json {
                list_json(&client, &filter, limit).await
            } else {
                list(&client, &filter, limit).await
            }
        })
    }
}

/// Prints a table for every [`PAGE`] pins.
async fn list(client: &Client, filter: &PinFilter, limit: u64) -> Result<(), Failure> {
    let (mut listed, mut cursor, mut rows) = (0, None, Vec::new());
    loop {
        let wanted = PAGE.min(limit - listed).saturating_sub(rows.len() as u64);
        let page = client.pins(filter, cursor.as_deref(), size(wanted)).await?;
        cursor = page.cursor;
        rows.extend(page.entries.iter().map(row));
        let done = cursor.is_none() || listed + rows.len() as u64 >= limit;
        if rows.len() as u64 >= PAGE || (done && !rows.is_empty()) {
            listed += rows.len() as u64;
            if print(&table(&HEADS, &[6], std::mem::take(&mut rows)))? == OutputReader::Gone {
                return Ok(());
            }
        }
        if done {
            break;
        }
    }
    if listed == 0 {
        return print_result("no pin matches\n");
    }
    if cursor.is_some() {
        warn("more pins match; use --limit COUNT or --all");
    }
    Ok(())
}

async fn list_json(client: &Client, filter: &PinFilter, limit: u64) -> Result<(), Failure> {
    let (mut listed, mut cursor) = (0, None);
    loop {
        let wanted = size(PAGE.min(limit - listed));
        let page = client.pins(filter, cursor.as_deref(), wanted).await?;
        listed += page.entries.len() as u64;
        let json = serde_json::to_string(&page).map_err(|error| {
            Failure::operation("cannot serialise the response").caused_by(&error)
        })?;
        cursor = page.cursor;
        let reader = print(&(json + "\n"))?;
        if cursor.is_none() || listed >= limit || reader == OutputReader::Gone {
            return Ok(());
        }
    }
}

fn size(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

impl Show {
    pub(super) fn run(self) -> Result<(), Failure> {
        let client = self.admin.client()?;
        let query = ClientQuery {
            group: self.group,
            client: self.client.to_canonical(),
            name: self.name,
        };
        let shown = block_on(async { Ok(client.client_pins(&query).await?) })?;
        if self.json {
            let json = serde_json::to_string_pretty(&shown).map_err(|error| {
                Failure::operation("cannot serialise the response").caused_by(&error)
            })?;
            print_result(&(json + "\n"))?;
        } else if !shown.pins.is_empty() {
            print_result(&client_table(&shown))?;
        }
        if shown.pins.is_empty() {
            return Err(Failure::operation(format!("{} has no pin", shown.client)));
        }
        Ok(())
    }
}

fn client_table(shown: &ClientPins) -> String {
    let heads: Vec<&str> = HEADS.iter().copied().chain(["TLS SESSIONS"]).collect();
    let row = |shown: &ClientPin| {
        let mut cells = row(&shown.pin);
        cells.push(shown.sessions.to_string());
        cells
    };
    table(&heads, &[6, 8], shown.pins.iter().map(row).collect())
}

fn row(pin: &PinEntry) -> Vec<String> {
    let seconds = |seconds| short_duration(Duration::from_secs(seconds));
    vec![
        pin.group.clone(),
        pin.client.clone().unwrap_or_else(|| "-".into()),
        pin.name.clone().unwrap_or_else(|| "-".into()),
        pin.backend.clone(),
        pin.origin.clone(),
        seconds(pin.age_seconds),
        pin.connections.to_string(),
        pin.expires_in_seconds
            .map_or_else(|| "in use".into(), seconds),
    ]
}
