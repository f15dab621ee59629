//! The balancer as a separate process, as operators run it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{PATIENCE, at, eventually, own_address};

/// A running `lyncpin run`; killed when dropped.
pub(crate) struct Balancer {
    child: Child,
    log: Arc<Mutex<Vec<serde_json::Value>>>,
    admin: SocketAddr,
    /// Its own loopback address, `HOST` in the configuration.
    pub(crate) address: IpAddr,
    directory: tempfile::TempDir,
}

/// A response of the admin listener.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Exit status and output of a command.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Balancer {
    /// Starts the balancer with this configuration. `HOST` is replaced by a unique address; the admin listener and the
    /// JSON log are added.
    pub(crate) fn start(yaml: &str) -> Self {
        Self::start_with(yaml, |_| {})
    }

    /// Like [`Balancer::start`]; `prepare` may change the command.
    pub(crate) fn start_with(yaml: &str, prepare: impl FnOnce(&mut Command)) -> Self {
        let address = own_address();
        let admin = at(address, 9900);
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(directory.path().join("token"), "test-token\n").expect("the token file");
        let file = directory.path().join("balancer.yaml");
        let text = configuration(yaml, address, directory.path());
        std::fs::write(&file, &text).expect("the configuration file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_lyncpin"));
        command
            .args(["run", "-c"])
            .arg(&file)
            .stderr(Stdio::piped())
            .stdout(Stdio::null());
        prepare(&mut command);
        let mut child = command.spawn().expect("the balancer starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stderr.take().expect("piped"));
        let kept = log.clone();
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let parsed = serde_json::from_str(&line).unwrap_or(serde_json::Value::String(line));
                kept.lock().expect("no panic under the lock").push(parsed);
            }
        });
        let mut balancer = Self {
            child,
            log,
            admin,
            address,
            directory,
        };
        eventually("the admin listener responds", || {
            if let Some(status) = balancer
                .child
                .try_wait()
                .expect("the child can be waited for")
            {
                panic!(
                    "the balancer ended with {status}: {:#?}\n{text}",
                    balancer.log()
                );
            }
            balancer
                .try_get("/healthz")
                .filter(|response| response.status == 200)
        });
        balancer
    }

    /// The directory of the configuration and the token.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The configuration file.
    pub(crate) fn file(&self) -> PathBuf {
        self.directory().join("balancer.yaml")
    }

    /// Replaces the configuration file, with the additions of [`Balancer::start`].
    pub(crate) fn write(&self, yaml: &str) {
        self.write_raw(&configuration(yaml, self.address, self.directory()));
    }

    /// Replaces the configuration file by exactly this text.
    pub(crate) fn write_raw(&self, text: &str) {
        let new = self.directory().join("new.yaml");
        std::fs::write(&new, text).expect("the configuration file");
        std::fs::rename(new, self.file()).expect("the configuration file");
    }

    /// Replaces the configuration file and requests a reload.
    pub(crate) fn reload(&self, yaml: &str) -> Answer {
        self.write(yaml);
        self.ask("POST", "/api/v1/reload", "")
            .expect("the admin listener responds")
    }

    /// Replaces the configuration file and asserts that the reload succeeds.
    #[track_caller]
    pub(crate) fn reloaded(&self, yaml: &str) {
        let response = self.reload(yaml);
        assert_eq!(response.status, 200, "{}", response.body);
    }

    /// Waits until `/readyz` returns 200.
    pub(crate) fn ready(self) -> Self {
        eventually("the balancer is ready", || {
            self.try_get("/readyz")
                .filter(|response| response.status == 200)
        });
        self
    }

    /// The address of a listener.
    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        at(self.address, port)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All log lines so far; lines that are not JSON as strings.
    pub(crate) fn log(&self) -> Vec<serde_json::Value> {
        self.log.lock().expect("no panic under the lock").clone()
    }

    /// The access lines so far.
    pub(crate) fn access(&self) -> Vec<serde_json::Value> {
        self.log()
            .into_iter()
            .filter(|line| line["target"] == "access")
            .collect()
    }

    /// Waits for an access line with this outcome and returns it.
    pub(crate) fn ended(&self, outcome: &str) -> serde_json::Value {
        eventually(&format!("a connection ends with {outcome}"), || {
            self.access()
                .into_iter()
                .find(|line| line["outcome"] == outcome)
        })
    }

    /// A command that uses the admin listener of this balancer.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lyncpin"));
        command
            .args(arguments)
            .args(["--admin", &self.admin.to_string(), "--token-file"])
            .arg(self.directory.path().join("token"))
            .stdin(Stdio::null());
        command
    }

    /// Runs such a command and returns its output.
    pub(crate) fn said(&self, arguments: &[&str]) -> Said {
        let output = self
            .command(arguments)
            .output()
            .expect("the command starts");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Said {
            status: output.status.code().expect("it ended by itself"),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// Sends a GET request to the admin listener.
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "")
            .expect("the admin listener responds")
    }

    pub(crate) fn try_get(&self, path: &str) -> Option<Answer> {
        self.ask("GET", path, "").ok()
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> std::io::Result<Answer> {
        let mut stream = TcpStream::connect_timeout(&self.admin, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer test-token\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.admin,
            body.len()
        )?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or(0);
        let body = if head
            .to_ascii_lowercase()
            .contains("transfer-encoding: chunked")
        {
            unchunk(body)
        } else {
            body.to_owned()
        };
        Ok(Answer { status, body })
    }

    /// `GET /api/v1/status`.
    pub(crate) fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.get("/api/v1/status").body).expect("JSON")
    }

    /// Sets the administrative state of a backend.
    pub(crate) fn set_state(&self, pool: &str, backend: &str, body: &str) -> Answer {
        let path = format!("/api/v1/pools/{pool}/backends/{backend}/state");
        self.ask("PUT", &path, body)
            .expect("the admin listener responds")
    }

    /// Every series: name with labels as exported -> value.
    pub(crate) fn metrics(&self) -> BTreeMap<String, f64> {
        let text = self.get("/metrics").body;
        let series = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.rsplit_once(' '));
        series
            .map(|(name, value)| (name.to_owned(), value.parse().expect("a number")))
            .collect()
    }

    /// The sum of all series whose name starts with `name` and which have all of these labels (`key="value"`).
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let wanted = |series: &str| {
            series.split('{').next() == Some(name)
                && labels.iter().all(|label| series.contains(label))
        };
        self.metrics()
            .iter()
            .filter(|(series, _)| wanted(series))
            .map(|(_, value)| value)
            .sum()
    }

    /// Number of open descriptors of the process by kind: `socket`, `pipe`, ...
    pub(crate) fn descriptors(&self) -> BTreeMap<String, usize> {
        let mut kinds = BTreeMap::new();
        let directory = format!("/proc/{}/fd", self.pid());
        for entry in std::fs::read_dir(directory)
            .expect("the process lives")
            .flatten()
        {
            let Ok(target) = std::fs::read_link(entry.path()) else {
                continue;
            };
            let kind = target
                .to_string_lossy()
                .split(':')
                .next()
                .unwrap_or_default()
                .to_owned();
            *kinds.entry(kind).or_default() += 1;
        }
        kinds
    }

    /// Resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))
            .expect("the process lives");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .expect("VmRSS");
        line.split_whitespace()
            .nth(1)
            .and_then(|kib| kib.parse().ok())
            .expect("a number")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid =
            Pid::from_raw(i32::try_from(self.pid()).expect("a pid")).expect("a pid is not zero");
        kill_process(pid, signal).expect("our own child");
    }

    /// Waits for the end of the process.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        eventually("the balancer ends", || {
            self.child.try_wait().expect("the child can be waited for")
        })
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            // The reader may receive the last lines shortly after the exit.
            std::thread::sleep(Duration::from_millis(50));
            let log = self.log();
            for line in log.iter().rev().take(40).rev() {
                eprintln!("{line}");
            }
        }
    }
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let Ok(size @ 1..) = usize::from_str_radix(size, 16) else {
            break;
        };
        whole += &rest[..size];
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}

/// The configuration with `HOST` replaced by an address, and with the admin listener and the JSON log.
fn configuration(yaml: &str, address: IpAddr, directory: &Path) -> String {
    let yaml = yaml.replace("HOST", &address.to_string());
    let token = directory.join("token");
    let (admin, token) = (at(address, 9900), token.display());
    // Keys that the configuration already has are not replaced.
    let or = |key: &str, text: String| {
        if yaml.lines().any(|line| line.starts_with(key)) {
            String::new()
        } else {
            text
        }
    };
    let admin = or(
        "admin:",
        format!("admin: {{ bind: \"{admin}\", token_file: \"{token}\" }}\n"),
    );
    let log = or("log:", "log: { format: json }\n".into());
    format!("{yaml}\n{admin}{log}")
}
