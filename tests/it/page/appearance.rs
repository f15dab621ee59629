//! Readability in light and dark mode, at every width, and with a screen reader.

use serde_json::json;

use crate::admin::fake::{Fake, status};
use crate::support::chromium::Chromium;
use lyncpin::types::backend_state::{AdminState, Health};

use super::open_fake;

/// Texts with too little contrast to their background (WCAG 2.2, success criterion 1.4.3: 4.5 to 1).
const FAINT: &str = r"(() => {
  const parse = (colour) => { const [r, g, b, a = 1] = colour.match(/[\d.]+/g).map(Number); return { rgb: [r, g, b], a }; };
  const light = (rgb) => { const [r, g, b] = rgb.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (node) => { for (; node; node = node.parentElement) { const { rgb, a } = parse(getComputedStyle(node).backgroundColor); if (a > 0.99) return rgb; }
    return [255, 255, 255]; };
  const faint = [];
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!own || !node.checkVisibility() || node.closest('[aria-disabled=true], symbol')) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color).rgb), light(behind(node))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) faint.push(`${node.textContent.slice(0, 40)}: ${contrast.toFixed(2)}`);
  }
  return faint;
})()";

/// A page with backends of every kind.
fn open_with_every_kind() -> (crate::admin::fake::Running, Chromium) {
    let mut status = status();
    let first = status.pools[0].backends[0].clone();
    let kinds = [
        ("fe02", Health::Up, AdminState::Ready, false),
        ("fe03", Health::Up, AdminState::Maintain, false),
        ("fe04", Health::Down, AdminState::Ready, true),
        ("fe05", Health::Unknown, AdminState::Ready, false),
        ("fe06", Health::Down, AdminState::Ready, false),
    ];
    for (name, health, state, damped) in kinds {
        let mut backend = first.clone();
        (backend.name, backend.health, backend.state) = (name.into(), health, state);
        backend.damped_until = first.damped_until.filter(|_| damped);
        (backend.drain_seconds_left, backend.why) = (None, "connection refused".into());
        backend.checks[0].passing = Some(health == Health::Up);
        status.pools[0].backends.push(backend);
    }
    open_fake(Fake::with(status))
}

#[test]
fn every_text_has_enough_contrast_in_light_and_dark() {
    let (_running, mut browser) = open_with_every_kind();
    browser.until("document.querySelector('#rejections tbody tr')");
    let mut grounds = Vec::new();
    for scheme in ["light", "dark"] {
        browser.prefer(scheme);
        // Colours change gradually.
        browser.until(&format!(
            "({FAINT}).length === 0 || globalThis.looked++ > 100"
        ));
        assert_eq!(browser.value(FAINT), json!([]), "{scheme}");
        grounds.push(browser.value("getComputedStyle(document.body).backgroundColor"));
    }
    assert_ne!(grounds[0], grounds[1]);
}

#[test]
fn every_width_down_to_a_phone_fits_without_horizontal_scrolling() {
    let (_running, mut browser) = open_with_every_kind();
    browser.until("document.querySelector('#rejections tbody tr')");
    for width in [1920, 1280, 1024, 768] {
        browser.resize(width, 900);
        browser.until(&format!("innerWidth === {width}"));
        let cut = "[document.documentElement, ...document.querySelectorAll('.scroll, .card')].filter((node) => node.checkVisibility() && node.scrollWidth > node.clientWidth + 1).map((node) => node.outerHTML.slice(0, 90))";
        assert_eq!(browser.value(cut), json!([]), "{width}");
    }
    for width in [390, 320] {
        browser.resize(width, 740);
        browser.until(&format!("innerWidth === {width}"));
        let beyond = "[...document.querySelectorAll('main *, header *')].filter((node) => node.checkVisibility() &&
            !node.closest('.unseen, thead, svg, option') && node.getBoundingClientRect().right > innerWidth + 1).map((node) => node.outerHTML.slice(0, 90))";
        assert_eq!(browser.value(beyond), json!([]), "{width}");
        assert_eq!(
            browser.value("document.documentElement.scrollWidth <= innerWidth"),
            true
        );
        // Each cell has a label, and buttons are large enough for a thumb.
        let label = "getComputedStyle(document.querySelector('td[data-label=Traffic]'), '::before').content";
        assert_eq!(browser.value(label), "\"Traffic\"");
        let height =
            browser.value("document.querySelector('.acts button').getBoundingClientRect().height");
        assert!(height.as_f64().unwrap() >= 36.0, "{height}");
        browser.click(".pool button[data-state=drain]");
        browser.until("document.querySelector('#ask').open");
        let fits = "(() => { const { left, right } = document.querySelector('#ask').getBoundingClientRect(); return left >= 0 && right <= innerWidth; })()";
        assert_eq!(browser.value(fits), true);
        browser.press("Escape");
        browser.until("!document.querySelector('#ask').open");
    }
}

#[test]
fn a_screen_reader_finds_landmarks_tables_and_a_text_for_every_icon() {
    let (_running, mut browser) = open_with_every_kind();
    let tree = browser.call("Accessibility.getFullAXTree", json!({}));
    let nodes = tree["nodes"].as_array().unwrap();
    let of = |role: &str| -> Vec<&str> {
        let fitting = nodes
            .iter()
            .filter(|node| node["role"]["value"] == role && node["ignored"] == false);
        fitting
            .map(|node| node["name"]["value"].as_str().unwrap_or_default())
            .collect()
    };
    for landmark in ["banner", "main", "contentinfo"] {
        assert_eq!(of(landmark).len(), 1, "{landmark}");
    }
    for region in ["Overview", "Pools", "Listeners", "Pins", "Explain"] {
        assert!(
            of("region").contains(&region),
            "{region}: {:?}",
            of("region")
        );
    }
    assert!(
        of("table").contains(&"Backends of web"),
        "{:?}",
        of("table")
    );
    assert!(of("columnheader").contains(&"Certificate"));
    assert!(of("rowheader").iter().any(|name| name.contains("fe05")));
    let unnamed = ["button", "textbox", "searchbox", "combobox", "checkbox"];
    assert!(unnamed.iter().all(|role| !of(role).contains(&"")));
    for text in [
        "Up",
        "Down",
        "Damped",
        "Unknown",
        "Maintenance",
        "Draining, 12 min 18 s left",
    ] {
        assert!(of("StaticText").contains(&text), "{text}");
    }
    // On a phone the tables are still tables.
    browser.resize(390, 740);
    let tree = browser.call("Accessibility.getFullAXTree", json!({}));
    let cells = tree["nodes"].as_array().unwrap().iter();
    assert!(cells.filter(|node| node["role"]["value"] == "cell").count() > 20);
}
