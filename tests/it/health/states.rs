//! The effect of check results and DNS answers on backends and their connections.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lyncpin::config::model::{self, CheckKind, OnDown};
use lyncpin::health::{Monitor, Resolver};
use lyncpin::types::backend_state::{AdminState, Health};
use lyncpin::upstream::backend::{Backend, Disconnect};
use tokio::net::TcpListener;

use super::servers::{Server, respond};
use super::watch::{
    Fixture, INTERVAL, becomes, eventually, health, loopback, passing, pool, request,
};
use crate::support::nginx::ReservedPort;

fn http() -> CheckKind {
    CheckKind::Http(request())
}

fn health_events(monitor: &Monitor) -> Vec<Health> {
    monitor.events().iter().map(|event| event.health).collect()
}

#[tokio::test]
async fn rise_and_fall_count_consecutive_results() {
    use Health::{Down, Unknown, Up};
    let script = [
        (200, Unknown),
        (503, Up),
        (503, Up),
        (200, Up),
        (503, Up),
        (503, Up),
        (503, Up),
        (200, Down),
        (503, Down),
        (200, Down),
        (200, Down),
        (200, Up),
    ];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let fixture = Fixture::new();
    let address = listener.local_addr().unwrap().to_string();
    let backend = fixture.backend("web", "fe01", &address);
    // The health of the backend at each request.
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (watched, before) = (backend.clone(), seen.clone());
    let _server = Server::on(listener, move |stream| {
        let mut before = before.lock().unwrap();
        let (status, _) = script.get(before.len()).unwrap_or(&(200, Up));
        before.push(watched.health());
        respond(stream, *status)
    });
    let checks = model::HealthSettings {
        rise: 2,
        fall: 3,
        ..health([http()])
    };
    let monitor = fixture.watch(vec![pool(&[&backend], Some(checks))]);
    eventually("the whole script", || {
        seen.lock().unwrap().len() >= script.len()
    })
    .await;
    let expected = script.map(|(_, health)| health);
    assert_eq!(seen.lock().unwrap()[..script.len()], expected);
    assert_eq!(health_events(&monitor), [Up, Down, Up]);
    let down = &monitor.events()[1];
    assert_eq!(down.why, "http0: status 503, expected 200");
    assert_eq!((&*down.pool, &*down.backend), ("web", "fe01"));
}

#[tokio::test]
async fn every_deciding_check_must_pass_and_an_observed_check_does_not_change_health() {
    let sip = ReservedPort::new();
    let status = Arc::new(AtomicU16::new(503));
    let server = Server::http(&status).await;
    let fixture = Fixture::new();
    let backend = fixture.backend("web", "fe01", &server.address.to_string());
    let mut checks = health([CheckKind::Tcp, CheckKind::Tcp, http()]);
    checks.checks[1].port = Some(5061);
    checks.checks[2].decides = false;
    let mut configured = model::BackendConfig::clone(&backend.configured());
    configured.check_ports.insert(5061, sip.address.port());
    let backend = Arc::new(Backend::new(
        backend.pool.clone(),
        configured,
        None,
        backend.metrics.clone(),
        fixture.availability.clone(),
    ));
    let _monitor = fixture.watch(vec![pool(&[&backend], Some(checks))]);
    becomes(&backend, Health::Down).await;
    assert_eq!(backend.last_health_change().why, "tcp1: connection refused");
    let listening = TcpListener::bind(sip.address).await.unwrap();
    becomes(&backend, Health::Up).await;
    eventually("the observed check", || passing(&backend, 2) == Some(false)).await;
    assert_eq!(backend.checks()[2].detail, "status 503, expected 200");
    assert_eq!(backend.health(), Health::Up);
    drop(listening);
    becomes(&backend, Health::Down).await;
}

#[tokio::test]
async fn identical_checks_of_one_server_run_once() {
    let status = Arc::new(AtomicU16::new(200));
    let server = Server::http(&status).await;
    let fixture = Fixture::new();
    let address = server.address.to_string();
    let names = ["web", "web80", "web8080"];
    let backends = names.map(|name| fixture.backend(name, "fe01", &address));
    let pools = backends
        .iter()
        .map(|backend| pool(&[backend], Some(health([http()]))));
    let _monitor = fixture.watch(pools.collect());
    eventually("twenty results", || fixture.counted("web") >= 20).await;
    let counted = names.map(|name| fixture.counted(name));
    let accepted = u64::try_from(server.accepted()).unwrap();
    assert_eq!(counted, [counted[0]; 3]);
    assert!(
        (counted[0]..=counted[0] + 1).contains(&accepted),
        "{accepted} connections for {counted:?} results"
    );
    status.store(503, Ordering::SeqCst);
    for backend in &backends {
        becomes(backend, Health::Down).await;
    }
}

#[tokio::test]
async fn a_backend_with_health_none_is_up_once_its_address_is_known() {
    let fixture = Fixture::new();
    let backend = fixture.backend("web", "fe01", "192.0.2.1:4443");
    let _monitor = fixture.watch(vec![pool(&[&backend], None)]);
    becomes(&backend, Health::Up).await;
    assert_eq!(backend.address(), Some("192.0.2.1:4443".parse().unwrap()));
}

/// DNS names and their addresses. A test may change them.
type Names = Arc<Mutex<HashMap<&'static str, Vec<IpAddr>>>>;

fn resolver(names: &Names) -> Resolver {
    let names = names.clone();
    Resolver::custom(INTERVAL, move |name| {
        let names = names.lock().unwrap();
        let answer = names.get(name.as_str()).cloned();
        answer.ok_or_else(|| std::io::Error::other("no such host"))
    })
}

#[tokio::test]
async fn a_backend_with_an_unresolved_name_is_down_until_it_resolves() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let fixture = Fixture::new();
    let names = Names::default();
    let checked = fixture.backend("web", "fe01", &format!("fe01.contoso.test:{port}"));
    let unchecked = fixture.backend("raw", "fe01", &format!("fe01.contoso.test:{port}"));
    let pools = vec![
        pool(&[&checked], Some(health([CheckKind::Tcp]))),
        pool(&[&unchecked], None),
    ];
    let monitor = fixture.watch_with(pools, resolver(&names));
    for backend in [&checked, &unchecked] {
        becomes(backend, Health::Down).await;
        assert_eq!(
            backend.last_health_change().why,
            "its name does not resolve: no such host"
        );
        assert_eq!(backend.address(), None);
    }
    names
        .lock()
        .unwrap()
        .insert("fe01.contoso.test", vec![loopback(1)]);
    for backend in [&checked, &unchecked] {
        becomes(backend, Health::Up).await;
        assert_eq!(backend.address(), Some(listener.local_addr().unwrap()));
    }
    assert_eq!(monitor.events().len(), 4);
}

#[tokio::test]
async fn rotated_dns_records_keep_the_address_and_a_changed_record_restarts_the_checks() {
    let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = first.local_addr().unwrap().port();
    let fixture = Fixture::new();
    let names = Names::default();
    let set_addresses = |addresses: &[u8]| {
        let addresses = addresses.iter().map(|last| loopback(*last)).collect();
        names.lock().unwrap().insert("fe01.contoso.test", addresses);
    };
    set_addresses(&[1]);
    let backend = fixture.backend("web", "fe01", &format!("fe01.contoso.test:{port}"));
    let checks = model::HealthSettings {
        fall: 1000,
        ..health([CheckKind::Tcp])
    };
    let pools = vec![pool(&[&backend], Some(checks))];
    let _monitor = fixture.watch_with(pools, resolver(&names));
    becomes(&backend, Health::Up).await;

    let results = || fixture.counted("web");
    set_addresses(&[3, 1]);
    let before = results();
    eventually("several results", || results() > before + 4).await;
    assert_eq!(backend.address(), Some(first.local_addr().unwrap()));

    // A failed refresh keeps the last address.
    names.lock().unwrap().clear();
    let before = results();
    eventually("several results", || results() > before + 4).await;
    assert_eq!(backend.address(), Some(first.local_addr().unwrap()));
    assert_eq!(backend.health(), Health::Up);
    assert_eq!(backend.resolve_error().as_deref(), Some("no such host"));

    // Nothing listens at 127.0.0.3. With a `fall` of 1000, the backend is down only if its checks restart.
    set_addresses(&[3]);
    becomes(&backend, Health::Down).await;
    assert_eq!(backend.address().unwrap().ip(), loopback(3));
    assert_eq!(backend.resolve_error(), None);
}

/// Two backends of one pool that are up, the status of their responses, their servers and the monitor.
async fn two_backends(
    fixture: &Fixture,
    on_down: OnDown,
) -> ([Arc<Backend>; 2], [Arc<AtomicU16>; 2], [Server; 2], Monitor) {
    let statuses = [200, 200].map(|status| Arc::new(AtomicU16::new(status)));
    let servers = [
        Server::http(&statuses[0]).await,
        Server::http(&statuses[1]).await,
    ];
    let backends = ["fe01", "fe02"].into_iter().zip(&servers);
    let backends: Vec<_> = backends
        .map(|(name, server)| fixture.backend("web", name, &server.address.to_string()))
        .collect();
    let backends: [Arc<Backend>; 2] = backends.try_into().unwrap();
    let mut watched = pool(&[&backends[0], &backends[1]], Some(health([http()])));
    watched.on_down = on_down;
    let monitor = fixture.watch(vec![watched]);
    for backend in &backends {
        becomes(backend, Health::Up).await;
    }
    (backends, statuses, servers, monitor)
}

#[tokio::test]
async fn connections_of_a_down_backend_are_closed_only_while_another_backend_is_available() {
    let fixture = Fixture::new();
    let (backends, statuses, _servers, _monitor) = two_backends(&fixture, OnDown::Close).await;
    let permits = [0, 1].map(|index| backends[index].try_acquire().unwrap());
    statuses[0].store(503, Ordering::SeqCst);
    becomes(&backends[0], Health::Down).await;
    eventually("the disconnect", || {
        permits[0].disconnect_reason().is_some()
    })
    .await;
    assert_eq!(permits[0].disconnect_reason(), Some(Disconnect::Down));
    statuses[1].store(503, Ordering::SeqCst);
    becomes(&backends[1], Health::Down).await;
    // They stay open because no other backend is available, and remain open when one becomes available.
    statuses[0].store(200, Ordering::SeqCst);
    becomes(&backends[0], Health::Up).await;
    let before = fixture.counted("web");
    eventually("several results", || fixture.counted("web") > before + 4).await;
    assert_eq!(permits[1].disconnect_reason(), None);
}

#[tokio::test]
async fn on_down_keep_leaves_connections_open() {
    let fixture = Fixture::new();
    let (backends, statuses, _servers, _monitor) = two_backends(&fixture, OnDown::Keep).await;
    let permit = backends[0].try_acquire().unwrap();
    statuses[0].store(503, Ordering::SeqCst);
    becomes(&backends[0], Health::Down).await;
    let before = fixture.counted("web");
    eventually("several results", || fixture.counted("web") > before + 4).await;
    assert_eq!(permit.disconnect_reason(), None);
}

#[tokio::test]
async fn results_during_maintenance_are_reported_and_take_effect_when_it_ends() {
    let fixture = Fixture::new();
    let (backends, statuses, _servers, monitor) = two_backends(&fixture, OnDown::Close).await;
    let backend = &backends[0];
    backend.set_state(AdminState::Maintain, None);
    let permit = backend.try_acquire().unwrap();
    statuses[0].store(503, Ordering::SeqCst);
    eventually("a failing check", || passing(backend, 0) == Some(false)).await;
    assert_eq!(backend.health(), Health::Up);
    assert_eq!(health_events(&monitor).len(), 2);
    assert_eq!(permit.disconnect_reason(), None);
    backend.set_state(AdminState::Ready, None);
    becomes(backend, Health::Down).await;
    // The other way round: the backend is up at once, regardless of `rise`.
    backend.set_state(AdminState::Maintain, None);
    statuses[0].store(200, Ordering::SeqCst);
    eventually("a passing check", || passing(backend, 0) == Some(true)).await;
    assert_eq!(backend.health(), Health::Down);
    backend.set_state(AdminState::Ready, None);
    becomes(backend, Health::Up).await;
}

#[tokio::test]
async fn an_update_keeps_unchanged_checks_and_stops_removed_ones() {
    let fixture = Fixture::new();
    let (backends, statuses, servers, monitor) = two_backends(&fixture, OnDown::Close).await;
    let kept = &backends[0];
    let since = kept.last_health_change().at;
    let slow = model::HealthSettings {
        fall: 2,
        ..health([http(), CheckKind::Tcp])
    };
    monitor.update(vec![pool(&[kept], Some(slow))]);
    eventually("the new check", || kept.checks().len() == 2).await;
    let accepted = servers[1].accepted();
    let before = fixture.counted("web");
    eventually("several results", || fixture.counted("web") > before + 10).await;
    assert!(
        servers[1].accepted() <= accepted + 1,
        "at most one check was in progress"
    );
    assert_eq!(
        kept.last_health_change().at,
        since,
        "health was not evaluated again"
    );
    statuses[0].store(503, Ordering::SeqCst);
    becomes(kept, Health::Down).await;

    // A backend that added a running check gets the last result at once.
    let added = fixture.backend("web80", "fe01", &servers[0].address.to_string());
    monitor.update(vec![
        pool(&[kept], Some(health([http()]))),
        pool(&[&added], Some(health([http()]))),
    ]);
    becomes(&added, Health::Down).await;
    assert_eq!(
        kept.checks().len(),
        1,
        "reports of removed checks are removed"
    );
    assert_eq!(kept.health(), Health::Down);
}

#[tokio::test]
async fn stop_cancels_running_checks() {
    let server = Server::silent().await;
    let fixture = Fixture::new();
    let backend = fixture.backend("web", "fe01", &server.address.to_string());
    let slow = model::HealthSettings {
        timeout: Duration::from_secs(3600),
        interval: Duration::from_secs(3600),
        ..health([http()])
    };
    let monitor = fixture.watch(vec![pool(&[&backend], Some(slow))]);
    eventually("a running check", || server.accepted() == 1).await;
    tokio::time::timeout(Duration::from_secs(10), monitor.stop())
        .await
        .expect("running checks end within 10 s");
}
