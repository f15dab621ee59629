//! The control interface of the admin listener.
//!
//! Owns the changes that an administrator may make, and which of them wait for an upgrade. Knows no HTTP. Invariant: a
//! change during an upgrade either reaches the new process or is rejected.

pub(super) mod states;
mod status;

use std::sync::{Arc, RwLockReadGuard};
use std::time::SystemTime;

use super::affinity;
use super::explain::{explain, unknown_listener};
use super::requests::{RequestOrigin, SupervisorHandle};
use super::shared::SharedState;
use crate::admin::view::{
    ClientPins, ClientQuery, EventsView, ExplainQuery, Explanation, PinAssignment, PinFilter,
    PinPage, PinResult, PinsChanged, StateChanged, StatusView,
};
use crate::admin::{
    AffinityError, Caller, Control, ExplainError, ForwardFuture, ForwardedChange, ReloadFuture,
    RequestedState, SetStateError, UpgradeFuture,
};
use crate::health::HealthEvents;
use crate::telemetry::metrics::definitions;

/// The running balancer as the admin listener controls it.
pub(super) struct Administration {
    pub(super) state: Arc<SharedState>,
    pub(super) supervisor: SupervisorHandle,
    /// The number of worker threads.
    pub(super) workers: usize,
    pub(super) started: SystemTime,
    pub(super) health_events: HealthEvents,
}

impl Control for Administration {
    fn status(&self) -> StatusView {
        status::status(self)
    }

    fn events(&self) -> EventsView {
        status::events(self)
    }

    fn explain(&self, query: &ExplainQuery) -> Result<Explanation, ExplainError> {
        let snapshot = self.state.proxy.snapshot.load();
        let listener = snapshot
            .listener(&query.listener)
            .ok_or_else(|| unknown_listener(&snapshot, query))?;
        Ok(explain(listener, query, self.is_stopping()))
    }

    fn set_state(
        &self,
        pool: Option<&str>,
        backend: &str,
        wanted: &RequestedState,
    ) -> Result<Vec<StateChanged>, SetStateError> {
        if self.supervisor.progress().is_handing_over() {
            return Err(SetStateError::UpgradeInProgress);
        }
        states::set(&self.state.proxy.snapshot.load(), pool, backend, wanted)
    }

    fn pins(
        &self,
        filter: &PinFilter,
        cursor: Option<&str>,
        most: usize,
    ) -> Result<PinPage, AffinityError> {
        affinity::page(&self.state.proxy.snapshot.load(), filter, cursor, most)
    }

    fn client_pins(&self, query: &ClientQuery) -> Result<ClientPins, AffinityError> {
        affinity::client_pins(&self.state.proxy.snapshot.load(), query)
    }

    fn pin(&self, order: &PinAssignment) -> Result<PinResult, AffinityError> {
        let _change = self.begin_pin_change()?;
        affinity::pin(&self.state.proxy.snapshot.load(), order)
    }

    fn move_pins(&self, filter: &PinFilter, to: &str) -> Result<PinsChanged, AffinityError> {
        let _change = self.begin_pin_change()?;
        let snapshot = self.state.proxy.snapshot.load_full();
        affinity::move_pins(&snapshot, &self.state.availability, filter, to)
    }

    fn clear_pins(&self, filter: &PinFilter) -> Result<PinsChanged, AffinityError> {
        let _change = self.begin_pin_change()?;
        affinity::clear_pins(&self.state.proxy.snapshot.load_full(), filter)
    }

    fn forward(&self, order: ForwardedChange) -> ForwardFuture {
        let order = match order {
            ForwardedChange::Move { filter, to } => {
                affinity::resolved(&self.state.proxy.snapshot.load(), filter, to)
            }
            ForwardedChange::State { .. } | ForwardedChange::Clear { .. } => order,
        };
        Box::pin(
            self.state
                .predecessors
                .clone()
                .order(order, Caller::current()),
        )
    }

    fn reload(&self) -> ReloadFuture {
        let supervisor = self.supervisor.clone();
        let by = RequestOrigin::Api(Caller::current());
        Box::pin(async move { supervisor.reload(by).await })
    }

    fn upgrade(&self) -> UpgradeFuture {
        let supervisor = self.supervisor.clone();
        let by = RequestOrigin::Api(Caller::current());
        Box::pin(async move { supervisor.upgrade(by).await })
    }

    fn can_serve(&self) -> bool {
        self.state
            .proxy
            .snapshot
            .load()
            .listeners
            .iter()
            .any(|listener| listener.is_ready())
    }

    fn is_stopping(&self) -> bool {
        self.state.proxy.stop.is_cancelled()
    }

    fn metrics(&self) -> String {
        for pins in &self.state.proxy.snapshot.load().groups {
            pins.update_metrics();
        }
        let registry = &self.state.proxy.registry;
        registry
            .gauge(&definitions::CONNECTIONS_LIMIT, &[])
            .set(f64::from(self.state.proxy.limits.max_connections()));
        self.state.predecessors.set_metrics(registry);
        registry.render()
    }
}

impl Administration {
    /// Permits a change of pins while the guard is held; an error during an upgrade, when the new process might not
    /// receive the change.
    fn begin_pin_change(&self) -> Result<RwLockReadGuard<'_, ()>, AffinityError> {
        let change = self.supervisor.progress().begin_pin_change();
        change.ok_or(AffinityError::UpgradeInProgress)
    }
}
