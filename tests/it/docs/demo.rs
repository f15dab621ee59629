//! `lyncpin demo` as the pages call it, what they do beside it, and what it says itself that one may do.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use super::blocks::{Kind, of, pages};
use super::commands::{is_demo, stop};
use super::stage::{Running, Stage};
use crate::support::PATIENCE;

/// Ports below those that the kernel gives out, for the five that the demo takes in the order of `OPTIONS`.
fn free_ports() -> [u16; 5] {
    let mut next = 20_000 + u16::try_from(std::process::id() % 5_000).unwrap();
    [(); 5].map(|()| {
        loop {
            next += 1;
            if TcpListener::bind(("127.0.0.1", next)).is_ok() {
                return next;
            }
        }
    })
}

/// The demo's options, and the ports that the pages and the demo take without them.
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
    /// The commands that it says one may try.
    says: Vec<String>,
    /// What it says afterwards.
    answers: Receiver<String>,
}

impl Demo {
    fn start(stage: &Stage, command: &str) -> Self {
        let ports = free_ports();
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
        let mut says = Vec::new();
        let mut tried = false;
        for line in &mut lines {
            let line = line.unwrap();
            tried |= line.starts_with("Try, ");
            if line.starts_with("Commands for this terminal") {
                break;
            }
            if let Some(command) = line.strip_prefix("  ").filter(|_| tried) {
                says.push(command.to_owned());
            }
        }
        let (say, answers) = channel();
        std::thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .filter(|line| !line.is_empty())
                .try_for_each(|line| say.send(line))
        });
        stage.wait_until_ready(&format!("--admin 127.0.0.1:{}", ports[4]));
        Self {
            running,
            ports,
            says,
            answers,
        }
    }

    fn localise(&self, text: &str) -> String {
        let words = OPTIONS.iter().zip(self.ports);
        words.fold(text.to_owned(), |text, ((_, from), to)| {
            text.replace(&format!("127.0.0.1:{from}"), &format!("127.0.0.1:{to}"))
        })
    }

    /// What a block does, and a refusal where its comment says so.
    fn does(&self, stage: &Stage, script: &str) {
        for line in script.lines() {
            let said = stage.bash(&self.localise(line));
            let wanted = !line.contains("# rejected");
            assert_eq!(said.status.success(), wanted, "{line}\n{said:?}");
        }
    }
}

#[test]
fn the_demo_serves_what_the_pages_and_itself_say_of_it() {
    let stage = Stage::set();
    let beside = of(&[Kind::Demo]);
    let mut blocks = of(&[Kind::Serves]);
    blocks.retain(is_demo);
    for block in &blocks {
        let mut demo = Demo::start(&stage, &block.text);
        for other in beside.iter().filter(|other| other.page() == block.page()) {
            demo.does(&stage, &other.text);
        }
        assert_eq!(demo.says.len(), 7, "{:?}", demo.says);
        for command in &demo.says {
            demo.does(&stage, command);
        }
        stop(&mut demo.running);
    }
    for other in &beside {
        let started = blocks.iter().any(|block| block.page() == other.page());
        assert!(started, "{}: nothing starts the demo", other.place);
    }
}

#[test]
fn the_demo_obeys_what_the_quick_start_says_that_one_may_type() {
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
    // Each line has an answer, and so has what it does not understand.
    for line in &typed {
        let answer = demo.answers.recv_timeout(PATIENCE).unwrap();
        assert!(
            answer.starts_with("fe01 is ") || answer.starts_with("fe01 has "),
            "{line}: {answer}"
        );
    }
    let answer = demo.answers.recv_timeout(PATIENCE).unwrap();
    assert!(answer.starts_with("usage: "), "{answer}");
    stop(&mut demo.running);
    let more: Vec<String> = demo.answers.iter().collect();
    assert!(more.is_empty(), "{more:?}");
}
