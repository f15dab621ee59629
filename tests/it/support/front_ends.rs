//! Simulated Front Ends in the test process, and web clients that report which of them responded.

#![allow(clippy::unwrap_used, reason = "a test may end in a panic")]

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;

use lyncpin::demo::front_end::{DemoCa, DeploymentNames, FrontEnd, FrontEndConfig, FrontEndLimits};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::peers::{background, connect_from};
use super::programs::run;
use super::{at, own_address};

/// The external web FQDN.
pub(crate) const WEB: &str = "lyncweb.contoso.test";

/// A pool of Front Ends, `fe01` and so on, each at its own address with the usual ports.
pub(crate) struct FrontEnds {
    pub(crate) all: Vec<FrontEnd>,
    tls: Arc<ClientConfig>,
}

impl FrontEnds {
    pub(crate) fn start(count: usize) -> Self {
        let ca = DemoCa::new().unwrap();
        let names = DeploymentNames {
            external_web_fqdn: WEB.into(),
            external_https_port: 443,
            sip_domains: vec!["contoso.test".into()],
            simple_urls: vec!["meet.contoso.test".into()],
        };
        let _entered = background().enter();
        let start = |number: usize| {
            let fqdn = format!("fe{number:02}.contoso.test");
            let address = own_address();
            FrontEnd::start(FrontEndConfig {
                certificate: ca.issue(&names.for_certificate(&fqdn)).unwrap(),
                fqdn,
                https: at(address, 4443),
                http: at(address, 8080),
                sip: at(address, 5061),
                names: names.clone(),
                limits: FrontEndLimits::default(),
            })
            .unwrap()
        };
        let mut roots = RootCertStore::empty();
        roots.add(ca.der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            all: (1..=count).map(start).collect(),
            tls: Arc::new(tls),
        }
    }

    /// The short form, with the VIP `HOST`.
    pub(crate) fn short_form(&self) -> String {
        let entries: Vec<String> = self.all.iter().map(entry).collect();
        format!(
            "lync:\n  sip_domains: [contoso.test]\n  external_web_fqdn: {WEB}\n  simple_urls: [meet.contoso.test]\n  \
             listen: [HOST]\n  front_ends:\n{}",
            entries.concat()
        )
    }

    /// The long form that `lyncpin expand` prints for the short form, with checks every 100 ms.
    pub(crate) fn expanded(&self) -> String {
        // An address of no machine (RFC 5737).
        const VIP: &str = "192.0.2.99";
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), self.short_form().replace("HOST", VIP)).unwrap();
        let path = file.path().to_str().unwrap();
        let output = run(
            env!("CARGO_BIN_EXE_lyncpin"),
            "lyncpin",
            &["expand", "-c", path],
            "",
        );
        assert!(
            output.status.success() && output.out.contains(VIP),
            "{output:?}"
        );
        let changes = [
            (VIP, "HOST"),
            ("interval: 5s", "interval: 100ms"),
            ("timeout: 2s", "timeout: 100ms"),
        ];
        let expanded = changes.iter().fold(output.out, |text, (from, to)| {
            assert!(text.contains(from), "{text}");
            text.replace(from, to)
        });
        // The harness adds its own.
        let (kept, _) = expanded.split_once("\nadmin:").unwrap();
        kept.to_owned()
    }

    /// The Front End of this name.
    pub(crate) fn named(&self, name: &str) -> &FrontEnd {
        self.all
            .iter()
            .find(|front_end| name_of(front_end) == name)
            .unwrap()
    }

    /// Connects a client over TLS.
    pub(crate) fn https(&self, source: IpAddr, to: SocketAddr) -> io::Result<WebClient> {
        let name = ServerName::try_from(WEB).unwrap();
        let connection = ClientConnection::new(self.tls.clone(), name).unwrap();
        let tls = StreamOwned::new(connection, connect_from(source, to)?);
        Ok(WebClient {
            stream: Stream::Tls(Box::new(tls)),
        })
    }
}

/// Connects a client without TLS.
pub(crate) fn http(source: IpAddr, to: SocketAddr) -> io::Result<WebClient> {
    Ok(WebClient {
        stream: Stream::Clear(connect_from(source, to)?),
    })
}

fn entry(front_end: &FrontEnd) -> String {
    let (name, address) = (name_of(front_end), front_end.https_addr().ip());
    format!(
        "    - {{ name: {name}, address: \"{address}\", https: 4443, http: 8080, sip: 5061 }}\n"
    )
}

/// The first label of the FQDN.
pub(crate) fn name_of(front_end: &FrontEnd) -> String {
    front_end.fqdn().split('.').next().unwrap().to_owned()
}

/// A connection for any number of requests.
pub(crate) struct WebClient {
    stream: Stream,
}

enum Stream {
    Clear(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl WebClient {
    /// Requests the root document and returns the name of the Front End that responded.
    pub(crate) fn server(&mut self) -> io::Result<String> {
        let request = format!("GET / HTTP/1.1\r\nHost: {WEB}\r\n\r\n");
        self.write_all(request.as_bytes())?;
        let mut response = Vec::new();
        let head_ends = loop {
            if let Some(end) = response.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            self.read_more(&mut response)?;
        };
        let head = String::from_utf8_lossy(&response[..head_ends]).to_lowercase();
        let header = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::trim).map(str::to_owned)
        };
        assert!(head.starts_with("http/1.1 200"), "{head}");
        let length: usize = header("content-length:").unwrap().parse().unwrap();
        while response.len() < head_ends + length {
            self.read_more(&mut response)?;
        }
        let fqdn = header("x-ms-server-fqdn:").unwrap();
        Ok(fqdn.split('.').next().unwrap().to_owned())
    }

    /// Reads to the end of the connection or to its error.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        let mut rest = Vec::new();
        loop {
            match self.read_more(&mut rest) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until the connection is reset; an orderly close is a failure.
    pub(crate) fn assert_reset(&mut self) {
        match self.end() {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            other => panic!("expected a reset, got {other:?}"),
        }
    }

    fn read_more(&mut self, into: &mut Vec<u8>) -> io::Result<()> {
        let mut buffer = [0; 4096];
        match self.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                into.extend_from_slice(&buffer[..read]);
                Ok(())
            }
        }
    }
}

impl Read for WebClient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Clear(stream) => stream.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for WebClient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Clear(stream) => stream.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.stream {
            Stream::Clear(stream) => stream.flush(),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}
