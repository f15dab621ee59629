//! Events of the balancer itself, reported through `tracing`, in the format of the other lines.
//!
//! Owns the fields that every event has. Must not know single events. Spans are not supported: a connection has one access
//! line. Invariant: an event that is not enabled costs one comparison.

use std::fmt;
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

use super::Log;
use super::fields::{self, FieldType};
use super::line::Line;
use crate::types::timestamp::Timestamp;

/// The fields of every event, in order; the fields of the event itself follow.
pub const FIELDS: &[&str] = &["time", "level", "target", MESSAGE];

/// The field with the text of an event.
const MESSAGE: &str = "message";

/// The targets of the balancer. Libraries log warnings and errors only.
const OWN_TARGETS: &str = "lyncpin";

/// Writes the events of `tracing` to the log.
pub struct TracingEvents {
    log: Log,
    finest: Level,
}

impl Log {
    /// Writes the events of the whole process, down to level `finest`, to this log. From then on panics are logged as errors,
    /// so that they do not wait for the reader either. Only the first call in a process has an effect.
    pub fn install_subscriber(&self, finest: Level) {
        if tracing::subscriber::set_global_default(self.subscriber(finest)).is_ok() {
            std::panic::set_hook(Box::new(|panic| {
                tracing::error!(target: "lyncpin::panic", "{panic}");
            }));
        }
    }

    /// The subscriber, without installing it.
    #[must_use]
    pub fn subscriber(&self, finest: Level) -> TracingEvents {
        TracingEvents {
            log: self.clone(),
            finest,
        }
    }
}

impl Subscriber for TracingEvents {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let own = metadata.target().starts_with(OWN_TARGETS);
        // In `tracing` an error is the lowest level.
        let finest = if own { self.finest } else { Level::WARN };
        metadata.is_event() && *metadata.level() <= finest
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(self.finest.max(Level::WARN).into())
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        self.log.write(*metadata.level(), |line| {
            line.plain("time", &Timestamp(SystemTime::now()).ascii());
            line.plain("level", level(*metadata.level()).as_bytes());
            line.text("target", metadata.target());
            let mut message = MessageField { line, found: false };
            event.record(&mut message);
            if !message.found {
                line.absent(MESSAGE);
            }
            event.record(&mut Fields(line));
        });
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// Writes the message only: it comes first, but `tracing` visits fields in the order of the macro.
struct MessageField<'a, 'b> {
    line: &'a mut Line<'b>,
    found: bool,
}

impl Visit for MessageField<'_, '_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == MESSAGE {
            self.line.text(MESSAGE, value);
            self.found = true;
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// Writes all fields but the message, each with its JSON type.
struct Fields<'a, 'b>(&'a mut Line<'b>);

impl Fields<'_, '_> {
    /// A number or a boolean; text if the field has that type.
    fn literal(&mut self, field: &Field, kind: FieldType, value: fmt::Arguments<'_>) {
        match fields::kind(field.name()) {
            None => self.0.literal(field.name(), value),
            Some(wanted) if wanted == kind => self.0.literal(field.name(), value),
            Some(FieldType::Text) => self.0.text(field.name(), &value.to_string()),
            Some(_) => self.0.absent(field.name()),
        }
    }

    fn text(&mut self, field: &Field, value: &str) {
        match fields::kind(field.name()) {
            None | Some(FieldType::Text) => self.0.text(field.name(), value),
            Some(FieldType::Number) if value.parse::<i64>().is_ok() => {
                self.0.literal(field.name(), format_args!("{value}"));
            }
            Some(FieldType::Number | FieldType::Flag | FieldType::List) => {
                self.0.absent(field.name());
            }
        }
    }
}

impl Visit for Fields<'_, '_> {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.literal(field, FieldType::Number, format_args!("{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.literal(field, FieldType::Number, format_args!("{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.literal(field, FieldType::Number, format_args!("{value}"));
        } else {
            self.0.absent(field.name());
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.literal(field, FieldType::Flag, format_args!("{value}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() != MESSAGE {
            self.text(field, value);
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(next) = cause {
            text = text + ": " + &next.to_string();
            cause = next.source();
        }
        self.record_str(field, &text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if fields::kind(field.name()) == Some(FieldType::List) {
            let text = format!("{value:?}");
            self.0.list(field.name(), &text, &format!("{value:#?}"));
        } else {
            self.record_str(field, &format!("{value:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::config::model::{self, ClientAddress, LogFormat};
    use crate::telemetry::log::Sink;

    /// The log of the events that `emit` emits.
    fn logged(format: LogFormat, finest: Level, emit: impl FnOnce()) -> String {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let (sink, guard) = Sink::start(writer.into(), format, metrics::Counter::noop()).unwrap();
        let settings = model::LogSettings {
            format,
            access: true,
            client_address: ClientAddress::Full,
        };
        tracing::subscriber::with_default(Log::new(settings, sink).subscriber(finest), emit);
        drop(guard);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    }

    #[derive(Debug)]
    struct Outer(std::num::ParseIntError);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("invalid port")
        }
    }

    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    fn emit_event_of_a_backend() {
        let error = Outer("x".parse::<u16>().unwrap_err());
        let error: &(dyn std::error::Error + 'static) = &error;
        tracing::warn!(
            target: "lyncpin::health",
            backend = "fe01", failed = 3, took = 7_u64, counts = true, error,
            "backend is {}", "down"
        );
    }

    #[test]
    fn events_have_the_format_of_the_other_lines() {
        let text = logged(LogFormat::Text, Level::INFO, emit_event_of_a_backend);
        let (time, rest) = text.split_once(' ').unwrap();
        assert!(
            time.strip_prefix("time=")
                .unwrap()
                .parse::<Timestamp>()
                .is_ok()
        );
        assert_eq!(
            rest,
            "level=warn target=lyncpin::health message=\"backend is down\" backend=fe01 failed=3 took=7 \
             counts=true error=\"invalid port: invalid digit found in string\"\n"
        );
    }

    #[test]
    fn json_events_have_numbers_and_begin_with_the_common_fields() {
        let json = logged(LogFormat::Json, Level::INFO, emit_event_of_a_backend);
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["failed"], 3);
        assert_eq!(read["counts"], true);
        let mut rest = json.as_str();
        for field in FIELDS {
            rest = &rest[rest.find(&format!("\"{field}\":")).expect(field)..];
        }
    }

    #[test]
    fn a_field_has_its_json_type_whatever_its_value_is() {
        let emit = || {
            let addresses = ["192.0.2.1:443", "[2001:db8::1]:443"];
            tracing::info!(
                target: "lyncpin::x",
                connections = "kept", seconds = 12.5, pins = "7", why = 3, passed = 1, backend = true,
                addresses = ?crate::telemetry::log::List(&addresses),
                "first"
            );
            tracing::info!(target: "lyncpin::x", connections = 2, addresses = ?addresses, "second");
        };
        let json = logged(LogFormat::Json, Level::INFO, emit);
        let mut lines = json
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let first = lines.next().unwrap();
        assert!(first["connections"].is_null() && first["passed"].is_null());
        assert_eq!(
            (&first["seconds"], &first["pins"]),
            (&12.5.into(), &7.into())
        );
        assert_eq!(
            (&first["why"], &first["backend"]),
            (&"3".into(), &"true".into())
        );
        assert_eq!(first["addresses"][1], "[2001:db8::1]:443");
        let second = lines.next().unwrap();
        assert_eq!(second["connections"], 2);
        assert!(second["addresses"].is_array(), "{second}");
        let text = logged(LogFormat::Text, Level::INFO, emit);
        assert!(
            text.contains("addresses=\"[192.0.2.1:443, [2001:db8::1]:443]\""),
            "{text}"
        );
    }

    #[test]
    fn events_below_the_level_and_of_libraries_are_left_out() {
        let emit = || {
            tracing::debug!(target: "lyncpin::x", "no");
            tracing::info!(target: "lyncpin::x", "yes");
            tracing::info!(target: "hyper::x", "no");
            tracing::warn!(target: "hyper::x", "yes");
        };
        let text = logged(LogFormat::Text, Level::INFO, emit);
        assert_eq!(text.matches("message=yes").count(), 2, "{text}");
        assert!(!text.contains("message=no"), "{text}");
        let text = logged(LogFormat::Text, Level::DEBUG, emit);
        assert_eq!(text.matches("message=no").count(), 1, "{text}");
    }

    #[test]
    fn a_value_cannot_begin_a_line() {
        let emit = || {
            tracing::warn!(target: "lyncpin::x", detail = "a\nlevel=error\x1b[2J", "b\r\nc");
        };
        let text = logged(LogFormat::Text, Level::INFO, emit);
        assert_eq!(text.lines().count(), 1);
        assert!(!text.trim_end().chars().any(char::is_control), "{text:?}");
        assert!(
            text.contains(r#"message="b\r\nc" detail="a\nlevel=error\x1b[2J""#),
            "{text}"
        );
    }
}
