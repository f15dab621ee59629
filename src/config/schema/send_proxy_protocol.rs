//! `send_proxy_protocol`: the PROXY header that the backends of a pool receive.
//!
//! Owns its keys and words. Must not know the bytes of a header. Invariant: what is printed is parsed to an equal value.

#[cfg(test)]
use proptest::prelude::*;

use super::format::Choice;
use super::mapping::{Mapping, MappingKey::Special};
use super::section::{Section, read_scalar, report_duplicates};
use crate::config::diagnostics::Diagnostics;
use crate::config::source::tree::NodeKind;
use crate::protocol::proxy::{HeaderFormat, HeaderTlvs};

/// The key of a pool.
pub(super) const KEY: &str = "send_proxy_protocol";

/// The keys of `send_proxy_protocol` with TLVs.
pub(crate) static SEND_PROXY_PROTOCOL: Mapping = Mapping {
    path: "pools.NAME.send_proxy_protocol",
    keys: &[Special("v2")],
};

const VERSION: Choice<Option<HeaderFormat>> = Choice(&[
    ("none", None),
    ("v1", Some(HeaderFormat::V1)),
    ("v2", Some(HeaderFormat::V2(HeaderTlvs::NONE))),
]);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tlv {
    Authority,
    UniqueId,
    Crc32c,
}

const TLV: Choice<Tlv> = Choice(&[
    ("authority", Tlv::Authority),
    ("unique_id", Tlv::UniqueId),
    ("crc32c", Tlv::Crc32c),
]);

/// Parses `send_proxy_protocol` of a pool.
pub(super) fn parse(pool: &Section<'_>, diagnostics: &mut Diagnostics) -> Option<HeaderFormat> {
    let entry = pool.get(KEY)?;
    match &entry.node.kind {
        NodeKind::Map(keys) if !keys.is_empty() => {
            let section = SEND_PROXY_PROTOCOL.open_key(pool, KEY, diagnostics)?;
            Some(HeaderFormat::V2(parse_tlvs(&section, diagnostics)))
        }
        NodeKind::Null | NodeKind::Scalar(_) | NodeKind::List(_) | NodeKind::Map(_) => {
            read_scalar(entry.node, KEY, &VERSION, diagnostics)?.value
        }
    }
}

fn parse_tlvs(section: &Section<'_>, diagnostics: &mut Diagnostics) -> HeaderTlvs {
    let listed = section.list("v2", &TLV, diagnostics).unwrap_or_default();
    report_duplicates("v2", &listed, diagnostics);
    let has = |tlv: Tlv| listed.iter().any(|listed| listed.value == tlv);
    HeaderTlvs {
        authority: has(Tlv::Authority),
        unique_id: has(Tlv::UniqueId),
        crc32c: has(Tlv::Crc32c),
    }
}

/// The value as YAML.
pub(super) fn print(format: Option<HeaderFormat>) -> String {
    match format {
        None => "none".to_owned(),
        Some(HeaderFormat::V1) => "v1".to_owned(),
        Some(HeaderFormat::V2(HeaderTlvs::NONE)) => "v2".to_owned(),
        Some(HeaderFormat::V2(tlvs)) => {
            let words = [
                (tlvs.authority, "authority"),
                (tlvs.unique_id, "unique_id"),
                (tlvs.crc32c, "crc32c"),
            ];
            let words = words.iter().filter(|(is_sent, _)| *is_sent);
            let words: Vec<&str> = words.map(|(_, word)| *word).collect();
            format!("{{ v2: [{}] }}", words.join(", "))
        }
    }
}

/// Any valid value.
#[cfg(test)]
pub(super) fn any_value() -> impl Strategy<Value = Option<HeaderFormat>> {
    let tlvs = any::<[bool; 3]>().prop_map(|[authority, unique_id, crc32c]| HeaderTlvs {
        authority,
        unique_id,
        crc32c,
    });
    prop_oneof![
        Just(None),
        Just(Some(HeaderFormat::V1)),
        tlvs.prop_map(|tlvs| Some(HeaderFormat::V2(tlvs))),
    ]
}
