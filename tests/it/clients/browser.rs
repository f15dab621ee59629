//! Headless Chromium, with a new profile for each page.

use super::servers::{Deployment, PLAIN};
use crate::support::programs::{Said, run};

fn load(deployment: &Deployment, url: &str) -> Said {
    let profile = tempfile::tempdir().unwrap();
    let profile = format!("--user-data-dir={}", profile.path().display());
    let map = format!(
        "--host-resolver-rules=MAP *.contoso.test {}, MAP * ~NOTFOUND",
        deployment.address()
    );
    let arguments = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--no-proxy-server",
        // Keep http:// URLs on HTTP.
        "--disable-features=HttpsUpgrades,HttpsFirstBalancedModeAutoEnable",
        "--ignore-certificate-errors",
        &profile,
        &map,
        "--dump-dom",
        url,
    ];
    run("chromium", "chromium", &arguments, "")
}

#[test]
fn chromium_reaches_each_server_by_its_name() {
    let deployment = Deployment::start();
    // Browsers do not support older versions.
    for name in ["tls12.contoso.test", "tls13.contoso.test"] {
        let page = load(&deployment, &format!("https://{name}/"));
        assert!(page.out.contains(&format!(">{name}<")), "{page:?}");
    }
    let page = load(&deployment, &format!("http://{}/", PLAIN[1]));
    assert!(page.out.contains(&format!(">{}<", PLAIN[1])), "{page:?}");
    let name = serde_json::Value::from("tls13.contoso.test");
    let access = deployment.balancer.access();
    assert!(
        access.iter().any(|line| line["name"] == name),
        "{access:#?}"
    );
}

#[test]
fn chromium_reports_that_the_name_is_not_recognized() {
    let deployment = Deployment::start();
    let page = load(&deployment, "https://elsewhere.contoso.test/");
    assert!(page.has("ERR_SSL_UNRECOGNIZED_NAME_ALERT"), "{page:?}");
}
