//! Grants read from handshakes of another implementation, compared with what its client offers next time.

use std::sync::Arc;

use rustls::client::{ClientConfig, ClientConnection, Resumption, Tls12Resumption};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, ServerConfig, ServerConnection};
use rustls::{RootCertStore, SupportedProtocolVersion, version};

use super::grants::{Kept, read_in_pieces};
use super::*;
use crate::protocol::tls::client_hello::{self, ClientHello, ClientHelloParser};

const NAME: &str = "lyncweb.contoso.com";

/// How a server grants sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Id,
    Ticket,
    Both,
    Nothing,
}

struct Ends {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Ends {
    fn new(version: &'static SupportedProtocolVersion, by: By) -> Self {
        let provider = Arc::new(ring::default_provider());
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::Pkcs8(key))
            .unwrap();
        if matches!(by, By::Ticket | By::Both) {
            server.ticketer = ring::Ticketer::new().unwrap();
        }
        if matches!(by, By::Ticket | By::Nothing) {
            server.session_storage = Arc::new(NoServerSessionStorage {});
        }
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        if by == By::Id {
            client.resumption =
                Resumption::in_memory_sessions(8).tls12_resumption(Tls12Resumption::SessionIdOnly);
        }
        Self {
            client: Arc::new(client),
            server: Arc::new(server),
        }
    }

    /// The client's hello and the bytes of the server, for a connection with data in both directions.
    fn connect(&self) -> (ClientHello, Vec<u8>) {
        let name = ServerName::try_from(NAME).unwrap();
        let mut client = ClientConnection::new(self.client.clone(), name).unwrap();
        let mut server = ServerConnection::new(self.server.clone()).unwrap();
        let (mut sent, mut answered) = (vec![], vec![]);
        std::io::Write::write_all(&mut client.writer(), b"GET").unwrap();
        std::io::Write::write_all(&mut server.writer(), b"200").unwrap();
        while client.wants_write() || server.wants_write() {
            let from = sent.len();
            while client.wants_write() {
                client.write_tls(&mut sent).unwrap();
            }
            pass(&sent[from..], &mut server);
            let from = answered.len();
            while server.wants_write() {
                server.write_tls(&mut answered).unwrap();
            }
            pass(&answered[from..], &mut client);
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        let client_hello::HelloProgress::Hello(hello) = ClientHelloParser::new().advance(&sent)
        else {
            panic!("the hello is whole");
        };
        (*hello, answered)
    }
}

fn pass<D>(mut bytes: &[u8], to: &mut rustls::ConnectionCommon<D>) {
    while !bytes.is_empty() {
        to.read_tls(&mut bytes).unwrap();
        to.process_new_packets().unwrap();
    }
}

/// The grants of a connection with this hello, in one piece and in several.
fn granted(hello: &ClientHello, answered: &[u8]) -> Vec<Kept> {
    let offered = hello.session_id.as_bytes();
    let whole = read_in_pieces(offered, answered, usize::MAX);
    for piece in [1, 7, 1400] {
        assert_eq!(read_in_pieces(offered, answered, piece), whole);
    }
    assert_eq!(whole.1, ReaderStatus::Done);
    whole.0
}

/// The grants of a recorded OpenSSL handshake, whose ServerHello echoes the id or not.
fn recorded(name: &str, offered: &[u8]) -> Vec<Kept> {
    let path = format!("tests/data/server_grants/{name}.bin");
    let (kept, hearing) = read_in_pieces(offered, &std::fs::read(path).unwrap(), usize::MAX);
    assert_eq!(hearing, ReaderStatus::Done, "{name}");
    kept
}

#[test]
fn handshakes_of_openssl_are_read() {
    // OpenSSL sends an empty id if it issues a ticket (RFC 5077 section 3.4).
    for name in ["tls10-ticket", "tls12-ticket"] {
        let kept = recorded(name, &[]);
        assert!(
            matches!(&kept[..], [Kept::Ticket(ticket)] if ticket.len() > 100),
            "{name}: {kept:?}"
        );
    }
    let kept = recorded("tls12-id", &[]);
    let [Kept::Id(id)] = &kept[..] else {
        panic!("an id alone: {kept:?}");
    };
    assert_eq!(id.len(), 32);
    assert_eq!(recorded("tls12-id-resumed", id), []);
    assert_eq!(
        recorded("tls12-ticket-resumed", &[]),
        [],
        "it makes no new one so soon"
    );
    assert_eq!(recorded("tls13", &[]), []);
}

#[test]
fn a_granted_id_is_offered_next_time() {
    let ends = Ends::new(&version::TLS12, By::Id);
    let (first, answered) = ends.connect();
    let kept = granted(&first, &answered);
    let (second, answered) = ends.connect();
    assert_eq!(kept, [Kept::Id(second.session_id.as_bytes().to_vec())]);
    assert_eq!(granted(&second, &answered), [], "it is resumed");
}

#[test]
fn a_granted_ticket_is_offered_next_time() {
    for by in [By::Ticket, By::Both] {
        let ends = Ends::new(&version::TLS12, by);
        let (hello, answered) = ends.connect();
        let mut kept = granted(&hello, &answered);
        // Resumed twice, because each resumption grants a new ticket.
        for _ in 0..2 {
            let (next, answered) = ends.connect();
            let offered = next.ticket.clone().expect("there is a ticket");
            assert_eq!(kept.pop(), Some(Kept::Ticket(offered.to_vec())), "{by:?}");
            kept = granted(&next, &answered);
        }
    }
}

#[test]
fn both_are_granted_by_a_server_with_a_session_cache_and_tickets() {
    let (hello, answered) = Ends::new(&version::TLS12, By::Both).connect();
    let kept = granted(&hello, &answered);
    assert!(
        matches!(&kept[..], [Kept::Id(_), Kept::Ticket(_)]),
        "{kept:?}"
    );
}

#[test]
fn nothing_is_granted_by_a_server_without_either() {
    let ends = Ends::new(&version::TLS12, By::Nothing);
    for _ in 0..2 {
        let (hello, answered) = ends.connect();
        assert_eq!(granted(&hello, &answered), []);
    }
}

#[test]
fn tls_1_3_grants_nothing_visible() {
    let ends = Ends::new(&version::TLS13, By::Both);
    for _ in 0..2 {
        let (hello, answered) = ends.connect();
        assert_eq!(hello.session_id.as_bytes().len(), 32, "for middleboxes");
        assert_eq!(granted(&hello, &answered), []);
    }
}
