//! The activity of the demo: clients that come and go, requests that are rejected, and a server that fails and returns.
//!
//! Owns the clients, their rate and their duration. Must not know the balancer: the clients connect to its ports like any
//! other. Invariants: at most [`CLIENTS`] connections and one rejected one at a time, a few hundred KiB per second in all;
//! every client ends when [`SimulatedClients`] is dropped; after a typed command, no server fails by itself.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::demo::front_end::FrontEnd;

/// The number of clients; most of them are connected at any time.
const CLIENTS: u8 = 14;
/// Time limit for each step of a client.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Before the first failure.
const FIRST_FAILURE: Duration = Duration::from_secs(30);
/// How long a server is down.
const OUTAGE: Duration = Duration::from_secs(25);
/// From a recovery to the next failure. Each server fails so rarely that damping does not apply.
const NEXT_FAILURE: Duration = Duration::from_secs(180);

/// The ports that the clients connect to, and the names that they request.
#[derive(Clone)]
pub(crate) struct DemoPorts {
    pub(crate) https: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) names: Arc<[&'static str]>,
}

/// The running clients.
pub(crate) struct SimulatedClients {
    _clients: JoinSet<Infallible>,
}

impl SimulatedClients {
    /// Starts them on the current runtime.
    ///
    /// # Errors
    ///
    /// If TLS cannot be set up.
    pub(crate) fn start(
        ports: &DemoPorts,
        root: CertificateDer<'static>,
    ) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(root)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tls = TlsConnector::from(Arc::new(config));
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            clients.spawn(run_client(ports.clone(), tls.clone(), number));
        }
        clients.spawn(run_rejected_client(ports.clone(), tls));
        Ok(Self { _clients: clients })
    }
}

/// Stops and starts servers in turn, until a command was `typed`.
pub(crate) async fn fail_servers(servers: &[FrontEnd], typed: &Cell<bool>) -> Infallible {
    sleep(FIRST_FAILURE).await;
    for (turn, server) in servers.iter().rev().cycle().enumerate() {
        if typed.get() {
            break;
        }
        // Alternately the whole server, and its SIP service alone.
        if turn % 2 == 0 {
            server.stop();
        } else {
            server.close_sip();
        }
        sleep(OUTAGE).await;
        if !typed.get() && server.restart().is_err() {
            break;
        }
        sleep(NEXT_FAILURE).await;
    }
    std::future::pending().await
}

/// One client: it connects, sends a few requests, disconnects, and returns after a while.
async fn run_client(ports: DemoPorts, tls: TlsConnector, number: u8) -> Infallible {
    let mut random = Random(0x9e37_79b9 * (u64::from(number) + 1));
    loop {
        sleep(random.between(200, 9_000)).await;
        let requests = random.below(20) + 3;
        let name = random.one_of(&ports.names);
        // After an error the client simply returns later.
        let _ = match number % 5 {
            4 => visit_http(&ports, number, name, requests, &mut random).await,
            _ => visit_https(&ports, &tls, number, name, requests, &mut random).await,
        };
    }
}

async fn visit_https(
    ports: &DemoPorts,
    tls: &TlsConnector,
    number: u8,
    name: &'static str,
    requests: u64,
    random: &mut Random,
) -> io::Result<()> {
    let stream = connect(number, ports.https).await?;
    let name_in_tls = ServerName::try_from(name).map_err(io::Error::other)?;
    let stream = timeout(TIMEOUT, tls.connect(name_in_tls, stream)).await??;
    visit(stream, name, requests, random).await
}

async fn visit_http(
    ports: &DemoPorts,
    number: u8,
    name: &'static str,
    requests: u64,
    random: &mut Random,
) -> io::Result<()> {
    let stream = connect(number, ports.http).await?;
    visit(stream, name, requests, random).await
}

/// Each client has its own address: all of 127/8 belongs to this machine.
async fn connect(number: u8, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 0, 0, 10 + number), 0).into())?;
    timeout(TIMEOUT, socket.connect(to)).await?
}

async fn visit<S>(stream: S, name: &str, requests: u64, random: &mut Random) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let requesting = async {
        for _ in 0..requests {
            let length = random.below(120_000);
            let request = Request::get(format!("/big?bytes={length}"))
                .header("Host", name)
                .body(Empty::<Bytes>::new())
                .map_err(io::Error::other)?;
            let response = timeout(TIMEOUT, sender.send_request(request)).await?;
            let mut body = response.map_err(io::Error::other)?.into_body();
            while let Some(frame) = timeout(TIMEOUT, body.frame()).await? {
                frame.map_err(io::Error::other)?;
            }
            sleep(random.between(300, 2_500)).await;
        }
        Ok(())
    };
    // The connection makes progress only while it is polled, and ends with the requests.
    tokio::select! {
        done = requesting => done,
        ended = connection => ended.map_err(io::Error::other),
    }
}

/// A client that is rejected, for each of three reasons in turn.
async fn run_rejected_client(ports: DemoPorts, tls: TlsConnector) -> Infallible {
    let mut random = Random(7);
    let mut turn = 0_u8;
    loop {
        sleep(random.between(4_000, 12_000)).await;
        turn = (turn + 1) % 3;
        let number = CLIENTS + turn;
        let _ = match turn {
            0 => request_unknown_name(&ports, &tls, number).await,
            1 => send(number, ports.https, "SSH-2.0-OpenSSH_9.2\r\n").await,
            _ => {
                send(
                    number,
                    ports.http,
                    "GET / HTTP/1.1\r\nHost: printer.contoso.com\r\n\r\n",
                )
                .await
            }
        };
    }
}

async fn request_unknown_name(ports: &DemoPorts, tls: &TlsConnector, number: u8) -> io::Result<()> {
    let stream = connect(number, ports.https).await?;
    let name = ServerName::try_from("intranet.contoso.com").map_err(io::Error::other)?;
    timeout(TIMEOUT, tls.connect(name, stream)).await?.map(drop)
}

async fn send(number: u8, to: SocketAddr, text: &str) -> io::Result<()> {
    let mut stream = connect(number, to).await?;
    stream.write_all(text.as_bytes()).await?;
    let mut response = [0; 1024];
    timeout(TIMEOUT, stream.read(&mut response))
        .await?
        .map(drop)
}

/// Pseudo-random numbers (xorshift64, Marsaglia 2003); the same sequence in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    /// One of a few names.
    fn one_of(&mut self, names: &[&'static str]) -> &'static str {
        let index = self.below(names.len() as u64);
        usize::try_from(index)
            .ok()
            .and_then(|index| names.get(index))
            .copied()
            .unwrap_or_default()
    }

    /// A duration between two numbers of milliseconds.
    fn between(&mut self, min: u64, max: u64) -> Duration {
        Duration::from_millis(min + self.below(max - min))
    }
}
