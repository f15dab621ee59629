//! What a large affinity table does: pins a second, bytes a pin, and how long a lookup takes while a million pins expire,
//! are listed or forgotten.
//!
//! `cargo bench --bench affinity` prints the figures of docs/performance.md; with `-- --test` it runs a small table once,
//! as a smoke test.

#![allow(
    clippy::unwrap_used,
    reason = "a measurement that cannot go on has failed"
)]

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use lyncpin::affinity::shard::{Eligibility, Key, Member};
use lyncpin::affinity::table::{Cursor, Lookup, Pins, SESSIONS_A_CLIENT, Secret, TableFilter};
use lyncpin::config::model;
use lyncpin::protocol::tls::client_hello::SessionId;
use lyncpin::telemetry::metrics::Registry;

/// Pins of each shard that the process looks at a second.
const SWEPT: usize = 2_000;
/// Clients that come all the while that something else happens.
const REGULAR: u32 = 1_000;

/// How much of everything.
#[derive(Clone, Copy)]
struct Scale {
    pins: u32,
    ttl: Duration,
    /// How long lookups are looked at where nothing else happens.
    quiet: Duration,
}

fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let scale = if is_test {
        Scale {
            pins: 20_000,
            ttl: Duration::from_secs(1),
            quiet: Duration::from_millis(50),
        }
    } else {
        Scale {
            pins: 1_000_000,
            ttl: Duration::from_secs(20),
            quiet: Duration::from_secs(3),
        }
    };
    println!("{} pins\n", scale.pins);
    memory(scale);
    rates(scale);
    println!("\nlookups of {REGULAR} regular clients, each begun, answered and ended, in µs:\n");
    println!("| meanwhile | lookups | p50 | p99 | p99.9 | longest | that took, s |");
    println!("|---|---|---|---|---|---|---|");
    quiet(scale);
    expiring(scale);
    listed(scale);
    cleared(scale);
}

fn table(max_entries: u32, ttl: Duration) -> Arc<Pins> {
    let settings = model::AffinitySettings {
        by_source: true,
        by_name: true,
        by_session: true,
        source_prefix: model::SourcePrefix { ipv4: 32, ipv6: 64 },
        ttl,
        group: "web".into(),
        max_entries: max_entries as usize,
    };
    let registry = Registry::default();
    let pins = Arc::new(Pins::new(&settings, &registry, &Secret::random()));
    let _ = (pins.intern_member("fe01"), pins.intern_name("contoso.com"));
    pins
}

fn key(pins: &Pins, number: u32) -> Key {
    pins.key(Ipv4Addr::from_bits(0x0a00_0000 + number).into(), 1)
}

/// Begins and ends a connection of this client.
fn come(pins: &Arc<Pins>, number: u32) {
    match pins.acquire(
        key(pins, number),
        |_| Eligibility::Eligible,
        || Some(Member(1)),
    ) {
        Lookup::Pinned(claim, member)
        | Lookup::New(claim, member)
        | Lookup::Stale(claim, member) => {
            let _ = claim.answered(member);
        }
        Lookup::Unpinned(_) | Lookup::NotInPool | Lookup::NoBackend => panic!("there is room"),
    }
}

fn learn(pins: &Arc<Pins>, number: u32) {
    let id = SessionId::new(&number.to_be_bytes()).unwrap();
    let client = key(pins, number / (SESSIONS_A_CLIENT / 8));
    let learned = pins.learn_id(&id, Some(&client), Member(1));
    drop(learned.expect("there is room"));
}

fn filled(scale: Scale, ttl: Duration) -> Arc<Pins> {
    let pins = table(scale.pins + REGULAR, ttl);
    (0..scale.pins).for_each(|number| come(&pins, number));
    pins
}

/// Resident bytes of this process (proc(5), statm).
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size()
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn memory(scale: Scale) {
    let each = |before: usize| (resident() - before) as f64 / f64::from(scale.pins);
    // Two tables, since what one gives back to the allocator the other would use.
    let before = resident();
    let clients = table(scale.pins, scale.ttl * 1000);
    let empty = resident() - before;
    (0..scale.pins).for_each(|number| come(&clients, number));
    println!("bytes a client's pin: {:.0}", each(before + empty));
    let before = resident();
    let sessions = table(scale.pins, scale.ttl * 1000);
    (0..scale.pins).for_each(|number| learn(&sessions, number));
    println!("bytes a session's pin: {:.0}", each(before + empty));
    println!("bytes of an empty table: {empty}");
    black_box((clients, sessions));
}

fn rates(scale: Scale) {
    println!("\n| pins a second | 1 thread | 8 threads |");
    println!("|---|---|---|");
    let long = scale.ttl * 1000;
    let made = [1, 8].map(|threads| {
        let pins = table(scale.pins, long);
        rate(threads, scale.pins, |number| come(&pins, number))
    });
    println!("| made | {:.0} | {:.0} |", made[0], made[1]);
    let pins = filled(scale, long);
    let found = [1, 8].map(|threads| {
        // In an order that is none of the caches'.
        let scattered = |number: u32| u64::from(number) * 7_919 % u64::from(scale.pins);
        let come = |number| come(&pins, u32::try_from(scattered(number)).unwrap());
        rate(threads, scale.pins, come)
    });
    println!("| found | {:.0} | {:.0} |", found[0], found[1]);
    let made = [1, 8].map(|threads| {
        let pins = table(scale.pins, long);
        rate(threads, scale.pins, |number| learn(&pins, number))
    });
    println!("| sessions learned | {:.0} | {:.0} |", made[0], made[1]);
}

/// How many times a second so many threads do this together, each with a part of the numbers.
fn rate(threads: u32, numbers: u32, work: impl Fn(u32) + Sync) -> f64 {
    let started = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let work = &work;
            let part = numbers / threads;
            scope.spawn(move || (thread * part..(thread + 1) * part).for_each(work));
        }
    });
    f64::from(numbers) / started.elapsed().as_secs_f64()
}

fn quiet(scale: Scale) {
    let pins = filled(scale, scale.ttl * 1000);
    beside(&pins, "nothing", || std::thread::sleep(scale.quiet));
}

fn expiring(scale: Scale) {
    let pins = filled(scale, scale.ttl);
    std::thread::sleep(scale.ttl + scale.ttl / 30);
    let expired = format!("all {} expire, swept each second", scale.pins);
    beside(&pins, &expired, || {
        while pins.len() > REGULAR as usize {
            pins.sweep(SWEPT);
            std::thread::sleep(Duration::from_secs(1));
        }
    });
}

fn listed(scale: Scale) {
    let pins = filled(scale, scale.ttl * 1000);
    beside(&pins, "all are listed, a thousand at a time", || {
        let mut cursor = Some(Cursor::default());
        while let Some(from) = cursor {
            let (found, next) = pins.page(&TableFilter::default(), from, 1_000, 10_000);
            black_box(found);
            cursor = next;
        }
    });
}

fn cleared(scale: Scale) {
    let pins = filled(scale, scale.ttl * 1000);
    beside(&pins, "all are forgotten", || {
        let touched = pins.clear(&TableFilter::default());
        assert!(touched.pins >= scale.pins as usize);
    });
}

/// How long lookups take while this happens, in the order of a table's row.
fn beside(pins: &Arc<Pins>, what: &str, happens: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    // A small table is listed before a thread has started: the lookups go first.
    let started = Barrier::new(2);
    let (mut took, lasted) = std::thread::scope(|scope| {
        let lookups = scope.spawn(|| {
            let mut took = Vec::new();
            for number in (0..REGULAR).cycle() {
                let began = Instant::now();
                come(pins, number);
                took.push(began.elapsed());
                if took.len() == 1 {
                    started.wait();
                }
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
            }
            took
        });
        started.wait();
        let began = Instant::now();
        happens();
        let lasted = began.elapsed();
        is_over.store(true, Ordering::Relaxed);
        (lookups.join().unwrap(), lasted)
    });
    took.sort_unstable();
    let at = |thousandths: usize| {
        let place = (took.len() * thousandths / 1_000).min(took.len() - 1);
        took[place].as_secs_f64() * 1e6
    };
    println!(
        "| {what} | {} | {:.2} | {:.2} | {:.2} | {:.0} | {:.2} |",
        took.len(),
        at(500),
        at(990),
        at(999),
        at(1_000),
        lasted.as_secs_f64()
    );
}
