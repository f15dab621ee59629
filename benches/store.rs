//! What the affinity store costs: the start with a million pins, and what a lookup notices of the writing.
//!
//! `cargo bench --bench store` prints a table; `cargo bench --bench store -- --test` goes through it once with few pins,
//! as a smoke test. Files go to the directory in `TMPDIR`, `/tmp` by default: name one on the disk that is meant.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lyncpin::affinity::shard::{Eligibility, Key, Member, source_bits};
use lyncpin::affinity::table::{Lookup, Pins, Secret};
use lyncpin::config;
use lyncpin::config::model::SourcePrefix;
use lyncpin::persistence::{OpenedStore, Store};
use lyncpin::snapshot::Snapshot;
use lyncpin::telemetry::metrics::Registry;
use lyncpin::upstream::backend::Availability;

/// How many pins, and how long each way of looking them up is measured.
struct Size {
    pins: u32,
    each: Duration,
}

const FULL: Size = Size {
    pins: 1_000_000,
    each: Duration::from_secs(8),
};
const SMOKE: Size = Size {
    pins: 2_000,
    each: Duration::from_millis(50),
};

fn main() {
    let size = if std::env::args().any(|argument| argument == "--test") {
        SMOKE
    } else {
        FULL
    };
    let directory = std::env::temp_dir().join(format!("lyncpin-bench-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("affinity");
    let table = snapshot();
    for number in 0..size.pins {
        visit(&table.groups[0], number);
    }
    write(&table, &file, size.pins);
    read(&file, size.pins);
    lookups(&table, &directory, &size);
    std::fs::remove_dir_all(&directory).unwrap();
}

fn snapshot() -> Arc<Snapshot> {
    let text = "listeners: { tcp: { bind: [\"192.0.2.1:443\"], protocol: tcp, pool: web } }\n\
                pools: { web: { backends: [\"192.0.2.11:4443\", \"192.0.2.12:4443\", \"192.0.2.13:4443\"], affinity: { by: [source] } } }\n";
    let config = config::read(text, "bench").unwrap().config;
    let (registry, availability) = (Registry::default(), Arc::new(Availability::default()));
    let snapshot = Snapshot::build(config, &registry, &availability, &Secret::random());
    Arc::new(snapshot)
}

fn start(opened: OpenedStore, snapshot: &Arc<Snapshot>) -> Store {
    let snapshot = snapshot.clone();
    let source = move || snapshot.clone();
    opened.start(source, &Registry::default()).unwrap()
}

/// One connection of a client, from its begin to its end.
fn visit(pins: &Arc<Pins>, number: u32) {
    let address = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number));
    let source = source_bits(address, SourcePrefix { ipv4: 32, ipv6: 64 });
    // The backends are numbered from 1 on.
    let key = Key { source, name: 0 };
    let found = pins.acquire(
        key,
        |_| Eligibility::Eligible,
        || Some(Member(1 + number % 3)),
    );
    let (Lookup::New(claim, member) | Lookup::Pinned(claim, member)) = found else {
        panic!("{found:?}")
    };
    assert!(claim.answered(member).is_none());
}

fn write(table: &Arc<Snapshot>, file: &Path, pins: u32) {
    let begun = Instant::now();
    start(OpenedStore::open(file).unwrap(), table).stop();
    let took = begun.elapsed();
    let bytes = std::fs::metadata(file).unwrap().len();
    println!(
        "write {pins} pins to a new file:  {took:>8.0?}  {bytes} bytes, {:.1} a pin",
        bytes as f64 / f64::from(pins)
    );
}

fn read(file: &Path, pins: u32) {
    let begun = Instant::now();
    let opened = OpenedStore::open(file).unwrap();
    let read = begun.elapsed();
    let fresh = snapshot();
    opened.restore(&fresh);
    println!(
        "start with {pins} pins:           {:>8.0?}  of which {read:.0?} is reading, the rest putting them back",
        begun.elapsed()
    );
    assert_eq!(fresh.groups[0].len(), pins as usize);
}

/// Looks up pins at random for a while and prints how long that took.
fn measure(what: &str, pins: &Arc<Pins>, size: &Size) {
    let mut random = 0x9e37_79b9_u32;
    let begun = Instant::now();
    let mut took = Vec::with_capacity(16 << 20);
    while begun.elapsed() < size.each {
        for _ in 0..64 {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            let at = Instant::now();
            visit(pins, random % size.pins);
            took.push(u32::try_from(at.elapsed().as_nanos()).unwrap_or(u32::MAX));
        }
        // A busy balancer, and not one that does nothing but look up: some 100,000 connections a second.
        std::thread::sleep(Duration::from_micros(500));
    }
    took.sort_unstable();
    let at = |thousandth: usize| f64::from(took[took.len() * thousandth / 1000]) / 1000.0;
    println!(
        "{what:<34} {:>6.1} µs {:>6.1} µs {:>8.1} µs {:>8.1} µs  {} a second",
        at(500),
        at(990),
        at(999),
        f64::from(took[took.len() - 1]) / 1000.0,
        took.len() as u64 * 1000 / u64::try_from(begun.elapsed().as_millis()).unwrap().max(1)
    );
}

fn lookups(table: &Arc<Snapshot>, directory: &Path, size: &Size) {
    let pins = &table.groups[0];
    println!(
        "{:<34} {:>9} {:>9} {:>11} {:>11}",
        "a pinned client's connection:", "median", "p99", "p99.9", "worst"
    );
    for round in 1..=3 {
        measure(&format!("without a store ({round})"), pins, size);
        let store = start(
            OpenedStore::open(&directory.join("batches")).unwrap(),
            table,
        );
        // What is to be seen is batches, and not the picture at the start.
        std::thread::sleep(size.each.min(Duration::from_secs(2)));
        measure(
            &format!("with batches twice a second ({round})"),
            pins,
            size,
        );
        store.stop();
        let over = AtomicBool::new(false);
        std::thread::scope(|threads| {
            let writing = threads.spawn(|| write_anew(table, directory, &over));
            measure(&format!("written anew all the time ({round})"), pins, size);
            over.store(true, Ordering::Relaxed);
            println!("{:<34} {} times", "", writing.join().unwrap());
        });
    }
}

/// Writes the whole table again and again; says how often.
fn write_anew(table: &Arc<Snapshot>, directory: &Path, over: &AtomicBool) -> u32 {
    let mut times = 0;
    while !over.load(Ordering::Relaxed) {
        let file: PathBuf = directory.join(format!("anew-{times}"));
        start(OpenedStore::open(&file).unwrap(), table).stop();
        std::fs::remove_file(file).unwrap();
        times += 1;
    }
    times
}
