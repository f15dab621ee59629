//! What connections notice while an administrator looks through a large affinity table and changes it.
//!
//! `cargo bench --bench operators` fills a table with a million pins and prints, for each thing that an administrator
//! may do, how long it takes and how long a visit takes meanwhile: the beginning and the end of a connection, as a worker
//! does them. `cargo bench --bench operators -- --test` does the same with a small table, as a smoke test.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use lyncpin::affinity::shard::{Eligibility, Member};
use lyncpin::affinity::table::{Cursor, Lookup, Pins, Secret, TableFilter};
use lyncpin::config::model;
use lyncpin::telemetry::metrics::Registry;

/// Backends that pins lead to.
const BACKENDS: u32 = 4;

/// Pins of a page, and places that one look goes through, as the admin listener asks for them.
const PAGE: usize = 10_000;
const LOOKS: usize = 1 << 16;

/// A table in which so many clients are pinned.
fn filled(entries: u32) -> Arc<Pins> {
    let settings = model::AffinitySettings {
        by_source: true,
        by_name: false,
        by_session: false,
        source_prefix: model::SourcePrefix { ipv4: 32, ipv6: 64 },
        ttl: Duration::from_secs(1200),
        group: "web".into(),
        max_entries: 2 * entries as usize,
    };
    let pins = Arc::new(Pins::new(
        &settings,
        &Registry::default(),
        &Secret::random(),
    ));
    for member in 1..=BACKENDS {
        assert_eq!(
            pins.intern_member(&format!("fe{member:02}")),
            Member(member)
        );
    }
    (0..entries).for_each(|number| visit(&pins, number));
    pins
}

fn address(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0000 + number).into()
}

/// Begins and ends a connection of this client.
fn visit(pins: &Arc<Pins>, number: u32) {
    let key = pins.key(address(number), 0);
    let choose = || Some(Member(1 + number % BACKENDS));
    match pins.acquire(key, |_| Eligibility::Eligible, choose) {
        Lookup::Pinned(claim, member)
        | Lookup::New(claim, member)
        | Lookup::Stale(claim, member) => {
            let _ = claim.answered(member);
        }
        Lookup::Unpinned(_) | Lookup::NotInPool | Lookup::NoBackend => panic!("there is room"),
    }
}

/// Every pin that a filter means, page by page; how many there were.
fn list(pins: &Pins, filter: &TableFilter) -> usize {
    let (mut cursor, mut listed) = (Some(Cursor::default()), 0);
    while let Some(from) = cursor {
        let (page, next) = pins.page(filter, from, PAGE, LOOKS);
        listed += black_box(page).len();
        cursor = next;
    }
    listed
}

fn of_backend(member: u32) -> TableFilter {
    TableFilter {
        members: Some(vec![Member(member)]),
        ..TableFilter::default()
    }
}

/// What an administrator does with a table of so many pins; says how many it was about.
struct Work {
    what: &'static str,
    /// More than once where that changes nothing, so that there are visits enough meanwhile.
    times: u32,
    work: Box<dyn Fn(&Pins) -> usize>,
}

fn works(entries: u32) -> Vec<Work> {
    let one = TableFilter {
        clients: Some(address(entries / 2).into()),
        ..TableFilter::default()
    };
    let work = |what, times, work| Work { what, times, work };
    vec![
        work(
            "list every pin",
            3,
            Box::new(|pins| list(pins, &TableFilter::default())),
        ),
        work(
            "list those of one client",
            30,
            Box::new(move |pins| list(pins, &one)),
        ),
        work(
            "list those of one backend",
            10,
            Box::new(|pins| list(pins, &of_backend(1))),
        ),
        work(
            "move a backend's to another",
            1,
            Box::new(|pins| pins.move_to(&of_backend(1), Member(2)).pins),
        ),
        work(
            "clear a backend's",
            1,
            Box::new(|pins| pins.clear(&of_backend(3)).pins),
        ),
        work(
            "clear every pin",
            1,
            Box::new(|pins| pins.clear(&TableFilter::default()).pins),
        ),
    ]
}

/// The times of visits, one after the other, until `done`.
fn visits(pins: &Arc<Pins>, entries: u32, done: &AtomicBool) -> Vec<Duration> {
    let (mut times, mut number) = (Vec::with_capacity(1 << 20), 0);
    while !done.load(Ordering::Relaxed) && times.len() < times.capacity() {
        number = (number + 7919) % entries;
        let begun = Instant::now();
        visit(pins, number);
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    times
}

/// Visits on another thread while `work` is done, and how long that took.
fn beside(pins: &Arc<Pins>, entries: u32, work: impl FnOnce()) -> (Vec<Duration>, Duration) {
    let (begun, done) = (Barrier::new(2), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let visiting = scope.spawn(|| {
            begun.wait();
            visits(pins, entries, &done)
        });
        begun.wait();
        let started = Instant::now();
        work();
        let took = started.elapsed();
        done.store(true, Ordering::Relaxed);
        (visiting.join().unwrap(), took)
    })
}

fn row(what: &str, count: &str, took: &str, times: &[Duration]) {
    let within = |share: f64| {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share of a length is a place"
        )]
        let place = (times.len() as f64 * share) as usize;
        let time = times.get(place.min(times.len().saturating_sub(1)));
        time.map_or("-".into(), |time| {
            format!("{:.1}", time.as_secs_f64() * 1e6)
        })
    };
    println!(
        "{what:<28} {count:>9} {took:>9} {:>9} {:>8} {:>8} {:>8} {:>9}",
        times.len(),
        within(0.5),
        within(0.99),
        within(0.999),
        within(1.0),
    );
}

fn main() {
    let entries: u32 = if std::env::args().any(|argument| argument == "--test") {
        10_000
    } else {
        1_000_000
    };
    println!(
        "{:<28} {:>9} {:>9} {:>9} {:>8} {:>8} {:>8} {:>9}",
        format!("{entries} pins"),
        "pins",
        "took, ms",
        "visits",
        "50 %, us",
        "99 %",
        "99.9 %",
        "longest"
    );
    let pins = filled(entries);
    let rest = Duration::from_millis(u64::from(entries / 2_000));
    let (times, _) = beside(&pins, entries, || std::thread::sleep(rest));
    row("nothing", "-", "-", &times);
    for Work { what, times, work } in works(entries) {
        let pins = filled(entries);
        let mut count = 0;
        let (visits, took) = beside(&pins, entries, || {
            (0..times).for_each(|_| count = work(&pins));
        });
        assert!(count > 0, "{what} is about something");
        let each = took.as_secs_f64() * 1e3 / f64::from(times);
        row(what, &count.to_string(), &format!("{each:.1}"), &visits);
    }
}
