//! Prometheus and promtool read `/metrics`.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::support::balancer::Balancer;
use crate::support::front_ends::{FrontEnds, http};
use crate::support::hello_builder::HelloBuilder;
use crate::support::peers::{connect, read_to_end, request, reset};
use crate::support::programs::{feed, run};
use crate::support::{at, eventually, own_address};

fn assert_accepted(balancer: &Balancer) {
    let text = balancer.get("/metrics").body;
    let output = feed("promtool", "prometheus", &["check", "metrics"], &text);
    // promtool reports errors and style warnings on stdout or stderr.
    assert!(
        output.status.success() && output.out.is_empty() && output.err.is_empty(),
        "{output:?}\n{text}"
    );
}

#[test]
fn promtool_accepts_the_metrics_at_the_start_and_after_traffic_and_rejections() {
    let front_ends = FrontEnds::start(2);
    let balancer = Balancer::start(&front_ends.short_form());
    assert_accepted(&balancer);
    let balancer = balancer.ready();
    for _ in 0..4 {
        let source = own_address();
        front_ends
            .https(source, balancer.at(443))
            .unwrap()
            .server()
            .unwrap();
        http(source, balancer.at(80)).unwrap().server().unwrap();
    }
    let hello = HelloBuilder::named("elsewhere.contoso.test").build();
    for (port, first) in [
        (443, &hello[..]),
        (443, b"GET / HTTP/1.1\r\n\r\n"),
        (443, &hello[..9]),
        (80, &request("elsewhere.contoso.test")),
        (80, b"GET / HTTP/1.1\r\n\r\n"),
        (80, b"\x16\x03\x01"),
    ] {
        let mut client = connect(balancer.at(port)).unwrap();
        client.write_all(first).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = read_to_end(&client);
    }
    reset(connect(balancer.at(443)).unwrap());
    front_ends.all[0].stop();
    for _ in 0..6 {
        http(own_address(), balancer.at(80))
            .unwrap()
            .server()
            .unwrap();
    }
    for outcome in [
        "unknown_name",
        "not_tls",
        "hello_closed",
        "no_name",
        "not_http",
        "hello_reset",
    ] {
        let label = format!("outcome=\"{outcome}\"");
        eventually(outcome, || {
            (balancer.metric("lyncpin_connections_total", &[&label]) > 0.0).then_some(())
        });
    }
    assert!(balancer.metric("lyncpin_redispatches_total", &[]) > 0.0);
    assert_accepted(&balancer);
}

/// Prometheus from Debian with the files of `deploy/prometheus`; it scrapes every second and is killed when dropped.
struct Prometheus {
    child: Child,
    at: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Prometheus {
    fn of(balancer: &Balancer) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/prometheus");
        for rules in ["recording.yaml", "alerts.yaml"] {
            std::fs::copy(format!("{shipped}/{rules}"), directory.path().join(rules)).unwrap();
        }
        let target = balancer.at(9900).to_string();
        let configuration = std::fs::read_to_string(format!("{shipped}/scrape.yml")).unwrap();
        let configuration = configuration
            .replace("192.0.2.11:9901", &target)
            .replace("          - 192.0.2.12:9901\n", "")
            .replace("scrape_interval: 15s", "scrape_interval: 1s")
            .replace("evaluation_interval: 30s", "evaluation_interval: 1s");
        let file = directory.path().join("prometheus.yml");
        std::fs::write(&file, configuration).unwrap();
        let at = at(own_address(), 9090);
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={at}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus starts; is the Debian package prometheus installed?");
        Self {
            child,
            at,
            _directory: directory,
        }
    }

    fn request(&self, endpoint: &[&str]) -> serde_json::Value {
        let [path, parameters @ ..] = endpoint else {
            panic!("no path")
        };
        let url = format!("http://{}{path}", self.at);
        let mut arguments = vec!["-s", "-G", "--max-time", "10", &url];
        for parameter in parameters {
            arguments.extend(["--data-urlencode", parameter]);
        }
        let output = run("curl", "curl", &arguments, "");
        serde_json::from_str(&output.out).unwrap_or_default()
    }

    /// Waits until the expression has this value.
    fn eventually(&self, expression: &str, wanted: f64) {
        let query = format!("query={expression}");
        eventually(&format!("{expression} is {wanted}"), || {
            let answer = self.request(&["/api/v1/query", &query]);
            let value = answer["data"]["result"][0]["value"][1].as_str()?;
            (value.parse() == Ok(wanted)).then_some(())
        });
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn prometheus_scrapes_evaluates_the_rules_and_fires_an_alert_for_a_down_backend() {
    let front_ends = FrontEnds::start(2);
    let balancer = Balancer::start(&front_ends.short_form()).ready();
    let prometheus = Prometheus::of(&balancer);
    prometheus.eventually(r#"up{job="lyncpin"}"#, 1.0);
    prometheus.eventually("count(lyncpin_build_info)", 1.0);
    let source = own_address();
    front_ends
        .https(source, balancer.at(443))
        .unwrap()
        .server()
        .unwrap();
    prometheus.eventually(
        r#"sum(lyncpin_connections_total{backend!=""}) > bool 0"#,
        1.0,
    );
    prometheus.eventually("min(pool:lyncpin_backends_available:sum)", 2.0);
    let rules = prometheus.request(&["/api/v1/rules"]);
    let groups = rules["data"]["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 2, "{rules}");
    for rule in groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
    {
        assert_ne!(rule["health"], "err", "{rule}");
    }
    front_ends.all[0].stop();
    prometheus.eventually("min(pool:lyncpin_backends_available:sum)", 1.0);
    prometheus.eventually(
        r#"count(ALERTS{alertname="LyncpinBackendDown"}) > bool 0"#,
        1.0,
    );
}
