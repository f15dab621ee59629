//! What goes on in the demo by itself, so that there is something to look at: clients that come and go, one that is
//! refused now and then, and a server that fails and comes back.
//!
//! Owns who comes, how often and how long. Must not know the balancer: its people come through the ports, as any would.
//! Invariants: no more than [`CLIENTS`] connections and one that is refused at a time, a few hundred KiB a second in all;
//! whoever plays ends when [`Play`] is dropped; once a person has typed a command, the servers are that person's.

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

/// How many clients there are; most of them are connected at a time.
const CLIENTS: u8 = 14;
/// The bound of anything that a client waits for.
const PATIENCE: Duration = Duration::from_secs(10);
/// When the first server fails, how long it is gone, and how long it is until the next one does. Each has its turn so
/// seldom that damping forgives it.
const FAILS: (Duration, Duration, Duration) = (
    Duration::from_secs(30),
    Duration::from_secs(25),
    Duration::from_secs(180),
);

/// Where the people come to, and by which names.
#[derive(Clone)]
pub(crate) struct DemoPorts {
    pub(crate) https: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) names: Arc<[&'static str]>,
}

/// The people.
pub(crate) struct Play {
    _people: JoinSet<Infallible>,
}

impl Play {
    /// Lets them come, from now on and on the current runtime.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up.
    pub(crate) fn begin(
        doors: &DemoPorts,
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
        let mut people = JoinSet::new();
        for number in 0..CLIENTS {
            people.spawn(come_and_go(doors.clone(), tls.clone(), number));
        }
        people.spawn(come_in_vain(doors.clone(), tls));
        Ok(Self { _people: people })
    }
}

/// Stops and starts servers in turn, until a person has `typed` something.
pub(crate) async fn fail_now_and_then(servers: &[FrontEnd], typed: &Cell<bool>) -> Infallible {
    let (first, gone, next) = FAILS;
    sleep(first).await;
    for (turn, server) in servers.iter().rev().cycle().enumerate() {
        if typed.get() {
            break;
        }
        // Dead as a whole, or half: SIP alone.
        if turn % 2 == 0 {
            server.stop();
        } else {
            server.close_sip();
        }
        sleep(gone).await;
        if !typed.get() && server.start_again().is_err() {
            break;
        }
        sleep(next).await;
    }
    std::future::pending().await
}

/// One client's life: it comes, asks for this and that, leaves, and comes back after a while.
async fn come_and_go(doors: DemoPorts, tls: TlsConnector, number: u8) -> Infallible {
    let mut chance = Chance(0x9e37_79b9 * (u64::from(number) + 1));
    loop {
        sleep(chance.between(200, 9_000)).await;
        let visits = chance.below(20) + 3;
        let name = chance.one_of(&doors.names);
        // Whoever finds a server gone comes back later, as people do.
        let _ = match number % 5 {
            4 => visit_http(&doors, number, name, visits, &mut chance).await,
            _ => visit_https(&doors, &tls, number, name, visits, &mut chance).await,
        };
    }
}

async fn visit_https(
    doors: &DemoPorts,
    tls: &TlsConnector,
    number: u8,
    name: &'static str,
    visits: u64,
    chance: &mut Chance,
) -> io::Result<()> {
    let stream = connect(number, doors.https).await?;
    let name_in_tls = ServerName::try_from(name).map_err(io::Error::other)?;
    let stream = timeout(PATIENCE, tls.connect(name_in_tls, stream)).await??;
    visit(stream, name, visits, chance).await
}

async fn visit_http(
    doors: &DemoPorts,
    number: u8,
    name: &'static str,
    visits: u64,
    chance: &mut Chance,
) -> io::Result<()> {
    let stream = connect(number, doors.http).await?;
    visit(stream, name, visits, chance).await
}

/// Each client has an address of its own: all of 127/8 is this machine's.
async fn connect(number: u8, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 0, 0, 10 + number), 0).into())?;
    timeout(PATIENCE, socket.connect(to)).await?
}

async fn visit<S>(stream: S, name: &str, visits: u64, chance: &mut Chance) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let asking = async {
        for _ in 0..visits {
            let length = chance.below(120_000);
            let request = Request::get(format!("/big?bytes={length}"))
                .header("Host", name)
                .body(Empty::<Bytes>::new())
                .map_err(io::Error::other)?;
            let answer = timeout(PATIENCE, sender.send_request(request)).await?;
            let mut body = answer.map_err(io::Error::other)?.into_body();
            while let Some(frame) = timeout(PATIENCE, body.frame()).await? {
                frame.map_err(io::Error::other)?;
            }
            sleep(chance.between(300, 2_500)).await;
        }
        Ok(())
    };
    // The connection does what is asked for, and ends with who asks.
    tokio::select! {
        asked = asking => asked,
        ended = connection => ended.map_err(io::Error::other),
    }
}

/// Comes for what is not there, in each of the ways in which that goes wrong.
async fn come_in_vain(doors: DemoPorts, tls: TlsConnector) -> Infallible {
    let mut chance = Chance(7);
    let mut turn = 0_u8;
    loop {
        sleep(chance.between(4_000, 12_000)).await;
        turn = (turn + 1) % 3;
        let number = CLIENTS + turn;
        let _ = match turn {
            0 => ask_for_unknown_name(&doors, &tls, number).await,
            1 => say(number, doors.https, "SSH-2.0-OpenSSH_9.2\r\n").await,
            _ => {
                say(
                    number,
                    doors.http,
                    "GET / HTTP/1.1\r\nHost: printer.contoso.com\r\n\r\n",
                )
                .await
            }
        };
    }
}

async fn ask_for_unknown_name(doors: &DemoPorts, tls: &TlsConnector, number: u8) -> io::Result<()> {
    let stream = connect(number, doors.https).await?;
    let name = ServerName::try_from("intranet.contoso.com").map_err(io::Error::other)?;
    timeout(PATIENCE, tls.connect(name, stream))
        .await?
        .map(drop)
}

async fn say(number: u8, to: SocketAddr, what: &str) -> io::Result<()> {
    let mut stream = connect(number, to).await?;
    stream.write_all(what.as_bytes()).await?;
    let mut answer = [0; 1024];
    timeout(PATIENCE, stream.read(&mut answer)).await?.map(drop)
}

/// Numbers without a pattern that meets the eye (xorshift64, Marsaglia 2003); the same play every time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// One of a few names.
    fn one_of(&mut self, names: &[&'static str]) -> &'static str {
        let place = self.below(names.len() as u64);
        usize::try_from(place)
            .ok()
            .and_then(|place| names.get(place))
            .copied()
            .unwrap_or_default()
    }

    /// A time between two numbers of milliseconds.
    fn between(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below(most - least))
    }
}
