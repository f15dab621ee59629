//! Third-party clients reach third-party servers by name and in every TLS version, and report the reason if they are rejected.

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
        let said = deployment.curl("https", server.name, CURL_OLD);
        assert_eq!(said.out, server.name, "{said:?}");
    }
    for name in servers::PLAIN {
        assert_eq!(deployment.curl("http", name, &[]).out, *name);
    }
}

#[test]
fn openssl_reaches_each_server_by_its_name() {
    let deployment = Deployment::start();
    for server in SERVERS {
        let said = deployment.s_client(&["-servername", server.name, server.openssl], server.name);
        assert!(said.out.ends_with(server.name), "{said:?}");
    }
}

#[test]
fn openssl_resumes_its_session_with_the_same_server() {
    let deployment = Deployment::start();
    let tls12 = SERVERS
        .iter()
        .find(|server| server.openssl == "-tls1_2")
        .unwrap();
    // Connects, then five times again with the session of the first.
    let at = deployment.at(443);
    let arguments = [
        "s_client",
        "-reconnect",
        "-tls1_2",
        "-servername",
        tls12.name,
        "-connect",
        &at,
    ];
    let said = run("openssl", "openssl", &arguments, "Q\n");
    assert_eq!(said.out.matches("Reused, TLSv1.2").count(), 5, "{said:?}");
}

#[test]
fn gnutls_reaches_each_server_by_its_name() {
    let deployment = Deployment::start();
    for server in SERVERS {
        let said = deployment.gnutls(&["--sni-hostname", server.name], server);
        assert!(said.out.contains(server.name), "{said:?}");
        assert!(
            said.out.contains(server.gnutls.trim_start_matches("VERS-")),
            "{said:?}"
        );
    }
}

#[test]
fn python_reaches_each_server_by_its_name_in_its_tls_version() {
    let deployment = Deployment::start();
    for server in SERVERS {
        let said = deployment.python(server.name, server.name);
        assert_eq!(
            said.out,
            format!("{} {}", server.python, server.name),
            "{said:?}"
        );
    }
}

#[test]
fn a_wildcard_matches_the_names_below_it_and_the_longer_one_wins() {
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
fn clients_without_a_server_name_get_the_pool_for_them() {
    let deployment = Deployment::start();
    let server = SERVERS.last().unwrap();
    // curl sends no server name for an address.
    let address = deployment.address();
    let by_address = curl(&[&format!("https://{address}/")]);
    let without: [Said; 3] = [
        by_address,
        deployment.s_client(&["-noservername"], "nobody"),
        deployment.gnutls(&["--disable-sni"], server),
    ];
    for said in without {
        assert!(said.out.contains(server.name), "{said:?}");
    }
    assert!(deployment.python("", "nobody").out.ends_with(server.name));
}

#[test]
fn one_connection_carries_many_requests() {
    let deployment = Deployment::start();
    let url = format!("https://{}/", SERVERS[2].name);
    let resolve = format!("{}:443:{}", SERVERS[2].name, deployment.address());
    let said = curl(&[
        "--resolve",
        &resolve,
        "-w",
        " %{num_connects}\n",
        &url,
        &url,
        &url,
    ]);
    let wanted = format!("{0} 1\n{0} 0\n{0} 0\n", SERVERS[2].name);
    assert_eq!(said.out, wanted, "{said:?}");
    // Either may be first: nginx closes once curl has announced that it will.
    let line = eventually("the connection ends", || deployment.balancer.access().pop());
    assert_eq!(line["name"], SERVERS[2].name);
    assert_eq!(line["tls_offered"], "TLSv1.3");
}
