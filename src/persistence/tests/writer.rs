//! The content of the file, compared with the tables.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::affinity::record::PinKey;
use crate::affinity::shard::{Eligibility, Key, Member};
use crate::affinity::table::{Lookup, Pins, Secret};
use crate::persistence::OpenedStore;
use crate::persistence::path::StorePath;
use crate::persistence::writer::StoreWriter;
use crate::protocol::tls::client_hello::SessionId;
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::Registry;
use crate::types::backend_state::AdminState;
use crate::upstream::backend::Availability;

fn snapshot(secret: &Secret) -> Arc<Snapshot> {
    let yaml = "listeners: { tcp: { bind: [\"192.0.2.1:80\"], protocol: tcp, pool: web } }\n\
                pools: { web: { backends: [\"192.0.2.11:1\", \"192.0.2.12:1\"], affinity: { by: [source, tls_session], max_entries: 500 } } }\n";
    let config = crate::config::read(yaml, "test").unwrap().config;
    let availability = Arc::new(Availability::default());
    Arc::new(Snapshot::build(
        config,
        &Registry::default(),
        &availability,
        secret,
    ))
}

fn writer(path: &Path, snapshot: &Arc<Snapshot>) -> StoreWriter {
    let source = snapshot.clone();
    let path = Arc::new(StorePath::lock(path).unwrap());
    StoreWriter::new(
        path,
        [7; 32],
        Box::new(move || source.clone()),
        Arc::default(),
        &Registry::default(),
    )
}

/// A connection of a client, which pins it to one of the two.
fn visit(pins: &Arc<Pins>, client: u32) {
    let mut source = [0; 16];
    source[10..12].fill(0xff);
    source[12..].copy_from_slice(&client.to_be_bytes());
    let key = Key { source, name: 0 };
    let found = pins.acquire(
        key,
        |_| Eligibility::Ineligible,
        || Some(Member(1 + client % 2)),
    );
    if let Lookup::New(claim, member) | Lookup::Stale(claim, member) = found {
        let _ = claim.answered(Member(3 - member.0));
    }
}

fn pins_of(pins: &Pins) -> BTreeMap<[u8; 16], String> {
    let mut found = BTreeMap::new();
    pins.export(&mut |kept| {
        if let PinKey::Client { source, .. } = kept.key {
            found.insert(source, kept.backend.to_string());
        }
    });
    found
}

/// The pins of a process that starts now.
fn restored(path: &Path) -> (BTreeMap<[u8; 16], String>, Arc<Snapshot>) {
    let opened = OpenedStore::open(path).unwrap();
    assert_eq!(opened.secret().bytes(), &[7; 32]);
    let fresh = snapshot(opened.secret());
    opened.restore(&fresh);
    (pins_of(&fresh.groups[0]), fresh)
}

/// The table is too small for all clients, so pins are evicted as well; and some changes happen during each checkpoint.
#[test]
fn changes_during_a_rewrite_are_in_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("affinity");
    let table = snapshot(&Secret::from_bytes([7; 32]));
    let pins = table.groups[0].clone();
    let is_over = AtomicBool::new(false);
    let mut writer = writer(&path, &table);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut random = 1_u32;
            while !is_over.load(Ordering::Relaxed) {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                visit(&pins, (random >> 16) % 700);
            }
        });
        for _ in 0..60 {
            writer.rewrite_now();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    // The rest, as a batch.
    writer.turn();
    drop(writer);
    let expected = pins_of(&pins);
    assert!(expected.len() > 400, "{}", expected.len());
    assert_eq!(restored(&path).0, expected);
}

/// The secret is stored with the hashes: without it no session would be found.
#[test]
fn a_tls_session_is_recognised_by_the_next_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("affinity");
    let table = snapshot(&Secret::from_bytes([7; 32]));
    let mut writer = writer(&path, &table);
    let id = SessionId::new(&[5; 32]).unwrap();
    let none = SessionId::new(&[]).unwrap();
    let ticket = b"as the server granted it";
    let pins = &table.groups[0];
    drop(pins.learn_id(&id, None, Member(1)).unwrap());
    drop(pins.learn_ticket(ticket, None, Member(2)).unwrap());
    writer.turn();
    drop(writer);
    let (_, fresh) = restored(&path);
    let found = |ticket: Option<&[u8]>, id: &SessionId| {
        let found = fresh.groups[0].recognise(ticket, id, None, |_| Eligibility::Eligible);
        found.map(|recognised| recognised.member)
    };
    assert_eq!(found(None, &id), Some(Member(1)));
    assert_eq!(found(Some(ticket), &none), Some(Member(2)));
    assert_eq!(found(Some(b"another"), &none), None);
}

#[test]
fn states_are_restored_unless_the_backend_is_ready_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("affinity");
    let table = snapshot(&Secret::from_bytes([7; 32]));
    let states = |snapshot: &Snapshot| -> Vec<AdminState> {
        snapshot.backends().map(|backend| backend.state()).collect()
    };
    let backends = &table.pools[0].backends;
    backends[0].set_state(AdminState::Maintain, None);
    let mut writer = writer(&path, &table);
    writer.turn();
    backends[1].set_state(AdminState::Maintain, None);
    writer.turn();
    backends[0].set_state(AdminState::Ready, None);
    writer.turn();
    drop(writer);
    assert_eq!(
        states(&restored(&path).1),
        [AdminState::Ready, AdminState::Maintain]
    );
}

#[test]
fn the_file_stays_small_however_much_changes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("affinity");
    let table = snapshot(&Secret::from_bytes([7; 32]));
    let mut writer = writer(&path, &table);
    let mut most = 0;
    for round in 0..400 {
        for client in 0..500 {
            visit(&table.groups[0], client + round);
        }
        writer.turn();
        most = most.max(std::fs::metadata(&path).unwrap().len());
    }
    // 400 times 500 pins of 26 bytes would be 5 MB; the file may have a megabyte of changes.
    assert!(most < 1_200_000, "{most}");
}
