//! Values of the file that are also arguments: of commands and of the API.
//!
//! Owns the error texts where there is no file to show. Must not know a command. Invariant: the same values are accepted
//! as in the file.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::model::{AdminAddress, AdminBind};
use super::scalar::Parsed;
use super::scalar::hints;
use super::scalar::{self, ADMIN_ADDRESS, ADMIN_BIND, print_duration};

/// The longest deadline of a drain, as for `timeouts.drain`.
const MAX_DEADLINE: Duration = Duration::from_secs(720 * 3600);

/// The deadline of a drain: `15m`, `1h30m`.
///
/// # Errors
///
/// What is wrong, as text.
pub fn deadline(text: &str) -> Result<Duration, String> {
    let expects = format!(
        "a duration up to {}, such as `15m`",
        print_duration(MAX_DEADLINE)
    );
    with_context(
        scalar::duration(text, |value| value <= MAX_DEADLINE),
        "the deadline",
        text,
        &expects,
    )
}

/// The bind address of an admin listener: `127.0.0.1:9900`, `unix:PATH`.
///
/// # Errors
///
/// What is wrong, as text.
pub fn admin_bind(text: &str) -> Result<AdminBind, String> {
    with_context(
        scalar::admin_bind(text),
        "the admin listener",
        text,
        ADMIN_BIND,
    )
}

/// The address of a running admin listener: `127.0.0.1:9900`, `localhost:9900`, `[::1]:9900`, `unix:PATH`.
///
/// # Errors
///
/// What is wrong, as text.
pub fn admin_address(text: &str) -> Result<AdminAddress, String> {
    with_context(
        scalar::admin_address(text),
        "the admin listener",
        text,
        ADMIN_ADDRESS,
    )
}

/// The address of a client: `192.0.2.7`, `2001:db8::7`.
///
/// # Errors
///
/// What is wrong, as text.
pub fn address(text: &str) -> Result<IpAddr, String> {
    let parsed = text.parse().map_err(|_| match text.parse::<IpNet>() {
        Ok(net) => Some(format!(
            "write one address, not a network: `{}`",
            net.addr()
        )),
        Err(_) => network(text),
    });
    with_context(
        parsed,
        "the address",
        text,
        "an address such as `192.0.2.7`",
    )
}

/// The hint for a text that is neither an address nor a network.
#[must_use]
pub fn network(text: &str) -> Option<String> {
    hints::network(text)
}

fn with_context<T>(parsed: Parsed<T>, what: &str, text: &str, expects: &str) -> Result<T, String> {
    parsed.map_err(|hint| {
        let hint = hint.map_or(String::new(), |hint| format!(" ({hint})"));
        format!("{what} must be {expects}, not {text:?}{hint}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_file_are_accepted() {
        assert_eq!(deadline("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(deadline("0s"), Ok(Duration::ZERO));
        assert_eq!(deadline("720h"), Ok(MAX_DEADLINE));
        let at = |text: &str| admin_address(text).map(|at| at.to_string());
        for address in [
            "unix:/run/l.sock",
            "127.0.0.1:9900",
            "[::1]:9900",
            "localhost:9900",
            "lb_01.contoso.com:65535",
            "[fe80::1%eth0]:9900",
            "0.0.0.0:9900",
        ] {
            assert_eq!(at(address).as_deref(), Ok(address));
        }
    }

    #[test]
    fn other_values_are_rejected_with_a_hint() {
        assert_eq!(
            deadline("15").unwrap_err(),
            "the deadline must be a duration up to 720h, such as `15m`, not \"15\" (add a unit: `15s`)"
        );
        assert!(deadline("721h").is_err() && deadline("soon").is_err() && deadline("").is_err());
        for (typed, hint) in [
            (
                "http://localhost:9900",
                "leave out `http://`: `localhost:9900`",
            ),
            ("https://[::1]:9900/", "leave out `https://`: `[::1]:9900`"),
            (
                "http://lb.contoso.com/api",
                "leave out the scheme and the path, and add the port: `lb.contoso.com:9900`",
            ),
            (
                "localhost:9900/api/v1/status",
                "leave out the path: `localhost:9900`",
            ),
            ("127.0.0.1", "add the port: `127.0.0.1:9900`"),
            ("localhost", "add the port: `localhost:9900`"),
            ("localhost:", "add the port: `localhost:9900`"),
            ("::1", "write an IPv6 address in brackets: `[::1]:9900`"),
            ("[::1]", "add the port: `[::1]:9900`"),
            (
                "::1:9900",
                "write an IPv6 address in brackets: `[::1]:9900`",
            ),
            ("9900", "for this machine, write `localhost:9900`"),
            (":9900", "for this machine, write `localhost:9900`"),
            ("*:9900", "for this machine, write `localhost:9900`"),
            ("localhost:0", "ports are 1 to 65535"),
            ("localhost:99999", "ports are 1 to 65535"),
            ("127.0.0.1:0", "ports are 1 to 65535"),
            (
                "localhost:http",
                "write the port as a number: `localhost:80`",
            ),
            ("/run/l.sock", "write `unix:/run/l.sock`"),
            (
                "unix:",
                "write the path of the socket: `unix:/run/lyncpin/admin.sock`",
            ),
        ] {
            let error = admin_address(typed).unwrap_err();
            assert!(error.ends_with(&format!("({hint})")), "{typed}: {error}");
        }
        for (typed, hint) in [
            ("192.0.2.7:443", "leave out the port: `192.0.2.7`"),
            ("10.0.0.1/8", "write one address, not a network: `10.0.0.1`"),
            ("phone", "write addresses; host names are not accepted here"),
        ] {
            let error = address(typed).unwrap_err();
            assert!(error.ends_with(&format!("({hint})")), "{typed}: {error}");
        }
        for wrong in ["", "a b:9900", "user@localhost:9900"] {
            assert!(admin_address(wrong).is_err(), "{wrong}");
        }
    }
}
