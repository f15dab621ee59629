//! A phone that changes networks keeps its Front End: third-party clients resume TLS sessions with third-party servers
//! from another address.

mod renewal;

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::support::balancer::Balancer;
use crate::support::nginx::{Nginx, NginxServer};
use crate::support::programs::{feed, run};
use crate::support::{eventually, own_address};

const NAME: &str = "lyncweb.contoso.test";
/// nginx stores sessions (`IDS`) or the clients store them (`TICKETS`).
const IDS: &str = "ssl_session_cache shared:sessions:1m; ssl_session_tickets off;";
const TICKETS: &str = "ssl_session_cache off; ssl_session_tickets on;";
const BODIES: [&str; 3] = ["fe01", "fe02", "fe03"];

/// The Front Ends, and a balancer with the given `affinity.by`.
struct Deployment {
    balancer: Balancer,
    servers: Vec<Nginx>,
}

/// The address of a client, the name under which it saves its session, and the name of the session that it resumes.
type Visit<'a> = (IpAddr, &'a str, &'a str);

/// The server that responded, and whether the session was resumed.
type Reached = (String, bool);

impl Deployment {
    fn start(directives: &str, protocol: &str, by: &str) -> Self {
        let server = |body| {
            Nginx::start(&NginxServer {
                protocols: &[protocol],
                names: &[NAME],
                directives,
                body,
                ..NginxServer::default()
            })
        };
        let servers: Vec<Nginx> = BODIES.map(server).into();
        let backends = BODIES.iter().zip(&servers);
        let backends: Vec<String> = backends
            .map(|(name, server)| format!("{{ name: {name}, address: \"{}\" }}", server.address))
            .collect();
        let balancer = Balancer::start(&pools(&backends.join(", "), by)).ready();
        Self { balancer, servers }
    }

    /// Connects Python clients, one after the other.
    fn visit(&self, version: &str, visits: &[Visit<'_>]) -> Vec<Reached> {
        let lines = visits
            .iter()
            .map(|(source, save, load)| format!("{source} {save} {load}\n"));
        let (address, script) = (
            self.balancer.address.to_string(),
            include_str!("roaming/clients.py"),
        );
        let arguments = ["-c", script, &address, "443", NAME, version];
        let output = feed("python3", "python3", &arguments, &lines.collect::<String>());
        let reached: Vec<Reached> = output.out.lines().map(parse_reached).collect();
        assert_eq!(reached.len(), visits.len(), "{output:?}");
        reached
    }

    fn learned(&self) -> f64 {
        self.balancer
            .metric("lyncpin_affinity_sessions_learned_total", &[])
    }

    fn recognised(&self) -> f64 {
        self.balancer
            .metric("lyncpin_affinity_sessions_recognised_total", &[])
    }
}

fn pools(backends: &str, by: &str) -> String {
    format!(
        "listeners:\n\
         \x20 https: {{ bind: [\"HOST:443\"], protocol: tls, routes: [{{ names: [{NAME}], pool: web }}] }}\n\
         workers: 2\n\
         pools:\n\
         \x20 web: {{ backends: [{backends}], balance: round_robin, health: {{ interval: 200ms, timeout: 150ms }},\n\
         \x20        affinity: {{ by: {by} }} }}"
    )
}

fn parse_reached(line: &str) -> Reached {
    let (body, handshake) = line.split_once(' ').expect("a body and a status");
    (body.to_owned(), handshake == "resumed")
}

fn names(number: usize) -> Vec<String> {
    (0..number).map(|number| format!("s{number}")).collect()
}

/// 200 clients connect, each from its own address, and then resume from another address. All must reach the same Front
/// End again.
fn assert_all_keep_their_front_end(directives: &str, by: &str) {
    let deployment = Deployment::start(directives, "TLSv1.2", by);
    let names = names(200);
    let from_home: Vec<Visit<'_>> = names
        .iter()
        .map(|name| (own_address(), name.as_str(), "-"))
        .collect();
    let away = names
        .iter()
        .map(|name| (own_address(), "again", name.as_str()));
    let reached = deployment.visit("TLSv1_2", &[from_home, away.collect()].concat());
    let (home, away) = reached.split_at(200);
    assert!(home.iter().all(|(_, resumed)| !resumed));
    let stayed = home
        .iter()
        .zip(away)
        .filter(|((home, _), (away, resumed))| home == away && *resumed)
        .count();
    assert_eq!(stayed, 200);
    assert_eq!(deployment.recognised(), 200.0);
    let mut spread: BTreeMap<&str, usize> = BTreeMap::new();
    for (body, _) in home {
        *spread.entry(body).or_default() += 1;
    }
    assert!(
        spread.len() == 3 && spread.values().all(|&count| count > 60),
        "{spread:?}"
    );
    let picked = |pick: &str| {
        let lines = deployment.balancer.access();
        lines.iter().filter(|line| line["pick"] == pick).count()
    };
    eventually("every connection is logged", || {
        (picked("tls_session") == 200).then_some(())
    });
}

#[test]
fn clients_that_resume_by_session_id_keep_their_front_end_200_of_200() {
    assert_all_keep_their_front_end(IDS, "[source, tls_session]");
}

#[test]
fn clients_that_resume_by_ticket_keep_their_front_end_200_of_200() {
    assert_all_keep_their_front_end(TICKETS, "[source, name, tls_session]");
}

#[test]
fn clients_identified_only_by_sessions_keep_their_front_end() {
    assert_all_keep_their_front_end(TICKETS, "[tls_session]");
}

#[test]
fn with_tls13_no_session_is_learned_and_clients_are_pinned_by_source() {
    let deployment = Deployment::start(TICKETS, "TLSv1.3", "[source, tls_session]");
    let (home, away) = (own_address(), own_address());
    let visits = [
        (home, "a", "-"),
        (home, "b", "a"),
        (away, "c", "a"),
        (away, "d", "-"),
    ];
    let reached = deployment.visit("TLSv1_3", &visits);
    assert_eq!(
        (&reached[0].0, &reached[2].0),
        (&reached[1].0, &reached[3].0)
    );
    assert_ne!(reached[0].0, reached[2].0, "round robin");
    assert_eq!((deployment.learned(), deployment.recognised()), (0.0, 0.0));
    assert_eq!(
        deployment.balancer.metric("lyncpin_affinity_sessions", &[]),
        0.0
    );
}

#[test]
fn a_recognised_session_does_not_move_other_clients_of_the_same_address() {
    let deployment = Deployment::start(IDS, "TLSv1.2", "[source, tls_session]");
    let (home, network) = (own_address(), own_address());
    let visits = [
        (home, "phone", "-"),
        (network, "other", "-"),
        // The phone joins the network of the other client.
        (network, "phone", "phone"),
        (network, "third", "-"),
        (network, "other", "other"),
        (network, "phone", "phone"),
        // Without a session, the phone gets the pin of the address.
        (network, "phone", "-"),
    ];
    let reached = deployment.visit("TLSv1_2", &visits);
    let bodies: Vec<&str> = reached.iter().map(|(body, _)| body.as_str()).collect();
    assert_eq!(
        bodies,
        ["fe01", "fe02", "fe01", "fe02", "fe02", "fe01", "fe02"]
    );
    assert_eq!(
        deployment.balancer.metric("lyncpin_affinity_entries", &[]),
        2.0
    );
}

#[test]
fn a_recognised_client_from_an_unpinned_address_is_pinned_there() {
    let deployment = Deployment::start(IDS, "TLSv1.2", "[source, tls_session]");
    let (home, away) = (own_address(), own_address());
    let visits = [
        (home, "phone", "-"),
        (away, "phone", "phone"),
        // A full handshake, as if for another name.
        (away, "other", "-"),
    ];
    let reached = deployment.visit("TLSv1_2", &visits);
    assert!(
        reached.iter().all(|(body, _)| body == "fe01"),
        "{reached:?}"
    );
}

#[test]
fn a_session_whose_front_end_is_down_moves_with_its_client() {
    let mut deployment = Deployment::start(TICKETS, "TLSv1.2", "[source, tls_session]");
    let (home, away) = (own_address(), own_address());
    // Python loses its sessions when its process ends; openssl stores them in a file.
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("session").display().to_string();
    let first = deployment.s_client(home, &["-sess_out", &file]);
    let home_server = BODIES.iter().position(|body| first.contains(body)).unwrap();
    drop(deployment.servers.remove(home_server));
    let backend = format!("backend=\"{}\"", BODIES[home_server]);
    eventually("the server is down", || {
        (deployment
            .balancer
            .metric("lyncpin_backend_up", &[&backend])
            == 0.0)
            .then_some(())
    });
    let second = deployment.s_client(away, &["-sess_in", &file]);
    assert!(!second.contains(BODIES[home_server]), "{second}");
    let moved = deployment
        .balancer
        .metric("lyncpin_affinity_pins_broken_total", &["reason=\"down\""]);
    assert_eq!(moved, 1.0);
}

impl Deployment {
    /// The output of `openssl s_client`, connected from `source`.
    fn s_client(&self, source: IpAddr, arguments: &[&str]) -> String {
        let (source, address) = (source.to_string(), self.balancer.at(443).to_string());
        let common = [
            "s_client",
            "-tls1_2",
            "-servername",
            NAME,
            "-connect",
            &address,
            "-bind",
            &source,
        ];
        let request = format!("GET / HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n");
        let output = run(
            "openssl",
            "openssl",
            &[&common, arguments].concat(),
            &request,
        );
        assert!(output.status.success(), "{output:?}");
        output.out
    }
}

#[test]
fn openssl_returns_from_another_address_with_its_saved_session() {
    for directives in [IDS, TICKETS] {
        let deployment = Deployment::start(directives, "TLSv1.2", "[source, tls_session]");
        let directory = tempfile::tempdir().unwrap();
        for number in 0..6 {
            let file = directory.path().join(number.to_string());
            let file = file.display().to_string();
            let first = deployment.s_client(own_address(), &["-sess_out", &file]);
            let again = deployment.s_client(own_address(), &["-sess_in", &file]);
            let body = BODIES[number % 3];
            assert!(
                first.contains(body) && first.contains("New, TLSv1.2"),
                "{first}"
            );
            assert!(
                again.contains(body) && again.contains("Reused, TLSv1.2"),
                "{again}"
            );
        }
    }
}

/// Up to TLS 1.2, curl requests no ticket (SSL_OP_NO_TICKET), so it resumes only by session ID.
#[test]
fn curl_returns_from_another_address() {
    let deployment = Deployment::start(IDS, "TLSv1.2", "[source, tls_session]");
    for number in 0..6 {
        let (home, away) = (own_address().to_string(), own_address().to_string());
        let resolve = format!("{NAME}:443:{}", deployment.balancer.address);
        let url = format!("https://{NAME}/");
        let visit = |source| ["-sk", "--resolve", &resolve, "--interface", source, &url];
        let (home, away) = (visit(&home), visit(&away));
        let output = run(
            "curl",
            "curl",
            &[&home[..], &["--next"], &away].concat(),
            "",
        );
        assert_eq!(output.out, BODIES[number % 3].repeat(2), "{output:?}");
    }
    assert_eq!(deployment.recognised(), 6.0);
}
