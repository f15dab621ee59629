//! `explain`: shows where a client would go, and why.
//!
//! Invariant: nothing that came over the network reaches the terminal as a control sequence.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::admin::{AdminArguments, block_on};
use super::failure::Failure;
use super::table::printable;
use super::{print_result, run};
use crate::admin::view::{ExplainQuery, Explanation};
use crate::types::outcome::Outcome;

/// `lyncpin explain`
#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    /// The listener that the client connects to
    #[arg(long, value_name = "LISTENER")]
    listener: String,
    /// The name that the client requests; without this option, it sends none
    #[arg(long, value_name = "SNI")]
    name: Option<String>,
    /// The client's address
    #[arg(long, value_name = "IP", value_parser = crate::config::address)]
    source: IpAddr,
    /// Use the configuration file instead of the running balancer; health and pins are then unknown
    #[arg(long)]
    offline: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

impl Explain {
    pub(super) fn run(self) -> Result<(), Failure> {
        let query = ExplainQuery {
            listener: self.listener,
            name: self.name.filter(|name| !name.is_empty()),
            source: self.source.to_canonical(),
        };
        let explanation = if self.offline {
            run::explain_offline(self.admin.file().read()?.config, &query)?
        } else {
            let client = self.admin.client()?;
            block_on(async { Ok(client.explain(&query).await?) })?
        };
        if self.json {
            let json = serde_json::to_string_pretty(&explanation).map_err(|error| {
                Failure::operation("cannot serialise the response").caused_by(&error)
            })?;
            return print_result(&(json + "\n"));
        }
        print_result(&text(&explanation))
    }
}

fn text(explanation: &Explanation) -> String {
    let mut text = String::new();
    let name = match &explanation.name {
        Some(name) => format!("that requests {}", printable(name)),
        None => "that sends no name".to_owned(),
    };
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "a client from {} {name} on listener {}:",
        explanation.source,
        printable(&explanation.listener)
    );
    for (number, step) in explanation.steps.iter().enumerate() {
        let _ = writeln!(text, "{:>3}. {}", number + 1, printable(step));
    }
    let _ = writeln!(text, "{}", result(explanation));
    text
}

fn result(explanation: &Explanation) -> String {
    if let Some(outcome) = &explanation.refused {
        let known = Outcome::ALL.iter().find(|known| known.as_str() == outcome);
        let meaning = known.map_or(String::new(), |known| format!(": {}", known.meaning()));
        return format!("rejected, {}{meaning}", printable(outcome));
    }
    let or_none = |value: &Option<String>| value.as_deref().map_or("none".into(), printable);
    let address = explanation.address;
    let address = address.map_or(String::new(), |address| format!(" at {address}"));
    let pick = explanation.pick.as_deref();
    let pick = pick.map_or(String::new(), |pick| format!(", {}", printable(pick)));
    format!(
        "pool {}, backend {}{address}{pick}",
        or_none(&explanation.pool),
        or_none(&explanation.backend)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explanation() -> Explanation {
        Explanation {
            listener: "https".into(),
            name: Some("meet.contoso.com".into()),
            source: "192.0.2.7".parse().unwrap(),
            route: Some("meet.contoso.com".into()),
            pool: Some("web".into()),
            backend: Some("fe01".into()),
            address: Some("10.0.0.11:4443".parse().unwrap()),
            pick: Some("pinned".into()),
            refused: None,
            pin: None,
            steps: vec![
                "the name is in a route".into(),
                "the client is pinned\u{7}".into(),
            ],
        }
    }

    #[test]
    fn a_served_client_gets_steps_and_a_result() {
        assert_eq!(
            text(&explanation()),
            "a client from 192.0.2.7 that requests meet.contoso.com on listener https:\n  \
             1. the name is in a route\n  2. the client is pinned\u{fffd}\n\
             pool web, backend fe01 at 10.0.0.11:4443, pinned\n"
        );
    }

    #[test]
    fn a_rejection_explains_its_outcome() {
        let rejected = Explanation {
            refused: Some("unknown_name".into()),
            ..explanation()
        };
        assert!(result(&rejected).starts_with("rejected, unknown_name: No route matches the name"));
    }
}
