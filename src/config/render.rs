//! A configuration as a file in the long form.
//!
//! Owns what `lyncpin expand` prints. Must not know where the configuration came from. Invariant: what is printed
//! reads again as an equal configuration. Every key with a default is printed with its value, so that the file means
//! the same to a later version; only what is empty is left out.

use std::fmt::{Display, Write};

use super::model::{
    AffinitySettings, AffinityStore, BackendConfig, CheckConfig, CheckKind, ClientAddress, Config,
    HealthSettings, HttpCheck, ListenerConfig, LogFormat, OnDown, PoolConfig, Protocol,
    RejectionMode, ServerHost, Target, Timeouts, WhenPoolDown,
};
use super::scalar::print_duration;

/// The widest line that a list is kept on.
const WIDTH: usize = 100;

/// Prints a configuration in the long form.
#[must_use]
pub fn expand(config: &Config) -> String {
    let mut page = YamlPage::default();
    page.line(0, "listeners:");
    for listener in &config.listeners {
        print_listener(&mut page, listener, config);
    }
    page.line(0, "pools:");
    for pool in &config.pools {
        print_pool(&mut page, pool, config);
    }
    print_settings(&mut page, config);
    page.text
}

/// Lines of YAML.
#[derive(Default)]
struct YamlPage {
    text: String,
}

impl YamlPage {
    fn line(&mut self, depth: usize, line: impl Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{:width$}{line}", "", width = 2 * depth);
    }

    fn entry(&mut self, depth: usize, key: &str, value: impl Display) {
        self.line(depth, format_args!("{key}: {value}"));
    }

    /// A list on one line, or on one line an item where it would be too wide; nothing for an empty one.
    fn list(&mut self, depth: usize, key: &str, items: &[String]) {
        let joined = items.join(", ");
        if items.is_empty() {
        } else if 2 * depth + key.len() + joined.len() + 4 <= WIDTH {
            self.entry(depth, key, format_args!("[{joined}]"));
        } else {
            self.line(depth, format_args!("{key}:"));
            for item in items {
                self.line(depth + 1, format_args!("- {item}"));
            }
        }
    }
}

fn print_listener(page: &mut YamlPage, listener: &ListenerConfig, config: &Config) {
    page.line(1, format_args!("{}:", text(&listener.name)));
    page.list(2, "bind", &texts(&listener.bind));
    page.entry(2, "protocol", listener.protocol.as_str());
    match listener.protocol {
        Protocol::Tcp => {}
        Protocol::Tls | Protocol::Http => print_routes(page, listener, config),
    }
    if let Some(id) = listener.pool {
        page.entry(2, "pool", text(&config.pool(id).name));
    }
    if listener.protocol == Protocol::Tls {
        page.entry(2, "refusal", refusal(listener.refusal));
    }
    let when = match listener.when_pool_down {
        WhenPoolDown::Close => "close",
        WhenPoolDown::Refuse => "refuse",
    };
    page.entry(2, "when_pool_down", when);
    page.list(2, "allow", &texts(&listener.allow));
    page.list(2, "deny", &texts(&listener.deny));
}

fn print_routes(page: &mut YamlPage, listener: &ListenerConfig, config: &Config) {
    if !listener.routes.is_empty() {
        page.line(2, "routes:");
    }
    for route in &listener.routes {
        let pool = text(&config.pool(route.pool).name);
        page.line(3, format_args!("- pool: {pool}"));
        page.list(4, "names", &texts(&route.names));
    }
    let target = |target: Target| match target {
        Target::Pool(id) => text(&config.pool(id).name),
        Target::Refuse => "refuse".to_owned(),
    };
    page.entry(2, "no_name", target(listener.no_name));
    page.entry(2, "unknown_name", target(listener.unknown_name));
}

fn refusal(refusal: RejectionMode) -> &'static str {
    match refusal {
        RejectionMode::Alert => "alert",
        RejectionMode::Reset => "reset",
        RejectionMode::Close => "close",
    }
}

fn print_pool(page: &mut YamlPage, pool: &PoolConfig, config: &Config) {
    page.line(1, format_args!("{}:", text(&pool.name)));
    page.line(2, "backends:");
    for backend in &pool.backends {
        page.line(3, format_args!("- {}", backend_text(backend)));
    }
    if let Some(id) = pool.backup {
        page.entry(2, "backup", text(&config.pool(id).name));
    }
    page.entry(2, "balance", pool.balance.as_str());
    match &pool.affinity {
        None => page.entry(2, "affinity", "none"),
        Some(affinity) => print_affinity(page, affinity),
    }
    match &pool.health {
        None => page.entry(2, "health", "none"),
        Some(health) => print_health(page, health),
    }
    let on_down = match pool.on_down {
        OnDown::Close => "close",
        OnDown::Keep => "keep",
    };
    page.entry(2, "on_down", on_down);
    page.entry(2, "slow_start", print_duration(pool.slow_start));
    page.entry(2, "max_connections", pool.max_connections.unwrap_or(0));
}

fn backend_text(backend: &BackendConfig) -> String {
    let host = match &backend.address.host {
        ServerHost::Address(ip) => ip.to_string(),
        ServerHost::Name(name) => name.to_string(),
    };
    let address = text(&backend.address);
    if *backend.name == host && backend.weight == 1 && backend.check_ports.is_empty() {
        return address;
    }
    let mut line = format!("{{ name: {}, address: {address}", text(&backend.name));
    if backend.weight != 1 {
        line += &format!(", weight: {}", backend.weight);
    }
    if !backend.check_ports.is_empty() {
        let ports: Vec<String> = backend
            .check_ports
            .iter()
            .map(|(asked, own)| format!("{asked}: {own}"))
            .collect();
        line += &format!(", check_ports: {{ {} }}", ports.join(", "));
    }
    line + " }"
}

fn print_affinity(page: &mut YamlPage, affinity: &AffinitySettings) {
    let by = [
        (affinity.by_source, "source"),
        (affinity.by_name, "name"),
        (affinity.by_session, "tls_session"),
    ];
    let by: Vec<&str> = by
        .iter()
        .filter(|(is, _)| *is)
        .map(|(_, word)| *word)
        .collect();
    let prefix = affinity.source_prefix;
    page.line(2, "affinity:");
    page.entry(3, "by", format_args!("[{}]", by.join(", ")));
    let prefix = format!("{{ ipv4: {}, ipv6: {} }}", prefix.ipv4, prefix.ipv6);
    page.entry(3, "source_prefix", prefix);
    page.entry(3, "ttl", print_duration(affinity.ttl));
    page.entry(3, "group", text(&affinity.group));
    page.entry(3, "max_entries", affinity.max_entries);
}

fn print_health(page: &mut YamlPage, health: &HealthSettings) {
    page.line(2, "health:");
    page.entry(3, "interval", print_duration(health.interval));
    page.entry(3, "timeout", print_duration(health.timeout));
    page.entry(3, "rise", health.rise);
    page.entry(3, "fall", health.fall);
    let damping = health.damping.map(print_duration);
    page.entry(3, "damping", damping.as_deref().unwrap_or("none"));
    page.line(3, "checks:");
    for check in &health.checks {
        page.line(
            4,
            format_args!("- {}: {}", check.kind.as_str(), check_text(check)),
        );
        if !check.decides {
            page.entry(5, "decides", false);
        }
    }
}

fn check_text(check: &CheckConfig) -> String {
    let mut parts: Vec<String> = check
        .port
        .iter()
        .map(|port| format!("port: {port}"))
        .collect();
    match &check.kind {
        CheckKind::Tcp => {}
        CheckKind::Tls {
            name,
            warn_days_left,
        } => {
            parts.extend(name.iter().map(|name| format!("name: {}", text(name))));
            parts.push(format!("warn_days_left: {warn_days_left}"));
        }
        CheckKind::Http(HttpCheck { path, host, status })
        | CheckKind::Https(HttpCheck { path, host, status }) => {
            parts.push(format!("path: {}", text(path)));
            parts.extend(host.iter().map(|host| format!("host: {}", text(host))));
            let status: Vec<String> = status.iter().map(ToString::to_string).collect();
            parts.push(format!("status: [{}]", status.join(", ")));
        }
    }
    if parts.is_empty() {
        "{}".to_owned()
    } else {
        format!("{{ {} }}", parts.join(", "))
    }
}

fn print_settings(page: &mut YamlPage, config: &Config) {
    print_timeouts(page, &config.timeouts);
    let limits = &config.limits;
    let auto = |bound: Option<String>| bound.unwrap_or_else(|| "auto".to_owned());
    page.line(0, "limits:");
    page.entry(
        1,
        "connections",
        auto(limits.connections.map(|most| most.to_string())),
    );
    page.entry(1, "per_source", limits.per_source.unwrap_or(0));
    page.entry(
        1,
        "new_per_source_per_second",
        limits.new_per_source_per_second.unwrap_or(0),
    );
    page.entry(
        0,
        "workers",
        auto(config.workers.map(|workers| workers.to_string())),
    );
    match &config.affinity_store {
        AffinityStore::Memory => page.entry(0, "affinity_store", "memory"),
        AffinityStore::File(file) => {
            page.line(0, "affinity_store:");
            page.entry(1, "file", text(file.display()));
        }
    }
    page.line(0, "admin:");
    page.entry(1, "bind", text(&config.admin.bind));
    if let Some(bind) = &config.admin.metrics_bind {
        page.entry(1, "metrics_bind", text(bind));
    }
    if let Some(file) = &config.admin.token_file {
        page.entry(1, "token_file", text(file.display()));
    }
    if !config.admin.hosts.is_empty() {
        page.list(1, "hosts", &texts(&config.admin.hosts));
    }
    page.line(0, "log:");
    let format = match config.log.format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    page.entry(1, "format", format);
    page.entry(1, "access", config.log.access);
    let client_address = match config.log.client_address {
        ClientAddress::Full => "full",
        ClientAddress::Prefix => "prefix",
    };
    page.entry(1, "client_address", client_address);
}

fn print_timeouts(page: &mut YamlPage, timeouts: &Timeouts) {
    page.line(0, "timeouts:");
    for (key, value) in [
        ("client_hello", timeouts.client_hello),
        ("connect", timeouts.connect),
        ("idle", timeouts.idle),
        ("half_close", timeouts.half_close),
        ("drain", timeouts.drain),
        ("shutdown", timeouts.shutdown),
        ("tcp_keepalive", timeouts.tcp_keepalive),
        ("tcp_user", timeouts.tcp_user),
    ] {
        page.entry(1, key, print_duration(value));
    }
}

/// A text as a YAML scalar: in quotes unless it is a word that nobody could take for anything else.
fn text(value: impl Display) -> String {
    let value = value.to_string();
    if is_plain(&value) {
        return value;
    }
    let mut quoted = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            _ => {
                let _ = write!(quoted, "\\U{:08x}", u32::from(c));
            }
        }
    }
    quoted + "\""
}

fn texts(values: &[impl Display]) -> Vec<String> {
    values.iter().map(text).collect()
}

fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let simple = |c: char| c.is_ascii_alphanumeric() || "_./-:".contains(c);
    begins
        && text.chars().all(simple)
        && !text.ends_with(':')
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
