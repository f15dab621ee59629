//! Where the host of a request is found, and what is rejected there.

use super::*;

/// Asserts that an otherwise valid request with this Host field is rejected.
#[track_caller]
fn rejected_host(value: &str, expected: AuthorityError) {
    let head = format!("GET / HTTP/1.1\r\nHost: {value}\r\n\r\n");
    rejected(head, MalformedHead::Host(expected));
}

#[test]
fn the_host_is_found_wherever_it_is() {
    for head in [
        "GET / HTTP/1.1\r\nHost: meet.contoso.com\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: meet.contoso.com\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: meet.contoso.com\r\n\r\n",
        "GET /a?b=c:d@e HTTP/1.1\r\nAccept: */*\r\nhOST:MEET.Contoso.com.\r\nCookie: \r\n\r\n",
        "RPC_IN_DATA /rpc HTTP/1.1\r\nX-Host: a\r\nHost:\t meet.contoso.com \t\r\nHosts: b\r\nHost-: c\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: meet.contoso.com:80\r\nHos: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: meet.contoso.com:\r\nX:Host: a.test\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: meet.contoso.com:65535\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: meet.contoso.com\r\n\r\n",
        "OPTIONS / HTTP/1.1\r\nHost: meet.contoso.com\r\n\r\n",
    ] {
        host(head, &named("meet.contoso.com"));
    }
}

#[test]
fn the_authority_in_the_target_wins_over_host() {
    for head in [
        "GET http://a.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n",
        "GET HTTP://A.test HTTP/1.1\r\nHost: b.test\r\n\r\n",
        "GET https://a.test:443/b@c HTTP/1.1\r\n\r\n",
        "GET http://a.test?b:c@d HTTP/1.0\r\nHost:\r\n\r\n",
        "GET http://a.test#b HTTP/1.1\r\nHost: [::1]\r\n\r\n",
        "OPTIONS http://a.test HTTP/1.1\r\nHost: b.test\r\n\r\n",
        "CONNECT a.test:443 HTTP/1.1\r\nHost: b.test\r\n\r\n",
    ] {
        host(head, &named("a.test"));
    }
    host("CONNECT [::1]:443 HTTP/1.1\r\n\r\n", &Host::NoHostName);
}

#[test]
fn the_host_field_is_checked_even_if_the_target_wins() {
    rejected(
        "GET http://a.test/ HTTP/1.1\r\nHost: b@c.test\r\n\r\n",
        MalformedHead::Host(AuthorityError::UserInfo),
    );
}

#[test]
fn a_missing_or_empty_host_is_absent() {
    host("GET / HTTP/1.0\r\n\r\n", &Host::Absent);
    host("GET / HTTP/1.1\r\nAccept: */*\r\n\r\n", &Host::Absent);
    host("GET / HTTP/1.1\r\nHost:\r\n\r\n", &Host::Absent);
    host("GET / HTTP/1.1\r\nHost: \t \r\n\r\n", &Host::Absent);
    host("OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n", &Host::Absent);
}

#[test]
fn addresses_are_not_names() {
    for value in [
        "192.0.2.1",
        "192.0.2.1:80",
        "[::1]",
        "[2001:DB8::1]:80",
        "[::ffff:192.0.2.1]:",
    ] {
        let head = format!("GET / HTTP/1.1\r\nHost: {value}\r\n\r\n");
        host(head, &Host::NoHostName);
    }
}

#[test]
fn characters_that_no_host_name_has_are_not_a_name() {
    for value in [
        "*.test",
        "a~b.test",
        "a+b.test:80",
        "a,b.test",
        "(a).test.",
        "*",
    ] {
        let head = format!("GET / HTTP/1.1\r\nHost: {value}\r\n\r\n");
        host(head, &Host::NoHostName);
    }
}

#[test]
fn invalid_hosts_are_malformed() {
    for value in ["a@b.test", "a:b@c.test", "@", "[::1]@a.test"] {
        rejected_host(value, AuthorityError::UserInfo);
    }
    for value in [
        "[::1",
        "[",
        "[]",
        "[a.test]",
        "[192.0.2.1]",
        "[v1.x]",
        "[fe80::1%25eth0]",
    ] {
        rejected_host(value, AuthorityError::Brackets);
    }
    for value in [
        "a.test:0",
        "a.test:65536",
        "a.test:+80",
        "a.test:-1",
        "a.test:80a",
        "a.test: 80",
        "a.test:80:80",
        "a.test::80",
        "[::1]80",
        "[::1]]:80",
        "[::1] :80",
    ] {
        rejected_host(value, AuthorityError::Port);
    }
    for (value, error) in [
        (":80", HostNameError::Empty),
        ("::1", HostNameError::Empty),
        ("a..test", HostNameError::EmptyLabel),
        ("a.test, b.test", HostNameError::BadCharacter),
        ("a.test b.test", HostNameError::BadCharacter),
        ("a.test/b", HostNameError::BadCharacter),
        ("a%2etest", HostNameError::BadCharacter),
        ("*.test/", HostNameError::BadCharacter),
        ("*..test", HostNameError::EmptyLabel),
        ("\"a\".test", HostNameError::BadCharacter),
        ("b\u{fc}cher.test", HostNameError::NonAscii),
    ] {
        rejected_host(value, AuthorityError::Name(error));
    }
}

#[test]
fn a_second_host_is_malformed() {
    for second in ["Host: a.test", "HOST: b.test", "host:"] {
        for between in ["", "Accept: */*\r\n"] {
            let head =
                format!("GET / HTTP/1.1\r\nHost: a.test\r\n{between}{second}\r\nAccept: */*\r\n");
            rejected(head, MalformedHead::Hosts);
        }
    }
    rejected("GET / HTTP/1.1\r\nHost:\r\nHost:\r\n", MalformedHead::Hosts);
}

#[test]
fn targets_of_no_form_or_the_wrong_form_are_malformed() {
    for start in [
        "GET *",
        "GET a.test:80",
        "GET a",
        "GET ftp://a.test/",
        "GET http:/a.test",
        "GET http:a.test",
        "GET ://a.test",
        "OPTIONS **",
        "options *",
        "PRI *",
    ] {
        rejected(format!("{start} HTTP/1.1\r\n"), MalformedHead::Target);
    }
    for (start, error) in [
        ("GET http://a@b.test/", AuthorityError::UserInfo),
        ("GET http://a.test\\@b.test/", AuthorityError::UserInfo),
        ("GET http://[::1/", AuthorityError::Brackets),
        ("GET http://a.test:b/", AuthorityError::Port),
        ("GET http:///", AuthorityError::Name(HostNameError::Empty)),
        ("GET http://", AuthorityError::Name(HostNameError::Empty)),
        ("CONNECT a.test", AuthorityError::Port),
        ("CONNECT a.test:", AuthorityError::Port),
        ("CONNECT :443", AuthorityError::Name(HostNameError::Empty)),
        ("CONNECT *", AuthorityError::Port),
        (
            "CONNECT /",
            AuthorityError::Name(HostNameError::BadCharacter),
        ),
        ("CONNECT http://a.test:443", AuthorityError::Port),
        ("CONNECT a@b.test:443", AuthorityError::UserInfo),
    ] {
        let line = format!("{start} HTTP/1.1\r\n");
        rejected(line, MalformedHead::TargetAuthority(error));
    }
}
