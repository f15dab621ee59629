//! The configurations on the pages are valid.

use lyncpin::config;

use super::blocks::{Block, Kind, of, pages, spans};

/// The required keys; a fragment is loaded together with them.
const LEAST: &str = "lync:\n  sip_domains: [contoso.com]\n  external_web_fqdn: lyncweb.contoso.com\n  \
                     front_ends: [fe01.contoso.local]\n";

fn whole(block: &Block) -> String {
    let required = if block.kind == Kind::Fragment {
        LEAST
    } else {
        ""
    };
    format!("{}{required}", block.text)
}

#[test]
fn every_configuration_on_a_page_loads_without_a_lint() {
    for block in of(&[Kind::Whole, Kind::Fragment]) {
        let loaded = config::read(&whole(&block), &block.location);
        let loaded = loaded.unwrap_or_else(|errors| panic!("{errors}"));
        let lints: String = loaded.lints.iter().map(ToString::to_string).collect();
        assert_eq!(lints, "", "{}", block.location);
        let long_form = config::expand(&loaded.config);
        let again =
            config::read(&long_form, "expanded").unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(again.config, loaded.config, "{}", block.location);
    }
}

/// Otherwise a complete file with errors could be marked as a fragment.
#[test]
fn a_fragment_does_not_load_alone() {
    for block in of(&[Kind::Fragment]) {
        assert!(
            config::read(&block.text, "f").is_err(),
            "{}",
            block.location
        );
    }
}

/// `key: value` in a sentence, with a value of one word or one list.
#[test]
fn every_setting_in_the_text_is_a_key() {
    let keys = config::keys();
    let is_key = |named: &str| {
        let end = format!(".{named}");
        keys.iter().any(|key| key == named || key.ends_with(&end))
    };
    let mut seen = 0;
    for (page, text) in pages() {
        for span in spans(&page, &text) {
            let Some((key, value)) = span.split_once(": ") else {
                continue;
            };
            let is_named = key
                .chars()
                .all(|c| c.is_ascii_lowercase() || "_.".contains(c));
            if is_named && (value.starts_with('[') || !value.contains(' ')) {
                seen += 1;
                assert!(is_key(key), "{page}: `{span}` is no setting");
            }
        }
    }
    assert!(seen > 20, "{seen} settings");
}
