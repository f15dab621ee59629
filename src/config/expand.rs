//! A configuration as a file in the long form.
//!
//! Owns what `lyncpin expand` promises. Must not know where the configuration came from. Invariant: the printed file parses
//! to an equal configuration. Every key with a default is printed with its value, so that the file keeps its meaning in a
//! later version; only empty values are left out.

use super::model::Config;
use super::schema;

/// Prints a configuration in the long form.
#[must_use]
pub fn expand(config: &Config) -> String {
    schema::print(config)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::expand;
    use crate::config::read;
    use crate::config::schema::generate;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn every_configuration_is_unchanged_after_expand(config in generate::config()) {
            let text = expand(&config);
            match read(&text, "expanded") {
                Ok(again) => prop_assert_eq!(again.config, config, "{}", text),
                Err(errors) => prop_assert!(false, "{}\n{}", errors, text),
            }
        }
    }
}
