//! The value of each text, and the hints of invalid ones.

use super::*;

#[track_caller]
fn has_hint<T: std::fmt::Debug>(parsed: Parsed<T>, expected: &str) {
    assert_eq!(parsed.unwrap_err().unwrap_or_default(), expected);
}

#[test]
fn durations_are_read_and_printed() {
    for (text, milliseconds, printed) in [
        ("250ms", 250, "250ms"),
        ("5s", 5000, "5s"),
        ("20m", 1_200_000, "20m"),
        ("1h30m", 5_400_000, "90m"),
        ("1900s", 1_900_000, "1900s"),
        ("1m500ms", 60_500, "60500ms"),
        ("0s", 0, "0s"),
        ("24h", 86_400_000, "24h"),
    ] {
        let duration = duration(text, |_| true).unwrap();
        assert_eq!(duration, Duration::from_millis(milliseconds), "{text}");
        assert_eq!(print_duration(duration), printed);
    }
    for text in [
        "",
        "s",
        "-5s",
        "1.5s",
        "5 s",
        "5s ",
        "99999999999999999h",
        "é",
        "5é",
    ] {
        assert!(duration(text, |_| true).is_err(), "{text}");
    }
}

#[test]
fn bind_addresses_have_a_port_and_can_be_bound() {
    assert_eq!(bind_address("[::1]:443").unwrap().to_string(), "[::1]:443");
    has_hint(
        bind_address("[::ffff:192.0.2.1]:443"),
        "write the IPv4 address: `192.0.2.1`",
    );
    assert!(bind_address("224.0.0.1:443").is_err());
    assert!(bind_address("nonsense").is_err());
}

#[test]
fn listen_addresses_have_no_port() {
    assert_eq!(
        listen_address("[::]").unwrap(),
        listen_address("::").unwrap()
    );
    assert!(listen_address("[0.0.0.0]").is_err());
    has_hint(
        listen_address("0.0.0.0:443"),
        "leave out the port; ports are set under `ports`",
    );
}

#[test]
fn networks_have_no_host_bits() {
    assert_eq!(network("192.0.2.1").unwrap().to_string(), "192.0.2.1/32");
    assert_eq!(
        network("2001:db8::/32").unwrap().to_string(),
        "2001:db8::/32"
    );
    has_hint(network("10.1.2.3/8"), "did you mean `10.0.0.0/8`?");
    has_hint(
        network("10.0.0.0/255.0.0.0"),
        "write the prefix length, not a mask: `10.0.0.0/8`",
    );
    has_hint(
        network("::ffff:10.0.0.1"),
        "IPv4 clients are matched by their IPv4 address: `10.0.0.1/32`",
    );
}

#[test]
fn patterns_are_names_or_suffixes() {
    assert_eq!(
        pattern("LyncWeb.Contoso.com.").unwrap().to_string(),
        "lyncweb.contoso.com"
    );
    assert_eq!(
        pattern("*.Contoso.com").unwrap().to_string(),
        "*.contoso.com"
    );
    has_hint(
        pattern("*"),
        "for all names without a route, set `unknown_name`",
    );
    has_hint(
        pattern("192.0.2.1"),
        "clients that request an address get `unknown_name`",
    );
    let stars = "`*` stands for whole labels, only at the start: `*.contoso.com`";
    has_hint(pattern("a.*.contoso.com"), stars);
    has_hint(pattern("*.*.contoso.com"), stars);
    has_hint(
        pattern("bücher.contoso.com"),
        "write the name as clients send it, in its `xn--` form",
    );
}

#[test]
fn hosts_are_addresses_or_names_with_or_without_port() {
    let (host, port) = host_and_port("FE01.contoso.local:4443").unwrap();
    assert_eq!(port, Some(4443));
    assert!(matches!(host, ServerHost::Name(name) if name.as_str() == "fe01.contoso.local"));
    for text in [
        "2001:db8::1",
        "[2001:db8::1]",
        "[2001:db8::1]:4443",
        "192.0.2.1:80",
    ] {
        assert!(
            matches!(host_and_port(text), Ok((ServerHost::Address(_), _))),
            "{text}"
        );
    }
    has_hint(host_and_port("fe01:0"), "ports are 1 to 65535");
    has_hint(host_and_port("fe01:99999"), "ports are 1 to 65535");
    has_hint(
        host_and_port("0.0.0.0:443"),
        "this is the unspecified address; write the address of the server",
    );
    has_hint(super::host("fe01:443"), "leave out the port");
    assert!(host_and_port("fe 01").is_err());
}

#[test]
fn the_admin_listener_accepts_a_unix_socket() {
    assert_eq!(
        admin_bind("unix:/run/l.sock").unwrap(),
        AdminBind::Unix("/run/l.sock".into())
    );
    has_hint(admin_bind("/run/l.sock"), "write `unix:/run/l.sock`");
    assert!(admin_bind("unix:").is_err());
    assert!(admin_bind(&format!("unix:/{}", "x".repeat(107))).is_err());
    assert!(admin_bind(&format!("unix:/{}", "x".repeat(106))).is_ok());
}

#[test]
fn labels_are_one_word() {
    assert_eq!(&*label("external-web_1.a:b").unwrap(), "external-web_1.a:b");
    for text in ["", "a b", "a/b", "é", "a\n", "\"", &"x".repeat(254)] {
        assert!(label(text).is_err(), "{text:?}");
    }
}
