//! The web console: its socket, its certificate, its secrets and its URL; and `echoic console`, which serves it alone.

mod address;
mod browser;
mod command;
mod listener;
mod secret;
mod url;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use echoic_console::{Console, ConsoleConfig, Limit, StoreDescription, tls_server};
use echoic_core::{control::Control, store::Store, view::EventJson, view::JSON_VERSION};
use echoic_recorder::Recorder;
use echoic_wire::TlsServer;
use tokio::{net::TcpListener, select, sync::oneshot, task::JoinHandle, time::timeout};

pub(crate) use self::{address::ConsoleChoice, command::run, secret::beside as token_file};
use self::{
    address::{ConsoleAddress, DEFAULT_PORT, tunnel},
    secret::{Audience, Disclosure, PASSWORD, Secret},
};
use crate::{certificates, cli::ConsoleOptions, exit::CliError, store_url::StoreUrl, term};

/// Time at the stop for open requests of the console to end.
const STOP_WITHIN: Duration = Duration::from_millis(500);

/// What the options of a console ask for.
pub(crate) struct ConsolePlan {
    /// The address that was asked for.
    at: Option<SocketAddr>,
    tls: Option<Arc<TlsServer>>,
    secret: Secret,
    opens_browser: bool,
    pub(crate) readonly: bool,
}

impl ConsolePlan {
    /// Checks the options. `None` if there is to be no console.
    pub(crate) fn new(options: &ConsoleOptions) -> Result<Option<Self>, CliError> {
        let at = match &options.console {
            Some(ConsoleChoice::Off) if options.open => {
                let why = "--open opens the console, and --console off has none: omit one of them";
                return Err(CliError::usage(why));
            }
            Some(ConsoleChoice::Off) => return Ok(None),
            Some(ConsoleChoice::At(at)) => Some(at),
            None => None,
        };
        let secret = Secret::from_env()?;
        if let Some(at) = at.filter(|at| at.is_beyond_loopback() && secret.password.is_none()) {
            let port = at.socket().port();
            return Err(CliError::usage(format!(
                "--console: beyond loopback the console needs a password: set {PASSWORD}, 8 characters or more; or {}",
                tunnel(port)
            )));
        }
        let tls = match at.and_then(ConsoleAddress::tls) {
            Some(files) => {
                let server = tls_server(files.certificate.clone(), files.key.clone());
                let server = server.map_err(|error| CliError::usage(format!("--console: {error}")));
                Some(Arc::new(server?))
            }
            None => None,
        };
        Ok(Some(Self {
            at: at.map(ConsoleAddress::socket),
            tls,
            secret,
            opens_browser: options.open,
            readonly: options.console_readonly,
        }))
    }

    /// Whether an option names the address, so that its failure is an error.
    pub(crate) fn is_explicit(&self) -> bool {
        self.at.is_some()
    }
}

/// A console whose socket is open. Nothing answers there yet.
pub(crate) struct OpenConsole {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<TlsServer>>,
    secret: Secret,
    disclosure: Disclosure,
    opens_browser: bool,
    readonly: bool,
    is_explicit: bool,
}

/// Why there is no console where no option names its address.
pub(crate) struct NoConsole(String);

impl NoConsole {
    /// Reports it for a server, which goes on without.
    pub(crate) fn report(&self) {
        term::note(&format!(
            "no console: {}; --console ADDR serves it elsewhere, --console off not at all",
            self.0
        ));
    }
}

impl OpenConsole {
    /// Opens the socket. A failure is an error if an option names the address; the caller decides about another one.
    pub(crate) fn open(
        plan: &ConsolePlan,
        quiet: bool,
        token_file: Option<PathBuf>,
    ) -> Result<Result<Self, NoConsole>, CliError> {
        let opened = match plan.at {
            Some(at) => listener::open(at).map_err(|error| {
                CliError::system(format!(
                    "cannot open the console at {at}: {error}; expected a free port: 0 picks one"
                ))
            })?,
            None => match listener::open_default() {
                Ok(listener) => listener,
                Err(why) => return Ok(Err(NoConsole(why))),
            },
        };
        let audience = Audience {
            is_explicit: plan.is_explicit(),
            quiet,
        };
        let disclosure = match Disclosure::of(&plan.secret, &audience, token_file) {
            Ok(disclosure) => disclosure,
            Err(why) => {
                let why = format!("{why}; ECHOIC_TOKEN sets the token");
                return Ok(Err(NoConsole(why)));
            }
        };
        Ok(Ok(Self {
            address: opened.local_addr().map_err(CliError::system)?,
            listener: opened,
            tls: plan.tls.clone(),
            secret: plan.secret.clone(),
            disclosure,
            opens_browser: plan.opens_browser,
            readonly: plan.readonly,
            is_explicit: plan.is_explicit(),
        }))
    }

    /// The address of the socket.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL without the token.
    pub(crate) fn url(&self) -> String {
        match &self.tls {
            None => format!("http://{}/", self.address),
            Some(tls) => {
                let names = tls.certificate().names;
                format!("https://{}/", url::authority(self.address, &names))
            }
        }
    }

    fn url_with_token(&self) -> String {
        format!("{}#t={}", self.url(), self.secret.token.as_str())
    }

    /// Reports the URL on standard error. One that was asked for is also printed by `--quiet`.
    pub(crate) fn announce(&self, quiet: bool) {
        let text = match &self.disclosure {
            Disclosure::Printed => self.url_with_token(),
            _ if quiet && !self.is_explicit => return,
            Disclosure::Password => format!("{}, with the password of {PASSWORD}", self.url()),
            Disclosure::Given => format!("{}, with the token of ECHOIC_TOKEN", self.url()),
            Disclosure::File(file) => {
                format!("{}, its token is in {}", self.url(), file.path().display())
            }
        };
        let moved = if self.is_explicit || self.address.port() == DEFAULT_PORT {
            String::new()
        } else {
            format!(" (port {DEFAULT_PORT} is in use)")
        };
        term::note(&format!("console on {text}{moved}"));
        if let Some(tls) = &self.tls {
            certificates::announce(&"the console", tls);
        }
    }

    /// Returns the event of `--json`. Its URL has the token if an option named the address, since then a script asked for it, unless
    /// there is a password.
    pub(crate) fn event(&self) -> EventJson<'static> {
        let token_file = match &self.disclosure {
            Disclosure::File(file) => Some(file.path().to_string_lossy().into_owned()),
            Disclosure::Password | Disclosure::Printed | Disclosure::Given => None,
        };
        EventJson::Console {
            v: JSON_VERSION,
            url: if self.is_explicit && !matches!(self.disclosure, Disclosure::Password) {
                self.url_with_token()
            } else {
                self.url()
            },
            token_file,
        }
    }

    /// Starts to serve.
    pub(crate) fn serve(self, backing: Backing, quiet: bool) -> RunningConsole {
        let (stop, stopped) = oneshot::channel::<()>();
        if self.opens_browser {
            let (opened, named) = match &self.disclosure {
                Disclosure::Password => (self.url(), self.url()),
                Disclosure::Printed => (self.url_with_token(), self.url_with_token()),
                Disclosure::Given | Disclosure::File(_) => (self.url_with_token(), self.url()),
            };
            browser::open(&opened, named);
        }
        let config = ConsoleConfig {
            token: self.secret.token,
            password: self.secret.password,
            tls: self.tls.clone(),
            readonly: self.readonly,
            version: env!("CARGO_PKG_VERSION"),
            store: backing.description,
            limits: backing.limits,
        };
        let console = Console::new(config, backing.store, backing.recorder, backing.control);
        let listener = self.listener;
        let watched = self
            .tls
            .into_iter()
            .map(|tls| ("the console".to_owned(), tls));
        RunningConsole {
            serving: tokio::spawn(async move {
                let stop = async { _ = stopped.await };
                select! {
                    served = console.serve(listener, stop) => {
                        if let Err(error) = served {
                            tracing::error!("the console ended: {error}");
                        }
                    }
                    () = certificates::watch(watched.collect(), quiet) => {}
                }
            }),
            stop,
            disclosure: self.disclosure,
        }
    }
}

/// What a console shows and acts on.
pub(crate) struct Backing {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) recorder: Option<Recorder>,
    pub(crate) control: Option<Arc<dyn Control>>,
    pub(crate) description: StoreDescription,
    pub(crate) limits: Vec<Limit>,
}

/// Describes a store for the pages of a console.
pub(crate) fn describe(store: &StoreUrl) -> StoreDescription {
    let (kind, name) = match store {
        StoreUrl::Sqlite(path) => {
            let name = path.file_name().unwrap_or(path.as_os_str());
            ("sqlite", name.to_string_lossy().into_owned())
        }
        other => {
            let kind = match other {
                StoreUrl::Memory => "memory",
                StoreUrl::Nats(_) => "nats",
                StoreUrl::Postgres(_) => "postgres",
                StoreUrl::None | StoreUrl::Sqlite(_) => "none",
            };
            (kind, other.to_string())
        }
    };
    StoreDescription {
        url: match store {
            StoreUrl::Sqlite(path) => format!("sqlite:{}", path.display()),
            other => other.to_string(),
        },
        kind: kind.to_owned(),
        name,
        retention: None,
        durability: None,
    }
}

/// A console that serves.
pub(crate) struct RunningConsole {
    serving: JoinHandle<()>,
    stop: oneshot::Sender<()>,
    /// Its file is removed at the end.
    disclosure: Disclosure,
}

impl RunningConsole {
    /// Stops it: streams end with `bye`, and requests have a moment to end.
    pub(crate) async fn stop(self) {
        let Self {
            mut serving,
            stop,
            disclosure,
        } = self;
        drop(stop);
        if timeout(STOP_WITHIN, &mut serving).await.is_err() {
            serving.abort();
            let _ = serving.await;
        }
        drop(disclosure);
    }

    /// Waits until it has ended by itself, which it does only by a fault.
    pub(crate) async fn ended(&mut self) {
        let _ = (&mut self.serving).await;
    }
}
