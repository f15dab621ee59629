//! The pins of the fake control: seven in one group, pages of three, and an empty page in between.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime};

use lyncpin::admin::AffinityError;
use lyncpin::admin::view::{
    ClientPin, ClientPins, ClientQuery, PinAssignment, PinEntry, PinFilter, PinPage, PinResult,
    PinnedKey, PinsChanged,
};
use lyncpin::types::timestamp::Timestamp;

/// A call that was recorded.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RecordedCall {
    Page(PinFilter, Option<String>, usize),
    Client(ClientQuery),
    Pin(PinAssignment),
    Move(PinFilter, String),
    Clear(PinFilter),
}

/// The pin of the `number`th client.
pub(crate) fn pin(number: u8) -> PinEntry {
    let created = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_433_367_042);
    PinEntry {
        group: "web".into(),
        client: Some(format!("192.0.2.{number}/32")),
        name: (number != 2).then(|| "*.contoso.com".into()),
        backend: "fe01".into(),
        origin: "policy".into(),
        created: Timestamp(created),
        age_seconds: 7_262,
        connections: number.into(),
        expires_in_seconds: (number == 2).then_some(90),
    }
}

pub(super) fn page(
    filter: &PinFilter,
    cursor: Option<&str>,
    most: usize,
) -> Result<PinPage, AffinityError> {
    check(filter)?;
    let from = match cursor {
        None => 1,
        Some(text) => text
            .strip_prefix("@")
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| AffinityError::InvalidCursor(text.into()))?,
    };
    let matches = |number: &u8| {
        let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, *number));
        filter.client.is_none_or(|client| client.contains(&address))
    };
    // The page that begins with 4 is empty.
    let (end, cursor) = match from {
        4 => (4, Some("@5".to_owned())),
        5.. => ((from + 3).min(9), None),
        _ => {
            let end = (from + u8::try_from(most.min(3)).unwrap()).min(4);
            (end, Some(format!("@{end}")))
        }
    };
    let numbers = if from >= 5 { 4..8 } else { from..end };
    Ok(PinPage {
        entries: numbers.filter(matches).take(most).map(pin).collect(),
        cursor,
    })
}

pub(super) fn client(query: &ClientQuery) -> Result<ClientPins, AffinityError> {
    let pins = match query.client {
        IpAddr::V4(address) if address.octets()[..3] == [192, 0, 2] => vec![ClientPin {
            pin: pin(address.octets()[3]),
            sessions: 2,
        }],
        IpAddr::V4(_) | IpAddr::V6(_) => vec![],
    };
    Ok(ClientPins {
        client: query.client,
        name: query.name.clone(),
        pins,
    })
}

pub(super) fn pinned(order: &PinAssignment) -> Result<PinResult, AffinityError> {
    match (&*order.backend, order.client) {
        ("full", _) => Err(AffinityError::TableFull("web".into())),
        ("fe01" | "web/fe01", Some(client)) => Ok(PinResult {
            group: "web".into(),
            backend: "fe01".into(),
            pins: vec![PinnedKey {
                client: Some(client.to_string()),
                name: order.name.clone(),
                before: order.name.is_some().then(|| "fe02".into()),
            }],
        }),
        ("fe01", None) => Err(AffinityError::ClientRequired("web".into())),
        (backend, _) => Err(AffinityError::UnknownBackend {
            backend: backend.into(),
            within: None,
        }),
    }
}

/// Clients outside of 192.0.2.0/24 have no pins.
pub(super) fn touched(filter: &PinFilter) -> Result<PinsChanged, AffinityError> {
    check(filter)?;
    let ours = |client: ipnet::IpNet| client.to_string().starts_with("192.0.2.");
    if !filter.client.is_none_or(ours) {
        return Ok(PinsChanged::default());
    }
    Ok(PinsChanged {
        pins: if filter.client.is_some() { 1 } else { 7 },
        sessions: if filter.client.is_some() { 0 } else { 2 },
        connections: 5,
    })
}

fn check(filter: &PinFilter) -> Result<(), AffinityError> {
    match (&filter.group, &filter.pool, &filter.name) {
        (Some(group), ..) if group != "web" => {
            Err(AffinityError::UnknownGroup(group.as_str().into()))
        }
        (_, Some(pool), _) if pool != "web" => Err(AffinityError::NoAffinity(pool.clone())),
        (.., Some(name)) if name.ends_with("fabrikam.com") => {
            Err(AffinityError::UnknownName(name.clone()))
        }
        _ => Ok(()),
    }
}
