//! The simulated Front End over real sockets.

use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;

mod life;
mod web;

const ROOT_PATH: &str = "/autodiscover/autodiscoverservice.svc/root";
const APPLICATIONS_PATH: &str = "/ucwa/oauth/v1/applications";

fn names() -> DeploymentNames {
    DeploymentNames {
        external_web_fqdn: "lyncweb.contoso.com".to_owned(),
        external_https_port: 443,
        sip_domains: vec!["contoso.com".to_owned(), "fabrikam.com".to_owned()],
        simple_urls: vec!["meet.contoso.com".to_owned()],
    }
}

fn config(ca: &DemoCa, fqdn: &str) -> FrontEndConfig {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    FrontEndConfig {
        fqdn: fqdn.to_owned(),
        https: loopback,
        http: loopback,
        sip: loopback,
        certificate: ca.issue(&names().for_certificate(fqdn)).unwrap(),
        names: names(),
        limits: FrontEndLimits::default(),
    }
}

fn start() -> (DemoCa, FrontEnd) {
    let ca = DemoCa::new().unwrap();
    let front_end = FrontEnd::start(config(&ca, "fe01.contoso.local")).unwrap();
    (ca, front_end)
}

async fn tls(ca: &DemoCa, address: SocketAddr, name: &str) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap()
}

struct Client(SendRequest<Full<Bytes>>);

impl Client {
    async fn new(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    async fn https(ca: &DemoCa, front_end: &FrontEnd) -> Self {
        Self::new(tls(ca, front_end.https_addr(), "lyncdiscover.contoso.com").await).await
    }

    async fn http(front_end: &FrontEnd) -> Self {
        Self::new(TcpStream::connect(front_end.http_addr()).await.unwrap()).await
    }

    async fn try_send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        self.0.ready().await?;
        self.0.send_request(request).await
    }

    async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Response<Incoming> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in [("host", "lyncdiscover.contoso.com")].iter().chain(headers) {
            request = request.header(*name, *value);
        }
        self.try_send(request.body(Full::from(body)).unwrap())
            .await
            .unwrap()
    }

    async fn get(&mut self, path: &str, accept: &str) -> (u16, String) {
        text(
            self.send("GET", path, &[("accept", accept)], Bytes::new())
                .await,
        )
        .await
    }

    async fn post(&mut self, path: &str) -> (u16, String) {
        text(
            self.send("POST", path, &[], Bytes::from_static(b"{}"))
                .await,
        )
        .await
    }
}

async fn text(response: Response<Incoming>) -> (u16, String) {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// Waits until `holds`, for ten seconds at most.
async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{what} did not come true"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn refuses(address: SocketAddr) -> bool {
    let tried = TcpStream::connect(address).await;
    tried.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

fn was_reset<T: std::fmt::Debug>(read: &io::Result<T>) -> bool {
    read.as_ref()
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

/// Makes an application and returns its path.
async fn application(client: &mut Client) -> String {
    let (status, text) = client.post(APPLICATIONS_PATH).await;
    assert_eq!(status, 201);
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    document["_links"]["self"]["href"]
        .as_str()
        .unwrap()
        .to_owned()
}
