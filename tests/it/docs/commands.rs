//! The commands of the pages are run; those that cannot be run are only parsed.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::blocks::{Block, Kind, of, pages, root, spans};
use super::stage::{Running, Stage};
use crate::support::eventually;

#[test]
fn every_command_block_succeeds_beside_a_running_balancer() {
    let stage = Stage::start();
    // Traffic, so that the log has lines.
    let traffic = "curl -sS https://lyncdiscover.contoso.com/ --connect-to ::192.0.2.10: -o /dev/null\n\
                   ! curl -sS https://unknown.contoso.com/ --connect-to ::192.0.2.10: -o /dev/null\n";
    let output = stage.bash(&stage.localise(traffic));
    assert!(output.status.success(), "{output:?}");
    for block in of(&[Kind::Run]) {
        stage.prepare();
        let output = stage.bash(&stage.localise(&block.text));
        assert!(
            output.status.success(),
            "{}\n{}\n{}\n{}",
            block.location,
            block.text,
            output.out,
            output.err
        );
        println!("{}: ran\n{}{}", block.location, output.out, output.err);
    }
    for block in of(&[Kind::Answer]) {
        stage.prepare();
        equals_the_response(&stage, &block);
    }
}

/// Compares a block with the response, ignoring numbers, also those within strings.
fn equals_the_response(stage: &Stage, block: &Block) {
    let request = format!("curl -sS 'http://127.0.0.1:9900{}'", block.value);
    let output = stage.bash(&stage.localise(&request));
    let shape = |text: &str| -> Value {
        let digits = |c: char| c.is_ascii_digit();
        let parts = text.split(digits).filter(|part| !part.is_empty());
        let text = parts.collect::<Vec<_>>().join("0");
        serde_json::from_str(&text)
            .unwrap_or_else(|why| panic!("{}: {why}\n{text}", block.location))
    };
    assert_eq!(shape(&block.text), shape(&output.out), "{}", block.location);
}

/// `demo.rs` tests blocks that start the demo.
pub(super) fn is_demo(block: &Block) -> bool {
    block.text.contains(" demo")
}

#[test]
fn a_serving_command_serves_until_it_is_stopped() {
    let mut blocks = of(&[Kind::Serves]);
    blocks.retain(|block| !is_demo(block));
    assert!(!blocks.is_empty());
    for block in blocks {
        let stage = Stage::set();
        let command = stage.localise(block.text.trim());
        let script = format!("{}exec {command} 2>>\"$HOME/log\"", stage.prelude());
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", &script]);
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        let mut running = Running(child);
        stage.wait_until_ready("");
        stop(&mut running);
    }
}

/// Stops the command; it must end with status 0.
pub(super) fn stop(running: &mut Running) {
    let pid = Pid::from_child(&running.0);
    kill_process(pid, Signal::TERM).unwrap();
    let ended = eventually("the command ends", || running.0.try_wait().unwrap());
    assert!(ended.success(), "{ended}");
}

#[test]
fn a_block_that_is_not_run_has_a_reason_and_valid_commands() {
    for block in of(&[Kind::NotRun]) {
        let location = &block.location;
        assert!(
            block.value.contains(' '),
            "{location}: the reason is missing"
        );
        for command in commands_of(&block.text) {
            let program = command[0].rsplit('/').next().unwrap();
            if program == "lyncpin" {
                let parsed = lyncpin::cli::parse(&command[1..]);
                parsed.unwrap_or_else(|why| panic!("{location}: {command:?}\n{why}"));
            }
            for word in command.iter().filter(|word| is_of_the_repository(word)) {
                assert!(root().join(word).exists(), "{location}: there is no {word}");
            }
            if is_of_the_repository(&command[0]) {
                options_are_known(&block, &command);
            }
        }
    }
}

fn is_of_the_repository(word: &str) -> bool {
    let folders = ["deploy/", "tests/", "benches/", "docs/"];
    folders.iter().any(|folder| word.starts_with(folder))
}

/// A script must contain the names of its options.
fn options_are_known(block: &Block, command: &[String]) {
    let script = std::fs::read_to_string(root().join(&command[0])).unwrap();
    for option in command.iter().filter(|word| word.starts_with("--")) {
        let known = script.contains(&format!("\"{option}\""));
        assert!(known, "{}: {} has no {option}", block.location, command[0]);
    }
}

/// The simple commands of a script, split into arguments, without comments, `sudo` and quotes.
fn commands_of(script: &str) -> Vec<Vec<String>> {
    let mut commands = Vec::new();
    for line in script.lines() {
        let line = line.split(" #").next().unwrap();
        for command in line.split(" && ").flat_map(|part| part.split(" | ")) {
            let words = command
                .split_whitespace()
                .map(|word| word.replace('\'', ""));
            let words: Vec<String> = words.skip_while(|word| word == "sudo").collect();
            if !words.is_empty() {
                commands.push(words);
            }
        }
    }
    commands
}

/// Commands in sentences and tables may have placeholders such as NAME, but only existing options.
#[test]
fn every_command_in_the_text_exists_with_its_options() {
    let known: BTreeMap<_, _> = lyncpin::cli::commands().into_iter().collect();
    let mut seen = 0;
    for (page, text) in pages() {
        for span in spans(&page, &text) {
            let Some(command) = span.strip_prefix("lyncpin ") else {
                continue;
            };
            if !command.starts_with(|first: char| first.is_ascii_lowercase()) {
                continue;
            }
            seen += 1;
            let named = known.keys().filter(|name| {
                let rest = command.strip_prefix(name.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
            });
            let options = named.max_by_key(|name| name.len()).map(|name| &known[name]);
            let group = format!("{command} ");
            let Some(options) = options else {
                let is_group = known.keys().any(|name| name.starts_with(&group));
                assert!(is_group, "{page}: there is no `{span}`");
                continue;
            };
            for option in command
                .split([' ', '[', ']', ';'])
                .filter(|word| word.starts_with("--"))
            {
                assert!(
                    options.iter().any(|known| known == option),
                    "{page}: `{span}` has no {option}"
                );
            }
        }
    }
    assert!(seen > 40, "{seen} commands");
}

#[test]
fn quoted_output_is_in_a_test_of_the_code() {
    for block in of(&[Kind::Said]) {
        let code = std::fs::read_to_string(root().join(&block.value)).unwrap();
        for line in block.text.lines() {
            let is_quoted = code.contains(&format!("\"{line}\""));
            assert!(
                is_quoted,
                "{}: {} does not say {line:?}",
                block.location, block.value
            );
        }
    }
}
