//! How a command finds the admin listener of the running balancer.

use std::path::{Path, PathBuf};

use tokio::runtime::Builder;

use super::failure::Failure;
use super::file::ConfigFile;
use crate::admin::client::{Client, ClientError};
use crate::admin::{Token, TokenError};
use crate::config::AdminAddress;
use crate::config::model::{AdminBind, AdminSettings};

/// Where to ask, and with which token.
#[derive(Debug, clap::Args)]
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
        let is_read = self.admin.is_none() || self.file.is_named();
        let errors = is_read.then(|| self.file.read().err()).flatten()?;
        errors.is_of_configuration().then_some(errors)
    }

    /// A client for the admin listener. The configuration is read where it is named, or where something is wanted of it; of
    /// what it says only `admin` counts.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let configured = if self.admin.is_none() || self.file.is_named() {
            Some(self.file.read_admin()?)
        } else {
            None
        };
        let token = match (&self.token_file, &configured) {
            (Some(file), _) => Some(Token::read(file)),
            (None, Some((admin, directory))) => configured_token(admin, directory),
            (None, None) => None,
        };
        let token = token
            .transpose()
            .map_err(|error| Failure::usage_error(&error))?;
        match (&self.admin, configured) {
            (Some(address), _) => Ok(Client::at(address, token)),
            (None, Some((admin, directory))) => {
                Ok(Client::new(&configured_bind(admin.bind, &directory), token))
            }
            (None, None) => Err(Failure::usage("there is no admin listener to ask")),
        }
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
        Self::from_error(&error)
    }
}
