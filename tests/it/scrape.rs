//! Prometheus' own tool reads what `/metrics` says.

use std::io::Write;

use crate::support::balancer::Balancer;
use crate::support::front_ends::{FrontEnds, http};
use crate::support::hello_builder::HelloBuilder;
use crate::support::peers::{connect, read_to_end, request, reset};
use crate::support::programs::feed;
use crate::support::{eventually, own_address};

fn assert_accepted(balancer: &Balancer) {
    let text = balancer.get("/metrics").body;
    let said = feed("promtool", "prometheus", &["check", "metrics"], &text);
    // It says what it would have otherwise on either channel, faults of style too.
    assert!(
        said.status.success() && said.out.is_empty() && said.err.is_empty(),
        "{said:?}\n{text}"
    );
}

#[test]
fn promtool_accepts_the_metrics_fresh_and_after_traffic_and_refusals() {
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
