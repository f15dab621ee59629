//! What Prometheus' client libraries tell of every process: the `process_*` series.
//!
//! Owns their names and where the kernel shows them (proc(5)). Invariant: what cannot be read is left out, never
//! guessed. Reading is for whoever asks for the metrics, never for the path of a connection.

use std::fmt::Write as _;
use std::fs;

use rustix::process::{Resource, getrlimit};

use super::definitions::SeriesKind;

/// Name, kind, help. `docs/metrics.md` lists them.
pub const DEFINITIONS: &[(&str, SeriesKind, &str)] = &[
    (
        "process_cpu_seconds_total",
        SeriesKind::Counter,
        "User and system CPU time spent.",
    ),
    (
        "process_max_fds",
        SeriesKind::Gauge,
        "Descriptors that may be open.",
    ),
    (
        "process_open_fds",
        SeriesKind::Gauge,
        "Descriptors that are open.",
    ),
    (
        "process_resident_memory_bytes",
        SeriesKind::Gauge,
        "Resident memory.",
    ),
    (
        "process_start_time_seconds",
        SeriesKind::Gauge,
        "Start of the process, in seconds since 1970.",
    ),
    ("process_threads", SeriesKind::Gauge, "Threads."),
    (
        "process_virtual_memory_bytes",
        SeriesKind::Gauge,
        "Virtual memory.",
    ),
];

/// Adds the series to `text`.
pub fn render(text: &mut String) {
    let stat = fs::read_to_string("/proc/self/stat").ok();
    let stat = stat.as_deref().and_then(Stat::parse);
    for (name, kind, help) in DEFINITIONS {
        let Some(value) = value(name, stat.as_ref()) else {
            continue;
        };
        let kind = match kind {
            SeriesKind::Counter => "counter",
            SeriesKind::Gauge => "gauge",
            SeriesKind::Histogram(_) => "histogram",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"
        );
    }
}

fn value(name: &str, stat: Option<&Stat>) -> Option<f64> {
    match name {
        "process_cpu_seconds_total" => Some(stat?.cpu_ticks / ticks_a_second()),
        "process_max_fds" => Some(
            getrlimit(Resource::Nofile)
                .current
                .map_or(f64::INFINITY, float),
        ),
        "process_open_fds" => open_descriptors(),
        "process_resident_memory_bytes" => {
            Some(stat?.resident_pages * float(rustix::param::page_size() as u64))
        }
        "process_start_time_seconds" => Some(boot_time()? + stat?.start_ticks / ticks_a_second()),
        "process_threads" => Some(stat?.threads),
        "process_virtual_memory_bytes" => Some(stat?.virtual_bytes),
        _ => None,
    }
}

/// The fields of `/proc/self/stat` that count here.
struct Stat {
    cpu_ticks: f64,
    threads: f64,
    start_ticks: f64,
    virtual_bytes: f64,
    resident_pages: f64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in parentheses and may hold anything, parentheses too.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // proc(5) counts from one, and two fields are gone.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok().map(float);
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// Since Linux 6.2 the directory's size is the number of descriptors (proc(5)); before, they are counted.
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

fn ticks_a_second() -> f64 {
    float(rustix::param::clock_ticks_per_second())
}

/// Prometheus has no other numbers; what is shown here is exact to 2^53.
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
        for (name, _, _) in DEFINITIONS {
            assert!(value(name) >= 0.0, "{name}");
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

    #[test]
    fn a_program_name_with_parentheses_is_passed_over() {
        let text = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 5 0 1234 8192 17 99";
        let stat = Stat::parse(text).unwrap();
        assert_eq!(stat.cpu_ticks, 300.0);
        assert_eq!((stat.threads, stat.start_ticks), (5.0, 1234.0));
        assert_eq!((stat.virtual_bytes, stat.resident_pages), (8192.0, 17.0));
        assert!(Stat::parse("7 (a) S 1").is_none());
    }
}
