//! A session that is resumed with a new ticket is recognised by the new one too.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, Stream};

use super::{Deployment, NAME, pools};
use crate::support::balancer::Balancer;
use crate::support::own_address;

/// rustls gives a new ticket with each session that is resumed, where nginx gives one only when its keys change.
fn serve(body: &'static str) -> SocketAddr {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.ticketer = rustls::crypto::ring::Ticketer::new().unwrap();
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    let config = Arc::new(config);
    let listener = TcpListener::bind((own_address(), 443)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // A check connects and sends nothing.
            let _ = answer(stream.unwrap(), config.clone(), body);
        }
    });
    address
}

fn answer(mut plain: TcpStream, config: Arc<ServerConfig>, body: &str) -> std::io::Result<()> {
    plain.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut tls = ServerConnection::new(config).expect("a sound configuration");
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
    // Each visit resumes the session granted last, from another address.
    let names: Vec<String> = (0..12).map(|number| format!("s{number}")).collect();
    let mut visits = vec![(own_address(), "s0", "-"), (own_address(), "other", "-")];
    for pair in names.windows(2) {
        visits.push((own_address(), &pair[1], &pair[0]));
    }
    let met = deployment.visit("TLSv1_2", &visits);
    assert_ne!(met[0].0, met[1].0, "round robin");
    assert!(
        met[2..]
            .iter()
            .all(|(body, resumed)| *body == met[0].0 && *resumed),
        "{met:?}"
    );
    assert_eq!(deployment.recognised(), 11.0);
    assert_eq!(deployment.learned(), 13.0);
}
