//! The configurations that the pages show are read by what reads the real ones.

use lyncpin::config;

use super::blocks::{Kind, of};

/// What a file has at least; a fragment is put beside it.
const LEAST: &str = "lync:\n  sip_domains: [contoso.com]\n  external_web_fqdn: lyncweb.contoso.com\n  \
                     front_ends: [fe01.contoso.local]\n";

fn whole(block: &super::blocks::Block) -> String {
    match block.kind {
        Kind::Fragment => format!("{}{LEAST}", block.text),
        _ => block.text.clone(),
    }
}

#[test]
fn every_configuration_that_is_shown_loads_without_a_lint() {
    for block in of(&[Kind::Whole, Kind::Fragment]) {
        let loaded = config::read(&whole(&block), &block.place);
        let loaded = loaded.unwrap_or_else(|faults| panic!("{faults}"));
        let lints: String = loaded.lints.iter().map(ToString::to_string).collect();
        assert_eq!(lints, "", "{}", block.place);
        let long_form = config::expand(&loaded.config);
        let again =
            config::read(&long_form, "expanded").unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(again.config, loaded.config, "{}", block.place);
    }
}

/// Else a whole file that does not load could be called a fragment.
#[test]
fn a_fragment_does_not_load_alone() {
    for block in of(&[Kind::Fragment]) {
        assert!(config::read(&block.text, "f").is_err(), "{}", block.place);
    }
}
