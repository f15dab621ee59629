//! The file's form as a whole: batches in, pictures out.

mod keeper;
mod restore;

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::clock::Stamp;
use super::encoder::{Encoder, Shape, head};
use super::frame::{FrameError, Frames};

use super::records::RecordKey;
use super::recovery::Contents;
use crate::affinity::shard::{Moment, Origin};
use crate::affinity::table::{KeyScheme, PinKey, PinRecord, TableChange};

const NOW: Moment = Moment(1 << 40);

/// What is known of a pin: group, key -> backend, origin, milliseconds left.
type Model = HashMap<(String, PinKey), (String, Origin, Option<u64>)>;

/// A change of a small world, in which the same pins come again and again.
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

fn shape(group: usize) -> Shape {
    Shape {
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

    fn change(&self) -> TableChange {
        if self.kind == 0 {
            return TableChange::Gone(self.key());
        }
        TableChange::Set(PinRecord {
            key: self.key(),
            backend: format!("fe0{}", self.backend).into(),
            origin: Origin::from_cell(self.kind),
            created: Moment(NOW.0 - 5000),
            expires: self.left.map(|left| Moment(NOW.0 + u64::from(left))),
            in_use: u32::from(self.left.is_none()),
        })
    }

    fn apply(&self, model: &mut Model) {
        let of = (shape(self.group).name.to_string(), self.key());
        match self.change() {
            TableChange::Gone(_) => drop(model.remove(&of)),
            TableChange::Set(kept) => {
                let left = self.left.map(u64::from);
                model.insert(of, (kept.backend.to_string(), kept.origin, left));
            }
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

/// A file of these batches, what it holds after each, and where each ends. A second writer goes on in the middle.
fn file(batches: &[Vec<Step>]) -> (Vec<u8>, Vec<Model>, Vec<usize>) {
    let mut bytes = head(&[7; 32]);
    let mut encoder = Encoder::new(stamp(0));
    let (mut models, mut ends) = (vec![Model::new()], vec![bytes.len()]);
    encoder.begin(stamp(0));
    encoder.whole();
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
            let group = encoder.group(&shape(step.group));
            encoder.change(group, &step.change(), NOW);
            step.apply(&mut model);
        }
        bytes.extend(encoder.finish());
        models.push(model);
        ends.push(bytes.len());
    }
    (bytes, models, ends)
}

/// What a file holds as far as it reads, and what is wrong with it.
fn read(bytes: &[u8]) -> (Model, Option<FrameError>) {
    let mut contents = Contents::default();
    let fault = (|| {
        let mut frames = Frames::open(bytes, bytes.len() as u64)?;
        assert!(frames.next()?.is_none_or(|head| head[..32] == [7; 32]));
        while let Some(payload) = frames.next()? {
            contents.apply(payload).map_err(|_| FrameError::Damaged)?;
        }
        Ok(())
    })();
    (model_of(&contents), fault.err())
}

fn model_of(contents: &Contents) -> Model {
    let pin = |pinned: super::recovery::ReplayedKey<'_>| {
        let key = match pinned.key {
            RecordKey::Client(source, name) => PinKey::Client {
                source,
                name: name.map(|name| contents.text(name).clone()),
            },
            RecordKey::Session(hash, client) => PinKey::Session { hash, client },
        };
        assert_eq!(pinned.pin.age, 5000);
        let group = contents.groups()[pinned.group].name.to_string();
        let led = (
            contents.text(pinned.pin.backend).to_string(),
            Origin::from_cell(pinned.pin.origin),
            pinned.pin.left.map(u64::from),
        );
        ((group, key), led)
    };
    contents.pins().map(pin).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_kept_is_read(batches in prop::collection::vec(prop::collection::vec(any_step(), 0..9), 0..9)) {
        let (bytes, models, _) = file(&batches);
        let (found, fault) = read(&bytes);
        prop_assert!(fault.is_none(), "{:?}", fault);
        prop_assert_eq!(Some(&found), models.last());
    }

    /// Wherever a write was torn, the batches before it count, and no other.
    #[test]
    fn every_truncation_yields_the_batches_before_it(
        batches in prop::collection::vec(prop::collection::vec(any_step(), 0..5), 1..5),
    ) {
        let (bytes, models, ends) = file(&batches);
        for length in ends[0]..=bytes.len() {
            let (found, fault) = read(&bytes[..length]);
            let whole = ends.iter().rposition(|&end| end <= length).unwrap_or(0);
            prop_assert_eq!(&found, &models[whole], "{} of {}", length, bytes.len());
            prop_assert_eq!(fault.is_none(), ends.contains(&length));
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
            let (found, fault) = read(&flipped);
            prop_assert!(fault.is_some());
            let whole = ends.iter().rposition(|&end| end <= bit / 8).unwrap_or(0);
            prop_assert_eq!(&found, &models[whole]);
        }
    }

    #[test]
    fn any_bytes_are_a_batch_or_none(bytes in any::<Vec<u8>>()) {
        let mut contents = Contents::default();
        let taken = contents.apply(&bytes);
        prop_assert!(taken.is_ok() || contents.pins().next().is_none());
    }
}

#[test]
fn a_batch_that_names_what_has_no_number_counts_for_nothing() {
    use super::records::{RecordState, StoreRecord};
    let mut payload = Vec::new();
    stamp(1).put(&mut payload);
    StoreRecord::Text("web").put(&mut payload);
    let state = |pool| {
        StoreRecord::State(RecordState {
            pool,
            backend: 0,
            state: 1,
            left: None,
        })
    };
    state(0).put(&mut payload);
    state(1).put(&mut payload);
    let mut contents = Contents::default();
    assert!(contents.apply(&payload).is_err());
    assert_eq!((contents.states().count(), contents.texts().len()), (0, 0));
}

#[test]
fn a_pin_takes_some_thirty_bytes() {
    let mut encoder = Encoder::new(stamp(0));
    for client in 0..10_000_u32 {
        let mut source = [0; 16];
        source[12..].copy_from_slice(&client.to_be_bytes());
        let group = encoder.group(&shape(0));
        let name: Option<Arc<str>> = Some("lyncweb.contoso.com".into());
        let kept = PinRecord {
            key: PinKey::Client { source, name },
            backend: "fe01.contoso.local".into(),
            origin: Origin::Policy,
            created: Moment(NOW.0 - 300_000),
            expires: Some(Moment(NOW.0 + 900_000)),
            in_use: 0,
        };
        encoder.set(group, &kept, NOW);
    }
    let bytes = encoder.finish().len();
    assert!(bytes < 32 * 10_000, "{bytes}");
}
