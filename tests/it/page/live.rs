//! The page refreshes about once a second, and sends requests to the balancer only.

use crate::support::at;
use crate::support::eventually;
use crate::support::own_address;
use crate::support::peers::{Backend, ask, connect, connect_from, request};

use super::{balancer, open, open_page};

const CONNECTIONS: &str =
    "document.querySelector('td[data-label=Connections] .number').textContent";

#[test]
fn connections_bytes_pins_and_charts_are_live() {
    let backends = Backend::several(1);
    let balancer = balancer(&backends);
    let mut browser = open_page(&balancer);
    browser.until(&format!("{CONNECTIONS} === '0'"));
    let clients: Vec<_> = (0..3)
        .map(|_| connect_from(own_address(), balancer.at(80)).unwrap())
        .collect();
    for client in &clients {
        assert_eq!(ask(client, &request("contoso.com")).unwrap(), "a");
    }
    browser.until(&format!("{CONNECTIONS} === '3'"));
    browser.until("document.querySelector('#tiles li strong').textContent === '3'");
    browser.until(
        "[...document.querySelectorAll('td small')].some((node) => node.textContent === '3 pins')",
    );
    browser.until("/^[1-9][0-9]* B/.test(document.querySelector('td[data-label=Traffic] > small').textContent)");
    // Charts have lines, which change after a while.
    let curve = "document.querySelector('td[data-label=Connections] .curve').getAttribute('d')";
    browser.until(&format!("{curve}?.includes('L')"));
    let before = browser.value(curve);
    browser.until(&format!("{curve} !== {before}"));
    drop(clients);
    browser.until(&format!("{CONNECTIONS} === '0'"));
}

#[test]
fn the_page_sends_requests_to_the_balancer_only_and_logs_no_error() {
    let backends = Backend::several(1);
    let balancer = balancer(&backends);
    let mut browser = open_page(&balancer);
    let (_, errors) = browser.heard();
    // The browser itself logs each response with 401.
    let errors: Vec<_> = errors
        .iter()
        .filter(|error| error["entry"]["source"] != "network")
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let origin = format!("http://{}/", at(balancer.address, 9900));
    let refreshes = |browser: &mut crate::support::chromium::Chromium| {
        let (urls, _) = browser.heard();
        let foreign = urls
            .iter()
            .find(|url| !url.starts_with(&origin) && !url.starts_with("data:"));
        assert_eq!(foreign, None);
        urls.iter()
            .filter(|url| url.ends_with("/api/v1/status"))
            .count()
    };
    let first = refreshes(&mut browser);
    eventually("the page refreshes repeatedly", || {
        (refreshes(&mut browser) >= first + 3).then_some(())
    });
}

#[test]
fn a_failure_is_shown_within_two_seconds_with_its_reason() {
    let backends = Backend::several(2);
    let balancer = balancer(&backends);
    let mut browser = open_page(&balancer);
    let row = "document.querySelector('.pool tbody tr')";
    // The time when the page shows the failure, by the same clock as the balancer. On a busy machine
    // one of several attempts is enough.
    let watch = format!(
        "globalThis.shown = 0; new MutationObserver((_, watch) => {{
           if ({row}.dataset.health === 'down') {{ globalThis.shown = Date.now(); watch.disconnect(); }}
         }}).observe({row}, {{ attributes: true }})"
    );
    let mut took = Vec::new();
    for _ in 0..5 {
        browser.until(&format!("{row}.dataset.health === 'up'"));
        browser.value(&format!("void ({{ set: (() => {{ {watch} }})() }})"));
        backends[0].stop();
        browser.until("globalThis.shown > 0");
        let since = balancer.status()["pools"][0]["backends"][0]["since"].clone();
        let late = browser.value(&format!("globalThis.shown - Date.parse({since})"));
        took.push(late.as_i64().unwrap());
        backends[0].start_again();
        if took.last().is_some_and(|late| *late < 2000) {
            break;
        }
    }
    assert!(took.iter().any(|late| *late < 2000), "{took:?}");
    // The event comes first, and is announced to screen readers.
    browser.until("document.querySelector('#health tbody tr')?.textContent.includes('refused')");
    browser.until("document.querySelector('#announcements').textContent.includes('a in web is')");
    browser.until("document.querySelector('#health tbody tr').textContent.includes('Up')");
    // The backend and its check have a time and a reason.
    let state = browser.text(".pool tbody tr td[data-label=State]");
    assert!(state.contains("Up") && state.contains("since "), "{state}");
    let checks = browser.text(".pool tbody tr td[data-label=Checks]");
    assert!(
        checks.contains("tcp") && checks.contains("passes for"),
        "{checks}"
    );
}

#[test]
fn rejections_are_shown_with_client_name_and_outcome() {
    let backends = Backend::several(1);
    let balancer = balancer(&backends);
    let mut browser = open_page(&balancer);
    let client = connect(balancer.at(80)).unwrap();
    let _ = ask(&client, &request("elsewhere.contoso.com"));
    browser.until("document.querySelector('#rejections tbody tr')");
    let row = browser.text("#rejections tbody tr");
    for part in [
        "elsewhere.contoso.com",
        "unknown_name",
        "http",
        &client.local_addr().unwrap().to_string(),
    ] {
        assert!(row.contains(part), "{part}: {row}");
    }
}

#[test]
fn without_the_token_the_page_shows_no_data_and_asks_until_it_is_valid() {
    let backends = Backend::several(1);
    let balancer = balancer(&backends);
    let mut browser = open(at(balancer.address, 9900));
    browser.until("document.querySelector('#token').open");
    assert_eq!(
        browser.value("document.querySelector('.pool')"),
        serde_json::Value::Null
    );
    browser.write("another");
    browser.press("Enter");
    browser.until("document.querySelector('#token .error').textContent.includes('Wrong token')");
    for _ in 0..3 {
        browser.press("Escape");
        browser.until("document.querySelector('#token').open");
    }
    browser.click("#token input");
    browser.value("document.activeElement.select()");
    browser.write("test-token");
    browser.press("Enter");
    browser.until("document.querySelector('.pool')");
    let kept = "[sessionStorage.length, localStorage.length, document.cookie]";
    assert_eq!(browser.value(kept), serde_json::json!([1, 0, ""]));
    browser.click("#sign-out");
    browser.until("document.querySelector('#token')?.open && sessionStorage.length === 0");
}

#[test]
fn the_page_pauses_while_hidden_or_paused_and_reports_a_dead_balancer() {
    let backends = Backend::several(1);
    let mut balancer = balancer(&backends);
    let mut browser = open_page(&balancer);
    browser.value("globalThis.requests = 0; const real = fetch; globalThis.fetch = (...all) => { globalThis.requests += 1; return real(...all); }; 0");
    browser.until("globalThis.requests > 2");
    let requests_while_paused = |browser: &mut crate::support::chromium::Chromium| {
        // A request under way can end. After that the page must send none for much longer than the refresh interval.
        browser.value(
            "(async () => { const wait = (time) => new Promise((done) => setTimeout(done, time)); await wait(1500);
             const before = globalThis.requests; await wait(2500); return globalThis.requests - before; })()",
        )
    };
    browser.click("#pause");
    assert_eq!(requests_while_paused(&mut browser), 0);
    assert_eq!(browser.text("#freshness"), "paused");
    browser.click("#pause");
    browser.until("document.querySelector('#freshness').textContent === 'live'");
    let hide = |hidden| {
        format!(
            "Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }}); document.dispatchEvent(new Event('visibilitychange')); 0"
        )
    };
    browser.value(&hide(true));
    assert_eq!(requests_while_paused(&mut browser), 0);
    browser.value(&hide(false));
    browser.value("globalThis.requests = 0");
    browser.until("globalThis.requests > 2");
    balancer.signal(rustix::process::Signal::TERM);
    balancer.wait();
    browser.until("document.querySelector('#trouble').textContent.includes('No response')");
    browser.until("document.body.classList.contains('stale')");
    // Neither text nor colour reports a healthy state.
    assert_eq!(browser.text("#ready"), "No response");
    assert_eq!(
        browser.value("document.querySelector('#ready').dataset.tone"),
        "bad"
    );
    browser.until("document.title === '(no response) lyncpin'");
    let tone = "getComputedStyle(document.querySelector('.pool .badge')).color";
    let quiet = "getComputedStyle(document.querySelector('main .quiet')).color";
    browser.until(&format!("{tone} === {quiet}"));
}
