//! Readers that read nothing for long, and answer all the while.

use super::*;

/// Short enough that a pause many times as long can be waited for.
const HASTY: Timeouts = Timeouts {
    tcp_user: Duration::from_millis(200),
    ..PATIENT
};
const PAUSE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn who_reads_nothing_for_longer_than_tcp_user_gets_every_byte() {
    let mut rig = Rig::start(b"", HASTY).await;
    let said = Noise(21).bytes(9_000_000);
    let (client, backend) = (&mut rig.client, &mut rig.backend);
    let down = async {
        let (mut from, to) = (&mut *backend, &mut *client);
        let reading = async {
            sleep(PAUSE).await;
            read_exactly(to, said.len()).await
        };
        let (heard, written) = tokio::join!(reading, from.write_all(&said));
        written.unwrap();
        assert!(heard == said);
        from = backend;
        let reading = async {
            sleep(PAUSE).await;
            read_exactly(from, said.len()).await
        };
        let (heard, written) = tokio::join!(reading, to.write_all(&said));
        written.unwrap();
        assert!(heard == said);
    };
    timeout(SOON * 2, down).await.unwrap();
    rig.client.shutdown().await.unwrap();
    rig.backend.shutdown().await.unwrap();
    assert!(matches!(rig.end().await.0, End::Closed(_)));
}

#[tokio::test]
async fn who_has_closed_its_half_and_reads_nothing_for_longer_than_tcp_user_gets_every_byte() {
    let mut rig = Rig::start(b"", HASTY).await;
    let said = Noise(22).bytes(9_000_000);
    rig.client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut rig.backend).await, b"");
    let mut backend = std::mem::replace(&mut rig.backend, pair().await.0);
    let saying = async {
        backend.write_all(&said).await.unwrap();
        drop(backend);
    };
    let reading = async {
        sleep(PAUSE).await;
        read_all(&mut rig.client).await
    };
    let (heard, ()) = tokio::join!(reading, saying);
    assert!(heard == said);
    assert!(matches!(rig.end().await.0, End::Closed(Side::Client)));
}

#[tokio::test]
async fn idle_bounds_who_reads_nothing_and_nothing_else_does() {
    let idle = Duration::from_secs(3);
    let mut rig = Rig::start(b"", Timeouts { idle, ..HASTY }).await;
    let before = Instant::now();
    fill(&mut rig.client).await;
    let (end, _) = rig.end().await;
    assert!(matches!(end, End::Idle), "{end:?}");
    assert!(before.elapsed() >= idle);
}
