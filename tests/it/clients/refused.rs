//! Rejected clients show the reason to their users.

use super::servers::{CURL_OLD, Deployment, SERVERS, curl};

#[test]
fn every_client_reports_that_the_name_is_not_recognized() {
    let deployment = Deployment::start();
    let name = "elsewhere.contoso.test";
    let by_curl = deployment.curl("https", name, CURL_OLD);
    assert!(by_curl.has("unrecognized name"), "{by_curl:?}");
    assert_eq!(by_curl.status.code(), Some(35));
    for version in ["-tls1", "-tls1_1", "-tls1_2", "-tls1_3"] {
        let by_openssl = deployment.s_client(&["-servername", name, version], name);
        assert!(
            by_openssl.has("SSL alert number 112"),
            "{version} {by_openssl:?}"
        );
    }
    for server in SERVERS {
        let by_gnutls = deployment.gnutls(&["--sni-hostname", name], server);
        assert!(by_gnutls.has("[112]"), "{by_gnutls:?}");
    }
    let by_python = deployment.python(name, name);
    assert_eq!(by_python.out, "TLSV1_UNRECOGNIZED_NAME", "{by_python:?}");
    let line = deployment.balancer.ended("unknown_name");
    assert_eq!(line["name"], name);
    assert_eq!(line["pool"], serde_json::Value::Null);
}

#[test]
fn an_address_as_server_name_is_an_unknown_name() {
    let deployment = Deployment::start();
    let output = deployment.s_client(&["-servername", "192.0.2.7"], "192.0.2.7");
    assert!(output.has("SSL alert number 112"), "{output:?}");
}

#[test]
fn clients_with_unknown_names_use_the_unknown_name_pool() {
    let deployment = Deployment::start_with("unknown_name: tls12");
    let by_name = deployment.curl("https", "elsewhere.contoso.test", &[]);
    assert_eq!(by_name.out, "tls12.contoso.test", "{by_name:?}");
    let by_address = deployment.s_client(&["-servername", "192.0.2.7"], "any.contoso.test");
    assert!(
        by_address.out.ends_with("tls12.contoso.test"),
        "{by_address:?}"
    );
    // A client that sends no name is a different case.
    let without = deployment.s_client(&["-noservername", "-tls1_3"], "any.contoso.test");
    assert!(without.has("SSL alert number 109"), "{without:?}");
}

#[test]
fn a_client_without_a_name_gets_an_alert() {
    let deployment = Deployment::start_with("no_name: refuse");
    for (version, alert) in [
        ("-tls1", "SSL alert number 40"),
        ("-tls1_2", "SSL alert number 40"),
        ("-tls1_3", "SSL alert number 109"),
    ] {
        let output = deployment.s_client(&["-noservername", version], "any.contoso.test");
        assert!(output.has(alert), "{version} {output:?}");
    }
    let by_gnutls = deployment.gnutls(&["--disable-sni"], &SERVERS[3]);
    assert!(by_gnutls.has("[109]"), "{by_gnutls:?}");
    deployment.balancer.ended("no_name");
}

#[test]
fn refusal_reset_resets_the_connection() {
    let deployment = Deployment::start_with("refusal: reset");
    let output = deployment.curl("https", "elsewhere.contoso.test", &[]);
    assert!(output.has("Connection reset by peer"), "{output:?}");
}

#[test]
fn refusal_close_closes_the_connection_without_a_reset() {
    let deployment = Deployment::start_with("refusal: close");
    let name = "elsewhere.contoso.test";
    let by_gnutls = deployment.gnutls(&["--sni-hostname", name], &SERVERS[3]);
    assert!(by_gnutls.has("non-properly terminated"), "{by_gnutls:?}");
    let by_curl = deployment.curl("https", name, &[]);
    assert_eq!(
        (by_curl.status.code(), by_curl.has("reset")),
        (Some(35), false),
        "{by_curl:?}"
    );
}

#[test]
fn rejected_http_clients_get_a_status() {
    let deployment = Deployment::start();
    let status = |arguments: &[&str]| {
        let common = ["-o", "/dev/null", "-w", "%{http_code}"];
        curl(&[&common, arguments].concat()).out
    };
    let url = format!("http://{}/", deployment.address());
    assert_eq!(status(&["-H", "Host: elsewhere.contoso.test", &url]), "404");
    assert_eq!(status(&["-H", "Host;", &url]), "400");
    assert_eq!(status(&["-H", "Host: two.contoso.test:80", &url]), "200");
    let long = format!("X: {}", "x".repeat(80_000));
    assert_eq!(status(&["-H", &long, &url]), "431");
}
