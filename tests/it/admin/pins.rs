//! The endpoints of pins: parameters, bounds, bodies and errors.

use lyncpin::admin::view::{ClientQuery, PinAssignment, PinFilter};
use serde_json::Value;

use super::fake::Running;
use super::fake::pins::RecordedCall;
use super::over_the_wire::{Response, send, send_with};

fn get(running: &Running, query: &str) -> Response {
    send(running.tcp(), "GET", &format!("/api/v1/affinity?{query}"))
}

fn put(running: &Running, body: &str) -> Response {
    send_with(running.tcp(), "PUT", "/api/v1/affinity", &[], body)
}

fn delete(running: &Running, query: &str) -> Response {
    send(
        running.tcp(),
        "DELETE",
        &format!("/api/v1/affinity?{query}"),
    )
}

fn by_client(client: &str) -> PinFilter {
    PinFilter {
        client: Some(client.parse().unwrap()),
        ..PinFilter::default()
    }
}

fn everything() -> PinFilter {
    PinFilter {
        group: Some("web".into()),
        client: Some("192.0.2.0/24".parse().unwrap()),
        name: Some("*.contoso.com".into()),
        pool: Some("web".into()),
        backend: Some("web/fe01".into()),
    }
}

#[test]
fn a_page_has_pins_and_a_cursor() {
    let running = Running::plain();
    let page = get(&running, "").json();
    assert_eq!(page["entries"].as_array().unwrap().len(), 3);
    assert_eq!(page["cursor"], "@4");
    let second = &page["entries"][1];
    assert_eq!(second["client"], "192.0.2.2/32");
    assert_eq!(second["name"], Value::Null);
    assert_eq!(second["expires_in_seconds"], 90);
    assert_eq!(page["entries"][0]["expires_in_seconds"], Value::Null);
    let last = get(&running, "cursor=%405&limit=10000").json();
    assert_eq!(last["cursor"], Value::Null);
    let asked = [
        RecordedCall::Page(PinFilter::default(), None, 100),
        RecordedCall::Page(PinFilter::default(), Some("@5".into()), 10_000),
    ];
    assert_eq!(running.control.recorded_calls(), asked);
}

#[test]
fn filters_are_passed_on_unchanged() {
    let running = Running::plain();
    let query = "group=web&client=192.0.2.7/24&name=%2A.contoso.com&pool=web&backend=web/fe01";
    assert_eq!(get(&running, query).status, 200);
    assert_eq!(delete(&running, query).status, 200);
    let body = r#"{"action":"move","group":"web","client":"192.0.2.7/24","name":"*.contoso.com","pool":"web","backend":"web/fe01","to":"fe02"}"#;
    assert_eq!(put(&running, body).status, 200);
    let asked = [
        RecordedCall::Page(everything(), None, 100),
        RecordedCall::Clear(everything()),
        RecordedCall::Move(everything(), "fe02".into()),
    ];
    assert_eq!(running.control.recorded_calls(), asked);
    get(&running, "client=::ffff:192.0.2.7");
    let asked = [RecordedCall::Page(by_client("192.0.2.7/32"), None, 100)];
    assert_eq!(running.control.recorded_calls(), asked);
}

#[test]
fn an_invalid_query_does_not_reach_the_control() {
    let running = Running::plain();
    for query in [
        "limit=0",
        "limit=10001",
        "limit=-1",
        "limit=many",
        "limit=",
        "client=phone7",
        "client=192.0.2.7:443",
        "client=",
        "name=",
        "backend=",
        "group=web&group=web",
        "source=192.0.2.7",
        "all=true",
        "client=%80",
    ] {
        let response = get(&running, query);
        assert_eq!(response.status, 400, "{query}");
        assert!(!response.error().is_empty());
    }
    assert_eq!(running.control.recorded_calls(), []);
}

#[test]
fn removing_every_pin_requires_all() {
    let running = Running::plain();
    for query in [
        "",
        "all=false",
        "all=",
        "all=1",
        "all=true&group=web",
        "client=",
        "client=&backend=fe01",
        "limit=10",
    ] {
        let response = delete(&running, query);
        assert_eq!(response.status, 400, "{query}");
        assert!(!response.error().is_empty());
    }
    let error = delete(&running, "").error();
    assert!(error.contains("all=true"), "{error}");
    assert_eq!(running.control.recorded_calls(), []);
    let response = delete(&running, "all=true").json();
    assert_eq!(
        (
            &response["pins"],
            &response["sessions"],
            &response["connections"]
        ),
        (&7.into(), &2.into(), &5.into())
    );
    assert_eq!(
        running.control.recorded_calls(),
        [RecordedCall::Clear(PinFilter::default())]
    );
}

#[test]
fn a_body_has_one_of_two_actions() {
    let running = Running::plain();
    let response = put(
        &running,
        r#"{"action":"pin","client":"192.0.2.7","name":"meet.contoso.com","backend":"fe01"}"#,
    );
    assert_eq!(response.status, 200, "{}", response.body);
    assert_eq!(response.json()["pins"][0]["before"], "fe02");
    let order = PinAssignment {
        group: None,
        client: Some("192.0.2.7/32".parse().unwrap()),
        name: Some("meet.contoso.com".into()),
        backend: "fe01".into(),
    };
    assert_eq!(running.control.recorded_calls(), [RecordedCall::Pin(order)]);
    for body in [
        "",
        "{}",
        r#"{"action":"clear","backend":"fe01"}"#,
        r#"{"client":"192.0.2.7","backend":"fe01"}"#,
        r#"{"action":"pin","client":"192.0.2.7"}"#,
        r#"{"action":"pin","client":"","backend":"fe01"}"#,
        r#"{"action":"pin","client":"phone7","backend":"fe01"}"#,
        r#"{"action":"pin","client":"192.0.2.7","backend":"fe01","to":"fe02"}"#,
        r#"{"action":"pin","client":"192.0.2.7","backend":"fe01","ttl":"20m"}"#,
        r#"{"action":"move","backend":"fe01"}"#,
        r#"{"action":"move","to":"fe02"}"#,
        r#"{"action":"move","backend":"","to":"fe02"}"#,
        r#"{"action":"move","client":7,"to":"fe02"}"#,
    ] {
        let response = put(&running, body);
        assert_eq!(response.status, 400, "{body}");
        assert!(!response.error().is_empty());
    }
    assert_eq!(running.control.recorded_calls(), []);
}

#[test]
fn the_pins_of_one_client_are_listed() {
    let running = Running::plain();
    let show = |query: &str| {
        let path = format!("/api/v1/affinity/client?{query}");
        send(running.tcp(), "GET", &path)
    };
    let shown = show("client=::ffff:192.0.2.7&name=meet.contoso.com&group=web").json();
    assert_eq!(shown["client"], "192.0.2.7");
    assert_eq!(shown["pins"][0]["pin"]["backend"], "fe01");
    assert_eq!(shown["pins"][0]["sessions"], 2);
    let query = ClientQuery {
        group: Some("web".into()),
        client: "192.0.2.7".parse().unwrap(),
        name: Some("meet.contoso.com".into()),
    };
    assert_eq!(
        running.control.recorded_calls(),
        [RecordedCall::Client(query)]
    );
    assert_eq!(
        show("client=198.51.100.1").json()["pins"],
        Value::Array(vec![])
    );
    for query in [
        "",
        "client=",
        "client=192.0.2.0/24",
        "client=192.0.2.7&pool=web",
    ] {
        assert_eq!(show(query).status, 400, "{query}");
    }
}

#[test]
fn errors_have_the_status_of_their_kind() {
    let running = Running::plain();
    let pin = |backend: &str, client: &str| {
        let body = format!(r#"{{"action":"pin",{client}"backend":"{backend}"}}"#);
        put(&running, &body)
    };
    let one = r#""client":"192.0.2.7","#;
    for (response, status, error) in [
        (
            get(&running, "group=smtp"),
            404,
            "there is no affinity group \"smtp\"",
        ),
        (
            get(&running, "name=a.fabrikam.com"),
            404,
            "no route for \"a.fabrikam.com\" points to a pool with affinity",
        ),
        (get(&running, "cursor=7"), 400, "invalid cursor \"7\""),
        (
            delete(&running, "pool=tcp"),
            409,
            "pool \"tcp\" has no affinity",
        ),
        (
            pin("fe9", one),
            404,
            "no pool with affinity has a backend \"fe9\"",
        ),
        (
            pin("fe01", ""),
            400,
            "group \"web\" pins by source; a client is required",
        ),
        (
            pin("full", one),
            409,
            "the affinity table of group \"web\" is full, and every pin is in use",
        ),
    ] {
        assert_eq!(
            (response.status, response.error().as_str()),
            (status, error)
        );
    }
}

#[test]
fn a_page_of_another_site_cannot_change_pins() {
    let running = Running::plain();
    let foreign = [("Origin", "http://evil.example")];
    let at = running.tcp();
    let path = "/api/v1/affinity";
    let moved = send_with(at, "PUT", path, &foreign, super::MOVE);
    let cleared = send_with(at, "DELETE", &format!("{path}?all=true"), &foreign, "");
    assert_eq!((moved.status, cleared.status), (403, 403));
    assert_eq!(running.control.recorded_calls(), []);
}
