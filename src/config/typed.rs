//! Values of the file that people also type elsewhere: at the command line, and to the API.
//!
//! Owns how a refusal reads where there is no file to show. Invariant: what is taken here is what the file takes.

use std::time::Duration;

use super::model::AdminBind;
use super::scalar::{self, ADMIN_BIND, print_duration};
use super::section::Parsed;

/// The longest deadline of a drain, that of `timeouts.drain`.
const LONGEST: Duration = Duration::from_secs(720 * 3600);

/// The deadline of a drain: `15m`, `1h30m`.
///
/// # Errors
///
/// What is wrong, in words.
pub fn deadline(text: &str) -> Result<Duration, String> {
    let bounded = |value: Duration| {
        if value <= LONGEST {
            Ok(value)
        } else {
            Err(None)
        }
    };
    let wanted = format!(
        "a duration up to {}, such as `15m`",
        print_duration(LONGEST)
    );
    wanted_or_hint(
        scalar::duration(text).and_then(bounded),
        "the deadline",
        text,
        &wanted,
    )
}

/// The place of an admin listener: `127.0.0.1:9900`, `unix:PATH`.
///
/// # Errors
///
/// What is wrong, in words.
pub fn admin_bind(text: &str) -> Result<AdminBind, String> {
    wanted_or_hint(
        scalar::admin_bind(text),
        "the admin listener",
        text,
        ADMIN_BIND,
    )
}

fn wanted_or_hint<T>(parsed: Parsed<T>, what: &str, text: &str, wanted: &str) -> Result<T, String> {
    parsed.map_err(|hint| {
        let hint = hint.map_or(String::new(), |hint| format!(" ({hint})"));
        format!("{what} takes {wanted}, not {text:?}{hint}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_file_takes_is_taken() {
        assert_eq!(deadline("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(deadline("0s"), Ok(Duration::ZERO));
        assert_eq!(deadline("720h"), Ok(LONGEST));
        assert_eq!(
            admin_bind("unix:/run/l.sock"),
            Ok(AdminBind::Unix("/run/l.sock".into()))
        );
    }

    #[test]
    fn what_it_does_not_take_is_refused_with_a_hint() {
        assert_eq!(
            deadline("15").unwrap_err(),
            "the deadline takes a duration up to 720h, such as `15m`, not \"15\" (add a unit: `15s`)"
        );
        assert!(deadline("721h").is_err() && deadline("soon").is_err() && deadline("").is_err());
        assert!(
            admin_bind("localhost:9900")
                .unwrap_err()
                .contains("names are not resolved")
        );
        assert!(
            admin_bind("127.0.0.1")
                .unwrap_err()
                .contains("not \"127.0.0.1\"")
        );
    }
}
