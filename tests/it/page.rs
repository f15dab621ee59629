//! The status page in headless Chromium: its content, the changes that it can make, and its security limits.

mod appearance;
mod changes;
mod demo;
mod foreign;
mod live;
mod many;

use std::net::SocketAddr;

use crate::admin::fake::{Fake, Running};
use crate::support::at;
use crate::support::balancer::Balancer;
use crate::support::chromium::Chromium;
use crate::support::peers::{Backend, entries};
use lyncpin::admin::{EndpointSet, RequestLimits};

const HEALTH: &str = "health: { interval: 100ms, timeout: 100ms, rise: 1, fall: 1, damping: none }";

/// A balancer with these backends in its pool `web`.
fn balancer(backends: &[Backend]) -> Balancer {
    let yaml = format!(
        "listeners: {{ http: {{ bind: [\"HOST:80\"], protocol: http, routes: [{{ names: [contoso.com], pool: web }}] }} }}\n\
         pools: {{ web: {{ {}, affinity: {{ by: [source] }}, {HEALTH} }} }}",
        entries(backends)
    );
    Balancer::start(&yaml).ready()
}

/// The page of the balancer, after the token has been entered.
fn open_page(balancer: &Balancer) -> Chromium {
    let mut browser = open(at(balancer.address, 9900));
    browser.until("document.querySelector('#token').open");
    browser.write("test-token");
    browser.press("Enter");
    browser.until("document.querySelector('.pool tbody tr')");
    browser
}

/// The page of a fake control with a fixed status, without a token.
fn open_fake(fake: Fake) -> (Running, Chromium) {
    let running = Running::start(fake, None, EndpointSet::All, RequestLimits::default());
    let mut browser = open(running.tcp());
    browser.until("document.querySelector('.pool')");
    (running, browser)
}

fn open(admin: SocketAddr) -> Chromium {
    let mut browser = Chromium::start(1280, 900);
    browser.open(&format!("http://{admin}/"));
    browser
}
