//! One bad client: what it does, what it hears, and what is written down of it.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::support::peers::reset;
use crate::support::raw::{Answer, Heard, How, hear, say_and_hear};

/// What a client does until it hears the end; `None` where it does not stay to hear it.
pub(super) type Act = Box<dyn FnOnce(TcpStream) -> Option<Heard> + Send>;

pub(super) struct Case {
    pub(super) what: &'static str,
    pub(super) port: u16,
    pub(super) act: Act,
    pub(super) hears: Option<Answer>,
    pub(super) outcome: &'static str,
}

/// Says all at once and listens.
pub(super) fn says(
    what: &'static str,
    port: u16,
    bytes: impl Into<Vec<u8>>,
    hears: Answer,
    outcome: &'static str,
) -> Case {
    let bytes = bytes.into();
    Case {
        what,
        port,
        act: Box::new(move |client| Some(say_and_hear(&client, &bytes))),
        hears: Some(hears),
        outcome,
    }
}

/// Says it a byte at a time, as slowly as `pace`.
pub(super) fn drips(
    what: &'static str,
    port: u16,
    bytes: impl Into<Vec<u8>>,
    pace: Duration,
    hears: Answer,
    outcome: &'static str,
) -> Case {
    let bytes = bytes.into();
    let act = move |mut client: TcpStream| {
        for byte in bytes {
            if client.write_all(&[byte]).is_err() {
                break;
            }
            std::thread::sleep(pace);
        }
        Some(hear(&client))
    };
    Case {
        what,
        port,
        act: Box::new(act),
        hears: Some(hears),
        outcome,
    }
}

/// Says it and leaves, in order or not.
pub(super) fn leaves(
    what: &'static str,
    port: u16,
    bytes: impl Into<Vec<u8>>,
    how: How,
    outcome: &'static str,
) -> Case {
    let bytes = bytes.into();
    let act = move |mut client: TcpStream| {
        client.write_all(&bytes).unwrap();
        if how == How::Reset {
            // The bytes are read first, so that it is a reset in the middle and not one before.
            std::thread::sleep(Duration::from_millis(100));
            reset(client);
            return None;
        }
        client.shutdown(Shutdown::Write).unwrap();
        Some(hear(&client))
    };
    let hears = (how == How::Closed).then_some(Answer::Nothing);
    Case {
        what,
        port,
        act: Box::new(act),
        hears,
        outcome,
    }
}

/// Is served by the echo although it is strange: all of it comes back.
pub(super) fn is_served(what: &'static str, port: u16, pieces: Vec<Vec<u8>>) -> Case {
    let act = move |mut client: TcpStream| {
        for piece in &pieces {
            client.write_all(piece).unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
        client.shutdown(Shutdown::Write).unwrap();
        let heard = hear(&client);
        assert_eq!(
            (heard.how, heard.bytes),
            (How::Closed, pieces.concat()),
            "{what}"
        );
        None
    };
    Case {
        what,
        port,
        act: Box::new(act),
        hears: None,
        outcome: "client_closed",
    }
}
