//! `demo` prints the address of the page and generates events for it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use crate::support::chromium::Chromium;
use crate::support::{demo_ports, eventually};

/// Killed when dropped.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the demo on free ports and waits for the address of the page.
fn start(arguments: &[&str]) -> (Demo, String) {
    let (demo, url, _) = start_with_log(arguments);
    (demo, url)
}

/// As `start`, with the path of the log.
fn start_with_log(arguments: &[&str]) -> (Demo, String, Option<String>) {
    let ports = demo_ports().map(|port| port.to_string());
    let mut command = Command::new(env!("CARGO_BIN_EXE_lyncpin"));
    command.arg("demo").args(arguments);
    let options = [
        "--https",
        "--http",
        "--https-direct",
        "--http-direct",
        "--admin",
    ];
    for (option, port) in options.iter().zip(&ports) {
        command.args([option, port.as_str()]);
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut demo = Demo(command.spawn().unwrap());
    let out = BufReader::new(demo.0.stdout.take().unwrap());
    let url = format!("http://127.0.0.1:{}/", ports[4]);
    let mut lines = out.lines().map_while(Result::ok);
    assert!(
        lines.any(|line| line.trim() == url),
        "it does not print {url}"
    );
    let mut log = None;
    for line in lines
        .by_ref()
        .take_while(|line| !line.starts_with("Commands for this terminal"))
    {
        let named = line
            .strip_prefix("The log is in ")
            .map(|rest| rest.split(' ').next().unwrap().to_owned());
        log = log.or(named);
    }
    // The rest of its output has to be read.
    std::thread::spawn(move || lines.for_each(drop));
    (demo, url, log)
}

#[test]
fn the_page_of_the_demo_shows_clients_rejections_and_a_failing_server() {
    let (_demo, url) = start(&[]);
    let mut browser = Chromium::start(1280, 900);
    browser.open(&url);
    browser.until("Number(document.querySelector('#tiles strong')?.textContent) >= 3");
    browser.until("document.querySelector('#rejections tbody tr')");
    browser.until("/KiB|MiB/.test(document.querySelector('#tiles li:nth-child(2)').textContent)");
    // A server fails 30 s after the start; it is down after the third failed check.
    browser.value("new Promise((done) => setTimeout(done, 20000))");
    browser.until("document.querySelector('#health tbody').textContent.includes('Down')");
}

#[test]
fn the_log_of_the_demo_is_not_on_the_terminal() {
    let (mut demo, _, log) = start_with_log(&[]);
    let log = log.expect("the demo prints the path of its log");
    eventually("a client has connected and disconnected", || {
        let text = std::fs::read_to_string(&log).unwrap();
        text.contains("target=access").then_some(())
    });
    let pid = rustix::process::Pid::from_child(&demo.0);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let mut printed = String::new();
    demo.0
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut printed)
        .unwrap();
    assert_eq!(printed, "");
    assert!(demo.0.wait().unwrap().success());
    assert!(!std::path::Path::new(&log).exists());

    let (mut demo, _, log) = start_with_log(&["--log", "--quiet"]);
    assert_eq!(log, None);
    let mut line = String::new();
    BufReader::new(demo.0.stderr.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.contains("level=info"), "{line}");
}

#[test]
fn a_quiet_demo_has_no_clients() {
    let (_demo, url) = start(&["--quiet"]);
    let mut browser = Chromium::start(1280, 900);
    browser.open(&url);
    browser.until("document.querySelector('#tiles strong')?.textContent === '0'");
    browser.value("new Promise((done) => setTimeout(done, 3000))");
    assert_eq!(browser.text("#tiles strong"), "0");
    assert_eq!(browser.text("#tiles li:nth-child(5) strong"), "0");
}
