//! `lyncpin demo` as on the pages, with the commands on the pages and the commands that it suggests.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use super::blocks::{Kind, of, pages};
use super::commands::{is_demo, stop};
use super::stage::{Running, Stage};
use crate::support::{PATIENCE, demo_ports};

/// The demo's options for ports, and their defaults.
const OPTIONS: [(&str, u16); 5] = [
    ("--https", 8443),
    ("--http", 8080),
    ("--https-direct", 14443),
    ("--http-direct", 18080),
    ("--admin", 9900),
];

struct Demo {
    running: Running,
    ports: [u16; 5],
    /// The commands that the demo suggests.
    suggested: Vec<String>,
    /// The output after these commands.
    replies: Receiver<String>,
}

impl Demo {
    fn start(stage: &Stage, command: &str) -> Self {
        let ports = demo_ports();
        let options = OPTIONS.iter().zip(ports);
        let options: String = options
            .map(|((option, _), port)| format!(" {option} {port}"))
            .collect();
        let command = stage.localise(command.trim());
        let script = format!("{}exec {command}{options}", stage.prelude());
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", &script]);
        bash.stdin(Stdio::piped()).stdout(Stdio::piped());
        bash.stderr(Stdio::null());
        let mut running = Running(bash.spawn().unwrap());
        let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
        let mut suggested = Vec::new();
        let mut tried = false;
        for line in &mut lines {
            let line = line.unwrap();
            tried |= line.starts_with("Try, ");
            if line.starts_with("Commands for this terminal") {
                break;
            }
            if let Some(command) = line.strip_prefix("  ").filter(|_| tried) {
                suggested.push(command.to_owned());
            }
        }
        let (sender, replies) = channel();
        std::thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .filter(|line| !line.is_empty())
                .try_for_each(|line| sender.send(line))
        });
        stage.wait_until_ready(&format!("--admin 127.0.0.1:{}", ports[4]));
        Self {
            running,
            ports,
            suggested,
            replies,
        }
    }

    fn localise(&self, text: &str) -> String {
        let ports = OPTIONS.iter().zip(self.ports);
        ports.fold(text.to_owned(), |text, ((_, from), to)| {
            text.replace(&format!("127.0.0.1:{from}"), &format!("127.0.0.1:{to}"))
        })
    }

    /// Runs a block; a command marked as rejected must fail.
    fn run_block(&self, stage: &Stage, script: &str) {
        for line in script.lines() {
            let output = stage.bash(&self.localise(line));
            let wanted = !line.contains("# rejected");
            assert_eq!(output.status.success(), wanted, "{line}\n{output:?}");
        }
    }
}

#[test]
fn the_commands_on_the_pages_and_those_it_suggests_work_beside_the_demo() {
    let stage = Stage::set();
    let demo_blocks = of(&[Kind::Demo]);
    let mut blocks = of(&[Kind::Serves]);
    blocks.retain(is_demo);
    for block in &blocks {
        let mut demo = Demo::start(&stage, &block.text);
        for other in demo_blocks
            .iter()
            .filter(|other| other.page() == block.page())
        {
            demo.run_block(&stage, &other.text);
        }
        assert_eq!(demo.suggested.len(), 7, "{:?}", demo.suggested);
        for command in &demo.suggested {
            demo.run_block(&stage, command);
        }
        stop(&mut demo.running);
    }
    for other in &demo_blocks {
        let started = blocks.iter().any(|block| block.page() == other.page());
        assert!(started, "{}: nothing starts the demo", other.location);
    }
}

#[test]
fn the_demo_accepts_the_typed_commands_of_the_quick_start() {
    let stage = Stage::set();
    let (_, text) = pages()
        .into_iter()
        .find(|(name, _)| name == "docs/quick-start.md")
        .unwrap();
    let typed: Vec<&str> = text
        .split('`')
        .filter(|span| span.ends_with(" fe01") && !span.starts_with("lyncpin"))
        .collect();
    assert_eq!(typed.len(), 4, "{typed:?}");
    let mut demo = Demo::start(&stage, "lyncpin demo");
    let mut stdin = demo.running.0.stdin.take().unwrap();
    for line in typed.iter().chain(&["what is this"]) {
        writeln!(stdin, "{line}").unwrap();
    }
    // Each command gets a reply, also an unknown one.
    for line in &typed {
        let answer = demo.replies.recv_timeout(PATIENCE).unwrap();
        assert!(
            answer.starts_with("fe01 is ") || answer.starts_with("fe01 has "),
            "{line}: {answer}"
        );
    }
    let answer = demo.replies.recv_timeout(PATIENCE).unwrap();
    assert!(answer.starts_with("usage: "), "{answer}");
    stop(&mut demo.running);
    let more: Vec<String> = demo.replies.iter().collect();
    assert!(more.is_empty(), "{more:?}");
}
