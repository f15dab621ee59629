//! Stop, restart and limits.

use super::*;

#[tokio::test]
async fn stop_refuses_and_resets_and_a_restart_uses_the_same_ports() {
    let (ca, front_end) = start();
    let mut web = tls(&ca, front_end.https_addr(), "lyncweb.contoso.com").await;
    let mut plain = TcpStream::connect(front_end.http_addr()).await.unwrap();
    let mut sip = TcpStream::connect(front_end.sip_addr()).await.unwrap();
    eventually("all are held", || {
        (front_end.web_connections(), front_end.sip_connections()) == (2, 1)
    })
    .await;
    let mut client = Client::https(&ca, &front_end).await;
    let application = application(&mut client).await;

    front_end.stop();
    for address in [
        front_end.https_addr(),
        front_end.http_addr(),
        front_end.sip_addr(),
    ] {
        assert!(refuses(address).await);
    }
    assert!(was_reset(&web.read_u8().await));
    assert!(was_reset(&plain.read_u8().await));
    assert!(was_reset(&sip.read_u8().await));
    eventually("all are gone", || {
        (front_end.web_connections(), front_end.sip_connections()) == (0, 0)
    })
    .await;

    for _ in 0..3 {
        front_end.restart().unwrap();
        let mut client = Client::https(&ca, &front_end).await;
        assert_eq!(client.get("/", "").await.0, 200);
        assert_eq!(client.get(&application, "").await.0, 404);
        front_end.stop();
        assert!(refuses(front_end.https_addr()).await);
    }
}

#[tokio::test]
async fn stop_resets_a_running_transfer_and_a_waiting_poll() {
    let (ca, front_end) = start();
    let mut polling = Client::https(&ca, &front_end).await;
    let application = application(&mut polling).await;
    let request = Request::get(format!("{application}/events"))
        .body(Full::default())
        .unwrap();
    let poll = tokio::spawn(async move { polling.try_send(request).await });
    let mut loading = Client::http(&front_end).await;
    let mut body = loading
        .send("GET", "/big?bytes=10000000000", &[], Bytes::new())
        .await
        .into_body();
    body.frame().await.unwrap().unwrap();
    eventually("a poll waits", || front_end.waiting_polls() == 1).await;
    front_end.stop();
    poll.await.unwrap().unwrap_err();
    while let Some(frame) = body.frame().await {
        if frame.is_err() {
            return front_end.shut_down().await;
        }
    }
    panic!("the transfer ended as if it were whole");
}

#[tokio::test]
async fn close_sip_refuses_sip_and_still_serves_the_web() {
    let (ca, front_end) = start();
    let mut held = TcpStream::connect(front_end.sip_addr()).await.unwrap();
    eventually("it is held", || front_end.sip_connections() == 1).await;
    front_end.close_sip();
    assert!(refuses(front_end.sip_addr()).await);
    assert!(was_reset(&held.read_u8().await));
    assert_eq!(
        Client::https(&ca, &front_end).await.get("/", "").await.0,
        200
    );
    front_end.open_sip().unwrap();
    front_end.open_sip().unwrap();
    tls(&ca, front_end.sip_addr(), "fe01.contoso.local").await;
}

#[tokio::test]
async fn sip_ends_on_invalid_data_and_after_its_time_limit() {
    let ca = DemoCa::new().unwrap();
    let mut config = config(&ca, "fe01.contoso.local");
    config.limits.sip_hold = Duration::from_millis(200);
    let front_end = FrontEnd::start(config).unwrap();
    let mut garbage = TcpStream::connect(front_end.sip_addr()).await.unwrap();
    garbage
        .write_all(b"OPTIONS sip:fe01.contoso.local SIP/2.0\r\n\r\n")
        .await
        .unwrap();
    let _alert_or_end = garbage.read_to_end(&mut Vec::new()).await;
    let mut silent = TcpStream::connect(front_end.sip_addr()).await.unwrap();
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    eventually("none is held", || front_end.sip_connections() == 0).await;
}

#[tokio::test]
async fn a_sip_client_that_sends_too_much_is_disconnected() {
    let (ca, front_end) = start();
    let mut talker = tls(&ca, front_end.sip_addr(), "fe01.contoso.local").await;
    let said = async { while talker.write_all(&[b'x'; 4096]).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(10), said)
        .await
        .unwrap();
}

#[tokio::test]
async fn connections_beyond_the_limit_are_reset_and_the_others_continue() {
    let ca = DemoCa::new().unwrap();
    let mut config = config(&ca, "fe01.contoso.local");
    config.limits.web_connections = 1;
    let front_end = FrontEnd::start(config).unwrap();
    let mut first = Client::http(&front_end).await;
    assert_eq!(first.get("/", "").await.0, 200);
    // The reset may come before connect(2) has returned.
    let second = match TcpStream::connect(front_end.http_addr()).await {
        Ok(mut stream) => stream.read_u8().await,
        Err(reset) => Err(reset),
    };
    assert!(was_reset(&second));
    assert_eq!(first.get("/", "").await.0, 200);
    drop(first);
    eventually("the place is free", || front_end.web_connections() == 0).await;
    assert_eq!(Client::http(&front_end).await.get("/", "").await.0, 200);
}

#[tokio::test]
async fn an_idle_client_and_an_endless_head_are_closed() {
    let ca = DemoCa::new().unwrap();
    let mut config = config(&ca, "fe01.contoso.local");
    config.limits.idle = Duration::from_millis(200);
    let front_end = FrontEnd::start(config).unwrap();
    for address in [front_end.https_addr(), front_end.http_addr()] {
        let mut silent = TcpStream::connect(address).await.unwrap();
        let _response_or_end = silent.read_to_end(&mut Vec::new()).await;
    }
    let mut endless = TcpStream::connect(front_end.http_addr()).await.unwrap();
    endless
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX: ")
        .await
        .unwrap();
    while endless.write_all(&[b'x'; 4096]).await.is_ok() {}
    eventually("none is held", || front_end.web_connections() == 0).await;
}

#[tokio::test]
async fn shut_down_ends_every_task_and_releases_the_ports() {
    let (ca, front_end) = start();
    let address = front_end.https_addr();
    let _held = tls(&ca, address, "lyncweb.contoso.com").await;
    front_end.shut_down().await;
    let again = FrontEnd::start(FrontEndConfig {
        https: address,
        ..config(&ca, "fe01.contoso.local")
    })
    .unwrap();
    assert_eq!(again.https_addr(), address);
    drop(again);
    assert!(refuses(address).await);
}

#[test]
fn start_without_a_runtime_fails() {
    let ca = DemoCa::new().unwrap();
    assert!(FrontEnd::start(config(&ca, "fe01.contoso.local")).is_err());
}
