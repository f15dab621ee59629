//! Bytes arrive complete and in order, copied or spliced.

use super::*;

#[tokio::test]
async fn bytes_arrive_complete_and_in_order_in_both_directions_in_pieces_of_any_size() {
    for seed in 1..=4 {
        let mut noise = Noise(seed * 0x9e37_79b9);
        let (up, down) = (noise.bytes(3_000_001), noise.bytes(4_000_003));
        let Rig {
            client,
            backend,
            relayed,
            ..
        } = Rig::start(b"hello", NO_TIMEOUTS).await;
        let (client_reads, client_writes) = client.into_split();
        let (backend_reads, backend_writes) = backend.into_split();
        let noises = || Noise(seed * 77 + 1);
        let (said_up, said_down) = (
            write_in_pieces(client_writes, up.clone(), noises()),
            write_in_pieces(backend_writes, down.clone(), noises()),
        );
        let all = async {
            tokio::join!(
                said_up,
                said_down,
                read_in_pieces(backend_reads, noises()),
                read_in_pieces(client_reads, noises())
            )
        };
        let ((), (), at_backend, at_client) = timeout(SOON * 2, all).await.unwrap();
        assert!(at_backend == [&b"hello"[..], &up].concat(), "seed {seed}");
        assert!(at_client == down, "seed {seed}");
        let (end, moved) = timeout(SOON, relayed).await.unwrap().unwrap();
        assert!(matches!(end, End::Closed(_)), "{end:?}");
        assert_eq!(
            (moved.to_backend, moved.to_client),
            (3_000_006, 4_000_003),
            "seed {seed}"
        );
    }
}

#[tokio::test]
async fn the_preread_bytes_are_sent_first_however_many_they_are() {
    let (preread, more) = (Noise(7).bytes(8_000_000), Noise(8).bytes(100_000));
    let mut rig = Rig::start(&preread, NO_TIMEOUTS).await;
    rig.client.write_all(&more).await.unwrap();
    rig.client.shutdown().await.unwrap();
    let received = read_all(&mut rig.backend).await;
    assert!(received == [preread, more].concat());
    rig.backend.shutdown().await.unwrap();
    assert_eq!(rig.end().await.1.to_backend, 8_100_000);
}

#[tokio::test]
async fn messages_are_copied_and_streams_are_spliced_and_the_mode_can_change() {
    let mut rig = Rig::start(b"", NO_TIMEOUTS).await;
    let mut sent = (0, 0);
    for round in 1..=3 {
        let before = rig.bytes("to_client", "spliced");
        let stream = Noise(round).bytes(4_000_000);
        let (received, ()) = tokio::join!(read_exactly(&mut rig.client, stream.len()), async {
            rig.backend.write_all(&stream).await.unwrap();
        });
        assert!(received == stream, "round {round}");
        assert!(
            rig.bytes("to_client", "spliced") > before + 1_000_000,
            "round {round}"
        );
        for _ in 0..20 {
            rig.backend.write_all(b"a message").await.unwrap();
            assert_eq!(read_exactly(&mut rig.client, 9).await, b"a message");
        }
        // The last message is counted once the next one has been read.
        let spliced = rig.bytes("to_client", "spliced");
        let copied = sent.1 + 4_000_000 + 20 * 9 - spliced;
        rig.backend.write_all(b"a message").await.unwrap();
        assert_eq!(read_exactly(&mut rig.client, 9).await, b"a message");
        rig.wait_counted("to_client", "copied", copied + 9).await;
        sent = (0, sent.1 + 4_000_000 + 21 * 9);
    }
    let counted = rig.bytes("to_client", "copied") + rig.bytes("to_client", "spliced");
    rig.backend.shutdown().await.unwrap();
    rig.client.shutdown().await.unwrap();
    let (_, moved) = rig.end().await;
    assert_eq!((moved.to_backend, moved.to_client), sent);
    assert_eq!(counted, sent.1);
}

#[tokio::test]
async fn the_end_of_a_stream_follows_the_bytes_in_the_pipe() {
    let mut rig = Rig::start(b"", NO_TIMEOUTS).await;
    let stream = Noise(9).bytes(12_000_000);
    let sent = stream.clone();
    let mut backend = std::mem::replace(&mut rig.backend, pair().await.0);
    // The backend closes right after its last byte, while the client reads nothing.
    let writing = tokio::spawn(async move {
        backend.write_all(&sent).await.unwrap();
        backend.shutdown().await.unwrap();
        backend
    });
    sleep(SHORT).await;
    let received = read_all(&mut rig.client).await;
    assert!(received == stream);
    rig.client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut writing.await.unwrap()).await, b"");
    assert!(matches!(rig.end().await.0, End::Closed(Side::Backend)));
}
