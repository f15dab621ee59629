//! The operations page matches the files under deploy/, and its quotes match the log.

use std::path::Path;

use super::blocks::root;
use super::{column, page, table};

#[test]
fn every_kernel_setting_has_its_symptoms() {
    let file = root().join("deploy/sysctl.d/90-lyncpin.conf");
    let file = std::fs::read_to_string(file).unwrap();
    let settings = file.lines().filter(|line| !line.starts_with('#'));
    let keys = settings.filter_map(|line| line.trim_start_matches('-').split_once(" = "));
    let keys: Vec<&str> = keys.map(|(key, _)| key).collect();
    let rows = table(&page("operations.md"), "## Kernel settings");
    assert_eq!(column(&rows, 0), keys);
    assert!(rows.iter().all(|row| !row[1].is_empty()));
}

fn code_under(folder: &Path) -> String {
    let mut code = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        code += &if path.is_dir() {
            code_under(&path)
        } else {
            std::fs::read_to_string(&path).unwrap()
        };
    }
    code
}

#[test]
fn quoted_log_lines_exist_in_the_code() {
    let code = code_under(&root().join("src"));
    let page = page("operations.md").replace('\n', " ");
    let quoted = page.split("log says `").skip(1);
    let quoted: Vec<&str> = quoted.filter_map(|rest| rest.split('`').next()).collect();
    assert!(quoted.len() >= 3, "{quoted:?}");
    for quote in quoted {
        assert!(code.contains(quote), "no code has {quote:?}");
    }
}

#[test]
fn the_libraries_of_the_binary_are_documented() {
    let binary = env!("CARGO_BIN_EXE_lyncpin");
    let listed = std::process::Command::new("ldd")
        .arg(binary)
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let needed = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    // Without the vDSO, which the kernel maps, and the dynamic loader itself.
    let needed = needed.filter(|name| !name.starts_with("linux-vdso") && !name.starts_with('/'));
    let page = page("quick-start.md");
    let section = page.split("The binary needs ").nth(1).unwrap();
    let section = section.split("\n\n").next().unwrap();
    let mut names: Vec<&str> = needed.collect();
    names.sort_unstable();
    assert!(!names.is_empty());
    for name in names {
        assert!(section.contains(&format!("`{name}`")), "{name}");
    }
}
