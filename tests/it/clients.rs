//! Third-party clients connect through the balancer to third-party servers by name, with every TLS version, and report
//! the reason if they are rejected.

mod browser;
mod refused;
mod servers;

use crate::support::eventually;
use crate::support::programs::{Said, run};
use servers::{CURL_OLD, Deployment, SERVERS, curl};

#[test]
fn curl_reaches_each_server_by_its_name() {
    let deployment = Deployment::start();
    for server in SERVERS {
        let output = deployment.curl("https", server.name, CURL_OLD);
        assert_eq!(output.out, server.name, "{output:?}");
    }
    for name in servers::PLAIN {
        assert_eq!(deployment.curl("http", name, &[]).out, *name);
    }
}

#[test]
fn openssl_reaches_each_server_by_its_name() {
    let deployment = Deployment::start();
    for server in SERVERS {
        let output =
            deployment.s_client(&["-servername", server.name, server.openssl], server.name);
        assert!(output.out.ends_with(server.name), "{output:?}");
    }
}

#[test]
fn openssl_resumes_its_session_with_the_same_server() {
    let deployment = Deployment::start();
    let tls12 = SERVERS
        .iter()
        .find(|server| server.openssl == "-tls1_2")
        .unwrap();
    // Connects once, and then five times with the session of the first connection.
    let address = deployment.at(443);
    let arguments = [
        "s_client",
        "-reconnect",
        "-tls1_2",
        "-servername",
        tls12.name,
        "-connect",
        &address,
    ];
    let output = run("openssl", "openssl", &arguments, "Q\n");
    assert_eq!(
        output.out.matches("Reused, TLSv1.2").count(),
        5,
        "{output:?}"
    );
}

#[test]
fn gnutls_reaches_each_server_by_its_name() {
    let deployment = Deployment::start();
    for server in SERVERS {
        let output = deployment.gnutls(&["--sni-hostname", server.name], server);
        assert!(output.out.contains(server.name), "{output:?}");
        assert!(
            output
                .out
                .contains(server.gnutls.trim_start_matches("VERS-")),
            "{output:?}"
        );
    }
}

#[test]
fn python_reaches_each_server_by_its_name_in_its_tls_version() {
    let deployment = Deployment::start();
    for server in SERVERS {
        let output = deployment.python(server.name, server.name);
        assert_eq!(
            output.out,
            format!("{} {}", server.python, server.name),
            "{output:?}"
        );
    }
}

#[test]
fn a_wildcard_matches_subdomains_and_the_longest_match_wins() {
    let deployment = Deployment::start();
    for (name, server) in [
        ("one.apps.contoso.test", "tls12.contoso.test"),
        ("a.b.apps.contoso.test", "tls12.contoso.test"),
        ("one.inner.apps.contoso.test", "tls13.contoso.test"),
        ("exact.inner.apps.contoso.test", "tls11.contoso.test"),
        ("ONE.Apps.Contoso.TEST", "tls12.contoso.test"),
    ] {
        assert_eq!(
            deployment.curl("https", name, CURL_OLD).out,
            server,
            "{name}"
        );
    }
    let bare = deployment.curl("https", "apps.contoso.test", CURL_OLD);
    assert_eq!(bare.status.code(), Some(35), "{bare:?}");
}

#[test]
fn clients_without_a_server_name_use_the_no_name_pool() {
    let deployment = Deployment::start();
    let server = SERVERS.last().unwrap();
    // curl sends no server name for an address.
    let address = deployment.address();
    let by_address = curl(&[&format!("https://{address}/")]);
    let without: [Said; 3] = [
        by_address,
        deployment.s_client(&["-noservername"], "any.contoso.test"),
        deployment.gnutls(&["--disable-sni"], server),
    ];
    for output in without {
        assert!(output.out.contains(server.name), "{output:?}");
    }
    assert!(
        deployment
            .python("", "any.contoso.test")
            .out
            .ends_with(server.name)
    );
}

#[test]
fn several_requests_use_one_connection() {
    let deployment = Deployment::start();
    let url = format!("https://{}/", SERVERS[2].name);
    let resolve = format!("{}:443:{}", SERVERS[2].name, deployment.address());
    let output = curl(&[
        "--resolve",
        &resolve,
        "-w",
        " %{num_connects}\n",
        &url,
        &url,
        &url,
    ]);
    let expected = format!("{0} 1\n{0} 0\n{0} 0\n", SERVERS[2].name);
    assert_eq!(output.out, expected, "{output:?}");
    // Either side may close first: nginx closes after the close_notify of curl.
    let line = eventually("the connection is logged", || {
        deployment.balancer.access().pop()
    });
    assert_eq!(line["name"], SERVERS[2].name);
    assert_eq!(line["tls_offered"], "TLSv1.3");
}
