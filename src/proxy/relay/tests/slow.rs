//! Readers that read nothing for a long time but keep acknowledging.

use super::*;

/// So short that a test can pause for many times as long.
const SHORT_TCP_USER: Timeouts = Timeouts {
    tcp_user: Duration::from_millis(200),
    ..NO_TIMEOUTS
};
const PAUSE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_peer_that_reads_nothing_for_longer_than_tcp_user_receives_every_byte() {
    let mut rig = Rig::start(b"", SHORT_TCP_USER).await;
    let sent = Noise(21).bytes(9_000_000);
    let (client, backend) = (&mut rig.client, &mut rig.backend);
    let down = async {
        let (mut from, to) = (&mut *backend, &mut *client);
        let reading = async {
            sleep(PAUSE).await;
            read_exactly(to, sent.len()).await
        };
        let (received, written) = tokio::join!(reading, from.write_all(&sent));
        written.unwrap();
        assert!(received == sent);
        from = backend;
        let reading = async {
            sleep(PAUSE).await;
            read_exactly(from, sent.len()).await
        };
        let (received, written) = tokio::join!(reading, to.write_all(&sent));
        written.unwrap();
        assert!(received == sent);
    };
    timeout(SOON * 2, down).await.unwrap();
    rig.client.shutdown().await.unwrap();
    rig.backend.shutdown().await.unwrap();
    assert!(matches!(rig.end().await.0, End::Closed(_)));
}

#[tokio::test]
async fn a_peer_that_half_closed_and_reads_nothing_for_longer_than_tcp_user_receives_every_byte() {
    let mut rig = Rig::start(b"", SHORT_TCP_USER).await;
    let sent = Noise(22).bytes(9_000_000);
    rig.client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut rig.backend).await, b"");
    let mut backend = std::mem::replace(&mut rig.backend, pair().await.0);
    let writing = async {
        backend.write_all(&sent).await.unwrap();
        drop(backend);
    };
    let reading = async {
        sleep(PAUSE).await;
        read_all(&mut rig.client).await
    };
    let (received, ()) = tokio::join!(reading, writing);
    assert!(received == sent);
    assert!(matches!(rig.end().await.0, End::Closed(Side::Client)));
}

#[tokio::test]
async fn only_the_idle_timeout_ends_a_peer_that_reads_nothing() {
    let idle = Duration::from_secs(3);
    let mut rig = Rig::start(
        b"",
        Timeouts {
            idle,
            ..SHORT_TCP_USER
        },
    )
    .await;
    let before = Instant::now();
    fill(&mut rig.client).await;
    let (end, _) = rig.end().await;
    assert!(matches!(end, End::Idle), "{end:?}");
    assert!(before.elapsed() >= idle);
}
