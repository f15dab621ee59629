//! nginx as an independent TLS or HTTP server with its own configuration, port and directory, all removed on drop.

#![allow(clippy::unwrap_used, reason = "a test may end in a panic")]

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use socket2::{Domain, Socket, Type};

/// Properties of the server.
#[derive(Clone)]
pub(crate) struct NginxServer<'a> {
    /// TLS versions as nginx names them: `TLSv1`, `TLSv1.1`, `TLSv1.2`, `TLSv1.3`; none for plain HTTP.
    pub(crate) protocols: &'a [&'a str],
    /// OpenSSL's cipher string for versions up to TLS 1.2.
    pub(crate) ciphers: &'a str,
    /// Names in the certificate.
    pub(crate) names: &'a [&'a str],
    /// The certificate expires at the beginning of this year.
    pub(crate) valid_until: i32,
    /// Use an RSA key, made by `openssl`, instead of one on P-256.
    pub(crate) rsa: bool,
    /// The status of every response.
    pub(crate) status: u16,
    /// Further directives of a TLS server.
    pub(crate) directives: &'a str,
    /// The body of every response; no quotes and no `$`.
    pub(crate) body: &'a str,
    /// Whether every connection must begin with a PROXY header.
    pub(crate) proxy_protocol: bool,
}

impl Default for NginxServer<'_> {
    fn default() -> Self {
        Self {
            protocols: &["TLSv1.2", "TLSv1.3"],
            // Security level 0, without which OpenSSL 3 supports no version below TLS 1.2.
            ciphers: "ALL:@SECLEVEL=0",
            names: &["fe01.contoso.test"],
            valid_until: 2090,
            rsa: false,
            status: 200,
            directives: "",
            body: "nginx",
            proxy_protocol: false,
        }
    }
}

/// A running nginx.
pub(crate) struct Nginx {
    /// The address of the server.
    pub(crate) address: SocketAddr,
    /// The expiry time of the certificate.
    pub(crate) valid_until: SystemTime,
    directory: tempfile::TempDir,
    process: Child,
    _port: ReservedPort,
}

impl Nginx {
    /// Starts nginx and waits until it accepts connections.
    pub(crate) fn start(server: &NginxServer) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = ReservedPort::new();
        let valid_until = write_certificate(directory.path(), server);
        let config = config(directory.path(), server, port.address);
        std::fs::write(directory.path().join("nginx.conf"), config).unwrap();
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let process = Command::new("nginx")
            .env("PATH", path)
            .args(["-e", "stderr", "-g", "daemon off; master_process off;"])
            .arg("-c")
            .arg(directory.path().join("nginx.conf"))
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(directory.path().join("stderr")).unwrap())
            .spawn()
            .expect("nginx is installed (Debian package nginx)");
        let mut nginx = Self {
            address: port.address,
            valid_until,
            directory,
            process,
            _port: port,
        };
        nginx.wait_until_it_accepts();
        nginx
    }

    /// The access log: a line `method path|host|user agent|accept|server name` for each request, followed
    /// by `|client` of the PROXY header if one is required.
    pub(crate) fn requests(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.directory.path().join("access")).unwrap();
        log.lines().map(str::to_owned).collect()
    }

    /// Sends a signal: STOP simulates a machine that hangs, CONT lets it continue.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.process), signal)
            .unwrap();
    }

    fn wait_until_it_accepts(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(self.address).is_err() {
            let ended = self.process.try_wait().unwrap();
            if ended.is_some() || Instant::now() > deadline {
                let stderr = std::fs::read_to_string(self.directory.path().join("stderr"));
                panic!("nginx does not accept connections: {ended:?} {stderr:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn config(directory: &std::path::Path, server: &NginxServer, address: SocketAddr) -> String {
    let directory = directory.display();
    let ssl = if server.protocols.is_empty() {
        ""
    } else {
        " ssl"
    };
    let (proxy_protocol, client) = if server.proxy_protocol {
        (
            " proxy_protocol",
            "|$proxy_protocol_addr:$proxy_protocol_port",
        )
    } else {
        ("", "")
    };
    let mut config = format!(
        "pid {directory}/pid;\n\
         events {{ worker_connections 256; }}\n\
         http {{\n\
           log_format seen '$request_method $uri|$http_host|$http_user_agent|$http_accept|$ssl_server_name{client}';\n\
           access_log {directory}/access seen;\n\
           client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;\n\
           fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;\n\
           server {{\n\
             listen {address}{ssl}{proxy_protocol};\n\
             location / {{ return {} '{}'; }}\n",
        server.status, server.body
    );
    if !server.protocols.is_empty() {
        write!(
            config,
            "ssl_protocols {};\nssl_ciphers {};\n\
             ssl_certificate {directory}/certificate.pem;\nssl_certificate_key {directory}/key.pem;\n{}\n",
            server.protocols.join(" "),
            server.ciphers,
            server.directives
        )
        .unwrap();
    }
    config + "}\n}\n"
}

/// Writes `key.pem` and `certificate.pem`; returns the expiry time of the certificate.
fn write_certificate(directory: &std::path::Path, server: &NginxServer) -> SystemTime {
    let key_file = directory.join("key.pem");
    if server.rsa {
        make_rsa_key(&key_file);
    } else {
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
    }
    let key = rcgen::KeyPair::from_pem(&std::fs::read_to_string(&key_file).unwrap()).unwrap();
    let names: Vec<String> = server.names.iter().map(|&name| name.to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.not_before = rcgen::date_time_ymd(2001, 1, 1);
    params.not_after = rcgen::date_time_ymd(server.valid_until, 1, 1);
    let valid_until = params.not_after.into();
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(directory.join("certificate.pem"), certificate.pem()).unwrap();
    valid_until
}

fn make_rsa_key(file: &PathBuf) {
    let made = Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-pkeyopt"])
        .args(["rsa_keygen_bits:2048", "-quiet", "-out"])
        .arg(file)
        .status()
        .expect("openssl is installed (Debian package openssl)");
    assert!(made.success(), "openssl makes a key");
}

/// A loopback port that is reserved until this is dropped. The socket is bound and does not listen, so a server that
/// sets SO_REUSEADDR, as nginx does, can bind the port too, and a bind to port 0 never selects it (socket(7)).
pub(crate) struct ReservedPort {
    /// The address with the port.
    pub(crate) address: SocketAddr,
    _socket: Socket,
}

impl ReservedPort {
    /// Reserves a free port.
    pub(crate) fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(&any.into()).unwrap();
        Self {
            address: socket.local_addr().unwrap().as_socket().unwrap(),
            _socket: socket,
        }
    }
}
