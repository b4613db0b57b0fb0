//! The token and the password of the console: where they come from, and how its user learns the token.

use std::{
    env,
    fmt::Display,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    str::FromStr,
};

use echoic_console::{Password, Token};
use tempfile::NamedTempFile;

use crate::{exit::CliError, runtime_directory, store_url::StoreUrl, term};

/// The environment variable that fixes the token.
const TOKEN: &str = "ECHOIC_TOKEN";

/// The environment variable that sets the password. No option does: others see the arguments of a process.
pub(super) const PASSWORD: &str = "ECHOIC_PASSWORD";

/// The token of a console, and its password if it has one.
#[derive(Clone)]
pub(super) struct Secret {
    pub(super) token: Token,
    /// The user has chosen it.
    is_given: bool,
    /// What people log in with, in place of the token.
    pub(super) password: Option<Password>,
}

impl Secret {
    /// Takes both from the environment. Without a token there it makes a new one.
    pub(super) fn from_env() -> Result<Self, CliError> {
        let password = given::<Password>(PASSWORD)?;
        let Some(token) = given(TOKEN)? else {
            let token = Token::random();
            let token = token.map_err(|error| {
                CliError::system(format!("the system has no random numbers: {error}"))
            })?;
            return Ok(Self {
                token,
                is_given: false,
                password,
            });
        };
        Ok(Self {
            token,
            is_given: true,
            password,
        })
    }
}

/// Returns the secret in a variable, if it is set. The error does not quote it: it may be most of a secret.
fn given<T: FromStr<Err: Display>>(variable: &str) -> Result<Option<T>, CliError> {
    let Some(text) = env::var_os(variable) else {
        return Ok(None);
    };
    let secret = text.to_str().map(str::parse);
    match secret {
        Some(Ok(secret)) => Ok(Some(secret)),
        Some(Err(error)) => Err(CliError::usage(format!("{variable}: {error}"))),
        None => Err(CliError::usage(format!("{variable}: expected UTF-8"))),
    }
}

/// How the user learns the token.
pub(super) enum Disclosure {
    /// Not at all: the user has a password, which no output shows.
    Password,
    /// The URL that is printed has it.
    Printed,
    /// The user gave it.
    Given,
    /// A file has it, which only the user can read.
    File(TokenFile),
}

/// Who reads standard error.
pub(super) struct Audience {
    /// The user asked for the URL by an address.
    pub(super) is_explicit: bool,
    pub(super) quiet: bool,
}

impl Disclosure {
    /// Decides it. With a password nobody needs the token. Otherwise it is printed where a person reads it, or where a script asked for it; in a log it would stay for all
    /// who may read the log. An error if there is no place for a file.
    pub(super) fn of(
        secret: &Secret,
        audience: &Audience,
        own_file: Option<PathBuf>,
    ) -> Result<Self, String> {
        if secret.password.is_some() {
            return Ok(Self::Password);
        }
        let is_read = term::is_stderr_on_terminal() && !audience.quiet;
        if audience.is_explicit || is_read {
            return Ok(Self::Printed);
        }
        if secret.is_given {
            return Ok(Self::Given);
        }
        let Some(path) = own_file else {
            return Err(
                "there is no place for a file with its token, since XDG_RUNTIME_DIR is not set"
                    .to_owned(),
            );
        };
        TokenFile::write(&path, &secret.token)
            .map(Self::File)
            .map_err(|error| format!("cannot write its token to {}: {error}", path.display()))
    }
}

/// Returns the path of the token of the server that writes this store: beside an SQLite file.
pub(crate) fn beside(store: &StoreUrl) -> Option<PathBuf> {
    let StoreUrl::Sqlite(path) = store else {
        return of_process();
    };
    let mut path = path.canonicalize().ok()?.into_os_string();
    path.push("-token");
    Some(path.into())
}

/// Returns the path of the token of this process, for one that owns no store.
fn of_process() -> Option<PathBuf> {
    runtime_directory::file(std::process::id(), "token")
}

/// Returns the path of the token of a console that only reads this store. Beside the file it has the number of the process in its
/// name: the file of [`beside`] is that of the server.
pub(super) fn of_reader(store: &StoreUrl) -> Option<PathBuf> {
    of_process().or_else(|| {
        let mut path = beside(store)?.into_os_string();
        path.push(format!("-{}", std::process::id()));
        Some(path.into())
    })
}

/// A file with the token, for this user alone. It is removed when this is dropped.
pub(super) struct TokenFile(PathBuf);

impl TokenFile {
    /// Writes the file, in place of one that a killed server has left.
    fn write(path: &Path, token: &Token) -> io::Result<Self> {
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        runtime_directory::make(folder)?;
        // With mode 0600 from its creation on; a rename follows no symbolic link.
        let mut file = NamedTempFile::new_in(folder)?;
        writeln!(file, "{}", token.as_str())?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(Self(path.to_owned()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::debug!("{}: {error}", self.0.display());
        }
    }
}
