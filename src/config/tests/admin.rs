//! `admin` in files with errors elsewhere.

use crate::config::model::AdminBind;
use crate::config::read_admin;

#[track_caller]
fn bind(text: &str, expected: &str) {
    let admin = read_admin(text.as_bytes(), "f.yaml").unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(admin.bind.to_string(), expected, "{text}");
}

#[test]
fn errors_elsewhere_are_ignored() {
    for wrong in [
        "pools: 1\n",
        "frobnicate: yes\nlisteners: []\n",
        "listeners: { a: { bind: [\"nowhere\"], protocol: ftp } }\n",
        "pools: { a: 1 }\npools: { a: 2 }\n",
        "pools:\n\tweb: {}\n",
        "pools: [\n",
        "listeners: { a: { bind: [[::]:443] } }\n",
        "names: *.contoso.com\n",
        "a: b: c\n",
        "a: \"open\n",
        "lync:\n  sip_domains: [contoso.com\n  front_ends: [fe01]\n",
    ] {
        let section = "admin:\n  # where\n  bind: 127.0.0.2:9901\n\n  metrics_bind: null\n";
        bind(&format!("{wrong}{section}"), "127.0.0.2:9901");
        bind(&format!("{section}{wrong}"), "127.0.0.2:9901");
        let line = "admin: { bind: \"unix:/run/l.sock\" }\n";
        bind(&format!("# admin\n{wrong}{line}"), "unix:/run/l.sock");
        bind(&format!("{line}{wrong}"), "unix:/run/l.sock");
        bind(wrong, "127.0.0.1:9900");
    }
    bind("", "127.0.0.1:9900");
    let not_utf8 = [&b"pools: \xff\n"[..], b"admin: { bind: 127.0.0.2:9901 }\n"].concat();
    assert!(matches!(
        read_admin(&not_utf8, "f").unwrap().bind,
        AdminBind::Tcp(address) if address.port() == 9901
    ));
}

#[test]
fn the_root_may_be_indented_or_in_braces() {
    for wrong in [
        "pools: [",
        "pools:\n    - a: b: c",
        "names: *.contoso.com",
        "a: \"open",
    ] {
        let wrong = wrong.replace('\n', "\n  ");
        let section = "  admin:\n    bind: 127.0.0.2:9901\n";
        bind(&format!("{section}  {wrong}\n"), "127.0.0.2:9901");
        bind(&format!("# admin\n  {wrong}\n{section}"), "127.0.0.2:9901");
        bind(&format!("---\n  {wrong}\n"), "127.0.0.1:9900");
    }
    let json = r#"{"admin": {"bind": "127.0.0.2:9901", "hosts": ["a", "b"]}, "pools": {"web": [}"#;
    bind(json, "127.0.0.2:9901");
    for wrong in [
        "pools: {web: a: b}",
        "names: [*.contoso.com]",
        "x: [[::]:443]",
    ] {
        let section = "admin: { bind: \"127.0.0.2:9901\" } # }\n";
        bind(&format!("{{ {wrong}, {section} }}\n"), "127.0.0.2:9901");
        bind(
            &format!("# admin\n{{\n  {section}, {wrong}\n}}\n"),
            "127.0.0.2:9901",
        );
        let elsewhere = "log: { format: \"admin: {\" }";
        bind(
            &format!("{{ {elsewhere}, {wrong}, 'admin': {{bind: \"127.0.0.2:9901\"}}"),
            "127.0.0.2:9901",
        );
        bind(&format!("{{ {wrong} }}"), "127.0.0.1:9900");
    }
    let text = "{ x: *.a,\n  admin: { bind: nowhere } }\n";
    let errors = read_admin(text.as_bytes(), "f.yaml")
        .unwrap_err()
        .to_string();
    assert!(errors.starts_with("f.yaml:2:18: "), "{errors}");
}

#[test]
fn errors_in_the_section_have_their_locations() {
    for (text, at) in [
        ("pools: 1\nadmin: { bind: nowhere }\n", "f.yaml:2:16"),
        ("pools: [\nadmin:\n  bnd: 127.0.0.1:1\n", "f.yaml:3:3"),
        ("admin: { bind: 0.0.0.0:9900 }\n", "f.yaml:1:16"),
        ("admin: {}\nadmin: {}\n", "f.yaml:2:1"),
        ("admin: 1\n", "f.yaml:1:8"),
        ("{ pools: [, admin: { bind: 127.0.0.2:1 } }\n", "f.yaml:"),
        ("pools: [\nadmin: { bind: [\n", "f.yaml:"),
    ] {
        let errors = read_admin(text.as_bytes(), "f.yaml").unwrap_err();
        assert!(errors.to_string().starts_with(at), "{text}: {errors}");
    }
    let utf16: Vec<u8> = "admin: {}"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    assert!(read_admin(&[&[0xff, 0xfe][..], &utf16].concat(), "f").is_err());
}
