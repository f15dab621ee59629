//! The resources of UCWA applications, with the long poll.
//!
//! Owns their paths and documents. Must not know connections. Invariant: a poll ends within [`POLL_MAX`] seconds.

use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde_json::json;

use super::applications::{ApplicationId, Applications, Polled};
use super::http::{WebResponse, discard, json_response, parameter, status};

/// The default and the maximum time of a poll, in seconds (UCWA, "Event channel details").
const POLL_DEFAULT: u64 = 180;
const POLL_MAX: u64 = 1800;

pub(super) const APPLICATIONS: &str = "/ucwa/oauth/v1/applications";

pub(super) async fn create_application(applications: &Applications, body: Incoming) -> WebResponse {
    if !discard(body).await {
        return status(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let id = applications.create();
    json_response(StatusCode::CREATED, &application_document(id))
}

fn application_document(id: ApplicationId) -> serde_json::Value {
    json!({
        "rel": "application",
        "_links": {
            "self": { "href": format!("{APPLICATIONS}/{id}") },
            "events": { "href": format!("{APPLICATIONS}/{id}/events?ack=1") },
        },
        "_embedded": { "me": { "_links": {
            "reportMyActivity": { "href": format!("{APPLICATIONS}/{id}/me/reportMyActivity") },
        }}},
    })
}

/// The resources of an application; any action of its user sends it an event.
pub(super) async fn application(
    applications: &Applications,
    rest: &str,
    request: &Request<Incoming>,
) -> WebResponse {
    let (id, resource) = rest.split_once('/').unwrap_or((rest, ""));
    let known = id.parse().ok().filter(|id| applications.knows(*id));
    let Some(id) = known else {
        return status(StatusCode::NOT_FOUND);
    };
    match (request.method().as_str(), resource) {
        ("GET", "") => json_response(StatusCode::OK, &application_document(id)),
        ("DELETE", "") if applications.remove(id) => status(StatusCode::NO_CONTENT),
        ("GET", "events") => events(applications, id, request).await,
        ("POST", "me/reportmyactivity") if applications.send_event(id) => {
            status(StatusCode::NO_CONTENT)
        }
        _ => status(StatusCode::NOT_FOUND),
    }
}

/// The long poll. `ack=N` acknowledges the events before the Nth.
async fn events(
    applications: &Applications,
    id: ApplicationId,
    request: &Request<Incoming>,
) -> WebResponse {
    let number = |name| parameter(request, name).map(str::parse::<u64>).transpose();
    let (Ok(ack), Ok(seconds)) = (number("ack"), number("timeout")) else {
        return status(StatusCode::BAD_REQUEST);
    };
    let time_limit = Duration::from_secs(seconds.unwrap_or(POLL_DEFAULT).clamp(1, POLL_MAX));
    let seen = ack.map(|ack| ack.saturating_sub(1));
    let address = format!("{APPLICATIONS}/{id}/events");
    let document = match applications.poll(id, seen, time_limit).await {
        Polled::Unknown => return status(StatusCode::NOT_FOUND),
        Polled::Nothing => {
            let next = ack.map_or_else(String::new, |ack| format!("?ack={ack}"));
            json!({ "_links": { "next": { "href": address + &next } }, "sender": [] })
        }
        Polled::Event(count) => json!({
            "_links": { "next": { "href": format!("{address}?ack={}", count.saturating_add(1)) } },
            "sender": [{ "rel": "me", "href": format!("{APPLICATIONS}/{id}/me"), "events": [{
                "type": "updated", "link": { "rel": "me", "href": format!("{APPLICATIONS}/{id}/me") },
            }]}],
        }),
    };
    json_response(StatusCode::OK, &document)
}
