use std::net::IpAddr;

use super::*;
use crate::affinity::table::Secret;
use crate::config;
use crate::telemetry::metrics::Registry;
use crate::upstream::backend::Availability;

/// Two groups, one by both and one by source alone, and a pool without.
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
    let loaded = config::read(YAML, "test").unwrap_or_else(|faults| panic!("{faults}"));
    let availability = std::sync::Arc::new(Availability::default());
    Snapshot::build(
        loaded.config,
        &Registry::default(),
        &availability,
        &Secret::random(),
    )
}

fn order(client: &str, name: &str, backend: &str) -> PinOrder {
    PinOrder {
        group: None,
        client: (!client.is_empty()).then(|| crate::admin::parse_client(client).unwrap()),
        name: (!name.is_empty()).then(|| name.into()),
        backend: backend.into(),
    }
}

/// `key=value` words as a filter.
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
    let known = names::asked(snapshot, name).unwrap();
    known
        .iter()
        .map(|known| (known.matched.to_string(), known.pool.name.to_string()))
        .collect()
}

fn pair(matched: &str, pool: &str) -> (String, String) {
    (matched.into(), pool.into())
}

#[test]
fn a_name_stands_for_what_each_listener_makes_of_it() {
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
    // One listener routes it, so it is no unknown name.
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
fn what_cannot_be_asked_for_is_no_name() {
    for wrong in ["*.fabrikam.com", "a b", "a..b", ""] {
        let error = names::asked(&snapshot(), wrong).unwrap_err();
        assert_eq!(error, AffinityError::UnknownName(wrong.into()));
    }
}

/// The groups in which a filter means something, with the names in the table's terms.
fn meant_by(words: &str) -> Result<Vec<String>, String> {
    let snapshot = snapshot();
    let meant = pin_query::meant(&snapshot, &filter(words)).map_err(|error| error.to_string())?;
    let told = |meant: &PinQuery| {
        let filters = meant.filters.iter().map(|filter| {
            let client = filter
                .clients
                .map(|net| net.to_string())
                .unwrap_or_default();
            let all = names::all(&snapshot);
            let is_it = |known: &&names::ConfiguredName| {
                Some(meant.pins.number_name(&known.matched)) == filter.name
            };
            let name = all.iter().find(is_it).map_or("", |known| &*known.matched);
            let members = filter.members.as_ref().map(|members| {
                let names = members
                    .iter()
                    .filter_map(|member| meant.pins.member_name(*member));
                names
                    .map(|name| name.split('.').next().unwrap().to_owned())
                    .collect::<Vec<_>>()
                    .join("+")
            });
            [client.as_str(), name, members.unwrap_or_default().as_str()].join(",")
        });
        format!(
            "{}: {}",
            meant.pins.group(),
            filters.collect::<Vec<_>>().join(" ")
        )
    };
    Ok(meant.iter().map(told).collect())
}

#[test]
fn filters_mean_every_group_in_which_they_make_sense() {
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
        assert_eq!(meant_by(words), Ok(expected), "{words}");
    }
}

#[test]
fn filters_that_make_sense_nowhere_are_errors() {
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
        let said = meant_by(words).unwrap_err();
        // What there is instead may follow.
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
        assert_eq!(meant_by(words), Err(error.to_owned()), "{words}");
    }
}

#[test]
fn an_order_needs_what_its_groups_key_is_made_of() {
    let snapshot = snapshot();
    let ordered = |client: &str, name: &str, backend: &str| {
        let ordered = pin_query::ordered(&snapshot, &order(client, name, backend));
        ordered
            .map(|ordered| (ordered.pins.group().to_string(), ordered.keys.len()))
            .map_err(|error| error.to_string())
    };
    let (fe01, fe02, fe03) = (
        "fe01.contoso.local",
        "fe02.contoso.local",
        "fe03.contoso.local",
    );
    let ok = |group: &str, keys| Ok((group.to_owned(), keys));
    let no = |error: &str| Err(error.to_owned());
    // Two listeners know the name under two patterns; only one of their pools has fe03.
    assert_eq!(
        ordered("192.0.2.7", "lyncweb.contoso.com", fe02),
        ok("web", 2)
    );
    assert_eq!(
        ordered("192.0.2.7", "lyncweb.contoso.com", fe03),
        ok("web", 1)
    );
    assert_eq!(
        ordered("192.0.2.0/24", "lyncweb.contoso.com", fe01),
        ok("web", 2)
    );
    assert_eq!(
        ordered("192.0.2.7", "mail.contoso.com", "mail/fe01.contoso.local"),
        ok("mail", 1)
    );
    assert_eq!(
        ordered("192.0.2.7", "", "mail01.contoso.local"),
        ok("mail", 1)
    );
    assert_eq!(ordered("", "pool", "sip01.contoso.local"), ok("sip", 1));
    for (result, error) in [
        (
            ordered("192.0.2.7", "", fe01),
            "more than one affinity group matches; specify one of: mail, web",
        ),
        (
            ordered("192.0.2.7", "", fe02),
            "group \"web\" pins by name; a name is required",
        ),
        (
            ordered("", "lyncweb.contoso.com", fe02),
            "group \"web\" pins by source; a client is required",
        ),
        (
            ordered("192.0.0.0/16", "lyncweb.contoso.com", fe02),
            "192.0.0.0/16 is more than one client; in group \"web\" a client is a /24",
        ),
        (
            ordered("192.0.2.7", "pool", "sip01.contoso.local"),
            "group \"sip\" does not pin by source",
        ),
        (
            ordered("192.0.2.7", "pool", fe02),
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
        pin_query::moving(&snapshot, &filter(words), to)
            .map(|(meant, _)| meant.pins.group().to_string())
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
fn a_move_asks_for_the_group_only_where_several_have_pins_to_move() {
    let snapshot = snapshot();
    let (fe01, fe02) = ("fe01.contoso.local", "fe02.contoso.local");
    let moving = |words: &str| {
        pin_query::moving(&snapshot, &filter(words), fe01)
            .map(|(meant, _)| meant.pins.group().to_string())
            .map_err(|error| error.to_string())
    };
    let pin =
        |name: &str, backend: &str| pin(&snapshot, &order("192.0.2.7", name, backend)).unwrap();
    // Two groups have an fe01, and none a pin: there is nothing to ask.
    assert!(moving("client=192.0.2.7").is_ok());
    pin("lyncweb.contoso.com", fe02);
    assert_eq!(moving("client=192.0.2.7"), Ok("web".into()));
    // One that leads there already is not moved.
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
fn the_log_shows_no_more_of_a_client_than_it_may() {
    let prefix = SourcePrefix { ipv4: 24, ipv6: 64 };
    let client = crate::admin::parse_client("192.0.2.7").unwrap();
    let shown = |shown| logged(client, shown, prefix).to_string();
    assert_eq!(shown(ClientAddress::Full), "192.0.2.7/32");
    assert_eq!(shown(ClientAddress::Prefix), "192.0.2.0/24");
}

#[test]
fn the_sessions_of_a_client_are_shown_and_go_with_its_pin() {
    let snapshot = snapshot();
    let (client, other): (IpAddr, IpAddr) = ([192, 0, 2, 7].into(), [198, 51, 100, 1].into());
    let pins = &pin_query::groups(&snapshot, Some("mail")).unwrap()[0];
    let from = pins.number_member("fe01.contoso.local");
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
fn a_page_goes_on_where_the_one_before_ended() {
    let snapshot = snapshot();
    for (group, backend) in [
        ("mail", "mail01.contoso.local"),
        ("web", "fe02.contoso.local"),
    ] {
        let pins = &pin_query::groups(&snapshot, Some(group)).unwrap()[0];
        let names = names::all(&snapshot);
        for host in 0..50 {
            for named in pin_query::keys(pins, &names, [10, 0, host, 1].into()) {
                pins.pin(named.key, pins.number_member(backend)).unwrap();
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
        // Four names lead to the group by both.
        assert_eq!(listed("", most), 250);
        assert_eq!(listed("name=lyncweb.contoso.com", most), 100);
        assert_eq!(listed("client=10.0.7.200", most), 4);
        assert_eq!(listed("backend=mail01.contoso.local", most), 50);
    }
}

#[test]
fn a_cursor_of_no_page_is_refused() {
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
        assert_eq!(error, AffinityError::Cursor(cursor.into()));
    }
}

#[test]
fn a_rare_pin_is_found_in_several_looks_of_bounded_length() {
    let snapshot = snapshot();
    let pins = &pin_query::groups(&snapshot, Some("mail")).unwrap()[0];
    let [common, rare] =
        ["fe01", "mail01"].map(|name| pins.number_member(&format!("{name}.contoso.local")));
    let clients = u32::try_from(LOOKS).unwrap() + 100;
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
