use std::net::IpAddr;

use super::*;
use crate::affinity::table::Secret;
use crate::config;
use crate::telemetry::metrics::Registry;
use crate::upstream::backend::Availability;

/// Two groups, one by source and name, one by source alone, and a pool without affinity.
const YAML: &str = r#"
listeners:
  https:
    bind: ["127.0.0.1:1443"]
    protocol: tls
    routes:
      - { names: [lyncweb.contoso.com, "*.apps.contoso.com"], pool: web }
      - { names: [mail.contoso.com], pool: mail }
      - { names: [plain.contoso.com], pool: plain }
    unknown_name: web
  http:
    bind: ["127.0.0.1:1080"]
    protocol: http
    routes: [{ names: ["*.contoso.com"], pool: web-http }]
  sip: { bind: ["127.0.0.1:1061"], protocol: tcp, pool: sip }
pools:
  web: { port: 4443, backends: [fe01.contoso.local, fe02.contoso.local], affinity: { group: web, source_prefix: { ipv4: 24, ipv6: 64 } } }
  web-http: { port: 8080, backends: [fe01.contoso.local, fe02.contoso.local, fe03.contoso.local], affinity: { group: web, source_prefix: { ipv4: 24, ipv6: 64 } } }
  mail: { port: 443, backends: [fe01.contoso.local, mail01.contoso.local], affinity: { by: [source, tls_session] } }
  sip: { port: 5061, backends: [sip01.contoso.local], affinity: { by: [name] } }
  plain: { port: 443, backends: [fe01.contoso.local, plain01.contoso.local], affinity: none }
"#;

fn snapshot() -> Snapshot {
    let loaded = config::read(YAML, "test").unwrap_or_else(|errors| panic!("{errors}"));
    let availability = std::sync::Arc::new(Availability::default());
    Snapshot::build(
        loaded.config,
        &Registry::default(),
        &availability,
        &Secret::random(),
    )
}

fn order(client: &str, name: &str, backend: &str) -> PinAssignment {
    PinAssignment {
        group: None,
        client: (!client.is_empty()).then(|| crate::admin::parse_client(client).unwrap()),
        name: (!name.is_empty()).then(|| name.into()),
        backend: backend.into(),
    }
}

/// A filter of `key=value` words.
fn filter(words: &str) -> PinFilter {
    let mut filter = PinFilter::default();
    for (key, value) in words.split(' ').filter_map(|word| word.split_once('=')) {
        let text = Some(value.to_owned());
        match key {
            "group" => filter.group = text,
            "client" => filter.client = Some(crate::admin::parse_client(value).unwrap()),
            "name" => filter.name = text,
            "pool" => filter.pool = text,
            "backend" => filter.backend = text,
            other => panic!("{other}"),
        }
    }
    filter
}

fn names(snapshot: &Snapshot, name: &str) -> Vec<(String, String)> {
    let known = names::matching(snapshot, name).unwrap();
    known
        .iter()
        .map(|known| (known.matched.to_string(), known.pool.name.to_string()))
        .collect()
}

fn pair(matched: &str, pool: &str) -> (String, String) {
    (matched.into(), pool.into())
}

#[test]
fn a_name_matches_the_routes_of_each_listener() {
    let snapshot = snapshot();
    let both = [
        pair("*.contoso.com", "web-http"),
        pair("lyncweb.contoso.com", "web"),
    ];
    assert_eq!(names(&snapshot, "lyncweb.contoso.com"), both);
    assert_eq!(names(&snapshot, "LyncWeb.Contoso.com."), both);
    assert_eq!(
        names(&snapshot, "a.b.apps.contoso.com"),
        [
            pair("*.apps.contoso.com", "web"),
            pair("*.contoso.com", "web-http")
        ]
    );
    assert_eq!(
        names(&snapshot, "*.contoso.com"),
        [pair("*.contoso.com", "web-http")]
    );
    // One listener routes it, so it is not an unknown name.
    assert_eq!(
        names(&snapshot, "meet.contoso.com"),
        [pair("*.contoso.com", "web-http")]
    );
    let unknown = [pair("unknown_name", "web")];
    assert_eq!(names(&snapshot, "lyncweb.fabrikam.com"), unknown);
    assert_eq!(names(&snapshot, "192.0.2.1"), unknown);
    assert_eq!(names(&snapshot, "unknown_name"), unknown);
    assert_eq!(names(&snapshot, "pool"), [pair("pool", "sip")]);
}

#[test]
fn what_no_client_can_request_is_not_a_name() {
    for wrong in ["*.fabrikam.com", "a b", "a..b", ""] {
        let error = names::matching(&snapshot(), wrong).unwrap_err();
        assert_eq!(error, AffinityError::UnknownName(wrong.into()));
    }
}

/// The groups that a filter selects, with the names of the filters.
fn selected_by(words: &str) -> Result<Vec<String>, String> {
    let snapshot = snapshot();
    let queries =
        pin_query::queries(&snapshot, &filter(words)).map_err(|error| error.to_string())?;
    let describe = |query: &PinQuery| {
        let filters = query.filters.iter().map(|filter| {
            let client = filter
                .clients
                .map(|net| net.to_string())
                .unwrap_or_default();
            let all = names::all(&snapshot);
            let is_it = |known: &&names::ConfiguredName| {
                Some(query.pins.intern_name(&known.matched)) == filter.name
            };
            let name = all.iter().find(is_it).map_or("", |known| &*known.matched);
            let members = filter.members.as_ref().map(|members| {
                let names = members
                    .iter()
                    .filter_map(|member| query.pins.member_name(*member));
                names
                    .map(|name| name.split('.').next().unwrap().to_owned())
                    .collect::<Vec<_>>()
                    .join("+")
            });
            [client.as_str(), name, members.unwrap_or_default().as_str()].join(",")
        });
        format!(
            "{}: {}",
            query.pins.group(),
            filters.collect::<Vec<_>>().join(" ")
        )
    };
    Ok(queries.iter().map(describe).collect())
}

#[test]
fn a_filter_selects_every_group_to_which_it_applies() {
    for (words, expected) in [
        ("", &["mail: ,,", "sip: ,,", "web: ,,"][..]),
        ("group=web", &["web: ,,"]),
        (
            "client=192.0.2.7",
            &["mail: 192.0.2.7/32,,", "web: 192.0.2.0/24,,"],
        ),
        ("client=192.0.0.0/16 group=web", &["web: 192.0.0.0/16,,"]),
        (
            "client=2001:db8::7",
            &["mail: 2001:db8::7/128,,", "web: 2001:db8::/64,,"],
        ),
        ("pool=web", &["web: ,,fe01+fe02"]),
        ("pool=web-http", &["web: ,,fe01+fe02+fe03"]),
        (
            "backend=fe01.contoso.local",
            &["mail: ,,fe01", "web: ,,fe01"],
        ),
        ("backend=mail/fe01.contoso.local", &["mail: ,,fe01"]),
        ("pool=mail backend=fe01.contoso.local", &["mail: ,,fe01"]),
        (
            "name=lyncweb.contoso.com",
            &["web: ,*.contoso.com, ,lyncweb.contoso.com,"],
        ),
        (
            "name=unknown_name client=192.0.2.7",
            &["web: 192.0.2.0/24,unknown_name,"],
        ),
        ("name=pool", &["sip: ,pool,"]),
    ] {
        let expected = expected.iter().map(ToString::to_string).collect();
        assert_eq!(selected_by(words), Ok(expected), "{words}");
    }
}

#[test]
fn a_filter_that_applies_to_no_group_is_an_error() {
    for (words, error) in [
        ("group=smtp", "there is no affinity group \"smtp\""),
        ("pool=smtp", "there is no pool \"smtp\""),
        ("pool=plain", "pool \"plain\" has no affinity"),
        (
            "group=mail pool=web",
            "pool \"web\" is not in group \"mail\"",
        ),
        ("backend=fe9", "no pool with affinity has a backend \"fe9\""),
        (
            "backend=plain01.contoso.local",
            "pool \"plain\" has no affinity",
        ),
        (
            "backend=web/fe03.contoso.local",
            "pool \"web\" has no backend \"fe03.contoso.local\"",
        ),
        (
            "pool=web backend=fe03.contoso.local",
            "pool \"web\" has no backend \"fe03.contoso.local\"",
        ),
        (
            "group=sip backend=fe01.contoso.local",
            "group \"sip\" has no backend \"fe01.contoso.local\"",
        ),
        (
            "group=sip client=192.0.2.7",
            "group \"sip\" does not pin by source",
        ),
        (
            "group=mail name=mail.contoso.com",
            "group \"mail\" does not pin by name",
        ),
        (
            "name=*.fabrikam.com",
            "no route for \"*.fabrikam.com\" points to a pool with affinity",
        ),
        (
            "name=plain.contoso.com group=sip",
            "no route for \"plain.contoso.com\" points to a pool with affinity",
        ),
    ] {
        let said = selected_by(words).unwrap_err();
        // A list of what exists may follow.
        let rest = said
            .strip_prefix(error)
            .unwrap_or_else(|| panic!("{words}: {said}"));
        assert!(rest.is_empty() || rest.starts_with("; the "), "{said}");
    }
    for (words, error) in [
        (
            "group=wbe",
            "there is no affinity group \"wbe\"; the affinity groups are mail, sip, web; did you mean `web`?",
        ),
        (
            "pool=web backend=fe03.contoso.local",
            "pool \"web\" has no backend \"fe03.contoso.local\"; the backends are fe01.contoso.local, \
             fe02.contoso.local; did you mean `fe01.contoso.local`?",
        ),
    ] {
        assert_eq!(selected_by(words), Err(error.to_owned()), "{words}");
    }
}

#[test]
fn an_order_needs_every_part_of_the_key() {
    let snapshot = snapshot();
    let request = |client: &str, name: &str, backend: &str| {
        let request = pin_query::request(&snapshot, &order(client, name, backend));
        request
            .map(|request| (request.pins.group().to_string(), request.keys.len()))
            .map_err(|error| error.to_string())
    };
    let (fe01, fe02, fe03) = (
        "fe01.contoso.local",
        "fe02.contoso.local",
        "fe03.contoso.local",
    );
    let ok = |group: &str, keys| Ok((group.to_owned(), keys));
    let no = |error: &str| Err(error.to_owned());
    // The name matches patterns of two listeners; only one of their pools has fe03.
    assert_eq!(
        request("192.0.2.7", "lyncweb.contoso.com", fe02),
        ok("web", 2)
    );
    assert_eq!(
        request("192.0.2.7", "lyncweb.contoso.com", fe03),
        ok("web", 1)
    );
    assert_eq!(
        request("192.0.2.0/24", "lyncweb.contoso.com", fe01),
        ok("web", 2)
    );
    assert_eq!(
        request("192.0.2.7", "mail.contoso.com", "mail/fe01.contoso.local"),
        ok("mail", 1)
    );
    assert_eq!(
        request("192.0.2.7", "", "mail01.contoso.local"),
        ok("mail", 1)
    );
    assert_eq!(request("", "pool", "sip01.contoso.local"), ok("sip", 1));
    for (result, error) in [
        (
            request("192.0.2.7", "", fe01),
            "more than one affinity group matches; specify one of: mail, web",
        ),
        (
            request("192.0.2.7", "", fe02),
            "group \"web\" pins by name; a name is required",
        ),
        (
            request("", "lyncweb.contoso.com", fe02),
            "group \"web\" pins by source; a client is required",
        ),
        (
            request("192.0.0.0/16", "lyncweb.contoso.com", fe02),
            "192.0.0.0/16 is more than one client; in group \"web\" a client is a /24",
        ),
        (
            request("192.0.2.7", "pool", "sip01.contoso.local"),
            "group \"sip\" does not pin by source",
        ),
        (
            request("192.0.2.7", "pool", fe02),
            "pool \"sip\" has no backend \"fe02.contoso.local\"; the only backend is sip01.contoso.local",
        ),
    ] {
        assert_eq!(result, no(error));
    }
}

#[test]
fn a_move_needs_one_group_that_has_the_backend() {
    let snapshot = snapshot();
    let moving = |words: &str, to: &str| {
        pin_query::move_query(&snapshot, &filter(words), to)
            .map(|(query, _)| query.pins.group().to_string())
            .map_err(|error| error.to_string())
    };
    let (fe01, fe02) = ("fe01.contoso.local", "fe02.contoso.local");
    assert_eq!(moving("backend=fe01.contoso.local", fe02), Ok("web".into()));
    assert_eq!(
        moving("client=192.0.2.7 pool=mail", fe01),
        Ok("mail".into())
    );
    assert_eq!(
        moving("client=192.0.2.7", "web/fe01.contoso.local"),
        Ok("web".into())
    );
    let missing = moving("group=mail", fe02).unwrap_err();
    let expected = "group \"mail\" has no backend \"fe02.contoso.local\"; the backends are ";
    assert!(missing.starts_with(expected), "{missing}");
}

#[test]
fn a_move_needs_the_group_only_if_several_have_pins_to_move() {
    let snapshot = snapshot();
    let (fe01, fe02) = ("fe01.contoso.local", "fe02.contoso.local");
    let moving = |words: &str| {
        pin_query::move_query(&snapshot, &filter(words), fe01)
            .map(|(query, _)| query.pins.group().to_string())
            .map_err(|error| error.to_string())
    };
    let pin =
        |name: &str, backend: &str| pin(&snapshot, &order("192.0.2.7", name, backend)).unwrap();
    // Two groups have an fe01, and none has a pin: nothing is ambiguous.
    assert!(moving("client=192.0.2.7").is_ok());
    pin("lyncweb.contoso.com", fe02);
    assert_eq!(moving("client=192.0.2.7"), Ok("web".into()));
    // A pin that is there already is not moved.
    pin("mail.contoso.com", "mail/fe01.contoso.local");
    assert_eq!(moving("client=192.0.2.7"), Ok("web".into()));
    pin("mail.contoso.com", "mail01.contoso.local");
    assert_eq!(
        moving("client=192.0.2.7"),
        Err("more than one affinity group matches; specify one of: mail, web".into())
    );
    assert!(moving("client=198.51.100.1").is_ok());
}

#[test]
fn the_log_has_no_more_of_a_client_than_allowed() {
    let prefix = SourcePrefix { ipv4: 24, ipv6: 64 };
    let client = crate::admin::parse_client("192.0.2.7").unwrap();
    let shown = |shown| logged(client, shown, prefix).to_string();
    assert_eq!(shown(ClientAddress::Full), "192.0.2.7/32");
    assert_eq!(shown(ClientAddress::Prefix), "192.0.2.0/24");
}

#[test]
fn the_sessions_of_a_client_are_shown_and_cleared_with_its_pin() {
    let snapshot = snapshot();
    let (client, other): (IpAddr, IpAddr) = ([192, 0, 2, 7].into(), [198, 51, 100, 1].into());
    let pins = &pin_query::groups(&snapshot, Some("mail")).unwrap()[0];
    let from = pins.intern_member("fe01.contoso.local");
    for (number, source) in [(1, client), (2, client), (3, other)] {
        let key = pins.key(source, 0);
        pins.pin(key, from).unwrap();
        assert!(pins.learn_ticket(&[number; 32], Some(&key), from).is_some());
    }
    let show = |client| {
        let group = Some("mail".to_owned());
        let name = None;
        let query = ClientQuery {
            group,
            client,
            name,
        };
        let pins = client_pins(&snapshot, &query).unwrap().pins;
        (pins[0].pin.backend.clone(), pins[0].sessions)
    };
    assert_eq!(show(client), ("fe01.contoso.local".into(), 2));
    let filter = filter("client=192.0.2.7 group=mail");
    let availability = Availability::default();
    let moved = move_pins(&snapshot, &availability, &filter, "mail01.contoso.local").unwrap();
    assert_eq!((moved.pins, moved.sessions), (1, 2));
    assert_eq!(show(client), ("mail01.contoso.local".into(), 2));
    assert_eq!(show(other), ("fe01.contoso.local".into(), 1));
    let cleared = clear_pins(&snapshot, &filter).unwrap();
    assert_eq!((cleared.pins, cleared.sessions), (1, 2));
    assert_eq!(pins.sessions(), 1);
}

#[test]
fn a_page_continues_where_the_previous_one_ended() {
    let snapshot = snapshot();
    for (group, backend) in [
        ("mail", "mail01.contoso.local"),
        ("web", "fe02.contoso.local"),
    ] {
        let pins = &pin_query::groups(&snapshot, Some(group)).unwrap()[0];
        let names = names::all(&snapshot);
        for host in 0..50 {
            for named in pin_query::keys(pins, &names, [10, 0, host, 1].into()) {
                pins.pin(named.key, pins.intern_member(backend)).unwrap();
            }
        }
    }
    let listed = |words: &str, most: usize| {
        let (mut cursor, mut listed) = (None, Vec::new());
        loop {
            let page = page(&snapshot, &filter(words), cursor.as_deref(), most).unwrap();
            assert!(page.entries.len() <= most);
            listed.extend(
                page.entries
                    .into_iter()
                    .map(|pin| (pin.group, pin.client, pin.name)),
            );
            let Some(next) = page.cursor else { break };
            cursor = Some(next);
        }
        let count = listed.len();
        listed.sort();
        listed.dedup();
        assert_eq!(listed.len(), count, "none comes twice");
        count
    };
    for most in [1, 3, 50, 1000] {
        // Four names belong to the group by source and name.
        assert_eq!(listed("", most), 250);
        assert_eq!(listed("name=lyncweb.contoso.com", most), 100);
        assert_eq!(listed("client=10.0.7.200", most), 4);
        assert_eq!(listed("backend=mail01.contoso.local", most), 50);
    }
}

#[test]
fn an_invalid_cursor_is_rejected() {
    let snapshot = snapshot();
    for cursor in [
        "",
        "7",
        "0-0",
        "0-0~0",
        "0-0~0@smtp",
        "0-0~9@web",
        "x~0@web",
        "0-0@web",
    ] {
        let error = page(&snapshot, &PinFilter::default(), Some(cursor), 10).unwrap_err();
        assert_eq!(error, AffinityError::InvalidCursor(cursor.into()));
    }
}

#[test]
fn a_rare_pin_is_found_in_several_calls_of_limited_length() {
    let snapshot = snapshot();
    let pins = &pin_query::groups(&snapshot, Some("mail")).unwrap()[0];
    let [common, rare] =
        ["fe01", "mail01"].map(|name| pins.intern_member(&format!("{name}.contoso.local")));
    let clients = u32::try_from(CELLS_PER_CALL).unwrap() + 100;
    for number in 0..clients {
        let source: IpAddr = std::net::Ipv4Addr::from_bits(0x0a00_0000 + number).into();
        let to = if number == clients / 2 { rare } else { common };
        pins.pin(pins.key(source, 0), to).unwrap();
    }
    let rare = filter("backend=mail01.contoso.local");
    let first = page(&snapshot, &rare, None, 10).unwrap();
    let second = page(&snapshot, &rare, first.cursor.as_deref(), 10).unwrap();
    assert!(first.cursor.is_some() && second.cursor.is_none());
    assert_eq!(first.entries.len() + second.entries.len(), 1);
}
