//! Moving pins while connections start, in thousands of interleavings (`tests/threads`).

use super::*;
use crate::affinity::table::TableFilter;
use crate::affinity::table::tests::threads::in_many_orders;
use crate::upstream::backend::Disconnect;

/// A connection to the backend that its pin was moved away from is disconnected; one that starts afterwards is not.
#[test]
fn exactly_the_connections_of_a_moved_pin_are_disconnected() {
    in_many_orders(|| {
        let pins = pins();
        let pool = pool("https", &["fe01", "fe02"], &pins, None);
        let [fe01, fe02] = ["fe01", "fe02"].map(|name| pins.intern_member(name));
        let key = pins.key(client(1).source, client(1).name_id);
        pins.pin(key, fe01).unwrap();
        let (moved, mover) = (pins.clone(), pins.clone());
        let other = pins.key(client(2).source, client(2).name_id);
        let noise = shuttle::thread::spawn(move || {
            // Moves of other pins, between which the connection checks its own.
            moved.pin(other, fe01).unwrap();
            let only = TableFilter {
                clients: Some("192.0.2.2/32".parse().unwrap()),
                ..TableFilter::default()
            };
            moved.move_to(&only, fe02);
        });
        let come = shuttle::thread::spawn(move || {
            let pick = pool.pick(client(1), None).unwrap();
            let early = pick.disconnect_reason();
            pick.connected(None);
            let late = pick.disconnect_reason();
            (pool, pick, early.or(late))
        });
        let only = TableFilter {
            clients: Some("192.0.2.1/32".parse().unwrap()),
            ..TableFilter::default()
        };
        mover.move_to(&only, fe02);
        noise.join().unwrap();
        let (_pool, pick, moved) = come.join().unwrap();
        let is_recalled = moved.or_else(|| pick.disconnect_reason()).is_some();
        assert_eq!(is_recalled, *pick.backend().name == *"fe01");
        assert!(moved.is_none_or(|recall| recall == Disconnect::PinMoved));
        drop(pick);
        let view = pins.view(&key).unwrap();
        assert_eq!((view.member, view.in_use), (fe02, 0));
    });
}
