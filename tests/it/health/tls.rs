//! `tls` and `https` checks against nginx with every TLS version.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use lyncpin::config::model::{CheckKind, HttpCheck};
use lyncpin::types::host_name::HostName;

use super::watch::{report, request, tls};
use crate::support::nginx::{Nginx, NginxServer};

#[track_caller]
fn check_detail(detail: &str, prefix: &str) {
    assert!(
        detail.starts_with(prefix),
        "{detail:?} does not start with {prefix:?}"
    );
}

/// Runs a `tls` check of a server and compares the result with its configuration.
async fn check(server: NginxServer<'_>, version: &str) {
    let nginx = Nginx::start(&server);
    let report = report(tls(), nginx.address).await;
    assert_eq!(report.passing, Some(true), "{report:?}");
    check_detail(
        &report.detail,
        &format!("{version}, certificate valid for "),
    );
    assert_eq!(report.certificate_expiry, Some(nginx.valid_until));
}

#[tokio::test]
async fn tls_check_reads_the_certificate_from_tls_1_0_to_1_3() {
    for (protocol, version) in [
        ("TLSv1", "TLS 1.0"),
        ("TLSv1.1", "TLS 1.1"),
        ("TLSv1.2", "TLS 1.2"),
        ("TLSv1.3", "TLS 1.3"),
    ] {
        let protocols = &[protocol];
        let server = NginxServer {
            protocols,
            ..NginxServer::default()
        };
        check(server, version).await;
    }
}

#[tokio::test]
async fn tls_check_reads_the_certificate_of_a_server_with_only_rsa_key_exchange() {
    for (protocol, version) in [("TLSv1", "TLS 1.0"), ("TLSv1.2", "TLS 1.2")] {
        let server = NginxServer {
            protocols: &[protocol],
            ciphers: "AES128-SHA:@SECLEVEL=0",
            rsa: true,
            ..NginxServer::default()
        };
        check(server, version).await;
    }
}

#[tokio::test]
async fn tls_check_works_with_and_without_a_server_name() {
    let nginx = Nginx::start(&NginxServer {
        protocols: &["TLSv1.3"],
        ..NginxServer::default()
    });
    let nameless = CheckKind::Tls {
        name: None,
        warn_days_left: 0,
    };
    assert_eq!(report(nameless, nginx.address).await.passing, Some(true));
}

/// The log of one thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn lines_with(&self, part: &str) -> usize {
        let log = self.0.lock().unwrap();
        let text = String::from_utf8_lossy(&log);
        text.lines().filter(|line| line.contains(part)).count()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_check_with_an_expired_certificate_passes_and_warns_once() {
    use super::watch::{Fixture, eventually, health, pool};

    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let nginx = Nginx::start(&NginxServer {
        valid_until: 2020,
        ..NginxServer::default()
    });
    let fixture = Fixture::new();
    let backend = fixture.backend("web", "fe01", &nginx.address.to_string());
    let https = CheckKind::Https(request());
    let checks = health([tls(), https]);
    let _monitor = fixture.watch(vec![pool(&[&backend], Some(checks))]);
    eventually("several checks of each kind", || fixture.counted("web") > 8).await;
    for report in backend.checks() {
        assert_eq!(report.passing, Some(true), "{report:?}");
        assert!(report.detail.contains("certificate expired "), "{report:?}");
        assert!(report.certificate_expiry.unwrap() < SystemTime::now());
    }
    assert!(backend.accepts_new());
    for check in ["tls0", "https1"] {
        let warning =
            format!("certificate expires soon pool=\"web\" backend=\"fe01\" check=\"{check}\"");
        assert_eq!(log.lines_with(&warning), 1, "{check}");
    }
    assert_eq!(log.lines_with("backend is up"), 1);
    let metric =
        "lyncpin_certificate_expiry_timestamp_seconds{pool=\"web\",backend=\"fe01\"} 1577836800";
    let text = fixture.registry.render();
    assert!(text.contains(metric), "{text}");
}

#[tokio::test]
async fn https_check_sends_the_documented_request_and_reports_the_certificate() {
    for protocol in ["TLSv1.2", "TLSv1.3"] {
        let nginx = Nginx::start(&NginxServer {
            protocols: &[protocol],
            ..NginxServer::default()
        });
        let http_check = HttpCheck {
            host: Some(HostName::parse(b"lyncdiscover.contoso.test").unwrap()),
            ..request()
        };
        let report = report(CheckKind::Https(http_check), nginx.address).await;
        assert_eq!(report.passing, Some(true), "{report:?}");
        check_detail(&report.detail, "status 200, certificate valid for ");
        assert_eq!(report.certificate_expiry, Some(nginx.valid_until));
        let name = "lyncdiscover.contoso.test";
        let agent = concat!("lyncpin-health/", env!("CARGO_PKG_VERSION"));
        assert_eq!(
            nginx.requests(),
            [format!("GET /root|{name}|{agent}|-|{name}")]
        );
    }
}

#[tokio::test]
async fn https_check_of_an_old_server_recommends_a_tls_check() {
    let old = Nginx::start(&NginxServer {
        protocols: &["TLSv1"],
        ..NginxServer::default()
    });
    let seen = report(CheckKind::Https(request()), old.address).await;
    assert_eq!(seen.passing, Some(false));
    assert_eq!(
        seen.detail,
        "the server supports only TLS 1.0, which an https check does not support: use a tls check"
    );
    assert_eq!(seen.certificate_expiry, Some(old.valid_until));

    let old_suites = Nginx::start(&NginxServer {
        protocols: &["TLSv1.2"],
        ciphers: "AES128-SHA:@SECLEVEL=0",
        rsa: true,
        ..NginxServer::default()
    });
    let seen = report(CheckKind::Https(request()), old_suites.address).await;
    assert_eq!(
        seen.detail,
        "the server supports TLS 1.2 only with old cipher suites, which an https check does not support: use a tls check"
    );
}

#[tokio::test]
async fn http_check_expects_its_status_and_sends_no_accept() {
    let nginx = Nginx::start(&NginxServer {
        protocols: &[],
        status: 503,
        ..NginxServer::default()
    });
    let seen = report(CheckKind::Http(request()), nginx.address).await;
    assert_eq!(seen.passing, Some(false));
    assert_eq!(seen.detail, "status 503, expected 200");
    assert_eq!(seen.certificate_expiry, None);
    let either = HttpCheck {
        status: vec![200, 503],
        ..request()
    };
    let seen = report(CheckKind::Http(either), nginx.address).await;
    assert_eq!((seen.passing, &*seen.detail), (Some(true), "status 503"));
    let agent = concat!("lyncpin-health/", env!("CARGO_PKG_VERSION"));
    let address = nginx.address;
    let line = format!("GET /root|{address}|{agent}|-|-");
    assert_eq!(nginx.requests(), [line.clone(), line]);
}

#[tokio::test]
async fn a_plain_http_server_fails_tls_and_https_checks() {
    let nginx = Nginx::start(&NginxServer {
        protocols: &[],
        ..NginxServer::default()
    });
    let seen = report(tls(), nginx.address).await;
    assert_eq!(seen.detail, "the response is not TLS");
    let seen = report(CheckKind::Https(request()), nginx.address).await;
    assert_eq!(seen.passing, Some(false));
    check_detail(&seen.detail, "no TLS session: ");
}
