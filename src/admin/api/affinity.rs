//! The endpoints of pins.
//!
//! Owns their parameters and bodies, and the size of a page. Must not know tables ([`Control`]). Invariant: a request
//! without a filter changes every pin only with `all=true`.

use std::sync::Arc;

use hyper::StatusCode;
use ipnet::IpNet;

use super::error::ApiError;
use super::request::{ApiRequest, address, not_empty};
use crate::admin::response::{ApiResponse, json};
use crate::admin::view::{
    AffinityChange, ClientQuery, PinAssignment, PinFilter, PinsChanged, WithPredecessors,
};
use crate::admin::{AdminSite, Caller, Control, ForwardedChange, forwarded_change, parse_client};

/// Pins on a page, unless the request has a limit.
const PAGE_SIZE: usize = 100;

/// The most pins on a page.
const MAX_PAGE_SIZE: usize = 10_000;

pub(super) async fn list(request: ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
    let keys = [
        "group", "client", "name", "pool", "backend", "limit", "cursor",
    ];
    let [group, client, name, pool, backend, limit, cursor] = request.parameters(keys)?;
    let filter = filter([group, client, name, pool, backend])?;
    let limit = limit.map_or(Ok(PAGE_SIZE), |text| match text.parse() {
        Ok(limit @ 1..=MAX_PAGE_SIZE) => Ok(limit),
        Ok(_) | Err(_) => Err(ApiError::bad_request(format!(
            "the limit {text:?} is not a number from 1 to {MAX_PAGE_SIZE}"
        ))),
    })?;
    let page = request.control().pins(&filter, cursor.as_deref(), limit)?;
    Ok(json(StatusCode::OK, &page))
}

pub(super) async fn show(request: ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
    let [group, client, name] = request.parameters(["group", "client", "name"])?;
    let query = ClientQuery {
        client: address("client", client)?,
        group: not_empty("group", group)?,
        name: not_empty("name", name)?,
    };
    let pins = on_blocking_thread(request.site, move |control| control.client_pins(&query));
    Ok(json(StatusCode::OK, &pins.await??))
}

pub(super) async fn change(mut request: ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
    let site = request.site;
    match request.body().await? {
        AffinityChange::Pin {
            group,
            client,
            name,
            backend,
        } => {
            let order = PinAssignment {
                client: network(client)?,
                group: not_empty("group", group)?,
                name: not_empty("name", name)?,
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
            move_pins(site, filter, to).await
        }
    }
}

async fn move_pins(
    site: &AdminSite,
    filter: PinFilter,
    to: String,
) -> Result<ApiResponse, ApiError> {
    if filter.is_empty() {
        return Err(ApiError::bad_request(
            "a move requires a filter: group, client, name, pool or backend",
        ));
    }
    let forwarded = ForwardedChange::Move {
        filter: filter.clone(),
        to: to.clone(),
    };
    let moved = on_blocking_thread(site, move |control| control.move_pins(&filter, &to)).await?;
    Ok(with_predecessors(site, moved?, forwarded).await)
}

pub(super) async fn clear(request: ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
    let keys = ["group", "client", "name", "pool", "backend", "all"];
    let [group, client, name, pool, backend, all] = request.parameters(keys)?;
    let filter = filter([group, client, name, pool, backend])?;
    match (all.as_deref(), filter.is_empty()) {
        (Some("true"), true) | (None, false) => {}
        (Some("true"), false) => {
            let error = "`all=true` cannot be combined with a filter";
            return Err(ApiError::bad_request(error));
        }
        (Some(other), _) => {
            let error = format!("invalid value {other:?} for `all`; the only value is \"true\"");
            return Err(ApiError::bad_request(error));
        }
        (None, true) => {
            return Err(ApiError::bad_request(
                "missing filter: group, client, name, pool or backend, or `all=true` for every pin",
            ));
        }
    }
    let forwarded = ForwardedChange::Clear {
        filter: filter.clone(),
    };
    let site = request.site;
    let cleared = on_blocking_thread(site, move |control| control.clear_pins(&filter)).await?;
    Ok(with_predecessors(site, cleared?, forwarded).await)
}

/// Forwards a change to the draining predecessors. The response has the result here and theirs.
async fn with_predecessors(
    site: &AdminSite,
    mut done: PinsChanged,
    forwarded: ForwardedChange,
) -> ApiResponse {
    let predecessors = site.control.forward(forwarded).await;
    forwarded_change::add(&mut done, &predecessors);
    json(
        StatusCode::OK,
        &WithPredecessors {
            result: done,
            predecessors,
        },
    )
}

/// Runs what takes a while on a thread of its own, so that it does not delay health checks and deadlines.
async fn on_blocking_thread<T: Send + 'static>(
    site: &AdminSite,
    work: impl FnOnce(&dyn Control) -> T + Send + 'static,
) -> Result<T, ApiError> {
    let control = Arc::clone(&site.control);
    let caller = Caller::current();
    let done = tokio::task::spawn_blocking(move || caller.scope_blocking(|| work(&*control))).await;
    // The runtime is shutting down, or the work panicked; the panic is in the log.
    done.map_err(|_| {
        ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the operation did not complete",
        )
    })
}

/// A filter of group, client, name, pool and backend.
fn filter(values: [Option<String>; 5]) -> Result<PinFilter, ApiError> {
    let [group, client, name, pool, backend] = values;
    Ok(PinFilter {
        client: network(client)?,
        group: not_empty("group", group)?,
        name: not_empty("name", name)?,
        pool: not_empty("pool", pool)?,
        backend: not_empty("backend", backend)?,
    })
}

fn network(text: Option<String>) -> Result<Option<IpNet>, ApiError> {
    let parse = |text: String| {
        parse_client(&text).map_err(|error| ApiError::bad_request(format!("the client {error}")))
    };
    not_empty("client", text)?.map(parse).transpose()
}
