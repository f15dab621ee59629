//! The form of the file as a whole: batches in, contents out.

mod restore;
mod version_1;
mod writer;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::clock::Stamp;
use super::encoder::{Encoder, head};
use super::frame::{FrameError, Frames};
use super::recovery::Contents;
use crate::affinity::record::{KeyScheme, PinChange, PinGroup, PinKey, PinRecord, PinUsage};
use crate::affinity::shard::Origin;

/// The pins by group and key.
type Model = HashMap<(String, PinKey), PinRecord>;

/// A change in a small world, in which the same pins change again and again.
#[derive(Debug, Clone)]
struct Step {
    group: usize,
    client: u8,
    kind: u8,
    backend: u8,
    left: Option<u32>,
}

fn any_step() -> impl Strategy<Value = Step> {
    (
        0..2_usize,
        0..12_u8,
        0..4_u8,
        0..3_u8,
        prop::option::of(0..1_200_000_u32),
    )
        .prop_map(|(group, client, kind, backend, left)| Step {
            group,
            client,
            kind,
            backend,
            left,
        })
}

fn group(group: usize) -> PinGroup {
    PinGroup {
        name: ["web", "apps"][group].into(),
        keys: KeyScheme::from_bytes([3, 32, 64]),
    }
}

impl Step {
    fn key(&self) -> PinKey {
        match self.client % 3 {
            0 => PinKey::Session {
                hash: [self.client; 16],
                client: self.client.into(),
            },
            1 => PinKey::Client {
                source: [self.client; 16],
                name: None,
            },
            _ => PinKey::Client {
                source: [self.client; 16],
                name: Some("lyncweb.contoso.com".into()),
            },
        }
    }

    fn change(&self) -> PinChange {
        if self.kind == 0 {
            return PinChange::Removed(self.key());
        }
        let idle = |left: u32| PinUsage::Idle(Duration::from_millis(left.into()));
        PinChange::Set(PinRecord {
            key: self.key(),
            backend: format!("fe0{}", self.backend).into(),
            origin: Origin::ALL[usize::from(self.kind)],
            age: Duration::from_secs(5),
            usage: self.left.map_or(PinUsage::InUse(1), idle),
        })
    }

    fn apply(&self, model: &mut Model) {
        let of = (group(self.group).name.to_string(), self.key());
        match self.change() {
            PinChange::Removed(_) => drop(model.remove(&of)),
            PinChange::Set(record) => drop(model.insert(of, record)),
        }
    }
}

fn stamp(number: u64) -> Stamp {
    Stamp {
        boot: [1; 16],
        since_boot: number,
        wall: number,
    }
}

/// A file of these batches, its pins after each, and where each ends. A second writer continues in the middle.
fn file(batches: &[Vec<Step>]) -> (Vec<u8>, Vec<Model>, Vec<usize>) {
    let mut bytes = head(&[7; 32]);
    let mut encoder = Encoder::new(stamp(0));
    let (mut models, mut ends) = (vec![Model::new()], vec![bytes.len()]);
    encoder.begin(stamp(0));
    encoder.end_checkpoint();
    bytes.extend(encoder.finish());
    models.push(Model::new());
    ends.push(bytes.len());
    for (number, batch) in (1..).zip(batches) {
        if number == batches.len().div_ceil(2) as u64 {
            encoder = Encoder::new(stamp(number));
        }
        encoder.begin(stamp(number));
        let mut model = models.last().cloned().unwrap_or_default();
        for step in batch {
            let group = encoder.group(&group(step.group));
            encoder.change(group, &step.change());
            step.apply(&mut model);
        }
        bytes.extend(encoder.finish());
        models.push(model);
        ends.push(bytes.len());
    }
    (bytes, models, ends)
}

/// The pins of a file up to the first error, and that error.
fn read(bytes: &[u8]) -> (Model, Option<FrameError>) {
    let mut contents = Contents::default();
    let error = (|| {
        let mut frames = Frames::open(bytes, bytes.len() as u64)?;
        assert!(frames.next()?.is_none_or(|head| head[..32] == [7; 32]));
        while let Some(payload) = frames.next()? {
            contents.apply(payload).map_err(|_| FrameError::Damaged)?;
        }
        Ok(())
    })();
    (model_of(&contents), error.err())
}

fn model_of(contents: &Contents) -> Model {
    let groups = contents.groups();
    let pins = contents.pins();
    pins.map(|(group, record, _)| {
        let of = (groups[group].name.to_string(), record.key.clone());
        (of, record.clone())
    })
    .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_written_is_read(batches in prop::collection::vec(prop::collection::vec(any_step(), 0..9), 0..9)) {
        let (bytes, models, _) = file(&batches);
        let (found, error) = read(&bytes);
        prop_assert!(error.is_none(), "{:?}", error);
        prop_assert_eq!(Some(&found), models.last());
    }

    /// Wherever a write is torn, exactly the batches before it count.
    #[test]
    fn every_truncation_yields_the_batches_before_it(
        batches in prop::collection::vec(prop::collection::vec(any_step(), 0..5), 1..5),
    ) {
        let (bytes, models, ends) = file(&batches);
        for length in ends[0]..=bytes.len() {
            let (found, error) = read(&bytes[..length]);
            let whole = ends.iter().rposition(|&end| end <= length).unwrap_or(0);
            prop_assert_eq!(&found, &models[whole], "{} of {}", length, bytes.len());
            prop_assert_eq!(error.is_none(), ends.contains(&length));
        }
    }

    #[test]
    fn every_flipped_bit_yields_a_prefix(
        batches in prop::collection::vec(prop::collection::vec(any_step(), 0..5), 1..5),
        bits in prop::collection::vec(any::<prop::sample::Index>(), 50),
    ) {
        let (bytes, models, ends) = file(&batches);
        for bit in bits {
            let bit = bit.index(bytes.len() * 8);
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let (found, error) = read(&flipped);
            prop_assert!(error.is_some());
            let whole = ends.iter().rposition(|&end| end <= bit / 8).unwrap_or(0);
            prop_assert_eq!(&found, &models[whole]);
        }
    }

    #[test]
    fn any_bytes_are_a_batch_or_malformed(bytes in any::<Vec<u8>>()) {
        let mut contents = Contents::default();
        let taken = contents.apply(&bytes);
        prop_assert!(taken.is_ok() || contents.pins().next().is_none());
    }
}

#[test]
fn a_batch_that_names_what_has_no_number_counts_for_nothing() {
    use super::records::StateRecord;
    use crate::affinity::record::codec::PinEncoder;
    use crate::types::backend_state::AdminState;
    let mut payload = Vec::new();
    stamp(1).put(&mut payload);
    let state = StateRecord {
        pool: "web".into(),
        backend: "fe01".into(),
        state: AdminState::Drain,
        left: None,
    };
    let mut encoder = PinEncoder::default();
    state.put(&mut encoder, &mut payload);
    let valid = payload.len();
    state.put(&mut encoder, &mut payload);
    // The texts have the numbers 0 and 1.
    payload[valid + 2] = 2;
    let mut contents = Contents::default();
    assert!(contents.apply(&payload).is_err());
    assert_eq!(contents.states().count(), 0);
    let mut contents = Contents::default();
    assert!(contents.apply(&payload[..valid]).is_ok());
    assert_eq!(contents.states().count(), 1);
}

#[test]
fn a_pin_takes_some_thirty_bytes() {
    let mut encoder = Encoder::new(stamp(0));
    for client in 0..10_000_u32 {
        let mut source = [0; 16];
        source[12..].copy_from_slice(&client.to_be_bytes());
        let group = encoder.group(&group(0));
        let name: Option<Arc<str>> = Some("lyncweb.contoso.com".into());
        let record = PinRecord {
            key: PinKey::Client { source, name },
            backend: "fe01.contoso.local".into(),
            origin: Origin::Policy,
            age: Duration::from_secs(300),
            usage: PinUsage::Idle(Duration::from_secs(900)),
        };
        encoder.set(group, &record);
    }
    let bytes = encoder.finish().len();
    assert!(bytes < 32 * 10_000, "{bytes}");
}
