//! The status and the events as the admin listener shows them.
//!
//! Owns the conversion of live state to views. Knows no HTTP. Invariant: a view changes nothing.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::Administration;
use crate::admin::Control as _;
use crate::admin::view::{self, EventsView, StatusView};
use crate::config::model::{Protocol, RouteConfig, Target};
use crate::health;
use crate::server::explain::why_health;
use crate::snapshot::{ActiveListener, Snapshot};
use crate::telemetry::log::RejectedConnection;
use crate::telemetry::metrics::definitions;
use crate::types::timestamp::{Timestamp, pluralized};
use crate::upstream::backend::{Backend, CheckReport, Damped};
use crate::upstream::pool::Pool;

pub(super) fn status(server: &Administration) -> StatusView {
    let proxy = &server.state.proxy;
    let snapshot = proxy.snapshot.load();
    let limits = &snapshot.config.limits;
    StatusView {
        version: env!("CARGO_PKG_VERSION").into(),
        started: Timestamp(server.started),
        now: Timestamp(SystemTime::now()),
        stopping: server.is_stopping(),
        ready: server.can_serve() && !server.is_stopping(),
        workers: u32::try_from(server.workers).unwrap_or(u32::MAX),
        connections: proxy.limits.connections().into(),
        limits: view::LimitsView {
            connections: Some(proxy.limits.max_connections().into()),
            per_source: limits.per_source.map(u64::from),
            new_per_source_per_second: limits.new_per_source_per_second.map(u64::from),
        },
        listeners: snapshot
            .listeners
            .iter()
            .map(|listener| listener_view(server, &snapshot, listener))
            .collect(),
        pools: snapshot
            .pools
            .iter()
            .map(|pool| pool_view(server, pool))
            .collect(),
        affinity: snapshot
            .groups
            .iter()
            .map(|pins| view::AffinityTable {
                group: pins.group().to_string(),
                entries: pins.len() as u64,
                max_entries: pins.settings().max_entries as u64,
            })
            .collect(),
        predecessors: server.state.predecessors.view(),
    }
}

/// The last changes of health and rejected connections, the newest first.
pub(super) fn events(server: &Administration) -> EventsView {
    let health = server.health_events.all();
    let rejections = server.state.proxy.log.rejections().all();
    EventsView {
        health: health.into_iter().rev().map(health_event).collect(),
        refusals: rejections.into_iter().rev().map(rejection).collect(),
    }
}

fn listener_view(
    server: &Administration,
    snapshot: &Snapshot,
    listener: &ActiveListener,
) -> view::ListenerView {
    let config = &listener.config;
    let name_of = |target: Target| {
        target
            .pool()
            .map(|id| snapshot.config.pool(id).name.to_string())
    };
    let route = |route: &RouteConfig| view::RouteView {
        names: route.names.iter().map(ToString::to_string).collect(),
        pool: snapshot.config.pool(route.pool).name.to_string(),
    };
    view::ListenerView {
        name: config.name.to_string(),
        bind: server.state.sockets.bound(&config.bind),
        protocol: config.protocol.as_str().into(),
        open: !server.is_stopping()
            && server
                .state
                .proxy
                .registry
                .gauge_value(&definitions::LISTENER_OPEN, &[&config.name])
                > 0.0,
        connections: listener.connections(),
        routes: config.routes.iter().map(route).collect(),
        no_name: name_of(config.no_name).filter(|_| config.protocol != Protocol::Tcp),
        unknown_name: name_of(config.unknown_name).filter(|_| config.protocol != Protocol::Tcp),
        pool: config
            .pool
            .map(|id| snapshot.config.pool(id).name.to_string()),
    }
}

fn pool_view(server: &Administration, pool: &Pool) -> view::PoolView {
    view::PoolView {
        name: pool.name.to_string(),
        balance: pool.balance.as_str().into(),
        affinity_group: pool
            .affinity
            .as_ref()
            .map(|affinity| affinity.pins.group().to_string()),
        backup: pool.backup.as_ref().map(|backup| backup.name.to_string()),
        can_serve: pool.can_serve(),
        backends: pool
            .backends
            .iter()
            .map(|backend| backend_view(server, pool, backend))
            .collect(),
    }
}

fn backend_view(server: &Administration, pool: &Pool, backend: &Arc<Backend>) -> view::BackendView {
    let changed = backend.last_health_change();
    let damped = backend.damped();
    let checks = backend.checks();
    let moved = |direction| {
        let path = |path| {
            server.state.proxy.registry.counter_value(
                &definitions::BYTES,
                &[&pool.name, &backend.name, direction, path],
            )
        };
        path("copied") + path("spliced")
    };
    view::BackendView {
        name: backend.name.to_string(),
        configured: backend.configured().address.to_string(),
        address: backend.address(),
        weight: backend.weight(),
        effective_weight: pool.effective_weight(backend),
        state: backend.state(),
        deadline: backend
            .deadline()
            .map(|deadline| Timestamp(deadline.wall_time)),
        drain_seconds_left: backend
            .deadline()
            .map(|deadline| seconds_until(deadline.at)),
        health: backend.health(),
        since: Timestamp(changed.at),
        why: damped.map_or_else(|| why_health(backend, &checks), damped_reason),
        damped_until: damped.map(|damped| Timestamp(damped.until.wall_time)),
        connections: backend.in_flight().into(),
        max_connections: backend.max_connections().map(u64::from),
        bytes_to_backend: moved("to_backend"),
        bytes_to_client: moved("to_client"),
        pins: pool.pin_count(backend).map(|pins| pins as u64),
        checks: checks.into_iter().map(check_view).collect(),
    }
}

fn health_event(event: health::HealthChangeEvent) -> view::HealthEvent {
    view::HealthEvent {
        at: Timestamp(event.at),
        pool: event.pool.to_string(),
        backend: event.backend.to_string(),
        health: event.health,
        why: event.why,
    }
}

fn rejection(rejected: RejectedConnection) -> view::RejectionView {
    view::RejectionView {
        at: Timestamp(rejected.at),
        listener: rejected.listener.into(),
        client: rejected.client,
        name: rejected.name,
        outcome: rejected.outcome.as_str().into(),
        detail: rejected.detail,
    }
}

fn seconds_until(at: Instant) -> f64 {
    at.saturating_duration_since(Instant::now()).as_secs_f64()
}

/// Why a backend is damped, as of now.
fn damped_reason(damped: Damped) -> String {
    let left = seconds_until(damped.until.at).ceil();
    let falls = pluralized(damped.falls.into(), "fall");
    format!("damped: checks pass, held out of rotation for {left} s more after {falls}")
}

fn check_view(report: CheckReport) -> view::CheckView {
    view::CheckView {
        label: report.label.to_string(),
        decides: report.decides,
        passing: report.passing,
        counts: report.counts,
        against: report.against.into(),
        needed: report.needed.into(),
        detail: report.detail,
        since: Timestamp(report.since),
        at: Timestamp(report.at),
        took_seconds: report.took.as_secs_f64(),
        certificate_expiry: report.certificate_expiry.map(Timestamp),
    }
}
