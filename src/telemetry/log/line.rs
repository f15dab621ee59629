//! One line of the log, as text or as JSON, field by field.
//!
//! Owns quoting and escaping. Must not know single fields. Invariants: a line is one line of printable characters, whatever
//! its values are: no value can end it, add a field, or send a control sequence to a terminal; what a client sent is written
//! in ASCII only.

use std::io::Write as _;
use std::time::Duration;

use crate::config::model::LogFormat;

/// A line that is being formatted.
pub(super) struct Line<'a> {
    format: LogFormat,
    out: &'a mut Vec<u8>,
    fields: bool,
}

impl<'a> Line<'a> {
    pub(super) fn begin(format: LogFormat, out: &'a mut Vec<u8>) -> Self {
        if format == LogFormat::Json {
            out.push(b'{');
        }
        Self {
            format,
            out,
            fields: false,
        }
    }

    pub(super) fn end(self) {
        self.out.extend_from_slice(match self.format {
            LogFormat::Text => b"\n",
            LogFormat::Json => b"}\n",
        });
    }

    fn key(&mut self, key: &str) {
        match self.format {
            LogFormat::Text => {
                if self.fields {
                    self.out.push(b' ');
                }
                self.out.extend_from_slice(key.as_bytes());
                self.out.push(b'=');
            }
            LogFormat::Json => {
                self.out
                    .extend_from_slice(if self.fields { b",\"" } else { b"\"" });
                self.out.extend_from_slice(key.as_bytes());
                self.out.extend_from_slice(b"\":");
            }
        }
        self.fields = true;
    }

    /// A field without a value.
    pub(super) fn absent(&mut self, key: &str) {
        self.key(key);
        self.out.extend_from_slice(match self.format {
            LogFormat::Text => b"-",
            LogFormat::Json => b"null",
        });
    }

    /// A value that needs no escaping: fixed words, addresses, times.
    pub(super) fn plain(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        match self.format {
            LogFormat::Text => self.out.extend_from_slice(value),
            LogFormat::Json => {
                self.out.push(b'"');
                self.out.extend_from_slice(value);
                self.out.push(b'"');
            }
        }
    }

    /// The same for format arguments.
    pub(super) fn displayed(&mut self, key: &str, value: std::fmt::Arguments<'_>) {
        self.key(key);
        let quote = self.format == LogFormat::Json;
        if quote {
            self.out.push(b'"');
        }
        // Writing to a Vec cannot fail.
        let _ = self.out.write_fmt(value);
        if quote {
            self.out.push(b'"');
        }
    }

    /// A number or a boolean, written without quotes.
    pub(super) fn literal(&mut self, key: &str, value: std::fmt::Arguments<'_>) {
        self.key(key);
        // Writing to a Vec cannot fail.
        let _ = self.out.write_fmt(value);
    }

    /// A list of strings: `text` in the text format; `json` in JSON, or an empty list if it is not an array of strings.
    pub(super) fn list(&mut self, key: &str, text: &str, json: &str) {
        if self.format == LogFormat::Text {
            return self.text(key, text);
        }
        let texts: Vec<String> = serde_json::from_str(json).unwrap_or_default();
        // Serialized again, so that it is certainly one line.
        let json = serde_json::to_string(&texts).unwrap_or_else(|_| "[]".to_owned());
        self.literal(key, format_args!("{json}"));
    }

    /// Text of the program or of the configuration; quoted only if necessary.
    pub(super) fn text(&mut self, key: &str, value: &str) {
        let bare = |byte: &u8| byte.is_ascii_graphic() && !b"\"\\=".contains(byte);
        if value.as_bytes().iter().all(bare) && !value.is_empty() && value != "-" {
            self.plain(key, value.as_bytes());
            return;
        }
        self.key(key);
        self.out.push(b'"');
        for character in value.chars() {
            if character.is_ascii() {
                self.escape(character as u8);
            } else if character.is_control() {
                // U+0080 to U+009F: control characters for some terminals.
                let _ = write!(self.out, "\\u{:04x}", u32::from(character));
            } else {
                let mut utf8 = [0; 4];
                let utf8 = character.encode_utf8(&mut utf8);
                self.out.extend_from_slice(utf8.as_bytes());
            }
        }
        self.out.push(b'"');
    }

    /// Bytes from a client; always quoted, so that they cannot look like an absent field.
    pub(super) fn foreign(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        self.out.push(b'"');
        let mut rest = value;
        while !rest.is_empty() {
            let harmless = |byte: &u8| matches!(byte, b' '..=b'~') && !b"\"\\".contains(byte);
            let run = rest.iter().take_while(|byte| harmless(byte)).count();
            self.out.extend_from_slice(&rest[..run]);
            if let Some(byte) = rest.get(run) {
                self.escape(*byte);
            }
            rest = rest.get(run + 1..).unwrap_or_default();
        }
        self.out.push(b'"');
    }

    fn escape(&mut self, byte: u8) {
        match byte {
            b'"' => self.out.extend_from_slice(b"\\\""),
            b'\\' => self.out.extend_from_slice(b"\\\\"),
            b'\n' => self.out.extend_from_slice(b"\\n"),
            b'\r' => self.out.extend_from_slice(b"\\r"),
            b'\t' => self.out.extend_from_slice(b"\\t"),
            b' '..=b'~' => self.out.push(byte),
            0..b' ' | 0x7f.. => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                self.out.extend_from_slice(match self.format {
                    LogFormat::Text => b"\\x",
                    LogFormat::Json => b"\\u00",
                });
                let digits = [byte >> 4, byte & 15].map(|digit| HEX[usize::from(digit)]);
                self.out.extend_from_slice(&digits);
            }
        }
    }

    pub(super) fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        self.digits(value, 1);
    }

    /// Milliseconds with three decimals, truncated.
    pub(super) fn milliseconds(&mut self, key: &str, value: Duration) {
        self.key(key);
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        self.digits(micros / 1000, 1);
        self.out.push(b'.');
        self.digits(micros % 1000, 3);
    }

    /// `value` in decimal, with leading zeros up to `least` digits.
    fn digits(&mut self, mut value: u64, least: usize) {
        let mut digits = [b'0'; 20];
        let mut start = digits.len();
        while value > 0 || digits.len() - start < least {
            start -= 1;
            digits[start] = b'0' + (value % 10) as u8;
            value /= 10;
        }
        self.out.extend_from_slice(&digits[start..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: LogFormat, fill: impl Fn(&mut Line<'_>)) -> String {
        let mut out = Vec::new();
        let mut line = Line::begin(format, &mut out);
        fill(&mut line);
        line.end();
        String::from_utf8(out).unwrap()
    }

    #[track_caller]
    fn check(fill: impl Fn(&mut Line<'_>), text: &str, json: &str) {
        assert_eq!(written(LogFormat::Text, &fill), format!("{text}\n"));
        assert_eq!(written(LogFormat::Json, &fill), format!("{json}\n"));
    }

    #[test]
    fn fields_are_separated_in_both_formats() {
        check(
            |line| {
                line.plain("a", b"x");
                line.number("b", 0);
                line.number("c", u64::MAX);
                line.absent("d");
                line.milliseconds("e", Duration::from_nanos(12_034_567));
                line.milliseconds("f", Duration::from_micros(7));
                line.displayed("g", format_args!("{}", 1.5));
            },
            "a=x b=0 c=18446744073709551615 d=- e=12.034 f=0.007 g=1.5",
            r#"{"a":"x","b":0,"c":18446744073709551615,"d":null,"e":12.034,"f":0.007,"g":"1.5"}"#,
        );
    }

    #[test]
    fn text_is_quoted_only_if_necessary() {
        check(
            |line| line.text("a", "fe01:443"),
            "a=fe01:443",
            r#"{"a":"fe01:443"}"#,
        );
        check(|line| line.text("a", ""), r#"a="""#, r#"{"a":""}"#);
        check(|line| line.text("a", "-"), r#"a="-""#, r#"{"a":"-"}"#);
        check(|line| line.text("a", "b=c"), r#"a="b=c""#, r#"{"a":"b=c"}"#);
        check(
            |line| line.text("a", "z\u{fc}rich \u{9b}31m"),
            "a=\"z\u{fc}rich \\u009b31m\"",
            "{\"a\":\"z\u{fc}rich \\u009b31m\"}",
        );
    }

    #[test]
    fn bytes_of_clients_stay_inside_their_quotes() {
        check(
            |line| line.foreign("name", b"a\" outcome=\\x\n\x1b[31m\0\xfc"),
            r#"name="a\" outcome=\\x\n\x1b[31m\x00\xfc""#,
            r#"{"name":"a\" outcome=\\x\n\u001b[31m\u0000\u00fc"}"#,
        );
        check(
            |line| line.foreign("name", b"-"),
            r#"name="-""#,
            r#"{"name":"-"}"#,
        );
    }

    #[test]
    fn every_byte_of_a_client_can_be_read_back_from_json() {
        let all: Vec<u8> = (0..=255).collect();
        let json = written(LogFormat::Json, |line| line.foreign("name", &all));
        assert!(json.is_ascii());
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        let back: Vec<u32> = read["name"]
            .as_str()
            .unwrap()
            .chars()
            .map(u32::from)
            .collect();
        assert_eq!(back, (0..=255).collect::<Vec<u32>>());
    }
}
