use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::pin::pin;
use std::sync::mpsc;

use rustix::net::{SendFlags, send};

use super::*;
use crate::net::socket::reset_on_close;

/// How long anything may take that is bound to happen.
const SOON: Duration = Duration::from_secs(20);

fn pair() -> (TcpStream, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    far.set_nodelay(true).unwrap();
    let near = listener.accept().unwrap().0;
    near.set_nonblocking(true).unwrap();
    (far, near.into())
}

/// Runs what `test` makes of a reactor, to its end.
fn run<F: Future<Output = ()> + 'static>(test: impl FnOnce(EventLoop) -> F) {
    let reactor = EventLoop::new().unwrap();
    reactor.spawn(test(reactor.clone()));
    reactor.run().unwrap();
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
fn a_task_is_polled_when_its_socket_has_something_and_learns_of_the_end() {
    let (mut far, near) = pair();
    run(|reactor| async move {
        let stream = Stream::accepted(&reactor, near).unwrap();
        let mut buffer = [0; 16];
        let saying = std::thread::spawn(move || {
            far.write_all(b"one").unwrap();
            std::thread::sleep(Duration::from_millis(20));
            far.write_all(b"two").unwrap();
            far
        });
        for word in [b"one", b"two"] {
            let chunk = receive(&stream, &mut buffer).await.unwrap();
            assert_eq!((chunk.len, &buffer[..3]), (3, &word[..]));
        }
        drop(saying.join().unwrap());
        let chunk = receive(&stream, &mut buffer).await.unwrap();
        assert_eq!(chunk, Chunk { len: 0, last: true });
    });
}

#[test]
fn the_last_bytes_are_known_to_be_the_last_when_the_end_came_with_them() {
    let (mut far, near) = pair();
    far.write_all(b"all there is").unwrap();
    drop(far);
    run(|reactor| async move {
        let stream = Stream::accepted(&reactor, near).unwrap();
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
        // Whoever did not care the first time is told again.
        let chunk = receive(&stream, &mut buffer).await.unwrap();
        assert_eq!(chunk, Chunk { len: 0, last: true });
    });
}

#[test]
fn a_read_that_stops_at_an_urgent_byte_is_no_end_and_no_drained_socket() {
    let (mut far, near) = pair();
    far.write_all(b"before").unwrap();
    send(&far, b"!", SendFlags::OOB).unwrap();
    far.write_all(b"behind").unwrap();
    drop(far);
    run(|reactor| async move {
        let stream = Stream::accepted(&reactor, near).unwrap();
        let (mut heard, mut buffer) = (Vec::new(), [0; 64]);
        loop {
            let chunk = receive(&stream, &mut buffer).await.unwrap();
            heard.extend_from_slice(&buffer[..chunk.len]);
            if chunk.last {
                break;
            }
        }
        assert_eq!(heard, b"beforebehind");
    });
}

#[test]
fn a_reset_is_a_failure_that_says_so() {
    let (far, near) = pair();
    run(|reactor| async move {
        let stream = Stream::accepted(&reactor, near).unwrap();
        assert!(stream.poll_failed().is_pending());
        reset_on_close(&far);
        drop(far);
        poll_fn(|_| stream.poll_failed()).await;
        assert_eq!(stream.error().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(stream.error().kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_socket_in_the_place_of_another_hears_nothing_of_that_ones_end() {
    run(|reactor| async move {
        for _ in 0..100 {
            let (far, near) = pair();
            let stream = Stream::accepted(&reactor, near).unwrap();
            drop(far);
            drop(stream);
            let (_far, near) = pair();
            let stream = Stream::accepted(&reactor, near).unwrap();
            reactor.sleep(Duration::from_millis(1)).await;
            assert!(stream.poll_readable().is_pending());
        }
    });
}

#[test]
fn a_sleep_lasts_as_long_as_it_should_and_a_timeout_ends_what_waits() {
    run(|reactor| async move {
        let begun = Instant::now();
        reactor.sleep(Duration::from_millis(30)).await;
        assert!(begun.elapsed() >= Duration::from_millis(30));
        let never = pin!(std::future::pending::<()>());
        let deadline = reactor.now() + Duration::from_millis(30);
        assert_eq!(reactor.timeout_at(deadline, never).await, None);
        assert!(begun.elapsed() >= Duration::from_millis(60));
        let deadline = reactor.now() + SOON;
        assert_eq!(
            reactor.timeout_at(deadline, pin!(async { 7 })).await,
            Some(7)
        );
    });
}

#[test]
fn the_earliest_of_several_deadlines_of_a_task_counts() {
    run(|reactor| async move {
        let begun = Instant::now();
        let (soon, late) = (begun + Duration::from_millis(20), begun + SOON);
        poll_fn(|_| {
            // Asked for in this order, the later one is not to be put in the place of the earlier.
            let first = reactor.poll_deadline(soon);
            let _ = reactor.poll_deadline(late);
            first
        })
        .await;
        assert!(begun.elapsed() < SOON / 2);
    });
}

#[test]
fn another_thread_wakes_every_task_that_waits_for_it() {
    let (tell, told) = tokio::sync::watch::channel(0);
    let reactor = EventLoop::new().unwrap();
    let woken = Rc::new(Cell::new(0));
    for _ in 0..10 {
        let (mut told, woken) = (told.clone(), woken.clone());
        reactor.spawn(async move {
            for number in 1..=50 {
                told.wait_for(|&known| known >= number).await.unwrap();
                woken.set(woken.get() + 1);
            }
        });
    }
    let telling = std::thread::spawn(move || {
        for number in 1..=50 {
            tell.send_replace(number);
        }
        // Until all have seen the last.
        tell
    });
    reactor.run().unwrap();
    drop(telling.join().unwrap());
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
fn a_panic_ends_its_task_alone_and_is_seen_by_what_the_task_owns() {
    let (tell, told) = mpsc::channel();
    let reactor = EventLoop::new().unwrap();
    let owned = Dropped(tell.clone());
    reactor.spawn(async move {
        let _owned = owned;
        panic!("on purpose");
    });
    let (own, owned) = (reactor.clone(), Dropped(tell));
    reactor.spawn(async move {
        let _owned = owned;
        own.sleep(Duration::from_millis(5)).await;
    });
    reactor.run().unwrap();
    assert_eq!(told.iter().take(2).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn the_end_from_outside_drops_what_still_waits() {
    let (tell, told) = mpsc::channel();
    let reactor = EventLoop::new().unwrap();
    let (alarm, owned) = (reactor.alarm().clone(), Dropped(tell));
    let (_far, near) = pair();
    let own = reactor.clone();
    reactor.spawn(async move {
        let _owned = owned;
        let stream = Stream::accepted(&own, near).unwrap();
        poll_fn(|_| stream.poll_failed()).await;
    });
    let ending = std::thread::spawn(move || alarm.end());
    reactor.run().unwrap();
    ending.join().unwrap();
    assert_eq!(told.try_recv(), Ok(false));
}

#[test]
fn who_asks_for_a_sign_of_life_gets_it_and_wakes_no_task() {
    let reactor = EventLoop::new().unwrap();
    let alarm = reactor.alarm().clone();
    let (tell, told) = mpsc::channel();
    let (_far, near) = pair();
    let own = reactor.clone();
    reactor.spawn(async move {
        let stream = Stream::accepted(&own, near).unwrap();
        poll_fn(|_| {
            tell.send(()).unwrap();
            stream.poll_failed()
        })
        .await;
    });
    let asking = std::thread::spawn(move || {
        told.recv_timeout(SOON).unwrap();
        for _ in 0..3 {
            let (before, asked) = (alarm.heard(), Instant::now());
            alarm.ask();
            while alarm.heard() == before {
                assert!(asked.elapsed() < SOON, "the loop does not hear");
                std::thread::yield_now();
            }
        }
        let polled = told.try_iter().count();
        alarm.end();
        polled
    });
    reactor.run().unwrap();
    assert_eq!(asking.join().unwrap(), 0);
}

#[test]
fn who_has_more_to_do_comes_again_after_the_others() {
    let order = Rc::new(RefCell::new(Vec::new()));
    let reactor = EventLoop::new().unwrap();
    for name in ["a", "b"] {
        let (own, order) = (reactor.clone(), order.clone());
        reactor.spawn(async move {
            let mut turns = 0;
            poll_fn(|_| {
                order.borrow_mut().push(name);
                turns += 1;
                if turns == 3 {
                    return Poll::Ready(());
                }
                own.again();
                Poll::Pending
            })
            .await;
        });
    }
    reactor.run().unwrap();
    assert_eq!(*order.borrow(), ["a", "b", "a", "b", "a", "b"]);
}

/// However many have more to do, one of them has its turn between two looks at the sockets.
#[test]
fn a_message_waits_for_one_turn_and_not_for_all() {
    let (mut far, near) = pair();
    let reactor = EventLoop::new().unwrap();
    let (turns, arrived) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(None)));
    let (own, at, done) = (reactor.clone(), turns.clone(), arrived.clone());
    reactor.spawn(async move {
        let stream = Stream::accepted(&own, near).unwrap();
        poll_fn(|_| stream.poll_readable()).await;
        done.set(Some(at.get()));
    });
    let mut far = Some(move || far.write_all(b"x").unwrap());
    for _ in 0..10 {
        let (own, turns, arrived, far) =
            (reactor.clone(), turns.clone(), arrived.clone(), far.take());
        let mut far = far;
        reactor.spawn(async move {
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
                own.again();
                Poll::Pending
            })
            .await;
        });
    }
    reactor.run().unwrap();
    assert_eq!(arrived.get(), Some(100));
}

/// Nagle's algorithm holds nothing back, and a connection with one request is spared the option.
#[test]
fn the_second_segment_waits_for_nobody() {
    use socket2::SockRef;
    let (_far, near) = pair();
    SockRef::from(&near).set_tcp_nodelay(false).unwrap();
    run(|reactor| async move {
        let stream = Stream::connecting(&reactor, near).unwrap();
        assert_eq!(stream.send(b"first").unwrap(), 5);
        assert!(!SockRef::from(&stream).tcp_nodelay().unwrap());
        assert_eq!(stream.send(b"second").unwrap(), 6);
        assert!(SockRef::from(&stream).tcp_nodelay().unwrap());
    });
}
