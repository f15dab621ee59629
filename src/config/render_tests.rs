//! What is printed reads again as the same configuration, whatever the configuration.

use proptest::prelude::*;

use super::expand;
use crate::config::{generate, read};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_configuration_survives_expand(config in generate::config()) {
        let text = expand(&config);
        match read(&text, "expanded") {
            Ok(again) => prop_assert_eq!(again.config, config, "{}", text),
            Err(faults) => prop_assert!(false, "{}\n{}", faults, text),
        }
    }
}
