//! What the form of a pin needs of `config`.

/// The settings that a key scheme is made of.
pub mod model {
    /// As in `src/config/model.rs`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct SourcePrefix {
        /// 0 to 32.
        pub ipv4: u8,
        /// 0 to 128.
        pub ipv6: u8,
    }

    /// As in `src/config/model.rs`, as far as keys depend on it.
    #[derive(Debug, Clone, PartialEq)]
    pub struct AffinitySettings {
        /// The source prefix is part of the key.
        pub by_source: bool,
        /// The configured name that matched is part of the key.
        pub by_name: bool,
        /// The bits of a source address that count.
        pub source_prefix: SourcePrefix,
    }
}
