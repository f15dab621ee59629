use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::spare_pipes::PAUSE;
use super::*;

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (one, listener.accept().unwrap().0)
}

#[test]
fn all_bytes_pass_through_and_the_pipe_is_empty_afterwards() {
    let ((mut from, source), (target, mut to)) = (pair(), pair());
    from.write_all(b"through the pipe").unwrap();
    let mut pipe = Pipe::acquire().unwrap();
    assert_eq!(pipe.fill(&source).unwrap(), 16);
    while !pipe.is_empty() {
        pipe.drain(&target).unwrap();
    }
    pipe.release();
    let mut read = [0; 16];
    to.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"through the pipe");
    assert_eq!(Pipe::acquire().unwrap().len(), 0);
}

#[test]
fn a_pipe_with_bytes_in_it_is_never_reused() {
    let (mut from, source) = pair();
    from.write_all(b"left behind").unwrap();
    let mut pipe = Pipe::acquire().unwrap();
    pipe.fill(&source).unwrap();
    pipe.release();
    assert_eq!(Pipe::acquire().unwrap().len(), 0);
}

#[test]
fn the_bytes_in_a_pipe_can_be_read_back() {
    let (mut from, source) = pair();
    let sent: Vec<u8> = (0..100_000_u32).flat_map(u32::to_ne_bytes).collect();
    std::thread::scope(|threads| {
        threads.spawn(|| from.write_all(&sent).unwrap());
        let mut received = Vec::new();
        while received.len() < sent.len() {
            let mut pipe = Pipe::acquire().unwrap();
            pipe.fill(&source).unwrap();
            received.extend(pipe.into_bytes().unwrap());
        }
        assert!(received == sent);
    });
    assert!(Pipe::acquire().unwrap().into_bytes().unwrap().is_empty());
}

#[test]
fn a_worker_has_no_more_pipes_than_its_allowance() {
    let allowance = PipeAllowance::of(PipeBudget {
        pipes: 0,
        size: 2 * MIN_PIPE_SIZE,
    });
    set_allowance(allowance.clone());
    for pipes in [PipeBudget::MAX.pipes, 3, 0, 5] {
        allowance.set(pipes);
        let pipes_in_use: Vec<Pipe> = std::iter::from_fn(Pipe::acquire).collect();
        assert_eq!(pipes_in_use.len(), pipes);
        assert!(
            pipes_in_use
                .iter()
                .all(|pipe| pipe.size() == 2 * MIN_PIPE_SIZE)
        );
        pipes_in_use.into_iter().for_each(Pipe::release);
    }
    allowance.set(2);
    Pipe::acquire().unwrap().release();
    assert_eq!(LivePipe::count(), 2);
}

#[test]
fn an_unsupported_call_disables_splicing_and_a_shortage_suspends_it() {
    let unavailable = |errno: Errno| SpliceUnavailable::from_error(&errno.into());
    for errno in [
        Errno::INVAL,
        Errno::NOSYS,
        Errno::PERM,
        Errno::ACCESS,
        Errno::SPIPE,
        Errno::BADF,
        Errno::IO,
        Errno::NOTSUP,
        Errno::OPNOTSUPP,
    ] {
        assert_eq!(unavailable(errno), Some(SpliceUnavailable::Permanent));
    }
    for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM] {
        assert!(matches!(
            unavailable(errno),
            Some(SpliceUnavailable::Temporary(_))
        ));
    }
    for errno in [Errno::CONNRESET, Errno::PIPE, Errno::TIMEDOUT, Errno::AGAIN] {
        assert_eq!(unavailable(errno), None);
    }
    Pipe::acquire().unwrap().release();
    assert!(!note_unavailable(&Errno::CONNRESET.into()));
    assert!(Pipe::acquire().is_some());
    assert!(note_unavailable(&Errno::NFILE.into()));
    assert!(Pipe::acquire().is_none());
    assert!(note_unavailable(&Errno::PERM.into()));
    std::thread::sleep(PAUSE);
    assert!(Pipe::acquire().is_none());
}

#[test]
fn the_end_of_a_stream_adds_no_bytes() {
    let (from, source) = pair();
    drop(from);
    assert_eq!(Pipe::acquire().unwrap().fill(&source).unwrap(), 0);
}
