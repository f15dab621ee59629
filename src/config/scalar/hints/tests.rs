//! Invalid texts, as people type them, and their hints.

use std::time::Duration;

use super::*;
use crate::config::scalar;

/// Each hint is as expected, and a value that it suggests in backquotes is valid.
#[track_caller]
fn check_hints(
    cases: &[(&str, &str)],
    hint: impl Fn(&str) -> Option<String>,
    is_valid: impl Fn(&str) -> bool,
) {
    for (text, expected) in cases {
        assert!(!is_valid(text), "{text} is valid");
        let found = hint(text).unwrap_or_default();
        assert_eq!(&found, expected, "{text}");
        let suggested = found
            .rsplit_once(": `")
            .and_then(|(_, rest)| rest.strip_suffix('`'));
        if let Some(suggested) = suggested {
            assert!(is_valid(suggested), "{text}: {suggested} is not valid");
            assert_ne!(suggested, *text);
        }
    }
}

#[test]
fn durations() {
    let whole = "write whole numbers, in a smaller unit if necessary";
    let units = "the units are ms, s, m and h";
    let no_unit = "the last number has no unit";
    let order = "write the largest unit first, each once";
    let cases = [
        ("", "write it as `5s`, `20m` or `1h30m`".to_owned()),
        ("10", "add a unit: `10s`".into()),
        ("0", "add a unit: `0s`".into()),
        ("-5s", "a duration cannot be negative".into()),
        ("5 s", "write it without spaces: `5s`".into()),
        ("1h 30m", "write it without spaces: `1h30m`".into()),
        ("1.5 h", "write it without spaces: `1h30m`".into()),
        ("five s", "write it without spaces".into()),
        ("0.5h", format!("{whole}: `30m`")),
        ("1.5m", format!("{whole}: `1m30s`")),
        ("0.25s", format!("{whole}: `250ms`")),
        ("1,5h", format!("{whole}: `1h30m`")),
        (".5s", format!("{whole}: `500ms`")),
        ("0.5ms", whole.into()),
        ("0.3333h", format!("{whole}: `19m59s880ms`")),
        ("1.5d", format!("{whole}: `36h`")),
        ("5min", format!("{units}: `5m`")),
        ("1800sec", format!("{units}: `30m`")),
        ("2hours", format!("{units}: `2h`")),
        ("1d", format!("{units}: `24h`")),
        ("1w", format!("{units}: `168h`")),
        ("5S", format!("{units}: `5s`")),
        ("1H30M", format!("{units}: `1h30m`")),
        ("5us", units.into()),
        ("5x", units.into()),
        ("30m1h", format!("{order}: `1h30m`")),
        ("1s1s", format!("{order}: `2s`")),
        ("1h90", format!("{no_unit}: `2h30m`")),
        ("1h30", format!("{no_unit}: `1h30m`")),
        ("5m30", format!("{no_unit}: `5m30s`")),
        ("1h30m15", format!("{no_unit}: `1h30m15s`")),
        ("2d12", format!("{no_unit}: `60h`")),
        ("999999999999999999999h", "it is too long".into()),
        ("99999999999999999h1m", "it is too long".into()),
        ("PT1H30M", format!("{units}: `1h30m`")),
        ("+5s", "leave out the sign: `5s`".into()),
        (
            "1.5",
            "add a unit, and write whole numbers: `1s500ms`".into(),
        ),
        ("soon", String::new()),
        ("never", String::new()),
    ];
    let cases: Vec<(&str, &str)> = cases
        .iter()
        .map(|(text, hint)| (*text, hint.as_str()))
        .collect();
    let is_valid = |text: &str| scalar::duration(text, |_| true).is_ok();
    let found = |text: &str| scalar::duration(text, |_| true).unwrap_err();
    check_hints(&cases, found, is_valid);
}

#[test]
fn durations_out_of_the_range_of_a_key_are_not_suggested() {
    let in_range =
        |value: Duration| (Duration::from_millis(10)..=Duration::from_secs(3600)).contains(&value);
    let cases = [
        ("0", "0 is below the minimum"),
        ("5", "add a unit: `5s`"),
        ("30000", "add a unit: `30000ms`"),
        ("99999999", "add a unit"),
        (
            "1.5d",
            "write whole numbers, in a smaller unit if necessary",
        ),
        ("1d", "the units are ms, s, m and h"),
        ("0 s", "write it without spaces"),
        ("2h", ""),
        ("1ms", ""),
    ];
    let is_valid = |text: &str| scalar::duration(text, in_range).is_ok();
    let found = |text: &str| scalar::duration(text, in_range).unwrap_err();
    check_hints(&cases, found, is_valid);
}

#[test]
fn binds() {
    let every = "for all IPv4 addresses, write";
    let brackets = "write an IPv6 address in brackets";
    let names = "write an IP address; host names are not accepted here";
    let cases = [
        ("0.0.0.0", "add the port: `0.0.0.0:443`".to_owned()),
        ("[::]", "add the port: `[::]:443`".into()),
        ("[2001:db8::1]", "add the port: `[2001:db8::1]:443`".into()),
        ("443", format!("{every} `0.0.0.0:443`")),
        (":443", format!("{every} `0.0.0.0:443`")),
        ("*:443", format!("{every} `0.0.0.0:443`")),
        ("::1", format!("{brackets}: `[::1]:443`")),
        ("2001:db8::1", format!("{brackets}: `[2001:db8::1]:443`")),
        (
            "2001:db8::1:8443",
            format!("{brackets}: `[2001:db8::1]:8443`"),
        ),
        ("::443", format!("{brackets}: `[::]:443`")),
        (":::443", format!("{brackets}: `[::]:443`")),
        (
            "[::]443",
            "write a colon before the port: `[::]:443`".into(),
        ),
        (
            "[2001:db8::1]443",
            "write a colon before the port: `[2001:db8::1]:443`".into(),
        ),
        (
            "[192.0.2.1]:443",
            "brackets are for IPv6 addresses: `192.0.2.1:443`".into(),
        ),
        (
            "[192.0.2.1]",
            "brackets are for IPv6 addresses: `192.0.2.1:443`".into(),
        ),
        (
            "[192.0.2.1:8443]",
            "brackets are for IPv6 addresses: `192.0.2.1:8443`".into(),
        ),
        (
            "[::]:https",
            "write the port as a number: `[::]:443`".into(),
        ),
        ("[2001:db8::1]:", "add the port: `[2001:db8::1]:443`".into()),
        (
            "127.0.0.1:443:444",
            "this has more than one port; write one: `127.0.0.1:443`".into(),
        ),
        (
            "0.0.0.0:8443-8444",
            "this has more than one port; write one: `0.0.0.0:8443`".into(),
        ),
        ("[::]:443:444", "write one port: `[::]:443`".into()),
        (
            "https://0.0.0.0:443",
            "leave out `https://`: `0.0.0.0:443`".into(),
        ),
        (
            "https://[::]/",
            "leave out `https://`, and add the port: `[::]:443`".into(),
        ),
        ("0.0.0.0:443/tcp", "leave out `/tcp`: `0.0.0.0:443`".into()),
        (
            "0.0.0.0:443/web",
            "leave out the path: `0.0.0.0:443`".into(),
        ),
        ("443/tcp", format!("{every} `0.0.0.0:443`")),
        (
            "0.0.0.0:443 ssl",
            "write one address and its port, without spaces".into(),
        ),
        (
            "0.0.0.0:https",
            "write the port as a number: `0.0.0.0:443`".into(),
        ),
        ("0.0.0.0:x", "ports are numbers from 1 to 65535".into()),
        ("0.0.0.0:0", PORTS.into()),
        ("0.0.0.0:70000", PORTS.into()),
        ("[::]:70000", PORTS.into()),
        (
            "0.0.0:443",
            "an IPv4 address has four numbers from 0 to 255".into(),
        ),
        (
            "192.0.2.300:443",
            "an IPv4 address has four numbers from 0 to 255".into(),
        ),
        ("vip.contoso.com:443", names.into()),
        ("localhost", names.into()),
        (
            "fe80::1%eth0",
            "write the zone as the interface's number: `[fe80::1%2]:443`".into(),
        ),
        (
            "[fe80::1%eth0]:443",
            "write the zone as the interface's number: `[fe80::1%2]:443`".into(),
        ),
        ("", String::new()),
        (
            "no such",
            "write one address and its port, without spaces".into(),
        ),
        (
            "0.0.0.0: 443",
            "write one address and its port, without spaces: `0.0.0.0:443`".into(),
        ),
    ];
    let cases: Vec<(&str, &str)> = cases
        .iter()
        .map(|(text, hint)| (*text, hint.as_str()))
        .collect();
    let is_valid = |text: &str| scalar::bind_address(text).is_ok();
    check_hints(
        &cases,
        |text| scalar::bind_address(text).unwrap_err(),
        is_valid,
    );
}

#[test]
fn admin_binds() {
    let cases = [
        ("localhost:9900", "write the address: `127.0.0.1:9900`"),
        ("localhost", "write the address: `127.0.0.1:9900`"),
        ("127.0.0.1", "add the port: `127.0.0.1:9900`"),
        ("9901", "for this machine only, write `127.0.0.1:9901`"),
        (
            "http://127.0.0.1:9900/",
            "leave out `http://`: `127.0.0.1:9900`",
        ),
        ("/run/l.sock", "write `unix:/run/l.sock`"),
        (
            "unix:",
            "write the path of the socket: `unix:/run/lyncpin/admin.sock`",
        ),
        ("unix: /run/x", "leave out the spaces: `unix:/run/x`"),
        (
            " unix:/run/x",
            "write it without spaces, in lower case: `unix:/run/x`",
        ),
        (
            "UNIX:/run/x",
            "write it without spaces, in lower case: `unix:/run/x`",
        ),
        (
            "lb.contoso.com:9900",
            "write an IP address; host names are not accepted here",
        ),
    ];
    let is_valid = |text: &str| scalar::admin_bind(text).is_ok();
    check_hints(
        &cases,
        |text| scalar::admin_bind(text).unwrap_err(),
        is_valid,
    );
}

#[test]
fn addresses_without_a_port() {
    let cases = [
        (
            "0.0.0.0:443",
            "leave out the port; ports are set under `ports`",
        ),
        (
            "[::]:443",
            "leave out the port; ports are set under `ports`",
        ),
        ("*", "for all IPv4 addresses, write `0.0.0.0`"),
        (
            "10.0.0.1/24",
            "write one address, not a network: `10.0.0.1`",
        ),
        ("fe80::1%eth0", "an address with a zone is not supported"),
        ("https://192.0.2.1", "leave out `https://`: `192.0.2.1`"),
        (
            "vip.contoso.com",
            "write an IP address; host names are not accepted here",
        ),
        (
            "192.0.2.300",
            "an IPv4 address has four numbers from 0 to 255",
        ),
        ("[0.0.0.0]", "brackets are for IPv6 addresses: `0.0.0.0`"),
    ];
    let is_valid = |text: &str| scalar::listen_address(text).is_ok();
    check_hints(
        &cases,
        |text| scalar::listen_address(text).unwrap_err(),
        is_valid,
    );
}

macro_rules! short_of {
    ($network:literal) => {
        concat!("write all four numbers of the address: `", $network, "`")
    };
}

#[test]
fn networks() {
    let cases = [
        ("10.1.2.3/8", "did you mean `10.0.0.0/8`?"),
        ("2001:db8::1/32", "did you mean `2001:db8::/32`?"),
        (
            "10.0.0.0/255.0.0.0",
            "write the prefix length, not a mask: `10.0.0.0/8`",
        ),
        (
            "192.0.2.0/255.255.255.0",
            "write the prefix length, not a mask: `192.0.2.0/24`",
        ),
        (
            "192.0.2.7/255.255.255.0",
            "write the prefix length, not a mask: `192.0.2.0/24`",
        ),
        (
            "10.0.0.0/33",
            "the prefix length of an IPv4 network is 0 to 32",
        ),
        (
            "10.0.0.0/",
            "the prefix length of an IPv4 network is 0 to 32",
        ),
        (
            "2001:db8::/129",
            "the prefix length of an IPv6 network is 0 to 128",
        ),
        (
            "10/8",
            "write all four numbers of the address: `10.0.0.0/8`",
        ),
        ("[2001:db8::]/32", "write `2001:db8::/32`"),
        ("10.0.0.0 /8", "write `10.0.0.0/8`"),
        ("192.0.2.7:443", "leave out the port: `192.0.2.7`"),
        ("any", "for all clients, write `0.0.0.0/0` and `::/0`"),
        (
            "intranet",
            "write addresses; host names are not accepted here",
        ),
        ("fe80::1%eth0/64", "an address with a zone is not supported"),
        ("10.0.0.1-10.0.0.9", "write networks, not a range"),
        (
            "10.0.0.0 - 10.0.0.255",
            "write networks, not a range: `10.0.0.0/24`",
        ),
        (
            "10.0.0.0/0.255.255.255",
            "write the prefix length, not a mask: `10.0.0.0/8`",
        ),
        (
            "10.0.0.0/255.0.255.0",
            "write the prefix length, not a mask; this mask is not a prefix",
        ),
        (
            "2001:db8::/ffff:ffff::",
            "write the prefix length, not a mask: `2001:db8::/32`",
        ),
        ("2001:db8/32", "write the whole address: `2001:db8::/32`"),
        ("192.168/16", short_of!("192.168.0.0/16")),
        ("172.16/12", short_of!("172.16.0.0/12")),
        ("10.0/16", short_of!("10.0.0.0/16")),
        ("10.1.2/24", short_of!("10.1.2.0/24")),
        ("10.1.2/16", short_of!("10.1.0.0/16")),
        ("172.16/255.240.0.0", short_of!("172.16.0.0/12")),
        ("10.1.2.*", short_of!("10.1.2.0/24")),
        ("192.168.*.*", short_of!("192.168.0.0/16")),
        ("10.1.2.", short_of!("10.1.2.0/24")),
        (
            "10.1/33",
            "write all four numbers of the address, and a prefix length from 0 to 32",
        ),
        ("10.0.0.300/8", FOUR_NUMBERS),
    ];
    let is_valid = |text: &str| scalar::network(text).is_ok();
    check_hints(&cases, |text| scalar::network(text).unwrap_err(), is_valid);
}

#[test]
fn names() {
    let cases = [
        ("https://contoso.com", "leave out the scheme: `contoso.com`"),
        (
            "https://contoso.com:443/a",
            "leave out the scheme: `contoso.com`",
        ),
        ("contoso.com/a", "leave out the path: `contoso.com`"),
        ("contoso.com:443", "leave out the port: `contoso.com`"),
        (
            "user@contoso.com",
            "write only the part after the `@`: `contoso.com`",
        ),
        (
            "sip:user@contoso.com",
            "write only the part after the `@`: `contoso.com`",
        ),
        (".contoso.com", "leave out the dot in front: `contoso.com`"),
        (" contoso.com", "leave out the spaces: `contoso.com`"),
        (
            "*.contoso.com",
            "write one name; `*` is only accepted in the names of routes",
        ),
        (
            "contoso com",
            "the name has a character that no host name has",
        ),
        (
            "b\u{fc}cher.contoso.com",
            "write the name as clients send it, in its `xn--` form",
        ),
        ("a..b", "the name has an empty label"),
    ];
    let is_valid = |text: &str| scalar::host_name(text).is_ok();
    check_hints(
        &cases,
        |text| scalar::host_name(text).unwrap_err(),
        is_valid,
    );
    let rule = "`*` stands for whole labels, only at the start";
    let cases = [
        ("a.*.contoso.com", format!("{rule}: `*.contoso.com`")),
        ("*web.contoso.com", format!("{rule}: `*.web.contoso.com`")),
        ("*contoso.com", format!("{rule}: `*.contoso.com`")),
        ("lync*.contoso.com", format!("{rule}: `*.contoso.com`")),
        ("*.*.contoso.com", format!("{rule}: `*.contoso.com`")),
        ("*.contoso.*", rule.into()),
        ("*.contoso.com:443", format!("{rule}: `*.contoso.com`")),
        (
            "*",
            "for all names without a route, set `unknown_name`".into(),
        ),
        (
            "192.0.2.1",
            "clients that request an address get `unknown_name`".into(),
        ),
    ];
    let cases: Vec<(&str, &str)> = cases
        .iter()
        .map(|(text, hint)| (*text, hint.as_str()))
        .collect();
    let is_valid = |text: &str| scalar::pattern(text).is_ok();
    check_hints(&cases, |text| scalar::pattern(text).unwrap_err(), is_valid);
}

#[test]
fn servers() {
    let zone = "an address with a zone is not supported";
    let ipv6 = "write an IPv6 address with a port as `[2001:db8::1]:4443`";
    let cases = [
        (
            "https://fe01.contoso.local:4443",
            "leave out `https://`: `fe01.contoso.local:4443`",
        ),
        (
            "https://fe01/web/",
            "leave out the scheme and the path: `fe01`",
        ),
        ("fe01:4443/tcp", "leave out `/tcp`: `fe01:4443`"),
        ("fe01/web", "leave out the path: `fe01`"),
        ("10.0.0.1/24", "leave out the path: `10.0.0.1`"),
        (
            "fe01:",
            "write the port after the colon, or leave out the colon: `fe01`",
        ),
        ("fe01:https", "write the port as a number: `fe01:443`"),
        ("fe01:x", "ports are numbers from 1 to 65535"),
        ("fe01:0", PORTS),
        ("fe01:99999", PORTS),
        ("192.0.2.1:0", PORTS),
        (
            ":4443",
            "write the server's name or address before the port",
        ),
        (
            "*:4443",
            "write the server's name or address before the port",
        ),
        ("fe80::1%eth0", zone),
        ("[fe80::1%eth0]:4443", zone),
        ("[fe80::1%2]:4443", zone),
        ("2001:db8::zz", ipv6),
        (
            "[2001:db8::1]4443",
            "write a colon before the port: `[2001:db8::1]:4443`",
        ),
        (
            "[192.0.2.1]:4443",
            "brackets are for IPv6 addresses: `192.0.2.1:4443`",
        ),
        (
            "fe01:1:2",
            "this has more than one port; write one: `fe01:1`",
        ),
        ("10.0.0.256", FOUR_NUMBERS),
        ("10.0.0.300:4443", FOUR_NUMBERS),
        ("192.0.2", FOUR_NUMBERS),
        ("127.1", FOUR_NUMBERS),
        ("1", FOUR_NUMBERS),
        ("0x7f000001:443", FOUR_NUMBERS),
        (" fe01:4443", "leave out the spaces: `fe01:4443`"),
        (
            "fe 01:4443",
            "the name has a character that no host name has",
        ),
        (
            "0.0.0.0:4443",
            "this is the unspecified address; write the address of the server",
        ),
    ];
    let is_valid = |text: &str| scalar::host_and_port(text).is_ok();
    check_hints(
        &cases,
        |text| scalar::host_and_port(text).unwrap_err(),
        is_valid,
    );
}

#[test]
fn numbers_and_ports() {
    for (text, expected) in [
        ("1_000", Some(1000)),
        ("1,000", Some(1000)),
        ("1 000", Some(1000)),
        ("0100", Some(100)),
        ("64", Some(64)),
        ("1e6", Some(1_000_000)),
        ("64k", None),
        ("many", None),
        ("", None),
        ("1e99", None),
    ] {
        assert_eq!(number(text), expected, "{text}");
    }
    for (text, expected) in [
        ("443/tcp", Some(443)),
        (":443", Some(443)),
        ("https", Some(443)),
        ("HTTP", Some(80)),
        ("443-444", None),
        ("tcp", None),
        ("0/tcp", None),
    ] {
        assert_eq!(port(text), expected, "{text}");
    }
}
