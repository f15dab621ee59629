//! Data from outside is text, never markup.

use crate::admin::fake::{Fake, events, status};
use crate::support::peers::{Backend, ask, connect};

use super::{balancer, open_fake, open_page};

const NASTY: &str = "<img src=x onerror=\"document.title='pwned'\">";

#[test]
fn names_reasons_and_rejections_are_never_markup() {
    let mut status = status();
    status.version = NASTY.into();
    status.listeners[0].name = NASTY.into();
    status.listeners[0].routes[0].names = vec![NASTY.into()];
    status.affinity[0].group = NASTY.into();
    let pool = &mut status.pools[0];
    (pool.name, pool.balance, pool.backup) = (NASTY.into(), NASTY.into(), Some(NASTY.into()));
    let backend = &mut pool.backends[0];
    (backend.name, backend.configured) = (NASTY.into(), NASTY.into());
    backend.checks[0].label = NASTY.into();
    backend.checks[0].detail = NASTY.into();
    let (_running, mut browser) = open_fake(Fake::with(status));
    browser.until("document.querySelector('#rejections tbody tr')");
    browser.click(".pool button[data-state=drain]");
    browser.until("document.querySelector('#ask').open");
    for selector in [
        "#version",
        "#listeners tbody",
        "#pins tbody",
        ".pool summary",
        ".pool tbody th",
        ".pool td[data-label=Checks]",
        "#ask-title",
    ] {
        assert!(browser.text(selector).contains(NASTY), "{selector}");
    }
    assert!(
        browser
            .text(".pool td[data-label=State]")
            .contains("<script>alert(1)</script>")
    );
    let refusal = events().refusals[0].clone();
    let shown = browser.text("#rejections tbody");
    assert!(shown.contains(&refusal.name.unwrap()) && shown.contains(&refusal.detail.unwrap()));
    assert_eq!(
        browser.value("document.querySelectorAll('img, b, script').length"),
        1
    );
    assert_ne!(browser.text("title"), "pwned");
    let (_, errors) = browser.heard();
    assert!(errors.is_empty(), "{errors:#?}");
}

#[test]
fn data_from_a_real_client_is_never_markup() {
    let backends = Backend::several(1);
    let balancer = balancer(&backends);
    let mut browser = open_page(&balancer);
    let client = connect(balancer.at(80)).unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {NASTY}\r\n\r\n");
    let _ = ask(&client, request.as_bytes());
    browser.until("document.querySelector('#rejections tbody tr')");
    assert!(browser.text("#rejections tbody").contains("malformed"));
    assert_eq!(browser.value("document.querySelectorAll('img').length"), 0);
}
