//! How a command finds the admin listener of the running balancer.

use std::path::PathBuf;

use tokio::runtime::Builder;

use super::failure::Failure;
use super::file::ConfigFile;
use crate::admin::Token;
use crate::admin::client::{Client, ClientError};
use crate::config::model::AdminBind;
use crate::{config, files};

/// Where to ask, and with which token.
#[derive(Debug, clap::Args)]
pub(super) struct Ask {
    #[command(flatten)]
    file: ConfigFile,
    /// The admin listener, instead of the one in the configuration
    #[arg(long, value_name = "ADDRESS|unix:PATH", value_parser = crate::config::admin_bind)]
    admin: Option<AdminBind>,
    /// The file that holds the token, instead of the one in the configuration
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Ask {
    /// Where the configuration is.
    pub(super) fn file(&self) -> &ConfigFile {
        &self.file
    }

    /// A client for the admin listener. The configuration is read where it is named, or where something is wanted of it.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let admin = if self.admin.is_none() || self.file.is_named() {
            Some(self.file.read()?.config.admin)
        } else {
            None
        };
        let (bind, token_file) = match (&self.admin, admin) {
            (Some(bind), admin) => (bind.clone(), admin.and_then(|admin| admin.token_file)),
            (None, Some(admin)) => (admin.bind, admin.token_file),
            (None, None) => return Err(Failure::usage("there is no admin listener to ask")),
        };
        let token = self.token_file.clone().or(token_file);
        let token = token.as_deref().map(Token::read).transpose();
        let token = token.map_err(|error| Failure::usage_error(&error))?;
        Ok(Client::new(&bind, token))
    }
}

impl Ask {
    /// The same where the file has errors: what it says of the admin listener may be sound all the same.
    pub(super) fn client_despite_errors(&self) -> Option<Client> {
        let bytes = files::read(self.file.path(), config::MAX_FILE_BYTES).ok()?;
        let admin = config::salvage_admin(&bytes);
        let in_file = admin.as_ref().and_then(|admin| admin.token_file.clone());
        let token = self.token_file.clone().or(in_file);
        let token = token.as_deref().and_then(|path| Token::read(path).ok());
        let bind = self.admin.clone().or(admin.map(|admin| admin.bind))?;
        Some(Client::new(&bind, token))
    }
}

/// Runs what asks, on a runtime of its own. Its end waits for nothing: a runtime that is dropped would wait for the
/// system's resolver, which may take half a minute to give a name up.
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
