//! The admin listener over real sockets, with a fake control that has a fixed status.

mod bounds;
mod client;
mod crowds;
pub(crate) mod fake;
mod over_the_wire;
mod pins;

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use lyncpin::admin::{Access, ENDPOINTS, EndpointSet, RequestLimits};
use lyncpin::types::backend_state::AdminState;

use fake::{Fake, Running, token};
pub(crate) use fake::{events, reloaded, status};
use over_the_wire::{Response, send, send_with};

/// A body of `PUT /api/v1/affinity`.
const MOVE: &str = r#"{"action":"move","backend":"fe01","to":"fe02"}"#;

const LOOPBACK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn open_endpoints_respond_without_the_token() {
    let running = Running::start(
        Fake::new(),
        Some(token("s3cret")),
        EndpointSet::All,
        RequestLimits::default(),
    );
    let at = running.tcp();
    assert_eq!(send(at, "GET", "/healthz").status, 200);
    assert_eq!(send(at, "GET", "/readyz").status, 200);
    let metrics = send(at, "GET", "/metrics");
    assert_eq!(metrics.status, 200);
    assert_eq!(
        metrics.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    assert!(
        metrics.body.contains("\nprocess_open_fds "),
        "{}",
        metrics.body
    );
}

#[test]
fn guarded_endpoints_require_the_token() {
    let running = Running::start(
        Fake::new(),
        Some(token("s3cret")),
        EndpointSet::All,
        RequestLimits::default(),
    );
    let at = running.tcp();
    for endpoint in ENDPOINTS {
        let path = endpoint
            .path
            .replace("{pool}", "web")
            .replace("{backend}", "fe01");
        let response = send(at, endpoint.method, &path);
        if endpoint.access == Access::Open {
            assert_eq!(response.status, 200, "{path}");
            continue;
        }
        assert_eq!(response.status, 401, "{path}");
        assert_eq!(
            response.header("www-authenticate"),
            Some("Bearer realm=\"lyncpin\"")
        );
        assert!(response.error().contains("Bearer"));
    }
    let wrong = [("Authorization", "Bearer s3creT")];
    assert_eq!(
        send_with(at, "GET", "/api/v1/status", &wrong, "").status,
        401
    );
    let right = [("Authorization", "Bearer s3cret")];
    assert_eq!(
        send_with(at, "GET", "/api/v1/status", &right, "").status,
        200
    );
    assert_eq!(running.control.changes(), []);
    assert_eq!(running.control.recorded_calls(), []);
}

#[test]
fn every_endpoint_responds() {
    let running = Running::plain();
    for endpoint in ENDPOINTS {
        let path = endpoint
            .path
            .replace("{pool}", "web")
            .replace("{backend}", "fe01");
        let path = path.replace("explain", "explain?listener=https&source=192.0.2.1");
        let path = path.replace("affinity/client", "affinity/client?client=192.0.2.1");
        let (path, body) = match (endpoint.method, &*path) {
            ("DELETE", path) => (format!("{path}?all=true"), ""),
            ("PUT", "/api/v1/affinity") => (path, MOVE),
            _ => (path, "{\"state\":\"ready\"}"),
        };
        let response = send_with(running.tcp(), endpoint.method, &path, &[], body);
        assert_eq!(response.status, 200, "{path}: {}", response.body);
    }
}

#[test]
fn other_methods_get_the_list_of_allowed_ones() {
    let running = Running::plain();
    let check = |method, path, allow| {
        let response = send(running.tcp(), method, path);
        assert_eq!(response.status, 405, "{method} {path}");
        assert_eq!(response.header("allow"), Some(allow));
        assert!(!response.error().is_empty());
    };
    check("POST", "/metrics", "GET, HEAD");
    check("DELETE", "/", "GET, HEAD");
    check("PUT", "/api/v1/status", "GET, HEAD");
    check("POST", "/api/v1/events", "GET, HEAD");
    check("GET", "/api/v1/pools/web/backends/fe01/state", "PUT");
    check("GET", "/api/v1/reload", "POST");
    check("POST", "/api/v1/affinity", "GET, HEAD, PUT, DELETE");
    check("DELETE", "/api/v1/affinity/client", "GET, HEAD");
}

#[test]
fn unknown_paths_are_not_found() {
    let running = Running::plain();
    for path in [
        "/api",
        "/api/v2/status",
        "/metrics/",
        "//metrics",
        "/api/v1/pools/web/backends/fe01",
        "/favicon.ico",
    ] {
        let response = send(running.tcp(), "GET", path);
        assert_eq!(response.status, 404, "{path}");
        assert_eq!(response.error(), "there is no such path");
    }
    assert_eq!(send(running.tcp(), "GET", "/%zz").status, 400);
}

#[test]
fn head_gets_no_body() {
    let running = Running::plain();
    let response = send(running.tcp(), "HEAD", "/api/v1/status");
    assert_eq!(response.status, 200);
    assert_eq!(response.body, "");
}

#[test]
fn readyz_fails_without_a_listener_and_during_a_stop() {
    let mut fake = Fake::new();
    fake.can_serve = false;
    let running = Running::start(fake, None, EndpointSet::All, RequestLimits::default());
    let response = send(running.tcp(), "GET", "/readyz");
    assert_eq!(
        (response.status, response.error().as_str()),
        (503, "no listener can serve")
    );

    let mut fake = Fake::new();
    fake.stopping = true;
    let running = Running::start(fake, None, EndpointSet::All, RequestLimits::default());
    let response = send(running.tcp(), "GET", "/readyz");
    assert_eq!(
        (response.status, response.error().as_str()),
        (503, "the balancer is stopping")
    );
    assert_eq!(send(running.tcp(), "GET", "/healthz").status, 200);
}

#[test]
fn a_metrics_listener_has_the_open_endpoints_only() {
    let running = Running::start(
        Fake::new(),
        None,
        EndpointSet::Probes,
        RequestLimits::default(),
    );
    for endpoint in ENDPOINTS {
        let response = send(running.tcp(), endpoint.method, endpoint.path);
        let expected = if endpoint.access == Access::Open {
            200
        } else {
            404
        };
        assert_eq!(response.status, expected, "{}", endpoint.path);
    }
}

#[test]
fn a_foreign_host_is_rejected_on_every_path() {
    let running = Running::plain();
    for path in ["/metrics", "/api/v1/status", "/nothing"] {
        let response = send_with(running.tcp(), "GET", path, &[("Host", "evil.example")], "");
        assert_eq!(
            (response.status, response.error().as_str()),
            (403, "unknown host; to allow it, add it to `admin.hosts`")
        );
    }
    let response = send_with(
        running.tcp(),
        "GET",
        "/metrics",
        &[("Host", "localhost")],
        "",
    );
    assert_eq!(response.status, 200);
    let response = over_the_wire::raw(
        running.tcp(),
        b"GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(response.status, 400);
}

#[test]
fn a_page_of_another_site_cannot_change_a_state() {
    let running = Running::plain();
    let path = "/api/v1/pools/web/backends/fe01/state";
    let body = "{\"state\":\"maintain\"}";
    for header in [
        ("Origin", "http://evil.example"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Origin", "null"),
    ] {
        let response = send_with(running.tcp(), "PUT", path, &[header], body);
        assert_eq!(response.status, 403, "{header:?}");
    }
    assert_eq!(running.control.changes(), []);
    let own = format!("http://{}", running.tcp());
    assert_eq!(
        send_with(running.tcp(), "PUT", path, &[("Origin", &own)], body).status,
        200
    );
}

#[test]
fn a_state_is_set_as_requested() {
    let running = Running::plain();
    let put = |path: &str, body: &str| send_with(running.tcp(), "PUT", path, &[], body);
    let path = "/api/v1/pools/web/backends/fe01/state";
    let response = put(path, r#"{"state":"drain","deadline":"15m"}"#);
    assert_eq!(response.status, 200, "{}", response.body);
    assert_eq!(response.json()["state"], "drain");
    assert_eq!(
        put(path, r#"{"state":"ready"}"#).json()["deadline"],
        serde_json::Value::Null
    );
    let expected = [
        (
            "web".to_owned(),
            "fe01".to_owned(),
            AdminState::Drain,
            Some(Duration::from_secs(900)),
        ),
        ("web".to_owned(), "fe01".to_owned(), AdminState::Ready, None),
    ];
    assert_eq!(running.control.changes(), expected);
}

#[test]
fn an_invalid_change_is_rejected_with_an_error() {
    let running = Running::plain();
    let put = |path: &str, body: &str| send_with(running.tcp(), "PUT", path, &[], body);
    let path = "/api/v1/pools/web/backends/fe01/state";
    for body in [
        "",
        "{}",
        "[]",
        "\"drain\"",
        r#"{"state":"gone"}"#,
        r#"{"state":"drain","deadline":"soon"}"#,
        r#"{"state":"drain","deadline":900}"#,
        r#"{"state":"ready","deadline":"15m"}"#,
        r#"{"state":"ready","until":"15m"}"#,
        "\u{0}\u{1b}[2J",
    ] {
        let response = put(path, body);
        assert_eq!(response.status, 400, "{body}");
        assert!(!response.error().is_empty() && !response.error().contains(char::is_control));
    }
    let response = put(
        "/api/v1/pools/w%2Fb/backends/fe01/state",
        r#"{"state":"ready"}"#,
    );
    assert_eq!(
        (response.status, response.error().as_str()),
        (404, "there is no pool \"w/b\"")
    );
    let response = put(
        "/api/v1/pools/web/backends/fe9/state",
        r#"{"state":"ready"}"#,
    );
    assert_eq!(
        (response.status, response.error().as_str()),
        (404, "pool \"web\" has no backend \"fe9\"")
    );
    assert_eq!(running.control.changes(), []);
}

#[test]
fn explain_requires_its_parameters_and_passes_them_on() {
    let running = Running::plain();
    let get = |query: &str| send(running.tcp(), "GET", &format!("/api/v1/explain?{query}"));
    let response = get("listener=https&name=meet.contoso.com&source=::ffff:192.0.2.7").json();
    assert_eq!(response["listener"], "https");
    assert_eq!(response["name"], "meet.contoso.com");
    assert_eq!(response["source"], "192.0.2.7");
    assert!(get("listener=https&name=&source=192.0.2.7").json()["name"].is_null());
    for (query, status) in [
        ("", 400),
        ("listener=https", 400),
        ("source=192.0.2.7", 400),
        ("listener=https&source=somewhere", 400),
        ("listener=https&source=192.0.2.7&sni=x", 400),
        ("listener=https&listener=http&source=192.0.2.7", 400),
        ("listener=smtp&source=192.0.2.7", 404),
    ] {
        let response = get(query);
        assert_eq!(response.status, status, "{query}");
        assert!(!response.error().is_empty());
    }
}

#[test]
fn the_page_is_one_document_with_a_strict_policy() {
    let running = Running::plain();
    let page = send(running.tcp(), "GET", "/");
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'sha256-"),
        "{policy}"
    );
    assert!(policy.contains("connect-src 'self'") && !policy.contains("unsafe"));
    assert!(policy.contains("require-trusted-types-for 'script'"));
    assert_eq!(page.header("x-frame-options"), Some("DENY"));
    assert!(!page.body.contains("fe01") && !page.body.contains("0.1.0"));
}

#[test]
fn without_the_token_a_browser_gets_the_page_and_a_program_an_error() {
    let running = Running::start(
        Fake::new(),
        Some(token("s3cret")),
        EndpointSet::All,
        RequestLimits::default(),
    );
    let at = running.tcp();
    let browser = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8");
    let page = send_with(at, "GET", "/", &[browser], "");
    assert_eq!(page.status, 401);
    assert_eq!(
        page.header("www-authenticate"),
        Some("Bearer realm=\"lyncpin\"")
    );
    let right = [("Authorization", "Bearer s3cret")];
    assert_eq!(page.body, send_with(at, "GET", "/", &right, "").body);
    assert!(send(at, "GET", "/").error().contains("Bearer"));
    // Other paths return the error.
    let other = send_with(at, "GET", "/api/v1/status", &[browser], "");
    assert!(other.status == 401 && other.error().contains("Bearer"));
}

#[test]
fn events_are_returned_unchanged() {
    let running = Running::plain();
    let response = send(running.tcp(), "GET", "/api/v1/events").json();
    assert_eq!(response, serde_json::to_value(events()).unwrap());
}

#[test]
fn promtool_accepts_every_metric() {
    let running = Running::plain();
    let metrics: Response = send(running.tcp(), "GET", "/metrics");
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is required (Debian package prometheus)");
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(metrics.body.as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.is_empty(),
        "{text}\n{}",
        metrics.body
    );
}
