//! The endpoints of pins.
//!
//! Owns their parameters and bodies, and the bounds of a page. Must not know tables ([`Control`]). Invariant: nothing
//! is forgotten or moved that no filter names, unless `all=true` says so.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::http::request::Parts;
use ipnet::IpNet;

use super::{ApiError, address, json, parameters};
use crate::admin::affinity::{AffinityError, AffinityErrorKind, client};
use crate::admin::response::ApiResponse;
use crate::admin::view::{AffinityChange, ClientQuery, PinFilter, PinOrder, PinsChanged, Reached};
use crate::admin::{AdminSite, Caller, Control, Order, order};

/// Pins on a page where none says how many.
const PAGE: usize = 100;

/// Pins that a page holds at most.
pub(in crate::admin) const MOST_ON_A_PAGE: usize = 10_000;

pub(super) fn list(control: &dyn Control, parts: &Parts) -> Result<ApiResponse, ApiError> {
    let keys = [
        "group", "client", "name", "pool", "backend", "limit", "cursor",
    ];
    let [group, client, name, pool, backend, limit, cursor] = parameters(parts, keys)?;
    let filter = filter([group, client, name, pool, backend])?;
    let most = limit.map_or(Ok(PAGE), |text| match text.parse() {
        Ok(limit @ 1..=MOST_ON_A_PAGE) => Ok(limit),
        Ok(_) | Err(_) => Err(ApiError::wrong(format!(
            "the limit {text:?} is no number from 1 to {MOST_ON_A_PAGE}"
        ))),
    })?;
    let page = control.pins(&filter, cursor.as_deref(), most)?;
    Ok(json(StatusCode::OK, &page))
}

pub(super) async fn show(site: &AdminSite, parts: &Parts) -> Result<ApiResponse, ApiError> {
    let [group, client, name] = parameters(parts, ["group", "client", "name"])?;
    let query = ClientQuery {
        client: address("client", client)?,
        group: said("group", group)?,
        name: said("name", name)?,
    };
    let shown = aside(site, move |control| control.client_pins(&query)).await?;
    Ok(json(StatusCode::OK, &shown?))
}

pub(super) async fn change(
    site: &AdminSite,
    change: AffinityChange,
) -> Result<ApiResponse, ApiError> {
    match change {
        AffinityChange::Pin {
            group,
            client,
            name,
            backend,
        } => {
            let order = PinOrder {
                client: network(client)?,
                group: said("group", group)?,
                name: said("name", name)?,
                backend,
            };
            Ok(json(StatusCode::OK, &site.control.pin(&order)?))
        }
        AffinityChange::Move {
            group,
            client,
            name,
            pool,
            backend,
            to,
        } => {
            let filter = filter([group, client, name, pool, backend])?;
            if filter.is_empty() {
                return Err(ApiError::wrong(
                    "a move wants to know of which pins: group, client, name, pool or backend",
                ));
            }
            let order = Order::Move {
                filter: filter.clone(),
                to: to.clone(),
            };
            let moved = aside(site, move |control| control.move_pins(&filter, &to)).await?;
            Ok(reached(site, moved?, order).await)
        }
    }
}

pub(super) async fn clear(site: &AdminSite, parts: &Parts) -> Result<ApiResponse, ApiError> {
    let keys = ["group", "client", "name", "pool", "backend", "all"];
    let [group, client, name, pool, backend, all] = parameters(parts, keys)?;
    let filter = filter([group, client, name, pool, backend])?;
    match (all.as_deref(), filter.is_empty()) {
        (Some("true"), true) | (None, false) => {}
        (Some("true"), false) => {
            return Err(ApiError::wrong("`all=true` goes with no filter"));
        }
        (Some(other), _) => {
            return Err(ApiError::wrong(format!(
                "`all` says {other:?}, and may say \"true\" alone"
            )));
        }
        (None, true) => {
            return Err(ApiError::wrong(
                "which pins are meant: group, client, name, pool or backend, or `all=true`",
            ));
        }
    }
    let order = Order::Clear {
        filter: filter.clone(),
    };
    let cleared = aside(site, move |control| control.clear_pins(&filter)).await?;
    Ok(reached(site, cleared?, order).await)
}

/// Has older processes do the same, and answers with both.
async fn reached(site: &AdminSite, mut done: PinsChanged, order: Order) -> ApiResponse {
    let predecessors = site.control.forward(order).await;
    order::add(&mut done, &predecessors);
    json(StatusCode::OK, &Reached { done, predecessors })
}

/// Does what takes a moment on a thread of its own, so that checks and deadlines are not kept waiting meanwhile.
async fn aside<T: Send + 'static>(
    site: &AdminSite,
    work: impl FnOnce(&dyn Control) -> T + Send + 'static,
) -> Result<T, ApiError> {
    let control = Arc::clone(&site.control);
    let caller = Caller::current();
    let done = tokio::task::spawn_blocking(move || caller.scope_here(|| work(&*control))).await;
    // The runtime ends, or the work panicked, which has been told.
    done.map_err(|_| {
        ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "it was not done to the end",
        )
    })
}

/// A filter of group, client, name, pool and backend.
fn filter(values: [Option<String>; 5]) -> Result<PinFilter, ApiError> {
    let [group, client, name, pool, backend] = values;
    Ok(PinFilter {
        client: network(client)?,
        group: said("group", group)?,
        name: said("name", name)?,
        pool: said("pool", pool)?,
        backend: said("backend", backend)?,
    })
}

fn network(text: Option<String>) -> Result<Option<IpNet>, ApiError> {
    let parse = |text: String| {
        client(&text).map_err(|error| ApiError::wrong(format!("the client {error}")))
    };
    said("client", text)?.map(parse).transpose()
}

/// An empty value is a mistake, such as a variable of a script that was never set, and never a filter that lets all
/// through.
fn said(key: &str, value: Option<String>) -> Result<Option<String>, ApiError> {
    match value {
        Some(value) if value.is_empty() => Err(ApiError::wrong(format!("the {key} is empty"))),
        value => Ok(value),
    }
}

impl From<AffinityError> for ApiError {
    fn from(error: AffinityError) -> Self {
        let status = match error.fault() {
            AffinityErrorKind::Wrong => StatusCode::BAD_REQUEST,
            AffinityErrorKind::Missing => StatusCode::NOT_FOUND,
            AffinityErrorKind::Impossible => StatusCode::CONFLICT,
        };
        Self::new(status, error.to_string())
    }
}
