//! Forty pools of twenty backends: the page stays responsive.

use crate::admin::fake::{Fake, status};
use lyncpin::admin::view::StatusView;
use lyncpin::types::backend_state::{AdminState, Health};

use super::open_fake;

fn many() -> StatusView {
    let mut status = status();
    let mut sound = status.pools[0].backends[0].clone();
    (sound.health, sound.state, sound.damped_until) = (Health::Up, AdminState::Ready, None);
    (sound.deadline, sound.drain_seconds_left) = (None, None);
    let pool = status.pools[0].clone();
    status.pools = (1..=40)
        .map(|number| {
            let mut pool = pool.clone();
            pool.name = format!("pool-{number:02}");
            pool.backends = (1..=20)
                .map(|number| {
                    let mut backend = sound.clone();
                    backend.name = format!("fe{number:02}");
                    backend
                })
                .collect();
            pool
        })
        .collect();
    let failing = &mut status.pools[16].backends[6];
    (failing.health, failing.why) = (Health::Down, "connection refused".into());
    status.pools[0].name = "web".into();
    status
}

#[test]
fn forty_pools_of_twenty_backends_are_shown_found_and_changed() {
    let (running, mut browser) = open_fake(Fake::with(many()));
    let shown = "[...document.querySelectorAll('.pool')].filter((pool) => !pool.hidden).length";
    browser.until(&format!("{shown} === 40"));
    // Every backend has an icon, and no row before its pool is expanded.
    let signs = "document.querySelectorAll('.pool .sign').length";
    assert_eq!(browser.value(signs), 800);
    assert_eq!(
        browser.value("document.querySelectorAll('.pool tbody tr').length"),
        0
    );
    browser.until("document.title === '(1 down) lyncpin'");
    assert_eq!(browser.text("#ready"), "Ready, 1 of 800 down");
    assert_eq!(
        browser.value("document.querySelector('#ready').dataset.tone"),
        "warn"
    );
    browser.click("#problems-only");
    browser.until(&format!("{shown} === 1"));
    browser.until("document.querySelector('.pool[data-pool=pool-17] tbody').textContent.includes('connection refused')");
    browser.click("#problems-only");
    browser.until(&format!("{shown} === 40"));
    browser.click("#filter");
    browser.write("web");
    browser.until(&format!("{shown} === 1"));
    browser.click(".pool[data-pool=web] tr:nth-child(1) button[data-state=drain]");
    browser.until("document.querySelector('#ask').open");
    // The fake control has only `fe01` of `web`.
    browser.click("#ask button[name=go]");
    browser
        .until("document.querySelector('#toast').textContent.includes('fe01 is draining in web')");
    assert_eq!(running.control.changes().len(), 1);
    everything_opened_stays_usable(&mut browser);
}

/// With all 800 rows at once, the page still refreshes and responds.
fn everything_opened_stays_usable(browser: &mut crate::support::chromium::Chromium) {
    browser.click("#filter");
    browser.value("document.activeElement.select()");
    browser.write(" ");
    browser.click("#expand-all");
    browser.until("document.querySelectorAll('.pool tbody tr').length === 800");
    let elements = browser.value("document.querySelectorAll('*').length");
    assert!(elements.as_u64().unwrap() < 80_000, "{elements}");
    // The longest wait for a frame within three seconds, in the best of four runs, is much shorter than the refresh interval
    // of one second.
    let longest = "(async () => { let [most, last] = [0, performance.now()]; const end = last + 3000;
        while (last < end) { const now = await new Promise(requestAnimationFrame); most = Math.max(most, now - last); last = now; }
        return most; })()";
    let waited: Vec<f64> = (0..4)
        .map(|_| browser.value(longest).as_f64().unwrap())
        .collect();
    eprintln!("with 800 rows the longest waits for a frame were {waited:?} ms");
    assert!(waited.iter().any(|longest| *longest < 500.0), "{waited:?}");
    browser.click("#collapse-all");
    browser.until("document.querySelectorAll('.pool[open]').length === 0");
}
