//! `lyncpin affinity`, as a process.

use lyncpin::admin::view::{ClientPins, ClientQuery, PinAssignment, PinFilter, PinPage};

use super::{ask, lyncpin};
use crate::admin::fake::Running;
use crate::admin::fake::pins::RecordedCall;

fn filter() -> PinFilter {
    PinFilter {
        group: Some("web".into()),
        client: Some("192.0.2.0/24".parse().unwrap()),
        name: Some("*.contoso.com".into()),
        pool: Some("web".into()),
        backend: Some("fe01".into()),
    }
}

const FILTER: [&str; 10] = [
    "--group",
    "web",
    "--client",
    "192.0.2.0/24",
    "--name",
    "*.contoso.com",
    "--pool",
    "web",
    "--backend",
    "fe01",
];

#[test]
fn pins_are_listed_over_every_page() {
    let running = Running::plain();
    let output = ask(&running, &["affinity", "list"]);
    assert_eq!((output.status, output.err.as_str()), (0, ""));
    let lines: Vec<&str> = output.out.lines().collect();
    assert_eq!(
        lines[..3],
        [
            "GROUP  CLIENT        NAME           BACKEND  ORIGIN  AGE   CONNECTIONS  EXPIRES IN",
            "web    192.0.2.1/32  *.contoso.com  fe01     policy  2h1m            1  in use",
            "web    192.0.2.2/32  -              fe01     policy  2h1m            2  1m30s",
        ]
    );
    assert_eq!(lines.len(), 8, "{}", output.out);
    assert_eq!(
        ask(&running, &["affinity", "list", "--all"]).out,
        output.out
    );
}

#[test]
fn a_truncated_list_is_reported() {
    let running = Running::plain();
    let output = ask(&running, &["affinity", "list", "--limit", "2"]);
    assert_eq!(output.out.lines().count(), 3);
    assert_eq!(
        (output.status, output.err.as_str()),
        (0, "more pins match; use --limit COUNT or --all\n")
    );
    running.control.recorded_calls();
    let output = ask(&running, &["affinity", "list", "--limit", "5"]);
    assert_eq!(output.out.lines().count(), 6);
    let page = |cursor: Option<&str>, most| {
        RecordedCall::Page(PinFilter::default(), cursor.map(Into::into), most)
    };
    let pages = [page(None, 5), page(Some("@4"), 2), page(Some("@5"), 2)];
    assert_eq!(running.control.recorded_calls(), pages);
}

#[test]
fn filters_are_sent_to_the_api() {
    let running = Running::plain();
    let with = |first: &[&'static str], last: &[&'static str]| {
        let output = ask(&running, &[first, &FILTER, last].concat());
        assert_eq!(output.status, 0, "{}", output.err);
        running.control.recorded_calls().remove(0)
    };
    assert_eq!(
        with(&["affinity", "list"], &[]),
        RecordedCall::Page(filter(), None, 100)
    );
    assert_eq!(
        with(&["affinity", "move"], &["--to", "fe02"]),
        RecordedCall::Move(filter(), "fe02".into())
    );
    assert_eq!(
        with(&["affinity", "clear"], &[]),
        RecordedCall::Clear(filter())
    );
}

#[test]
fn a_list_as_json_is_the_pages_of_the_api() {
    let running = Running::plain();
    let output = ask(&running, &["affinity", "list", "--all", "--json"]);
    let pages = output.out.lines().map(serde_json::from_str::<PinPage>);
    let pages: Vec<PinPage> = pages.collect::<Result<_, _>>().unwrap();
    let counts: Vec<usize> = pages.iter().map(|page| page.entries.len()).collect();
    assert_eq!(counts, [3, 0, 4]);
}

#[test]
fn an_empty_list_is_reported() {
    let running = Running::plain();
    let output = ask(
        &running,
        &["affinity", "list", "--client", "198.51.100.0/24"],
    );
    assert_eq!(
        (output.status, output.out.as_str()),
        (0, "no pin matches\n")
    );
}

#[test]
fn a_client_is_shown_with_its_sessions() {
    let running = Running::plain();
    let arguments = [
        "affinity",
        "show",
        "--client",
        "192.0.2.7",
        "--name",
        "meet.contoso.com",
    ];
    let output = ask(&running, &arguments);
    assert_eq!(
        output.out,
        "GROUP  CLIENT        NAME           BACKEND  ORIGIN  AGE   CONNECTIONS  EXPIRES IN  TLS SESSIONS\n\
         web    192.0.2.7/32  *.contoso.com  fe01     policy  2h1m            7  in use                 2\n"
    );
    let query = ClientQuery {
        group: None,
        client: "192.0.2.7".parse().unwrap(),
        name: Some("meet.contoso.com".into()),
    };
    assert_eq!(
        running.control.recorded_calls(),
        [RecordedCall::Client(query)]
    );
    let json = ask(&running, &[&arguments[..], &["--json"]].concat());
    assert!(serde_json::from_str::<ClientPins>(&json.out).is_ok());
    let output = ask(&running, &["affinity", "show", "--client", "198.51.100.1"]);
    assert_eq!(
        (output.status, output.out.as_str(), output.err.as_str()),
        (1, "", "198.51.100.1 has no pin\n")
    );
}

#[test]
fn pinning_a_client_prints_its_previous_backend() {
    let running = Running::plain();
    let output = ask(
        &running,
        &["affinity", "pin", "--client", "192.0.2.7", "web/fe01"],
    );
    assert_eq!(
        output.out, "192.0.2.7/32 is pinned to fe01, had no pin\n",
        "{}",
        output.err
    );
    let order = PinAssignment {
        group: None,
        client: Some("192.0.2.7/32".parse().unwrap()),
        name: None,
        backend: "web/fe01".into(),
    };
    assert_eq!(running.control.recorded_calls(), [RecordedCall::Pin(order)]);
    let arguments = [
        "affinity",
        "pin",
        "fe01",
        "--client",
        "192.0.2.7",
        "--name",
        "meet.contoso.com",
    ];
    assert_eq!(
        ask(&running, &arguments).out,
        "192.0.2.7/32 for meet.contoso.com is pinned to fe01, was fe02\n"
    );
    let output = ask(
        &running,
        &["affinity", "pin", "--client", "192.0.2.7", "fe9"],
    );
    assert_eq!(
        (output.status, output.err.as_str()),
        (1, "no pool with affinity has a backend \"fe9\"\n")
    );
}

#[test]
fn moves_and_clears_print_counts_and_fail_if_no_pin_matches() {
    let running = Running::plain();
    assert_eq!(
        ask(
            &running,
            &["affinity", "move", "--backend", "fe01", "--to", "fe02"]
        )
        .out,
        "7 pins and 2 TLS sessions moved to fe02, 5 connections reset\n"
    );
    assert_eq!(
        ask(&running, &["affinity", "clear", "--client", "192.0.2.7"]).out,
        "1 pin cleared, 5 connections not affected\n"
    );
    assert_eq!(
        ask(&running, &["affinity", "clear", "--all"]).out,
        "7 pins and 2 TLS sessions cleared, 5 connections not affected\n"
    );
    let unknown = ["--client", "198.51.100.1"];
    for (arguments, error) in [
        (&["affinity", "clear"][..], "no pin matches\n"),
        (
            &["affinity", "move", "--to", "fe02"],
            "198.51.100.1 has no matching pin\n\
             create one with `lyncpin affinity pin --client 198.51.100.1 fe02`\n",
        ),
    ] {
        let output = ask(&running, &[arguments, &unknown].concat());
        assert_eq!(
            (output.status, output.out.as_str(), output.err.as_str()),
            (1, "", error)
        );
    }
}

#[test]
fn a_command_that_selects_no_pins_is_a_usage_error() {
    for arguments in [
        &["affinity"][..],
        &["affinity", "frobnicate"],
        &["affinity", "clear"],
        &["affinity", "clear", "--all", "--group", "web"],
        &["affinity", "clear", "--client", ""],
        &["affinity", "clear", "--backend", ""],
        &["affinity", "move", "--to", "fe02"],
        &["affinity", "move", "--backend", "fe01"],
        &["affinity", "pin", "--client", "192.0.2.7"],
        &["affinity", "pin", "--client", "phone7", "fe01"],
        &["affinity", "show"],
        &["affinity", "show", "--client", "192.0.2.0/24"],
        &["affinity", "list", "--limit", "0"],
        &["affinity", "list", "--limit", "5", "--all"],
    ] {
        let output = lyncpin(arguments);
        assert_eq!(
            (output.status, output.out.as_str()),
            (2, ""),
            "{arguments:?}"
        );
        assert!(!output.err.is_empty());
    }
}
