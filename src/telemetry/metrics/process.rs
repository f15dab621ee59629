//! The `process_*` series, which the client libraries of Prometheus have for every process.
//!
//! Owns their names, and where the kernel shows the values (proc(5)). Must not know the balancer. Invariants: a value that
//! cannot be read is left out, never guessed; the values are read only for a scrape.

use std::fmt::Write as _;
use std::fs;

use procfs_core::FromRead as _;
use procfs_core::process::Stat;
use rustix::process::{Resource, getrlimit};

use super::definitions::SeriesKind;

/// One series of the process.
pub struct ProcessMetric {
    /// The name.
    pub name: &'static str,
    /// Counter or gauge.
    pub kind: SeriesKind,
    /// One sentence.
    pub help: &'static str,
    value: fn(&Sample) -> Option<f64>,
}

macro_rules! definitions {
    ($($name:literal, $kind:ident, $help:literal, $value:expr;)+) => {
        /// All of them, sorted by name. `docs/metrics.md` is tested against this table.
        pub static DEFINITIONS: &[ProcessMetric] = &[$(ProcessMetric {
            name: $name,
            kind: SeriesKind::$kind,
            help: $help,
            value: $value,
        }),+];
    };
}

definitions! {
    "process_cpu_seconds_total", Counter, "User and system CPU time, in seconds.",
        |sample| Some(float(sample.stat()?.utime + sample.stat()?.stime) / ticks_per_second());
    "process_max_fds", Gauge, "Limit of open file descriptors.",
        |_| Some(getrlimit(Resource::Nofile).current.map_or(f64::INFINITY, float));
    "process_open_fds", Gauge, "Number of open file descriptors.",
        |_| open_descriptors();
    "process_resident_memory_bytes", Gauge, "Resident memory size.",
        |sample| Some(float(sample.stat()?.rss) * float(rustix::param::page_size() as u64));
    "process_start_time_seconds", Gauge, "Start time of the process, in seconds since 1970.",
        |sample| Some(boot_time()? + float(sample.stat()?.starttime) / ticks_per_second());
    "process_threads", Gauge, "Number of threads.",
        |sample| u64::try_from(sample.stat()?.num_threads).ok().map(float);
    "process_virtual_memory_bytes", Gauge, "Virtual memory size.",
        |sample| Some(float(sample.stat()?.vsize));
}

/// `/proc/self/stat` at the time of a scrape.
struct Sample(Option<Stat>);

impl Sample {
    fn stat(&self) -> Option<&Stat> {
        self.0.as_ref()
    }
}

/// Appends the series to `text`.
pub fn render(text: &mut String) {
    let sample = Sample(Stat::from_file("/proc/self/stat").ok());
    for metric in DEFINITIONS {
        let Some(value) = (metric.value)(&sample) else {
            continue;
        };
        let (name, kind, help) = (metric.name, metric.kind.as_str(), metric.help);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"
        );
    }
}

/// Since Linux 6.2 the size of the directory is the number of descriptors (proc(5)). Reading the size needs no descriptor, so
/// the series is there when the process has run out of them.
fn open_descriptors() -> Option<f64> {
    const DIRECTORY: &str = "/proc/self/fd";
    let size = fs::metadata(DIRECTORY).ok()?.len();
    if size > 0 {
        return Some(float(size));
    }
    let count = fs::read_dir(DIRECTORY).ok()?.count();
    // The directory itself was open while it was read.
    Some(float(count.saturating_sub(1) as u64))
}

/// In seconds since 1970.
fn boot_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse::<u64>().ok().map(float)
}

fn ticks_per_second() -> f64 {
    float(rustix::param::clock_ticks_per_second())
}

/// Prometheus has no other numbers; these values are exact up to 2^53.
fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn this_process_shows_every_series() {
        let mut text = String::new();
        render(&mut text);
        let value = |name: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(&format!("{name} ")));
            line.unwrap_or_else(|| panic!("{name} is missing in {text}"))
                .parse::<f64>()
                .unwrap()
        };
        for metric in DEFINITIONS {
            assert!(value(metric.name) >= 0.0, "{}", metric.name);
        }
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs_f64();
        let age = now - value("process_start_time_seconds");
        assert!((-2.0..3600.0).contains(&age), "{age}");
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_threads") >= 1.0);
        assert!(value("process_open_fds") >= 3.0);
    }

    /// Field 2 of proc(5), the name of the program, may have spaces and parentheses.
    #[test]
    fn a_program_name_with_parentheses_does_not_shift_the_fields() {
        let rest = "S 1 7 7 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 5 0 1234 8192 17 99";
        let zeros = " 0".repeat(27);
        let stat = Stat::from_read(format!("7 (a) b (c)) {rest}{zeros}").as_bytes()).unwrap();
        let sample = Sample(Some(stat));
        let value = |name: &str| {
            let metric = DEFINITIONS.iter().find(|metric| metric.name == name);
            (metric.unwrap().value)(&sample)
        };
        let cpu_seconds = 300.0 / ticks_per_second();
        assert_eq!(value("process_cpu_seconds_total"), Some(cpu_seconds));
        assert_eq!(value("process_threads"), Some(5.0));
        assert_eq!(value("process_virtual_memory_bytes"), Some(8192.0));
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let left: Vec<&str> = DEFINITIONS
            .iter()
            .filter(|metric| (metric.value)(&Sample(None)).is_some())
            .map(|metric| metric.name)
            .collect();
        assert_eq!(left, ["process_max_fds", "process_open_fds"]);
        assert!(Stat::from_read("7 (a) S 1".as_bytes()).is_err());
    }
}
