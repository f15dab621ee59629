//! The page at `/`: what the balancer is and where its status is, until there is more to it.
//!
//! Invariant: whatever stands in the configuration or came from a server is text on the page, never markup; the page
//! loads and runs nothing.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderValue, X_FRAME_OPTIONS};
use hyper::{Response, StatusCode};

use super::api::typed;
use super::view::{Backend, Status};

pub(super) fn page(status: &Status) -> Response<Full<Bytes>> {
    let mut answer = typed(StatusCode::OK, "text/html; charset=utf-8", html(status));
    let headers = answer.headers_mut();
    let policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    answer
}

fn html(status: &Status) -> String {
    let mut rows = String::new();
    for pool in &status.pools {
        for backend in &pool.backends {
            let address = backend.address.map(|address| address.to_string());
            let cells = [
                &pool.name,
                &backend.name,
                address.as_ref().unwrap_or(&backend.configured),
                &state(backend),
                backend.health.as_str(),
                &backend.why,
                &backend.connections.to_string(),
                &backend.pins.map_or("-".to_owned(), |pins| pins.to_string()),
            ];
            let cells: String = cells
                .map(|cell| format!("<td>{}</td>", escape(cell)))
                .concat();
            rows += &format!("<tr>{cells}</tr>\n");
        }
    }
    let ready = if status.ready { "ready" } else { "not ready" };
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>lyncpin</title>\n\
         <style>body{{font-family:sans-serif;margin:2em}}td,th{{padding:.2em 1em .2em 0;text-align:left}}</style>\n\
         <h1>lyncpin {version}</h1>\n<p>{ready}, {connections} connections. All there is to know: \
         <a href=\"/api/v1/status\">/api/v1/status</a>, <a href=\"/metrics\">/metrics</a>.</p>\n\
         <table>\n<tr><th>pool<th>backend<th>address<th>state<th>health<th>why<th>connections<th>pins</tr>\n{rows}</table>\n",
        version = escape(&status.version),
        connections = status.connections,
    )
}

/// With what is left of a drain.
fn state(backend: &Backend) -> String {
    let word = backend.state.as_str();
    match backend.drain_seconds_left {
        Some(left) if left > 0.0 => format!("{word}, {left:.0} s left"),
        Some(_) => format!("{word}, over"),
        None => word.to_owned(),
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_text() {
        assert_eq!(escape("<a b='\"'>&"), "&lt;a b=&#39;&quot;&#39;&gt;&amp;");
    }
}
