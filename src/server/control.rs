//! What the admin listener asks of the running balancer.
//!
//! Owns the way from live state to what is shown, and the changes that an administrator may make. Knows no HTTP.
//! Invariant: showing changes nothing.

use std::sync::{Arc, RwLockReadGuard};
use std::time::{Duration, Instant, SystemTime};

use crate::admin::view::{
    self, ClientPins, ClientQuery, ExplainQuery, Explanation, PinFilter, PinOrder, PinPage,
    PinResult, PinsChanged, StateChanged, StatusView,
};
use crate::admin::{
    AffinityError, Caller, Control, ExplainError, Forwarding, LastBackend, Order, Reloading,
    SetStateError, Upgrading, WantedState,
};
use crate::config::model::{Protocol, Target};
use crate::health;
use crate::proxy::acceptor::ProxyContext;
use crate::snapshot::{ActiveListener, Snapshot};
use crate::telemetry::log::RejectedConnection;
use crate::telemetry::metrics::definitions;
use crate::types::backend_state::AdminState;
use crate::types::timestamp::{Timestamp, counted};
use crate::upstream::backend::{Availability, Backend, CheckReport, Damped};
use crate::upstream::pool::Pool;

use super::affinity;
use super::explain::{explain, unknown_listener, why_health};
use super::predecessors::Predecessors;
use super::requests::{Reloads, RequestOrigin};
use super::sockets::Sockets;
use super::states;

/// The running balancer as its administrator sees it.
pub(super) struct Administration {
    pub(super) shared: Arc<ProxyContext>,
    pub(super) availability: Arc<Availability>,
    pub(super) sockets: Arc<Sockets>,
    pub(super) reloads: Reloads,
    pub(super) workers: usize,
    pub(super) started: SystemTime,
    pub(super) ups_and_downs: health::HealthEvents,
    pub(super) predecessors: Predecessors,
}

impl Control for Administration {
    fn status(&self) -> StatusView {
        let snapshot = self.shared.snapshot.load();
        let limits = &snapshot.config.limits;
        StatusView {
            version: env!("CARGO_PKG_VERSION").into(),
            started: Timestamp(self.started),
            now: Timestamp(SystemTime::now()),
            stopping: self.stopping(),
            ready: self.can_serve() && !self.stopping(),
            workers: u32::try_from(self.workers).unwrap_or(u32::MAX),
            connections: self.shared.limits.connections().into(),
            limits: view::LimitsView {
                connections: Some(self.shared.limits.most().into()),
                per_source: limits.per_source.map(u64::from),
                new_per_source_per_second: limits.new_per_source_per_second.map(u64::from),
            },
            listeners: snapshot
                .listeners
                .iter()
                .map(|listener| self.listener(&snapshot, listener))
                .collect(),
            pools: snapshot.pools.iter().map(|pool| self.pool(pool)).collect(),
            affinity: snapshot
                .groups
                .iter()
                .map(|pins| view::AffinityTable {
                    group: pins.group().to_string(),
                    entries: pins.len() as u64,
                    max_entries: pins.settings().max_entries as u64,
                })
                .collect(),
            predecessors: self.predecessors.view(),
        }
    }

    fn events(&self) -> view::EventsView {
        let health = self.ups_and_downs.all();
        let refusals = self.shared.log.refusals().all();
        view::EventsView {
            health: health.into_iter().rev().map(up_or_down).collect(),
            refusals: refusals.into_iter().rev().map(refusal).collect(),
        }
    }

    fn explain(&self, query: &ExplainQuery) -> Result<Explanation, ExplainError> {
        let snapshot = self.shared.snapshot.load();
        let listener = snapshot
            .listener(&query.listener)
            .ok_or_else(|| unknown_listener(&snapshot, query))?;
        Ok(explain(listener, query, self.stopping()))
    }

    fn set_state(
        &self,
        pool: Option<&str>,
        backend: &str,
        wanted: &WantedState,
    ) -> Result<Vec<StateChanged>, SetStateError> {
        if self.reloads.progress().hands_over() {
            return Err(SetStateError::HandingOver);
        }
        states::set(&self.shared.snapshot.load(), pool, backend, wanted)
    }

    fn pins(
        &self,
        filter: &PinFilter,
        cursor: Option<&str>,
        most: usize,
    ) -> Result<PinPage, AffinityError> {
        affinity::page(&self.shared.snapshot.load(), filter, cursor, most)
    }

    fn client_pins(&self, query: &ClientQuery) -> Result<ClientPins, AffinityError> {
        affinity::client_pins(&self.shared.snapshot.load(), query)
    }

    fn pin(&self, order: &PinOrder) -> Result<PinResult, AffinityError> {
        let _changing = self.change_pins()?;
        affinity::pin(&self.shared.snapshot.load(), order)
    }

    fn move_pins(&self, filter: &PinFilter, to: &str) -> Result<PinsChanged, AffinityError> {
        let _changing = self.change_pins()?;
        let snapshot = self.shared.snapshot.load_full();
        affinity::move_pins(&snapshot, &self.availability, filter, to)
    }

    fn clear_pins(&self, filter: &PinFilter) -> Result<PinsChanged, AffinityError> {
        let _changing = self.change_pins()?;
        affinity::clear_pins(&self.shared.snapshot.load_full(), filter)
    }

    fn forward(&self, order: Order) -> Forwarding {
        let order = match order {
            Order::Move { filter, to } => {
                affinity::resolved(&self.shared.snapshot.load(), filter, to)
            }
            Order::State { .. } | Order::Clear { .. } => order,
        };
        Box::pin(self.predecessors.clone().order(order, Caller::current()))
    }

    fn reload(&self) -> Reloading {
        let reloads = self.reloads.clone();
        let by = RequestOrigin::Api(Caller::current());
        Box::pin(async move { reloads.ask(by).await })
    }

    fn upgrade(&self) -> Upgrading {
        let reloads = self.reloads.clone();
        let by = RequestOrigin::Api(Caller::current());
        Box::pin(async move { reloads.ask_upgrade(by).await })
    }

    fn can_serve(&self) -> bool {
        self.shared
            .snapshot
            .load()
            .listeners
            .iter()
            .any(|listener| listener.is_ready())
    }

    fn stopping(&self) -> bool {
        self.shared.stop.is_cancelled()
    }

    fn metrics(&self) -> String {
        for pins in &self.shared.snapshot.load().groups {
            pins.show();
        }
        let registry = &self.shared.registry;
        registry
            .gauge(&definitions::CONNECTIONS_LIMIT, &[])
            .set(f64::from(self.shared.limits.most()));
        self.predecessors.show(registry);
        registry.render()
    }
}

impl Administration {
    /// The right to change pins: while an upgrade runs, the new process might not hear of it.
    fn change_pins(&self) -> Result<RwLockReadGuard<'_, ()>, AffinityError> {
        let changing = self.reloads.progress().change_pins();
        changing.ok_or(AffinityError::Upgrading)
    }

    /// Sets a backend's state, also while another process serves.
    pub(super) fn change_state(
        &self,
        pool: &str,
        backend: &str,
        state: AdminState,
        deadline: Option<Duration>,
    ) -> Result<Vec<StateChanged>, SetStateError> {
        let wanted = WantedState {
            state,
            deadline,
            last: LastBackend::Takes,
        };
        states::set(&self.shared.snapshot.load(), Some(pool), backend, &wanted)
    }

    fn listener(&self, snapshot: &Snapshot, listener: &ActiveListener) -> view::ListenerView {
        let config = &listener.config;
        let name_of = |target: Target| {
            target
                .pool()
                .map(|id| snapshot.config.pool(id).name.to_string())
        };
        let route = |route: &crate::config::model::RouteConfig| view::RouteView {
            names: route.names.iter().map(ToString::to_string).collect(),
            pool: snapshot.config.pool(route.pool).name.to_string(),
        };
        view::ListenerView {
            name: config.name.to_string(),
            bind: self.sockets.bound(&config.bind),
            protocol: config.protocol.as_str().into(),
            open: !self.stopping()
                && self
                    .shared
                    .registry
                    .shown(&definitions::LISTENER_OPEN, &[&config.name])
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

    fn pool(&self, pool: &Pool) -> view::PoolView {
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
                .map(|backend| self.backend(pool, backend))
                .collect(),
        }
    }

    fn backend(&self, pool: &Pool, backend: &Arc<Backend>) -> view::BackendView {
        let changed = backend.changed();
        let damped = backend.damped();
        let checks = backend.checks();
        let moved = |direction| {
            let path = |path| {
                self.shared.registry.counted(
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
            deadline: backend.deadline().map(|deadline| Timestamp(deadline.shown)),
            drain_seconds_left: backend
                .deadline()
                .map(|deadline| seconds_until(deadline.at)),
            health: backend.health(),
            since: Timestamp(changed.at),
            why: damped.map_or_else(|| why_health(backend, &checks), kept_out),
            damped_until: damped.map(|damped| Timestamp(damped.until.shown)),
            connections: backend.in_flight().into(),
            max_connections: backend.max_connections().map(u64::from),
            bytes_to_backend: moved("to_backend"),
            bytes_to_client: moved("to_client"),
            pins: pool.pins_of(backend).map(|pins| pins as u64),
            checks: checks.into_iter().map(check).collect(),
        }
    }
}

fn up_or_down(event: health::HealthChangeEvent) -> view::HealthEvent {
    view::HealthEvent {
        at: Timestamp(event.at),
        pool: event.pool.to_string(),
        backend: event.backend.to_string(),
        health: event.health,
        why: event.why,
    }
}

fn refusal(refused: RejectedConnection) -> view::RejectionView {
    view::RejectionView {
        at: Timestamp(refused.at),
        listener: refused.listener.into(),
        client: refused.client,
        name: refused.name,
        outcome: refused.outcome.as_str().into(),
        detail: refused.detail,
    }
}

fn seconds_until(at: Instant) -> f64 {
    at.saturating_duration_since(Instant::now()).as_secs_f64()
}

/// Why a backend is kept out, in words that are true now.
fn kept_out(damped: Damped) -> String {
    let left = seconds_until(damped.until.at).ceil();
    let falls = counted(damped.falls.into(), "fall");
    format!("damped: passes its checks, kept out for {left} s more after {falls}")
}

fn check(report: CheckReport) -> view::CheckView {
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
