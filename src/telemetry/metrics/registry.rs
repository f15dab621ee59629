//! The series and their text format.
//!
//! Owns where values are stored and how they are rendered. Must not know pools or listeners. Invariant: the memory of a
//! histogram does not grow with its observations.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, Label};
use metrics_exporter_prometheus::LabelSet;
use metrics_exporter_prometheus::formatting::{
    write_help_line, write_metric_line, write_type_line,
};
use metrics_util::registry::{Registry as Series, Storage};

use super::definitions::{self, Definition, SeriesKind};

/// All series of the balancer. Clones share them.
#[derive(Clone)]
pub struct Registry {
    series: Arc<Series<Key, MetricCells>>,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            series: Arc::new(Series::new(MetricCells)),
        }
    }
}

impl Registry {
    /// The counter of `definition` with these label values, in the order of its labels.
    pub fn counter(&self, definition: &'static Definition, values: &[&str]) -> Counter {
        debug_assert_eq!(definition.kind, SeriesKind::Counter);
        self.series
            .get_or_create_counter(&key(definition, values), |cell| cell.clone().into())
    }

    /// The gauge of `definition` with these label values.
    pub fn gauge(&self, definition: &'static Definition, values: &[&str]) -> Gauge {
        debug_assert_eq!(definition.kind, SeriesKind::Gauge);
        self.series
            .get_or_create_gauge(&key(definition, values), |cell| cell.clone().into())
    }

    /// The histogram of `definition` with these label values.
    pub fn histogram(&self, definition: &'static Definition, values: &[&str]) -> Histogram {
        self.series
            .get_or_create_histogram(&key(definition, values), |cell| cell.clone().into())
    }

    /// The value of a counter; 0 if there is none.
    #[must_use]
    pub fn counter_value(&self, definition: &'static Definition, values: &[&str]) -> u64 {
        let cell = self.series.get_counter(&key(definition, values));
        cell.map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// The value of a gauge; 0 if there is none.
    #[must_use]
    pub fn gauge_value(&self, definition: &'static Definition, values: &[&str]) -> f64 {
        let cell = self.series.get_gauge(&key(definition, values));
        cell.map_or(0.0, |cell| f64::from_bits(cell.load(Ordering::Relaxed)))
    }

    /// Removes the series for which `wanted`, given the name and the labels, is false.
    pub fn retain(&self, mut wanted: impl FnMut(&str, &HashMap<&str, &str>) -> bool) {
        let mut keep = |key: &Key| {
            let labels = key
                .labels()
                .map(|label| (label.key(), label.value()))
                .collect();
            wanted(key.name(), &labels)
        };
        self.series.retain_counters(|key, _| keep(key));
        self.series.retain_gauges(|key, _| keep(key));
        self.series.retain_histograms(|key, _| keep(key));
    }

    /// All series in the Prometheus text format, version 0.0.4, sorted by name and labels.
    #[must_use]
    pub fn render(&self) -> String {
        let mut lines: BTreeMap<String, BTreeMap<Vec<String>, String>> = BTreeMap::new();
        let mut add = |key: &Key, text: String| {
            let order = key.labels().map(|label| label.value().to_owned()).collect();
            lines
                .entry(key.name().to_owned())
                .or_default()
                .insert(order, text);
        };
        self.series.visit_counters(|key, cell| {
            add(key, line(key, None, None, cell.load(Ordering::Relaxed)));
        });
        self.series.visit_gauges(|key, cell| {
            add(
                key,
                line(
                    key,
                    None,
                    None,
                    f64::from_bits(cell.load(Ordering::Relaxed)),
                ),
            );
        });
        self.series
            .visit_histograms(|key, cell| add(key, cell.lines(key)));

        let mut text = String::with_capacity(64 * 1024);
        for definition in definitions::ALL {
            let Some(series) = lines.get(definition.name) else {
                continue;
            };
            write_help_line(&mut text, definition.name, None, None, definition.help);
            let kind = definition.kind.as_str();
            write_type_line(&mut text, definition.name, None, None, kind);
            text.extend(series.values().map(String::as_str));
        }
        text
    }
}

fn key(definition: &'static Definition, values: &[&str]) -> Key {
    assert_eq!(
        definition.labels.len(),
        values.len(),
        "wrong number of labels for {}",
        definition.name
    );
    let labels = definition
        .labels
        .iter()
        .zip(values)
        .map(|(name, value)| Label::new(*name, (*value).to_owned()));
    Key::from_parts(definition.name, labels.collect::<Vec<_>>())
}

fn line(
    key: &Key,
    suffix: Option<&'static str>,
    more: Option<(&'static str, &str)>,
    value: impl std::fmt::Display,
) -> String {
    let mut text = String::new();
    let labels = LabelSet::from_key_and_global(key, &Default::default());
    write_metric_line(&mut text, key.name(), suffix, &labels, more, value, None);
    text
}

/// Creates the cells in which values are stored.
struct MetricCells;

impl Storage<Key> for MetricCells {
    type Counter = Arc<AtomicU64>;
    type Gauge = Arc<AtomicU64>;
    type Histogram = Arc<Buckets>;

    fn counter(&self, _: &Key) -> Self::Counter {
        Arc::default()
    }

    fn gauge(&self, _: &Key) -> Self::Gauge {
        Arc::default()
    }

    fn histogram(&self, key: &Key) -> Self::Histogram {
        let kind = definitions::ALL
            .iter()
            .find(|known| known.name == key.name())
            .map(|known| known.kind);
        let bounds = match kind {
            Some(SeriesKind::Histogram(bounds)) => bounds,
            Some(SeriesKind::Counter | SeriesKind::Gauge) | None => &[],
        };
        Arc::new(Buckets::new(bounds))
    }
}

/// A histogram with fixed bounds.
struct Buckets {
    bounds: &'static [f64],
    /// One for each bound, and one for everything above.
    counts: Box<[AtomicU64]>,
    /// The sum, in nanoseconds, so that adding is one instruction; wraps after 584 years.
    nanoseconds: AtomicU64,
}

impl Buckets {
    fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self {
            bounds,
            counts,
            nanoseconds: AtomicU64::new(0),
        }
    }

    fn lines(&self, key: &Key) -> String {
        let mut text = String::new();
        let mut below = 0;
        for (bound, count) in self.bounds.iter().zip(&self.counts) {
            below += count.load(Ordering::Relaxed);
            text += &line(key, Some("bucket"), Some(("le", &bound.to_string())), below);
        }
        below += self.counts[self.bounds.len()].load(Ordering::Relaxed);
        text += &line(key, Some("bucket"), Some(("le", "+Inf")), below);
        let sum =
            std::time::Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)).as_secs_f64();
        text += &line(key, Some("sum"), None, sum);
        text += &line(key, Some("count"), None, below);
        text
    }
}

impl HistogramFn for Buckets {
    fn record(&self, seconds: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < seconds);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let nanoseconds =
            std::time::Duration::try_from_secs_f64(seconds).map_or(0, |took| took.as_nanos());
        self.nanoseconds.fetch_add(
            u64::try_from(nanoseconds).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_equal_to_a_bound_is_in_its_bucket() {
        let registry = Registry::default();
        let histogram = registry.histogram(&definitions::CLIENT_HELLO_SECONDS, &["https"]);
        histogram.record(0.001);
        histogram.record(7.0);
        let text = registry.render();
        assert!(
            text.contains(r#"lyncpin_client_hello_seconds_bucket{listener="https",le="0.001"} 1"#),
            "{text}"
        );
        assert!(
            text.contains(r#"lyncpin_client_hello_seconds_bucket{listener="https",le="5"} 1"#),
            "{text}"
        );
        assert!(
            text.contains(r#"lyncpin_client_hello_seconds_bucket{listener="https",le="+Inf"} 2"#),
            "{text}"
        );
        assert!(
            text.contains(r#"lyncpin_client_hello_seconds_count{listener="https"} 2"#),
            "{text}"
        );
        assert!(
            text.contains(r#"lyncpin_client_hello_seconds_sum{listener="https"} 7.001"#),
            "{text}"
        );
    }

    #[test]
    fn removed_series_are_not_rendered() {
        let registry = Registry::default();
        registry
            .counter(&definitions::AFFINITY_EVICTIONS, &["a"])
            .increment(1);
        registry
            .counter(&definitions::AFFINITY_EVICTIONS, &["b"])
            .increment(1);
        registry.retain(|_, labels| labels.get("group") != Some(&"a"));
        let text = registry.render();
        assert!(
            !text.contains(r#"group="a""#) && text.contains(r#"group="b""#),
            "{text}"
        );
    }
}
