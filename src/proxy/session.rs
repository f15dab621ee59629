//! One connection, from accept to close.
//!
//! Owns the order of the stages: read, route, pick, connect, send, relay, close. A stage returns a value and does not call the
//! next one; the facts that it finds go into the [`ConnectionRecord`]. Invariant: every resource that a session takes (a
//! backend permit, a pin, an admission) is released by `Drop`.

use std::sync::Arc;

use crate::net::event_loop::Stream;
use crate::net::socket::{self, ResetGuard};
use crate::protocol::tls::client_hello::ClientHello;
use crate::proxy::admission::Admission;
use crate::proxy::connect::{self, ConnectError};
use crate::proxy::connection_record::ConnectionRecord;
use crate::proxy::preread::{self, Hello, RequestedName, respond_and_close};
use crate::proxy::proxy_header;
use crate::proxy::rejection::{self, RejectionResponse};
use crate::proxy::relay::{End, RelayContext, Side, relay};
use crate::snapshot::{ActiveListener, Destination};
use crate::telemetry::metrics::{ConnectFailure, Direction, TransferPath};
use crate::types::outcome::Outcome;
use crate::upstream::backend::Disconnect;
use crate::upstream::pool::{NoPick, PoolClient, Selection};

/// The first bytes of the client and what they mean; kept until they are forwarded or rejected.
#[derive(Default)]
struct Preread {
    received: Vec<u8>,
    hello: Option<Hello>,
}

/// Serves one connection to its end, logs and counts it.
///
/// Thousands of these futures wait at once, so their size matters. An async block stores its captures once, where an `async
/// fn` would store its arguments twice. Stages that are short but large are boxed.
#[allow(
    clippy::manual_async_fn,
    reason = "an async fn would be 550 bytes larger"
)]
pub fn serve(
    client: Stream,
    listener: Arc<ActiveListener>,
    mut record: ConnectionRecord,
    admission: Admission,
) -> impl Future<Output = ()> {
    async move {
        let mut preread = Preread::default();
        let guard = ResetGuard::new(&client);
        let result = run(&client, &listener, &mut record, &mut preread).await;
        guard.disarm();
        match result {
            Ok(outcome) => record.finish(outcome),
            Err(outcome) => {
                let (received, hello) = (&preread.received, preread.hello.as_ref());
                let response = rejection::response(&listener, outcome, received, hello);
                record.finish(outcome);
                Box::pin(reject(&client, &response)).await;
            }
        }
        // Counts until the socket is closed.
        let _ = &admission;
    }
}

/// Runs the stages, one line each. An error is a rejection: the client has not been sent a response yet.
async fn run(
    client: &Stream,
    listener: &ActiveListener,
    record: &mut ConnectionRecord,
    preread: &mut Preread,
) -> Result<Outcome, Outcome> {
    let hello = read(client, listener, record, preread).await?;
    let destination = route(listener, hello, record)?;
    let mut selection = pick(destination, hello.tls(), record)?;
    let backend = connect(client, listener, &mut selection, record).await?;
    let guard = ResetGuard::new(&backend);
    let mut observer = selection.observer(hello.tls());
    let header = proxy_header::header(client, hello, &selection, record);
    let unsent = send(&backend, header, preread, &selection, record);
    let context = RelayContext {
        timeouts: &listener.timeouts,
        metrics: &selection.backend().metrics,
        disconnect: &|| selection.disconnect_reason(),
        observer: Some(&mut observer),
    };
    let end = relay(client, &backend, unsent, context, &mut record.moved).await;
    guard.disarm();
    Ok(close(client, &backend, &end))
}

/// Reads the hello, within `timeouts.client_hello` from accept.
async fn read<'a>(
    client: &Stream,
    listener: &ActiveListener,
    record: &mut ConnectionRecord,
    preread: &'a mut Preread,
) -> Result<&'a Hello, Outcome> {
    let deadline = record.accepted() + listener.timeouts.client_hello;
    let (protocol, received) = (listener.config.protocol, &mut preread.received);
    // Boxed: it is short, and would make every session larger for its whole life.
    match Box::pin(preread::read(client, protocol, deadline, received)).await {
        Ok(hello) => {
            record.hello_received(&hello, client.event_loop().now());
            Ok(preread.hello.insert(hello))
        }
        Err(error) => {
            record.set_detail(&error);
            Err(rejection::outcome_of(&error))
        }
    }
}

/// Finds the pool for the requested name.
fn route<'a>(
    listener: &'a ActiveListener,
    hello: &Hello,
    record: &mut ConnectionRecord,
) -> Result<&'a Destination, Outcome> {
    let requested = hello.requested_name();
    let found = match (listener.only_pool(), requested) {
        (Some(only), _) => Ok(only),
        (None, RequestedName::Name(name)) => listener.route(name).ok_or(Outcome::UnknownName),
        (None, RequestedName::NoHostName) => listener.route_unknown().ok_or(Outcome::UnknownName),
        (None, RequestedName::Absent) => listener.route_no_name().ok_or(Outcome::NoName),
    };
    match found {
        Ok(destination) => record.routed(destination),
        Err(_) if requested == RequestedName::NoHostName => {
            record.set_detail(&"the client requested an IP address or an invalid host name");
        }
        Err(_) => {}
    }
    found
}

/// Picks a backend: by TLS session, by pin, by the balance policy, or from the backup pool.
fn pick(
    destination: &Destination,
    hello: Option<&ClientHello>,
    record: &mut ConnectionRecord,
) -> Result<Selection, Outcome> {
    let client = PoolClient {
        source: record.client().ip(),
        name_id: destination.name_id,
    };
    let selection = destination
        .pool
        .pick(client, hello)
        .map_err(|none| match none {
            NoPick::Down => Outcome::PoolDown,
            NoPick::Full => Outcome::PoolFull,
        })?;
    record.picked(selection.backend(), selection.by());
    Ok(selection)
}

/// Connects to the picked backend, or to another one if that fails.
async fn connect(
    client: &Stream,
    listener: &ActiveListener,
    selection: &mut Selection,
    record: &mut ConnectionRecord,
) -> Result<Stream, Outcome> {
    let started = client.event_loop().now();
    let timeout = listener.timeouts.connect;
    let connected = connect::connect(client, selection, timeout, &mut record.tries).await;
    record.picked(selection.backend(), selection.by());
    if connected.is_ok() {
        record.connected(client.event_loop().now() - started);
    }
    connected.map_err(|error| match error {
        ConnectError::Backend(ConnectFailure::Refused) => Outcome::ConnectRefused,
        ConnectError::Backend(ConnectFailure::Reset) => Outcome::ConnectReset,
        ConnectError::Backend(ConnectFailure::Timeout) => Outcome::ConnectTimeout,
        ConnectError::Backend(ConnectFailure::Unreachable) => Outcome::ConnectUnreachable,
        ConnectError::Backend(ConnectFailure::Local) => Outcome::ConnectLocal,
        ConnectError::ClientGone => Outcome::ConnectClientGone,
    })
}

/// Sends the PROXY header, if there is one, and the preread bytes, and frees them; returns those that the socket did not accept.
/// The relay sends these, and finds the error if sending failed. The header is not counted: the send buffer of a new socket
/// has room for it (tcp(7), `tcp_wmem`).
fn send(
    backend: &Stream,
    header: Vec<u8>,
    preread: &mut Preread,
    selection: &Selection,
    record: &mut ConnectionRecord,
) -> Vec<u8> {
    let received = std::mem::take(preread).received;
    let header_length = header.len();
    let mut bytes = match header_length {
        0 => received,
        _ => [header, received].concat(),
    };
    if bytes.is_empty() {
        return bytes;
    }
    let sent = backend.send(&bytes).unwrap_or(0);
    let counted = sent.saturating_sub(header_length) as u64;
    selection
        .backend()
        .metrics
        .record_bytes(Direction::ToBackend, TransferPath::Copied, counted);
    record.moved.to_backend = counted;
    if sent == bytes.len() {
        // Frees the buffer, which would otherwise live as long as the connection.
        return Vec::new();
    }
    bytes.drain(..sent);
    bytes
}

/// Decides between close and reset for both sockets. Every end that is not orderly resets a side that would otherwise take a
/// truncated stream for a complete one.
fn close(client: &Stream, backend: &Stream, end: &End) -> Outcome {
    let outcome = match end {
        End::Closed(Side::Client) => return Outcome::ClientClosed,
        End::Closed(Side::Backend) => return Outcome::BackendClosed,
        End::Reset(Side::Client) => Outcome::ClientReset,
        End::Reset(Side::Backend) => Outcome::BackendReset,
        End::Lost(Side::Client) => Outcome::ClientLost,
        End::Lost(Side::Backend) => Outcome::BackendLost,
        End::Idle => Outcome::IdleTimeout,
        // The stream to the other side is complete. The kernel may still be delivering the last of it to a slow peer, and a
        // reset would discard that: its socket is closed in order.
        End::HalfClosed(first) => {
            socket::reset_on_close(match first {
                Side::Client => client,
                Side::Backend => backend,
            });
            return Outcome::HalfCloseTimeout;
        }
        End::Disconnected(Disconnect::Down) => Outcome::BackendDown,
        End::Disconnected(Disconnect::Maintain) => Outcome::Maintenance,
        End::Disconnected(Disconnect::DrainDeadline) => Outcome::DrainDeadline,
        End::Disconnected(Disconnect::PinMoved) => Outcome::PinMoved,
        End::Disconnected(Disconnect::Shutdown) => Outcome::Shutdown,
        End::Local(error) => {
            tracing::error!(target: "lyncpin::session", %error, "connection lost to a local error");
            Outcome::InternalError
        }
    };
    socket::reset_on_close(client);
    socket::reset_on_close(backend);
    outcome
}

/// Sends the response to a rejected client.
async fn reject(client: &Stream, response: &RejectionResponse) {
    match response {
        RejectionResponse::Send(bytes) => respond_and_close(client, bytes).await,
        RejectionResponse::Close => respond_and_close(client, &[]).await,
        RejectionResponse::Reset => socket::reset_on_close(client),
    }
}
