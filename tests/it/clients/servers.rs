//! The deployment: one nginx for each TLS version in place of the Front Ends, a balancer, and the clients.

use std::net::IpAddr;

use crate::support::balancer::Balancer;
use crate::support::nginx::{Nginx, NginxServer};
use crate::support::programs::{Said, run};

/// A server with one TLS version, and the name of that version in each client.
pub(super) struct Server {
    pub(super) name: &'static str,
    version: &'static str,
    pub(super) openssl: &'static str,
    pub(super) gnutls: &'static str,
    pub(super) python: &'static str,
}

pub(super) const SERVERS: &[Server] = &[
    server(
        "tls10.contoso.test",
        "TLSv1",
        "-tls1",
        "VERS-TLS1.0",
        "TLSv1",
    ),
    server(
        "tls11.contoso.test",
        "TLSv1.1",
        "-tls1_1",
        "VERS-TLS1.1",
        "TLSv1.1",
    ),
    server(
        "tls12.contoso.test",
        "TLSv1.2",
        "-tls1_2",
        "VERS-TLS1.2",
        "TLSv1.2",
    ),
    server(
        "tls13.contoso.test",
        "TLSv1.3",
        "-tls1_3",
        "VERS-TLS1.3",
        "TLSv1.3",
    ),
];

const fn server(
    name: &'static str,
    version: &'static str,
    openssl: &'static str,
    gnutls: &'static str,
    python: &'static str,
) -> Server {
    Server {
        name,
        version,
        openssl,
        gnutls,
        python,
    }
}

/// Names of the servers without TLS.
pub(super) const PLAIN: &[&str] = &["one.contoso.test", "two.contoso.test"];

/// Enables TLS 1.0 and 1.1 in OpenSSL 3.
pub(super) const CURL_OLD: &[&str] = &["--tlsv1.0", "--ciphers", "ALL:@SECLEVEL=0"];

/// The servers behind a balancer. Each server has a pool of its own.
pub(super) struct Deployment {
    pub(super) balancer: Balancer,
    _servers: Vec<Nginx>,
}

impl Deployment {
    /// Uses the last server for clients that send no name.
    pub(super) fn start() -> Self {
        Self::start_with("no_name: tls13")
    }

    /// Adds these keys to the TLS listener.
    pub(super) fn start_with(keys: &str) -> Self {
        let mut servers = Vec::new();
        let mut pools = String::new();
        let mut routes = String::new();
        let protocols = SERVERS
            .iter()
            .map(|server| (server.name, vec![server.version]));
        for (name, protocols) in protocols.chain(PLAIN.iter().map(|&name| (name, Vec::new()))) {
            let server = Nginx::start(&NginxServer {
                protocols: &protocols,
                names: &[name],
                body: name,
                ..NginxServer::default()
            });
            let pool = name.split('.').next().unwrap();
            pools += &format!("  {pool}: {{ backends: [\"{}\"] }}\n", server.address);
            routes += &match protocols.is_empty() {
                false => format!("      - {{ names: [{name}], pool: {pool} }}\n"),
                true => String::new(),
            };
            servers.push(server);
        }
        let balancer = Balancer::start(&format!(
            "listeners:\n  https:\n    bind: [\"HOST:443\"]\n    protocol: tls\n    {keys}\n    routes:\n{routes}\
             \x20     - {{ names: [\"*.apps.contoso.test\"], pool: tls12 }}\n\
             \x20     - {{ names: [\"*.inner.apps.contoso.test\"], pool: tls13 }}\n\
             \x20     - {{ names: [exact.inner.apps.contoso.test], pool: tls11 }}\n\
             \x20 http:\n    bind: [\"HOST:80\"]\n    protocol: http\n    routes:\n\
             \x20     - {{ names: [one.contoso.test], pool: one }}\n\
             \x20     - {{ names: [two.contoso.test], pool: two }}\n\
             pools:\n{pools}"
        ));
        Self {
            balancer: balancer.ready(),
            _servers: servers,
        }
    }

    pub(super) fn address(&self) -> IpAddr {
        self.balancer.address
    }

    pub(super) fn at(&self, port: u16) -> String {
        self.balancer.at(port).to_string()
    }

    /// Runs curl with a URL of this name.
    pub(super) fn curl(&self, scheme: &str, name: &str, arguments: &[&str]) -> Said {
        let port = if scheme == "https" { 443 } else { 80 };
        let resolve = format!("{name}:{port}:{}", self.address());
        let url = format!("{scheme}://{name}/");
        curl(&[arguments, &["--resolve", &resolve, &url]].concat())
    }

    /// Runs `openssl s_client` with these arguments and sends a request for `host`.
    pub(super) fn s_client(&self, arguments: &[&str], host: &str) -> Said {
        let address = self.at(443);
        let common = ["-quiet", "-cipher", "ALL:@SECLEVEL=0", "-connect", &address];
        let arguments = [&["s_client"], arguments, &common].concat();
        run("openssl", "openssl", &arguments, &request(host))
    }

    /// Runs `gnutls-cli` with the TLS version of `server`.
    pub(super) fn gnutls(&self, arguments: &[&str], server: &Server) -> Said {
        let address = self.address().to_string();
        let priority = format!("NORMAL:-VERS-ALL:+{}", server.gnutls);
        let common = [
            "--insecure",
            "--port",
            "443",
            "--priority",
            &priority,
            &address,
        ];
        let arguments = [arguments, &common].concat();
        run(
            "gnutls-cli",
            "gnutls-bin",
            &arguments,
            &request(server.name),
        )
    }

    /// Runs Python with all TLS versions enabled. It prints `VERSION BODY`, or the reason of a TLS error. If `name` is
    /// empty, it sends no server name.
    pub(super) fn python(&self, name: &str, host: &str) -> Said {
        let address = self.address().to_string();
        run(
            "python3",
            "python3",
            &["-c", PYTHON, &address, name, host],
            "",
        )
    }
}

/// Runs curl, which accepts any certificate.
pub(super) fn curl(arguments: &[&str]) -> Said {
    let common = ["--silent", "--show-error", "--insecure", "--noproxy", "*"];
    run("curl", "curl", &[&common, arguments].concat(), "")
}

fn request(host: &str) -> String {
    format!("GET / HTTP/1.0\r\nHost: {host}\r\n\r\n")
}

const PYTHON: &str = r#"
import socket, ssl, sys, warnings
warnings.simplefilter("ignore")
address, name, host = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
context.minimum_version = ssl.TLSVersion.TLSv1
context.set_ciphers("ALL:@SECLEVEL=0")
try:
    with socket.create_connection((address, 443), timeout=30) as raw:
        with context.wrap_socket(raw, server_hostname=name or None) as tls:
            tls.sendall(f"GET / HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
            whole = b"".join(iter(lambda: tls.recv(4096), b""))
            print(tls.version(), whole.partition(b"\r\n\r\n")[2].decode(), end="")
except ssl.SSLError as error:
    print(error.reason, end="")
"#;
