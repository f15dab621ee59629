//! All operations of a shard compared with a naive model: sessions as keys, a limit, changes by an administrator, and a
//! second table that applies every change.

mod events;
mod operations;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use events::{Fits, TableEvent, action, chosen, event, fits};

type Shard = super::super::Shard<Session>;
type View = super::super::PinView<Session>;

const KEYS: u8 = 8;
const MEMBERS: u32 = 4;
const BOUND: usize = 5;

fn session(key: u8, client: u64) -> (Session, Tag) {
    let hash = [key; 16];
    (Session { hash, client }, tag(key))
}

fn room(shard: &mut Shard) -> bool {
    shard.len() < BOUND || shard.evict()
}

#[derive(Debug, Clone, PartialEq)]
struct Known {
    client: u64,
    member: Option<u32>,
    candidate: Option<u32>,
    in_use: u32,
    created: u64,
    origin: Origin,
    expires: u64,
}

#[derive(Debug)]
struct Open {
    key: u8,
    handle: PinHandle,
    member: u32,
    moved: bool,
}

struct World {
    shard: Shard,
    known: BTreeMap<u8, Known>,
    open: Vec<Open>,
    /// Pins of each client, as counted against its quota.
    quotas: BTreeMap<u64, i32>,
    /// The second table, once changes are recorded.
    second: Option<BTreeMap<u8, View>>,
    now: u64,
}

impl World {
    fn new() -> Self {
        Self {
            shard: Shard::new(TTL),
            known: BTreeMap::new(),
            open: Vec::new(),
            quotas: BTreeMap::new(),
            second: None,
            now: 0,
        }
    }

    fn happen(&mut self, event: TableEvent) {
        let open = |which: usize| which % self.open.len().max(1);
        match event {
            TableEvent::Come(key, client, fits) => self.come(key, client, &fits),
            TableEvent::Resume(key, client, fits) => self.resume(key, client, &fits),
            TableEvent::Teach(key, client, member) => self.teach(key, client, member),
            TableEvent::Answer(at) => self.answer(open(at), false),
            TableEvent::AnswerBy(at) => self.answer(open(at), true),
            TableEvent::Fail(at, fits) => self.fail(open(at), &fits),
            TableEvent::End(at) => self.end(open(at)),
            TableEvent::Wait(time) => self.now += time,
            TableEvent::Sweep(most) => drop(self.shard.sweep(Moment(self.now), most)),
            TableEvent::Set(key, member) => self.set(key, member),
            TableEvent::Visit(step, does) => self.visit(step, &does),
            TableEvent::Import(key, member, left) => self.import(key, member, left),
            TableEvent::Track => self.track(),
            TableEvent::TakeChanges => self.take_changes(),
        }
        let now = self.now;
        self.known
            .retain(|_, known| known.in_use > 0 || known.expires > now);
        for gone in self.shard.take_removed() {
            *self.quotas.entry(gone.client).or_default() -= 1;
        }
    }

    fn moment(&self) -> Moment {
        Moment(self.now)
    }

    fn cell_of(&self, key: u8) -> Option<u32> {
        let (key, tag) = session(key, 99);
        self.shard.find(&key, tag)
    }

    /// A pin was created, so at most one idle one was evicted, and none if there was room.
    fn made(&mut self, key: u8, known: Known, before: usize) {
        let gone: Vec<u8> = (0..KEYS)
            .filter(|other| self.known.contains_key(other) && self.cell_of(*other).is_none())
            .collect();
        assert!(gone.len() <= usize::from(before >= BOUND), "{gone:?}");
        for gone in gone {
            let gone = self.known.remove(&gone).unwrap();
            assert_eq!(gone.in_use, 0, "a pin in use was evicted");
        }
        *self.quotas.entry(known.client).or_default() += 1;
        self.known.insert(key, known);
    }

    fn fresh(&self, client: u64, member: Option<u32>, origin: Origin) -> Known {
        Known {
            client,
            member,
            candidate: None,
            in_use: 0,
            created: self.now / 1000 * 1000,
            origin,
            expires: self.now + 60_000,
        }
    }

    /// No pin could be evicted.
    fn no_room(&self) {
        assert!(self.known.values().all(|known| known.in_use > 0));
        assert_eq!(self.known.len(), BOUND);
    }

    fn track(&mut self) {
        if self.second.is_some() {
            return;
        }
        self.shard.record_changes();
        let mut second = BTreeMap::new();
        self.shard.visit(0, u32::MAX, Moment(self.now), |pin| {
            second.insert(pin.key.hash[0], *pin);
            PinAction::Keep
        });
        self.second = Some(second);
    }

    fn take_changes(&mut self) {
        let Some(second) = &mut self.second else {
            return assert_eq!(self.shard.take_changes(|_| panic!()), Completeness::All);
        };
        let all = self.shard.take_changes(|change| match change {
            ShardChange::Removed(key) => drop(second.remove(&key.hash[0])),
            ShardChange::Set(pin) => drop(second.insert(pin.key.hash[0], pin)),
        });
        assert_eq!(all, Completeness::All);
        let now = Moment(self.now);
        second.retain(|_, pin| pin.expires.is_none_or(|expires| expires > now));
        let bare = |pin: &View| View {
            in_use: pin.in_use.min(1),
            ..*pin
        };
        let second = second
            .iter()
            .map(|(key, pin)| (*key, bare(pin), pin.key.client));
        let known = self.known.iter().filter_map(|(key, known)| {
            let view = known.view(*key)?;
            Some((*key, bare(&view), known.client))
        });
        assert_eq!(second.collect::<Vec<_>>(), known.collect::<Vec<_>>());
    }

    fn check(&self) {
        assert!(self.shard.len() <= BOUND);
        for key in 0..KEYS {
            let (wanted, tag) = session(key, 99);
            let view = self.shard.view((&wanted, tag), self.moment());
            let known = self.known.get(&key);
            assert_eq!(view, known.and_then(|known| known.view(key)), "{key}");
            let client = view.map(|view| view.key.client);
            let pinned = known.filter(|known| known.member.is_some());
            assert_eq!(client, pinned.map(|known| known.client));
            let in_use = self.cell_of(key).map_or(0, |at| self.shard.pins[at].in_use);
            assert_eq!(in_use, known.map_or(0, |known| known.in_use));
        }
        for open in &self.open {
            assert_eq!(self.shard.has_moved(open.handle), open.moved);
        }
        for client in 0..4 {
            let of_client = |key: &u8| {
                let cell = self.cell_of(*key);
                cell.is_some_and(|at| self.shard.pins[at].key.client == client)
            };
            let standing = i32::try_from((0..KEYS).filter(of_client).count()).unwrap();
            assert_eq!(self.quotas.get(&client).copied().unwrap_or(0), standing);
        }
    }
}

impl Known {
    fn view(&self, key: u8) -> Option<View> {
        Some(View {
            key: session(key, self.client).0,
            member: Member(self.member?),
            origin: self.origin,
            created: Moment(self.created),
            in_use: self.in_use,
            expires: (self.in_use == 0).then_some(Moment(self.expires)),
        })
    }
}

proptest! {
    #[test]
    fn a_shard_of_sessions_behaves_as_its_model(
        events in proptest::collection::vec(event(), 1..150)
    ) {
        let mut world = World::new();
        for event in events {
            world.happen(event);
            world.check();
        }
        while !world.open.is_empty() {
            world.happen(TableEvent::End(0));
        }
        world.happen(TableEvent::TakeChanges);
        world.happen(TableEvent::Wait(62_000));
        world.happen(TableEvent::Sweep(2 * usize::from(KEYS)));
        prop_assert!(world.shard.is_empty());
        prop_assert!((0..MEMBERS).all(|to| world.shard.pins_to(Member(to)) == 0));
        prop_assert!(world.quotas.values().all(|&pins| pins == 0));
    }
}
