//! A simulated Front End: what `lyncpin demo` and the tests put behind the balancer.
//!
//! Owns three ports (External Web over HTTPS and over HTTP, SIP) and every task that serves them. Must not know the
//! balancer. Invariant: the ports stay reserved for as long as the value lives, so that a stopped Front End refuses
//! clients and comes back where it was; and what it started ends with it, connections by a reset as if the server had
//! been killed.

mod applications;
mod autodiscover;
mod certificate;
mod pattern;
mod port;
mod serve;
#[cfg(test)]
mod tests;
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

/// What a simulated Front End is made of.
#[derive(Debug, Clone)]
pub struct FrontEndConfig {
    /// The server's own name, said in `X-MS-Server-Fqdn` on every answer.
    pub fqdn: String,
    /// Where External Web listens with TLS, 4443 on a real server. With port 0 the kernel chooses.
    pub https: SocketAddr,
    /// Where External Web listens without, 8080 on a real server.
    pub http: SocketAddr,
    /// Where SIP listens, 5061 on a real server.
    pub sip: SocketAddr,
    /// What the server shows on HTTPS and SIP.
    pub certificate: ServerCertificate,
    /// The names that clients use.
    pub names: DeploymentNames,
    /// How much it takes on.
    pub limits: FrontEndLimits,
}

/// The names that all Front Ends of a pool answer for.
#[derive(Debug, Clone)]
pub struct DeploymentNames {
    /// The external web FQDN: every link in an answer leads there.
    pub external_web_fqdn: String,
    /// The port at which clients reach it; written into links where it is not 443.
    pub external_https_port: u16,
    /// `lyncdiscover.` and `lyncdiscoverinternal.` stand before each of them.
    pub sip_domains: Vec<String>,
    /// Meet, dialin.
    pub simple_urls: Vec<String>,
}

impl DeploymentNames {
    /// What the certificate of the server `fqdn` has to carry when nothing before it decrypts.
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

/// Bounds of a simulated Front End. What is past them is reset or evicted, never queued.
#[derive(Debug, Clone)]
pub struct FrontEndLimits {
    /// Connections at once over HTTPS and HTTP together.
    pub web_connections: usize,
    /// Connections at once to SIP.
    pub sip_connections: usize,
    /// UCWA applications; a further one evicts the oldest.
    pub applications: usize,
    /// Time for a TLS handshake, and for a request's head from the end of the last answer. IIS gives 120 s.
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

/// A running simulated Front End. Dropping it is the server's sudden death.
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
    /// Takes the three ports and serves them on the current runtime.
    ///
    /// # Errors
    ///
    /// When there is no runtime, a port cannot be had, or the certificate is unusable.
    pub fn start(config: FrontEndConfig) -> io::Result<Self> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let limits = &config.limits;
        let web_places = Arc::new(Semaphore::new(limits.web_connections));
        let sip_places = Arc::new(Semaphore::new(limits.sip_connections));
        let front_end = Self {
            acceptor: config.certificate.acceptor().map_err(io::Error::other)?,
            idle: limits.idle,
            sip_hold: limits.sip_hold,
            https: Service::new(DemoPort::reserve(config.https)?, web_places.clone()),
            http: Service::new(DemoPort::reserve(config.http)?, web_places),
            sip: Service::new(DemoPort::reserve(config.sip)?, sip_places),
            site: Arc::new(WebSite::new(
                config.fqdn,
                config.names,
                Applications::new(limits.applications),
            )),
            runtime,
            tasks: TaskTracker::new(),
        };
        front_end.start_again()?;
        Ok(front_end)
    }

    /// Opens whichever of the three ports is closed: after [`FrontEnd::stop`] a server that has just booted.
    ///
    /// # Errors
    ///
    /// When a port cannot be listened on.
    pub fn start_again(&self) -> io::Result<()> {
        let _entered = self.runtime.enter();
        self.https
            .open(&self.tasks, self.web(Scheme::Https(self.acceptor.clone())))?;
        self.http.open(&self.tasks, self.web(Scheme::Http))?;
        self.open_sip()
    }

    /// Dies like a killed server: the ports refuse from now on, connections are reset, applications are forgotten.
    pub fn stop(&self) {
        self.https.close();
        self.http.close();
        self.sip.close();
        self.site.applications().clear();
    }

    /// Stops for good and waits until the last connection has gone.
    pub async fn shut_down(self) {
        self.stop();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Half dead: SIP refuses and drops what it held, while the web answers on.
    pub fn close_sip(&self) {
        self.sip.close();
    }

    /// Ends [`FrontEnd::close_sip`].
    ///
    /// # Errors
    ///
    /// When the port cannot be listened on.
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

    /// Gives every application an event, so that its long poll is answered now.
    pub fn poke(&self) {
        self.site.applications().poke_all();
    }

    /// The server's own name.
    #[must_use]
    pub fn fqdn(&self) -> &str {
        self.site.fqdn()
    }

    /// Where HTTPS is, whether open or not.
    #[must_use]
    pub fn https_addr(&self) -> SocketAddr {
        self.https.address()
    }

    /// Where HTTP is, whether open or not.
    #[must_use]
    pub fn http_addr(&self) -> SocketAddr {
        self.http.address()
    }

    /// Where SIP is, whether open or not.
    #[must_use]
    pub fn sip_addr(&self) -> SocketAddr {
        self.sip.address()
    }

    /// Requests answered since the start, over HTTPS and HTTP; a long poll counts when it ends.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.site.requests()
    }

    /// HTTPS and HTTP connections that are open now.
    #[must_use]
    pub fn web_connections(&self) -> usize {
        self.https.connections()
    }

    /// SIP connections that are open now.
    #[must_use]
    pub fn sip_connections(&self) -> usize {
        self.sip.connections()
    }

    /// UCWA applications that live here.
    #[must_use]
    pub fn applications(&self) -> usize {
        self.site.applications().len()
    }

    /// Long polls that wait now.
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
