use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::pin::pin;
use std::sync::mpsc;

use rustix::net::{SendFlags, send};

use super::*;
use crate::net::socket::reset_on_close;

/// Limit for everything that must happen.
const SOON: Duration = Duration::from_secs(20);

fn pair() -> (TcpStream, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    far.set_nodelay(true).unwrap();
    let near = listener.accept().unwrap().0;
    near.set_nonblocking(true).unwrap();
    (far, near.into())
}

/// Runs the task that `test` makes, to its end.
fn run<F: Future<Output = ()> + 'static>(test: impl FnOnce(EventLoop) -> F) {
    let event_loop = EventLoop::new().unwrap();
    event_loop.spawn(test(event_loop.clone()));
    event_loop.run().unwrap();
}

async fn receive(stream: &Stream, buffer: &mut [u8]) -> io::Result<Chunk> {
    loop {
        poll_fn(|_| stream.poll_readable()).await;
        if let Some(chunk) = stream.receive(buffer)? {
            return Ok(chunk);
        }
    }
}

#[test]
fn a_task_is_polled_when_its_socket_is_readable_and_sees_the_end_of_the_stream() {
    let (mut far, near) = pair();
    run(|event_loop| async move {
        let stream = Stream::accepted(&event_loop, near).unwrap();
        let mut buffer = [0; 16];
        let writing = std::thread::spawn(move || {
            far.write_all(b"one").unwrap();
            std::thread::sleep(Duration::from_millis(20));
            far.write_all(b"two").unwrap();
            far
        });
        for word in [b"one", b"two"] {
            let chunk = receive(&stream, &mut buffer).await.unwrap();
            assert_eq!((chunk.len, &buffer[..3]), (3, &word[..]));
        }
        drop(writing.join().unwrap());
        let chunk = receive(&stream, &mut buffer).await.unwrap();
        assert_eq!(chunk, Chunk { len: 0, last: true });
    });
}

#[test]
fn the_last_bytes_are_marked_as_last_if_the_end_arrived_with_them() {
    let (mut far, near) = pair();
    far.write_all(b"all there is").unwrap();
    drop(far);
    run(|event_loop| async move {
        let stream = Stream::accepted(&event_loop, near).unwrap();
        let mut buffer = [0; 8];
        let chunk = receive(&stream, &mut buffer).await.unwrap();
        assert_eq!(
            chunk,
            Chunk {
                len: 8,
                last: false
            }
        );
        let chunk = receive(&stream, &mut buffer).await.unwrap();
        assert_eq!(chunk, Chunk { len: 4, last: true });
        // The end can be read again.
        let chunk = receive(&stream, &mut buffer).await.unwrap();
        assert_eq!(chunk, Chunk { len: 0, last: true });
    });
}

#[test]
fn a_read_that_stops_at_an_urgent_byte_is_neither_the_end_nor_a_drained_socket() {
    let (mut far, near) = pair();
    far.write_all(b"before").unwrap();
    send(&far, b"!", SendFlags::OOB).unwrap();
    far.write_all(b"behind").unwrap();
    drop(far);
    run(|event_loop| async move {
        let stream = Stream::accepted(&event_loop, near).unwrap();
        let (mut received, mut buffer) = (Vec::new(), [0; 64]);
        loop {
            let chunk = receive(&stream, &mut buffer).await.unwrap();
            received.extend_from_slice(&buffer[..chunk.len]);
            if chunk.last {
                break;
            }
        }
        assert_eq!(received, b"beforebehind");
    });
}

#[test]
fn a_reset_is_reported_as_a_failure() {
    let (far, near) = pair();
    run(|event_loop| async move {
        let stream = Stream::accepted(&event_loop, near).unwrap();
        assert!(stream.poll_failed().is_pending());
        reset_on_close(&far);
        drop(far);
        poll_fn(|_| stream.poll_failed()).await;
        assert_eq!(stream.error().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(stream.error().kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_socket_does_not_get_the_events_of_a_closed_one_with_the_same_index() {
    run(|event_loop| async move {
        for _ in 0..100 {
            let (far, near) = pair();
            let stream = Stream::accepted(&event_loop, near).unwrap();
            drop(far);
            drop(stream);
            let (_far, near) = pair();
            let stream = Stream::accepted(&event_loop, near).unwrap();
            event_loop.sleep(Duration::from_millis(1)).await;
            assert!(stream.poll_readable().is_pending());
        }
    });
}

#[test]
fn a_sleep_lasts_its_full_duration_and_a_timeout_ends_a_pending_future() {
    run(|event_loop| async move {
        let begun = Instant::now();
        event_loop.sleep(Duration::from_millis(30)).await;
        assert!(begun.elapsed() >= Duration::from_millis(30));
        let never = pin!(std::future::pending::<()>());
        let deadline = event_loop.now() + Duration::from_millis(30);
        assert_eq!(event_loop.timeout_at(deadline, never).await, None);
        assert!(begun.elapsed() >= Duration::from_millis(60));
        let deadline = event_loop.now() + SOON;
        assert_eq!(
            event_loop.timeout_at(deadline, pin!(async { 7 })).await,
            Some(7)
        );
    });
}

#[test]
fn the_earliest_of_several_deadlines_of_a_task_counts() {
    run(|event_loop| async move {
        let begun = Instant::now();
        let (soon, late) = (begun + Duration::from_millis(20), begun + SOON);
        poll_fn(|_| {
            // The later deadline must not replace the earlier one.
            let first = event_loop.poll_deadline(soon);
            let _ = event_loop.poll_deadline(late);
            first
        })
        .await;
        assert!(begun.elapsed() < SOON / 2);
    });
}

#[test]
fn another_thread_wakes_every_task_that_waits() {
    let (sender, receiver) = tokio::sync::watch::channel(0);
    let event_loop = EventLoop::new().unwrap();
    let woken = Rc::new(Cell::new(0));
    for _ in 0..10 {
        let (mut receiver, woken) = (receiver.clone(), woken.clone());
        event_loop.spawn(async move {
            for number in 1..=50 {
                receiver.wait_for(|&known| known >= number).await.unwrap();
                woken.set(woken.get() + 1);
            }
        });
    }
    let sending = std::thread::spawn(move || {
        for number in 1..=50 {
            sender.send_replace(number);
        }
        // Until all have seen the last.
        sender
    });
    event_loop.run().unwrap();
    drop(sending.join().unwrap());
    assert_eq!(woken.get(), 500);
}

/// Counts how often it is dropped, and whether in a panic.
struct Dropped(mpsc::Sender<bool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(std::thread::panicking());
    }
}

#[test]
fn a_panic_ends_only_its_task_and_is_seen_by_destructors() {
    let (sender, receiver) = mpsc::channel();
    let event_loop = EventLoop::new().unwrap();
    let owned = Dropped(sender.clone());
    event_loop.spawn(async move {
        let _owned = owned;
        panic!("on purpose");
    });
    let (own, owned) = (event_loop.clone(), Dropped(sender));
    event_loop.spawn(async move {
        let _owned = owned;
        own.sleep(Duration::from_millis(5)).await;
    });
    event_loop.run().unwrap();
    assert_eq!(receiver.iter().take(2).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn stopping_from_another_thread_drops_the_remaining_tasks() {
    let (sender, receiver) = mpsc::channel();
    let event_loop = EventLoop::new().unwrap();
    let (notifier, owned) = (event_loop.notifier().clone(), Dropped(sender));
    let (_far, near) = pair();
    let own = event_loop.clone();
    event_loop.spawn(async move {
        let _owned = owned;
        let stream = Stream::accepted(&own, near).unwrap();
        poll_fn(|_| stream.poll_failed()).await;
    });
    let ending = std::thread::spawn(move || notifier.stop());
    event_loop.run().unwrap();
    ending.join().unwrap();
    assert_eq!(receiver.try_recv(), Ok(false));
}

#[test]
fn a_ping_is_answered_and_polls_no_task() {
    let event_loop = EventLoop::new().unwrap();
    let notifier = event_loop.notifier().clone();
    let (sender, receiver) = mpsc::channel();
    let (_far, near) = pair();
    let own = event_loop.clone();
    event_loop.spawn(async move {
        let stream = Stream::accepted(&own, near).unwrap();
        poll_fn(|_| {
            sender.send(()).unwrap();
            stream.poll_failed()
        })
        .await;
    });
    let pinging = std::thread::spawn(move || {
        receiver.recv_timeout(SOON).unwrap();
        for _ in 0..3 {
            let (before, sent) = (notifier.wake_count(), Instant::now());
            notifier.ping();
            while notifier.wake_count() == before {
                assert!(sent.elapsed() < SOON, "the loop does not respond");
                std::thread::yield_now();
            }
        }
        let polled = receiver.try_iter().count();
        notifier.stop();
        polled
    });
    event_loop.run().unwrap();
    assert_eq!(pinging.join().unwrap(), 0);
}

#[test]
fn a_task_that_yields_runs_again_after_the_others() {
    let order = Rc::new(RefCell::new(Vec::new()));
    let event_loop = EventLoop::new().unwrap();
    for name in ["a", "b"] {
        let (own, order) = (event_loop.clone(), order.clone());
        event_loop.spawn(async move {
            let mut turns = 0;
            poll_fn(|_| {
                order.borrow_mut().push(name);
                turns += 1;
                if turns == 3 {
                    return Poll::Ready(());
                }
                own.yield_turn();
                Poll::Pending
            })
            .await;
        });
    }
    event_loop.run().unwrap();
    assert_eq!(*order.borrow(), ["a", "b", "a", "b", "a", "b"]);
}

/// However many tasks have yielded, one of them runs between two calls of epoll_wait.
#[test]
fn a_message_waits_for_one_turn_rather_than_for_all() {
    let (mut far, near) = pair();
    let event_loop = EventLoop::new().unwrap();
    let (turns, arrived) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(None)));
    let (own, at, done) = (event_loop.clone(), turns.clone(), arrived.clone());
    event_loop.spawn(async move {
        let stream = Stream::accepted(&own, near).unwrap();
        poll_fn(|_| stream.poll_readable()).await;
        done.set(Some(at.get()));
    });
    let mut far = Some(move || far.write_all(b"x").unwrap());
    for _ in 0..10 {
        let (own, turns, arrived, far) = (
            event_loop.clone(),
            turns.clone(),
            arrived.clone(),
            far.take(),
        );
        let mut far = far;
        event_loop.spawn(async move {
            poll_fn(|_| {
                turns.set(turns.get() + 1);
                if turns.get() > 20
                    && let Some(mut say) = far.take()
                {
                    say();
                    turns.set(100);
                }
                if arrived.get().is_some() {
                    return Poll::Ready(());
                }
                own.yield_turn();
                Poll::Pending
            })
            .await;
        });
    }
    event_loop.run().unwrap();
    assert_eq!(arrived.get(), Some(100));
}

/// Nagle's algorithm delays nothing, and the option is not set for a connection with one request.
#[test]
fn the_second_segment_is_sent_at_once() {
    use socket2::SockRef;
    let (_far, near) = pair();
    SockRef::from(&near).set_tcp_nodelay(false).unwrap();
    run(|event_loop| async move {
        let stream = Stream::connecting(&event_loop, near).unwrap();
        assert_eq!(stream.send(b"first").unwrap(), 5);
        assert!(!SockRef::from(&stream).tcp_nodelay().unwrap());
        assert_eq!(stream.send(b"second").unwrap(), 6);
        assert!(SockRef::from(&stream).tcp_nodelay().unwrap());
    });
}
