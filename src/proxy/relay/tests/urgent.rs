//! Urgent bytes are part of the stream and delay nothing. splice(2) stops at TCP's urgent mark and returns EAGAIN there, or 0
//! as at the end of a stream once the peer has closed (`tcp_splice_read` of Linux).

use super::*;

/// Sends all pieces in order, with the last byte of each marked as urgent.
async fn send_urgent(stream: &TcpStream, pieces: &[&[u8]]) {
    for piece in pieces {
        let mut left = *piece;
        while !left.is_empty() {
            stream.writable().await.unwrap();
            let sent = stream.try_io(tokio::io::Interest::WRITABLE, || {
                Ok(rustix::net::send(stream, left, SendFlags::OOB)?)
            });
            match sent {
                Ok(sent) => left = &left[sent..],
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
    }
}

/// Tests both directions of a relay.
async fn both(mut each: impl AsyncFnMut(&mut TcpStream, &mut TcpStream)) {
    let mut rig = Rig::start(b"", NO_TIMEOUTS).await;
    each(&mut rig.backend, &mut rig.client).await;
    each(&mut rig.client, &mut rig.backend).await;
    rig.client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut rig.backend).await, b"");
    rig.backend.shutdown().await.unwrap();
    assert!(matches!(rig.end().await.0, End::Closed(Side::Client)));
}

#[tokio::test]
async fn an_urgent_byte_first_last_or_alone_is_relayed_without_waiting_for_the_next() {
    both(async |from, to| {
        for sent in [&b"!"[..], b"some bytes and one!", b"!!", b"?"] {
            send_urgent(from, &[sent]).await;
            assert_eq!(read_exactly(to, sent.len()).await, sent);
            from.write_all(b"in between").await.unwrap();
            assert_eq!(read_exactly(to, 10).await, b"in between");
        }
    })
    .await;
}

#[tokio::test]
async fn urgent_bytes_in_a_stream_delay_nothing_however_many() {
    both(async |from, to| {
        let stream = Noise(11).bytes(6_000_000);
        for piece in [2_000_000, 65_536, 40_001, 16_384, 9_999] {
            let pieces: Vec<&[u8]> = stream.chunks(piece).collect();
            let (received, ()) =
                tokio::join!(read_exactly(to, stream.len()), send_urgent(from, &pieces));
            assert!(received == stream, "in pieces of {piece}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_urgent_byte_after_pending_bytes_arrives_when_the_paused_reader_resumes() {
    both(async |from, to| {
        // The relay is stalled in stream mode; the mark is queued after its pending bytes.
        let stream = Noise(12).bytes(12_000_000);
        let (all, pieces) = (stream.len(), [&stream[..], b"!", b"the tail", b"!"]);
        let writing = send_urgent(from, &pieces);
        let reading = async {
            sleep(SHORT).await;
            read_exactly(to, all + 10).await
        };
        let (received, ()) = tokio::join!(reading, writing);
        assert!(received == [&stream[..], b"!the tail!"].concat());
    })
    .await;
}

#[tokio::test]
async fn an_urgent_byte_in_a_stream_does_not_truncate_it() {
    for urgent in [&b"!"[..], b"!!", b""] {
        let mut rig = Rig::start(b"", NO_TIMEOUTS).await;
        let stream = Noise(13).bytes(9_000_000);
        let tail = Noise(10).bytes(50_000);
        let writing = async {
            send_urgent(&rig.backend, &[&stream, urgent]).await;
            rig.backend.write_all(&tail).await.unwrap();
            rig.backend.shutdown().await.unwrap();
        };
        let reading = async {
            sleep(SHORT).await;
            read_all(&mut rig.client).await
        };
        let (all, ()) = tokio::join!(reading, writing);
        assert!(all == [&stream[..], urgent, &tail].concat());
        rig.client.shutdown().await.unwrap();
        assert!(matches!(rig.end().await.0, End::Closed(Side::Backend)));
    }
}
