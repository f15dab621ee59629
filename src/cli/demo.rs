//! `demo`: a whole deployment on loopback, with simulated clients.
//!
//! Owns the configuration of the demo, its output, and the commands that can be typed meanwhile. Must not know how Front Ends
//! or clients are simulated. Invariant: everything ends with the command.

mod typed;

use std::cell::Cell;
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::failure::Failure;
use super::signals::Signals;
use super::{print_result, run};
use crate::config;
use crate::demo::front_end::{DemoCa, DeploymentNames, FrontEnd, FrontEndConfig, FrontEndLimits};
use crate::demo::simulation::{self, DemoPorts, SimulatedClients};
use crate::server::{ConfigSource, Server};

const SIP_DOMAINS: [&str; 2] = ["contoso.com", "fabrikam.com"];
const EXTERNAL_WEB_FQDN: &str = "lyncweb.contoso.com";
const SIMPLE_URLS: [&str; 2] = ["meet.contoso.com", "dialin.contoso.com"];
/// The names that the simulated clients request.
const REQUESTED_NAMES: [&str; 4] = [
    EXTERNAL_WEB_FQDN,
    "lyncdiscover.contoso.com",
    "lyncdiscover.fabrikam.com",
    "meet.contoso.com",
];
const FRONT_ENDS: [&str; 3] = ["fe01", "fe02", "fe03"];

/// `lyncpin demo`
#[derive(Debug, clap::Args)]
pub(super) struct Demo {
    /// Port for HTTPS clients (443 in production)
    #[arg(long, value_name = "PORT", default_value_t = 8443, value_parser = port)]
    https: u16,
    /// Port for HTTP clients (80 in production)
    #[arg(long, value_name = "PORT", default_value_t = 8080, value_parser = port)]
    http: u16,
    /// Port for clients that connect to the Front Ends' HTTPS port (4443 in production)
    #[arg(long, value_name = "PORT", default_value_t = 14443, value_parser = port)]
    https_direct: u16,
    /// Port for clients that connect to the Front Ends' HTTP port (8080 in production)
    #[arg(long, value_name = "PORT", default_value_t = 18080, value_parser = port)]
    http_direct: u16,
    /// Port of the admin listener
    #[arg(long, value_name = "PORT", default_value_t = 9900, value_parser = port)]
    admin: u16,
    /// Do not simulate clients or server failures
    #[arg(long)]
    quiet: bool,
    /// Print the log to stderr instead of a temporary file
    #[arg(long)]
    log: bool,
}

impl Demo {
    pub(super) fn run(&self) -> Result<(), Failure> {
        super::admin::block_on(async {
            let signals = Signals::catch()?;
            let ca = DemoCa::new().map_err(|error| Failure::from_error(&error))?;
            let (ca_file, mut file) = TemporaryFile::create("pem").map_err(|error| {
                Failure::operation("cannot write the demo's root certificate").caused_by(&error)
            })?;
            file.write_all(ca.pem().as_bytes()).map_err(|error| {
                Failure::operation("cannot write the demo's root certificate").caused_by(&error)
            })?;
            let log_file = if self.log {
                None
            } else {
                let created = TemporaryFile::create("log");
                Some(created.map_err(|error| {
                    Failure::operation("cannot write the demo's log; use --log to print it here")
                        .caused_by(&error)
                })?)
            };
            let (log_file, log_output) = log_file.unzip();
            let front_ends = self.start_front_ends(&ca)?;
            let yaml = self.configuration(&front_ends);
            let loaded =
                config::read(&yaml, "demo").map_err(|errors| Failure::usage(errors.to_string()))?;
            let (log, registry, writer) =
                run::start_log_on(log_output, &loaded.config, tracing::Level::INFO)?;
            let server = Server::start(loaded.config, log, registry, ConfigSource::Nowhere)
                .map_err(|error| {
                    Failure::from_error(&error)
                        .with_line("choose other ports: see `lyncpin demo --help`")
                })?;
            print_result(&self.introduction(&front_ends, &yaml, &ca_file, log_file.as_ref()))?;
            let has_typed = Cell::new(false);
            let _clients = self.start_clients(&ca)?;
            tokio::select! {
                served = run::serve(signals, server) => drop(served?),
                never = typed::run_typed_commands(&front_ends, &has_typed) => match never {},
                never = simulation::fail_servers(&front_ends, &has_typed), if !self.quiet => match never {},
            }
            drop(front_ends);
            drop(writer);
            Ok(())
        })
    }

    /// Starts the simulated clients, unless `--quiet` was given.
    fn start_clients(&self, ca: &DemoCa) -> Result<Option<SimulatedClients>, Failure> {
        if self.quiet {
            return Ok(None);
        }
        let here = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let ports = DemoPorts {
            https: here(self.https),
            http: here(self.http),
            names: REQUESTED_NAMES.into(),
        };
        let clients = SimulatedClients::start(&ports, ca.der());
        clients
            .map(Some)
            .map_err(|error| Failure::from_error(&error))
    }

    fn start_front_ends(&self, ca: &DemoCa) -> Result<Vec<FrontEnd>, Failure> {
        let names = DeploymentNames {
            external_web_fqdn: EXTERNAL_WEB_FQDN.into(),
            external_https_port: self.https,
            sip_domains: SIP_DOMAINS.map(String::from).into(),
            simple_urls: SIMPLE_URLS.map(String::from).into(),
        };
        let start = |name: &str| {
            let fqdn = format!("{name}.contoso.local");
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let certificate = ca
                .issue(&names.for_certificate(&fqdn))
                .map_err(|error| Failure::from_error(&error))?;
            FrontEnd::start(FrontEndConfig {
                certificate,
                fqdn,
                https: any,
                http: any,
                sip: any,
                names: names.clone(),
                limits: FrontEndLimits::default(),
            })
            .map_err(|error| {
                Failure::operation("cannot start the simulated Front Ends").caused_by(&error)
            })
        };
        FRONT_ENDS.into_iter().map(start).collect()
    }

    fn configuration(&self, front_ends: &[FrontEnd]) -> String {
        let front_end = |front_end: &FrontEnd| {
            format!(
                "    - {{ name: {}, address: 127.0.0.1, https: {}, http: {}, sip: {} }}\n",
                short_name(front_end.fqdn()),
                front_end.https_addr().port(),
                front_end.http_addr().port(),
                front_end.sip_addr().port()
            )
        };
        format!(
            "lync:\n  sip_domains: [{}]\n  external_web_fqdn: {EXTERNAL_WEB_FQDN}\n  simple_urls: [{}]\n  front_ends:\n{}\
             \x20 listen: [127.0.0.1]\n  ports: {{ https: {}, http: {}, https_direct: {}, http_direct: {} }}\n\
             admin: {{ bind: \"127.0.0.1:{}\" }}\n",
            SIP_DOMAINS.join(", "),
            SIMPLE_URLS.join(", "),
            front_ends.iter().map(front_end).collect::<String>(),
            self.https,
            self.http,
            self.https_direct,
            self.http_direct,
            self.admin
        )
    }

    fn introduction(
        &self,
        front_ends: &[FrontEnd],
        yaml: &str,
        ca: &TemporaryFile,
        log: Option<&TemporaryFile>,
    ) -> String {
        let program = std::env::args().next().unwrap_or_else(|| "lyncpin".into());
        let ca = ca.path.display();
        let (https, http, admin) = (self.https, self.http, self.admin);
        let mut text = String::from("Simulated Front Ends, each with HTTPS, HTTP and SIP:\n");
        for front_end in front_ends {
            let (web, plain, sip) = (
                front_end.https_addr(),
                front_end.http_addr(),
                front_end.sip_addr(),
            );
            text += &format!(
                "  {}  https {web}  http {plain}  sip {sip}\n",
                front_end.fqdn()
            );
        }
        text += &format!(
            "\nThe balancer in front of them, on 127.0.0.1, with this configuration:\n\n{}\n",
            indented(yaml)
        );
        text += &format!("The status page, for your browser:\n\n  http://127.0.0.1:{admin}/\n\n");
        if !self.quiet {
            text += "Simulated clients come and go, some are rejected, and from time to time a server fails for half a minute,\n\
                     until you type a command below. `lyncpin demo --quiet` simulates none of this.\n\n";
        }
        let log = log.map_or(String::new(), |log| {
            format!(
                "The log is in {} until the demo ends; `lyncpin demo --log` prints it to this terminal.\n",
                log.path.display()
            )
        });
        text += &format!(
            "Try, in another terminal:\n\
             \x20 curl -i --cacert {ca} --connect-to ::127.0.0.1:{https} https://lyncdiscover.contoso.com/\n\
             \x20 curl -i -H 'Host: lyncdiscover.contoso.com' http://127.0.0.1:{http}/\n\
             \x20 curl --cacert {ca} --connect-to ::127.0.0.1:{https} https://unknown.contoso.com/   # rejected with an alert\n\
             \x20 {program} status --admin 127.0.0.1:{admin}\n\
             \x20 {program} explain --admin 127.0.0.1:{admin} --listener https --name lyncdiscover.contoso.com --source 127.0.0.1\n\
             \x20 {program} drain fe01 --deadline 1m --admin 127.0.0.1:{admin}     # cancel with: ready fe01\n\
             \x20 curl -s http://127.0.0.1:{admin}/metrics\n\n\
             {log}X-MS-Server-Fqdn in a response names the Front End; it stays the same for each client.\n\
             Commands for this terminal: stop fe01, start fe01, close-sip fe01, open-sip fe01. Ctrl-C ends the demo.\n\n"
        );
        text
    }
}

/// A port; with 0 the kernel chooses.
fn port(text: &str) -> Result<u16, String> {
    let port = text.parse();
    port.map_err(|_| "expected a port, a whole number up to 65535".to_owned())
}

fn short_name(fqdn: &str) -> &str {
    fqdn.split('.').next().unwrap_or(fqdn)
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

/// A file of the demo, such as its root certificate for curl; removed at the end.
struct TemporaryFile {
    path: PathBuf,
}

impl TemporaryFile {
    /// A new file.
    fn create(extension: &str) -> std::io::Result<(Self, File)> {
        let name = format!("lyncpin-demo-{}.{extension}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // A file of a killed demo with the same process id.
        let _ = std::fs::remove_file(&path);
        let file = File::create_new(&path)?;
        Ok((Self { path }, file))
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // It may have been removed already.
        let _ = std::fs::remove_file(&self.path);
    }
}
