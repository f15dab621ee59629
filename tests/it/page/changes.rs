//! Drain, maintain and ready require confirmation, by mouse and by keyboard; and explain shows the backend of a client.

use serde_json::json;

use crate::support::chromium::Chromium;
use crate::support::peers::{Backend, ask, connect, entries, is_alive, request};
use crate::support::{balancer::Balancer, eventually};

use super::{balancer, open_page};

fn state(balancer: &Balancer) -> String {
    let status = balancer.status();
    let state = &status["pools"][0]["backends"][0]["state"];
    state.as_str().unwrap().to_owned()
}

fn is(balancer: &Balancer, wanted: &str) {
    eventually(wanted, || (state(balancer) == wanted).then_some(()));
}

fn button(state: &str) -> String {
    format!(".pool tbody tr button[data-state={state}]")
}

#[test]
fn a_backend_is_drained_by_click_after_confirmation() {
    let backends = Backend::several(2);
    let balancer = balancer(&backends);
    let mut browser = open_page(&balancer);
    browser.click(&button("drain"));
    browser.until("document.querySelector('#ask').open");
    assert!(browser.text("#ask").contains("Drain a in web?"));
    // An accidental Enter cancels.
    browser.press("Enter");
    browser.until("!document.querySelector('#ask').open");
    assert_eq!(state(&balancer), "ready");
    browser.click(&button("drain"));
    browser.click("#ask input[name=deadline]");
    browser.write("soon");
    browser.click("#ask button[name=go]");
    browser.until("document.querySelector('#ask .error').textContent.includes('Failed:')");
    assert_eq!(state(&balancer), "ready");
    browser.click("#ask input[name=deadline]");
    browser.value("document.activeElement.select()");
    browser.write("15m");
    browser.click("#ask button[name=go]");
    is(&balancer, "drain");
    browser
        .until("document.querySelector('.pool tbody tr').textContent.includes('Draining, 14 min')");
    browser.until("document.querySelector('#toast').textContent === 'a is draining in web.'");
    let status = balancer.status();
    assert_eq!(status["pools"][0]["backends"][1]["state"], "ready");
}

#[test]
fn maintain_and_ready_work_with_the_keyboard_only() {
    let backends = Backend::several(1);
    let balancer = balancer(&backends);
    let held = connect(balancer.at(80)).unwrap();
    ask(&held, &request("contoso.com")).unwrap();
    let mut browser = open_page(&balancer);
    browser
        .until("document.querySelector('td[data-label=Connections] .number').textContent === '1'");
    browser.press("/");
    assert_eq!(focus(&mut browser), "filter");
    browser.tab_to(".pool summary");
    browser.press("Enter");
    browser.until("!document.querySelector('.pool').open");
    browser.press("Enter");
    browser.until("document.querySelector('.pool').open");
    browser.tab_to(&button("maintain"));
    let ring = "getComputedStyle(document.activeElement).outlineStyle";
    assert_eq!(browser.value(ring), "solid");
    browser.press("Enter");
    browser.until("document.querySelector('#ask').open");
    assert!(
        browser
            .text("#ask-text")
            .contains("reset at once: 1 connection.")
    );
    browser.press("Escape");
    browser.until("!document.querySelector('#ask').open");
    // The focus is on the same button again.
    browser.until("document.activeElement.dataset.state === 'maintain'");
    assert!(state(&balancer) == "ready" && is_alive(&held));
    browser.press("Enter");
    browser.tab_to("#ask button[name=go]");
    browser.press(" ");
    // It is the last backend, so a second confirmation is required.
    browser.until("document.querySelector('#ask .error').textContent.startsWith('a is the last backend in service in pool web; ')");
    assert!(state(&balancer) == "ready" && is_alive(&held));
    browser.tab_to("#ask button[name=go]");
    assert_eq!(browser.text("#ask button[name=go]"), "Maintain anyway");
    browser.press(" ");
    is(&balancer, "maintain");
    browser.until("document.querySelector('.pool tbody tr').textContent.includes('Maintenance')");
    browser.tab_to(&button("ready"));
    browser.press("Enter");
    browser.tab_to("#ask button[name=go]");
    browser.press("Enter");
    is(&balancer, "ready");
}

fn focus(browser: &mut Chromium) -> String {
    let id = browser.value("document.activeElement.id");
    id.as_str().unwrap().to_owned()
}

/// Two pools with the same backends, as the short form generates them.
fn two_pools(backends: &[Backend]) -> Balancer {
    let pool = format!("{{ {}, {} }}", entries(backends), super::HEALTH);
    let yaml = format!(
        "listeners:\n\
         \x20 http: {{ bind: [\"HOST:80\"], protocol: http, routes: [{{ names: [contoso.com], pool: web }}, {{ names: [fabrikam.com], pool: other }}] }}\n\
         pools:\n  web: {pool}\n  other: {pool}\n"
    );
    Balancer::start(&yaml).ready()
}

/// The states of `a` and `b` in each pool.
fn states(balancer: &Balancer) -> Vec<String> {
    let status = balancer.status();
    let pools = status["pools"].as_array().unwrap().iter();
    let backends = pools.flat_map(|pool| pool["backends"].as_array().unwrap().clone());
    backends
        .map(|backend| backend["state"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_backend_of_several_pools_is_changed_in_all_of_them_or_in_one() {
    let backends = Backend::several(2);
    let balancer = two_pools(&backends);
    let mut browser = open_page(&balancer);
    let drain = "tbody tr:first-child button[data-state=drain]";
    browser.click(&format!(".pool[data-pool=web] {drain}"));
    browser.until("document.querySelector('#ask').open");
    assert_eq!(browser.text("#ask-everywhere"), " Also in other");
    assert_eq!(browser.text("#ask-title"), "Drain a in web, other?");
    browser.click("#ask button[name=go]");
    browser
        .until("document.querySelector('#toast').textContent === 'a is draining in web, other.'");
    assert_eq!(states(&balancer), ["drain", "ready", "drain", "ready"]);

    browser.click(".pool[data-pool=web] tbody tr:first-child button[data-state=ready]");
    browser.until("document.querySelector('#ask').open");
    browser.click("#ask-everywhere input");
    assert_eq!(browser.text("#ask-title"), "Make ready a in web?");
    browser.click("#ask button[name=go]");
    browser.until("document.querySelector('#toast').textContent === 'a is ready in web.'");
    assert_eq!(states(&balancer), ["ready", "ready", "drain", "ready"]);

    // It is the last backend in `other`: nothing changes in either pool without a second confirmation.
    browser.click(".pool[data-pool=web] tbody tr:nth-child(2) button[data-state=maintain]");
    browser.until("document.querySelector('#ask').open");
    browser.click("#ask button[name=go]");
    browser.until("document.querySelector('#ask .error').textContent.includes('b is the last backend in service in pool other: a drains')");
    assert_eq!(states(&balancer), ["ready", "ready", "drain", "ready"]);
    browser.click("#ask button[name=go]");
    browser.until("!document.querySelector('#ask').open");
    assert_eq!(
        states(&balancer),
        ["ready", "maintain", "drain", "maintain"]
    );
}

#[test]
fn the_explain_form_shows_the_backend_and_the_reason() {
    let backends = Backend::several(1);
    let balancer = balancer(&backends);
    let mut browser = open_page(&balancer);
    let mut explain = |name: &str, source: &str| {
        for (field, value) in [("name", name), ("source", source)] {
            browser.click(&format!("#explain [name={field}]"));
            browser.value("document.activeElement.select()");
            browser.write(value);
        }
        browser.value("document.querySelector('#explanation').replaceChildren()");
        browser.press("Enter");
        browser.until("document.querySelector('#explanation').textContent");
        browser.text("#explanation")
    };
    let shown = explain("contoso.com", "192.0.2.7");
    assert!(
        shown.contains("a at ") && shown.contains("pool web") && shown.contains("no pin"),
        "{shown}"
    );
    let shown = explain("elsewhere.contoso.com", "192.0.2.7");
    assert!(shown.contains("Rejected: unknown_name"), "{shown}");
    let shown = explain("contoso.com", "nowhere");
    assert!(
        shown.contains("the source \"nowhere\" is not an IP address"),
        "{shown}"
    );
    let options = browser
        .value("[...document.querySelectorAll('#explain option')].map((option) => option.value)");
    assert_eq!(options, json!(["http"]));
}
