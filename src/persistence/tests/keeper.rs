//! What is in the file, beside what stands.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::affinity::shard::{Eligibility, Key, Member};
use crate::affinity::table::{Lookup, PinKey, Pins, Secret};
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

fn keeper(path: &Path, snapshot: &Arc<Snapshot>) -> StoreWriter {
    let source = snapshot.clone();
    let place = Arc::new(StorePath::take(path).unwrap());
    StoreWriter::new(
        place,
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
    let found = pins.begin(
        key,
        |_| Eligibility::Refuses,
        || Some(Member(1 + client % 2)),
    );
    if let Lookup::New(claim, member) | Lookup::Stale(claim, member) = found {
        let _ = claim.answered(Member(3 - member.0));
    }
}

fn standing(pins: &Pins) -> BTreeMap<[u8; 16], String> {
    let mut standing = BTreeMap::new();
    pins.export(&mut |kept| {
        if let PinKey::Client { source, .. } = kept.key {
            standing.insert(source, kept.backend.to_string());
        }
    });
    standing
}

/// What a process would have that starts now.
fn kept(path: &Path) -> (BTreeMap<[u8; 16], String>, Arc<Snapshot>) {
    let opened = OpenedStore::open(path).unwrap();
    assert_eq!(opened.secret().bytes(), &[7; 32]);
    let fresh = snapshot(opened.secret());
    opened.restore(&fresh);
    (standing(&fresh.groups[0]), fresh)
}

/// The table is too small for all that come, so pins go, too; and a part of the changes falls into each picture.
#[test]
fn what_changes_while_the_file_is_written_anew_is_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("affinity");
    let table = snapshot(&Secret::from_bytes([7; 32]));
    let pins = table.groups[0].clone();
    let over = AtomicBool::new(false);
    let mut keeper = keeper(&path, &table);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut random = 1_u32;
            while !over.load(Ordering::Relaxed) {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                visit(&pins, (random >> 16) % 700);
            }
        });
        for _ in 0..60 {
            keeper.write_anew_now();
        }
        over.store(true, Ordering::Relaxed);
    });
    // The rest, by a batch.
    keeper.turn();
    drop(keeper);
    let standing = standing(&pins);
    assert!(standing.len() > 400, "{}", standing.len());
    assert_eq!(kept(&path).0, standing);
}

/// The secret is kept beside the hashes that were made with it: without it no session would be found.
#[test]
fn a_tls_session_is_recognised_by_the_next_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("affinity");
    let table = snapshot(&Secret::from_bytes([7; 32]));
    let mut keeper = keeper(&path, &table);
    let id = SessionId::new(&[5; 32]).unwrap();
    let none = SessionId::new(&[]).unwrap();
    let ticket = b"as the server granted it";
    let pins = &table.groups[0];
    drop(pins.learn_id(&id, None, Member(1)).unwrap());
    drop(pins.learn_ticket(ticket, None, Member(2)).unwrap());
    keeper.turn();
    drop(keeper);
    let (_, fresh) = kept(&path);
    let found = |ticket: Option<&[u8]>, id: &SessionId| {
        let found = fresh.groups[0].recognise(ticket, id, None, |_| Eligibility::Takes);
        found.map(|recognised| recognised.member)
    };
    assert_eq!(found(None, &id), Some(Member(1)));
    assert_eq!(found(Some(ticket), &none), Some(Member(2)));
    assert_eq!(found(Some(b"another"), &none), None);
}

#[test]
fn states_are_kept_and_forgotten_when_they_are_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("affinity");
    let table = snapshot(&Secret::from_bytes([7; 32]));
    let states = |snapshot: &Snapshot| -> Vec<AdminState> {
        snapshot.backends().map(|backend| backend.state()).collect()
    };
    let backends = &table.pools[0].backends;
    backends[0].set_state(AdminState::Maintain, None);
    let mut keeper = keeper(&path, &table);
    keeper.turn();
    backends[1].set_state(AdminState::Maintain, None);
    keeper.turn();
    backends[0].set_state(AdminState::Ready, None);
    keeper.turn();
    drop(keeper);
    assert_eq!(
        states(&kept(&path).1),
        [AdminState::Ready, AdminState::Maintain]
    );
}

#[test]
fn the_file_stays_bounded_however_much_changes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("affinity");
    let table = snapshot(&Secret::from_bytes([7; 32]));
    let mut keeper = keeper(&path, &table);
    let mut most = 0;
    for round in 0..400 {
        for client in 0..500 {
            visit(&table.groups[0], client + round);
        }
        keeper.turn();
        most = most.max(std::fs::metadata(&path).unwrap().len());
    }
    // 400 times 500 pins of 26 bytes would be 5 MB; a megabyte of changes is what the file may have.
    assert!(most < 1_200_000, "{most}");
}
