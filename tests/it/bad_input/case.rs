//! A test case: one client with the data that it sends, the expected response, and the expected outcome in the log.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::support::peers::reset;
use crate::support::raw::{Answer, Heard, How, hear, say_and_hear};

/// Uses a connection until its end and returns the response, or returns `None` if the client does not wait for the end.
pub(super) type Act = Box<dyn FnOnce(TcpStream) -> Option<Heard> + Send>;

pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) port: u16,
    pub(super) act: Act,
    pub(super) response: Option<Answer>,
    pub(super) outcome: &'static str,
}

/// Sends everything at once and reads the response.
pub(super) fn sends(
    name: &'static str,
    port: u16,
    bytes: impl Into<Vec<u8>>,
    response: Answer,
    outcome: &'static str,
) -> Case {
    let bytes = bytes.into();
    Case {
        name,
        port,
        act: Box::new(move |client| Some(say_and_hear(&client, &bytes))),
        response: Some(response),
        outcome,
    }
}

/// Sends one byte at a time, with a pause of `pace` after each byte, and reads the response.
pub(super) fn sends_slowly(
    name: &'static str,
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
        name,
        port,
        act: Box::new(act),
        response: Some(response),
        outcome,
    }
}

/// Sends the bytes and closes or resets the connection.
pub(super) fn sends_and_ends(
    name: &'static str,
    port: u16,
    bytes: impl Into<Vec<u8>>,
    how: How,
    outcome: &'static str,
) -> Case {
    let bytes = bytes.into();
    let act = move |mut client: TcpStream| {
        client.write_all(&bytes).unwrap();
        if how == How::Reset {
            // The pause lets the balancer read the bytes before the reset arrives.
            std::thread::sleep(Duration::from_millis(100));
            reset(client);
            return None;
        }
        client.shutdown(Shutdown::Write).unwrap();
        Some(hear(&client))
    };
    let response = (how == How::Closed).then_some(Answer::Nothing);
    Case {
        name,
        port,
        act: Box::new(act),
        response,
        outcome,
    }
}

/// An unusual but valid client: the echo server returns everything.
pub(super) fn is_served(name: &'static str, port: u16, pieces: Vec<Vec<u8>>) -> Case {
    let act = move |mut client: TcpStream| {
        for piece in &pieces {
            client.write_all(piece).unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
        client.shutdown(Shutdown::Write).unwrap();
        let response = hear(&client);
        assert_eq!(
            (response.how, response.bytes),
            (How::Closed, pieces.concat()),
            "{name}"
        );
        None
    };
    Case {
        name,
        port,
        act: Box::new(act),
        response: None,
        outcome: "client_closed",
    }
}
