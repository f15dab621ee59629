//! If a server issues a new ticket when it resumes a session, the session is recognised by the new ticket too.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, Stream};

use super::{Deployment, NAME, pools};
use crate::support::balancer::Balancer;
use crate::support::own_address;

/// A rustls server. It issues a new ticket with each resumed session; nginx does so only when its keys change.
fn serve(body: &'static str) -> SocketAddr {
    let certificate = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(certificate.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.cert.der().clone()], key)
        .unwrap();
    config.ticketer = rustls::crypto::ring::Ticketer::new().unwrap();
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    let config = Arc::new(config);
    let listener = TcpListener::bind((own_address(), 443)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // Fails for health checks, which connect and send nothing.
            let _ = respond(stream.unwrap(), config.clone(), body);
        }
    });
    address
}

fn respond(mut plain: TcpStream, config: Arc<ServerConfig>, body: &str) -> std::io::Result<()> {
    plain.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut tls = ServerConnection::new(config).expect("the configuration is valid");
    let mut secure = Stream::new(&mut tls, &mut plain);
    let mut request = [0; 1024];
    let _ = secure.read(&mut request)?;
    write!(secure, "HTTP/1.1 200 OK\r\n\r\n{body}")?;
    secure.conn.send_close_notify();
    secure.flush()
}

#[test]
fn a_new_ticket_of_a_resumed_session_is_learned() {
    let backends: Vec<String> = ["fe01", "fe02", "fe03"]
        .map(|body| format!("{{ name: {body}, address: \"{}\" }}", serve(body)))
        .into();
    let yaml = pools(&backends.join(", "), "[source, tls_session]");
    let deployment = Deployment {
        balancer: Balancer::start(&yaml).ready(),
        servers: Vec::new(),
    };
    // Each connection resumes the most recent session, from another address.
    let names: Vec<String> = (0..12).map(|number| format!("s{number}")).collect();
    let mut visits = vec![(own_address(), "s0", "-"), (own_address(), "other", "-")];
    for pair in names.windows(2) {
        visits.push((own_address(), &pair[1], &pair[0]));
    }
    let reached = deployment.visit("TLSv1_2", &visits);
    assert_ne!(reached[0].0, reached[1].0, "round robin");
    assert!(
        reached[2..]
            .iter()
            .all(|(body, resumed)| *body == reached[0].0 && *resumed),
        "{reached:?}"
    );
    assert_eq!(deployment.recognised(), 11.0);
    assert_eq!(deployment.learned(), 13.0);
}
