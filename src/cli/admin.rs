//! How a command finds the admin listener of the running balancer.
//!
//! Owns the address and the token of its requests. Must not know what is requested. Invariant: of the configuration only the
//! `admin` section has to be valid.

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

/// Time limit for reading the configuration and the token.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The options that select the admin listener and the token.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct AdminArguments {
    #[command(flatten)]
    file: ConfigFile,
    /// Address of the admin listener, overriding the configuration: a name or an IP address with a port
    #[arg(long, value_name = "ADDRESS|unix:PATH", value_parser = crate::config::admin_address)]
    admin: Option<AdminAddress>,
    /// File that contains the token, overriding the configuration
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl AdminArguments {
    /// The configuration file.
    pub(super) fn file(&self) -> &ConfigFile {
        &self.file
    }

    /// The errors of the configuration, if it was read and has any.
    pub(super) fn errors(&self) -> Option<Failure> {
        // A pipe can be read only once.
        let is_read = (self.admin.is_none() || self.file.is_named()) && self.file.is_plain();
        let errors = is_read.then(|| self.file.read().err()).flatten()?;
        errors.is_of_configuration().then_some(errors)
    }

    /// A client for the admin listener. The configuration is read if it is named, or if the address is needed from it; only
    /// its `admin` section is used.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        match self.client_or_without_token()? {
            (client, None) => Ok(client),
            (_, Some(error)) => Err(error),
        }
    }

    /// The same, but without a token if the configuration names one that cannot be read; also returns the reason. The
    /// running balancer may have another configuration.
    pub(super) fn client_or_without_token(&self) -> Result<(Client, Option<Failure>), Failure> {
        // The file may be a pipe, or on a file system that no longer responds.
        let (sender, receiver) = mpsc::channel();
        let arguments = self.clone();
        let read = move || {
            let _ = sender.send(arguments.read_client());
        };
        let started = std::thread::Builder::new().spawn(read);
        started.map_err(|error| Failure::operation("cannot start a thread").caused_by(&error))?;
        receiver.recv_timeout(READ_TIMEOUT).unwrap_or_else(|_| {
            let name = self.file.find().unwrap_or_default();
            let (name, seconds) = (name.display(), READ_TIMEOUT.as_secs());
            Err(Failure::usage(format!(
                "cannot read the configuration {name} or the token file: no data within {seconds} s"
            ))
            .with_line(
                "use `--admin ADDRESS` to reach the running balancer without the configuration",
            ))
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
                token.unwrap_or_else(|unreadable| {
                    error = Some(Failure::usage_error(&unreadable));
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
            (None, None) => {
                return Err(Failure::usage(
                    "no admin listener is known; use `--admin ADDRESS`",
                ));
            }
        };
        Ok((client, error))
    }
}

/// The token of the configuration. The balancer resolves a relative path from its own working directory, which is often
/// the directory of the configuration.
fn configured_token(admin: &AdminSettings, directory: &Path) -> Option<Result<Token, TokenError>> {
    let file = admin.token_file.as_deref()?;
    Some(Token::read(&resolve(file, directory)))
}

fn configured_bind(bind: AdminBind, directory: &Path) -> AdminBind {
    match bind {
        AdminBind::Unix(path) => AdminBind::Unix(resolve(&path, directory)),
        AdminBind::Tcp(_) => bind,
    }
}

/// The path as it is, or relative to `directory` if it only exists there.
fn resolve(path: &Path, directory: &Path) -> PathBuf {
    let joined = directory.join(path);
    if !path.exists() && joined.exists() {
        joined
    } else {
        path.into()
    }
}

/// Runs a future on a runtime of its own. A thread that still waits for a resolver ends with the process.
pub(super) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::operation("cannot start the runtime").caused_by(&error))?;
    let done = runtime.block_on(future);
    runtime.shutdown_background();
    done
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let failure = Self::from_error(&error);
        match error {
            ClientError::ErrorResponse(StatusCode::UNAUTHORIZED, _) => failure.with_line(
                "name the token file with `--token-file`; if the token has changed since the balancer read it, \
                 send SIGHUP to the balancer",
            ),
            ClientError::ErrorResponse(..)
            | ClientError::Unreachable(..)
            | ClientError::TimedOut(_)
            | ClientError::Broken(..)
            | ClientError::NotAdminListener(..) => failure,
        }
    }
}
