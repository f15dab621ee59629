//! A simulated Front End, for `lyncpin demo` and the tests.
//!
//! Owns three ports (External Web over HTTPS and over HTTP, SIP) and every task that serves them. Must not know the
//! balancer. Invariants: the ports stay reserved while the value lives, so that a stopped Front End refuses connections and
//! restarts on the same ports; every task ends with the value, and connections are reset as if the server had been killed.

mod applications;
mod autodiscover;
mod certificate;
mod http;
mod pattern;
mod port;
mod serve;
#[cfg(test)]
mod tests;
mod ucwa;
mod web;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use applications::Applications;
pub use certificate::{CertificateError, DemoCa, ServerCertificate};
use port::DemoPort;
use serve::{Service, WebService};
use web::{Scheme, WebSite};

/// The settings of a simulated Front End.
#[derive(Debug, Clone)]
pub struct FrontEndConfig {
    /// The server's own name, sent in `X-MS-Server-Fqdn` in every response.
    pub fqdn: String,
    /// Where External Web listens with TLS (4443 on a real server). With port 0 the kernel chooses.
    pub https: SocketAddr,
    /// Where External Web listens without TLS (8080 on a real server).
    pub http: SocketAddr,
    /// Where SIP listens (5061 on a real server).
    pub sip: SocketAddr,
    /// The server's certificate on HTTPS and SIP.
    pub certificate: ServerCertificate,
    /// The names that clients use.
    pub names: DeploymentNames,
    /// Limits on connections and applications.
    pub limits: FrontEndLimits,
}

/// The names that all Front Ends of a pool serve.
#[derive(Debug, Clone)]
pub struct DeploymentNames {
    /// The external web FQDN: the target of every link in a response.
    pub external_web_fqdn: String,
    /// The port at which clients reach it; included in links if it is not 443.
    pub external_https_port: u16,
    /// Each has the names `lyncdiscover.` and `lyncdiscoverinternal.` before it.
    pub sip_domains: Vec<String>,
    /// The names for meetings and dial-in.
    pub simple_urls: Vec<String>,
}

impl DeploymentNames {
    /// The names that the certificate of the server `fqdn` must contain, because nothing in front of it decrypts.
    #[must_use]
    pub fn for_certificate(&self, fqdn: &str) -> Vec<String> {
        let mut names = vec![fqdn.to_owned(), self.external_web_fqdn.clone()];
        for domain in &self.sip_domains {
            names.push(format!("lyncdiscover.{domain}"));
            names.push(format!("lyncdiscoverinternal.{domain}"));
        }
        names.extend(self.simple_urls.iter().cloned());
        names.sort_unstable();
        names.dedup();
        // The server's own name first: it becomes the subject.
        names.sort_by_key(|name| name != fqdn);
        names
    }
}

/// Limits of a simulated Front End. Anything beyond them is reset or evicted, never queued.
#[derive(Debug, Clone)]
pub struct FrontEndLimits {
    /// Concurrent connections over HTTPS and HTTP together.
    pub web_connections: usize,
    /// Concurrent connections to SIP.
    pub sip_connections: usize,
    /// UCWA applications; one more evicts the oldest.
    pub applications: usize,
    /// Time for a TLS handshake, and from one response to the next request's head. IIS allows 120 s.
    pub idle: Duration,
    /// How long a SIP connection is held.
    pub sip_hold: Duration,
}

impl Default for FrontEndLimits {
    fn default() -> Self {
        Self {
            web_connections: 32_768,
            sip_connections: 1024,
            applications: 16_384,
            idle: Duration::from_secs(120),
            sip_hold: Duration::from_secs(600),
        }
    }
}

/// A running simulated Front End. Dropping it is like killing the server.
pub struct FrontEnd {
    site: Arc<WebSite>,
    acceptor: TlsAcceptor,
    idle: Duration,
    sip_hold: Duration,
    https: Service,
    http: Service,
    sip: Service,
    runtime: Handle,
    tasks: TaskTracker,
}

impl FrontEnd {
    /// Binds the three ports and serves them on the current runtime.
    ///
    /// # Errors
    ///
    /// If there is no runtime, a port cannot be bound, or the certificate is unusable.
    pub fn start(config: FrontEndConfig) -> io::Result<Self> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let limits = &config.limits;
        let web_permits = Arc::new(Semaphore::new(limits.web_connections));
        let sip_permits = Arc::new(Semaphore::new(limits.sip_connections));
        let front_end = Self {
            acceptor: config.certificate.acceptor().map_err(io::Error::other)?,
            idle: limits.idle,
            sip_hold: limits.sip_hold,
            https: Service::new(DemoPort::reserve(config.https)?, web_permits.clone()),
            http: Service::new(DemoPort::reserve(config.http)?, web_permits),
            sip: Service::new(DemoPort::reserve(config.sip)?, sip_permits),
            site: Arc::new(WebSite::new(
                config.fqdn,
                config.names,
                Applications::new(limits.applications),
            )),
            runtime,
            tasks: TaskTracker::new(),
        };
        front_end.restart()?;
        Ok(front_end)
    }

    /// Opens those of the three ports that are closed: after [`FrontEnd::stop`] the server has just booted.
    ///
    /// # Errors
    ///
    /// If a port cannot listen.
    pub fn restart(&self) -> io::Result<()> {
        let _entered = self.runtime.enter();
        self.https
            .open(&self.tasks, self.web(Scheme::Https(self.acceptor.clone())))?;
        self.http.open(&self.tasks, self.web(Scheme::Http))?;
        self.open_sip()
    }

    /// Stops like a killed server: the ports refuse connections, existing ones are reset, applications are deleted.
    pub fn stop(&self) {
        self.https.close();
        self.http.close();
        self.sip.close();
        self.site.applications().clear();
    }

    /// Stops for good and waits until the last connection has ended.
    pub async fn shut_down(self) {
        self.stop();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Stops SIP alone: its port refuses and its connections are reset, while the web site still works.
    pub fn close_sip(&self) {
        self.sip.close();
    }

    /// Reverses [`FrontEnd::close_sip`].
    ///
    /// # Errors
    ///
    /// If the port cannot listen.
    pub fn open_sip(&self) -> io::Result<()> {
        let _entered = self.runtime.enter();
        self.sip.open(
            &self.tasks,
            serve::SipService {
                acceptor: self.acceptor.clone(),
                hold: self.sip_hold,
            },
        )
    }

    /// Sends an event to every application, which ends its long poll.
    pub fn send_event_to_all(&self) {
        self.site.applications().send_event_to_all();
    }

    /// The server's own name.
    #[must_use]
    pub fn fqdn(&self) -> &str {
        self.site.fqdn()
    }

    /// The address of HTTPS, open or closed.
    #[must_use]
    pub fn https_addr(&self) -> SocketAddr {
        self.https.address()
    }

    /// The address of HTTP, open or closed.
    #[must_use]
    pub fn http_addr(&self) -> SocketAddr {
        self.http.address()
    }

    /// The address of SIP, open or closed.
    #[must_use]
    pub fn sip_addr(&self) -> SocketAddr {
        self.sip.address()
    }

    /// Requests completed since the start, over HTTPS and HTTP; a long poll counts when it ends.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.site.requests()
    }

    /// Open HTTPS and HTTP connections.
    #[must_use]
    pub fn web_connections(&self) -> usize {
        self.https.connections()
    }

    /// Open SIP connections.
    #[must_use]
    pub fn sip_connections(&self) -> usize {
        self.sip.connections()
    }

    /// UCWA applications on this server.
    #[must_use]
    pub fn applications(&self) -> usize {
        self.site.applications().len()
    }

    /// Waiting long polls.
    #[must_use]
    pub fn waiting_polls(&self) -> usize {
        self.site.applications().waiting()
    }

    fn web(&self, scheme: Scheme) -> WebService {
        WebService {
            site: self.site.clone(),
            scheme,
            idle: self.idle,
        }
    }
}

impl std::fmt::Debug for FrontEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("FrontEnd");
        shown
            .field("fqdn", &self.fqdn())
            .field("https", &self.https_addr());
        shown
            .field("http", &self.http_addr())
            .field("sip", &self.sip_addr())
            .finish_non_exhaustive()
    }
}

impl Drop for FrontEnd {
    fn drop(&mut self) {
        self.stop();
    }
}
