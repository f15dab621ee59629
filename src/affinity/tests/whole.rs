//! All that a shard can do, beside a naive model of it: sessions as keys, a bound, what an administrator does, and a
//! second table that is told of every change.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

type Shard = super::super::Shard<Session>;
type View = super::super::View<Session>;

const KEYS: u8 = 8;
const MEMBERS: u32 = 4;
const BOUND: usize = 5;

/// What a backend may say of a client, by the backend's number.
type Fits = [u8; MEMBERS as usize];

#[derive(Debug, Clone)]
enum Event {
    Come(u8, u64, Fits),
    Resume(u8, u64, Fits),
    Teach(u8, u64, u32),
    Answer(usize),
    /// Whatever the pin's candidate is.
    AnswerBy(usize),
    Fail(usize, Fits),
    End(usize),
    Wait(u64),
    Sweep(usize),
    Set(u8, u32),
    Visit(u32, [u8; MEMBERS as usize]),
    Restore(u8, u32, u64),
    /// The second table begins to be told.
    Track,
    Tell,
}

fn event() -> impl Strategy<Value = Event> {
    let key = || 0..KEYS;
    let client = || 0..3u64;
    let member = || 0..MEMBERS;
    // Takes twice as often as it refuses, and is foreign now and then.
    let fits = || prop::array::uniform4(0..7u8);
    let open = || 0..9usize;
    prop_oneof![
        6 => (key(), client(), fits()).prop_map(|(key, client, fits)| Event::Come(key, client, fits)),
        3 => (key(), client(), fits()).prop_map(|(key, client, fits)| Event::Resume(key, client, fits)),
        3 => (key(), client(), member()).prop_map(|(key, client, to)| Event::Teach(key, client, to)),
        5 => open().prop_map(Event::Answer),
        1 => open().prop_map(Event::AnswerBy),
        1 => (open(), fits()).prop_map(|(at, fits)| Event::Fail(at, fits)),
        8 => open().prop_map(Event::End),
        2 => (0..40_000u64).prop_map(Event::Wait),
        2 => (0..2_000u64).prop_map(Event::Wait),
        2 => prop_oneof![0..4usize, Just(100)].prop_map(Event::Sweep),
        2 => (key(), member()).prop_map(|(key, to)| Event::Set(key, to)),
        2 => (1..4u32, prop::array::uniform4(0..9u8)).prop_map(|(step, does)| Event::Visit(step, does)),
        2 => (key(), member(), 0..90_000u64).prop_map(|(key, to, left)| Event::Restore(key, to, left)),
        1 => Just(Event::Track),
        4 => Just(Event::Tell),
    ]
}

fn fits(fits: &Fits, member: u32) -> Fit {
    match fits[member as usize] {
        0..4 => Fit::Takes,
        4..6 => Fit::Refuses,
        _ => Fit::Foreign,
    }
}

/// The policy has the first that takes clients.
fn chosen(of: &Fits) -> Option<u32> {
    (0..MEMBERS).find(|&member| fits(of, member) == Fit::Takes)
}

/// What becomes of a pin to this member, in a walk.
fn verdict(does: &[u8; MEMBERS as usize], member: Member) -> Verdict {
    match u32::from(does[member.0 as usize]) {
        to if to < MEMBERS => Verdict::Move(Member(to)),
        4 => Verdict::Forget,
        _ => Verdict::Keep,
    }
}

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
    place: Place,
    member: u32,
    recalled: bool,
}

struct World {
    shard: Shard,
    known: BTreeMap<u8, Known>,
    open: Vec<Open>,
    /// Pins of each client, as whoever counts shares would have them.
    shares: BTreeMap<u64, i32>,
    /// The second table, once it is told.
    told: Option<BTreeMap<u8, View>>,
    now: u64,
}

impl World {
    fn new() -> Self {
        Self {
            shard: Shard::new(TTL),
            known: BTreeMap::new(),
            open: Vec::new(),
            shares: BTreeMap::new(),
            told: None,
            now: 0,
        }
    }

    fn happen(&mut self, event: Event) {
        let open = |which: usize| which % self.open.len().max(1);
        match event {
            Event::Come(key, client, fits) => self.come(key, client, &fits),
            Event::Resume(key, client, fits) => self.resume(key, client, &fits),
            Event::Teach(key, client, member) => self.teach(key, client, member),
            Event::Answer(at) => self.answer(open(at), false),
            Event::AnswerBy(at) => self.answer(open(at), true),
            Event::Fail(at, fits) => self.fail(open(at), &fits),
            Event::End(at) => self.end(open(at)),
            Event::Wait(time) => self.now += time,
            Event::Sweep(most) => drop(self.shard.sweep(Moment(self.now), most)),
            Event::Set(key, member) => self.set(key, member),
            Event::Visit(step, does) => self.visit(step, &does),
            Event::Restore(key, member, left) => self.restore(key, member, left),
            Event::Track => self.track(),
            Event::Tell => self.tell(),
        }
        let now = self.now;
        self.known
            .retain(|_, known| known.in_use > 0 || known.expires > now);
        for gone in self.shard.take_removed() {
            *self.shares.entry(gone.client).or_default() -= 1;
        }
    }

    fn moment(&self) -> Moment {
        Moment(self.now)
    }

    fn place(&self, key: u8) -> Option<u32> {
        let (key, tag) = session(key, 99);
        self.shard.find(&key, tag)
    }

    /// Before an operation that may make one idle pin give way; says whether there was room without.
    fn full_of(&self) -> usize {
        self.shard.len()
    }

    /// A pin was made, so at most one idle one gave way, and none where there was room.
    fn made(&mut self, key: u8, known: Known, before: usize) {
        let gone: Vec<u8> = (0..KEYS)
            .filter(|other| self.known.contains_key(other) && self.place(*other).is_none())
            .collect();
        assert!(gone.len() <= usize::from(before >= BOUND), "{gone:?}");
        for gone in gone {
            let gone = self.known.remove(&gone).unwrap();
            assert_eq!(gone.in_use, 0, "a pin in use gave way");
        }
        *self.shares.entry(known.client).or_default() += 1;
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

    /// Nothing could give way.
    fn no_room(&self) {
        assert!(self.known.values().all(|known| known.in_use > 0));
        assert_eq!(self.known.len(), BOUND);
    }

    fn come(&mut self, key: u8, client: u64, of: &Fits) {
        let before = self.full_of();
        let found = self.shard.begin(
            session(key, client),
            Moment(self.now),
            Origin::Policy,
            |member| fits(of, member.0),
            || chosen(of).map(Member),
            room,
        );
        let known = self.known.get(&key).cloned();
        let pinned = known.as_ref().and_then(|known| known.member);
        let candidate = known.as_ref().and_then(|known| known.candidate);
        let pinned_fit = pinned.map(|member| fits(of, member));
        let agreed_fit = candidate.map(|member| fits(of, member));
        let is_foreign = pinned_fit == Some(Fit::Foreign)
            || pinned_fit != Some(Fit::Takes) && agreed_fit == Some(Fit::Foreign);
        let agreed = candidate.filter(|_| agreed_fit == Some(Fit::Takes));
        let wanted = agreed.or_else(|| chosen(of));
        let (place, member) = match found {
            Found::Foreign => return assert!(is_foreign),
            Found::Pinned(place, member) => {
                assert_eq!((pinned, pinned_fit), (Some(member.0), Some(Fit::Takes)));
                (place, member.0)
            }
            Found::Nowhere => return assert!(wanted.is_none() && !is_foreign),
            Found::Unpinned(member) => {
                assert_eq!((known, wanted), (None, Some(member.0)));
                return self.no_room();
            }
            Found::New(place, member) => {
                assert!(pinned.is_none() && wanted == Some(member.0) && !is_foreign);
                (place, member.0)
            }
            Found::Stale(place, member) => {
                assert_eq!((pinned_fit, wanted), (Some(Fit::Refuses), Some(member.0)));
                (place, member.0)
            }
        };
        if known.is_none() {
            let fresh = self.fresh(client, None, Origin::Policy);
            self.made(key, fresh, before);
        }
        let known = self.known.get_mut(&key).unwrap();
        if !matches!(found, Found::Pinned(..)) {
            known.candidate = Some(member);
        }
        self.hold(key, place, member);
    }

    fn hold(&mut self, key: u8, place: Place, member: u32) {
        self.known.get_mut(&key).unwrap().in_use += 1;
        self.open.push(Open {
            key,
            place,
            member,
            recalled: false,
        });
    }

    fn resume(&mut self, key: u8, client: u64, of: &Fits) {
        let now = self.moment();
        let resumed = self
            .shard
            .resume(session(key, client), now, |member| fits(of, member.0));
        let known = self.known.get_mut(&key);
        let known = known.filter(|known| {
            known
                .member
                .is_some_and(|member| fits(of, member) != Fit::Foreign)
        });
        let (Some(resumed), Some(known)) = (&resumed, &known) else {
            return assert!(resumed.is_none() && known.is_none());
        };
        let member = known.member.unwrap();
        assert_eq!(
            (resumed.member.0, resumed.before.client),
            (member, known.client)
        );
        assert_eq!(resumed.takes, fits(of, member) == Fit::Takes);
        *self.shares.entry(known.client).or_default() -= 1;
        *self.shares.entry(client).or_default() += 1;
        let place = resumed.place;
        self.known.get_mut(&key).unwrap().client = client;
        self.hold(key, place, member);
    }

    fn teach(&mut self, key: u8, client: u64, member: u32) {
        let (before, now) = (self.full_of(), self.moment());
        let taught = self
            .shard
            .teach(session(key, client), now, Member(member), room);
        let Some(place) = taught else {
            assert!(!self.known.contains_key(&key));
            return self.no_room();
        };
        if !self.known.contains_key(&key) {
            let fresh = self.fresh(client, Some(member), Origin::Session);
            self.made(key, fresh, before);
        }
        self.hold(key, place, member);
        self.lead(key, member);
    }

    /// A backend has answered, and the pin follows.
    fn lead(&mut self, key: u8, member: u32) -> Option<Member> {
        let known = self.known.get_mut(&key).unwrap();
        if known.member == Some(member) {
            return None;
        }
        known.candidate = None;
        let before = known.member.replace(member);
        if before.is_some() {
            known.origin = Origin::Failover;
        }
        before.map(Member)
    }

    fn answer(&mut self, at: usize, whatever: bool) {
        let Some(open) = self.open.get(at) else {
            return;
        };
        let (key, place, member, recalled) = (open.key, open.place, open.member, open.recalled);
        let said = if whatever {
            self.shard.answered_by(place, Member(member))
        } else {
            self.shard.answered(place, Member(member))
        };
        let known = &self.known[&key];
        let meant = whatever || known.member.is_none() || known.candidate == Some(member);
        let before = if meant && !recalled {
            self.lead(key, member)
        } else {
            None
        };
        assert_eq!(said, before);
    }

    fn fail(&mut self, at: usize, of: &Fits) {
        let Some(open) = self.open.get_mut(at) else {
            return;
        };
        let known = self.known.get_mut(&open.key).unwrap();
        let agreed = [known.member, known.candidate].into_iter().flatten();
        let agreed = agreed
            .into_iter()
            .find(|&member| fits(of, member) == Fit::Takes);
        let wanted = agreed.or_else(|| chosen(of));
        let choose = || chosen(of).map(Member);
        let next = self
            .shard
            .next(open.place, |member| fits(of, member.0), choose);
        assert_eq!(next, wanted.map(Member));
        if let Some(wanted) = wanted {
            open.member = wanted;
            if agreed.is_none() {
                known.candidate = Some(wanted);
            }
        }
    }

    fn end(&mut self, at: usize) {
        if self.open.is_empty() {
            return;
        }
        let open = self.open.swap_remove(at);
        self.shard.end(open.place, Moment(self.now));
        let known = self.known.get_mut(&open.key).unwrap();
        known.in_use -= 1;
        if known.in_use == 0 {
            known.candidate = None;
            known.expires = known.member.map_or(0, |_| self.now + 60_000);
        }
    }

    fn set(&mut self, key: u8, member: u32) {
        let (before, now) = (self.full_of(), self.moment());
        let set = self.shard.set(session(key, 1), now, Member(member), room);
        let Ok(led) = set else {
            assert!(!self.known.contains_key(&key));
            return self.no_room();
        };
        if !self.known.contains_key(&key) {
            let fresh = self.fresh(1, None, Origin::Administrator);
            self.made(key, fresh, before);
        }
        let known = self.known.get_mut(&key).unwrap();
        let led_before = known.member.replace(member);
        assert_eq!(led, led_before.filter(|&led| led != member).map(Member));
        (known.origin, known.candidate) = (Origin::Administrator, None);
        known.expires = self.now + 60_000;
    }

    fn visit(&mut self, step: u32, does: &[u8; MEMBERS as usize]) {
        let mut met = Vec::new();
        let mut from = Some(0);
        while let Some(place) = from {
            from = self.shard.visit(place, step, Moment(self.now), |pin| {
                met.push(pin.key.hash[0]);
                verdict(does, pin.member)
            });
        }
        met.sort_unstable();
        let leading = |(key, known): (&u8, &Known)| known.member.map(|_| *key);
        let meant: Vec<u8> = self.known.iter().filter_map(leading).collect();
        assert_eq!(met, meant, "each that leads somewhere is met once");
        for key in meant {
            let known = self.known.get_mut(&key).unwrap();
            match verdict(does, Member(known.member.unwrap())) {
                Verdict::Keep => {}
                Verdict::Forget => {
                    (known.member, known.expires) = (None, 0);
                    known.origin = Origin::Policy;
                }
                Verdict::Move(to) => {
                    (known.member, known.candidate) = (Some(to.0), None);
                    known.origin = Origin::Administrator;
                    let held = self.open.iter_mut().filter(|open| open.key == key);
                    held.for_each(|open| open.recalled = true);
                }
            }
        }
    }

    fn restore(&mut self, key: u8, member: u32, left: u64) {
        let (before, now) = (self.full_of(), self.moment());
        let (session, tag) = session(key, 2);
        // More than the time to live is not believed, and neither is what was made in the time to come.
        let created = Moment(self.now / 2000 * 2000 + left / 30_000 * 1000);
        let kept = View {
            key: session,
            member: Member(member),
            origin: Origin::Failover,
            created,
            in_use: 0,
            expires: (left % 3 > 0).then_some(Moment(self.now + left)),
        };
        let left = kept.expires.map_or(60_000, |_| left.min(60_000));
        let put = self.shard.restore((&kept, tag), now, room);
        if left == 0 || self.known.contains_key(&key) {
            return assert!(!put);
        }
        if !put {
            return self.no_room();
        }
        let mut fresh = self.fresh(2, Some(member), Origin::Failover);
        fresh.created = created.min(now).0 / 1000 * 1000;
        fresh.expires = self.now + left;
        self.made(key, fresh, before);
    }

    fn track(&mut self) {
        if self.told.is_some() {
            return;
        }
        self.shard.record_changes();
        let mut told = BTreeMap::new();
        self.shard.visit(0, u32::MAX, Moment(self.now), |pin| {
            told.insert(pin.key.hash[0], *pin);
            Verdict::Keep
        });
        self.told = Some(told);
    }

    fn tell(&mut self) {
        let Some(told) = &mut self.told else {
            return assert_eq!(self.shard.take_changes(|_| panic!()), Told::All);
        };
        let all = self.shard.take_changes(|change| match change {
            Change::Gone(key) => drop(told.remove(&key.hash[0])),
            Change::Now(pin) => drop(told.insert(pin.key.hash[0], pin)),
        });
        assert_eq!(all, Told::All);
        let now = Moment(self.now);
        told.retain(|_, pin| pin.expires.is_none_or(|expires| expires > now));
        let bare = |pin: &View| View {
            in_use: pin.in_use.min(1),
            ..*pin
        };
        let told = told
            .iter()
            .map(|(key, pin)| (*key, bare(pin), pin.key.client));
        let known = self.known.iter().filter_map(|(key, known)| {
            let view = known.view(*key)?;
            Some((*key, bare(&view), known.client))
        });
        assert_eq!(told.collect::<Vec<_>>(), known.collect::<Vec<_>>());
    }

    fn check(&self) {
        assert!(self.shard.len() <= BOUND);
        for key in 0..KEYS {
            let (wanted, tag) = session(key, 99);
            let view = self.shard.view((&wanted, tag), self.moment());
            let known = self.known.get(&key);
            assert_eq!(view, known.and_then(|known| known.view(key)), "{key}");
            let client = view.map(|view| view.key.client);
            let leads = known.filter(|known| known.member.is_some());
            assert_eq!(client, leads.map(|known| known.client));
            let in_use = self.place(key).map_or(0, |at| self.shard.pins[at].in_use);
            assert_eq!(in_use, known.map_or(0, |known| known.in_use));
        }
        for open in &self.open {
            assert_eq!(self.shard.is_recalled(open.place), open.recalled);
        }
        for client in 0..4 {
            let of_client = |key: &u8| {
                let place = self.place(*key);
                place.is_some_and(|at| self.shard.pins[at].key.client == client)
            };
            let standing = i32::try_from((0..KEYS).filter(of_client).count()).unwrap();
            assert_eq!(self.shares.get(&client).copied().unwrap_or(0), standing);
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
    fn a_shard_of_sessions_does_all_as_its_model(
        events in proptest::collection::vec(event(), 1..150)
    ) {
        let mut world = World::new();
        for event in events {
            world.happen(event);
            world.check();
        }
        while !world.open.is_empty() {
            world.happen(Event::End(0));
        }
        world.happen(Event::Tell);
        world.happen(Event::Wait(62_000));
        world.happen(Event::Sweep(2 * usize::from(KEYS)));
        prop_assert!(world.shard.is_empty());
        prop_assert!((0..MEMBERS).all(|to| world.shard.leading_to(Member(to)) == 0));
        prop_assert!(world.shares.values().all(|&pins| pins == 0));
    }
}
