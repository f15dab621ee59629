//! The environment of the commands on the pages: the Front Ends of the pages' pool, balancers in front of them, and a
//! directory in place of the machine's root.
//!
//! Owns the substitutions in commands. Invariant: only addresses, directories and the deadline of a drain are substituted.

use std::fs::{self, File};
use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use lyncpin::demo::front_end::{DemoCa, DeploymentNames, FrontEnd, FrontEndConfig, FrontEndLimits};

use super::blocks::root;
use crate::support::peers::background;
use crate::support::programs::{self, Said};
use crate::support::{at, eventually, own_address};

/// Replacements for programs that a test must not run or that a machine may lack.
const STAND_INS: [(&str, &str); 2] = [
    ("sudo", "exec \"$@\""),
    // The journal is the standard error of the balancer.
    ("journalctl", "exec cat \"$HOME/log\""),
];

/// A process that is killed when dropped.
pub(super) struct Running(pub(super) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A directory like a machine's root, the Front Ends, and the running balancers.
pub(super) struct Stage {
    root: tempfile::TempDir,
    /// The VIP of the balancer.
    address: IpAddr,
    /// The VIP of the balancer whose admin listener requires a token.
    guarded: IpAddr,
    front_ends: Vec<FrontEnd>,
    running: Vec<Running>,
}

impl Stage {
    /// The directory and the Front Ends, without a balancer.
    pub(super) fn set() -> Self {
        let (front_ends, ca) = start_front_ends();
        let mut stage = Self {
            root: tempfile::tempdir().unwrap(),
            address: own_address(),
            guarded: own_address(),
            front_ends,
            running: Vec::new(),
        };
        for folder in ["bin", "work/target/release", "etc/lyncpin", "run/lyncpin"] {
            fs::create_dir_all(stage.path(folder)).unwrap();
        }
        for folder in ["usr/bin", "etc/systemd/system", "etc/sysctl.d"] {
            fs::create_dir_all(stage.path(folder)).unwrap();
        }
        stage.install(&ca);
        stage
    }

    /// As `set`, with three balancers: one as on the pages, one with a Unix socket and one with a token.
    pub(super) fn start() -> Self {
        let mut stage = Self::set();
        let socket = format!("unix:{}", stage.path("run/lyncpin/admin.sock").display());
        let token = stage.path("etc/lyncpin/token").display().to_string();
        let guarded = format!("{}\", token_file: \"{token}", at(stage.guarded, 9900));
        let others = [(own_address(), socket), (stage.guarded, guarded)];
        stage.run_balancer("etc/lyncpin/balancer.yaml");
        for (number, (vip, admin)) in others.into_iter().enumerate() {
            let file = format!("other{number}.yaml");
            fs::write(stage.path(&file), stage.configuration(vip, &admin)).unwrap();
            stage.run_balancer(&file);
        }
        stage
    }

    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    fn install(&mut self, ca: &DemoCa) {
        let program = env!("CARGO_BIN_EXE_lyncpin");
        symlink(program, self.path("bin/lyncpin")).unwrap();
        symlink(program, self.path("work/target/release/lyncpin")).unwrap();
        fs::write(self.path("usr/bin/lyncpin"), "of before").unwrap();
        symlink(root().join("deploy"), self.path("work/deploy")).unwrap();
        for (name, does) in STAND_INS {
            let path = self.path("bin").join(name);
            fs::write(&path, format!("#!/bin/sh\n{does}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let ours = self.configuration(self.address, &at(self.address, 9900).to_string());
        for file in ["etc/lyncpin/balancer.yaml", "work/balancer.yaml"] {
            fs::write(self.path(file), &ours).unwrap();
        }
        fs::write(self.path("etc/lyncpin/token"), "test-token\n").unwrap();
        fs::write(self.path("ca.pem"), ca.pem()).unwrap();
        // An HTTP error is a failure, and every request has a time limit.
        fs::write(self.path(".curlrc"), "fail\nmax-time = 30\n").unwrap();
    }

    /// The short form of the pages, with addresses instead of names that this machine cannot resolve.
    fn configuration(&self, vip: IpAddr, admin: &str) -> String {
        let entry = |front_end: &FrontEnd| {
            let (name, address) = (front_end.fqdn(), front_end.https_addr().ip());
            format!("    - {{ name: {name}, address: \"{address}\" }}\n")
        };
        let front_ends: String = self.front_ends.iter().map(entry).collect();
        format!(
            "lync:\n  sip_domains: [contoso.com, fabrikam.com]\n  external_web_fqdn: lyncweb.contoso.com\n  \
             simple_urls: [meet.contoso.com, dialin.contoso.com]\n  listen: [\"{vip}\"]\n  front_ends:\n{front_ends}\
             admin: {{ bind: \"{admin}\" }}\n"
        )
    }

    fn run_balancer(&mut self, file: &str) {
        let path = self.path(file);
        let mut options = File::options();
        options.create(true).append(true);
        let log = options.open(self.path("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lyncpin"));
        command.args(["run", "-c"]).arg(&path).stderr(log);
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        self.running.push(Running(child));
        self.wait_until_ready(&format!("-c {}", path.display()));
    }

    /// Waits until the balancer selected by these options of `lyncpin status` can serve.
    pub(super) fn wait_until_ready(&self, options: &str) {
        eventually(&format!("a balancer is ready: {options}"), || {
            let output = self.bash(&format!("lyncpin status --json {options}"));
            let status: serde_json::Value = serde_json::from_str(&output.out).ok()?;
            (status["ready"] == true).then_some(())
        });
    }

    /// A command with the substitutions.
    pub(super) fn localise(&self, command: &str) -> String {
        let under = |folder: &str| self.path(folder).display().to_string();
        let substitutions = [
            ("cargo run --release -- ", "lyncpin ".to_owned()),
            ("192.0.2.11:9900", at(self.guarded, 9900).to_string()),
            ("127.0.0.1:9900", at(self.address, 9900).to_string()),
            // The address in the log is the source address of the commands.
            ("client=192.0.2.7:", "client=127.0.0.1:".to_owned()),
            ("192.0.2.10", self.address.to_string()),
            ("/etc/", under("etc/")),
            ("/usr/bin/", under("usr/bin/")),
            ("/run/lyncpin/", under("run/lyncpin/")),
            ("--deadline 15m", "--deadline 1s".to_owned()),
        ];
        let replaced = |text: String, (from, to): &(&str, String)| text.replace(from, to);
        substitutions.iter().fold(command.to_owned(), replaced)
    }

    /// The prelude of a script: its directory, its programs and curl's certificate authority.
    pub(super) fn prelude(&self) -> String {
        let root = self.root.path().display();
        format!(
            "cd {root}/work; export PATH={root}/bin:$PATH HOME={root} CURL_CA_BUNDLE={root}/ca.pem\n"
        )
    }

    /// Runs a script to its end.
    pub(super) fn bash(&self, script: &str) -> Said {
        let script = self.prelude() + script;
        programs::feed("bash", "bash", &["-euo", "pipefail", "-c", &script], "")
    }

    /// Undoes the effects of earlier commands, and pins two clients to the first Front End.
    pub(super) fn prepare(&self) {
        let ready: String = self
            .front_ends
            .iter()
            .map(|front_end| format!("lyncpin ready {}\n", front_end.fqdn()))
            .collect();
        let pins = "lyncpin affinity clear --all || true\n\
                    lyncpin affinity pin --client 192.0.2.7 fe01.contoso.local\n\
                    lyncpin affinity pin --client 198.51.100.7 fe01.contoso.local\n";
        let output = self.bash(&(ready + pins));
        assert!(output.status.success(), "{output:?}");
    }
}

/// fe01 to fe03.contoso.local with the usual ports, each at its own address, and their certificate authority.
fn start_front_ends() -> (Vec<FrontEnd>, DemoCa) {
    let ca = DemoCa::new().unwrap();
    let names = DeploymentNames {
        external_web_fqdn: "lyncweb.contoso.com".into(),
        external_https_port: 443,
        sip_domains: vec!["contoso.com".into(), "fabrikam.com".into()],
        simple_urls: vec!["meet.contoso.com".into(), "dialin.contoso.com".into()],
    };
    let _entered = background().enter();
    let start = |number: usize| {
        let fqdn = format!("fe{number:02}.contoso.local");
        let address = own_address();
        FrontEnd::start(FrontEndConfig {
            certificate: ca.issue(&names.for_certificate(&fqdn)).unwrap(),
            fqdn,
            https: at(address, 4443),
            http: at(address, 8080),
            sip: at(address, 5061),
            names: names.clone(),
            limits: FrontEndLimits::default(),
        })
        .unwrap()
    };
    ((1..=3).map(start).collect(), ca)
}
