//! The admin listener: that whoever can reach it from elsewhere needs a token.
//!
//! Owns that rule. Must not know what the listener serves. Invariant: without a fault, a bind that is neither loopback
//! nor a Unix socket has a token.

use crate::config::defaults;
use crate::config::diagnostics::{Note, Notes};
use crate::config::model::{AdminBind, AdminSettings};
use crate::config::written::{self, At};

/// Resolves `admin`.
pub(in crate::config) fn resolve(
    admin: &written::WrittenAdmin,
    notes: &mut Notes,
) -> AdminSettings {
    if let Some(At {
        value: AdminBind::Tcp(address),
        at,
    }) = &admin.bind
        && !address.ip().is_loopback()
        && !admin.has_token_file
    {
        let message =
            format!("`{address}` can be reached from elsewhere, and no token is asked for");
        notes.fault(Note::new(*at, message).hint("add `token_file`, or bind 127.0.0.1"));
    }
    let unix = |bind: &Option<At<AdminBind>>| match bind {
        Some(At {
            value: bind @ AdminBind::Unix(_),
            ..
        }) => Some(bind.clone()),
        Some(At {
            value: AdminBind::Tcp(_),
            ..
        })
        | None => None,
    };
    if let (Some(bind), Some(metrics)) = (unix(&admin.bind), &admin.metrics_bind)
        && bind == metrics.value
    {
        notes.fault(Note::new(
            metrics.at,
            "`metrics_bind` is the same socket as `bind`",
        ));
    }
    AdminSettings {
        bind: admin
            .bind
            .as_ref()
            .map_or_else(defaults::admin_bind, |bind| bind.value.clone()),
        metrics_bind: admin.metrics_bind.as_ref().map(|bind| bind.value.clone()),
        token_file: admin.token_file.clone(),
        hosts: admin.hosts.clone(),
    }
}
