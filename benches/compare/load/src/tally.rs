//! What was counted, and how it is told.

use std::fmt::Write;
use std::time::Duration;

/// Counted within the window.
#[derive(Default)]
pub(crate) struct Tally {
    /// Messages there and back, requests answered, or connections served.
    pub(crate) units: u64,
    /// Requests that were due while the one before was not answered.
    pub(crate) late: u64,
    /// Bytes that sinks received.
    pub(crate) bytes: u64,
    latencies: Vec<u32>,
}

impl Tally {
    pub(crate) fn done(&mut self, took: Duration) {
        self.units += 1;
        let nanoseconds = u32::try_from(took.as_nanos()).unwrap_or(u32::MAX);
        self.latencies.push(nanoseconds);
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
