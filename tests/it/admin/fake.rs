//! A fake control with one pool, and its admin listener.

pub(crate) mod pins;

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use lyncpin::admin::view::{
    AffinityTable, BackendView, CheckView, ClientPins, ClientQuery, EventsView, ExplainQuery,
    Explanation, HealthEvent, HeldBackend, LimitsView, ListenerView, PinAssignment, PinFilter,
    PinPage, PinResult, PinsChanged, PoolView, PredecessorView, RejectionView, Reloaded, RouteView,
    StateChanged, StatusView, Upgraded,
};
use lyncpin::admin::{
    self, AccessPolicy, AdminSite, AffinityError, Control, EndpointSet, ExplainError, ReloadError,
    ReloadFuture, RequestLimits, RequestedState, SetStateError, Token, UpgradeError, UpgradeFuture,
};
use lyncpin::config::model::AdminBind;
use lyncpin::telemetry::metrics::Registry;
use lyncpin::telemetry::metrics::definitions::{ALL, SeriesKind};
use lyncpin::types::backend_state::{AdminState, Health};
use lyncpin::types::timestamp::Timestamp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use pins::RecordedCall;

type Change = (String, String, AdminState, Option<Duration>);

pub(crate) struct Fake {
    pub(crate) can_serve: bool,
    pub(crate) stopping: bool,
    status: StatusView,
    pub(crate) reload: Result<Reloaded, ReloadError>,
    pub(crate) upgrade: Result<Upgraded, UpgradeError>,
    changes: Mutex<Vec<Change>>,
    recorded: Mutex<Vec<RecordedCall>>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self {
            can_serve: true,
            stopping: false,
            status: status(),
            reload: Ok(reloaded()),
            upgrade: Ok(upgraded()),
            changes: Mutex::default(),
            recorded: Mutex::default(),
        }
    }

    pub(crate) fn with(status: StatusView) -> Self {
        Self {
            status,
            ..Self::new()
        }
    }

    pub(crate) fn changes(&self) -> Vec<Change> {
        self.changes.lock().unwrap().clone()
    }

    /// The calls about pins since the last call.
    pub(crate) fn recorded_calls(&self) -> Vec<RecordedCall> {
        std::mem::take(&mut *self.recorded.lock().unwrap())
    }

    fn record(&self, call: RecordedCall) {
        self.recorded.lock().unwrap().push(call);
    }
}

impl Control for Fake {
    fn status(&self) -> StatusView {
        self.status.clone()
    }

    fn events(&self) -> EventsView {
        events()
    }

    fn explain(&self, query: &ExplainQuery) -> Result<Explanation, ExplainError> {
        if query.listener != "https" {
            return Err(ExplainError::UnknownListener(
                query.listener.as_str().into(),
            ));
        }
        Ok(Explanation {
            listener: query.listener.clone(),
            name: query.name.clone(),
            source: query.source,
            route: Some("*.contoso.com".into()),
            pool: Some("web".into()),
            backend: Some("fe01".into()),
            address: None,
            pick: Some("pinned".into()),
            refused: None,
            pin: Some(pins::pin(7)),
            steps: vec!["the name matches `*.contoso.com`".into()],
        })
    }

    fn set_state(
        &self,
        pool: Option<&str>,
        backend: &str,
        wanted: &RequestedState,
    ) -> Result<Vec<StateChanged>, SetStateError> {
        let named = pool;
        let pool = pool.unwrap_or("web");
        if pool != "web" {
            return Err(SetStateError::UnknownPool(pool.into()));
        }
        if backend != "fe01" {
            return Err(SetStateError::UnknownBackend {
                pool: named.map(Into::into),
                backend: backend.into(),
            });
        }
        let &RequestedState {
            state, deadline, ..
        } = wanted;
        self.changes
            .lock()
            .unwrap()
            .push((pool.into(), backend.into(), state, deadline));
        Ok(vec![StateChanged {
            pool: pool.into(),
            backend: backend.into(),
            before: AdminState::Ready,
            state,
            deadline: deadline.map(|_| Timestamp(SystemTime::UNIX_EPOCH)),
            connections: 3,
        }])
    }

    fn pins(
        &self,
        filter: &PinFilter,
        cursor: Option<&str>,
        most: usize,
    ) -> Result<PinPage, AffinityError> {
        self.record(RecordedCall::Page(
            filter.clone(),
            cursor.map(Into::into),
            most,
        ));
        pins::page(filter, cursor, most)
    }

    fn client_pins(&self, query: &ClientQuery) -> Result<ClientPins, AffinityError> {
        self.record(RecordedCall::Client(query.clone()));
        pins::client(query)
    }

    fn pin(&self, order: &PinAssignment) -> Result<PinResult, AffinityError> {
        self.record(RecordedCall::Pin(order.clone()));
        pins::pinned(order)
    }

    fn move_pins(&self, filter: &PinFilter, to: &str) -> Result<PinsChanged, AffinityError> {
        self.record(RecordedCall::Move(filter.clone(), to.into()));
        pins::touched(filter)
    }

    fn clear_pins(&self, filter: &PinFilter) -> Result<PinsChanged, AffinityError> {
        self.record(RecordedCall::Clear(filter.clone()));
        pins::touched(filter)
    }

    fn reload(&self) -> ReloadFuture {
        Box::pin(std::future::ready(self.reload.clone()))
    }

    fn upgrade(&self) -> UpgradeFuture {
        Box::pin(std::future::ready(self.upgrade.clone()))
    }

    fn can_serve(&self) -> bool {
        self.can_serve
    }

    fn is_stopping(&self) -> bool {
        self.stopping
    }

    fn metrics(&self) -> String {
        let registry = Registry::default();
        for definition in ALL {
            let values = vec!["a \"b\\\n"; definition.labels.len()];
            match definition.kind {
                SeriesKind::Counter => registry.counter(definition, &values).increment(1),
                SeriesKind::Gauge => registry.gauge(definition, &values).set(1.5),
                SeriesKind::Histogram(_) => registry.histogram(definition, &values).record(0.3),
            }
        }
        registry.render()
    }
}

/// An upgrade that succeeded.
pub(crate) fn upgraded() -> Upgraded {
    Upgraded {
        at: Timestamp(SystemTime::UNIX_EPOCH),
        pid: 4711,
        connections: 3,
        drain_seconds: 900.0,
    }
}

/// Two events in which every field has a value, most of them malicious.
pub(crate) fn events() -> EventsView {
    let at = Timestamp(SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_433_367_042));
    EventsView {
        health: vec![HealthEvent {
            at,
            pool: "web".into(),
            backend: "fe01".into(),
            health: Health::Down,
            why: "<img src=x onerror=\"document.title='pwned'\">".into(),
        }],
        refusals: vec![RejectionView {
            at,
            listener: "https".into(),
            client: "192.0.2.7:50123".into(),
            name: Some("</td><script>document.title='pwned'</script>\u{202e}".into()),
            outcome: "unknown_name".into(),
            detail: Some("&lt;b&gt;<b>bold</b>".into()),
        }],
    }
}

/// A reload with a warning.
pub(crate) fn reloaded() -> Reloaded {
    Reloaded {
        at: Timestamp(SystemTime::UNIX_EPOCH),
        changes: vec!["listener \"https\" is new".into()],
        warnings: vec!["workers stays at 4".into()],
    }
}

/// A status in which every field has a value, some of them malicious.
pub(crate) fn status() -> StatusView {
    let time = Timestamp(SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_433_367_042));
    StatusView {
        version: "0.1.0".into(),
        started: time,
        now: Timestamp(time.0 + Duration::from_secs(7_262)),
        stopping: false,
        ready: true,
        workers: 4,
        connections: 3,
        limits: LimitsView {
            connections: Some(1000),
            per_source: None,
            new_per_source_per_second: Some(10),
        },
        listeners: vec![ListenerView {
            name: "https".into(),
            bind: vec!["0.0.0.0:443".parse().unwrap(), "[::]:443".parse().unwrap()],
            protocol: "tls".into(),
            open: true,
            connections: 3,
            routes: vec![RouteView {
                names: vec!["*.contoso.com".into()],
                pool: "web".into(),
            }],
            no_name: Some("web".into()),
            unknown_name: None,
            pool: None,
        }],
        pools: vec![PoolView {
            name: "web".into(),
            balance: "least_connections".into(),
            affinity_group: Some("web".into()),
            backup: Some("paired".into()),
            can_serve: true,
            backends: vec![BackendView {
                name: "fe01".into(),
                configured: "fe01.contoso.local:4443".into(),
                address: Some("10.0.0.11:4443".parse().unwrap()),
                weight: 1,
                effective_weight: 0.0,
                state: AdminState::Drain,
                deadline: Some(Timestamp(time.0 + Duration::from_secs(8_000))),
                drain_seconds_left: Some(738.0),
                health: Health::Down,
                since: time,
                why: "<script>alert(1)</script>\u{1b}[2J".into(),
                damped_until: Some(time),
                connections: 3,
                max_connections: Some(500),
                bytes_to_backend: 1536,
                bytes_to_client: 7 << 30,
                pins: Some(2),
                checks: vec![CheckView {
                    label: "tcp:5061".into(),
                    decides: true,
                    passing: Some(false),
                    counts: Some(false),
                    against: 0,
                    needed: 2,
                    detail: "connection refused".into(),
                    since: time,
                    at: time,
                    took_seconds: 0.002,
                    certificate_expiry: Some(time),
                }],
            }],
        }],
        affinity: vec![AffinityTable {
            group: "web".into(),
            entries: 2,
            max_entries: 1_000_000,
        }],
        predecessors: vec![PredecessorView {
            pid: 4_711,
            since: time,
            answers: false,
            connections: 2,
            until: Some(time),
            backends: vec![HeldBackend {
                pool: "web".into(),
                backend: "fe01".into(),
                connections: 2,
            }],
        }],
    }
}

pub(crate) fn token(text: &str) -> Token {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    std::fs::write(&path, text).unwrap();
    Token::read(&path).unwrap()
}

/// An admin listener on its own thread until it is dropped.
pub(crate) struct Running {
    pub(crate) at: AdminBind,
    pub(crate) control: Arc<Fake>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn plain() -> Self {
        Self::start(
            Fake::new(),
            None,
            EndpointSet::All,
            RequestLimits::default(),
        )
    }

    pub(crate) fn start(
        fake: Fake,
        token: Option<Token>,
        served: EndpointSet,
        bounds: RequestLimits,
    ) -> Self {
        Self::at(
            &AdminBind::Tcp(super::LOOPBACK),
            fake,
            token,
            served,
            bounds,
        )
    }

    pub(crate) fn at(
        bind: &AdminBind,
        fake: Fake,
        token: Option<Token>,
        served: EndpointSet,
        bounds: RequestLimits,
    ) -> Self {
        let listener = admin::AdminListener::bind(bind).unwrap();
        let at = listener.address().clone();
        let control = Arc::new(fake);
        let stop = CancellationToken::new();
        let site = AdminSite {
            rendered: admin::RenderedMetrics::default(),
            control: control.clone(),
            access: AccessPolicy::new(token, served, Vec::new()),
            limits: bounds,
            closed: stop.child_token(),
        };
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || {
                super::runtime().block_on(async {
                    let tasks = TaskTracker::new();
                    admin::serve(listener, site, &tasks, stop).await.unwrap();
                    tasks.close();
                    tasks.wait().await;
                });
            }
        });
        Self {
            at,
            control,
            stop,
            thread: Some(thread),
        }
    }

    pub(crate) fn tcp(&self) -> std::net::SocketAddr {
        match &self.at {
            AdminBind::Tcp(address) => *address,
            AdminBind::Unix(path) => panic!("{} is not an IP address", path.display()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}
