//! `demo` points to the page and gives it something to show.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use crate::support::chromium::Chromium;

/// Ends with the test.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs it on ports that are free now, until it has said where the page is.
fn start(arguments: &[&str]) -> (Demo, String) {
    let held = [(); 5].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let ports = held.map(|port| port.local_addr().unwrap().port().to_string());
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
        .stderr(Stdio::null());
    let mut demo = Demo(command.spawn().unwrap());
    let out = BufReader::new(demo.0.stdout.take().unwrap());
    let url = format!("http://127.0.0.1:{}/", ports[4]);
    let mut lines = out.lines().map_while(Result::ok);
    assert!(
        lines.any(|line| line.trim() == url),
        "it does not name {url}"
    );
    // What it says further on has to go somewhere.
    std::thread::spawn(move || lines.for_each(drop));
    (demo, url)
}

#[test]
fn the_demo_names_the_page_which_has_clients_refusals_and_a_server_that_fails() {
    let (_demo, url) = start(&[]);
    let mut browser = Chromium::start(1280, 900);
    browser.open(&url);
    browser.until("Number(document.querySelector('#tiles strong')?.textContent) >= 3");
    browser.until("document.querySelector('#refusals tbody tr')");
    browser.until("/KiB|MiB/.test(document.querySelector('#tiles li:nth-child(2)').textContent)");
    // Half a minute after the start a server fails, and the third failed check takes it down.
    browser.value("new Promise((done) => setTimeout(done, 20000))");
    browser.until("document.querySelector('#health tbody').textContent.includes('Down')");
}

#[test]
fn a_quiet_demo_leaves_it_to_the_person() {
    let (_demo, url) = start(&["--quiet"]);
    let mut browser = Chromium::start(1280, 900);
    browser.open(&url);
    browser.until("document.querySelector('#tiles strong')?.textContent === '0'");
    browser.value("new Promise((done) => setTimeout(done, 3000))");
    assert_eq!(browser.text("#tiles strong"), "0");
    assert_eq!(browser.text("#tiles li:nth-child(5) strong"), "0");
}
