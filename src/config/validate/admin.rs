//! The admin listener: it must not be reachable over the network without a token.
//!
//! Owns that rule. Must not know what the listener serves. Invariant: without an error, a bind address that is neither
//! loopback nor a Unix socket has a token.

use crate::config::diagnostics::{Diagnostic, Diagnostics};
use crate::config::model::{AdminBind, AdminSettings};
use crate::config::schema::admin::{DEFAULT_BIND, ParsedAdmin};
use crate::config::source::location::Located;

/// Validates `admin`.
pub(in crate::config) fn validate(
    admin: &ParsedAdmin,
    diagnostics: &mut Diagnostics,
) -> AdminSettings {
    if let Some(Located {
        value: AdminBind::Tcp(address),
        at,
    }) = &admin.bind
        && !address.ip().is_loopback()
        && !admin.has_token_file
    {
        let message = format!("`{address}` is reachable over the network without a token");
        let diagnostic = Diagnostic::new(*at, message);
        diagnostics.error(diagnostic.hint("add `token_file`, or bind 127.0.0.1"));
    }
    let bind = admin.bind.as_ref().map(|bind| &bind.value);
    if let (Some(bind @ AdminBind::Unix(_)), Some(metrics)) = (bind, &admin.metrics_bind)
        && *bind == metrics.value
    {
        let message = "`metrics_bind` is the same socket as `bind`";
        diagnostics.error(Diagnostic::new(metrics.at, message));
    }
    AdminSettings {
        bind: bind.cloned().unwrap_or(DEFAULT_BIND),
        metrics_bind: admin.metrics_bind.as_ref().map(|bind| bind.value.clone()),
        token_file: admin.token_file.clone(),
        hosts: admin.hosts.clone(),
    }
}
