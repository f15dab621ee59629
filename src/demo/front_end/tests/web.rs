//! Requests and responses.

use super::*;

#[tokio::test]
async fn the_root_over_https_links_to_the_external_web_fqdn() {
    let (ca, front_end) = start();
    let mut client = Client::https(&ca, &front_end).await;
    for path in [
        "/",
        ROOT_PATH,
        "/Autodiscover/AutodiscoverService.svc/root/",
    ] {
        let (status, text) = client.get(path, "application/json").await;
        assert_eq!(status, 200);
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        let user = document["_links"]["user"]["href"].as_str().unwrap();
        let expected = "https://lyncweb.contoso.com/Autodiscover/AutodiscoverService.svc/root/oauth/user?originalDomain=contoso.com";
        assert_eq!(user, expected);
        assert!(document["_links"]["self"].is_object() && document["_links"]["xframe"].is_object());
    }
    assert_eq!(front_end.requests(), 3);
}

#[tokio::test]
async fn the_root_is_xml_if_the_accept_header_requests_it() {
    let (ca, front_end) = start();
    let mut client = Client::https(&ca, &front_end).await;
    let accept = "application/vnd.microsoft.rtc.autodiscover+xml;v=1";
    let (status, text) = client.get("/?sipuri=sip:user@fabrikam.com", accept).await;
    assert_eq!(status, 200);
    assert!(
        text.contains("<AutodiscoverResponse ") && text.contains("AccessLocation=\"External\"")
    );
    assert!(text.contains("originalDomain=fabrikam.com"));
    for token in [
        "Autodiscover",
        "AuthBroker",
        "WebScheduler",
        "Mcx",
        "Ucwa",
        "XFrame",
    ] {
        assert!(
            text.contains(&format!(
                "<Link token=\"External/{token}\" href=\"https://lyncweb.contoso.com/"
            )),
            "{token}"
        );
        assert!(
            text.contains(&format!(
                "<Link token=\"Internal/{token}\" href=\"https://fe01.contoso.local/"
            )),
            "{token}"
        );
    }
}

#[tokio::test]
async fn the_root_over_http_has_a_single_redirect_link() {
    let (_ca, front_end) = start();
    let mut client = Client::http(&front_end).await;
    let (status, text) = client.get("/", "application/json").await;
    assert_eq!(status, 200);
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let links = document["_links"].as_object().unwrap();
    assert_eq!(links.len(), 1);
    assert!(
        links["redirect"]["href"]
            .as_str()
            .unwrap()
            .starts_with("https://lyncweb.contoso.com/")
    );
    let (status, text) = client
        .get("/", "application/vnd.microsoft.rtc.autodiscover+xml;v=1")
        .await;
    assert_eq!((status, text.matches("<Link ").count()), (200, 1));
    assert_eq!(client.post(APPLICATIONS_PATH).await.0, 404);
}

#[tokio::test]
async fn links_include_the_port_if_it_is_not_443() {
    let ca = DemoCa::new().unwrap();
    let mut config = config(&ca, "fe01.contoso.local");
    config.names.external_https_port = 8443;
    let front_end = FrontEnd::start(config).unwrap();
    let (_, text) = Client::http(&front_end).await.get("/", "").await;
    assert!(text.contains("https://lyncweb.contoso.com:8443/"), "{text}");
}

#[tokio::test]
async fn a_user_is_challenged_and_then_gets_the_applications_link() {
    let (ca, front_end) = start();
    let mut client = Client::https(&ca, &front_end).await;
    let user = "/Autodiscover/AutodiscoverService.svc/root/oauth/user?originalDomain=contoso.com";
    let response = client.send("GET", user, &[], Bytes::new()).await;
    assert_eq!(response.status(), 401);
    let challenge = response.headers()["www-authenticate"].to_str().unwrap();
    assert!(
        challenge.contains("MsRtcOAuth href=\"https://lyncweb.contoso.com/WebTicket/oauthtoken\""),
        "{challenge}"
    );
    let (status, text) = client.post("/WebTicket/oauthtoken").await;
    assert!(status == 200 && text.contains("access_token"));
    let bearer = [("authorization", "Bearer cwt=demo")];
    let (status, text) = self::text(client.send("GET", user, &bearer, Bytes::new()).await).await;
    assert!(
        status == 200 && text.contains("https://lyncweb.contoso.com/ucwa/oauth/v1/applications"),
        "{text}"
    );
}

#[tokio::test]
async fn every_response_names_the_front_end() {
    let (ca, front_end) = start();
    let mut client = Client::https(&ca, &front_end).await;
    for path in [
        "/",
        "/nothing/here",
        "/big?bytes=0",
        "/autodiscover/autodiscoverservice.svc/root/oauth/user",
    ] {
        let response = client.send("GET", path, &[], Bytes::new()).await;
        assert_eq!(
            response.headers()["x-ms-server-fqdn"],
            "fe01.contoso.local",
            "{path}"
        );
        text(response).await;
    }
    assert_eq!(client.get("/nothing/here", "").await.0, 404);
}

#[tokio::test]
async fn the_certificate_contains_every_routed_name() {
    let (ca, front_end) = start();
    for name in names().for_certificate("fe01.contoso.local") {
        tls(&ca, front_end.https_addr(), &name).await;
    }
    assert!(ca.pem().starts_with("-----BEGIN CERTIFICATE-----"));
    assert_eq!(
        names().for_certificate("fe01.contoso.local")[0],
        "fe01.contoso.local"
    );
}

#[tokio::test]
async fn an_event_ends_a_poll() {
    let (ca, front_end) = start();
    let mut client = Client::https(&ca, &front_end).await;
    let application = application(&mut client).await;
    let poll = format!("{application}/events?ack=1&timeout=1800");
    let (response, ()) = tokio::join!(client.get(&poll, ""), async {
        eventually("a poll waits", || front_end.waiting_polls() == 1).await;
        front_end.send_event_to_all();
    });
    assert_eq!(response.0, 200);
    assert!(
        response.1.contains("/events?ack=2") && response.1.contains("\"updated\""),
        "{}",
        response.1
    );
    assert_eq!(front_end.waiting_polls(), 0);
}

#[tokio::test]
async fn a_poll_ends_after_the_clients_time_limit_and_not_before() {
    let (ca, front_end) = start();
    let mut client = Client::https(&ca, &front_end).await;
    let application = application(&mut client).await;
    let begun = Instant::now();
    // Zero is below the bound of one second.
    let (status, text) = client
        .get(&format!("{application}/events?ack=1&timeout=0"), "")
        .await;
    assert!(
        status == 200 && text.contains("/events?ack=1") && text.contains("\"sender\":[]"),
        "{text}"
    );
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(
        client
            .get(&format!("{application}/events?timeout=soon"), "")
            .await
            .0,
        400
    );
}

#[tokio::test]
async fn a_poll_ends_when_its_client_disconnects() {
    let (ca, front_end) = start();
    let mut client = Client::https(&ca, &front_end).await;
    let application = application(&mut client).await;
    let poll = format!("{application}/events?timeout=1800");
    let polling = tokio::spawn(async move { client.get(&poll, "").await });
    eventually("a poll waits", || front_end.waiting_polls() == 1).await;
    polling.abort();
    eventually("the poll ends", || front_end.waiting_polls() == 0).await;
}

#[tokio::test]
async fn an_application_is_unknown_to_another_front_end() {
    let (ca, first) = start();
    let second = FrontEnd::start(config(&ca, "fe02.contoso.local")).unwrap();
    let mut client = Client::https(&ca, &first).await;
    let application = application(&mut client).await;
    let activity = format!("{application}/me/reportMyActivity");
    assert_eq!(client.get(&application, "").await.0, 200);
    assert_eq!(client.post(&activity).await.0, 204);
    let mut other = Client::https(&ca, &second).await;
    for path in [
        application.clone(),
        format!("{application}/events?ack=1"),
        format!("{APPLICATIONS_PATH}/x"),
    ] {
        assert_eq!(other.get(&path, "").await.0, 404);
    }
    assert_eq!((first.applications(), second.applications()), (1, 0));
    let gone = client.send("DELETE", &application, &[], Bytes::new()).await;
    assert_eq!((gone.status().as_u16(), first.applications()), (204, 0));
}

#[tokio::test]
async fn big_streams_the_pattern() {
    let (ca, front_end) = start();
    let mut client = Client::https(&ca, &front_end).await;
    let response = client
        .send("GET", "/big?bytes=1000003", &[], Bytes::new())
        .await;
    assert_eq!(response.headers()["content-length"], "1000003");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body.len(), 1_000_003);
    assert!(
        body.iter()
            .enumerate()
            .all(|(index, byte)| index % 251 == usize::from(*byte))
    );
    for path in ["/big", "/big?bytes=-1", "/big?bytes=68719476737"] {
        assert_eq!(client.get(path, "").await.0, 400, "{path}");
    }
}

#[tokio::test]
async fn uploads_are_counted_and_other_bodies_are_limited() {
    let (_ca, front_end) = start();
    let mut client = Client::http(&front_end).await;
    let body = Bytes::from(vec![7; 300_000]);
    let counted = text(client.send("PUT", "/upload", &[], body.clone()).await).await;
    assert_eq!(counted, (200, "{\"bytes\":300000}".to_owned()));
    let ca = DemoCa::new().unwrap();
    let front_end = FrontEnd::start(config(&ca, "fe02.contoso.local")).unwrap();
    let mut client = Client::https(&ca, &front_end).await;
    let refused = client.send("POST", APPLICATIONS_PATH, &[], body).await;
    assert_eq!(
        (refused.status().as_u16(), front_end.applications()),
        (413, 0)
    );
}

#[tokio::test]
async fn a_simple_url_returns_a_page_that_names_the_front_end() {
    let (ca, front_end) = start();
    let mut client = Client::https(&ca, &front_end).await;
    let request = Request::get("/user/ABC123").header("host", "meet.contoso.com:8443");
    let response = client
        .try_send(request.body(Full::default()).unwrap())
        .await
        .unwrap();
    let (status, text) = text(response).await;
    assert!(
        status == 200 && text.contains("fe01.contoso.local"),
        "{text}"
    );
}
