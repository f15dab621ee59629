//! What was counted, and how it is told.

use std::fmt::Write;
use std::time::{Duration, Instant};

/// Counted within the window.
#[derive(Default)]
pub(crate) struct Tally {
    /// Messages there and back, requests answered, or connections served.
    pub(crate) units: u64,
    /// Requests that were due while the one before was not answered.
    pub(crate) late: u64,
    /// Bytes that sinks received.
    pub(crate) bytes: u64,
    /// When the last of them was counted.
    pub(crate) last: Option<Instant>,
    latencies: Vec<u32>,
}

impl Tally {
    pub(crate) fn done(&mut self, took: Duration) {
        self.units += 1;
        self.last = Some(Instant::now());
        let nanoseconds = u32::try_from(took.as_nanos()).unwrap_or(u32::MAX);
        self.latencies.push(nanoseconds);
    }

    pub(crate) fn moved(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.last = Some(Instant::now());
    }

    /// The latency that this share of the units did not exceed.
    fn quantile(&mut self, share: f64) -> Option<f64> {
        let last = self.latencies.len().checked_sub(1)?;
        self.latencies.sort_unstable();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a rank within the list, where one more or less is nothing"
        )]
        let rank = (last as f64 * share).round() as usize;
        Some(f64::from(self.latencies[rank.min(last)]) / 1e3)
    }

    pub(crate) fn tell(&mut self, report: &mut Report) {
        report.add("units", self.units);
        report.add("late", self.late);
        report.add("bytes", self.bytes);
        for (name, share) in [("p50_us", 0.5), ("p99_us", 0.99)] {
            if let Some(latency) = self.quantile(share) {
                report.add(name, latency);
            }
        }
    }
}

/// One JSON object of numbers.
#[derive(Default)]
pub(crate) struct Report(String);

impl Report {
    pub(crate) fn add(&mut self, name: &str, number: impl std::fmt::Display) {
        let comma = if self.0.is_empty() { "" } else { ", " };
        // Writing to a string does not fail.
        let _ = write!(self.0, "{comma}\"{name}\": {number}");
    }

    pub(crate) fn finish(self) -> String {
        format!("{{{}}}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(tally: &mut Tally) -> String {
        let mut report = Report::default();
        tally.tell(&mut report);
        report.finish()
    }

    #[test]
    fn quantiles_are_ranks_of_the_sorted_latencies() {
        let mut tally = Tally::default();
        for microseconds in (0..=100).rev() {
            tally.done(Duration::from_micros(microseconds));
        }
        assert_eq!(
            told(&mut tally),
            r#"{"units": 101, "late": 0, "bytes": 0, "p50_us": 50, "p99_us": 99}"#
        );
    }

    #[test]
    fn one_latency_is_every_quantile() {
        let mut tally = Tally::default();
        tally.done(Duration::from_nanos(1_500));
        let told = told(&mut tally);
        assert!(told.ends_with(r#""p50_us": 1.5, "p99_us": 1.5}"#), "{told}");
    }

    #[test]
    fn without_a_unit_there_are_no_quantiles() {
        let mut tally = Tally::default();
        assert_eq!(tally.last, None);
        tally.moved(3);
        assert!(tally.last.is_some());
        assert_eq!(told(&mut tally), r#"{"units": 0, "late": 0, "bytes": 3}"#);
    }

    #[test]
    fn a_latency_beyond_four_seconds_is_the_longest() {
        let mut tally = Tally::default();
        tally.done(Duration::from_secs(9));
        assert_eq!(tally.quantile(0.5), Some(f64::from(u32::MAX) / 1e3));
    }
}
