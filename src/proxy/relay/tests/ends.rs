//! How a relay ends: close, half-close, reset, timeouts, disconnects.

use super::*;

#[tokio::test]
async fn a_client_that_half_closes_still_receives_everything() {
    let mut rig = Rig::start(b"", NO_TIMEOUTS).await;
    rig.client.write_all(b"the request").await.unwrap();
    rig.client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut rig.backend).await, b"the request");
    let response = Noise(5).bytes(2_000_000);
    let (reading, ()) = tokio::join!(read_all(&mut rig.client), async {
        rig.backend.write_all(&response).await.unwrap();
        rig.backend.shutdown().await.unwrap();
    });
    assert!(reading == response);
    assert!(matches!(rig.end().await.0, End::Closed(Side::Client)));
}

#[tokio::test]
async fn a_backend_that_half_closes_still_receives_everything() {
    let mut rig = Rig::start(b"", NO_TIMEOUTS).await;
    rig.backend.shutdown().await.unwrap();
    assert_eq!(read_all(&mut rig.client).await, b"");
    let upload = Noise(6).bytes(2_000_000);
    let (reading, ()) = tokio::join!(read_all(&mut rig.backend), async {
        rig.client.write_all(&upload).await.unwrap();
        rig.client.shutdown().await.unwrap();
    });
    assert!(reading == upload);
    assert!(matches!(rig.end().await.0, End::Closed(Side::Backend)));
}

#[tokio::test]
async fn a_reset_of_either_side_resets_the_other() {
    let mut rig = Rig::start(b"", NO_TIMEOUTS).await;
    rig.client.write_all(b"half a requ").await.unwrap();
    assert_eq!(read_exactly(&mut rig.backend, 11).await, b"half a requ");
    reset(std::mem::replace(&mut rig.client, pair().await.0));
    assert!(is_reset(&next_read(&mut rig.backend).await));
    assert!(matches!(rig.end().await.0, End::Reset(Side::Client)));

    let mut rig = Rig::start(b"", NO_TIMEOUTS).await;
    rig.backend.write_all(b"half an answ").await.unwrap();
    assert_eq!(read_exactly(&mut rig.client, 12).await, b"half an answ");
    reset(std::mem::replace(&mut rig.backend, pair().await.0));
    assert!(is_reset(&next_read(&mut rig.client).await));
    assert!(matches!(rig.end().await.0, End::Reset(Side::Backend)));
}

#[tokio::test]
async fn a_reset_is_detected_while_the_other_side_is_stalled() {
    let mut rig = Rig::start(b"", NO_TIMEOUTS).await;
    fill(&mut rig.client).await;
    reset(std::mem::replace(&mut rig.client, pair().await.0));
    let (end, _) = rig.end().await;
    assert!(matches!(end, End::Reset(Side::Client)), "{end:?}");

    let mut rig = Rig::start(b"", NO_TIMEOUTS).await;
    fill(&mut rig.backend).await;
    reset(std::mem::replace(&mut rig.backend, pair().await.0));
    let (end, _) = rig.end().await;
    assert!(matches!(end, End::Reset(Side::Backend)), "{end:?}");
}

#[tokio::test]
async fn a_reset_of_a_stalled_side_is_detected() {
    let mut rig = Rig::start(b"", NO_TIMEOUTS).await;
    fill(&mut rig.client).await;
    reset(std::mem::replace(&mut rig.backend, pair().await.0));
    let (end, _) = rig.end().await;
    assert!(matches!(end, End::Reset(Side::Backend)), "{end:?}");
}

#[tokio::test]
async fn a_reset_after_a_half_close_is_detected() {
    let mut rig = Rig::start(b"", NO_TIMEOUTS).await;
    rig.client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut rig.backend).await, b"");
    reset(std::mem::replace(&mut rig.client, pair().await.0));
    let (end, _) = rig.end().await;
    assert!(matches!(end, End::Reset(Side::Client)), "{end:?}");
}

/// The backend half-closes and then resets; at the same moment the client closes in order. The client's last bytes were lost,
/// so it must not see an orderly close.
#[tokio::test]
async fn an_orderly_close_does_not_hide_a_simultaneous_reset() {
    let mut rig = Rig::start(b"", NO_TIMEOUTS).await;
    rig.backend.shutdown().await.unwrap();
    assert_eq!(read_all(&mut rig.client).await, b"");
    let spare = pair().await.0;
    let backend = std::mem::replace(&mut rig.backend, spare);
    rig.at_once(|| {
        reset(backend);
        socket2::SockRef::from(&rig.client)
            .shutdown(std::net::Shutdown::Write)
            .unwrap();
    });
    let (end, _) = rig.end().await;
    assert!(matches!(end, End::Reset(Side::Backend)), "{end:?}");
}

#[tokio::test]
async fn the_idle_timeout_ends_it_and_progress_restarts_the_timeout() {
    let short = timeouts(SHORT * 2, LONG);
    let mut rig = Rig::start(b"", short).await;
    for _ in 0..4 {
        sleep(SHORT).await;
        rig.client.write_all(b"x").await.unwrap();
        assert_eq!(read_exactly(&mut rig.backend, 1).await, b"x");
    }
    let rested = Instant::now();
    assert!(is_reset(&next_read(&mut rig.client).await));
    assert!(rested.elapsed() >= SHORT);
    let (end, moved) = rig.end().await;
    assert!(matches!(end, End::Idle), "{end:?}");
    assert_eq!(moved.to_backend, 4);
}

#[tokio::test]
async fn after_a_half_close_only_the_half_close_timeout_counts() {
    let short = timeouts(LONG, SHORT);
    let mut rig = Rig::start(b"", short).await;
    sleep(SHORT * 2).await;
    let closed = Instant::now();
    rig.client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut rig.backend).await, b"");
    let (end, _) = rig.end().await;
    assert!(matches!(end, End::HalfClosed(_)), "{end:?}");
    assert!(closed.elapsed() >= SHORT);

    // Conversely, a short `idle` has no effect after a half-close.
    let short = timeouts(SHORT, SHORT * 3);
    let mut rig = Rig::start(b"", short).await;
    let closed = Instant::now();
    rig.backend.shutdown().await.unwrap();
    let (end, _) = rig.end().await;
    assert!(matches!(end, End::HalfClosed(_)), "{end:?}");
    assert!(closed.elapsed() >= SHORT * 3);
}

#[tokio::test]
async fn a_disconnect_ends_it_even_if_ordered_before_the_first_byte() {
    let mut rig = Rig::start(b"", NO_TIMEOUTS).await;
    rig.client.write_all(b"x").await.unwrap();
    assert_eq!(read_exactly(&mut rig.backend, 1).await, b"x");
    rig.server.disconnect_all(Disconnect::Maintain);
    assert!(is_reset(&next_read(&mut rig.client).await));
    assert!(is_reset(&next_read(&mut rig.backend).await));
    let (end, _) = rig.end().await;
    assert!(
        matches!(end, End::Disconnected(Disconnect::Maintain)),
        "{end:?}"
    );

    let rig = Rig::start_with(b"", NO_TIMEOUTS, |server| {
        server.disconnect_all(Disconnect::Down);
    })
    .await;
    let (end, _) = rig.end().await;
    assert!(
        matches!(end, End::Disconnected(Disconnect::Down)),
        "{end:?}"
    );
}

#[tokio::test]
async fn a_disconnect_ends_a_stalled_relay() {
    let mut rig = Rig::start(b"", NO_TIMEOUTS).await;
    fill(&mut rig.client).await;
    rig.server.disconnect_all(Disconnect::Shutdown);
    let (end, _) = rig.end().await;
    assert!(
        matches!(end, End::Disconnected(Disconnect::Shutdown)),
        "{end:?}"
    );
}

#[tokio::test]
async fn keepalive_is_enabled_on_both_sockets_of_a_long_connection() {
    let timeouts = Timeouts {
        tcp_keepalive: Duration::from_secs(2),
        tcp_user: Duration::from_secs(3),
        ..NO_TIMEOUTS
    };
    let ((_client, near_client), (_backend, near_backend)) = (pair().await, pair().await);
    let near = (near_client, near_backend);
    let sockets = [&near.0, &near.1].map(|stream| rustix::io::dup(stream).unwrap());
    let (registry, availability) = (Registry::default(), Arc::new(Availability::default()));
    let server = server(&registry, &availability);
    let (_pauser, pauses) = unbounded_channel();
    let permit = server.try_acquire().unwrap();
    let _relayed = spawn_relay(near, Vec::new(), permit, timeouts, availability, pauses);
    let options = || {
        sockets.each_ref().map(|socket| {
            let socket = socket2::SockRef::from(socket);
            let probed = socket.keepalive().unwrap();
            probed.then(|| socket.tcp_keepalive_time().unwrap())
        })
    };
    assert_eq!(options(), [None; 2]);
    let watched = async {
        while options() != [Some(timeouts.tcp_keepalive); 2] {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, watched).await.expect("enabled in time");
    server.disconnect_all(Disconnect::Shutdown);
}
