//! The requests that list and change pins.
//!
//! Owns how a filter is written as parameters. Must not know commands. Invariant: a request has the fields that the filter
//! sets, and no other.

use bytes::Bytes;
use hyper::Method;

use super::{Client, ClientError};
use crate::admin::target;
use crate::admin::view::{
    AffinityChange, ClientPins, ClientQuery, PinFilter, PinPage, PinResult, PinsChanged,
    WithPredecessors,
};

/// The path of pins.
const AFFINITY: &str = "/api/v1/affinity";

impl Client {
    /// `GET /api/v1/affinity`: at most `most` pins from `cursor` on.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn pins(
        &self,
        filter: &PinFilter,
        cursor: Option<&str>,
        most: usize,
    ) -> Result<PinPage, ClientError> {
        let mut query = filter_pairs(filter);
        query.push(("limit", most.to_string()));
        query.extend(cursor.map(|cursor| ("cursor", cursor.to_owned())));
        self.send(Method::GET, &path(AFFINITY, &query), Bytes::new())
            .await
    }

    /// `GET /api/v1/affinity/client`.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn client_pins(&self, query: &ClientQuery) -> Result<ClientPins, ClientError> {
        let mut pairs = vec![("client", query.client.to_string())];
        pairs.extend(query.group.clone().map(|group| ("group", group)));
        pairs.extend(query.name.clone().map(|name| ("name", name)));
        let path = path("/api/v1/affinity/client", &pairs);
        self.send(Method::GET, &path, Bytes::new()).await
    }

    /// `PUT /api/v1/affinity` with `change`, whose action has to be `pin`.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn pin(&self, change: &AffinityChange) -> Result<PinResult, ClientError> {
        let body = self.serialized(change)?;
        self.send(Method::PUT, AFFINITY, body).await
    }

    /// `PUT /api/v1/affinity` with `change`, whose action has to be `move`.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn move_pins(
        &self,
        change: &AffinityChange,
    ) -> Result<WithPredecessors<PinsChanged>, ClientError> {
        let body = self.serialized(change)?;
        self.send(Method::PUT, AFFINITY, body).await
    }

    /// `DELETE /api/v1/affinity`; an empty filter removes every pin.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn clear_pins(
        &self,
        filter: &PinFilter,
    ) -> Result<WithPredecessors<PinsChanged>, ClientError> {
        let mut query = filter_pairs(filter);
        if query.is_empty() {
            query.push(("all", "true".to_owned()));
        }
        self.send(Method::DELETE, &path(AFFINITY, &query), Bytes::new())
            .await
    }
}

/// A filter as parameters.
fn filter_pairs(filter: &PinFilter) -> Vec<(&'static str, String)> {
    let client = filter.client.map(|client| client.to_string());
    let pairs = [
        ("group", filter.group.clone()),
        ("client", client),
        ("name", filter.name.clone()),
        ("pool", filter.pool.clone()),
        ("backend", filter.backend.clone()),
    ];
    let pairs = pairs.into_iter();
    pairs
        .filter_map(|(key, value)| Some((key, value?)))
        .collect()
}

fn path(path: &str, query: &[(&str, String)]) -> String {
    let pairs = query
        .iter()
        .map(|(key, value)| format!("{key}={}", target::encode(value)));
    let pairs: Vec<String> = pairs.collect();
    format!("{path}?{}", pairs.join("&"))
}
