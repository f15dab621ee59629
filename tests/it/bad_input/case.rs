//! One invalid client: what it sends, the response, and the outcome in the log.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::support::peers::reset;
use crate::support::raw::{Answer, Heard, How, hear, say_and_hear};

/// What a client does until the end of the connection; `None` if it does not wait for that.
pub(super) type Act = Box<dyn FnOnce(TcpStream) -> Option<Heard> + Send>;

pub(super) struct Case {
    pub(super) what: &'static str,
    pub(super) port: u16,
    pub(super) act: Act,
    pub(super) response: Option<Answer>,
    pub(super) outcome: &'static str,
}

/// Sends everything at once and reads the response.
pub(super) fn sends(
    what: &'static str,
    port: u16,
    bytes: impl Into<Vec<u8>>,
    response: Answer,
    outcome: &'static str,
) -> Case {
    let bytes = bytes.into();
    Case {
        what,
        port,
        act: Box::new(move |client| Some(say_and_hear(&client, &bytes))),
        response: Some(response),
        outcome,
    }
}

/// Sends one byte at a time, with a pause of `pace` after each.
pub(super) fn sends_slowly(
    what: &'static str,
    port: u16,
    bytes: impl Into<Vec<u8>>,
    pace: Duration,
    response: Answer,
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
        response: Some(response),
        outcome,
    }
}

/// Sends the bytes and closes or resets the connection.
pub(super) fn sends_and_ends(
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
            // The balancer reads the bytes first, so that the reset comes after them.
            std::thread::sleep(Duration::from_millis(100));
            reset(client);
            return None;
        }
        client.shutdown(Shutdown::Write).unwrap();
        Some(hear(&client))
    };
    let response = (how == How::Closed).then_some(Answer::Nothing);
    Case {
        what,
        port,
        act: Box::new(act),
        response,
        outcome,
    }
}

/// An unusual client that is served: the echo returns everything.
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
        response: None,
        outcome: "client_closed",
    }
}
