//! A point in time, in RFC 3339, UTC, with milliseconds.
//!
//! Owns how the log, the status and the API write times, and how durations and counts are written for people. Must not know
//! clocks: the time is passed in. Invariant: the text of a time has 24 bytes, and reading it back gives the same millisecond.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::{Date, Month, Time, UtcDateTime};

/// `2026-11-23T11:29:27.042Z`
const LENGTH: usize = 24;

/// The last millisecond whose year has four digits: 9999-12-31T23:59:59.999Z.
const LAST: Duration = Duration::from_millis(253_402_300_799_999);

/// A point in time. Times before 1970 are written as its first moment, times after 9999 as its last.
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000_000_042);
/// let text = lyncpin::types::timestamp::Timestamp(time).to_string();
/// assert_eq!(text, "2001-09-09T01:46:40.042Z");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub SystemTime);

/// A duration in its two largest units: `2m5s`, `1d3h`.
#[must_use]
pub fn short_duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{minutes}m"),
        (_, _, _) => format!("{days}d{hours}h"),
    }
}

/// A number and its noun: `1 connection`, `2 connections`.
#[must_use]
pub fn pluralized(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// The text is not a time in this format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampError;

impl Timestamp {
    /// The text, without an allocation.
    #[must_use]
    pub fn ascii(self) -> [u8; LENGTH] {
        let since = self
            .0
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .min(LAST);
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let time = UtcDateTime::from_unix_timestamp(seconds)
            .expect("from 1970 to 9999, which is in the range of the type");
        let (year, month, day) = time.to_calendar_date();
        let (hour, minute, second) = time.as_hms();

        let mut text = *b"0000-00-00T00:00:00.000Z";
        put(&mut text[0..4], year.unsigned_abs());
        put(&mut text[5..7], u8::from(month).into());
        put(&mut text[8..10], day.into());
        put(&mut text[11..13], hour.into());
        put(&mut text[14..16], minute.into());
        put(&mut text[17..19], second.into());
        put(&mut text[20..23], since.subsec_millis());
        text
    }
}

/// Writes `value` in decimal, filling `digits`.
fn put(digits: &mut [u8], mut value: u32) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let time = parse(text).ok_or(TimestampError)?;
        // A sign, a missing separator or a fraction of another length is not written like this.
        if time.ascii() == text.as_bytes() {
            Ok(time)
        } else {
            Err(TimestampError)
        }
    }
}

/// Reads the numbers; separators are not checked.
fn parse(text: &str) -> Option<Timestamp> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u16>().ok();
    let byte = |range| u8::try_from(number(range)?).ok();
    let month = Month::try_from(byte(5..7)?).ok()?;
    let date = Date::from_calendar_date(number(0..4)?.into(), month, byte(8..10)?).ok()?;
    let time = Time::from_hms_milli(byte(11..13)?, byte(14..16)?, byte(17..19)?, number(20..23)?);
    let time = UtcDateTime::new(date, time.ok()?);
    let seconds = u64::try_from(time.unix_timestamp()).ok()?;
    let since = Duration::new(seconds, time.nanosecond());
    Some(Timestamp(SystemTime::UNIX_EPOCH + since))
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.ascii();
        // It is ASCII.
        f.pad(str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Display for TimestampError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a time like 2026-11-23T11:29:27.042Z")
    }
}

impl std::error::Error for TimestampError {}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(millis: u64, expected: &str) {
        let time = Timestamp(SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
        assert_eq!(time.to_string(), expected);
        assert_eq!(expected.parse(), Ok(time));
    }

    #[test]
    fn leap_days_and_ends_of_years_are_right() {
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_782_399_999, "2000-02-28T23:59:59.999Z");
        check(951_782_400_000, "2000-02-29T00:00:00.000Z");
        check(1_709_164_800_000, "2024-02-29T00:00:00.000Z");
        check(1_767_225_599_001, "2025-12-31T23:59:59.001Z");
        check(4_107_542_400_000, "2100-03-01T00:00:00.000Z");
        check(253_402_300_799_999, "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn times_outside_four_digit_years_are_clamped() {
        let early = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(Timestamp(early).to_string(), "1970-01-01T00:00:00.000Z");
        let late = SystemTime::UNIX_EPOCH + LAST + Duration::from_secs(7);
        assert_eq!(Timestamp(late).to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn every_day_reads_back() {
        for day in 0..=LAST.as_secs() / 86_400 {
            let time = Timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(day * 86_400));
            assert_eq!(time.to_string().parse(), Ok(time));
        }
    }

    #[test]
    fn other_formats_and_impossible_times_are_rejected() {
        for text in [
            "",
            "2026-11-23",
            "2026-11-23T11:29:27Z",
            "2026-11-23T11:29:27.042+00:00",
            "2026-02-30T00:00:00.000Z",
            "2026-13-01T00:00:00.000Z",
            "2026-11-23T24:00:00.000Z",
            "2026-11-23 11:29:27.042Z",
            "1969-12-31T23:59:59.999Z",
            "+026-11-23T11:29:27.042Z",
        ] {
            assert_eq!(text.parse::<Timestamp>(), Err(TimestampError), "{text}");
        }
    }

    #[test]
    fn durations_show_two_units() {
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (61, "1m1s"),
            (3_600, "1h0m"),
            (90_061, "1d1h"),
        ] {
            assert_eq!(short_duration(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn one_is_singular() {
        let texts = [0, 1, 2].map(|count| pluralized(count, "pin"));
        assert_eq!(texts, ["0 pins", "1 pin", "2 pins"]);
    }
}
