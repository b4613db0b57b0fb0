//! The web console: its socket, its token and its URL; and `echoic console`, which serves it alone.

mod address;
mod browser;
mod command;
mod listener;
mod secret;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use echoic_console::{Console, ConsoleConfig, Limit, StoreDescription};
use echoic_core::{control::Control, store::Store, view::EventJson, view::JSON_VERSION};
use echoic_recorder::Recorder;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle, time::timeout};

pub(crate) use self::{address::ConsoleChoice, command::run, secret::beside as token_file};
use self::{
    address::DEFAULT_PORT,
    secret::{Audience, Disclosure, Secret},
};
use crate::{cli::ConsoleOptions, exit::CliError, store_url::StoreUrl, term};

/// Time at the stop for open requests of the console to end.
const STOP_WITHIN: Duration = Duration::from_millis(500);

/// What the options of a console ask for.
pub(crate) struct ConsolePlan {
    /// The address that was asked for.
    at: Option<SocketAddr>,
    secret: Secret,
    opens_browser: bool,
    pub(crate) readonly: bool,
}

impl ConsolePlan {
    /// Checks the options. `None` if there is to be no console.
    pub(crate) fn new(options: &ConsoleOptions) -> Result<Option<Self>, CliError> {
        let at = match options.console {
            Some(ConsoleChoice::Off) if options.open => {
                let why = "--open opens the console, and --console off has none: omit one of them";
                return Err(CliError::usage(why));
            }
            Some(ConsoleChoice::Off) => return Ok(None),
            Some(ConsoleChoice::At(at)) => Some(at),
            None => None,
        };
        Ok(Some(Self {
            at,
            secret: Secret::from_env()?,
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
        format!("http://{}/", self.address)
    }

    fn url_with_token(&self) -> String {
        format!("{}#t={}", self.url(), self.secret.token.as_str())
    }

    /// Reports the URL on standard error. One that was asked for is also printed by `--quiet`.
    pub(crate) fn announce(&self, quiet: bool) {
        let text = match &self.disclosure {
            Disclosure::Printed => self.url_with_token(),
            _ if quiet => return,
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
    }

    /// Returns the event of `--json`. Its URL has the token if an option named the address: then a script asked for it.
    pub(crate) fn event(&self) -> EventJson<'static> {
        let token_file = match &self.disclosure {
            Disclosure::File(file) => Some(file.path().to_string_lossy().into_owned()),
            Disclosure::Printed | Disclosure::Given => None,
        };
        EventJson::Console {
            v: JSON_VERSION,
            url: if self.is_explicit {
                self.url_with_token()
            } else {
                self.url()
            },
            token_file,
        }
    }

    /// Starts to serve.
    pub(crate) fn serve(self, backing: Backing) -> RunningConsole {
        let (stop, stopped) = oneshot::channel::<()>();
        if self.opens_browser {
            let named = match &self.disclosure {
                Disclosure::Printed => self.url_with_token(),
                Disclosure::Given | Disclosure::File(_) => self.url(),
            };
            browser::open(&self.url_with_token(), named);
        }
        let config = ConsoleConfig {
            token: self.secret.token,
            readonly: self.readonly,
            version: env!("CARGO_PKG_VERSION"),
            store: backing.description,
            limits: backing.limits,
        };
        let console = Console::new(config, backing.store, backing.recorder, backing.control);
        let listener = self.listener;
        RunningConsole {
            serving: tokio::spawn(async move {
                let stop = async { _ = stopped.await };
                if let Err(error) = console.serve(listener, stop).await {
                    tracing::error!("the console ended: {error}");
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
