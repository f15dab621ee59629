//! A new process takes over from the running one, and no client notices.

mod commands;
mod died;
mod failures;
mod first;
mod handoff;
mod kept;
mod load;

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process};

use crate::support::balancer::{Balancer, Said};
use crate::support::raw::{
    Answer, SERVED, connect, echo, echoed, exchange, hear, served, served_hello,
};
use crate::support::{PATIENCE, eventually};

const TLS: u16 = 443;

fn yaml() -> String {
    let backend = echo();
    format!(
        r#"
listeners:
  tls: {{ bind: ["HOST:{TLS}"], protocol: tls, routes: [{{ names: [{SERVED}], pool: web }}] }}
pools: {{ web: {{ backends: [{{ name: fe01, address: "{backend}" }}] }} }}
timeouts: {{ client_hello: 60s }}
workers: 2
"#
    )
}

/// A balancer that was started from its own program file, and all its successors.
struct Service {
    balancer: Balancer,
    group: Pid,
    program: tempfile::TempDir,
    file: PathBuf,
}

impl Service {
    fn start(yaml: &str) -> Self {
        Self::start_with(yaml, |_| {})
    }

    /// As `start`, but `prepare` can change the configuration's file.
    fn start_with(yaml: &str, prepare: impl FnOnce(&Path)) -> Self {
        let program = tempfile::tempdir().unwrap();
        let path = program.path().join("lyncpin");
        install(&path);
        let mut file = PathBuf::new();
        let balancer = Balancer::start_with(yaml, |command| {
            let mut own = Command::new(&path);
            own.args(command.get_args())
                .process_group(0)
                .stdin(Stdio::null())
                .stderr(Stdio::piped())
                .stdout(Stdio::null());
            file = PathBuf::from(command.get_args().last().unwrap());
            prepare(&file);
            *command = own;
        });
        let group = Pid::from_raw(i32::try_from(balancer.pid()).unwrap()).unwrap();
        Self {
            balancer: balancer.ready(),
            group,
            program,
            file,
        }
    }

    /// The path of the program file.
    fn path(&self) -> PathBuf {
        self.program.path().join("lyncpin")
    }

    /// Replaces the program file by this script.
    fn put_script(&self, script: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let new = self.program.path().join("new");
        std::fs::write(&new, script).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(&new, self.path()).unwrap();
    }

    /// Restores the program file.
    fn put_program(&self) {
        let new = self.program.path().join("new");
        install(&new);
        std::fs::rename(&new, self.path()).unwrap();
    }

    fn change_file(&self, change: impl FnOnce(String) -> String) {
        let text = std::fs::read_to_string(&self.file).unwrap();
        std::fs::write(&self.file, change(text)).unwrap();
    }

    /// Upgrades; returns the id of the new process.
    fn upgrade(&self) -> Pid {
        let answer = self.balancer.ask("POST", "/api/v1/upgrade", "").unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        Pid::from_raw(i32::try_from(body["pid"].as_i64().unwrap()).unwrap()).unwrap()
    }

    fn fails_to_upgrade(&self) -> Said {
        let output = self.balancer.said(&["upgrade"]);
        assert_eq!(output.status, 1, "{output:?}");
        output
    }

    fn expect_log(&self, message: &str, count: usize) {
        eventually(message, || {
            let log = self.balancer.log();
            let found = log.iter().filter(|line| line["message"] == message);
            (found.count() == count).then_some(())
        });
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = kill_process_group(self.group, Signal::KILL);
    }
}

fn install(at: &Path) {
    let program = env!("CARGO_BIN_EXE_lyncpin");
    if std::fs::hard_link(program, at).is_err() {
        std::fs::copy(program, at).unwrap();
    }
}

fn is_running(pid: Pid) -> bool {
    test_kill_process(pid).is_ok()
}

const TAKEN_OVER: &str = "this process has taken over";

#[test]
fn a_signal_starts_a_new_process_and_the_old_one_keeps_its_connections() {
    let mut service = Service::start(&yaml());
    let to = service.balancer.at(TLS);
    let open = served(to);
    let mut silent = connect(to);
    silent.write_all(&served_hello()[..30]).unwrap();
    service.balancer.signal(Signal::USR2);
    service.expect_log(TAKEN_OVER, 1);
    for _ in 0..20 {
        exchange(to).unwrap();
    }
    echoed(&open, b"still served").unwrap();
    silent.write_all(&served_hello()[30..]).unwrap();
    silent.shutdown(Shutdown::Write).unwrap();
    assert_eq!(hear(&silent).bytes, served_hello());
    assert_eq!(
        service
            .balancer
            .metric("lyncpin_upgrades_total", &["result=\"done\""]),
        1.0
    );
    open.shutdown(Shutdown::Write).unwrap();
    hear(&open).must_be(Answer::Nothing, "the old connection");
    assert_eq!(service.balancer.wait().code(), Some(0));
    exchange(to).unwrap();
    service.expect_log("the old process has exited", 1);
}

#[test]
fn the_command_prints_the_id_of_the_new_process() {
    let service = Service::start(&yaml());
    let open = served(service.balancer.at(TLS));
    let output = service.balancer.said(&["upgrade"]);
    assert_eq!((output.status, output.err.as_str()), (0, ""), "{output:?}");
    assert!(
        output
            .out
            .ends_with("has taken over; the old one has 1 connection, for at most 15m0s\n"),
        "{output:?}"
    );
    echoed(&open, b"still served").unwrap();
    exchange(service.balancer.at(TLS)).unwrap();
}

#[test]
fn connections_of_the_old_process_are_reset_at_the_end_of_the_drain() {
    let mut service = Service::start(&yaml().replace("client_hello: 60s", "drain: 2s"));
    let open = served(service.balancer.at(TLS));
    service.upgrade();
    echoed(&open, b"still served").unwrap();
    hear(&open).must_be(Answer::Reset, "the old connection");
    assert_eq!(service.balancer.wait().code(), Some(0));
    exchange(service.balancer.at(TLS)).unwrap();
}

#[test]
fn the_new_configuration_can_have_more_or_fewer_workers_and_other_addresses() {
    let service = Service::start(&yaml());
    let all_served = |port| {
        let streams: Vec<TcpStream> = (0..30).map(|_| served(service.balancer.at(port))).collect();
        for stream in &streams {
            echoed(stream, b"served").unwrap();
        }
    };
    service.change_file(|text| text.replace("workers: 2", "workers: 5"));
    service.upgrade();
    all_served(TLS);
    service.change_file(|text| text.replace("workers: 5", "workers: 1"));
    service.upgrade();
    all_served(TLS);
    let host = service.balancer.address.to_string();
    let (one, two) = (format!("\"{host}:{TLS}\""), format!("\"{host}:444\""));
    service.change_file(|text| text.replace(&one, &format!("{one}, {two}")));
    service.upgrade();
    all_served(TLS);
    all_served(444);
    service.change_file(|text| text.replace(&format!("{one}, {two}"), &two));
    service.upgrade();
    all_served(444);
    eventually("the removed address refuses", || {
        TcpStream::connect(service.balancer.at(TLS)).err()
    });
}

#[test]
fn an_admin_listener_on_a_unix_socket_and_its_file_remain() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("probes.sock");
    let mut service = Service::start_with(&yaml(), |file| {
        let text = std::fs::read_to_string(file).unwrap();
        let more = format!("admin: {{ metrics_bind: \"unix:{}\",", path.display());
        std::fs::write(file, text.replace("admin: {", &more)).unwrap();
    });
    let healthy = || {
        let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    };
    healthy();
    let first = service.upgrade();
    healthy();
    assert_eq!(service.balancer.wait().code(), Some(0));
    healthy();
    let second = service.upgrade();
    healthy();
    eventually("the first successor ends", || {
        (!is_running(first)).then_some(())
    });
    healthy();
    rustix::process::kill_process(second, Signal::TERM).unwrap();
    eventually("the last process removes the file", || {
        (!path.exists()).then_some(())
    });
}
