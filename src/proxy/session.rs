//! The life of one connection, from accept to the end.
//!
//! Owns the order of the stages: read the hello, route, pick, connect, send, relay. Each stage returns a value and
//! calls no other; what a stage leaves behind stands in the [`ConnectionRecord`]. Invariant: whatever a session takes (a place
//! at a backend, a pin, a count) it gives back by `Drop`.

use std::sync::Arc;

use crate::net::event_loop::Stream;
use crate::net::socket::{self, ResetUntilEnded};
use crate::protocol::tls::client_hello::ClientHello;
use crate::protocol::tls::server_hello::ReaderStatus;
use crate::proxy::admission::Admission;
use crate::proxy::connect::{ConnectError, connect};
use crate::proxy::connection_record::ConnectionRecord;
use crate::proxy::preread::{self, Hello, RequestedName, answer_and_close};
use crate::proxy::rejection::{RejectionAnswer, answer, outcome_of};
use crate::proxy::relay::{End, RelayContext, Side, relay};
use crate::snapshot::{ActiveListener, Destination};
use crate::telemetry::metrics::{ConnectFailure, Direction, Path};
use crate::types::outcome::Outcome;
use crate::upstream::backend::Disconnect;
use crate::upstream::pool::{NoPick, PoolClient, Selection};

/// What the client has said first; kept until it has been passed on or refused.
#[derive(Default)]
struct Preread {
    received: Vec<u8>,
    hello: Option<Hello>,
}

/// Serves one connection to its end.
///
/// Thousands of these wait at once, so their size is looked after: a block holds what it captures once, where an
/// `async fn` would hold its arguments twice, and stages that are short but large are boxed while they last.
#[allow(
    clippy::manual_async_fn,
    reason = "an async fn would be 550 bytes larger"
)]
pub fn serve(
    client: Stream,
    listener: Arc<ActiveListener>,
    mut account: ConnectionRecord,
    admission: Admission,
) -> impl Future<Output = ()> {
    async move {
        let mut peeked = Preread::default();
        let cut = ResetUntilEnded::new(&client);
        let conversed = converse(&client, &listener, &mut account, &mut peeked).await;
        cut.ended();
        match conversed {
            Ok(outcome) => account.settle(outcome),
            Err(outcome) => {
                let answer = answer(&listener, outcome, &peeked.received, peeked.hello.as_ref());
                account.settle(outcome);
                Box::pin(refuse(&client, &answer)).await;
            }
        }
        // Counted until its socket is closed.
        let _ = &admission;
    }
}

/// The stages, a line each. An error is a refusal, which the client is still to be told.
async fn converse(
    client: &Stream,
    listener: &ActiveListener,
    account: &mut ConnectionRecord,
    peeked: &mut Preread,
) -> Result<Outcome, Outcome> {
    let hello = read(client, listener, account, peeked).await?;
    let destination = route(listener, hello).inspect_err(|_| account.name_nothing(hello))?;
    account.routed(destination);
    let tls = hello.tls();
    let mut pick = pick(destination, tls, account)?;
    let backend = reach(client, listener, &mut pick, account).await?;
    let cut = ResetUntilEnded::new(&backend);
    let mut learner = tls.and_then(|hello| pick.learner(hello));
    let mut hear = move |said: &[u8]| match &mut learner {
        Some(learner) => learner.hear(said),
        None => ReaderStatus::Over,
    };
    let rest = send(&backend, std::mem::take(peeked).received, &pick, account);
    let oversight = RelayContext {
        timeouts: &listener.timeouts,
        metrics: &pick.backend().metrics,
        recalled: &|| pick.recalled(),
        listen: Some(&mut hear),
    };
    let end = relay(client, &backend, rest, oversight, &mut account.moved).await;
    cut.ended();
    Ok(close(client, &backend, &end))
}

async fn read<'a>(
    client: &Stream,
    listener: &ActiveListener,
    account: &mut ConnectionRecord,
    peeked: &'a mut Preread,
) -> Result<&'a Hello, Outcome> {
    let deadline = account.accepted() + listener.timeouts.client_hello;
    let protocol = listener.config.protocol;
    // Boxed: it lasts for a moment, and would make every session larger for as long as it lives.
    match Box::pin(preread::read(
        client,
        protocol,
        deadline,
        &mut peeked.received,
    ))
    .await
    {
        Ok(hello) => {
            account.heard(&hello, client.reactor().now());
            Ok(peeked.hello.insert(hello))
        }
        Err(fault) => {
            let outcome = outcome_of(&fault);
            account.explain(&fault);
            Err(outcome)
        }
    }
}

fn route<'a>(listener: &'a ActiveListener, hello: &Hello) -> Result<&'a Destination, Outcome> {
    if let Some(only) = listener.only_pool() {
        return Ok(only);
    }
    match hello.asked() {
        RequestedName::Name(name) => listener.route(name).ok_or(Outcome::UnknownName),
        RequestedName::NoHostName => listener.route_unknown().ok_or(Outcome::UnknownName),
        RequestedName::Nothing => listener.route_no_name().ok_or(Outcome::NoName),
    }
}

fn pick(
    destination: &Destination,
    hello: Option<&ClientHello>,
    account: &mut ConnectionRecord,
) -> Result<Selection, Outcome> {
    let client = PoolClient {
        source: account.client().ip(),
        name: destination.name,
    };
    let pick = destination
        .pool
        .pick(client, hello)
        .map_err(|none| match none {
            NoPick::Down => Outcome::PoolDown,
            NoPick::Full => Outcome::PoolFull,
        })?;
    account.picked(pick.backend(), pick.by());
    Ok(pick)
}

async fn reach(
    client: &Stream,
    listener: &ActiveListener,
    pick: &mut Selection,
    account: &mut ConnectionRecord,
) -> Result<Stream, Outcome> {
    let started = client.reactor().now();
    let connected = connect(client, pick, listener.timeouts.connect, &mut account.tries).await;
    account.picked(pick.backend(), pick.by());
    if connected.is_ok() {
        account.connected(client.reactor().now() - started);
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

/// Passes on what was peeked; what the backend's socket does not take at once is left to the relay, as is a fault.
fn send(
    backend: &Stream,
    mut received: Vec<u8>,
    pick: &Selection,
    account: &mut ConnectionRecord,
) -> Vec<u8> {
    if received.is_empty() {
        return received;
    }
    let sent = backend.send(&received).unwrap_or(0);
    pick.backend()
        .metrics
        .moved(Direction::ToBackend, Path::Copied, sent as u64);
    account.moved.to_backend = sent as u64;
    if sent == received.len() {
        // What it has room for would be held for as long as the connection lives.
        return Vec::new();
    }
    received.drain(..sent);
    received
}

/// Whatever is not an orderly end is a reset for whoever would take a cut stream for a whole.
fn close(client: &Stream, backend: &Stream, end: &End) -> Outcome {
    let outcome = match end {
        End::Closed(Side::Client) => return Outcome::ClientClosed,
        End::Closed(Side::Backend) => return Outcome::BackendClosed,
        End::Reset(Side::Client) => Outcome::ClientReset,
        End::Reset(Side::Backend) => Outcome::BackendReset,
        End::Lost(Side::Client) => Outcome::ClientLost,
        End::Lost(Side::Backend) => Outcome::BackendLost,
        End::Idle => Outcome::IdleTimeout,
        // The other side's stream is whole, and a slow one may still be getting the last of it from the kernel, which
        // a reset would throw away: its socket is closed in order.
        End::HalfClosed(first) => {
            socket::reset_on_close(match first {
                Side::Client => client,
                Side::Backend => backend,
            });
            return Outcome::HalfCloseTimeout;
        }
        End::Recalled(Disconnect::Down) => Outcome::BackendDown,
        End::Recalled(Disconnect::Maintain) => Outcome::Maintenance,
        End::Recalled(Disconnect::DrainDeadline) => Outcome::DrainDeadline,
        End::Recalled(Disconnect::PinMoved) => Outcome::PinMoved,
        End::Recalled(Disconnect::Shutdown) => Outcome::Shutdown,
        End::Local(error) => {
            tracing::error!(target: "lyncpin::session", %error, "a connection was lost to a fault of this machine");
            Outcome::InternalError
        }
    };
    socket::reset_on_close(client);
    socket::reset_on_close(backend);
    outcome
}

async fn refuse(client: &Stream, answer: &RejectionAnswer) {
    match answer {
        RejectionAnswer::Say(bytes) => answer_and_close(client, bytes).await,
        RejectionAnswer::Close => answer_and_close(client, &[]).await,
        RejectionAnswer::Reset => socket::reset_on_close(client),
    }
}
