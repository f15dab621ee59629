//! How a command finds the admin listener of the running balancer.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use hyper::StatusCode;
use tokio::runtime::Builder;

use super::failure::Failure;
use super::file::ConfigFile;
use crate::admin::client::{Client, ClientError};
use crate::admin::{Token, TokenError};
use crate::config::AdminAddress;
use crate::config::model::{AdminBind, AdminSettings};

/// What the files get that say whom to ask.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where to ask, and with which token.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct AdminArguments {
    #[command(flatten)]
    file: ConfigFile,
    /// Address of the admin listener, overriding the configuration: a name or an IP address with a port
    #[arg(long, value_name = "ADDRESS|unix:PATH", value_parser = crate::config::admin_address)]
    admin: Option<AdminAddress>,
    /// File with the token, overriding the configuration
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl AdminArguments {
    /// Where the configuration is.
    pub(super) fn file(&self) -> &ConfigFile {
        &self.file
    }

    /// The errors of the configuration, if it was read and has any.
    pub(super) fn errors(&self) -> Option<Failure> {
        // A pipe gives its content once.
        let is_read = (self.admin.is_none() || self.file.is_named()) && self.file.is_plain();
        let errors = is_read.then(|| self.file.read().err()).flatten()?;
        errors.is_of_configuration().then_some(errors)
    }

    /// A client for the admin listener. The configuration is read where it is named, or where something is wanted of it; of
    /// what it says only `admin` counts.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        match self.client_or_without_token()? {
            (client, None) => Ok(client),
            (_, Some(error)) => Err(error),
        }
    }

    /// The same, and why it has no token where the configuration names one that cannot be read: the running balancer may
    /// have another configuration.
    pub(super) fn client_or_without_token(&self) -> Result<(Client, Option<Failure>), Failure> {
        // A file may be a pipe, or on a file system that is gone.
        let (answer, answered) = mpsc::channel();
        let own = self.clone();
        let reading = move || {
            let _ = answer.send(own.read_client());
        };
        let started = std::thread::Builder::new().spawn(reading);
        started.map_err(|error| Failure::answer("nothing can be read").because(&error))?;
        answered.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            let name = self.file.find().unwrap_or_default();
            let (name, seconds) = (name.display(), PATIENCE.as_secs());
            Err(Failure::usage(format!(
                "the configuration {name} or the token file cannot be read: nothing came within {seconds} s"
            ))
            .also("`--admin ADDRESS` asks the running balancer without the configuration"))
        })
    }

    fn read_client(&self) -> Result<(Client, Option<Failure>), Failure> {
        let configured = if self.admin.is_none() || self.file.is_named() {
            Some(self.file.read_admin()?)
        } else {
            None
        };
        let mut error = None;
        let token = match (&self.token_file, &configured) {
            (Some(file), _) => {
                let token = Token::read(file);
                Some(token.map_err(|error| Failure::usage_error(&error))?)
            }
            (None, Some((admin, directory))) => {
                let token = configured_token(admin, directory).transpose();
                token.unwrap_or_else(|unread| {
                    error = Some(Failure::usage_error(&unread));
                    None
                })
            }
            (None, None) => None,
        };
        let client = match (&self.admin, configured) {
            (Some(address), _) => Client::at(address, token),
            (None, Some((admin, directory))) => {
                Client::new(&configured_bind(admin.bind, &directory), token)
            }
            (None, None) => return Err(Failure::usage("there is no admin listener to ask")),
        };
        Ok((client, error))
    }
}

/// The token of the configuration. A path that is not absolute is the balancer's to look up in its own directory, which
/// is often that of the configuration.
fn configured_token(admin: &AdminSettings, directory: &Path) -> Option<Result<Token, TokenError>> {
    let file = admin.token_file.as_deref()?;
    Some(Token::read(&from_here_or(file, directory)))
}

fn configured_bind(bind: AdminBind, directory: &Path) -> AdminBind {
    match bind {
        AdminBind::Unix(path) => AdminBind::Unix(from_here_or(&path, directory)),
        AdminBind::Tcp(_) => bind,
    }
}

/// The path as it is, or from `directory` where only that leads somewhere.
fn from_here_or(path: &Path, directory: &Path) -> PathBuf {
    let there = directory.join(path);
    if !path.exists() && there.exists() {
        there
    } else {
        path.into()
    }
}

/// Runs what asks, on a runtime of its own. What still waits for a resolver is left to the end of the process.
pub(super) fn block_on<T>(asking: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::answer("the runtime cannot be started").because(&error))?;
    let done = runtime.block_on(asking);
    runtime.shutdown_background();
    done
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let failure = Self::from_error(&error);
        match error {
            ClientError::Refused(StatusCode::UNAUTHORIZED, _) => failure.also(
                "name the token's file with `--token-file`; if the one of the configuration has changed since, \
                 SIGHUP has the balancer read it again",
            ),
            ClientError::Refused(..)
            | ClientError::Unreachable(..)
            | ClientError::Late(_)
            | ClientError::Broken(..)
            | ClientError::Strange(..) => failure,
        }
    }
}
