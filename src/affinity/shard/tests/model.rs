//! The shard compared with a naive model: any order of events, with keys that collide.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// No more than an eviction compares, so that its choice is predictable to a span.
const CLIENTS: u8 = 8;

#[derive(Debug, Clone)]
enum ShardEvent {
    /// A client connects while these members may take clients.
    Come(u8, Vec<u32>),
    /// The member of one of the connections answers.
    Answer(usize),
    /// It could not be reached; these remain.
    Fail(usize, Vec<u32>),
    End(usize),
    Wait(u64),
    Sweep(usize),
    Evict,
    Release(u32),
}

fn event() -> impl Strategy<Value = ShardEvent> {
    let up = || proptest::collection::vec(0..3u32, 0..3);
    prop_oneof![
        6 => (0..CLIENTS, up()).prop_map(|(client, up)| ShardEvent::Come(client, up)),
        5 => (0..9usize).prop_map(ShardEvent::Answer),
        1 => (0..9usize, up()).prop_map(|(which, up)| ShardEvent::Fail(which, up)),
        6 => (0..9usize).prop_map(ShardEvent::End),
        2 => (0..40_000u64).prop_map(ShardEvent::Wait),
        2 => (0..2_000u64).prop_map(ShardEvent::Wait),
        2 => prop_oneof![0..4usize, Just(100)].prop_map(ShardEvent::Sweep),
        1 => Just(ShardEvent::Evict),
        1 => (0..3u32).prop_map(ShardEvent::Release),
    ]
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Known {
    member: Option<u32>,
    candidate: Option<u32>,
    in_use: u32,
    expires: u64,
}

struct World {
    shard: Shard,
    known: BTreeMap<u8, Known>,
    /// Connections: client, pin, member.
    open: Vec<(u8, PinHandle, u32)>,
    now: u64,
}

impl World {
    fn new() -> Self {
        Self {
            shard: shard(),
            known: BTreeMap::new(),
            open: Vec::new(),
            now: 0,
        }
    }

    fn happen(&mut self, event: ShardEvent) {
        let which = |which: usize| which % self.open.len().max(1);
        match event {
            ShardEvent::Come(client, up) => self.come(client, &up),
            ShardEvent::Answer(at) => self.answer(which(at)),
            ShardEvent::Fail(at, up) => self.fail(which(at), &up),
            ShardEvent::End(at) => self.end(which(at)),
            ShardEvent::Wait(time) => self.now += time,
            ShardEvent::Sweep(most) => self.sweep(most),
            ShardEvent::Evict => self.evict(),
            ShardEvent::Release(member) => self.release(member),
        }
        let now = self.now;
        self.known
            .retain(|_, known| known.in_use > 0 || known.expires > now);
    }

    fn come(&mut self, client: u8, up: &[u32]) {
        let found = begin(&mut self.shard, client, self.now, up, usize::MAX);
        let known = self.known.get(&client).cloned().unwrap_or_default();
        let fits = |member: &u32| up.contains(member);
        let wanted = known
            .candidate
            .filter(fits)
            .or_else(|| up.first().copied())
            .map(Member);
        let (handle, member) = match (found, known.member, wanted) {
            (KeyLookup::Pinned(handle, member), Some(pinned), _) if fits(&pinned) => {
                assert_eq!(member.0, pinned);
                (handle, member)
            }
            (KeyLookup::Stale(handle, member), Some(pinned), _) if !fits(&pinned) => {
                (handle, member)
            }
            (KeyLookup::New(handle, member), None, _) => (handle, member),
            (KeyLookup::NoBackend, pinned, None) => {
                return assert!(pinned.is_none_or(|at| !fits(&at)));
            }
            other => panic!("{other:?}"),
        };
        let known = self.known.entry(client).or_default();
        known.in_use += 1;
        if !matches!(found, KeyLookup::Pinned(..)) {
            assert_eq!(Some(member), wanted);
            known.candidate = Some(member.0);
        }
        self.open.push((client, handle, member.0));
    }

    fn answer(&mut self, at: usize) {
        let Some(&(client, handle, member)) = self.open.get(at) else {
            return;
        };
        let known = self.known.get_mut(&client).unwrap();
        let moves = known.member.is_none()
            || known.member != Some(member) && known.candidate == Some(member);
        let before = known.member.filter(|_| moves).map(Member);
        assert_eq!(self.shard.answered(handle, Member(member)), before);
        if moves {
            (known.member, known.candidate) = (Some(member), None);
        }
    }

    fn fail(&mut self, at: usize, up: &[u32]) {
        let Some((client, handle, member)) = self.open.get_mut(at) else {
            return;
        };
        let known = self.known.get_mut(client).unwrap();
        let agreed = [known.member, known.candidate].into_iter().flatten();
        let agreed = agreed.into_iter().find(|member| up.contains(member));
        let wanted = agreed.or_else(|| up.first().copied());
        let choose = || up.first().copied().map(Member);
        let next = self
            .shard
            .next_member(*handle, |member| fit(up.contains(&member.0)), choose);
        assert_eq!(next, wanted.map(Member));
        if let Some(wanted) = wanted {
            *member = wanted;
            if agreed.is_none() {
                known.candidate = Some(wanted);
            }
        }
    }

    fn end(&mut self, at: usize) {
        if self.open.is_empty() {
            return;
        }
        let (client, handle, _) = self.open.swap_remove(at);
        self.shard.release(handle, Moment(self.now));
        let known = self.known.get_mut(&client).unwrap();
        known.in_use -= 1;
        if known.in_use == 0 {
            let ttl = u64::try_from(TTL.as_millis()).unwrap();
            known.candidate = None;
            known.expires = known.member.map_or(0, |_| self.now + ttl);
        }
    }

    /// No pin remains whose span has passed, if each can be checked twice: in its list and in the list of its expiry.
    fn sweep(&mut self, most: usize) {
        let before = self.shard.len();
        let swept = self.shard.sweep(Moment(self.now), most);
        assert_eq!(before - self.shard.len(), swept);
        let over = |client: u8| {
            let pin = &self.shard.pins[self.cell_of(client).unwrap()];
            let span = |moment| self.shard.wheel.span(moment);
            pin.in_use == 0 && span(pin.expires) < span(Moment(self.now))
        };
        let whole = most >= 2 * usize::from(CLIENTS);
        assert!(!whole || !self.live().into_iter().any(over));
    }

    /// The evicted pin is idle, and no other has been idle for longer by more than a span.
    fn evict(&mut self) {
        let before = self.live();
        let idle = |client: &u8| {
            let pin = &self.shard.pins[self.cell_of(*client).unwrap()];
            (pin.in_use == 0).then_some(pin.expires)
        };
        let idle: BTreeMap<u8, Moment> = before
            .iter()
            .filter_map(|client| Some((*client, idle(client)?)))
            .collect();
        assert_eq!(self.shard.evict(), !idle.is_empty());
        let after = self.live();
        let gone: Vec<u8> = before.difference(&after).copied().collect();
        let Some(oldest) = idle.values().min() else {
            return assert!(gone.is_empty());
        };
        assert_eq!(gone.len(), 1);
        let span = |moment: Moment| self.shard.wheel.span(moment);
        assert_eq!(span(idle[&gone[0]]), span(*oldest));
        self.known.remove(&gone[0]);
    }

    fn release(&mut self, member: u32) {
        let leading = |known: &&mut Known| known.member == Some(member);
        let released = release(&mut self.shard, Member(member), self.now);
        assert_eq!(released, self.known.values_mut().filter(leading).count());
        self.known.values_mut().filter(leading).for_each(|known| {
            (known.member, known.expires) = (None, 0);
        });
        assert_eq!(self.shard.pins_to(Member(member)), 0);
    }

    fn cell_of(&self, client: u8) -> Option<u32> {
        self.shard.find(&key(client), tag(client))
    }

    fn live(&self) -> BTreeSet<u8> {
        (0..CLIENTS)
            .filter(|&client| self.cell_of(client).is_some())
            .collect()
    }

    fn check(&self) {
        let live = self.live();
        assert_eq!(self.shard.len(), live.len());
        for client in 0..CLIENTS {
            let view = view(&self.shard, client, self.now);
            let known = self.known.get(&client).and_then(|known| {
                let expires = (known.in_use == 0).then_some(Moment(known.expires));
                Some((Member(known.member?), known.in_use, expires))
            });
            assert_eq!(
                view.map(|view| (view.member, view.in_use, view.expires)),
                known
            );
        }
        for client in &live {
            let pin = &self.shard.pins[self.cell_of(*client).unwrap()];
            assert!(pin.in_use > 0 || pin.listed, "an idle pin is listed");
            let known = self.known.get(client).map_or(0, |known| known.in_use);
            assert_eq!(pin.in_use, known);
        }
        let leading = |member| {
            let member_of = |client: &u8| self.shard.pins[self.cell_of(*client).unwrap()].member;
            live.iter()
                .map(member_of)
                .filter(|&to| to == member)
                .count()
        };
        assert!((0..3).all(|to| self.shard.pins_to(Member(to)) == leading(to)));
    }
}

proptest! {
    #[test]
    fn a_shard_does_as_its_model(events in proptest::collection::vec(event(), 1..150)) {
        let mut world = World::new();
        for event in events {
            world.happen(event);
            world.check();
        }
        while !world.open.is_empty() {
            world.end(0);
        }
        // Two spans after everything has expired, a sweep finds everything.
        let end = Moment(world.now + 62_000);
        world.shard.sweep(end, 2 * usize::from(CLIENTS));
        prop_assert!(world.shard.is_empty());
    }

    #[test]
    fn an_index_finds_what_it_holds(changes in proptest::collection::vec((any::<bool>(), 0..60u32), 1..300)) {
        let mut index = Index::default();
        let mut known = BTreeSet::new();
        // Many probe sequences start at the same entry, and some at the last one, so that they wrap around.
        let tag = |at: u32| Tag([7, 63, 15, 62][at as usize % 4] + at / 8 * 64);
        for (add, at) in changes {
            if add && known.insert(at) {
                index.insert(tag(at), at);
            } else if !add && known.remove(&at) {
                index.remove(tag(at), at);
            }
            prop_assert_eq!(index.len(), known.len());
            for at in 0..60 {
                let found = index.find(tag(at), |found| found == at);
                prop_assert_eq!(found, known.get(&at).copied());
            }
        }
    }
}
