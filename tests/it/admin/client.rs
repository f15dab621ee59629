//! The client of the commands: the responses that it reads, and its errors.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use lyncpin::admin::client::{Client, ClientError};
use lyncpin::admin::view::{ExplainQuery, StateChange};
use lyncpin::admin::{EndpointSet, RequestLimits};
use lyncpin::config::model::AdminBind;
use lyncpin::types::backend_state::AdminState;

use super::fake::{Fake, Running, status, token};
use super::{LOOPBACK, runtime};

#[test]
fn a_unix_socket_serves_the_same_and_is_removed_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let bind = AdminBind::Unix(path.clone());
    let running = Running::at(
        &bind,
        Fake::new(),
        Some(token("s3cret")),
        EndpointSet::All,
        RequestLimits::default(),
    );
    let client = Client::new(&bind, Some(token("s3cret")));
    let seen = runtime().block_on(client.status()).unwrap();
    assert_eq!(seen, status());
    let anybody = Client::new(&bind, None);
    let refused = runtime().block_on(anybody.status()).unwrap_err();
    assert!(matches!(refused, ClientError::ErrorResponse(status, _) if status == 401));
    drop(running);
    assert!(!path.exists());
}

#[test]
fn the_client_reads_the_responses_of_the_listener() {
    let running = Running::plain();
    let client = Client::new(&running.at, None);
    let runtime = runtime();
    assert_eq!(runtime.block_on(client.status()).unwrap(), status());
    let query = ExplainQuery {
        listener: "https".into(),
        name: Some("a&b.contoso.com".into()),
        source: "2001:db8::7".parse().unwrap(),
    };
    let explanation = runtime.block_on(client.explain(&query)).unwrap();
    assert_eq!(explanation.name, query.name);
    let change = StateChange {
        state: AdminState::Maintain,
        deadline: None,
        force: None,
    };
    let changed = runtime
        .block_on(client.set_state("web", "fe01", &change))
        .unwrap();
    assert_eq!(changed.state, AdminState::Maintain);
    let error = runtime
        .block_on(client.set_state("web", "fe/9", &change))
        .unwrap_err();
    assert_eq!(error.to_string(), "pool \"web\" has no backend \"fe/9\"");
}

#[test]
fn the_client_reports_what_is_wrong_with_the_server() {
    let runtime = runtime();
    let free = std::net::TcpListener::bind(LOOPBACK)
        .unwrap()
        .local_addr()
        .unwrap();
    let refused = runtime
        .block_on(Client::new(&AdminBind::Tcp(free), None).status())
        .unwrap_err();
    assert!(matches!(refused, ClientError::Unreachable(..)));
    assert_eq!(
        refused.to_string(),
        format!("the admin listener at {free} cannot be reached")
    );

    let mute = std::net::TcpListener::bind(LOOPBACK).unwrap();
    let at = AdminBind::Tcp(mute.local_addr().unwrap());
    let client = Client::new(&at, None).with_timeout(Duration::from_millis(100));
    assert!(matches!(
        runtime.block_on(client.status()),
        Err(ClientError::TimedOut(_))
    ));

    let other = std::net::TcpListener::bind(LOOPBACK).unwrap();
    let at = AdminBind::Tcp(other.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = other.accept().unwrap();
        stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").unwrap();
        let mut sent = Vec::new();
        let _ = stream.read_to_end(&mut sent);
    });
    let strange = runtime
        .block_on(Client::new(&at, None).status())
        .unwrap_err();
    assert!(
        matches!(strange, ClientError::NotAdminListener(..)),
        "{strange:?}"
    );
    answering.join().unwrap();
}

#[test]
fn the_token_is_not_printed() {
    let client = Client::new(&AdminBind::Tcp(LOOPBACK), Some(token("s3cret")));
    assert!(!format!("{client:?}").contains("s3cret"));
}
