//! A point in time as people and programs read it: RFC 3339, UTC, to the millisecond.
//!
//! Owns the one form in which the log, the status and the API write times, and how durations and counts are said. Knows no clock: the time is passed in.
//! Invariant: what is written always has 24 bytes, and reading it back gives the same millisecond.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `2026-11-23T11:29:27.042Z`
const LENGTH: usize = 24;

/// The last second that has a year of four digits: 9999-12-31T23:59:59Z.
const LAST: u64 = 253_402_300_799;

const SECONDS_A_DAY: u64 = 86_400;

/// A time on the wall, in UTC. Times before 1970 count as its beginning, times after 9999 as its end.
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

/// A duration for people, in its two largest units: `2m5s`, `1d3h`.
#[must_use]
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
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
pub fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// The text is not a time in the one form that is written here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotATimestamp;

impl Timestamp {
    /// The text, without an allocation.
    #[must_use]
    pub fn ascii(self) -> [u8; LENGTH] {
        let since = self
            .0
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let (seconds, millis) = if since.as_secs() > LAST {
            (LAST, 999)
        } else {
            (since.as_secs(), since.subsec_millis())
        };
        let (year, month, day) = civil(seconds / SECONDS_A_DAY);
        let of_day = seconds % SECONDS_A_DAY;

        let mut text = *b"0000-00-00T00:00:00.000Z";
        put(&mut text[0..4], year);
        put(&mut text[5..7], month);
        put(&mut text[8..10], day);
        put(&mut text[11..13], of_day / 3600);
        put(&mut text[14..16], of_day / 60 % 60);
        put(&mut text[17..19], of_day % 60);
        put(&mut text[20..23], millis.into());
        text
    }
}

/// Writes `value` in decimal over all of `place`.
fn put(place: &mut [u8], mut value: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Days since 1970-01-01 as year, month and day of the Gregorian calendar. Counts in eras of 400 years that begin on
/// a first of March, so that a leap day is an era's or a year's last (Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`).
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

/// The inverse of [`civil`], for 1970 and later; the day may lie outside its month.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year / 400;
    let year_of_era = year % 400;
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    era * 146_097 + of_era - 719_468
}

impl FromStr for Timestamp {
    type Err = NotATimestamp;

    fn from_str(text: &str) -> Result<Self, NotATimestamp> {
        let number = |place: std::ops::Range<usize>| {
            let digits = text.get(place).ok_or(NotATimestamp)?;
            digits.parse::<u64>().map_err(|_| NotATimestamp)
        };
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return Err(NotATimestamp);
        }
        let of_day = number(11..13)? * 3600 + number(14..16)? * 60 + number(17..19)?;
        let since = Duration::from_secs(days(year, month, day) * SECONDS_A_DAY + of_day)
            + Duration::from_millis(number(20..23)?);
        let time = Self(SystemTime::UNIX_EPOCH + since);
        // Whatever is not written like this was out of its range somewhere.
        if time.ascii() == text.as_bytes() {
            Ok(time)
        } else {
            Err(NotATimestamp)
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.ascii();
        // Always ASCII; were it not, nothing would be written.
        f.pad(str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Display for NotATimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a time like 2026-11-23T11:29:27.042Z")
    }
}

impl std::error::Error for NotATimestamp {}

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
    fn times_outside_four_digit_years_are_bounded() {
        let early = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(Timestamp(early).to_string(), "1970-01-01T00:00:00.000Z");
        let late = SystemTime::UNIX_EPOCH + Duration::from_secs(LAST + 7);
        assert_eq!(Timestamp(late).to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn every_day_reads_back() {
        for day in 0..LAST / SECONDS_A_DAY {
            let (year, month, of_month) = civil(day);
            assert_eq!(days(year, month, of_month), day);
        }
    }

    #[test]
    fn other_texts_are_no_times() {
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
            assert_eq!(text.parse::<Timestamp>(), Err(NotATimestamp), "{text}");
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
            assert_eq!(span(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn one_is_no_plural() {
        let said = [0, 1, 2].map(|count| counted(count, "pin"));
        assert_eq!(said, ["0 pins", "1 pin", "2 pins"]);
    }
}
